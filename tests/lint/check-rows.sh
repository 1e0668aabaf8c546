#!/bin/sh
# SPDX-License-Identifier: MIT
# Every test that tests/kill/ROWS.md names for a row of the recovery table is there.
set -u
cd "${DZ_TOP:-.}" || exit 1
ret=0 n=0
# shellcheck disable=SC2016 # the backquotes are Markdown's
for name in $(grep '^| ' tests/kill/ROWS.md | grep -o '`[a-z_0-9]*`' | tr -d '`' | sort -u); do
	n=$((n + 1))
	grep -qrE "(static void|def) $name\(" tests/unit tests/kill tests/apps && continue
	grep -qrE "^OPERATION\([a-z_]*, $name\)" tests/unit && continue
	echo "tests/kill/ROWS.md: no test $name"
	ret=1
done
[ "$n" -gt 20 ] || ret=1
exit $ret
