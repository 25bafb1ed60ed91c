#!/usr/bin/env bash
# Measures layer-7 balancers side by side in one network: no balancer at all, fourseven, HAProxy and nginx.
# Prints a Markdown table of medians, and how fourseven compares with the better of the two proxies.
#
# usage: bench-l7.sh [--quick] [--json FILE] [--only TARGET,…]
#
#   --quick        one round of one second each, beside 1,000 idle connections, to see that everything works
#   --json FILE    writes every single figure there
#   --only LIST    some of: direct fourseven haproxy nginx
#
# ROUNDS         rounds (3); in each, every target takes its turn at every measurement
# SECONDS_EACH   seconds a measurement (3)
# WORKERS        threads or workers of each balancer (2)
# IDLE           idle TLS connections that are held beside the last measurements (10000)
# MEASURES       some of: http_1 http_64 new_1 new_64 https_64 h2_16x8 handshakes bulk half idle (all)
# FOURSEVEN      the program, if it is neither built in target/ nor on the PATH
#
# Client, balancer and three backends are namespaces on this machine (prefix fs-bench), so all share its
# cores: compare the columns, and read no figure as what a product can do. Each balancer runs only while it is
# measured, and must answer rightly before each measurement. The load generator checks every answer, its
# body to the last byte; a figure beside which anything was wrong is not shown. Whatever is not installed is named and
# left out; nothing is installed.
set -euo pipefail

export FOURSEVEN_PREFIX=${FOURSEVEN_PREFIX:-fs-bench}
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source-path=SCRIPTDIR source=bench-lib.sh
. "$(dirname "$0")/bench-lib.sh"
# shellcheck source-path=SCRIPTDIR source=bench-l7-targets.sh
. "$(dirname "$0")/bench-l7-targets.sh"

rounds=${ROUNDS:-3}
seconds=${SECONDS_EACH:-3}
workers=${WORKERS:-2}
idle=${IDLE:-10000}
read -ra measures <<<"${MEASURES:-http_1 http_64 new_1 new_64 https_64 h2_16x8 handshakes bulk half idle}"
json=
only=
while [ $# -gt 0 ]; do
    case $1 in
    --quick)
        rounds=1
        seconds=1
        idle=${IDLE:-1000}
        ;;
    --json)
        json=${2:-}
        [ -n "$json" ] || usage_error "--json takes a file"
        shift
        ;;
    --only)
        only=${2:-}
        [ -n "$only" ] || usage_error "--only takes a list"
        shift
        ;;
    -h | --help)
        help_of "$0"
        exit
        ;;
    *) usage_error "unknown argument: $1" ;;
    esac
    shift
done
for number in "$rounds" "$seconds" "$workers" "$idle"; do
    if ! is_number "$number" || [ "$number" -eq 0 ]; then
        usage_error "ROUNDS, SECONDS_EACH, WORKERS and IDLE are numbers above 0"
    fi
done
for measure in "${measures[@]}"; do
    case $measure in
    http_1 | http_64 | new_1 | new_64 | https_64 | h2_16x8 | handshakes | bulk | half | idle) ;;
    *) usage_error "MEASURES: there is no $measure" ;;
    esac
done

# What is asked for: small, and known to the last byte; and large.
SMALL=/bytes/128
LARGE=/bytes/16000000

columns_of() {
    case $1 in
    half) echo half_p50 half_p99 ;;
    idle) echo idle_https_64 idle_p50 idle_p99 idle_kb ;;
    *) echo "$1" ;;
    esac
}

# url TARGET SERVICE PATH
url() {
    local scheme=http host=$VIP4 port
    case $2 in
    pooled) port=$POOLED_PORT ;;
    new) port=$NEW_PORT ;;
    tls)
        scheme=https
        port=$TLS_PORT
        ;;
    esac
    if [ "$1" = direct ]; then
        host=$(backend4 1)
        port=$HTTP_PORT
        [ "$2" != tls ] || port=$BACKEND_TLS_PORT
    fi
    printf '%s://%s:%s%s' "$scheme" "$host" "$port" "$3"
}

service_of() {
    case $1 in
    http_*) echo pooled ;;
    new_*) echo new ;;
    *) echo tls ;;
    esac
}

