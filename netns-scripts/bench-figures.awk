# The figures of a benchmark, for the tables of bench-tables.awk and bench-l7-tables.awk.
#
# Input of both: one target a line, "name<TAB>title", in the order in which they are shown. `results` holds one figure
# a line, "round target column figure"; `failed` one target a line with the columns that failed, which are shown in no
# table, as one figure that came about by luck would mislead.

function read_figures(    line, f, k, i) {
    while ((getline line < results) > 0) { split(line, f, " "); values[f[2], f[3]] = values[f[2], f[3]] " " f[4] }
    while ((getline line < failed) > 0) { k = split(line, f, " "); for (i = 2; i <= k; i++) bad[f[1], f[i]] = 1 }
}
function median(t, c,    n, i, j, v, a) {
    n = split(values[t, c], a, " ")
    for (i = 2; i <= n; i++)
        for (j = i; j > 1 && a[j - 1] + 0 > a[j] + 0; j--) { v = a[j]; a[j] = a[j - 1]; a[j - 1] = v }
    low = a[1]; high = a[n]; count = n
    return n % 2 ? a[(n + 1) / 2] : (a[n / 2] + a[n / 2 + 1]) / 2
}
function figure(x) { return x >= 1000 ? sprintf("%d", x + 0.5) : x >= 100 ? sprintf("%.0f", x) : x >= 10 ? sprintf("%.1f", x) : sprintf("%.2f", x) }
function known(t, c) { return (t, c) in values && !((t, c) in bad) }
