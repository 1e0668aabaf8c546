#!/bin/sh
# SPDX-License-Identifier: MIT
# Each header compiles alone; the public one as C and as C++.
set -u
cd "${DZ_TOP:-.}" || exit 1
ret=0
for header in $(git ls-files '*.h'); do
	echo "#include \"$header\"" |
		${CC:-gcc} -std=gnu11 -D_GNU_SOURCE -I. -Wall -Wextra -Werror -fsyntax-only -x c - || ret=1
done
for lang in c++ c; do
	command -v g++ >/dev/null || [ $lang = c ] || continue
	printf '%s\n' '#include "include/deltazero.h"' 'extern int dz_not_empty;' |
		${CC:-gcc} -I. -Wall -Wextra -Wpedantic -Werror -fsyntax-only -x $lang - || ret=1
done
exit $ret