# load TARGET URL FIELD… -- ARGUMENT…: those fields of the load generator's report; none if anything was wrong.
load() {
    local target=$1 url=$2 fields=() report
    shift 2
    while [ "$1" != -- ]; do
        fields+=("$1")
        shift
    done
    shift
    report=$(in_client $((seconds + 15)) "$binary" lab load "$url" --threads "$cores" --duration "${seconds}s" --json \
        "$@" 2>>"$RUN_DIR/load.log") || true
    figures_of "$target" "$report" "${fields[@]}"
}

answers_rightly() {
    in_client 10 "$binary" lab load "$(url "$1" "$2" "$SMALL")" --connections 1 --duration 50ms \
        >/dev/null 2>>"$RUN_DIR/load.log"
}

# Half of what the slowest target did over HTTPS at full load in the first round: the same for all, in all rounds.
half_rate() {
    awk '$1 == 1 && $3 == "https_64" && (least == "" || $4 < least) { least = $4 } END { if (least) print int(least / 2) }' \
        "$work/results"
}

half_load() {
    local rate
    rate=$(half_rate)
    [ -n "$rate" ] || return 1
    load "$1" "$(url "$1" tls "$SMALL")" p50_us p99_us -- --connections 64 --rate "$rate"
}

full_load() { load "$1" "$(url "$1" tls "$SMALL")" per_second -- --connections 64; }

# beside_idle TARGET: requests a second, p50, p99, and memory, beside many idle connections.
beside_idle() {
    local target=$1 before after figures=()
    before=$(memory_of "$target")
    start_in client idle "$binary" lab load "$(url "$target" tls "$SMALL")" --kind idle --connections "$idle" --hold --json
    for _ in {1..1200}; do
        grep '^holding' "$RUN_DIR/idle.log" >/dev/null 2>&1 && break
        running idle >/dev/null || break
        sleep 0.05
    done
    if ! grep -x "holding $idle connections" "$RUN_DIR/idle.log" >/dev/null; then
        note "  not all of $idle idle connections: $(tail -n 1 "$RUN_DIR/idle.log")"
        stop idle
        return 1
    fi
    after=$(memory_of "$target")
    mapfile -t figures < <(full_load "$target" && half_load "$target")
    stop idle
    # The last word of whoever held them: all were there to the end.
    figures_of "$target" "$(tail -n 1 "$RUN_DIR/idle.log")" || return 1
    [ ${#figures[@]} -eq 3 ] || return 1
    printf '%s\n' "${figures[@]}"
    awk -v grown=$((after - before)) -v idle="$idle" 'BEGIN { printf "%.1f\n", grown / idle }'
}

# measure TARGET MEASURE: the figures, one a line.
measure() {
    local small large
    small=$(url "$1" "$(service_of "$2")" "$SMALL")
    large=$(url "$1" tls "$LARGE")
    case $2 in
    http_1 | new_1) load "$1" "$small" per_second -- --connections 1 ;;
    http_64 | new_64 | https_64) load "$1" "$small" per_second -- --connections 64 ;;
    h2_16x8) load "$1" "$small" per_second -- --http2 --connections 16 --streams 8 ;;
    handshakes) load "$1" "$small" per_second -- --kind handshake --connections 64 ;;
    bulk) load "$1" "$large" megabytes_per_second -- --kind bulk --connections 8 ;;
    half) half_load "$1" ;;
    idle) beside_idle "$1" ;;
    esac
}

declare -A does_not_start=()

complain() {
    printf '%s %s\n' "$1" "$(columns_of "$2")" >>"$work/failed"
    note "  ${TITLE[$1]}, $2: $3"
}

# turn ROUND TARGET MEASURE: starts the target, checks, measures, stops; the figures go to results.
turn() {
    local round=$1 target=$2 measure=$3 figures=() column i=0
    # Without a balancer there is one connection, the client's.
    if [[ $target = direct && $measure = new_* ]]; then
        return
    fi
    if [ -n "${does_not_start[$target]:-}" ]; then
        printf '%s %s\n' "$target" "$(columns_of "$measure")" >>"$work/failed"
        return
    fi
    if ! start_target "$target"; then
        complain "$target" "$measure" "it does not start: $(tail -n 2 "$RUN_DIR/balancer.log" | tr '\n' ' ')"
        does_not_start[$target]=yes
    elif ! answers_rightly "$target" "$(service_of "$measure")"; then
        complain "$target" "$measure" "no right answer: $(tail -n 1 "$RUN_DIR/load.log")"
    else
        mapfile -t figures < <(measure "$target" "$measure")
        for column in $(columns_of "$measure"); do
            if [ -n "${figures[i]:-}" ]; then
                printf '%s %s %s %s\n' "$round" "$target" "$column" "${figures[i]}" >>"$work/results"
            else
                complain "$target" "$measure" "the measurement failed"
                break
            fi
            i=$((i + 1))
        done
    fi
    stop_target "$target"
    note "$(printf 'round %s of %s  %-10s  %-12s %s' "$round" "$rounds" "$measure" "${TITLE[$target]}" "${figures[*]:-–}")"
}

