/* SPDX-License-Identifier: MIT */
/*
 * Watching: a watcher of a mount (tensorboard, Java's WatchService) gets a watch
 * that is valid and never fires: on a directory of the kernel's in which no name
 * ever comes or goes.  All names of a mount share it, so the number tells a
 * program that watches two of them nothing; it hears of neither.
 */
#define DZ_IN_inotify 1
#include <fcntl.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include "shim/hooks.h"
#include "shim/real.h"

static int watch_nothing(int fd, const struct dz_path *p, uint32_t mask)
{
	/* Not who opens or reads it: others do. */
	uint32_t quiet = mask & (IN_CREATE | IN_DELETE | IN_MOVE | IN_MODIFY | IN_MASK_ADD);
	struct dz_attr attr;
	int ret = dz_path_stat(p, &attr);

	if (ret < 0)
		return ret;
	if ((mask & IN_ONLYDIR) && !S_ISDIR(attr.mode))
		return -ENOTDIR;
	if (!(mask & IN_ALL_EVENTS))
		return -EINVAL;
	ret = (int)dz_sys_3(SYS_inotify_add_watch, fd, "/proc/sys", quiet | IN_DELETE_SELF);
	/* No /proc: as when there are no watches left, and programs look by themselves. */
	return ret == -ENOENT || ret == -EACCES ? -ENOSPC : ret;
}

DZ_DOOR(int, inotify_add_watch, int fd, const char *path, uint32_t mask)
{
	struct dz_path p;
	long r = dz_path_at(AT_FDCWD, path, &p);

	if (r == 0) {
		r = dz_sys_3(SYS_inotify_add_watch, fd, p.path, mask);
		if (!dz_path_again(r, &p))
			return (int)dz_ret(r);
		r = 1;
	}
	return (int)dz_done(DZ_CALL_inotify_add_watch, r < 0 ? r : watch_nothing(fd, &p, mask), fd,
			    path, mask);
}

/* fanotify marks file systems and mounts of the kernel; ours is neither. */
DZ_DOOR(int, fanotify_mark, int fd, unsigned int flags, uint64_t mask, int dir_fd, const char *path)
{
	struct dz_path p = { .dir_fd = dir_fd, .path = path };
	long r = path ? dz_path_at(dir_fd, path, &p) : dz_fd_get(dir_fd) != 0;

	if (r == 0)
		return (int)dz_ret(dz_sys_5(SYS_fanotify_mark, fd, flags, mask, p.dir_fd, p.path));
	return (int)dz_bypass(DZ_CALL_fanotify_mark, r < 0 ? r : -EOPNOTSUPP, fd, flags, mask,
			      dir_fd, path);
}

#include "shim/aliases.h"
