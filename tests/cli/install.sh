#!/bin/sh
# SPDX-License-Identifier: MIT
# install writes what it says, dz runs from there, uninstall leaves nothing.
set -u
cd "$DZ_TOP" || exit 1
unset MAKEFLAGS MAKELEVEL MFLAGS
root=$TMPDIR/root
ret=0
fail() { echo "$1"; ret=1; }
run() { make -s B="$DZ_BUILD" DESTDIR="$root" PREFIX=/opt/dz "$@" >"$TMPDIR/out" 2>&1 || { cat "$TMPDIR/out"; exit 1; }; }

mkdir -p "$root/opt/dz/bin"
echo 'of another' >"$root/opt/dz/bin/other"
run install
for path in bin/dz lib/libdeltazero.so lib/libdeltazero-fetch.so lib/pkgconfig/deltazero.pc \
	include/deltazero.h share/man/man1/dz.1 share/bash-completion/completions/dz; do
	[ -s "$root/opt/dz/$path" ] || fail "$path was not installed"
done
# shellcheck disable=SC2016 # for the inner shell
[ "$("$root/opt/dz/bin/dz" run -m /m=http://127.0.0.1:1/a/c -- sh -c 'echo $LD_PRELOAD')" = \
	"$(realpath "$root")/opt/dz/lib/libdeltazero.so" ] || fail 'the installed dz does not find its library'
grep -qx 'libdir=/opt/dz/lib' "$root/opt/dz/lib/pkgconfig/deltazero.pc" || fail 'deltazero.pc has another libdir'
run uninstall
left=$(find "$root" -type f)
[ "$left" = "$root/opt/dz/bin/other" ] || fail "left behind or taken away: $left"
# The build's own file says where this build would go; put it back.
make -s B="$DZ_BUILD" "$DZ_BUILD/deltazero.pc" || ret=1
exit $ret
