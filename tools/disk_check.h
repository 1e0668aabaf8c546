/* SPDX-License-Identifier: MIT */
/*
 * Blocks of the disk tier against their checksums: several reads under way, no
 * bytes kept.  A block that fails is dropped from the tier.
 */
#ifndef DZ_DISK_CHECK_H
#define DZ_DISK_CHECK_H

#include "cache/engine_priv.h"
#include "cache/ring.h"
#include "tools/progress.h"

#define DZ_DISK_CHECK_DEPTH 8u

struct dz_disk_check_read {
	struct dz_io io;
	uint8_t *buf;
	uint64_t ctl;
	uint32_t slot, len, crc;
};

struct dz_disk_check {
	struct dz_disk *disk;
	const struct dz_seg *seg;
	struct dz_ring *ring;
	struct dz_disk_check_read read[DZ_DISK_CHECK_DEPTH];
	uint32_t head, n; /* reads under way */
	uint64_t good, bad;
	uint64_t moved;		      /* evicted or written anew meanwhile */
	uint64_t failed;	      /* the device or the file system would not */
	uint64_t bytes;		      /* of the good ones */
	struct dz_progress *progress; /* NULL: nobody looks */
};

/* Is this slot's block whole and at rest?  Its length. */
bool dz_slot_is_ready(const struct dz_slot *s, uint64_t *ctl, uint32_t *len);

/* The engine has a disk tier.  0 or -ENOMEM. */
int dz_disk_check_open(struct dz_disk_check *c, struct dz_engine *e, struct dz_progress *progress);
/* Begins with a slot; one that is not ready is passed over. */
void dz_disk_check_slot(struct dz_disk_check *c, uint32_t slot);
/* Waits for what is under way; the counts are complete then. */
void dz_disk_check_close(struct dz_disk_check *c);

#endif
