/* SPDX-License-Identifier: MIT */
/*
 * A vfork child has descriptors of its own and its parent's table.  What it
 * duplicated since (dup2(7, 0) is the rule) dz_fd_child_each() knows; what the
 * table says besides is asked of the kernel, because the child may have closed it.
 */
#include "shim/inherit.h"

#include "shim/fdtab.h"
#include "shim/init.h"

#include "cache/sys.h"

#include <fcntl.h>

static bool stays_open(int fd)
{
	long flags = dz_sys_2(SYS_fcntl, fd, F_GETFD);

	return flags >= 0 && !(flags & FD_CLOEXEC);
}

static bool is_marker(int fd)
{
	long flags = dz_sys_2(SYS_fcntl, fd, F_GETFL);

	return flags >= 0 && (flags & O_PATH);
}

static void each(void (*cb)(int fd, dz_fh fh, void *arg), void *arg)
{
	if (!dz_engine)
		return;
	if (dz_in_vfork_child())
		dz_fd_child_each(cb, arg);
	dz_fd_each(0, -1, cb, arg);
}

static void note_any(int fd, dz_fh fh, void *arg)
{
	(void)fh;
	if (stays_open(fd) && is_marker(fd))
		*(bool *)arg = true;
}

bool dz_inherit_any(void)
{
	bool any = false;

	each(note_any, &any);
	return any;
}

static void keep(int fd, dz_fh fh, void *arg)
{
	(void)arg;
	if (stays_open(fd))
		dz_fd_hand_over(fd, fh);
}

void dz_inherit_keep(void)
{
	each(keep, NULL);
}

/* The file's bytes in place of the marker; what cannot be done leaves the marker (EBADF). */
static void promote(int fd, dz_fh fh, void *arg)
{
	struct dz_inherit *in = arg;
	int64_t pos;
	int real;

	if (in->n == DZ_PROMOTED_MAX || !stays_open(fd) || !is_marker(fd))
		return;
	real = dz_engine_real_fd(dz_engine, fh, true);
	if (real < 0)
		return;
	pos = dz_engine_seek(dz_engine, fh, 0, SEEK_CUR);
	if (pos > 0)
		dz_sys_3(SYS_lseek, real, pos, SEEK_SET);
	in->promoted[in->n].fd = fd;
	in->promoted[in->n].saved = (int)dz_sys_3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 64);
	if (in->promoted[in->n].saved >= 0 && dz_sys_3(SYS_dup3, real, fd, 0) >= 0)
		in->n++;
	dz_sys_close(real);
}

void dz_inherit_promote(struct dz_inherit *in)
{
	in->n = 0;
	each(promote, in);
}

void dz_inherit_undo(struct dz_inherit *in)
{
	while (in->n > 0) {
		in->n--;
		dz_sys_3(SYS_dup3, in->promoted[in->n].saved, in->promoted[in->n].fd, 0);
		dz_sys_close(in->promoted[in->n].saved);
	}
}
