#!/usr/bin/env bash
# What the scripts beside this file share: names, addresses, small tools. It is sourced, not run.
#
# The network is nothing but named network namespaces and veth pairs between them. Each pair is made
# inside the namespaces, so the namespace in which a script is started is never changed, and everything
# that is ours is found by the prefix of the namespaces' names:
#
#   fs-client ── fs-lb ─┬─ fs-b1
#                       ├─ fs-b2
#                       └─ fs-b3
#
# FOURSEVEN_PREFIX gives another prefix than `fs`, so that two networks can stand side by side.

# shellcheck disable=SC2034  # the scripts that source this file use what looks unused here

PREFIX=${FOURSEVEN_PREFIX:-fs}
RUN_DIR=${XDG_RUNTIME_DIR:-/tmp}/fourseven-$PREFIX
BACKENDS_MAX=100

HTTP_PORT=8080
ECHO_PORT=7

say() { printf '%s\n' "$*"; }
note() { printf '%s\n' "$*" >&2; }
die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}
usage_error() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    printf 'Try: %s --help\n' "$0" >&2
    exit 2
}

# The comment at the top of a script is its help text.
help_of() { sed -n '2,/^[^#]/ s/^# \{0,1\}//p' "$1"; }

have() { command -v "$1" >/dev/null 2>&1; }

is_number() { [[ $1 =~ ^[0-9]{1,5}$ ]]; }

# ---- names and addresses ----------------------------------------------------------------------------

ns() { printf '%s-%s' "$PREFIX" "$1"; }
in_ns() {
    local name
    name=$(ns "$1")
    shift
    ip netns exec "$name" "$@"
}
ip_in() {
    local name
    name=$(ns "$1")
    shift
    ip -n "$name" "$@"
}

VIP4=10.47.0.1
VIP6=fd47::1
CLIENT4=10.47.1.2
CLIENT6=fd47:1::2
CLIENT_GATEWAY4=10.47.1.1
CLIENT_GATEWAY6=fd47:1::1
BACKEND_GATEWAY4=10.47.2.1
BACKEND_GATEWAY6=fd47:2::1

backend4() { printf '10.47.2.%d' $(($1 + 1)); }
backend6() { printf 'fd47:2::%x' $(($1 + 1)); }

# The namespaces that exist and carry our prefix, one a line, by the part after it.
our_namespaces() {
    ip netns list 2>/dev/null | awk -v prefix="$PREFIX-" '
        index($1, prefix) == 1 {
            rest = substr($1, length(prefix) + 1)
            if (rest ~ /^(client|lb|b[0-9]+)$/) print rest
        }' | sort -V
}

ns_exists() { our_namespaces | grep -x "$1" >/dev/null; }

# ---- what must be there -----------------------------------------------------------------------------

need_iproute2() { have ip || die "\`ip\` is missing: install iproute2"; }

# Making namespaces takes root, or the root that a user namespace gives.
need_root() {
    if [ "$(id -u)" -ne 0 ]; then
        die "making network namespaces takes root. Either run \`sudo $0\`, or take a private world in which
you are root, and run this script in it (all of it is gone when that shell ends):
    unshare -rnm bash"
    fi
    need_iproute2
    { mkdir -p /run/netns && [ -w /run/netns ]; } 2>/dev/null && return
    # In a user namespace /run still belongs to the real root. Our own mount namespace may cover it.
    read -r _ _ count </proc/self/uid_map
    if [ "$count" != 4294967295 ] && mount -t tmpfs tmpfs /run 2>/dev/null && mkdir -p /run/netns; then
        return
    fi
    die "cannot write to /run/netns. In a user namespace, give it a mount namespace too: unshare -rnm bash"
}

# The run directory holds pid files, and may lie in /tmp: nobody else may have laid it there.
need_run_dir() {
    mkdir -m 700 "$RUN_DIR" 2>/dev/null || [ -d "$RUN_DIR" ] || die "cannot make $RUN_DIR"
    if [ -L "$RUN_DIR" ] || [ ! -O "$RUN_DIR" ]; then
        die "$RUN_DIR belongs to somebody else; remove it, or set XDG_RUNTIME_DIR"
    fi
}

