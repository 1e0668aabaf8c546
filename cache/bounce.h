/* SPDX-License-Identifier: MIT */
/*
 * What a thread reads the disk with: a ring, and 2 MiB of memory that a device
 * may write to while the program forks (a child does not get it, so no page of
 * it is ever copied under a transfer).  Made at a thread's first read from the
 * disk; who keeps it where is the caller's affair.
 */
#ifndef DZ_BOUNCE_H
#define DZ_BOUNCE_H

#include "cache/ring.h"

#define DZ_BOUNCE_IOS  8u
#define DZ_BOUNCE_UNIT (256 * DZ_KIB)

struct dz_bounce {
	struct dz_ring *ring; /* DZ_BOUNCE_IOS deep */
	uint8_t *data;	      /* the buffers, one after the other: a block fits four */
	uint32_t pid, tid;    /* who made it */
	uint64_t saved;	      /* bytes: towards reading a block whole (read_disk.c) */
	struct dz_io io[DZ_BOUNCE_IOS];
};

static inline uint8_t *dz_bounce_buf(const struct dz_bounce *b, uint32_t i)
{
	return b->data + (size_t)(i % DZ_BOUNCE_IOS) * DZ_BOUNCE_UNIT;
}

/* For the calling thread.  0 or -ENOMEM. */
int dz_bounce_new(struct dz_bounce **out);
/*
 * By its thread (waits for what is in flight), or by anybody once that thread is
 * gone, or in a forked child.  Anywhere else (a vforked child that took its
 * parent's thread for dead) it does nothing, and the thread keeps it.
 */
void dz_bounce_free(struct dz_bounce *b);
/* In a forked child: the same, for one of the parent's. */
void dz_bounce_abandon(struct dz_bounce *b);

#endif
