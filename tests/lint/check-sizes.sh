#!/bin/sh
# SPDX-License-Identifier: MIT
# Lines a function (100), lines a file (800), columns a line (100, a tab is 8).
set -u
cd "${DZ_TOP:-.}" || exit 1
command -v ctags >/dev/null || { echo 'no ctags'; exit 77; }

list=$(mktemp) || exit 1
trap 'rm -f "$list"' EXIT
git ls-files '*.c' '*.h' >"$list"
{
	ctags --kinds-C=f --fields=+ne --output-format=xref --_xformat='%F %n %e %N' -L "$list" 2>/dev/null |
		awk '$3 - $2 + 1 > 100 { printf "%s:%d: %s has %d lines\n", $1, $2, $4, $3 - $2 + 1 }'
	# shellcheck disable=SC2016 # awk's own variables
	xargs awk '
		FNR == 1 && name { if (lines > 800) print name ": has " lines " lines" }
		FNR == 1 { name = FILENAME }
		{ lines = FNR; wide = $0
		  while ((at = index(wide, "\t")) > 0)
			wide = substr(wide, 1, at - 1) substr("        ", 1, 8 - (at - 1) % 8) substr(wide, at + 1)
		  if (length(wide) > 100) print FILENAME ":" FNR ": has " length(wide) " columns" }
		END { if (lines > 800) print name ": has " lines " lines" }' <"$list"
} | { ! grep .; }
