# The tables of bench-l4.sh: medians with what lies between, then ratios to the kernel's NAT and to the
# better proxy, in Markdown.
#
# Input: one target a line, "name<TAB>title", in the order of the rows. `results` holds one figure a line,
# "round target column figure"; `failed` one target a line with the columns that failed, which are shown in no
# table, as one figure that came about by luck would mislead.

function median(t, c,    n, i, j, v, a) {
    n = split(values[t, c], a, " ")
    for (i = 2; i <= n; i++)
        for (j = i; j > 1 && a[j - 1] + 0 > a[j] + 0; j--) { v = a[j]; a[j] = a[j - 1]; a[j - 1] = v }
    low = a[1]; high = a[n]; count = n
    return n % 2 ? a[(n + 1) / 2] : (a[n / 2] + a[n / 2 + 1]) / 2
}
function figure(x) { return x >= 1000 ? sprintf("%d", x + 0.5) : x >= 100 ? sprintf("%.0f", x) : x >= 10 ? sprintf("%.1f", x) : sprintf("%.2f", x) }
function known(t, c) { return (t, c) in values && !((t, c) in bad) }
function head(title,    c) {
    printf "| %s |", title
    for (c = 1; c <= columns; c++) printf " %s |", caption[c]
    printf "\n|---|"
    for (c = 1; c <= columns; c++) printf "---:|"
    print ""
}
function ratios(title, which,    r, c, base, t, shown) {
    for (c = 1; c <= columns; c++) if (reference(which, c) != "") shown = 1
    if (!shown) return
    print ""
    head(title)
    for (r = 1; r <= rows; r++) {
        t = order[r]
        printf "| %s |", name[t]
        for (c = 1; c <= columns; c++) {
            base = reference(which, c)
            if (base == "" || base == 0 || !known(t, column[c])) printf " – |"
            else printf " %.2f |", median(t, column[c]) / base
        }
        print ""
    }
}
function reference(which, c,    x, y, lower) {
    if (which == "nft") return known("nft", column[c]) ? median("nft", column[c]) : ""
    x = known("haproxy", column[c]) ? median("haproxy", column[c]) : ""
    y = known("nginx", column[c]) ? median("nginx", column[c]) : ""
    if (x == "" || y == "") return x == "" ? y : x
    lower = column[c] ~ /^p/
    return (x + 0 < y + 0) == lower ? x : y
}
BEGIN {
    columns = split("up1 up4 down1 p50 p99 http http_new", column, " ")
    split("1 stream up, Gbit/s;4 streams up, Gbit/s;1 stream down, Gbit/s;ping-pong p50, µs;ping-pong p99, µs;HTTP/s, kept;HTTP/s, new", caption, ";")
    FS = " "
    while ((getline line < results) > 0) { split(line, f, " "); values[f[2], f[3]] = values[f[2], f[3]] " " f[4] }
    while ((getline line < failed) > 0) { k = split(line, f, " "); for (i = 2; i <= k; i++) bad[f[1], f[i]] = 1 }
    FS = "\t"
}
{ order[++rows] = $1; name[$1] = $2 }
END {
    head("median (min–max)")
    for (r = 1; r <= rows; r++) {
        t = order[r]
        printf "| %s |", name[t]
        for (c = 1; c <= columns; c++) {
            if (!known(t, column[c])) { printf " – |"; continue }
            m = median(t, column[c])
            if (count > 1) printf " %s (%s–%s) |", figure(m), figure(low), figure(high)
            else printf " %s |", figure(m)
        }
        print ""
    }
    ratios("as a multiple of the kernel's NAT", "nft")
    ratios("as a multiple of the better proxy", "proxy")
}
