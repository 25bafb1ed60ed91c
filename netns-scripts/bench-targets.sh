#!/usr/bin/env bash
# What bench-l4.sh compares: which balancers are here, how each is configured, started and stopped. It is
# sourced, not run, after lib.sh; `only`, `tuned`, `work` and `binary` come from bench-l4.sh.

# shellcheck disable=SC2034,SC2154  # bench-l4.sh uses what looks unused here, and sets what looks unset

TARGETS=(routing nft offload offload2 plain haproxy nginx)
declare -A TITLE=(
    [routing]="straight routing"
    [nft]="kernel NAT (nftables)"
    [offload]="fourseven offload, 1 queue"
    [offload2]="fourseven offload, 2 queues"
    [plain]="fourseven plain"
    [haproxy]="HAProxy, mode tcp"
    [nginx]="nginx stream"
)
BACKENDS=3
BULK_PORT=5201
VIP_HTTP_PORT=80
cores=$(nproc)

# ---- what is here ---------------------------------------------------------------------------------------

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

stream_module() {
    local built module
    built=$(nginx -V 2>&1)
    case $built in
    *--with-stream=dynamic*)
        module=$(sed -n 's/.*--modules-path=\([^ ]*\).*/\1/p' <<<"$built")/ngx_stream_module.so
        if [ -e "$module" ]; then printf 'load_module %s;' "$module"; else return 1; fi
        ;;
    *--with-stream*) ;;
    *) return 1 ;;
    esac
}

