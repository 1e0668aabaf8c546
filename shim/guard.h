/* SPDX-License-Identifier: MIT */
/*
 * Does code that is not ours run for the engine on this thread?  Then a path is
 * never ours: what the engine loads (curl, OpenSSL) opens its configuration
 * through our own doors, and a configuration on a mount would need the engine to
 * read itself.
 *
<<<<<<< Updated upstream
 * Descriptors do not ask: a signal handler that interrupts the engine may read a
 * managed file.  Its open() of a managed path fails with ENOENT: the price.  One
 * that leaves by siglongjmp never comes back into the engine (jump.c).
=======
 * Set only while signals are blocked and cancellation is off (cache/inline.c,
 * attaching): no handler finds it set, and none can jump away and leave it set.
>>>>>>> Stashed changes
 */
#ifndef DZ_GUARD_H
#define DZ_GUARD_H

extern __thread int dz_depth __attribute__((tls_model("initial-exec"), visibility("hidden")));

<<<<<<< Updated upstream
/* The value of an engine call that may fetch. */
#define DZ_INSIDE(expr)                                                                            \
	({                                                                                         \
		int depth_ = dz_depth++;                                                           \
		__typeof__(expr) inside_ = (expr);                                                 \
		dz_depth = depth_;                                                                 \
		inside_;                                                                           \
	})

=======
>>>>>>> Stashed changes
#endif
