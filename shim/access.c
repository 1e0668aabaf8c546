/* SPDX-License-Identifier: MIT */
/*
 * May the program read, write, execute a name?  Everybody may read; nobody may
 * write (EROFS, even root, as on a read-only file system).
 */
#define DZ_IN_access 1
#include "shim/hooks.h"
#include "shim/real.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef SYS_faccessat2
#define SYS_faccessat2 439
#endif

static int check(const struct dz_path *p, int mode)
{
	struct dz_attr attr;
	int r;

	if (mode & ~(R_OK | W_OK | X_OK))
		return -EINVAL;
	r = dz_path_stat(p, &attr);
	if (r < 0)
		return r;
	if (mode & W_OK)
		return -EROFS;
	return (mode & X_OK) && !(attr.mode & 0111) ? -EACCES : 0;
}

/* `r`: what the kernel has said of the path as it stands, or DZ_NOT_ASKED. */
static DZ_NOINLINE int access_looked_at(long r, const char *path, int mode)
{
	struct dz_path p;
	long ours = dz_path_look_at(AT_FDCWD, path, &p);

	if (ours == 0) {
		if (r == DZ_NOT_ASKED || p.path != path)
			r = dz_sys_3(SYS_faccessat, p.dir_fd, p.path, mode);
		if (!dz_path_again(r, &p))
			return (int)dz_ret(r);
	}
	return (int)dz_done(DZ_CALL_access, ours < 0 ? ours : check(&p, mode), path, mode);
}

DZ_DOOR(int, access, const char *path, int mode)
{
	long r;

	if (!dz_path_passes(AT_FDCWD, path))
		return access_looked_at(DZ_NOT_ASKED, path, mode);
#if defined(SYS_access)
	r = dz_sys_2(SYS_access, path, mode); /* 30 ns less than faccessat */
#else
	r = dz_sys_3(SYS_faccessat, AT_FDCWD, path, mode);
#endif
	return dz_path_is_missing(r) ? access_looked_at(r, path, mode) : (int)dz_ret(r);
}

/* The kernel's faccessat has no flags; libc knows how to do them without faccessat2. */
static long kernel_access(int dir_fd, const char *path, int mode, int flags)
{
	int (*real)(int, const char *, int, int) = DZ_REAL(faccessat);
	int saved = errno;
	long r;

	if (flags == 0)
		return dz_sys_3(SYS_faccessat, dir_fd, path, mode);
	r = dz_sys_4(SYS_faccessat2, dir_fd, path, mode, flags);
	if (r != -ENOSYS && r != -EPERM)
		return r;
	r = real(dir_fd, path, mode, flags);
	r = r < 0 ? -errno : r;
	errno = saved;
	return r;
}

DZ_DOOR(int, faccessat, int dir_fd, const char *path, int mode, int flags)
{
	struct dz_path p;
	long r;

	if ((flags & AT_EMPTY_PATH) && path && !*path && dz_fd_get(dir_fd))
		return (int)dz_done(DZ_CALL_faccessat, mode & W_OK ? -EROFS : 0, dir_fd, path, mode,
				    flags);
	r = dz_path_at(dir_fd, path, &p);
	if (r == 0) {
		r = kernel_access(p.dir_fd, p.path, mode, flags);
		if (!dz_path_again(r, &p))
			return (int)dz_ret(r);
		r = 1;
	}
	return (int)dz_done(DZ_CALL_faccessat, r < 0 ? r : check(&p, mode), dir_fd, path, mode,
			    flags);
}

DZ_DOOR(int, euidaccess, const char *path, int mode)
{
	struct dz_path p;
	long r = dz_path_at(AT_FDCWD, path, &p);

	if (r == 0) {
		r = kernel_access(p.dir_fd, p.path, mode, AT_EACCESS);
		if (!dz_path_again(r, &p))
			return (int)dz_ret(r);
		r = 1;
	}
	return (int)dz_done(DZ_CALL_euidaccess, r < 0 ? r : check(&p, mode), path, mode);
}

#include "shim/aliases.h"
