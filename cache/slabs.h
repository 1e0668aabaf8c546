/* SPDX-License-Identifier: MIT */
/*
 * Space of a tier: 1 MiB slabs, whole or cut into chunks of one size class
 * (4 KiB x {1,2,3,4,5,6,7,8,10,12,14,16,20,24,28,32,40,48,56,64,80,96,112,128}
 * and 256).  Allocation is a CAS on a bitmap word; a slab whose bitmap is empty
 * goes back to the free ones.  No lists, so nothing to repair after a kill but a
 * bit without a slot, which the scrubber clears.
 */
#ifndef DZ_SLABS_H
#define DZ_SLABS_H

#include "cache/segment.h"

/* Pages of the smallest class that holds `bytes` (1 to 256). */
uint32_t dz_class_pages(uint64_t bytes);
/*
 * First page of a free chunk for `bytes` in `tier`, or DZ_NONE when the tier has
 * none (evict, then try again).  Lock-free, any context.
 */
uint32_t dz_slabs_alloc(const struct dz_seg *seg, enum dz_tier tier, uint64_t bytes);
/* Gives back the chunk that begins at `page`; freeing a free chunk does nothing. */
void dz_slabs_free(const struct dz_seg *seg, enum dz_tier tier, uint32_t page);
/* Marks the chunk at `page` for `bytes` as taken (journal replay; single-threaded).
 * Returns 0, or -EEXIST when it overlaps what is there. */
int dz_slabs_take(const struct dz_seg *seg, enum dz_tier tier, uint32_t page, uint64_t bytes);
/* Class (pages a chunk) of the slab that holds `page`; 0 when the slab is free. */
uint32_t dz_slabs_chunk_pages(const struct dz_seg *seg, enum dz_tier tier, uint32_t page);
/* Is the chunk that begins at `page` allocated? */
bool dz_slabs_is_taken(const struct dz_seg *seg, enum dz_tier tier, uint32_t page);

/*
 * A slot with space for `bytes`, in state filling and owned by `owner`, evicting
 * (evict.h) as needed; DZ_NONE when nothing can be freed now.  *ctl is its word.
 * Key, len, group, kind are the caller's to store before dz_index_insert().
 */
uint32_t dz_slot_alloc(const struct dz_seg *seg, enum dz_tier tier, uint64_t bytes, uint32_t owner,
		       uint64_t *ctl);
/*
 * filling (word `ctl`) -> free, space and all; the caller has removed it from the
 * index.  Returns false when somebody took it over meanwhile.
 */
bool dz_slot_discard(const struct dz_seg *seg, enum dz_tier tier, uint32_t slot, uint64_t ctl);
/*
 * ready -> evicting -> free: takes it out of the index and gives the space back.
 * Returns false when it is not ready, changed, or pinned by a hazard record.
 */
bool dz_slot_evict(const struct dz_seg *seg, enum dz_tier tier, uint32_t slot);

#endif
