/* SPDX-License-Identifier: MIT */
/* How a name of ours looks in struct stat: the same through every call, in every process. */
#ifndef DZ_ATTR_H
#define DZ_ATTR_H

#include "cache/engine.h"

#include <sys/stat.h>

/* Sets the buffer of stdio and of Python: one piece of read-ahead for free. */
#define DZ_STAT_BLKSIZE (128 * 1024)
/* A device of ours: a major number that Linux gives to nobody, the mount as the minor. */
#define DZ_STAT_MAJOR 0x5a0u

void dz_attr_to_stat(const struct dz_attr *attr, uint32_t mount, struct stat *st);
/* fstat(2) of an open file of ours; -errno. */
int dz_attr_fstat(dz_fh fh, struct stat *st);

#endif
