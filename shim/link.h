/* SPDX-License-Identifier: MIT */
/* Symbolic links, and those of /proc that stand for something of ours. */
#ifndef DZ_LINK_H
#define DZ_LINK_H

#include "cache/base.h"

/* readlink(2) with our eyes: bytes or -errno. */
ssize_t dz_link_read(const char *path, char *buf, size_t len);
/* The managed descriptor that "/proc/self/fd/N", "/dev/fd/N" or "/dev/stdin" means, or -1. */
int dz_link_fd(const char *path);

#endif
