/* SPDX-License-Identifier: MIT */
/*
 * Is there anything to do in this process at all?  Three states, decided once:
 * the constructor (or the first path call, when another library's constructor
 * runs before ours) reads the environment.  Without a mount every door is one
 * load of dz_hot.state and a raw system call.
 *
 * The engine is attached at the first touch of a managed path, or at once when
 * the process was born with a marker.
 */
#ifndef DZ_INIT_H
#define DZ_INIT_H

#include "cache/engine.h"

#include <stdatomic.h>

enum dz_state { DZ_NEW, DZ_OFF, DZ_ON };

/*
 * What calls on other files look at lies side by side: behind a system call each line of the
 * processor's cache is far away.  The first in the order of linking is aligned (fdtab.c).
 */
#define DZ_HOT_LINE __attribute__((section("dz_hot_line")))

#pragma GCC visibility push(hidden)
/* What each call looks at, in one line of the processor's cache. */
extern struct dz_hot {
	_Atomic int state;
	/* The rest is constant once the state is DZ_ON, but for was_inside. */
	bool has_hidden;	 /* a mount point exists as a real directory (hidden.h) */
	_Atomic bool was_inside; /* the working directory has been in a mount */
	uint64_t begins;	 /* elsewhere.c */
} dz_hot;
extern struct dz_config dz_config; /* constant once the state is DZ_ON */
/* NULL until attached; never NULL while a dz_fh exists or after dz_path_at() gave 1. */
extern struct dz_engine *dz_engine;
/* Of the process that owns the memory: differs from getpid() in a vfork child. */
extern _Atomic int dz_pid;
#pragma GCC visibility pop

/* Reads the environment when nobody has yet; true when there is a mount. */
bool dz_start(void);

static inline bool dz_is_on(void)
{
	int state = atomic_load_explicit(&dz_hot.state, memory_order_relaxed);

	if (__builtin_expect(state == DZ_ON, 1))
		return true;
	return state == DZ_NEW && dz_start();
}

/* 0, or -EIO when it cannot be (a vfork child of a process without an engine). */
int dz_attach(void);
/* In a child, after fork: its own process number, and no lock of another's thread. */
void dz_start_again(void);
/* From now on nothing is ours by its path (chroot); open descriptors stay. */
void dz_stop(void);
/* Our own file, as the loader found it. */
const char *dz_lib_path(void);

#endif
