/* SPDX-License-Identifier: MIT */
/*
 * Disk I/O of the calling thread: an io_uring of its own (SINGLE_ISSUER,
 * DEFER_TASKRUN, registered ring without a descriptor that the program could
 * close, memory not inherited by fork) or, where that is denied, preadv2 and
 * pwritev2 behind the same interface.  A ring belongs to one thread of one
 * process: dz_ring_get() in a forked child makes a new one.
 */
#ifndef DZ_RING_H
#define DZ_RING_H

#include "cache/base.h"

struct dz_ring;

struct dz_io {
	bool is_write;
	int fd;
	void *buf; /* aligned to 4096, like off and len */
	uint32_t len;
	uint64_t off;
	int32_t res; /* bytes, or -errno; set when done */
	bool is_done;
	uint64_t took_ms; /* from start to the look that found it done */
	void *owner;	  /* the caller's */
};

/*
 * Makes a ring of `depth` for the calling thread; never fails for lack of
 * io_uring (then it is synchronous), only -ENOMEM.
 */
int dz_ring_new(struct dz_ring **out, uint32_t depth, bool no_uring);
/*
 * Waits for what is in flight, then frees; by the thread that made it.  Anyone
 * else (the child after fork; the process after that thread ended): dz_ring_abandon().
 */
void dz_ring_free(struct dz_ring *ring);
void dz_ring_abandon(struct dz_ring *ring);
bool dz_ring_is_uring(const struct dz_ring *ring);
/* Its descriptor, where the kernel (before 5.18) needs one kept open; else -1. */
int dz_ring_fd(const struct dz_ring *ring);
/*
 * May the caller use it: is this the thread that made it, and not a child forked
 * or vforked since?  In anyone else's hands dz_ring_start() is synchronous.
 */
bool dz_ring_is_ours(const struct dz_ring *ring);
/* Was it made before a fork that made us?  Then dz_ring_abandon() is all that may be done. */
bool dz_ring_is_inherited(const struct dz_ring *ring);
/* I/Os started and not yet reported by dz_ring_wait(): their buffers may still be written. */
uint32_t dz_ring_in_flight(const struct dz_ring *ring);
/*
 * Starts an I/O; `io` must live until is_done.  Returns 0; -EBUSY depth reached;
 * -EIO the ring lost I/Os, which may still write to the caller's buffers.
 */
int dz_ring_start(struct dz_ring *ring, struct dz_io *io);
/* What was started goes to the kernel now, not at the next wait. */
void dz_ring_kick(struct dz_ring *ring);
/*
 * Waits until at least one I/O ended; returns how many did (0: none was in
 * flight), or -errno: the kernel took the ring away (a program closed its
 * descriptor), what is in flight will never be reported and its buffers must not
 * be used again; dz_ring_start() refuses from then on.
 */
int dz_ring_wait(struct dz_ring *ring);

#endif
