#!/bin/sh
# SPDX-License-Identifier: MIT
# What was built: the core's own I/O goes through dz_sys_*, so that it cannot
# come back through our own doors; the library needs libc only, and no newer
# glibc than the ceiling below.
set -u
cd "${DZ_TOP:-.}" || exit 1
build=${DZ_BUILD:-build}
ceiling=2.28
ret=0

for src in cache/*.c; do
	case $src in cache/fetch*|cache/agent.c|cache/pager*) continue ;; esac
	obj=$build/${src%.c}.o
	[ -f "$obj" ] || { echo "$obj: not built"; ret=1; continue; }
	bad=$(nm -u "$obj" | awk '{ sub(/@.*/, "", $2); print $2 }' | grep -xE \
		'_*(open|open64|openat|openat64|read|pread|pread64|write|pwrite|pwrite64|close|stat|fstat|lstat|fstatat|stat64|fstat64|readv|writev|preadv2?|pwritev2?|mmap|mmap64|munmap|dup[23]?|fcntl|fcntl64|fopen|fopen64|opendir|unlink|rename|socket|lseek|lseek64)(_chk|_2)?' |
		tr '\n' ' ')
	[ -z "$bad" ] || { echo "$src: calls libc's $bad: use dz_sys_*"; ret=1; }
done

lib=$build/libdeltazero.so
needed=$(readelf -dW "$lib" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | grep -vxE 'libc\.so\.6|ld-linux.*' | tr '\n' ' ')
[ -z "$needed" ] || { echo "$lib: needs $needed: libc only"; ret=1; }
newest=$(objdump -T "$lib" | grep -o 'GLIBC_[0-9.]*' | sed 's/GLIBC_//' | sort -Vu | tail -n 1)
if [ "$(printf '%s\n%s\n' "$newest" $ceiling | sort -V | tail -n 1)" != $ceiling ]; then
	echo "$lib: needs GLIBC_$newest; the ceiling is $ceiling"
	ret=1
fi
exit $ret
