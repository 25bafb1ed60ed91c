#!/usr/bin/env bash
# What bench-l4.sh compares: which balancers are here, how each is configured, started and stopped. It is
# sourced, not run, after bench-lib.sh; `only`, `tuned`, `work` and `binary` come from bench-l4.sh.

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

# ---- what is here ---------------------------------------------------------------------------------------

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
    check_only
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
    say_what_is_missing
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

start_target() {
    case $1 in
    routing) ;;
    nft) in_ns lb nft -f "$work/bench.nft" 2>"$RUN_DIR/balancer.log" ;;
    offload) start_fourseven "$work/offload1.toml" ;;
    offload2) start_fourseven "$work/offload2.toml" ;;
    plain) start_fourseven "$work/plain1.toml" ;;
    haproxy) start_proxy "$VIP_HTTP_PORT" haproxy -db -f "$work/haproxy.cfg" ;;
    nginx) start_proxy "$VIP_HTTP_PORT" nginx -p "$work" -c "$work/nginx.conf" ;;
    esac
}

stop_target() {
    case $1 in
    routing) ;;
    nft) in_ns lb nft delete table ip fourseven_bench 2>/dev/null || true ;;
    *) stop_balancer "$1" ;;
    esac
}

