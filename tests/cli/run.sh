#!/bin/sh
# SPDX-License-Identifier: MIT
# dz run: the environment that a command gets, its exit status, the report.
# No call of these commands touches the mount, so no server is needed.
set -u
dz=$DZ_BUILD/dz
url=http://127.0.0.1:1/devstoreaccount1/data
n=0
failed=0
is()
{
	n=$((n + 1))
	if [ "$2" = "$3" ]; then
		echo "ok $n - $1"
	else
		echo "not ok $n - $1: got '$2', want '$3'"
		failed=1
	fi
}
status() { "$@" >/dev/null 2>"$TMPDIR/err"; echo $?; }
variable() { "$dz" run "$@" -- sh -c 'eval "echo \"\$'"$name"'\""'; }

echo 1..20
name=LD_PRELOAD
is 'the library is in front' "$(variable -m /m=$url)" "$(realpath "$DZ_BUILD")/libdeltazero.so"
is 'what was in front before stays behind it' \
	"$(LD_PRELOAD=libm.so.6 variable -m /m=$url)" "$(realpath "$DZ_BUILD")/libdeltazero.so:libm.so.6"
name=DELTAZERO_MOUNT
is 'two mounts are one variable' "$(variable -m /m=$url -m /n=$url)" "/m=$url;/n=$url"
is 'an option wins over the environment' "$(DELTAZERO_MOUNT=/old=$url variable -m /m=$url)" "/m=$url"
is 'without an option the environment stays' "$(DELTAZERO_MOUNT=/old=$url variable)" "/old=$url"
name=DELTAZERO_DRAM_SIZE
is 'a size is passed on' "$(variable -m /m=$url --dram-size 32M)" 32M
name=DELTAZERO_SHM_DIR
is 'a relative directory becomes absolute' \
	"$(mkdir -p "$TMPDIR/s" && cd "$TMPDIR" && variable -m /m=$url --shm-dir s)" "$TMPDIR/s"

is 'the status is that of the command' "$(status "$dz" run -m /m=$url -- sh -c 'exit 7')" 7
is 'no such command' "$(status "$dz" run -m /m=$url -- no-such-command)" 127
is 'a command that cannot be executed' "$(status "$dz" run -m /m=$url -- /etc/passwd)" 126
is 'no command' "$(status "$dz" run -m /m=$url)" 125
is 'no mount' "$(status "$dz" run -- true)" 125
is 'a malformed mount' "$(status "$dz" run -m nonsense -- true)" 125
is 'and it is named' "$(grep -c nonsense "$TMPDIR/err")" 1
is 'a report that cannot be written, and the command is not started' \
	"$(status "$dz" run -m /m=$url --report /nowhere/r -- touch "$TMPDIR/started"; ls "$TMPDIR/started" 2>/dev/null)" 125

report=$TMPDIR/report.json
is 'with a report the status is the same' \
	"$(status "$dz" run -m /m=$url --report "$report" -- sh -c 'exit 7' 'a "b"')" 7
is 'the report says so' "$(python3 -c '
import json, sys
r = json.load(open(sys.argv[1]))
print(r["status"], r["command"][3], r["stat"]["origin"]["requests"])' "$report")" '7 a "b" 0'
# shellcheck disable=SC2016 # for the inner shell
"$dz" run -m /m=$url --report "$report" -- sh -c ': >"$1"; exec sleep 60' sh "$TMPDIR/sleeps" &
pid=$!
while [ ! -e "$TMPDIR/sleeps" ]; do sleep 0.05; done
kill -TERM $pid
wait $pid
is 'a signal is passed on and is how dz ends' "$?" 143
is 'and the report is written' "$(grep -c '"status": 143' "$report")" 1
# shellcheck disable=SC2016 # for the inner shell
is 'options of the command are its own' "$("$dz" run -m /m=$url sh -c 'echo $1' sh --help)" --help
exit $failed
