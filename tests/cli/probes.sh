#!/bin/sh
# SPDX-License-Identifier: MIT
# The static probes are in the library as readelf, perf and bpftrace find them:
# provider dz, an address inside the code, and arguments.
set -u
lib=$DZ_BUILD/libdeltazero.so
[ -z "${DZ_SAN:-}" ] || { echo 'not in a sanitizer build'; exit 77; }
notes=$(readelf -nW "$lib")
ret=0
for probe in 'call 2' 'read 3' 'wait 2'; do
	name=${probe% *}
	echo "$notes" | grep -A3 'Provider: dz' | grep -qw "Name: $name" || { echo "no probe dz:$name"; ret=1; }
	args=$(echo "$notes" | grep -A3 "Name: $name\$" | sed -n 's/.*Arguments: //p' | head -n 1)
	[ "$(echo "$args" | wc -w)" = "${probe#* }" ] || { echo "dz:$name has the arguments '$args'"; ret=1; }
done
location=$(echo "$notes" | sed -n 's/.*Location: \(0x[0-9a-f]*\),.*/\1/p' | head -n 1)
objdump -d --start-address="$location" --stop-address=$((location + 1)) "$lib" | grep -qw nop ||
	{ echo "no nop at $location"; ret=1; }
exit $ret
