# The table of bench-l7.sh: a measure a line, a target a column, medians with what lies between, and how fourseven
# compares with the better proxy, in Markdown. bench-figures.awk comes before this.

function cell(t, m,    x) {
    if (!known(t, m)) return "–"
    x = median(t, m)
    return count > 1 ? figure(x) " (" figure(low) "–" figure(high) ")" : figure(x)
}
function better(m,    x, y, lower) {
    x = known("haproxy", m) ? median("haproxy", m) : ""
    y = known("nginx", m) ? median("nginx", m) : ""
    if (x == "" || y == "") return x == "" ? y : x
    lower = m ~ /p50$|p99$|_kb$/
    return (x + 0 < y + 0) == lower ? x : y
}
BEGIN {
    measures = split("http_1 http_64 new_1 new_64 https_64 h2_16x8 handshakes bulk half_p50 half_p99 idle_https_64 idle_p50 idle_p99 idle_kb", measure, " ")
    split("HTTP/s, pooled, 1 connection;HTTP/s, pooled, 64 connections;HTTP/s, new upstreams, 1 connection;HTTP/s, new upstreams, 64 connections;HTTPS/s, HTTP/1.1, 64 connections;HTTPS/s, HTTP/2, 16 × 8;full TLS 1.3 handshakes/s;HTTPS bulk, 16 MB bodies, MB/s;HTTPS at half load, p50, µs;HTTPS at half load, p99, µs;HTTPS/s, HTTP/1.1, 64 connections, beside idle ones;at half load beside idle ones, p50, µs;at half load beside idle ones, p99, µs;memory an idle TLS connection, KB", caption, ";")
    read_figures()
    FS = "\t"
}
{ order[++columns] = $1; name[$1] = $2 }
END {
    printf "| median (min–max) |"
    for (c = 1; c <= columns; c++) printf " %s |", name[order[c]]
    printf " fourseven to the better proxy |\n|---|"
    for (c = 0; c <= columns; c++) printf "---:|"
    print ""
    for (i = 1; i <= measures; i++) {
        m = measure[i]
        printf "| %s |", caption[i]
        for (c = 1; c <= columns; c++) printf " %s |", cell(order[c], m)
        base = better(m)
        if (base == "" || base == 0 || !known("fourseven", m)) print " – |"
        else printf " %.2f |\n", median("fourseven", m) / base
    }
}
