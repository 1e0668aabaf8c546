#!/bin/sh
# SPDX-License-Identifier: MIT
# dz stat where there is no cache: zeros, all the keys that are promised, and no
# cache afterwards.
set -u
dz=$DZ_BUILD/dz
ret=0
"$dz" stat --json >"$TMPDIR/stat.json" || ret=1
python3 - "$TMPDIR/stat.json" <<'PY' || ret=1
import json
import sys

stat = json.load(open(sys.argv[1]))
for key in ("calls bytes hits.dram hits.disk hits.peer misses origin.requests origin.bytes "
            "origin.errors origin.retries origin.connections wait_seconds evictions dram.used "
            "dram.size disk.used disk.size members").split():
    value = stat
    for part in key.split("."):
        value = value[part]
    assert value == 0, key
assert stat["bypass"] == {}
PY
"$dz" stat >/dev/null || ret=1
"$dz" stat --prometheus | grep -q '^deltazero_calls_total 0$' || ret=1
# Each metric is a type, a help and a value that is a number.
"$dz" stat --prometheus | grep -v '^#' | grep -vE '^deltazero_[a-z_]+([{][a-z]+="[a-z_]+"[}])? [0-9.]+$' && ret=1
# Into a file: the same, whole, and nothing left beside it; a place that is none is an error.
"$dz" stat --prometheus -o "$TMPDIR/dz.prom" && "$dz" stat --prometheus | cmp - "$TMPDIR/dz.prom" || ret=1
[ "$(find "$TMPDIR" -name 'dz.prom*' | wc -l)" -eq 1 ] || ret=1
"$dz" stat --prometheus -o "$TMPDIR/none/dz.prom" 2>/dev/null
[ $? -eq 125 ] || ret=1
# The conventions of Prometheus: a counter ends in _total, nothing else does.
"$dz" stat --prometheus | awk '/^# TYPE/ && ($4 == "counter") != ($3 ~ /_total$/) { print; bad = 1 } END { exit bad }' || ret=1
[ -z "$(ls -A "$DELTAZERO_SHM_DIR")" ] || { echo 'stat made a cache'; ret=1; }
exit $ret
