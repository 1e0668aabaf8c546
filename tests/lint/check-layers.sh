#!/bin/sh
# SPDX-License-Identifier: MIT
# The arrows of the design: who may include whom.  No cycle among the headers,
# and <curl/curl.h> in one file only.
set -u
cd "${DZ_TOP:-.}" || exit 1

# Edges "FILE HEADER" of our own includes.
edges=$(git ls-files '*.c' '*.h' '*.S' | xargs grep -H '^# *include "' |
	sed 's/^\([^:]*\):[^"]*"\([^"]*\)".*/\1 \2/')

bad=$(echo "$edges" | awk '
	# FROM may include TO when one of its rows matches.
	function allowed(from, to) {
		if (from ~ /^tests\//) return 1
		# hooks.def is a list, not code: the names of what was counted.
		if (from ~ /^tools\/(totals|hooked|trace_calls)\.c/ && to == "shim/hooks.def") return 1
		if (from ~ /^tools\//) return to ~ /^(tools|cache)\// || to ~ /^(include\/)?deltazero\.h$/
		if (from ~ /^shim\//)
			return to ~ /^shim\// || to ~ /^(include\/)?deltazero\.h$/ ||
				to ~ /^cache\/(engine|config|log|stats|sys|base)\.h$/
		if (from ~ /^cache\/blob\/http/)
			return to ~ /^cache\/blob\/[a-z_]*\.h$/ || to ~ /^cache\/(base|config|fd|log|sys|stats)\.h$/
		if (from ~ /^cache\/blob\//)
			return to ~ /^cache\/blob\// || to ~ /^cache\/(base|config|connstr|hash|log|sys|stats)\.h$/
		if (from ~ /^cache\//) return to ~ /^cache\//
		if (from ~ /^include\//) return 0
		return 0
	}
	!allowed($1, $2) { print $1 " must not include " $2 }')

curl=$(git ls-files '*.c' '*.h' | xargs grep -l '<curl/' | grep -v -e '^cache/blob/http[a-z_]*\.[ch]$' -e '^tests/' |
	sed 's/$/ must not include <curl\/...>: cache\/blob\/http.c does/')

cycle=$(echo "$edges" | grep '^[^ ]*\.h ' | tsort 2>&1 >/dev/null)

[ -z "$bad$curl$cycle" ] && exit 0
[ -z "$bad" ] || echo "$bad"
[ -z "$curl" ] || echo "$curl"
[ -z "$cycle" ] || echo "headers include each other: $cycle"
exit 1
