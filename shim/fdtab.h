/* SPDX-License-Identifier: MIT */
/*
 * Descriptor -> open file, private to the process: one word a descriptor, in an
 * anonymous mapping touched lazily.  A lookup is two loads.  fork copies the
 * table; a vfork child shares it and must not write it: dz_fd_set() and
 * dz_fd_drop() know that.  No locks: the doors may run in signal handlers.
 */
#ifndef DZ_FDTAB_H
#define DZ_FDTAB_H

#include "cache/engine.h"

#include <stdatomic.h>

#pragma GCC visibility push(hidden)
/* 0 until the first managed descriptor. */
extern _Atomic uint32_t dz_fd_limit;
extern _Atomic dz_fh *dz_fd_table;
#pragma GCC visibility pop

/* The open file behind fd, 0 when it is not ours.  Any context, no system call. */
static inline dz_fh dz_fd_get(int fd)
{
	/* Acquire: pairs with the store in dz_fd_set(); the table is there before its limit. */
	if ((uint32_t)fd >= atomic_load_explicit(&dz_fd_limit, memory_order_acquire))
		return 0;
	return atomic_load_explicit(&dz_fd_table[fd], memory_order_acquire);
}

/*
 * fd now stands for fh (0: for nothing of ours), replacing what it stood for; with
 * the last descriptor of a description the engine is told.  -EMFILE when fd is
 * beyond the table: the caller closes it.  In a vfork child the table stays as it
 * is, and the description is kept for the program that the child will run.
 */
int dz_fd_set(int fd, dz_fh fh);
/* fd stands for nothing of ours any more, and is about to be closed. */
void dz_fd_forget(int fd);
/* All of ours in [first, last]; cb may call dz_fd_set(). */
void dz_fd_each(int first, int last, void (*cb)(int fd, dz_fh fh, void *arg), void *arg);
/* In a vfork child: what it has duplicated or opened since (the table is its parent's). */
void dz_fd_child_each(void (*cb)(int fd, dz_fh fh, void *arg), void *arg);
/* Looks at descriptors that the process was born with, or has received. */
void dz_fd_adopt(int fd);
void dz_fd_adopt_all(void);

/*
 * fd, that stands for fh, is about to be another program's or process's too.  The kernel's
 * descriptor is exchanged; nothing else changes here.
 */
void dz_fd_hand_over(int fd, dz_fh fh);
/*
 * Around a call that replaces what fd is: it is not exchanged meanwhile.  Both wait a
 * little for another thread; neither for ever (its holder may be the code that this signal
 * handler has interrupted).
 */
void dz_fd_begin(int fd);
void dz_fd_end(int fd);
/* In the child of fork: its parent's other threads are not here. */
void dz_fd_start_again(void);

/*
 * Does this code run in a child that shares our memory?  One getpid() when the
 * thread has called vfork since the last look, none otherwise.
 */
bool dz_in_vfork_child(void);

/* close(2) of anything, for the files of shim/: -errno, engine's own protected. */
int dz_fd_close(int fd);
/* open(2) of a path that is ours: the marker, or -errno. */
struct dz_path;
int dz_fd_open(const struct dz_path *p, int flags);

#endif
