#!/usr/bin/env bash
# Measures layer-4 balancers side by side in one network: straight routing, the kernel's NAT, fourseven,
# HAProxy and nginx. Prints a Markdown table of medians, and ratios.
#
# usage: bench-l4.sh [--quick] [--tuned] [--json FILE] [--only TARGET,…]
#
#   --quick        one round of one second each, to see that everything works
#   --tuned        gives HAProxy kernel splicing, and nginx buffers of 128 KB, which helps both with bulk
#   --json FILE    writes every single figure there
#   --only LIST    some of: routing nft offload offload2 plain haproxy nginx
#
# ROUNDS         rounds (3); in each, every target takes its turn at every measurement
# SECONDS_EACH   seconds a measurement (3)
# CONNECTIONS    connections of the HTTP measurements (16)
# FOURSEVEN      the program, if it is neither built in target/ nor on the PATH
#
# Client, balancer and three backends are namespaces on this machine (prefix fs-bench), so all share its
# cores: compare the rows, and read no row as what a product can do. Each balancer runs only while it is
# measured, and must answer one request rightly before each measurement. Whatever is not installed is
# named and left out; nothing is installed.
set -euo pipefail

export FOURSEVEN_PREFIX=${FOURSEVEN_PREFIX:-fs-bench}
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source-path=SCRIPTDIR source=bench-lib.sh
. "$(dirname "$0")/bench-lib.sh"
# shellcheck source-path=SCRIPTDIR source=bench-targets.sh
. "$(dirname "$0")/bench-targets.sh"

rounds=${ROUNDS:-3}
seconds=${SECONDS_EACH:-3}
connections=${CONNECTIONS:-16}
json=
only=
tuned=no
while [ $# -gt 0 ]; do
    case $1 in
    --quick)
        rounds=1
        seconds=1
        ;;
    --tuned) tuned=yes ;;
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
for number in "$rounds" "$seconds" "$connections"; do
    if ! is_number "$number" || [ "$number" -eq 0 ]; then
        usage_error "ROUNDS, SECONDS_EACH and CONNECTIONS are numbers above 0"
    fi
done

MEASURES=(up1 up4 down1 ping_pong http http_new)

# ---- one request, then one measurement --------------------------------------------------------------------

# at TARGET SERVICE: sets host and port to what the client must call.
at() {
    case $2 in
    bulk) port=$BULK_PORT ;;
    echo) port=$ECHO_PORT ;;
    web) port=$VIP_HTTP_PORT ;;
    esac
    host=$VIP4
    if [ "$1" = routing ]; then
        host=$(backend4 1)
        [ "$2" != web ] || port=$HTTP_PORT
    fi
}

# shellcheck disable=SC2016  # the inner shells expand these
answers_rightly() {
    local host port
    at "$1" "$2"
    case $2 in
    bulk) in_client 5 iperf3 -c "$host" -p "$port" -n 128K >/dev/null 2>&1 ;;
    web)
        in_client 5 bash -c 'exec 3<>"/dev/tcp/$0/$1"
            printf "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" "$0" >&3
            cat <&3' "$host" "$port" 2>/dev/null | tr -d '\0' | grep '^HTTP/1.1 200' >/dev/null
        ;;
    echo)
        [ "$(in_client 5 bash -c 'exec 3<>"/dev/tcp/$0/$1"
            printf "%064d" 47 >&3
            head -c 64 <&3' "$host" "$port" 2>/dev/null)" = "$(printf '%064d' 47)" ]
        ;;
    esac
}

service_of() {
    case $1 in
    up1 | up4 | down1) echo bulk ;;
    ping_pong) echo echo ;;
    http | http_new) echo web ;;
    esac
}

# iperf ARGUMENT…: Gbit/s that arrived.
iperf() {
    in_client $((seconds + 10)) iperf3 -c "$host" -p "$port" -t "$seconds" -J "$@" 2>/dev/null | awk '
        /"sum_received"/ { sum = 1 }
        sum && /"bits_per_second"/ { gsub(/[^0-9.e+]/, "", $2); printf "%.3f\n", $2 / 1e9; exit }'
}

# load KIND CONNECTIONS TARGET FIELD…: those fields of the load generator's report; none if there were errors.
load() {
    local kind=$1 many=$2 target=$3 report
    shift 3
    report=$(in_client $((seconds + 10)) "$binary" lab load "$target" --kind "$kind" --connections "$many" \
        --duration "${seconds}s" --json 2>>"$RUN_DIR/load.log") || true
    figures_of "$target" "$report" "$@"
}

# measure TARGET MEASURE: the figures, one a line.
measure() {
    local host port
    at "$1" "$(service_of "$2")"
    case $2 in
    up1) iperf ;;
    up4) iperf -P 4 ;;
    down1) iperf -R ;;
    ping_pong) load ping-pong 1 "tcp/$host:$port" p50_us p99_us ;;
    http) load http "$connections" "http://$host:$port/" per_second ;;
    http_new) load http-new "$connections" "http://$host:$port/" per_second ;;
    esac
}