# The program: $FOURSEVEN (`none` does without), else the newest one built here, else the one installed.
# Empty if there is none.
fourseven_binary() {
    local here candidate newest=
    if [ -n "${FOURSEVEN:-}" ]; then
        [ "$FOURSEVEN" = none ] || printf '%s' "$FOURSEVEN"
        return
    fi
    here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
    for candidate in "${CARGO_TARGET_DIR:-$here/target}"/{release,debug}/fourseven; do
        if [ -x "$candidate" ] && { [ -z "$newest" ] || [ "$candidate" -nt "$newest" ]; }; then
            newest=$candidate
        fi
    done
    if [ -n "$newest" ]; then
        printf '%s' "$newest"
    else
        command -v fourseven || true
    fi
}

# ---- processes: only those that we started, by pid ----------------------------------------------------

# A pid alone may have gone to another process since; with its start time it cannot. Empty for a process
# that is dead, also while nobody has collected it yet.
start_time() { { cat "/proc/$1/stat" 2>/dev/null || true; } | sed 's/^.*) //' | awk '$1 !~ /[ZX]/ { print $20 }'; }

# start_in NAMESPACE NAME COMMAND…: runs it in the background, its pid and start time in NAME.pid, what it
# says in NAME.log. Each `exec` keeps the pid; `setsid` keeps a closing terminal's signals away.
start_in() {
    local where=$1 name=$2
    shift 2
    (exec ip netns exec "$(ns "$where")" setsid "$@") </dev/null >"$RUN_DIR/$name.log" 2>&1 &
    printf '%s %s %s\n' "$!" "$(start_time $!)" "$(netns_inode "$where")" >"$RUN_DIR/$name.pid"
}

netns_inode() { stat -Lc %i "/run/netns/$(ns "$1")" 2>/dev/null; }

# Prints the pid in NAME.pid if that very process still runs; with a namespace, only if it runs in it.
running() {
    local name=$1 where=${2:-} pid began inode
    [ -r "$RUN_DIR/$name.pid" ] || return 1
    read -r pid began inode <"$RUN_DIR/$name.pid" || return 1
    [ -n "$began" ] && [ "$(start_time "$pid")" = "$began" ] || return 1
    [ -z "$where" ] || [ "$inode" = "$(netns_inode "$where")" ] || return 1
    printf '%s' "$pid"
}

# Ends the process of NAME.pid: asks, waits three seconds, insists.
stop() {
    local name=$1 pid turn
    if pid=$(running "$name"); then
        kill "$pid" 2>/dev/null || true
        for turn in {1..60}; do
            running "$name" >/dev/null || break
            sleep 0.05
            [ "$turn" -lt 60 ] || kill -KILL "$pid" 2>/dev/null || true
        done
    fi
    rm -f "$RUN_DIR/$name.pid"
}

# listens NAMESPACE PORT: whether a TCP port listens there; /proc tells without any tool.
listens() {
    in_ns "$1" cat /proc/net/tcp /proc/net/tcp6 2>/dev/null |
        awk -v port="$(printf ':%04X$' "$2")" '$2 ~ port && $4 == "0A" { found = 1 } END { exit !found }'
}

# ---- the pieces of the network, each made only where it is not there yet -------------------------------

ensure_ns() {
    local name
    name=$(ns "$1")
    # A name whose namespace is gone (after a crash, say) is a plain file that nothing can enter.
    if [ -e "/run/netns/$name" ] && ! ip netns exec "$name" true 2>/dev/null; then
        ip netns del "$name" 2>/dev/null || rm -f "/run/netns/$name"
    fi
    [ -e "/run/netns/$name" ] || ip netns add "$name"
    ip -n "$name" link set lo up
    # Nobody announces a router here; an address is never in doubt, as every link has two ends.
    set_sysctl "$1" net/ipv6/conf/all/accept_ra 0
    set_sysctl "$1" net/ipv6/conf/default/accept_dad 0
}

