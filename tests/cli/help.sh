#!/bin/sh
# SPDX-License-Identifier: MIT
# Each command answers --help within 80 columns, and what it offers stands in the
# manual page; a wrong word is a usage error, 125.
set -u
dz=$DZ_BUILD/dz
page=$DZ_TOP/tools/man/dz.1
ret=0
fail() { echo "not so: $1"; ret=1; }

"$dz" --help >/dev/null || fail 'dz --help ends with 0'
for command in $("$dz" --list-commands); do
	text=$("$dz" "$command" --help) || fail "dz $command --help ends with 0"
	[ "$("$dz" help "$command")" = "$text" ] || fail "dz help $command says the same"
	echo "$text" | awk 'length($0) > 80 { exit 1 }' || fail "dz $command --help fits 80 columns"
	grep -q "^\.SS dz $command\$" "$page" || fail "dz $command has a section in dz.1"
	for option in $(echo "$text" | grep -oE '^ +(-[a-z], )?--[a-z-]+' | grep -oE -- '--[a-z-]+'); do
		[ "$option" = --help ] || sed 's|[\]||g' "$page" | grep -q -e "$option" ||
			fail "dz $command $option stands in dz.1"
	done
	[ "$command" = agent ] && continue
	"$dz" "$command" --no-such-option >/dev/null 2>&1
	[ $? -eq 125 ] || fail "dz $command --no-such-option ends with 125"
	"$dz" "$command" --help >/dev/full 2>/dev/null
	[ $? -eq 125 ] || fail "dz $command --help that cannot be written ends with 125"
done
"$dz" no-such-command 2>/dev/null
[ $? -eq 125 ] || fail 'dz no-such-command ends with 125'
exit $ret
