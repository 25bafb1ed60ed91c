#!/usr/bin/env bash
# Takes away what up.sh made: its servers, its links, its namespaces.
#
# usage: down.sh
#
# Only namespaces with our names go, and only processes that up.sh started end. Where there is nothing
# to take away, it says so and succeeds.
#
# FOURSEVEN_PREFIX  prefix of the namespaces' names (fs)
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

case ${1:-} in
'') ;;
-h | --help)
    help_of "$0"
    exit
    ;;
*) usage_error "unknown argument: $1" ;;
esac

need_root
names=$(our_namespaces)
left=$(remove_network)

if [ -z "$names" ]; then
    say "Nothing to take away: no namespace is called $PREFIX-client, $PREFIX-lb or $PREFIX-b1, $PREFIX-b2, …"
else
    say
    for name in $names; do
        say "  $(ns "$name")  ╳  gone"
    done
    say
fi
for pid in $left; do
    [ -d "/proc/$pid" ] || continue
    note "Still running, without a network now: $pid ($(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null))"
done