# set_sysctl NAMESPACE PATH VALUE. Written by the shell: procps may be missing. A kernel without IPv6 lacks some.
set_sysctl() {
    # shellcheck disable=SC2016  # the inner shell expands these
    in_ns "$1" sh -c '[ ! -e "/proc/sys/$1" ] || echo "$2" >"/proc/sys/$1"' sh "$2" "$3"
}

# "OWN_INDEX PEER_INDEX" of a veth's end; nothing where there is none.
link_ends() { { ip_in "$1" -o link show dev "$2" 2>/dev/null || true; } | sed -n 's/^\([0-9]*\): [^@]*@if\([0-9]*\):.*/\1 \2/p'; }

# ensure_link BALANCER_DEVICE OTHER_NAMESPACE MTU: a veth from the balancer to `eth0` of the other namespace.
ensure_link() {
    local device=$1 other=$2 mtu=$3 near far
    near=$(link_ends lb "$device")
    far=$(link_ends "$other" eth0)
    # Each end names the other's index; anything else is half a link, or leads somewhere else.
    if [ -z "$near" ] || [ "$near" != "${far#* } ${far% *}" ]; then
        ip_in lb link del dev "$device" 2>/dev/null || true
        ip_in "$other" link del dev eth0 2>/dev/null || true
        ip_in lb link add name "$device" type veth peer name eth0 netns "$(ns "$other")"
    fi
    ip_in lb link set dev "$device" mtu "$mtu" up
    ip_in "$other" link set dev eth0 mtu "$mtu" up
}

have_ipv6() { [ -e /proc/sys/net/ipv6 ]; }

# ensure_address NAMESPACE DEVICE ADDRESS/LENGTH
ensure_address() {
    case $3 in
    *:*) ! have_ipv6 || ip_in "$1" addr replace "$3" dev "$2" nodad ;;
    *) ip_in "$1" addr replace "$3" dev "$2" ;;
    esac
}

# ensure_route NAMESPACE ROUTE…
ensure_route() {
    local where=$1
    shift
    case $1$3 in
    *:*) ! have_ipv6 || ip_in "$where" -6 route replace "$@" ;;
    *) ip_in "$where" route replace "$@" ;;
    esac
}

ensure_client() {
    local mtu=$1
    ensure_ns client
    ensure_link client client "$mtu"
    ensure_address lb client $CLIENT_GATEWAY4/24
    ensure_address lb client $CLIENT_GATEWAY6/64
    ensure_address client eth0 $CLIENT4/24
    ensure_address client eth0 $CLIENT6/64
    ensure_route client default via $CLIENT_GATEWAY4
    ensure_route client default via $CLIENT_GATEWAY6
}

# The balancer's address is the same on every backend's link, so one route leads to each backend, and no
# bridge is needed. A backend announces the segment size of an Ethernet even where its link is smaller: as
# when the small link lies further on. Path-MTU discovery has to find out, and can be watched.
ensure_backend() {
    local n=$1 mtu=$2 four six
    four=$(backend4 "$n")
    six=$(backend6 "$n")
    ensure_ns "b$n"
    ensure_link "b$n" "b$n" "$mtu"
    ensure_address lb "b$n" $BACKEND_GATEWAY4/32
    ensure_address lb "b$n" $BACKEND_GATEWAY6/128
    ensure_route lb "$four/32" dev "b$n"
    ensure_route lb "$six/128" dev "b$n"
    ensure_address "b$n" eth0 "$four/32"
    ensure_address "b$n" eth0 "$six/128"
    ensure_route "b$n" $BACKEND_GATEWAY4/32 dev eth0
    ensure_route "b$n" $BACKEND_GATEWAY6/128 dev eth0
    ensure_route "b$n" default via $BACKEND_GATEWAY4 advmss 1460
    ensure_route "b$n" default via $BACKEND_GATEWAY6 advmss 1440
}