columns_of() {
    case $1 in
    ping_pong) echo p50 p99 ;;
    *) echo "$1" ;;
    esac
}

declare -A does_not_start=()

# turn ROUND TARGET MEASURE: starts the target, checks, measures, stops; the figures go to results.
turn() {
    local round=$1 target=$2 measure=$3 service figures=() column i=0
    if [ -n "${does_not_start[$target]:-}" ]; then
        printf '%s %s\n' "$target" "$(columns_of "$measure")" >>"$work/failed"
        return
    fi
    service=$(service_of "$measure")
    if [ "$service" = bulk ]; then
        start_in b1 iperf iperf3 -s -p "$BULK_PORT"
        for _ in {1..60}; do
            listens b1 "$BULK_PORT" && break
            sleep 0.05
        done
    fi
    if ! start_target "$target"; then
        complain "$target" "$measure" "it does not start: $(tail -n 2 "$RUN_DIR/balancer.log" | tr '\n' ' ')"
        does_not_start[$target]=yes
    elif ! answers_rightly "$target" "$service"; then
        complain "$target" "$measure" "no right answer to one request of $service"
    else
        mapfile -t figures < <(measure "$target" "$measure")
        for column in $(columns_of "$measure"); do
            if [ -n "${figures[i]:-}" ]; then
                printf '%s %s %s %s\n' "$round" "$target" "$column" "${figures[i]}" >>"$work/results"
            else
                complain "$target" "$measure" "the measurement failed"
            fi
            i=$((i + 1))
        done
    fi
    stop_target "$target"
    stop iperf
    note "$(printf 'round %s of %s  %-9s  %-28s %s' "$round" "$rounds" "$measure" "${TITLE[$target]}" "${figures[*]:-–}")"
}

complain() {
    printf '%s %s\n' "$1" "$(columns_of "$2")" >>"$work/failed"
    note "  ${TITLE[$1]}, $2: $3"
}

# ---- report -------------------------------------------------------------------------------------------------

versions() {
    printf '%s, %s' "$("$binary" --version 2>/dev/null | head -n 1)" "$(iperf3 --version | sed -n '1s/ (.*//p')"
    ! have nft || printf ', %s' "$(nft --version | sed 's/ (.*//')"
    proxy_versions
}

tables() {
    local here
    here=$(dirname "$0")
    rows | awk -v results="$work/results" -v failed="$work/failed" -f "$here/bench-figures.awk" -f "$here/bench-tables.awk"
}

write_json() {
    {
        printf '{\n  "machine": "%s",\n  "versions": "%s",\n' "$(machine | tr -d '"')" "$(versions | tr -d '"')"
        printf '  "rounds": %s,\n  "seconds_each": %s,\n  "connections": %s,\n  "figures": [' "$rounds" "$seconds" "$connections"
        json_figures $'^p[59] us\n^http per_second\n. gbit_per_second'
        printf '  ]\n}\n'
    } >"$json"
    note "every figure: $json"
}

# ---- the run ------------------------------------------------------------------------------------------------

need_root
have iperf3 || die "\`iperf3\` is missing: the bulk measurements need it"
binary=$(fourseven_binary)
[ -n "$binary" ] || die "fourseven is not built: cargo build --release (it is backend and load generator too)"
choose_targets
begin_bench
write_configurations
ensure_network "$BACKENDS" 1500 1500 >/dev/null
ensure_ports
for ((n = 1; n <= BACKENDS; n++)); do
    start_in "b$n" "server-b$n" "$binary" lab serve --name "b$n" --http "[::]:$HTTP_PORT" --tcp-echo "[::]:$ECHO_PORT"
done
await_servers "$HTTP_PORT" "$ECHO_PORT"

for ((round = 1; round <= rounds; round++)); do
    for measure in "${MEASURES[@]}"; do
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
if [ "$tuned" = yes ]; then
    proxies="HAProxy splices in the kernel, nginx has buffers of 128 KB"
else
    proxies="both as they come; --tuned makes them quicker with bulk"
fi
say "Interleaved, $rounds × $seconds s each. iperf3 against one backend; ping-pong: 64 bytes on one TCP connection; HTTP:
$connections connections. Round robin over $BACKENDS backends, IPv4, MTU 1500; straight routing goes to one backend directly.
HAProxy has $cores threads and nginx $cores workers, one a core ($proxies).
Offloads (GRO, GSO, TSO) of all devices are as the kernel sets them. conntrack is at work in the row of the kernel's NAT
alone. Times: less is better; everything else: more is better."
for line in "${missing[@]}"; do
    say "Left out: $line."
done
[ -z "$json" ] || write_json
