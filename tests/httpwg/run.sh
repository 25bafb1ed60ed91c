#!/usr/bin/env bash
# Runs httpwg, the HTTP/2 conformance suite, against a cleartext layer-7 VIP, and compares what has passed with
# passed.txt beside this script: no pass may be lost, and new ones are to be kept.
#
# usage: run.sh [--bless] [--verbose]
#
#   --bless     writes passed.txt anew
#   --verbose   shows what the suite says of each failed case
#
# HTTPWG            the suite's program, if it is neither in target/tools/bin nor on the PATH; made by
#                   cargo install --locked --root target/tools --version 0.2.5 httpwg-cli
# FOURSEVEN         the balancer, if it is neither built in target/ nor on the PATH
# FOURSEVEN_PREFIX  prefix of the namespaces' names (fs-httpwg)
#
# Client, balancer and backend are network namespaces, gone at the end. Ends with 77 where the machine does not
# allow what is needed (root, a TUN node, io_uring: the suite's own sockets are made by it), and says what lacks.
set -euo pipefail

export FOURSEVEN_PREFIX=${FOURSEVEN_PREFIX:-fs-httpwg}
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
# shellcheck source-path=SCRIPTDIR source=../../netns-scripts/lib.sh
. "$root/netns-scripts/lib.sh"

MISSING=77
bless=no
verbose=no
for argument in "$@"; do
    case $argument in
    --bless) bless=yes ;;
    --verbose) verbose=yes ;;
    -h | --help)
        help_of "$0"
        exit
        ;;
    *) usage_error "unknown argument: $argument" ;;
    esac
done

missing() {
    note "${0##*/}: $*"
    exit "$MISSING"
}

[ "$(id -u)" -eq 0 ] || missing "making network namespaces takes root"
have ip || missing "\`ip\` is missing: install iproute2"
[ -e /dev/net/tun ] || missing "there is no TUN node, /dev/net/tun"
suite=${HTTPWG:-$root/target/tools/bin/httpwg}
[ -x "$suite" ] || suite=$(command -v httpwg) ||
    missing "httpwg is missing: cargo install --locked --root target/tools --version 0.2.5 httpwg-cli"
binary=$(fourseven_binary)
[ -n "$binary" ] || missing "fourseven is not built: cargo build"
if [ "$(cat /proc/sys/kernel/io_uring_disabled 2>/dev/null || echo 0)" = 2 ]; then
    missing "io_uring is switched off: sysctl kernel.io_uring_disabled=0"
fi

need_root
need_run_dir
work=$(mktemp -d)
trap 'remove_network >/dev/null; rm -rf "$work"' EXIT
remove_network >/dev/null
need_run_dir
ensure_network 1 1500 1500 >/dev/null

cat >"$work/fourseven.toml" <<END
[tun]
name  = "fs0"
local = ["10.47.3.0/24"]

[[service]]
name     = "web"
mode     = "l7"
listen   = ["tcp/$VIP4:80"]
backends = ["$(backend4 1):$HTTP_PORT"]
END
start_in b1 backend "$binary" lab serve --name b1 --http "[::]:$HTTP_PORT"
start_in lb balancer "$binary" run -c "$work/fourseven.toml"
for _ in {1..200}; do
    if listens b1 "$HTTP_PORT" && grep '^ready' "$RUN_DIR/balancer.log" >/dev/null 2>&1; then
        break
    fi
    running balancer >/dev/null || die "the balancer does not start: $(tail -n 1 "$RUN_DIR/balancer.log")"
    sleep 0.05
done

# It fails where a case does; its last lines count them.
in_ns client timeout 120 "$suite" --frame-timeout 2000 --connect-timeout 5000 --address "$VIP4:80" >"$work/said" 2>&1 || true
sed -i 's/\x1b\[[0-9;]*m//g' "$work/said"
if ! grep -a ' tests in .* against ' "$work/said" >/dev/null; then
    # Where a container forbids io_uring, setting it up fails by EPERM or ENOSYS.
    if grep -aE 'code: (1|38),' "$work/said" >/dev/null; then
        missing "io_uring is not allowed here: $(grep -aE 'code: (1|38),' "$work/said" | head -n 1)"
    fi
    die "the suite did not come to its end: $(tail -n 3 "$work/said")"
fi
running balancer >/dev/null || die "the balancer has ended: $(tail -n 3 "$RUN_DIR/balancer.log")"

results() { sed -n "s/^$1 Test $2: //p" "$work/said" | LC_ALL=C sort -u; }
by_chance() { sed -n 's/^[^#]/&/p' "$here/by-chance.txt" | LC_ALL=C sort -u; }
results ✅ passed | LC_ALL=C comm -23 - <(by_chance) >"$work/passed"
results ❌ failed | LC_ALL=C comm -23 - <(by_chance) >"$work/failed"
[ -s "$work/passed" ] || die "not one case has passed: $(tail -n 3 "$work/said")"

if [ "$verbose" = yes ]; then
    grep -aE '^❌|^ +0: ' "$work/said" | grep -a -A1 '^❌' | grep -av '^--' || true
fi
say "$(wc -l <"$work/passed") passed, $(wc -l <"$work/failed") failed, $(by_chance | wc -l) go by chance"

if [ "$bless" = yes ]; then
    cp "$work/passed" "$here/passed.txt"
    exit
fi
lost=$(LC_ALL=C comm -13 "$work/passed" "$here/passed.txt")
new=$(LC_ALL=C comm -23 "$work/passed" "$here/passed.txt")
if [ -n "$lost" ]; then
    note "These have passed before:"
    note "$lost"
fi
if [ -n "$new" ]; then
    note "These pass now; keep them by $0 --bless:"
    note "$new"
fi
[ -z "$lost$new" ]
