/* SPDX-License-Identifier: MIT */
/*
 * dlopen of a library on a mount: the loader opens files by calls of its own, so
 * it is given /proc/self/fd/N of an ordinary descriptor with the library's bytes,
 * which is closed again when it is mapped.  RTLD_DEEPBIND and the rest of the
 * flags are the program's.  Only a name with a slash is a path; what the loader
 * finds by searching RPATH or LD_LIBRARY_PATH on a mount, it does not see.
 *
 * The loader knows a library by its inode: the same one, opened twice, is two
 * descriptors but one handle only as long as the engine gives one inode.
 */
#define DZ_IN_loader 1
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "shim/hooks.h"
#include "shim/real.h"

typedef void *dlopen_fn(const char *, int);
typedef void *dlmopen_fn(Lmid_t, const char *, int);

/* The library as the loader can open it, or -1: it is not on a mount, or cannot be had.  Then
 * the loader fails by itself, with its own message for dlerror. */
static int library_fd(const char *path)
{
	struct dz_path p;
	int ret, marker;

	if (!path || !strchr(path, '/') || dz_depth > 0 || !dz_is_on())
		return -1;
	ret = dz_path_at(AT_FDCWD, path, &p);
	if (ret == 0) {
		ret = (int)dz_sys_4(SYS_faccessat, p.dir_fd, p.path, 0, 0);
		ret = dz_path_again(ret, &p);
	}
	marker = ret > 0 ? dz_fd_open(&p, O_RDONLY | O_CLOEXEC) : -1;
	if (marker < 0)
		return -1;
	ret = dz_engine_real_fd(dz_engine, dz_fd_get(marker), true);
	dz_fd_close(marker);
	return ret;
}

static void *library_open(int fd, int flags)
{
	dlopen_fn *libc_dlopen = DZ_REAL(dlopen);
	char proc[32];
	void *handle;

	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	handle = libc_dlopen(proc, flags);
	dz_sys_close(fd);
	dz_done(DZ_CALL_dlopen, 0);
	return handle;
}

static void *library_open_in(Lmid_t space, int fd, int flags)
{
	dlmopen_fn *libc_dlmopen = DZ_REAL(dlmopen);
	char proc[32];
	void *handle;

	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	handle = libc_dlmopen(space, proc, flags);
	dz_sys_close(fd);
	dz_done(DZ_CALL_dlmopen, 0);
	return handle;
}

/*
 * The loader searches the RUNPATH of whoever it returns to: libc's dlopen has to be
 * the last thing that these two do, so that the compiler jumps there.
 */
DZ_DOOR(void *, dlopen, const char *path, int flags)
{
	dlopen_fn *libc_dlopen = DZ_REAL(dlopen);
	int fd = library_fd(path);

	if (fd >= 0)
		return library_open(fd, flags);
	return libc_dlopen(path, flags);
}

DZ_DOOR(void *, dlmopen, Lmid_t space, const char *path, int flags)
{
	dlmopen_fn *libc_dlmopen = DZ_REAL(dlmopen);
	int fd = library_fd(path);

	if (fd >= 0)
		return library_open_in(space, fd, flags);
	return libc_dlmopen(space, path, flags);
}

#include "shim/aliases.h"
