#!/usr/bin/env bash
# Runs the HTTP cache tests (npm http-cache-tests) against a cleartext layer-7 VIP with a cache, and compares what has
# passed with passed.txt beside this script: no pass may be lost, and new ones are to be kept.
#
# usage: run.sh [--bless] [--verbose] [--one TEST]
#
#   --bless     writes passed.txt anew
#   --verbose   shows what the suite says of each failed test
#   --one TEST  runs this test alone, and shows all that was said by both ends
#
# HTTP_CACHE_TESTS  the folder of the suite, if it is not where `run.sh --install` puts it: in target/tools/http-cache-tests
# FOURSEVEN         the balancer, if it is neither built in target/ nor on the PATH
# FOURSEVEN_PREFIX  prefix of the namespaces' names (fs-cache)
#
# Client, balancer and origin are network namespaces, gone at the end. Ends with 77 where the machine does not
# allow what is needed (root, a TUN node, node), and says what lacks.
set -euo pipefail

export FOURSEVEN_PREFIX=${FOURSEVEN_PREFIX:-fs-cache}
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
# shellcheck source-path=SCRIPTDIR source=../../netns-scripts/lib.sh
. "$root/netns-scripts/lib.sh"

MISSING=77
VERSION=0.4.5
ORIGIN_PORT=8000
installed=$root/target/tools/http-cache-tests
bless=no
verbose=no
one=
while [ $# -gt 0 ]; do
    case $1 in
    --bless) bless=yes ;;
    --verbose) verbose=yes ;;
    --one)
        [ $# -gt 1 ] || usage_error "--one needs the name of a test"
        one=$2
        shift
        ;;
    --install)
        # The suite, and the one package that its client imports; its other ones are for its web page.
        mkdir -p "$installed"
        cd "$installed"
        exec npm install --silent --no-save --no-audit --no-fund --ignore-scripts --prefix "$installed" \
            "http-cache-tests@$VERSION"
        ;;
    -h | --help)
        help_of "$0"
        exit
        ;;
    *) usage_error "unknown argument: $1" ;;
    esac
    shift
done

missing() {
    note "${0##*/}: $*"
    exit "$MISSING"
}

[ "$(id -u)" -eq 0 ] || missing "making network namespaces takes root"
have ip || missing "\`ip\` is missing: install iproute2"
have node || missing "\`node\` is missing: install nodejs"
[ -e /dev/net/tun ] || missing "there is no TUN node, /dev/net/tun"
suite=${HTTP_CACHE_TESTS:-$installed/node_modules/http-cache-tests}
[ -e "$suite/cli.mjs" ] || missing "http-cache-tests is missing: $0 --install"
binary=$(fourseven_binary)
[ -n "$binary" ] || missing "fourseven is not built: cargo build"

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
backends = ["$(backend4 1):$ORIGIN_PORT"]
cache    = { max_bytes = "64MiB" }
END
# The suite is configured by what npm would set; it reads files below its own folder.
cd "$suite"
export npm_config_protocol=http npm_config_port=$ORIGIN_PORT npm_config_pidfile=$work/origin.pid
export npm_config_base=http://$VIP4 npm_config_id=$one npm_package_config_id=
start_in b1 origin node --no-warnings server/server.mjs
start_in lb balancer "$binary" run -c "$work/fourseven.toml"
for _ in {1..200}; do
    if listens b1 "$ORIGIN_PORT" && grep '^ready' "$RUN_DIR/balancer.log" >/dev/null 2>&1; then
        break
    fi
    running balancer >/dev/null || die "the balancer does not start: $(tail -n 1 "$RUN_DIR/balancer.log")"
    sleep 0.05
done
listens b1 "$ORIGIN_PORT" || die "the origin does not start: $(tail -n 3 "$RUN_DIR/origin.log")"

if [ -n "$one" ]; then
    in_ns client timeout 60 node --no-warnings cli.mjs
    cat "$RUN_DIR/origin.log"
    exit
fi
in_ns client timeout 240 node --no-warnings cli.mjs >"$work/result.json" ||
    die "the suite did not come to its end: $(tail -n 3 "$work/result.json")"
running balancer >/dev/null || die "the balancer has ended: $(tail -n 3 "$RUN_DIR/balancer.log")"
node "$here/judge.mjs" "$suite" "$work/result.json" "$work"

if [ "$verbose" = yes ]; then
    cat "$work/failed"
fi
if [ "$bless" = yes ]; then
    cp "$work/passed" "$here/passed.txt"
    exit
fi
# Tests of kind `check` ask how a cache behaves; no answer is wrong.
compared() { grep -v '^check ' "$1" | LC_ALL=C sort; }
lost=$(LC_ALL=C comm -13 <(compared "$work/passed") <(compared "$here/passed.txt"))
new=$(LC_ALL=C comm -23 <(compared "$work/passed") <(compared "$here/passed.txt"))
if [ -n "$lost" ]; then
    note "These have passed before:"
    note "$lost"
    note "$(grep -F -e "${lost//$'\n'/:$'\n'}:" "$work/failed")"
fi
if [ -n "$new" ]; then
    note "These pass now; keep them by $0 --bless:"
    note "$new"
fi
[ -z "$lost" ]
