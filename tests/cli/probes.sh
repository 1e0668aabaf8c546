#!/bin/sh
# SPDX-License-Identifier: MIT
# The static probes are in the library as readelf, perf and bpftrace find them:
# provider dz, an address inside the code, and arguments.
set -u
lib=$DZ_BUILD/libdeltazero.so
[ -z "${DZ_SAN:-}" ] || { echo 'not in a sanitizer build'; exit 77; }
echo 1..2

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
exit $status
