#!/bin/sh
# SPDX-License-Identifier: MIT
# Every shell script passes shellcheck, and python3 can compile every Python one.
set -u
cd "${DZ_TOP:-.}" || exit 1
command -v shellcheck >/dev/null || { echo 'no shellcheck'; exit 77; }
ret=0
git ls-files '*.sh' '.ci/run' | xargs shellcheck -x || ret=1
for script in $(git ls-files '*.py'); do
	python3 -c 'import sys; compile(open(sys.argv[1]).read(), sys.argv[1], "exec")' "$script" || ret=1
done
exit $ret
