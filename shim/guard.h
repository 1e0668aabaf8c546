/* SPDX-License-Identifier: MIT */
/*
 * Does code that is not ours run for the engine on this thread?  Then a path is
 * never ours: what the engine loads (curl, OpenSSL) opens its configuration
 * through our own doors, and a configuration on a mount would need the engine to
 * read itself.
 *
 * Set only while signals are blocked and cancellation is off (cache/inline.c,
 * attaching): no handler finds it set, and none can jump away and leave it set.
 */
#ifndef DZ_GUARD_H
#define DZ_GUARD_H

extern __thread int dz_depth __attribute__((tls_model("initial-exec"), visibility("hidden")));

#endif
