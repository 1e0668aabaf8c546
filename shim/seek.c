/* SPDX-License-Identifier: MIT */
#define DZ_IN_seek 1
#include "shim/hooks.h"
#include "shim/opath.h"

/* EOVERFLOW is for a position that off_t cannot hold; the kernel's sum is checked first. */
static int64_t seek(dz_fh fh, off_t off, int whence)
{
	int64_t r = dz_engine_seek(dz_engine, fh, off, whence);

	return r == -EOVERFLOW ? -EINVAL : r;
}

DZ_DOOR(off_t, lseek, int fd, off_t off, int whence)
{
	dz_fh fh = dz_fd_get(fd);

	if (!fh)
		return dz_ret(dz_sys_3(SYS_lseek, fd, off, whence));
	if (dz_is_opath(fh))
		return dz_done(DZ_CALL_lseek, -EBADF, fd, off, whence);
	return dz_done(DZ_CALL_lseek, seek(fh, off, whence), fd, off, whence);
}

#include "shim/aliases.h"
