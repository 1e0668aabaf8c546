#!/bin/sh
# SPDX-License-Identifier: MIT
# Each fuzzer for FUZZ_SECONDS on its seeds and what it finds.  An input that fails is
# kept in build/fuzz, and becomes a unit test.
set -u

command -v clang >/dev/null || { echo 'no clang'; exit 77; }
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
export UBSAN_OPTIONS=print_stacktrace=1
n=0 failed=0
set -- tests/fuzz/fuzz_*.c
echo "1..$#"
for source; do
	n=$((n + 1))
	name=${source##*/fuzz_} name=${name%.c}
	mkdir -p "$dir/$name"
	if "$DZ_BUILD/tests/fuzz/fuzz_$name" -max_total_time="${FUZZ_SECONDS:-60}" -timeout=10 \
		-max_len=4096 -rss_limit_mb=4096 -artifact_prefix="$DZ_BUILD/$name-" -print_final_stats=1 \
		"$dir/$name" "tests/fuzz/corpus/$name" >"$dir/log" 2>&1; then
		echo "ok $n - $name: $(sed -n 's/^stat::number_of_executed_units: //p' "$dir/log") inputs"
	else
		echo "not ok $n - $name"
		grep -v '^#[0-9]' "$dir/log" | tail -n 60 | sed 's/^/# /'
		failed=1
	fi
done
exit "$failed"
