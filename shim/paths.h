/* SPDX-License-Identifier: MIT */
/* Is a path ours?  Applies dirfd, the working directory below a mount, ".", "..", "//". */
#ifndef DZ_PATHS_H
#define DZ_PATHS_H

#include "cache/engine.h"

struct dz_path {
	uint32_t mount;
	uint32_t len;		     /* of name */
	bool wants_dir;		     /* the path ended in '/' or "/." */
	char name[DZ_NAME_MAX + 1];  /* below the mount, "" is its root */
};

/*
 * 1: ours, *out filled.  0: not ours, call the kernel with the path as given.
 * -errno: ours and wrong (-ENOENT "", -ENAMETOOLONG, -ENOTDIR).  The test that a path is
 * not ours costs a compare of its first bytes when it is absolute.  A symbolic link outside a
 * mount that leads into one is followed (only looked for when the kernel says ENOENT: see
 * dz_path_retry).  NULL or unreadable path: 0, and the kernel says EFAULT.
 */
int dz_path_at(int dir_fd, const char *path, struct dz_path *out);
/* After the kernel failed with ENOENT or ENOTDIR on a path that is not ours: does it lead into a
 * mount through a symbolic link?  Then 1 and *out. */
int dz_path_retry(int dir_fd, const char *path, struct dz_path *out);
/* The local path ("/mnt/blob/a/b") of a mount's name; returns its length or -ERANGE. */
int dz_path_local(uint32_t mount, const char *name, char *buf, size_t len);

#endif
