/* SPDX-License-Identifier: MIT */
/*
 * Descriptor -> open file, private to the process: one word a descriptor, in an
 * anonymous mapping touched lazily.  A lookup is two loads.  fork copies the
 * table; a vfork child shares it and must not write it (dz_in_vfork_child()).
 */
#ifndef DZ_FDTAB_H
#define DZ_FDTAB_H

#include "cache/engine.h"

/* The open file behind fd, 0 when it is not ours.  Any context, no system call. */
dz_fh dz_fd_get(int fd);
/* fd now stands for fh (0: for nothing of ours), replacing what it stood for.  When the last
 * descriptor of a description goes, the engine is told. */
void dz_fd_set(int fd, dz_fh fh);
/* All of ours in [first, last], for close_range; cb may call dz_fd_set. */
void dz_fd_each(int first, int last, void (*cb)(int fd, dz_fh fh, void *arg), void *arg);
/* Looks at descriptors that the process was born with or received. */
void dz_fd_adopt(int fd);
void dz_fd_adopt_all(void);
/* Directory position, snapshot etc. that belong to a description in this process:
 * see dir.c.  Dropped with the last descriptor. */
bool dz_in_vfork_child(void);

#endif
