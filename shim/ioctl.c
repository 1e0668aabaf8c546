/* SPDX-License-Identifier: MIT */
/* ioctl(2) on a file of ours, and the questions whether it is a terminal. */
#define DZ_IN_ioctl 1
#include "shim/attr.h"
#include "shim/hooks.h"
#include "shim/opath.h"
#include "shim/real.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

/* FIONREAD: bytes left; the kernel's int, cut off at its largest. */
static int bytes_left(dz_fh fh, int *left)
{
	struct dz_attr attr;
	int64_t pos = dz_engine_seek(dz_engine, fh, 0, SEEK_CUR);
	int r = dz_engine_fstat(dz_engine, fh, &attr);

	if (r < 0 || pos < 0)
		return r < 0 ? r : (int)pos;
	if (S_ISDIR(attr.mode))
		return -ENOTTY;
	if (!left)
		return -EFAULT;
	*left = attr.size <= (uint64_t)pos ? 0
					   : (int)dz_min_u64(attr.size - (uint64_t)pos, INT32_MAX);
	return 0;
}

static long ioctl_ours(int fd, dz_fh fh, unsigned long request, void *arg)
{
	switch (request) {
	case FIOCLEX:
	case FIONCLEX:
		return dz_sys_3(SYS_fcntl, fd, F_SETFD, request == FIOCLEX ? FD_CLOEXEC : 0);
	case FIONREAD:
		return bytes_left(fh, arg);
	case FIGETBSZ:
		if (!arg)
			return -EFAULT;
		*(int *)arg = DZ_STAT_BLKSIZE;
		return 0;
	case FIONBIO:
	case FIOASYNC:
		return 0;
	case FICLONE:
	case FICLONERANGE:
		return -EBADF; /* it is not open for writing */
	default:
		return -ENOTTY;
	}
}

DZ_DOOR(int, ioctl, int fd, unsigned long request, void *arg)
{
	dz_fh fh = dz_fd_get(fd);

	if (!fh)
		return (int)dz_ret(dz_sys_3(SYS_ioctl, fd, request, arg));
	if (dz_is_opath(fh))
		return (int)dz_done(DZ_CALL_ioctl, -EBADF, fd, request, arg);
	return (int)dz_done(DZ_CALL_ioctl, ioctl_ours(fd, fh, request, arg), fd, request, arg);
}

DZ_DOOR(int, isatty, int fd)
{
	int (*real)(int) = DZ_REAL(isatty);

	if (!dz_fd_get(fd))
		return real(fd);
	dz_done(DZ_CALL_isatty, -ENOTTY, fd);
	return 0;
}

DZ_DOOR(char *, ttyname, int fd)
{
	char *(*real)(int) = DZ_REAL(ttyname);

	if (!dz_fd_get(fd))
		return real(fd);
	dz_done(DZ_CALL_ttyname, -ENOTTY, fd);
	return NULL;
}

/* Returns its error and sets errno too, as libc's. */
DZ_DOOR(int, ttyname_r, int fd, char *buf, size_t len)
{
	int (*real)(int, char *, size_t) = DZ_REAL(ttyname_r);

	if (!dz_fd_get(fd))
		return real(fd, buf, len);
	dz_done(DZ_CALL_ttyname_r, -ENOTTY, fd, buf, len);
	return ENOTTY;
}

DZ_DOOR(int, __ttyname_r_chk, int fd, char *buf, size_t len, size_t room)
{
	int (*real)(int, char *, size_t, size_t) = DZ_REAL(__ttyname_r_chk);

	if (!dz_fd_get(fd))
		return real(fd, buf, len, room);
	return door_ttyname_r(fd, buf, len);
}

DZ_DOOR(int, tcgetattr, int fd, struct termios *attr)
{
	int (*real)(int, struct termios *) = DZ_REAL(tcgetattr);

	if (!dz_fd_get(fd))
		return real(fd, attr);
	return (int)dz_done(DZ_CALL_tcgetattr, -ENOTTY, fd, attr);
}

#include "shim/aliases.h"