# ensure_network BACKENDS MTU_BACKEND MTU_CLIENT: all of it, with plain routing on in the balancer.
ensure_network() {
    local backends=$1 mtu_backend=$2 mtu_client=$3 n
    ensure_ns lb
    set_sysctl lb net/ipv4/ip_forward 1
    set_sysctl lb net/ipv6/conf/all/forwarding 1
    ensure_client "$mtu_client"
    for ((n = 1; n <= backends; n++)); do
        ensure_backend "$n" "$mtu_backend"
    done
    for n in $(our_namespaces); do
        case $n in
        b*) [ "${n#b}" -le "$backends" ] || remove_ns "$n" ;;
        esac
    done
}

# Takes a namespace and its links away. A namespace lives on, without a name, while a process is in it; so
# its links go first, and what stays is said. Prints the pids that are left.
remove_ns() {
    local name device
    name=$(ns "$1")
    stop "server-$1"
    # Ends of veths only: whatever else is in there goes with the namespace.
    for device in $(ip -n "$name" -o link show type veth 2>/dev/null | sed -n 's/^[0-9]*: \([^@:]*\).*/\1/p'); do
        ip -n "$name" link del dev "$device" 2>/dev/null || true
    done
    ip netns pids "$name" 2>/dev/null | tr '\n' ' ' || true
    ip netns del "$name" 2>/dev/null || rm -f "/run/netns/$name"
}

# Takes away all namespaces of ours and ends all processes that we started. Prints the pids that are left
# in the namespaces.
remove_network() {
    local name file
    for name in $(our_namespaces); do
        remove_ns "$name"
    done
    [ -d "$RUN_DIR" ] || return 0
    need_run_dir
    # A namespace that somebody else removed may have left its server behind.
    for file in "$RUN_DIR"/*.pid; do
        [ -e "$file" ] || continue
        file=${file##*/}
        stop "${file%.pid}"
    done
    rm -rf "$RUN_DIR"
}

# ---- pictures -----------------------------------------------------------------------------------------

# The global addresses of a device, as they really are.
addresses() { ip_in "$1" -o addr show dev "$2" scope global 2>/dev/null | awk '{ print $4 }'; }

mtu_of() { ip_in "$1" -o link show dev "$2" 2>/dev/null | sed -n 's/.* mtu \([0-9]*\).*/\1/p'; }

# draw_link LEFT_NAMESPACE LEFT_DEVICE RIGHT_NAMESPACE RIGHT_DEVICE REMARK: one line an address, a wire on the first.
draw_link() {
    paste -d '\t' <(addresses "$1" "$2") <(addresses "$3" "$4") | awk -F '\t' \
        -v left="$2" -v right="$4" -v mtu="$(mtu_of "$1" "$2")" -v remark="$5" '
        NR == 1 {
            printf "  %-7s %-15s ──── mtu %-5s ──── %-7s %-15s %s\n", left, $1, mtu, right, $2, remark
            next
        }
        { printf "  %-7s %-15s %19s %-7s %s\n", "", $1, "", "", $2 }'
}

routing_word() {
    if [ "$(in_ns lb cat /proc/sys/net/ipv4/ip_forward)" = 1 ]; then echo on; else echo off; fi
}

draw_network() {
    local n remark pid
    printf '\n  %-44s %s\n' "$(ns client)" "$(ns lb): routing $(routing_word)"
    draw_link client eth0 lb client ""
    printf '\n  %-44s %s\n' "$(ns lb)" "backends"
    for n in $(our_namespaces | grep '^b'); do
        remark="in $(ns "$n")"
        if pid=$(running "server-$n" "$n"); then
            remark="$remark: $(cat "$RUN_DIR/server-$n.what"), pid $pid"
        fi
        draw_link lb "$n" "$n" eth0 "$remark"
    done
    printf '\n  VIPs go to %s: the client has its default route there, as have the backends.\n\n' "$(ns lb)"
}
