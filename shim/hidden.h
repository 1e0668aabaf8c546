/* SPDX-License-Identifier: MIT */
/*
 * A mount point may exist as a real directory; the mount hides it.  A path that
 * spells the mount point is known by its name (paths.c), but a symbolic link, a
 * descriptor or "." can lead to the real directory without it: then the kernel
 * succeeds, and shows what is hidden.  Here it is noticed, by device and inode.
 *
 * What a real directory below a hidden one holds is not: a mount over a directory
 * that is not empty shows it to who comes by a link.
 */
#ifndef DZ_HIDDEN_H
#define DZ_HIDDEN_H

#include "shim/paths.h"

#include <sys/stat.h>

#pragma GCC visibility push(hidden)
extern uint32_t dz_hidden_count;
#pragma GCC visibility pop

/* At the start: which mount points exist outside? */
void dz_hidden_start(void);
/* Does it look like one of them?  No system call. */
bool dz_hidden_has(dev_t dev, ino_t ino);
/* Is it one of them?  Then *p is the root of the mount, and the engine is attached. */
bool dz_hidden_root(dev_t dev, ino_t ino, struct dz_path *p);
/* The same for what an open descriptor, or the working directory (AT_FDCWD), stands for. */
bool dz_hidden_fd(int fd, struct dz_path *p);
/* A descriptor of the real directory becomes one of the mount's; 0 or -errno. */
int dz_hidden_replace(int fd, const struct dz_path *p);

/* After the kernel's stat of something that is not ours has given `r`. */
static inline bool dz_hidden_stat(long r, const struct stat *st, struct dz_path *p)
{
	return r == 0 && dz_hidden_count && S_ISDIR(st->st_mode) &&
	       dz_hidden_has(st->st_dev, st->st_ino) && dz_hidden_root(st->st_dev, st->st_ino, p);
}

#endif
