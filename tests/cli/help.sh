#!/bin/sh
# SPDX-License-Identifier: MIT
# Each command answers --help within 80 columns, and what it offers, short and long,
# stands in its manual page, dz-NAME.1, and vice versa; a wrong word is a usage error, 125.
set -u
dz=$DZ_BUILD/dz
main=$DZ_TOP/tools/man/dz.1
ret=0
fail() { echo "not so: $1"; ret=1; }
# The options in the first column of a --help, short and long.
offered() { sed -n 's/^ \{1,\}\(-.*\)/\1/p' | sed 's/  .*//' | options_in; }
options_in() { grep -oE -- '(^|[ ,"])--?[a-zA-Z][a-zA-Z-]*' | tr -d ' ,"' | sort -u; }
# What a page says, and the lines that introduce its options.
said() { sed 's|[\]f[BIRP]||g; s|[\]||g' "$page"; }
introduced()
{
	said | sed -n '/^\.SH OPTIONS/,/^\.SH [^O]/p' |
		grep -E '^\.(B|BI|BR) ' | sed 's/^\.[BIR]* //'
}

"$dz" --help >/dev/null || fail 'dz --help ends with 0'
every=$(for command in $("$dz" --list-commands); do "$dz" "$command" --help; done)
for command in $("$dz" --list-commands); do
	page=$DZ_TOP/tools/man/dz-$command.1
	[ -f "$page" ] || fail "dz $command has a page, dz-$command.1"
	for section in NAME SYNOPSIS DESCRIPTION 'EXIT STATUS' 'SEE ALSO'; do
		grep -qx "\.SH $section" "$page" || fail "$page has the section $section"
	done
	sed -n '/^\.SH NAME$/{n;p;}' "$page" | sed 's|[\]||g' | grep -q "^dz-$command - ." ||
		fail "$page begins with its name, as apropos reads it"
	text=$("$dz" "$command" --help) || fail "dz $command --help ends with 0"
	[ "$("$dz" help "$command")" = "$text" ] || fail "dz help $command says the same"
	echo "$text" | awk 'length($0) > 80 { exit 1 }' || fail "dz $command --help fits 80 columns"
	[ "$(sed 's|[\]||g' "$main" | grep -c "^\.BR dz-$command (1)")" -eq 2 ] ||
		fail "dz.1 lists dz-$command (1), and refers to it at its end"
	for option in $(echo "$text" | offered); do
		said | grep -qE -e "(^|[^a-z-])$option([^a-z-]|\$)" ||
			[ "$option" = --help ] || fail "dz $command $option stands in $page"
	done
	# And the other way round; a page may describe a second command along with its own.
	for option in $(introduced | options_in); do
		echo "$every" | grep -qE -e "(^|[^a-z-])$option([^a-z-]|\$)" ||
			fail "$option of $page stands in a --help"
	done
	[ "$command" = agent ] && continue
	"$dz" "$command" --no-such-option >/dev/null 2>&1
	[ $? -eq 125 ] || fail "dz $command --no-such-option ends with 125"
	"$dz" "$command" --help >/dev/full 2>/dev/null
	[ $? -eq 125 ] || fail "dz $command --help that cannot be written ends with 125"
done
# A page names none but pages that there are, and groff finds nothing to say of it.
for page in "$DZ_TOP"/tools/man/*.1; do
	for other in $(said | grep -oE 'dz-[a-z]+ ?" ?\(1|dz-[a-z]+ ?\(1' | grep -oE 'dz-[a-z]+'); do
		[ -f "$DZ_TOP/tools/man/$other.1" ] || fail "$other.1, which $page names, is there"
	done
	if command -v groff >/dev/null; then
		complaint=$(groff -man -Tutf8 -ww -z -rLL=100n "$page" 2>&1)
		[ -z "$complaint" ] || fail "groff takes $page: $complaint"
	fi
done
"$dz" no-such-command 2>/dev/null
[ $? -eq 125 ] || fail 'dz no-such-command ends with 125'
exit $ret
