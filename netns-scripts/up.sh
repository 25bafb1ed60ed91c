#!/usr/bin/env bash
# Makes the lab network by hand: a client, a balancer and backends, each a network namespace.
#
# usage: up.sh [--backends N] [--mtu-backend BYTES] [--mtu-client BYTES] [--serve]
#
#   --backends N         how many backends (3)
#   --mtu-backend BYTES  MTU of the links to the backends (1500); smaller than the client's shows
#                        path-MTU discovery at work
#   --mtu-client BYTES   MTU of the client's link (1500)
#   --serve              starts a backend in each backend namespace: HTTP on port 8080, and TCP and
#                        UDP echo on port 7, by `fourseven lab serve` where that is built, else HTTP
#                        alone by python3
#
# Running it again mends what is broken and changes nothing else; with other numbers it changes the
# network to those. down.sh takes everything away. The balancer routes between client and backends, so
# that each backend can be reached directly too. Nothing outside the namespaces is touched.
#
# FOURSEVEN_PREFIX  prefix of the namespaces' names (fs)
# FOURSEVEN         the program, if it is neither built in target/ nor on the PATH; `none` does without
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

backends=3
mtu_backend=1500
mtu_client=1500
serve=no

while [ $# -gt 0 ]; do
    case $1 in
    --backends | --mtu-backend | --mtu-client)
        is_number "${2:-}" || usage_error "$1 takes a number"
        case $1 in
        --backends) backends=$2 ;;
        --mtu-backend) mtu_backend=$2 ;;
        --mtu-client) mtu_client=$2 ;;
        esac
        shift
        ;;
    --serve) serve=yes ;;
    -h | --help)
        help_of "$0"
        exit
        ;;
    *) usage_error "unknown argument: $1" ;;
    esac
    shift
done

if [ "$backends" -lt 1 ] || [ "$backends" -gt "$BACKENDS_MAX" ]; then
    usage_error "--backends takes 1 to $BACKENDS_MAX"
fi
for mtu in "$mtu_backend" "$mtu_client"; do
    # Below 1280 a link carries no IPv6 (RFC 8200 section 5).
    if [ "$mtu" -lt 1280 ] || [ "$mtu" -gt 65535 ]; then
        usage_error "an MTU is 1280 to 65535 here"
    fi
done

# start_server N: in backend N, if it does not run there yet.
start_server() {
    local n=$1 name="server-b$1" binary dir
    running "$name" "b$n" >/dev/null && return
    stop "$name"
    binary=$(fourseven_binary)
    if [ -n "$binary" ]; then
        echo "http :$HTTP_PORT, echo :$ECHO_PORT" >"$RUN_DIR/$name.what"
        start_in "b$n" "$name" "$binary" lab serve --name "b$n" --http "[::]:$HTTP_PORT" \
            --tcp-echo "[::]:$ECHO_PORT" --udp-echo "[::]:$ECHO_PORT"
    elif have python3; then
        dir=$RUN_DIR/$name.d
        mkdir -p "$dir"
        echo "backend b$n" >"$dir/index.html"
        echo "http :$HTTP_PORT (python3)" >"$RUN_DIR/$name.what"
        start_in "b$n" "$name" python3 -m http.server "$HTTP_PORT" --bind :: --directory "$dir"
    else
        die "--serve: neither fourseven (cargo build --release) nor python3 is there; the network stands without servers"
    fi
}

wait_for_server() {
    local n=$1 turn
    for turn in {1..100}; do
        listens "b$n" "$HTTP_PORT" && return
        running "server-b$n" "b$n" >/dev/null || [ "$turn" -lt 5 ] || break
        sleep 0.05
    done
    die "the server in $(ns "b$n") does not listen on port $HTTP_PORT; its log ($RUN_DIR/server-b$n.log) ends:
$(tail -n 3 "$RUN_DIR/server-b$n.log")"
}

need_root
need_run_dir
ensure_network "$backends" "$mtu_backend" "$mtu_client" >/dev/null
if [ "$serve" = yes ]; then
    for ((n = 1; n <= backends; n++)); do
        start_server "$n"
    done
    for ((n = 1; n <= backends; n++)); do
        wait_for_server "$n"
    done
fi
draw_network

prompt=${SUDO_USER:+sudo }
say "Try:  ${prompt}ip netns exec $(ns client) ping -c 1 $(backend4 1)"
[ "$serve" = no ] || say "      ${prompt}ip netns exec $(ns client) curl http://$(backend4 1):$HTTP_PORT/"
say "      ${prompt}ip netns exec $(ns lb) fourseven run --mode l4 --vip tcp/$VIP4:80 --backend $(backend4 1):$HTTP_PORT"
