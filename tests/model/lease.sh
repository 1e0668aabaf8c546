#!/bin/sh
# SPDX-License-Identifier: MIT
# timeout: 300
# The lease, slot and quarantine protocol, checked by Spin: every order of the steps of
# two fetchers, a reader, a tenant of other keys, and a kill or a takeover from one who
# is only late; and two who ask for one key at the same time (ask.pml).  MODEL_FULL=1 has them all at once (minutes, and gigabytes).
set -u

command -v spin >/dev/null || { echo 'no spin'; exit 77; }
top=$PWD
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
n=0 failed=0

# check NAME EXPECTED-ERRORS 'MODEL FLAGS' 'COMPILER FLAGS' 'RUN FLAGS'
check()
{
	model=${6:-lease}
	n=$((n + 1))
	rm -f ./*.trail pan.log
	# shellcheck disable=SC2086 # lists of flags
	if spin -a $3 "$top/tests/model/$model.pml" >spin.log 2>&1 &&
		gcc -O2 -w -DCOLLAPSE $4 -o pan pan.c && ./pan -m500000 $5 >pan.log 2>&1 &&
		grep -q "errors: $2" pan.log && ! grep -q 'depth too small\|out of memory' pan.log; then
		echo "ok $n - $1 ($(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' pan.log) states)"
		return
	fi
	echo "not ok $n - $1"
	sed 's/^/# /' spin.log pan.log 2>/dev/null
	# shellcheck disable=SC2086
	[ ! -f "$model.pml.trail" ] || spin -t -p -g $3 "$top/tests/model/$model.pml" | tail -n 150 | sed 's/^/# /'
	failed=1
}

safe='-DSAFETY -DNOCLAIM'
fair='-DNFAIR=3'
live='-a -f -N proceeds'
killed='-DCRASHES=1 -DTAKEOVERS=0'
late='-DCRASHES=0 -DTAKEOVERS=1'
quiet='-DEVICTIONS=0'

echo "1..$((10 + 2 * ${MODEL_FULL:-0}))"
check 'a killed fetcher leaves no foreign bytes in DRAM' 0 "$killed" "$safe" ''
check 'a late one neither' 0 "$late" "$safe" ''
check 'a killed writer of the disk, whose store lands later, neither' 0 "-DDMA $killed" "$safe" ''
check 'a late one neither' 0 "-DDMA $late $quiet" "$safe" ''
check 'a reader goes on after a kill' 0 "$killed $quiet" "$fair" "$live"
check 'and after a takeover' 0 "$late $quiet" "$fair" "$live"
check 'without quarantine there would be foreign bytes' 1 "-DBROKEN $late" "$safe" ''
check 'without a takeover the reader would wait for ever' 1 "-DFORSAKEN $killed $quiet" "$fair" "$live"
check 'who ask at once for a key make one request' 0 '-DN=2' "$safe" '' ask
check 'by the rule that was they could make two' 1 '-DN=2 -DOLD -DLATE=0 -DSTOPS=0' "$safe" '' ask
if [ "${MODEL_FULL:-0}" = 1 ]; then
	check 'all at once, in DRAM' 0 '' "$safe -DMEMLIM=6000" ''
	check 'all at once, on disk' 0 '-DDMA' "$safe -DMEMLIM=6000" ''
fi
exit "$failed"
