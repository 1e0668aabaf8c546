/* SPDX-License-Identifier: MIT */
/*
 * A thread's means to read from the disk tier: a ring and 2 MiB of buffers, in
 * memory that fork does not copy (a device writes there).  Made on a thread's
 * first disk read; a thread that only hits DRAM never has one.
 */
#ifndef DZ_BOUNCE_H
#define DZ_BOUNCE_H

#include "cache/ring.h"

#define DZ_BOUNCE_IOS	8u
#define DZ_BOUNCE_UNIT	(256 * DZ_KIB)
/* A unit rounded out to pages on both sides. */
#define DZ_BOUNCE_ROOM	(DZ_BOUNCE_UNIT + 8192)

struct dz_bounce {
	struct dz_ring *ring;
	uint8_t *data; /* DZ_BOUNCE_IOS * DZ_BOUNCE_ROOM, page-aligned */
	struct dz_io io[DZ_BOUNCE_IOS];
};

/* 0 or -ENOMEM. */
int dz_bounce_new(struct dz_bounce **out);
void dz_bounce_free(struct dz_bounce *b);
/* In a forked child: the parent's; its buffers are not mapped here. */
void dz_bounce_abandon(struct dz_bounce *b);

static inline uint8_t *dz_bounce_buf(const struct dz_bounce *b, uint32_t i)
{
	return b->data + (size_t)i * DZ_BOUNCE_ROOM;
}

#endif
