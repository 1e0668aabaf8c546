/* SPDX-License-Identifier: MIT */
/*
 * key -> slot, in shared memory: two-choice buckets of eight words.  Lookups
 * take no lock and write nothing; insert and remove are one CAS each, so a kill
 * at any point leaves a valid table, at worst with an entry whose slot does not
 * map back, which the scrubber removes.
 */
#ifndef DZ_INDEX_H
#define DZ_INDEX_H

#include "cache/segment.h"

/* Key of block `blk` of the file with base `base`; blocks of one file never collide. */
static inline struct dz_key dz_block_key(struct dz_key base, uint64_t blk)
{
	return (struct dz_key){ base.lo + blk * 0x9e3779b97f4a7c15ull, base.hi };
}

/*
 * Slot of `key` in `tier` (DRAM or DISK) and its ctl as it was when the key
 * matched (state ready or filling); DZ_NONE when there is none.  The caller
 * re-checks ctl after using the bytes.  Context: any, a signal handler too.
 */
uint32_t dz_index_find(const struct dz_seg *seg, struct dz_key key, enum dz_tier tier,
		       uint64_t *ctl);
/*
 * The n bytes of DRAM's `slot` from `off` on, or the first KiB of them: the page walk
 * and those lines come in beside other work; the processor calls for the rest.
 */
static inline void dz_index_prefetch(const struct dz_seg *seg, uint32_t slot, uint32_t off,
				     size_t n)
{
	const uint8_t *at = dz_seg_page(seg, slot) + off;

	n = n < 1024 ? n : 1024;
	for (size_t i = 0; i < n; i += 64)
		__builtin_prefetch(at + i);
}
/* The same in DRAM, for who will read n bytes of the block from `off` on: they are on their way. */
uint32_t dz_index_find_bytes(const struct dz_seg *seg, struct dz_key key, uint32_t off, size_t n,
			     uint64_t *ctl);
/*
 * Makes `slot` findable under `key` (its key fields are already stored).
 * `old` (DZ_NONE: none) is the slot of the same tier that it replaces, in one
 * step.  Returns 0, -EEXIST another slot of this tier has the key and it is not
 * `old`, -ENOSPC both buckets are full.
 */
int dz_index_insert(const struct dz_seg *seg, struct dz_key key, enum dz_tier tier, uint32_t slot,
		    uint32_t old);
/*
 * The same for who alone inserts keys of this tier (others those of another) and has
 * looked ahead: the key's buckets were asked for some inserts before.  -EEXIST, -ENOSPC.
 */
int dz_index_add(const struct dz_seg *seg, struct dz_key key, enum dz_tier tier, uint32_t slot);
void dz_index_prefetch_places(const struct dz_seg *seg, struct dz_key key);
/* Clears all entries of the tier, which nobody uses. */
void dz_index_drop_tier(const struct dz_seg *seg, enum dz_tier tier);
/* Removes the entry of exactly this slot; returns whether it was there. */
bool dz_index_remove(const struct dz_seg *seg, struct dz_key key, enum dz_tier tier, uint32_t slot);
/* Clears entries of buckets [first, first + n) that map to no slot; returns how many. */
uint32_t dz_index_scrub(const struct dz_seg *seg, uint32_t first, uint32_t n);

static inline struct dz_slot *dz_slot_of(const struct dz_seg *seg, enum dz_tier tier, uint32_t slot)
{
	return tier == DZ_TIER_DRAM ? dz_dram_slot(seg, slot) : &seg->disk_slots[slot];
}

#endif
