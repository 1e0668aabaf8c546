/* SPDX-License-Identifier: MIT */
#define DZ_IN_seek 1
#include "shim/hooks.h"
#include "shim/opath.h"

DZ_DOOR(off_t, lseek, int fd, off_t off, int whence)
{
	dz_fh fh = dz_fd_get(fd);
	int64_t r;

	if (!fh)
		return dz_ret(dz_sys_3(SYS_lseek, fd, off, whence));
	if (dz_is_opath(fh))
		return dz_done(DZ_CALL_lseek, -EBADF);
	r = dz_engine_seek(dz_engine, fh, off, whence);
	/* EOVERFLOW is for a position that off_t cannot hold; the kernel's sum is checked first. */
	return dz_done(DZ_CALL_lseek, r == -EOVERFLOW ? -EINVAL : r);
}

#include "shim/aliases.h"
