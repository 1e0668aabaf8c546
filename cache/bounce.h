/* SPDX-License-Identifier: MIT */
/*
 * What a thread reads the disk with: a ring, and 2 MiB of memory that a device
 * may write to while the program forks (a child does not get it, so no page of
 * it is ever copied under a transfer).  Made at the first use, kept by the
 * caller in a pointer of the thread's own.
 *
 *     ret = dz_bounce_get(&mine, &b);
 *     ... dz_ring_start(b->ring, ...) into dz_bounce_buf(b, i), dz_ring_wait() ...
 *     dz_bounce_put(&mine, b);
 *
 * A signal handler that reads while its thread is inside such a pair, and a
 * vforked child, get one of their own for that read.
 */
#ifndef DZ_BOUNCE_H
#define DZ_BOUNCE_H

#include "cache/ring.h"

#define DZ_BOUNCE_BUFS	8u
#define DZ_BOUNCE_BYTES ((uint32_t)(256 * DZ_KIB))

struct dz_bounce {
	struct dz_ring *ring; /* DZ_BOUNCE_BUFS deep */
	uint8_t *mem;	      /* the buffers, one after the other: a whole block fits four */
	_Atomic uint32_t is_busy;
};

static inline uint8_t *dz_bounce_buf(const struct dz_bounce *b, uint32_t i)
{
	return b->mem + (size_t)(i % DZ_BOUNCE_BUFS) * DZ_BOUNCE_BYTES;
}

/*
 * The thread's own (*mine, NULL at first; made anew after a fork), or one for
 * this read alone when that is in use.  0 or -ENOMEM.
 */
int dz_bounce_get(struct dz_bounce **mine, struct dz_bounce **out, bool no_uring);
/* Waits for what is still in flight; memory that the device may yet write to is not used again. */
void dz_bounce_put(struct dz_bounce **mine, struct dz_bounce *b);
/* By its thread at its end, or by anybody once the thread is gone. */
void dz_bounce_free(struct dz_bounce *b);

#endif
