#!/usr/bin/env bash
# Watches packets in the lab network with tcpdump, until Ctrl-C.
#
# usage: capture.sh [WHERE] [-i INTERFACE] [-c N] [-w FILE] [FILTER …]
#
#   WHERE         client, lb, b1, b2, … (lb)
#   -i INTERFACE  in lb: client, b1, b2, …, fs0 (the balancer's TUN); elsewhere eth0; `any` for all (any)
#   -c N          stops after N packets
#   -w FILE       writes a capture file instead of printing (- for stdout)
#   FILTER        as in tcpdump; without one, everything but ARP and neighbour discovery
#
# `capture.sh -i fs0` shows every packet twice: as it goes to the balancer, and as it comes back.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

where=lb
interface=any
options=()
writes=
quiet_neighbours='not arp and not (icmp6 and ip6[40] >= 133 and ip6[40] <= 137)'

if [[ ${1:-} =~ ^($PREFIX-)?(client|lb|b[0-9]+)$ ]]; then
    where=${BASH_REMATCH[2]}
    shift
fi
while [ $# -gt 0 ]; do
    case $1 in
    -i)
        interface=${2:-}
        [ -n "$interface" ] || usage_error "-i takes an interface"
        shift 2
        ;;
    -c)
        is_number "${2:-}" || usage_error "-c takes a number"
        options+=(-c "$2")
        shift 2
        ;;
    -w)
        writes=${2:-}
        [ -n "$writes" ] || usage_error "-w takes a file"
        options+=(-w "$writes")
        shift 2
        ;;
    -h | --help)
        help_of "$0"
        exit
        ;;
    --)
        shift
        break
        ;;
    -*) usage_error "unknown option: $1" ;;
    *) break ;;
    esac
done
filter="$*"

need_root
have tcpdump || die "\`tcpdump\` is missing: install tcpdump"
ns_exists "$where" || die "there is no namespace $(ns "$where"); ${0%/*}/up.sh makes it"
if [ "$interface" != any ]; then
    ip_in "$where" link show dev "$interface" >/dev/null 2>&1 ||
        die "$(ns "$where") has no interface $interface; it has: $(ip_in "$where" -o link show | sed -n 's/^[0-9]*: \([^@:]*\).*/\1/p' | paste -sd ' ')"
fi

here() { if [ "$where" = "$1" ]; then printf '[%s:%s]' "$(ns "$1")" "$interface"; else ns "$1"; fi; }
case $where in
b*) picture="$(here client) ──── $(here lb) ──── $(here "$where")" ;;
*) picture="$(here client) ──── $(here lb) ──── backends" ;;
esac
note ""
note "  $picture      capturing in [ ]; Ctrl-C ends"
note ""

# tcpdump gives up root before it opens its file, so it must become the user who asked. In a user namespace
# made by `unshare -r` nobody may change groups, and tcpdump stops at that; tshark does not try.
if grep deny /proc/self/setgroups >/dev/null 2>&1 && have tshark; then
    exec ip netns exec "$(ns "$where")" tshark -n -l -i "$interface" "${options[@]}" -f "${filter:-$quiet_neighbours}"
fi
exec ip netns exec "$(ns "$where")" tcpdump -n -l -Z "${SUDO_USER:-root}" -i "$interface" \
    "${options[@]}" "${filter:-$quiet_neighbours}"
