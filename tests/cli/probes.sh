#!/bin/sh
# SPDX-License-Identifier: MIT
# The static probes are in the library as readelf, perf and bpftrace find them:
# provider dz, an address inside the code, and arguments.
set -u
lib=$DZ_BUILD/libdeltazero.so
[ -z "${DZ_SAN:-}" ] || { echo 'not in a sanitizer build'; exit 77; }
echo 1..3

notes_are_right()
{
	notes=$(readelf -nW "$lib")
	ret=0
	for probe in 'call 2' 'read 3' 'wait 2'; do
		name=${probe% *}
		echo "$notes" | grep -A3 'Provider: dz' | grep -qw "Name: $name" ||
			{ echo "# no probe dz:$name"; ret=1; }
		args=$(echo "$notes" | grep -A3 "Name: $name\$" | sed -n 's/.*Arguments: //p' | head -n 1)
		[ "$(echo "$args" | wc -w)" = "${probe#* }" ] ||
			{ echo "# dz:$name has the arguments '$args'"; ret=1; }
	done
	location=$(echo "$notes" | sed -n 's/.*Location: \(0x[0-9a-f]*\),.*/\1/p' | head -n 1)
	objdump -d --start-address="$location" --stop-address=$((location + 1)) "$lib" | grep -qw nop ||
		{ echo "# no nop at $location"; ret=1; }
	return $ret
}

status=0
if notes_are_right; then
	echo 'ok 1 - the notes name the probes and their arguments'
else
	echo 'not ok 1 - the notes name the probes and their arguments'
	status=1
fi

wanted='dz:call dz:read dz:wait '
if ! command -v bpftrace >/dev/null; then
	echo 'ok 2 - bpftrace lists them # SKIP no bpftrace'
elif [ "$(id -u)" -ne 0 ]; then
	echo 'ok 2 - bpftrace lists them # SKIP bpftrace runs as root only'
else
	listed=$(bpftrace -l "usdt:$lib:*" | sed 's/.*:\(dz:[a-z]*\)$/\1/' | sort -u | tr '\n' ' ')
	if [ "$listed" = "$wanted" ]; then
		echo 'ok 2 - bpftrace lists them'
	else
		echo "not ok 2 - bpftrace lists them: got '$listed', want '$wanted'"
		status=1
	fi
fi

# Where BPF may be loaded they fire: a program reads 1,000 bytes, again and again.
fires()
{
	export AZURE_STORAGE_ACCOUNT=devstoreaccount1 DELTAZERO_SHM_DIR="$TMPDIR" DELTAZERO_DISK_SIZE=0
	export AZURE_STORAGE_KEY='Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=='
	mkdir -p "$TMPDIR/root/data/text"
	head -c 12345 /dev/zero >"$TMPDIR/root/data/text/lines.txt"
	: >"$TMPDIR/url"
	"$DZ_BUILD/dz" serve --root "$TMPDIR/root" --port 0 >"$TMPDIR/url" &
	server=$!
	while ! grep -q URL "$TMPDIR/url"; do sleep 0.1; done
	"$DZ_BUILD/dz" run -m "/mnt/probes=$(sed 's/URL //' "$TMPDIR/url")/data" -- \
		"$DZ_BUILD/tests/cli/traced" loop /mnt/probes >"$TMPDIR/loop" &
	loop=$!
	while ! grep -q ready "$TMPDIR/loop"; do sleep 0.1; done
	bpftrace -e "usdt:$lib:dz:read { @[arg0, arg1] = count(); }
		interval:s:1 { exit(); }" >"$TMPDIR/fired" 2>&1
	kill "$loop"
	"$DZ_BUILD/dz" purge
	kill "$server"
	grep -q '^@\[0, 1000\]: [1-9]' "$TMPDIR/fired"
}
if ! bpftrace -e 'BEGIN { printf("it works\n"); exit(); }' 2>/dev/null | grep -q 'it works'; then
	echo 'ok 3 - they fire # SKIP bpftrace cannot load a program here'
elif fires; then
	echo 'ok 3 - they fire'
else
	sed 's/^/# /' "$TMPDIR/fired"
	echo 'not ok 3 - they fire'
	status=1
fi
exit $status
