#!/bin/sh
# SPDX-License-Identifier: MIT
# No name of this machine's libc that sounds like files is unknown to us: each stands
# in hooks.def, or is one of other-names.txt, which says why it reaches no file of a
# mount.  (GLIBC_PRIVATE is for libc's own parts: what is needed of it is in hooks.def.)
set -u
cd "${DZ_TOP:-.}" || exit 1
libc=$(ldd /bin/sh | sed -n 's/.*libc\.so\.6 => \([^ ]*\) .*/\1/p')
[ -f "$libc" ] || { echo "no glibc here"; exit 77; }

work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
sounds='open|creat|close|read|write|seek|stat|dir|link|path|file|mnt|mount|chmod|chown|chflags|access|sync|trunc'
sounds="$sounds|alloc|map|lockf|flock|attr|mknod|node|fifo|te?mp|rename|utime|ftw|fts_|fts64|glob|wordexp|exec|spawn"
sounds="$sounds|^_*dl|poll|select|epoll|notify|aio|lio_|^io_|splice|tee|sendfile|dup|fcntl|ioctl|tty|fork|clone|root"
sounds="$sounds|cwd|wd\$|fd|at2?\$|64|msg|syscall|copy|_nocancel|ftok|quota|swap|acct|dev_|wscanf|wchar|getwc|getws"

nm -D --defined-only "$libc" | awk '$3 !~ /@GLIBC_PRIVATE$/ && $2 ~ /[TWi]/ { sub(/@.*/, "", $3); print $3 }' |
	sort -u >"$work/exported"
sed -n 's/^\(HOOK\|ALIAS\|SKIP\)(\([A-Za-z0-9_]*\),.*/\2/p' shim/hooks.def | sort -u >"$work/listed"
grep -v '^#' tests/lint/other-names.txt | cut -f 1 >"$work/others"
[ "$(wc -l <"$work/exported")" -gt 1500 ] || { echo "$libc: too few names"; exit 1; }
comm -23 "$work/exported" "$work/listed" | grep -E "$sounds" | grep -vxEf "$work/others" >"$work/unknown"
[ -s "$work/unknown" ] || exit 0
echo "$libc: in neither shim/hooks.def nor tests/lint/other-names.txt: $(tr '\n' ' ' <"$work/unknown")"
exit 1
