#!/bin/sh
# SPDX-License-Identifier: MIT
# Each command answers --help within 80 columns, and what it offers stands in its
# manual page, dz-NAME.1 or else dz.1, and vice versa; a wrong word is a usage
# error, 125.
set -u
dz=$DZ_BUILD/dz
main=$DZ_TOP/tools/man/dz.1
ret=0
fail() { echo "not so: $1"; ret=1; }

"$dz" --help >/dev/null || fail 'dz --help ends with 0'
every=$(for command in $("$dz" --list-commands); do "$dz" "$command" --help; done)
for command in $("$dz" --list-commands); do
	page=$DZ_TOP/tools/man/dz-$command.1
	[ -f "$page" ] || page=$main
	text=$("$dz" "$command" --help) || fail "dz $command --help ends with 0"
	[ "$("$dz" help "$command")" = "$text" ] || fail "dz help $command says the same"
	echo "$text" | awk 'length($0) > 80 { exit 1 }' || fail "dz $command --help fits 80 columns"
	grep -q "^\.SS dz $command\$" "$main" || fail "dz $command has a section in dz.1"
	for option in $(echo "$text" | grep -oE '^ +(-[a-z], )?--[a-z-]+' | grep -oE -- '--[a-z-]+'); do
		[ "$option" = --help ] || sed 's|[\]||g' "$page" | grep -q -e "$option" ||
			fail "dz $command $option stands in $page"
	done
	# And the other way round; a page may describe a second command along with its own.
	options=$(sed -n '/^\.SH OPTIONS/,/^\.SH [^O]/p' "$page" | sed 's|[\]||g' |
		grep -E '^\.(B|BI|BR) ' | grep -oE -- '--[a-z-]+' | sort -u)
	for option in $options; do
		echo "$every" | grep -q -e "$option" || fail "$option of $page stands in a --help"
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