# ---- report -------------------------------------------------------------------------------------------------

versions() {
    printf '%s' "$("$binary" --version 2>/dev/null | head -n 1)"
    proxy_versions
}

tables() {
    local here
    here=$(dirname "$0")
    rows | awk -v results="$work/results" -v failed="$work/failed" -f "$here/bench-figures.awk" -f "$here/bench-l7-tables.awk"
}

write_json() {
    {
        printf '{\n  "machine": "%s",\n  "versions": "%s",\n' "$(machine | tr -d '"')" "$(versions | tr -d '"')"
        printf '  "rounds": %s,\n  "seconds_each": %s,\n  "workers": %s,\n  "idle": %s,\n' "$rounds" "$seconds" "$workers" "$idle"
        printf '  "half_rate": %s,\n  "figures": [' "$(half_rate | grep . || echo null)"
        json_figures $'p[59][09]$ us\n_kb$ kb\n^bulk$ megabyte_per_second\n. per_second'
        printf '  ]\n}\n'
    } >"$json"
    note "every figure: $json"
}

# ---- the run ------------------------------------------------------------------------------------------------

need_root
have openssl || die "\`openssl\` is missing: it makes the certificate"
binary=$(fourseven_binary)
[ -n "$binary" ] || die "fourseven is not built: cargo build --release (it is backend and load generator too)"
choose_targets
begin_bench
make_certificate
ensure_network "$BACKENDS" 1500 1500 >/dev/null
ensure_ports
files=$(ulimit -n)
if [ "$files" != unlimited ] && [ "$idle" -gt $((files - 1000)) ]; then
    die "IDLE=$idle connections take more files than the $files that a process may have here (ulimit -Hn)"
fi
write_configurations
for ((n = 1; n <= BACKENDS; n++)); do
    start_in "b$n" "server-b$n" "$binary" lab serve --name "b$n" --http "[::]:$HTTP_PORT" --https "[::]:$BACKEND_TLS_PORT" \
        --cert "$work/chain.pem" --key "$work/key.pem" --threads "$workers"
done
await_servers "$HTTP_PORT" "$BACKEND_TLS_PORT"

for ((round = 1; round <= rounds; round++)); do
    for measure in "${measures[@]}"; do
        # Each round begins with another target, so that none always comes after the same one.
        for ((i = 0; i < ${#chosen[@]}; i++)); do
            turn "$round" "${chosen[(i + round - 1) % ${#chosen[@]}]}" "$measure"
        done
    done
done

say "Machine: $(machine)"
say "Versions: $(versions)"
say
tables
say
say "Interleaved, $rounds × $seconds s each; every answer checked. Round robin over $BACKENDS backends that speak HTTP/1.1
without TLS, IPv4, MTU 1500; without a balancer the client talks to one backend. Bodies of 128 bytes; handshakes with
ECDSA on P-256 over 64 connections at a time; bulk over 8 connections. Each balancer has $workers threads or workers. Pooled:
HAProxy \`http-reuse always\`, nginx \`keepalive 256\`; new: HAProxy \`http-reuse never\` with \`http-server-close\`, nginx
without \`keepalive\`. Half load: 64 connections, $(half_rate | grep . || echo –) requests a second for all, half of what the slowest did; times count
from when a request was due. Idle: $idle TLS connections that have asked once; their memory is what the balancer's
processes grew by, so for proxies on kernel sockets it lacks what the kernel holds for each.
Times and memory: less is better; everything else: more is better."
for line in "${missing[@]}"; do
    say "Left out: $line."
done
[ -z "$json" ] || write_json
