# The tables of bench-l4.sh: medians with what lies between, then ratios to the kernel's NAT and to the
# better proxy, in Markdown. bench-figures.awk comes before this.

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
    read_figures()
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
