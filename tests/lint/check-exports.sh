#!/bin/sh
# SPDX-License-Identifier: MIT
# The library exports the doors of hooks.def and the API of include/deltazero.h,
# without a version, and nothing else.
set -u
cd "${DZ_TOP:-.}" || exit 1
lib=${DZ_BUILD:-build}/libdeltazero.so
[ -f "$lib" ] || { echo "$lib: not built"; exit 1; }

work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
{
	sed -n 's/^\(HOOK\|ALIAS\)(\([A-Za-z0-9_]*\),.*/\2/p' shim/hooks.def
	cat include/*.h 2>/dev/null | grep -o '\<deltazero_[a-z0-9_]*(' | tr -d '('
} | sort -u >"$work/listed"
nm -D --defined-only "$lib" | awk '{ print $3 }' | sort -u >"$work/exported"
if grep '@' "$work/exported"; then
	echo "$lib: a symbol with a version takes nobody's place"
	exit 1
fi
diff "$work/listed" "$work/exported" >"$work/diff" && exit 0
sed -n 's/^< /listed, not exported: /p; s/^> /exported, not listed: /p' "$work/diff"
exit 1
