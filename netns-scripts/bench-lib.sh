#!/usr/bin/env bash
# What the benchmarks beside this file share: choosing who is measured, starting one balancer, reading figures,
# saying what they were made on. It is sourced, not run, after lib.sh; `only`, `binary` and `seconds` come from
# the benchmark, TITLE from the file that says what it compares.

# shellcheck disable=SC2034,SC2154  # the scripts that source this file use what looks unused, and set what looks unset

cores=$(nproc)
chosen=()
missing=()

# wants TARGET [TOOL…]: chooses the target if its tools are there, else says once what is missing.
wants() {
    local target=$1 tool
    shift
    [ -z "$only" ] || [[ ",$only," == *",$target,"* ]] || return 0
    for tool in "$@"; do
        if ! have "$tool"; then
            missing+=("${TITLE[$target]}: \`$tool\` is not installed")
            return 0
        fi
    done
    chosen+=("$target")
}

# Whether all names of --only are targets.
check_only() {
    local target
    for target in ${only//,/ }; do
        [ -n "${TITLE[$target]:-}" ] || usage_error "--only: no target is called $target"
    done
}

say_what_is_missing() {
    local line
    for line in "${missing[@]}"; do
        note "left out: $line"
    done
    [ ${#chosen[@]} -gt 0 ] || die "nothing is left to measure"
}

# Ends a run that was killed, refuses one that is under way, and makes `work`.
begin_bench() {
    local pid
    if pid=$(running bench); then
        die "another run is under way (pid $pid)"
    fi
    # What a run that was killed has left.
    remove_network >/dev/null
    need_run_dir
    printf '%s %s -\n' "$$" "$(start_time $$)" >"$RUN_DIR/bench.pid"
    work=$(mktemp -d)
    touch "$work/results" "$work/failed"
    trap cleanup EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    note "$(machine)"
}

cleanup() {
    trap '' INT TERM
    rm -f "$RUN_DIR/bench.pid"
    remove_network >/dev/null
    rm -rf "$work"
}

# Many short connections would run out of client ports; these are settings of our namespaces only.
ensure_ports() {
    local name
    for name in client lb; do
        set_sysctl "$name" net/ipv4/ip_local_port_range "1024 65535"
        set_sysctl "$name" net/ipv4/tcp_tw_reuse 1
    done
    # Root may have more files than the limit it was given; who may not lives with that.
    ulimit -Hn 100000 2>/dev/null || true
    ulimit -n "$(ulimit -Hn)"
}

# await_servers PORT…: all backends listen there, or it ends.
await_servers() {
    local n port
    for ((n = 1; n <= BACKENDS; n++)); do
        for port in "$@"; do
            for _ in {1..100}; do
                listens "b$n" "$port" && break
                sleep 0.05
            done
            listens "b$n" "$port" || die "the backend in $(ns "b$n") does not listen: $(tail -n 3 "$RUN_DIR/server-b$n.log")"
        done
    done
}

# ---- one balancer -----------------------------------------------------------------------------------------

wait_until() {
    local turn
    for turn in {1..100}; do
        "$@" && return
        running balancer >/dev/null || [ "$turn" -lt 5 ] || return 1
        sleep 0.05
    done
    return 1
}

is_ready() { grep '^ready:' "$RUN_DIR/balancer.log" >/dev/null 2>&1; }

# start_fourseven CONFIGURATION
start_fourseven() {
    start_in lb balancer "$binary" run -c "$1" --json
    wait_until is_ready
}

# start_proxy PORT COMMAND…: until it listens on the port. A proxy ends connections, so the VIP must be an address
# of its host.
start_proxy() {
    local port=$1
    shift
    ip_in lb addr replace "$VIP4/32" dev lo
    start_in lb balancer "$@"
    wait_until listens lb "$port"
}

stop_balancer() {
    stop balancer
    ip_in lb addr del "$VIP4/32" dev lo 2>/dev/null || true
    if grep -E '"agree": *false' "$RUN_DIR/balancer.log" >/dev/null 2>&1; then
        note "  ${TITLE[$1]}: its counters do not agree; see its report:"
        tail -n 1 "$RUN_DIR/balancer.log" >&2
    fi
}

# ---- figures ----------------------------------------------------------------------------------------------

in_client() { in_ns client timeout "$@"; }

json_number() { sed -n "s/.*\"$1\": *\([0-9.eE+-]*\).*/\1/p" <<<"$2"; }

# figures_of TARGET REPORT FIELD…: those fields of the load generator's report, one a line; none if anything
# in it was an error or wrong.
figures_of() {
    local target=$1 report=$2 errors wrong field
    shift 2
    errors=$(json_number errors "$report")
    wrong=$(json_number wrong "$report")
    if [ "${errors:-1}" != 0 ] || [ "${wrong:-1}" != 0 ]; then
        note "  ${errors:-no} errors and ${wrong:-no} wrong answers at $target: ${report:-no report}"
        return 1
    fi
    for field in "$@"; do
        json_number "$field" "$report"
    done
}

# ---- report -----------------------------------------------------------------------------------------------

machine() {
    local model
    model=$(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -n 1)
    printf '%s, %s cores, Linux %s, %s' "${model:-$(uname -m)}" "$cores" "$(uname -r)" "$(date -u +%F)"
}

proxy_versions() {
    ! have haproxy || printf ', HAProxy %s' "$(haproxy -v | sed -n '1s/.*version \([^ -]*\).*/\1/p')"
    ! have nginx || printf ', nginx %s' "$(nginx -v 2>&1 | sed 's/.*\///')"
}

# The input of the tables: the targets, by name and title.
rows() {
    local target
    for target in "${chosen[@]}"; do
        printf '%s\t%s\n' "$target" "${TITLE[$target]}"
    done
}

# json_figures UNITS: results as JSON. UNITS is lines of "PATTERN UNIT"; the first that fits a measure holds.
json_figures() {
    awk -v units="$1" '
        BEGIN { lines = split(units, line, "\n") }
        {
            unit = ""
            for (i = 1; i <= lines && unit == ""; i++) { split(line[i], pair, " "); if ($3 ~ pair[1]) unit = pair[2] }
            printf "%s\n    {\"round\": %s, \"target\": \"%s\", \"measure\": \"%s\", \"value\": %s, \"unit\": \"%s\"}", (NR > 1 ? "," : ""), $1, $2, $3, $4, unit
        } END { print "" }' "$work/results"
}
