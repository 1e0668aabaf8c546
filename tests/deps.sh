#!/bin/sh
# SPDX-License-Identifier: MIT
# deps.sh GROUP...: installs the packages of the groups build, check, apps, demo and
# bench with apt-get.  Prints nothing and does nothing when they are all there;
# otherwise says what it will install, then does, as root or through sudo.
# The names are those of Debian 12 and of Ubuntu 24.04; COMMAND=PACKAGE and
# /FILE=PACKAGE are there when the command or the file is, wherever it came from.
#
# What building needs must come; without a package of another group the tests
# that want it are skipped, with a line that says so.
set -u

build='gcc libc6-dev make liburing-dev libxxhash-dev libcurl4-openssl-dev libssl-dev libexpat1-dev libcjson-dev'
check='libcmocka-dev clang libclang-rt-14-dev spin clang-format-14 shellcheck universal-ctags binutils g++ procps
	curl strace tmux bpftrace python3 python3-pip python3-numpy python3-torch python3-pil dataset-fashion-mnist
	cpio fio rsync sqlite3 xfsprogs node=nodejs npm=npm ca-certificates groff=groff-base
	bzip2 file git jq openssl perl unzip xxd xz=xz-utils zip zstd'
# What python3 will be, where there is none yet.
python=python3.11
if grep -qs '^ID=ubuntu' /etc/os-release; then
	python=python3.12
else
	check="$check chromium=chromium" # Ubuntu has it as a snap only
fi
[ ! -x /usr/bin/python3 ] || python=$(basename "$(readlink -f /usr/bin/python3)")
lib=/usr/lib/x86_64-linux-gnu
# Python's own tests.
check="$check /usr/lib/$python/test/test_os.py=lib$python-testsuite"
apps="python3-h5py python3-lmdb javac=default-jdk-headless libaio-dev $lib/libjemalloc.so.2=libjemalloc2
	$lib/libtcmalloc_minimal.so.4=libtcmalloc-minimal4 $lib/libmimalloc.so.2=libmimalloc2.0"
demo='python3 python3-numpy python3-torch python3-pil dataset-fashion-mnist ca-certificates'
bench='python3 fio rclone fuse3 curl node=nodejs npm=npm ca-certificates'

is_there()
{
	case $1 in
	/*=*) [ -e "${1%%=*}" ] ;;
	*=*) command -v "${1%%=*}" >/dev/null ;;
	*) dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed ;;
	esac
}

missing_of()
{
	for name in "$@"; do
		is_there "$name" || printf '%s ' "${name#*=}"
	done
}

cannot()
{
	echo "deps: $1; missing: $missing" >&2
	# shellcheck disable=SC2086
	[ -z "$(missing_of $build)" ] || exit 1
	echo "deps: going on; what needs them will be skipped" >&2
	exit 0
}

# shellcheck disable=SC2068 # a list of words
install()
{
	$sudo apt-get install -y -q --no-install-recommends $@ </dev/null
}

wanted=
for group in "$@"; do
	case $group in
	build) wanted="$wanted $build" ;;
	check) wanted="$wanted $check" ;;
	apps) wanted="$wanted $apps" ;;
	demo) wanted="$wanted $demo" ;;
	bench) wanted="$wanted $bench" ;;
	*) echo "deps: no such group: $group" >&2 && exit 1 ;;
	esac
done

if ! command -v dpkg-query >/dev/null; then
	command -v "${CC:-gcc}" >/dev/null && exit 0
	echo "deps: this is not Debian or Ubuntu; please install the equivalents of: $build" >&2
	exit 1
fi
# shellcheck disable=SC2046,SC2086 # lists of words
missing=$(missing_of $(printf '%s\n' $wanted | sort -u))
[ -n "$missing" ] || exit 0

sudo=
if [ "$(id -u)" -ne 0 ]; then
	command -v sudo >/dev/null || cannot 'neither root nor sudo'
	sudo='sudo --preserve-env=DEBIAN_FRONTEND'
fi
echo "deps: installing with apt-get${sudo:+ through sudo}: $missing"
export DEBIAN_FRONTEND=noninteractive
# Package lists are only fetched when those here do not know what we want.
# shellcheck disable=SC2086
apt-get install -s --no-install-recommends $missing >/dev/null 2>&1 || $sudo apt-get update -q </dev/null
if ! install "$missing"; then
	# One that conflicts with what is here must not keep the others away.
	for name in $missing; do
		install "$name"
	done
fi
# shellcheck disable=SC2086
missing=$(missing_of $missing)
[ -z "$missing" ] || cannot 'apt-get did not install all'
