#!/usr/bin/env bash
# What bench-l7.sh compares: which balancers are here, how each is configured, started and stopped. It is
# sourced, not run, after bench-lib.sh; `only`, `work`, `workers` and `binary` come from bench-l7.sh.

# shellcheck disable=SC2034,SC2154  # bench-l7.sh uses what looks unused here, and sets what looks unset

TARGETS=(direct fourseven haproxy nginx)
declare -A TITLE=(
    [direct]="no balancer"
    [fourseven]="fourseven"
    [haproxy]="HAProxy"
    [nginx]="nginx"
)
BACKENDS=3
BACKEND_TLS_PORT=8443
POOLED_PORT=80
NEW_PORT=81
TLS_PORT=443
# More than any run opens.
MOST_CONNECTIONS=30000

choose_targets() {
    local target
    check_only
    for target in "${TARGETS[@]}"; do
        case $target in
        haproxy) wants haproxy haproxy ;;
        nginx) wants nginx nginx ;;
        *) wants "$target" ;;
        esac
    done
    say_what_is_missing
}

# ---- configurations: the same three services for every balancer -------------------------------------------
#
# pooled and new speak HTTP, and differ in where upstreams come from; tls is pooled, behind TLS, with HTTP/2 and
# HTTP/1.1. Backends speak HTTP/1.1 without TLS. What the proxies limit by default is lifted where a run would meet
# the limit: requests a connection, connections, idle time. (HAProxy asks for two files a connection, and by default
# does not start where it cannot have them; an idle one takes one only.)

make_certificate() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=bench.example.com \
        -addext "subjectAltName=IP:$VIP4,DNS:bench.example.com" -keyout "$work/key.pem" -out "$work/chain.pem" 2>"$work/openssl.log" ||
        die "openssl cannot make a certificate: $(tail -n 1 "$work/openssl.log")"
    cat "$work/chain.pem" "$work/key.pem" >"$work/both.pem"
}

write_configurations() {
    local n members='' haproxy='' nginx=''
    for ((n = 1; n <= BACKENDS; n++)); do
        members+="\"$(backend4 "$n"):$HTTP_PORT\", "
        haproxy+="    server b$n $(backend4 "$n"):$HTTP_PORT"$'\n'
        nginx+="server $(backend4 "$n"):$HTTP_PORT; "
    done
    members=${members%, }

    cat >"$work/fourseven.toml" <<END
[tun]
name   = "fs0"
io     = "auto"
queues = $workers
local  = ["10.47.3.0/24"]

[[service]]
name      = "pooled"
mode      = "l7"
listen    = ["tcp/$VIP4:$POOLED_PORT"]
upstreams = "pool"
backends  = [$members]

[[service]]
name      = "new"
mode      = "l7"
listen    = ["tcp/$VIP4:$NEW_PORT"]
upstreams = "new"
backends  = [$members]

[[service]]
name      = "tls"
mode      = "l7"
listen    = ["tcp/$VIP4:$TLS_PORT"]
upstreams = "pool"
tls       = [{ chain = "$work/chain.pem", key = "$work/key.pem" }]
backends  = [$members]
END

    cat >"$work/haproxy.cfg" <<END
global
    nbthread $workers
    no strict-limits
    maxconn $MOST_CONNECTIONS
defaults
    mode http
    maxconn $MOST_CONNECTIONS
    timeout connect 5s
    timeout client 180s
    timeout server 180s
    timeout http-keep-alive 180s
    balance roundrobin
listen pooled
    bind $VIP4:$POOLED_PORT
    http-reuse always
$haproxy
listen new
    bind $VIP4:$NEW_PORT
    http-reuse never
    option http-server-close
$haproxy
listen tls
    bind $VIP4:$TLS_PORT ssl crt $work/both.pem alpn h2,http/1.1
    http-reuse always
$haproxy
END

    cat >"$work/nginx.conf" <<END
user root;
daemon off;
pid $work/nginx.pid;
error_log stderr warn;
worker_processes $workers;
worker_rlimit_nofile $((2 * MOST_CONNECTIONS));
events { worker_connections $MOST_CONNECTIONS; }
http {
    access_log off;
    keepalive_timeout 180s;
    keepalive_requests 1000000000;
    client_body_temp_path $work/nginx-body;
    proxy_temp_path $work/nginx-proxy;
    fastcgi_temp_path $work/nginx-fastcgi;
    uwsgi_temp_path $work/nginx-uwsgi;
    scgi_temp_path $work/nginx-scgi;
    proxy_http_version 1.1;
    upstream pooled { $nginx keepalive 256; keepalive_requests 1000000000; }
    upstream new { $nginx }
    server {
        listen $VIP4:$POOLED_PORT reuseport;
        location / { proxy_pass http://pooled; proxy_set_header Connection ""; }
    }
    server {
        listen $VIP4:$NEW_PORT reuseport;
        location / { proxy_pass http://new; proxy_set_header Connection close; }
    }
    server {
        listen $VIP4:$TLS_PORT ssl http2 reuseport;
        ssl_certificate $work/chain.pem;
        ssl_certificate_key $work/key.pem;
        ssl_protocols TLSv1.2 TLSv1.3;
        location / { proxy_pass http://pooled; proxy_set_header Connection ""; }
    }
}
END
}

# ---- starting and stopping one balancer ---------------------------------------------------------------------

start_target() {
    case $1 in
    direct) ;;
    fourseven) start_fourseven "$work/fourseven.toml" ;;
    haproxy) start_proxy "$TLS_PORT" haproxy -db -f "$work/haproxy.cfg" ;;
    nginx) start_proxy "$TLS_PORT" nginx -p "$work" -c "$work/nginx.conf" ;;
    esac
}

stop_target() { [ "$1" = direct ] || stop_balancer "$1"; }

# memory_of TARGET: KB of memory that its processes have.
memory_of() {
    local where=lb
    [ "$1" != direct ] || where=b1
    ip netns pids "$(ns "$where")" | while read -r pid; do
        sed -n 's/^VmRSS:[[:space:]]*\([0-9]*\).*/\1/p' "/proc/$pid/status" 2>/dev/null || true
    done | awk '{ sum += $1 } END { print sum + 0 }'
}
