#!/bin/sh
# SPDX-License-Identifier: MIT
# start.sh DIR: starts Azurite on a free port of loopback with its data in memory
# and prints its URL, http://127.0.0.1:PORT/devstoreaccount1.  Its log and process
# id lie in DIR.  start.sh --stop DIR ends it.
#
# The first run installs Azurite with npm into build/azurite (or $DZ_AZURITE_DIR)
# and says so; later runs find it there.  Version 3.35.0 is the newest that runs
# on the Node.js 18 of Debian 12.  Exit 77 when neither node nor npm is here or
# the package cannot be had.
set -eu

version=3.35.0
top=$(cd "$(dirname "$0")/../.." && pwd)
home=${DZ_AZURITE_DIR:-$top/build/azurite}
main=$home/node_modules/azurite/dist/src/blob/main.js

skip()
{
	echo "azurite: $1" >&2
	exit 77
}

install()
{
	mkdir -p "$home"
	# Two tests may come here at once: the second waits and finds it done.
	exec 9>"$home/lock"
	flock 9
	if [ "$(cat "$home/version" 2>/dev/null)" != "$version" ]; then
		command -v node >/dev/null || skip 'needs node (apt-get install nodejs)'
		command -v npm >/dev/null || skip 'needs npm (apt-get install npm)'
		# Where the registry does not answer, npm tries for long: once for all tests.
		[ -z "$(find "$home/failed" -mmin -10 2>/dev/null)" ] || skip 'npm could not install it'
		echo "azurite: installing $version with npm into $home" >&2
		timeout 100 npm install --prefix "$home" --no-audit --no-fund --no-save --loglevel=error \
			"azurite@$version" >"$home/npm.log" 2>&1 || {
			: >"$home/failed"
			skip "npm could not install it: $(tail -n 1 "$home/npm.log")"
		}
		echo "$version" >"$home/version"
	fi
	exec 9>&-
}

port_of()
{
	sed -n 's|.*listens on https\{0,1\}://127\.0\.0\.1:\([0-9]*\).*|\1|p' "$1" | head -n 1
}

start()
{
	mkdir -p "$1"
	node "$main" --blobHost 127.0.0.1 --blobPort 0 --inMemoryPersistence \
		--skipApiVersionCheck --disableTelemetry \
		>"$1/azurite.log" 2>&1 </dev/null &
	echo $! >"$1/azurite.pid"
	tries=0
	while [ -z "$(port_of "$1/azurite.log")" ]; do
		tries=$((tries + 1))
		if [ $tries -gt 300 ] || ! kill -0 "$(cat "$1/azurite.pid")" 2>/dev/null; then
			echo "azurite: did not start: $(tail -n 3 "$1/azurite.log")" >&2
			exit 1
		fi
		sleep 0.1
	done
	echo "http://127.0.0.1:$(port_of "$1/azurite.log")/devstoreaccount1"
}

case ${1:-} in
--stop)
	kill "$(cat "$2/azurite.pid")"
	;;
'' | -*)
	echo "usage: start.sh DIR | start.sh --stop DIR" >&2
	exit 2
	;;
*)
	install
	start "$1"
	;;
esac
