/* SPDX-License-Identifier: MIT */
/*
 * Libc's own functions, for those doors that stand before something that is not
 * a system call (fork, fopen, posix_spawn).  Looked up at first use, in the
 * objects after ours (then in those before: we may be loaded by dlopen), by our own
 * walk of the loader's list: no dlsym, so no malloc, no dlerror, no libdl and no
 * symbol newer than the oldest libc we run on.
 *
 *	FILE *(*real)(const char *, const char *) = DZ_REAL(fopen);
 *
 * NULL when libc has no such function.  Async-signal-safe.
 */
#ifndef DZ_REAL_H
#define DZ_REAL_H

#include "cache/base.h"

#include <stdatomic.h>

/* Default version of `name` behind us; remembered in *slot. */
void *dz_real(void *_Atomic *slot, const char *name);

/* A symbol of one object, as dlsym(handle, name) finds it there; NULL. */
void *dz_real_in(void *handle, const char *name);

#define DZ_REAL(name)                                                                              \
	({                                                                                         \
		static void *_Atomic slot_;                                                        \
		dz_real(&slot_, #name);                                                            \
	})

/*
 * Points at libc's "this process has one thread"; at 0 until somebody has looked, and
 * for good before glibc 2.32.
 */
extern const char *_Atomic dz_single_threaded __attribute__((visibility("hidden")));

static inline bool dz_is_single_threaded(void)
{
	return *atomic_load_explicit(&dz_single_threaded, memory_order_relaxed);
}

/*
 * A raw system call that may block, as a cancellation point where threads exist:
 * a thread in read() on a pipe can still be cancelled.  Result or -errno.
 */
long dz_sys_blocking(long nr, long a, long b, long c, long d, long e, long f);

/* A managed call in the place of one that is a cancellation point. */
void dz_cancel_test(void);
static inline void dz_cancel_point(void)
{
	if (!dz_is_single_threaded())
		dz_cancel_test();
}

#define DZ_BLOCK(alone, nr, a, b, c, d, e, f)                                                      \
	(__builtin_expect(dz_is_single_threaded(), 1)                                              \
		 ? (alone)                                                                         \
		 : dz_sys_blocking(nr, DZ_ARG_(a), DZ_ARG_(b), DZ_ARG_(c), DZ_ARG_(d), DZ_ARG_(e), \
				   DZ_ARG_(f)))
#define dz_block_3(nr, a, b, c)	      DZ_BLOCK(dz_sys_3(nr, a, b, c), nr, a, b, c, 0, 0, 0)
#define dz_block_4(nr, a, b, c, d)    DZ_BLOCK(dz_sys_4(nr, a, b, c, d), nr, a, b, c, d, 0, 0)
#define dz_block_5(nr, a, b, c, d, e) DZ_BLOCK(dz_sys_5(nr, a, b, c, d, e), nr, a, b, c, d, e, 0)
#define dz_block_6(nr, a, b, c, d, e, f)                                                           \
	DZ_BLOCK(dz_sys_6(nr, a, b, c, d, e, f), nr, a, b, c, d, e, f)

#endif