choose_targets() {
    local target
    for target in ${only//,/ }; do
        [ -n "${TITLE[$target]:-}" ] || usage_error "--only: no target is called $target"
    done
    for target in "${TARGETS[@]}"; do
        case $target in
        nft) wants nft nft ;;
        haproxy) wants haproxy haproxy ;;
        nginx)
            if ! have nginx || stream_module >/dev/null; then
                wants nginx nginx
            elif [ -z "$only" ] || [[ ",$only," == *,nginx,* ]]; then
                missing+=("${TITLE[nginx]}: nginx has no stream module (Debian: libnginx-mod-stream)")
            fi
            ;;
        *) wants "$target" ;;
        esac
    done
    for target in "${missing[@]}"; do
        note "left out: $target"
    done
    [ ${#chosen[@]} -gt 0 ] || die "nothing is left to measure"
}

# ---- configurations: the same three services for every balancer -----------------------------------------
#
# bulk goes to one backend, since all connections of an iperf3 test must meet; web and echo go round robin.

write_configurations() {
    local n web='' echo='' haproxy_web='' haproxy_echo='' nginx_web='' nginx_echo='' kind splicing='' buffers=''
    if [ "$tuned" = yes ]; then
        splicing=$'    option splice-request\n    option splice-response'
        buffers='proxy_buffer_size 128k;'
    fi
    for ((n = 1; n <= BACKENDS; n++)); do
        web+="\"$(backend4 "$n"):$HTTP_PORT\", "
        echo+="\"$(backend4 "$n"):$ECHO_PORT\", "
        haproxy_web+="    server b$n $(backend4 "$n"):$HTTP_PORT"$'\n'
        haproxy_echo+="    server b$n $(backend4 "$n"):$ECHO_PORT"$'\n'
        nginx_web+="server $(backend4 "$n"):$HTTP_PORT; "
        nginx_echo+="server $(backend4 "$n"):$ECHO_PORT; "
    done

    for kind in offload:1 offload:2 plain:1; do
        cat >"$work/${kind/:/}.toml" <<END
[tun]
name   = "fs0"
io     = "${kind%:*}"
queues = ${kind#*:}
local  = ["10.47.3.0/24"]

[[service]]
name     = "bulk"
mode     = "l4"
listen   = ["tcp/$VIP4:$BULK_PORT"]
backends = ["$(backend4 1):$BULK_PORT"]

[[service]]
name     = "web"
mode     = "l4"
listen   = ["tcp/$VIP4:$VIP_HTTP_PORT"]
backends = [${web%, }]

[[service]]
name     = "echo"
mode     = "l4"
listen   = ["tcp/$VIP4:$ECHO_PORT"]
backends = [${echo%, }]
END
    done

    cat >"$work/bench.nft" <<END
table ip fourseven_bench {
    chain to_backends {
        type nat hook prerouting priority dstnat; policy accept;
        ip daddr $VIP4 tcp dport $BULK_PORT dnat to $(backend4 1)
        ip daddr $VIP4 tcp dport $VIP_HTTP_PORT dnat to numgen inc mod $BACKENDS map { $(nft_map) } : $HTTP_PORT
        ip daddr $VIP4 tcp dport $ECHO_PORT dnat to numgen inc mod $BACKENDS map { $(nft_map) }
    }
    chain from_the_balancer {
        type nat hook postrouting priority srcnat; policy accept;
        ct status dnat masquerade
    }
}
END

    cat >"$work/haproxy.cfg" <<END
global
    nbthread $cores
    maxconn 4000
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    balance roundrobin
$splicing
listen bulk
    bind $VIP4:$BULK_PORT
    server b1 $(backend4 1):$BULK_PORT
listen web
    bind $VIP4:$VIP_HTTP_PORT
$haproxy_web
listen echo
    bind $VIP4:$ECHO_PORT
$haproxy_echo
END

    ! have nginx || cat >"$work/nginx.conf" <<END
$(stream_module || true)
user root;
daemon off;
pid $work/nginx.pid;
error_log stderr warn;
worker_processes $cores;
events { worker_connections 8192; }
stream {
    $buffers
    upstream bulk { server $(backend4 1):$BULK_PORT; }
    upstream web { $nginx_web }
    upstream echo { $nginx_echo }
    server { listen $VIP4:$BULK_PORT reuseport; proxy_pass bulk; }
    server { listen $VIP4:$VIP_HTTP_PORT reuseport; proxy_pass web; }
    server { listen $VIP4:$ECHO_PORT reuseport; proxy_pass echo; }
}
END
}

nft_map() {
    local n map=''
    for ((n = 1; n <= BACKENDS; n++)); do
        map+="$((n - 1)) : $(backend4 "$n"), "
    done
    printf '%s' "${map%, }"
}

# ---- starting and stopping one balancer -----------------------------------------------------------------

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

start_target() {
    case $1 in
    routing) ;;
    nft) in_ns lb nft -f "$work/bench.nft" 2>"$RUN_DIR/balancer.log" ;;
    offload) start_fourseven offload1 ;;
    offload2) start_fourseven offload2 ;;
    plain) start_fourseven plain1 ;;
    haproxy) start_proxy haproxy -db -f "$work/haproxy.cfg" ;;
    nginx) start_proxy nginx -p "$work" -c "$work/nginx.conf" ;;
    esac
}

start_fourseven() {
    start_in lb balancer "$binary" run -c "$work/$1.toml" --json
    wait_until is_ready
}

# A proxy ends connections, so the VIP must be an address of its host.
start_proxy() {
    ip_in lb addr replace "$VIP4/32" dev lo
    start_in lb balancer "$@"
    wait_until listens lb "$VIP_HTTP_PORT"
}

stop_target() {
    case $1 in
    routing) ;;
    nft) in_ns lb nft delete table ip fourseven_bench 2>/dev/null || true ;;
    *)
        stop balancer
        ip_in lb addr del "$VIP4/32" dev lo 2>/dev/null || true
        if grep -E '"agree": *false' "$RUN_DIR/balancer.log" >/dev/null 2>&1; then
            note "  ${TITLE[$1]}: its counters do not agree; see its report:"
            tail -n 1 "$RUN_DIR/balancer.log" >&2
        fi
        ;;
    esac
}

