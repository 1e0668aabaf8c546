#!/bin/sh
# SPDX-License-Identifier: MIT
# Every libc name that reaches a file (symbols.txt) is hooked, or skipped with a
# reason; a name stands in hooks.def once.
set -u
cd "${DZ_TOP:-.}" || exit 1

rows=$(sed -n 's/^\(HOOK\|ALIAS\|SKIP\)(\([A-Za-z0-9_]*\),.*/\2/p' shim/hooks.def)
ret=0
twice=$(echo "$rows" | sort | uniq -d | tr '\n' ' ')
[ -z "$twice" ] || { echo "shim/hooks.def: more than once: $twice"; ret=1; }
missing=$(grep -v '^#' tests/lint/symbols.txt | sort -u | while read -r name; do
	echo "$rows" | grep -qx "$name" || printf '%s ' "$name"
done)
[ -z "$missing" ] || { echo "shim/hooks.def: neither hooked nor skipped: $missing"; ret=1; }
# "left to libc, and why that is right".
bare=$(sed -n 's/^SKIP(\([^,]*\), "[^a-zA-Z]*.\{0,6\}")$/\1/p' shim/hooks.def | tr '\n' ' ')
[ -z "$bare" ] || { echo "shim/hooks.def: skipped without a reason: $bare"; ret=1; }
# `make symbols` prints each of them: name, status and what for.
printed=$(sh tests/lint/symbols.sh | awk -F'\t' 'NF == 3 && $3 { print $1 }' | sort)
[ "$printed" = "$(echo "$rows" | sort)" ] || { echo "make symbols: not the names of shim/hooks.def"; ret=1; }
# An alias is of a hook, and in the same family.
wrong=$(awk -F'[(), ]+' '
	/^HOOK/ { family[$2] = $3 }
	/^ALIAS/ { of[$2] = $3; in_family[$2] = $4 }
	END { for (a in of) if (family[of[a]] != in_family[a]) printf "%s ", a }' shim/hooks.def)
[ -z "$wrong" ] || { echo "shim/hooks.def: alias of no hook of its family: $wrong"; ret=1; }
exit $ret
