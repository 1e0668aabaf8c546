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

/* A part of a block, on its way from the disk or here; b->io[] and buffer of the same number. */
struct dz_unit {
	uint64_t pos;  /* of the file */
	uint64_t ctl;  /* of the slot, when it was started */
	uint64_t call; /* of the stream, that started it */
	uint32_t slot, len;
	uint32_t skip;	 /* bytes of the buffer before it */
	bool is_checked; /* it is here, and was its block's */
	bool is_wanted;	 /* DRAM wants the block that begins here */
};

/* What the thread reads, and what of it is under way ahead (read_stream.c). */
struct dz_stream {
	uint64_t key_lo, key_hi; /* the file's; 0: none */
	uint64_t next;		 /* where a reader in order goes on */
	uint64_t row;		 /* bytes that were read in order up to there */
	uint32_t streak;	 /* and in how many reads */
	uint32_t head, n;	 /* units: the first byte's, and how many */
	uint64_t end;		 /* up to which units are started */
	uint64_t calls;
	bool is_queued; /* some units are not with the kernel yet */
	struct dz_unit unit[DZ_BOUNCE_IOS];
};

struct dz_bounce {
	struct dz_ring *ring; /* DZ_BOUNCE_IOS deep */
	uint8_t *data;	      /* the buffers, one after the other: a block fits four */
	uint32_t pid, tid;    /* who made it */
	uint64_t saved;	      /* bytes: towards reading a block whole (read_disk.c) */
	bool is_for_one_read; /* nothing in it is there for the next */
	bool is_broken;	      /* the kernel took the ring away, with I/Os under way */
	struct dz_stream stream;
	struct dz_io io[DZ_BOUNCE_IOS];
};

static inline uint8_t *dz_bounce_buf(const struct dz_bounce *b, uint32_t i)
{
	return b->data + (size_t)(i % DZ_BOUNCE_IOS) * DZ_BOUNCE_UNIT;
}

/* Until `io`, of b's, is done.  False: it never will be, and b is of no more use. */
bool dz_bounce_wait(struct dz_bounce *b, const struct dz_io *io);
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
