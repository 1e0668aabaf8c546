/* SPDX-License-Identifier: MIT */
/*
 * Locks on a file that nobody can change.  flock succeeds: what programs guard
 * with it, another process that writes the file, cannot be.  It does not exclude:
 * two programs that use a file of a mount as their mutex need a local one.
 */
#define DZ_IN_lock 1
#include <sys/file.h>
#include <unistd.h>

#include "shim/hooks.h"
#include "shim/opath.h"
#include "shim/real.h"

static int flock_check(dz_fh fh, int op)
{
	int kind = op & ~LOCK_NB;

	if (dz_is_opath(fh))
		return -EBADF;
	return kind == LOCK_SH || kind == LOCK_EX || kind == LOCK_UN ? 0 : -EINVAL;
}

DZ_DOOR(int, flock, int fd, int op)
{
	dz_fh fh = dz_fd_get(fd);

	if (!fh)
		return (int)dz_ret(dz_sys_2(SYS_flock, fd, op));
	return (int)dz_done(DZ_CALL_flock, flock_check(fh, op), fd, op);
}

/* lockf(3) locks for writing, which a descriptor that reads may not. */
static int lockf_check(int op)
{
	switch (op) {
	case F_LOCK:
	case F_TLOCK:
		return -EBADF;
	case F_ULOCK:
	case F_TEST:
		return 0;
	default:
		return -EINVAL;
	}
}

DZ_DOOR(int, lockf, int fd, int op, off_t len)
{
	int (*libc_lockf)(int, int, off_t) = DZ_REAL(lockf64);

	if (!dz_fd_get(fd))
		return libc_lockf(fd, op, len);
	return (int)dz_done(DZ_CALL_lockf, lockf_check(op), fd, op, len);
}

#include "shim/aliases.h"
