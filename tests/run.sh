#!/bin/sh
# SPDX-License-Identifier: MIT
# run.sh GROUP...: runs the tests of the groups, two at a time, and ends with
# "N passed, N failed, N skipped"; the status is 1 when one failed or none ran.
#
# A test is a program build/tests/unit/test_*, or an executable script in
# tests/GROUP whose name does not begin with lib, start or stop.  It says how it
# went with TAP (each line counts) or with its exit status: 0, 77 for skipped
# (its last line says why), anything else for failed.  A line "# timeout: N"
# among its first 20 gives it N seconds instead of 120, DZ_TIMEOUT=N gives N to all.
# TESTS=WORD limits a run to the tests that have WORD in their names.
#
# A test finds the repository in $DZ_TOP, which is its working directory, what
# was built in $DZ_BUILD, and a directory of its own in $TMPDIR; the cache that
# it would use by default is its own too.  It binds port 0.
set -u

# The account of whoever runs this is not to be tested on.
# shellcheck disable=SC2046 # a list of names
unset LD_PRELOAD $(env | sed -n 's/^\(\(AZURE\|DELTAZERO\)_[A-Z0-9_]*\)=.*/\1/p')

DZ_TOP=$(cd "$(dirname "$0")/.." && pwd)
DZ_BUILD=${DZ_BUILD:-$DZ_TOP/build}
jobs=${DZ_JOBS:-2}
# The system's own programs: its python3 has numpy and torch.
PATH=/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin:$PATH
export DZ_TOP DZ_BUILD PATH
# Trees that are compared must not get files of Python's own.
export PYTHONDONTWRITEBYTECODE=1
# A preloaded library brings the sanitizer's along, behind itself; Python leaks on purpose.
[ "${DZ_SAN:-}" != asan ] || export ASAN_OPTIONS=verify_asan_link_order=0:detect_leaks=0
[ "${DZ_SAN:-}" != ubsan ] || export UBSAN_OPTIONS=print_stacktrace=1
[ "${DZ_SAN:-}" != tsan ] || export TSAN_OPTIONS="suppressions=$DZ_TOP/tests/tsan.supp"

list_group()
{
	if [ "$1" = unit ]; then
		find "$DZ_BUILD/tests/unit" -maxdepth 1 -type f -name 'test_*' -perm -u+x ! -name '*.*' 2>/dev/null |
			while read -r path; do
				# What was built once and has no source any more is no test.
				[ -f "$DZ_TOP/tests/unit/${path##*/}.c" ] && echo "$path"
			done | sort
	else
		find "$DZ_TOP/tests/$1" -maxdepth 1 -type f -perm -u+x \( -name '*.sh' -o -name '*.py' \) \
			! -name 'lib*' ! -name 'start*' ! -name 'stop*' 2>/dev/null | sort
	fi
}

# TAP on standard input and the exit status -> "passed failed skipped".
count_results()
{
	awk -v status="$1" '
	/^1\.\.[0-9]+/ { split($1, plan, "[.][.]"); planned += plan[2] }
	/^(not )?ok / && tolower($0) ~ /# *skip/ { skipped++; next } # cmocka says "not ok 3 # SKIP"
	/^ok / { passed++ }
	/^not ok / { failed++ }
	END {
		if (!planned) {
			passed = status == 0; skipped = status == 77; failed = !passed && !skipped
		} else if (!failed && (status != 0 || passed + skipped < planned)) {
			failed++
		}
		print passed + 0, failed + 0, skipped + 0
	}'
}

# run_one GROUP PATH
run_one()
{
	name=$1/$(basename "$2")
	out=$results/$1/$(basename "$2")
	source=$2
	[ "$1" != unit ] || source=$DZ_TOP/tests/unit/${2##*/}.c
	limit=$(sed -n '1,20s/^[#/ *]*timeout: \([0-9]*\).*/\1/p' "$source" | head -n 1)
	limit=${DZ_TIMEOUT:-$limit}
	TMPDIR=$(mktemp -d "${TMPDIR:-/tmp}/dz-check.XXXXXX") || return
	DELTAZERO_SHM_DIR=$(mktemp -d /dev/shm/dz-check.XXXXXX 2>/dev/null || mktemp -d)
	DELTAZERO_CACHE_DIR=$TMPDIR/cache
	CMOCKA_MESSAGE_OUTPUT=TAP
	export TMPDIR DELTAZERO_SHM_DIR DELTAZERO_CACHE_DIR CMOCKA_MESSAGE_OUTPUT
	start=$(date +%s)
	# Sanitizers take their time.
	limit=$((${limit:-120} * (${DZ_SAN:+3} + 1)))
	(cd "$DZ_TOP" && exec timeout -k 10 "$limit" "$2") >"$out.log" 2>&1 </dev/null
	status=$?
	took=$(($(date +%s) - start))
	rm -rf "$TMPDIR" "$DELTAZERO_SHM_DIR"
	count_results "$status" <"$out.log" >"$out.count"
	read -r passed failed _ <"$out.count"
	if [ "$failed" -gt 0 ]; then
		# One write, so that two tests do not mix their lines.
		why="status $status"
		[ "$status" -ne 124 ] || why="no end after ${limit:-120} s"
		printf '%s\n' "FAIL $name ($why, $took s): $out.log
$(tail -n 40 "$out.log" | sed 's/^/     | /')"
	elif [ "$passed" -eq 0 ]; then
		echo "skip $name: $(tail -n 1 "$out.log")"
	else
		echo "ok   $name ($passed passed, $took s)"
	fi
}

if [ "${1:-}" = --one ]; then
	results=$2
	run_one "$3" "$4"
	exit
fi

# A place of its own, so that two runs of different groups do not meet.
results=$DZ_BUILD/check/$(echo "$*" | tr ' ' +)
rm -rf "$results"
mkdir -p "$results"
for group in "$@"; do
	mkdir -p "$results/$group"
	list_group "$group" | grep -e "${TESTS:-}" | grep -vE "${NOT_TESTS:-^$}" | sed "s|^|$results $group |"
done >"$results/list"
xargs -r -n 3 -P "$jobs" "$0" --one <"$results/list"

expected=$(wc -l <"$results/list")
find "$results" -name '*.count' -exec cat {} + | awk -v expected="$expected" '
	{ passed += $1; failed += $2; skipped += $3 }
	END {
		failed += expected - NR # no result: the runner itself was disturbed
		printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped
		exit failed > 0 || passed == 0
	}'
