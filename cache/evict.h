/* SPDX-License-Identifier: MIT */
/*
 * Which block goes: the policy, arrays only, no I/O (reference/engine.md 3.3:
 * FIFO window of 5 %, frequency with ageing, margin admission, idle groups).
 * The decisions take their inputs as parameters so that the simulator of `make
 * bench-eviction` runs the same code as the engine.
 */
#ifndef DZ_EVICT_H
#define DZ_EVICT_H

#include "cache/segment.h"

/* Counts one access of the block (once a tick at most).  Relaxed stores, any context. */
void dz_evict_touch(const struct dz_seg *seg, enum dz_tier tier, uint32_t slot);
/* A block was filled into `slot`: it enters the window. */
void dz_evict_filled(const struct dz_seg *seg, enum dz_tier tier, uint32_t slot);
/*
 * Frees space for a chunk of `pages` in `tier` by evicting one or more blocks.
 * Returns 0 when something was freed, -EAGAIN when nothing could be.
 */
int dz_evict_make_room(const struct dz_seg *seg, enum dz_tier tier, uint32_t pages);
/* Should a block with this key (and group) be written to the disk tier, which is full? */
bool dz_evict_admits(const struct dz_seg *seg, enum dz_tier tier, struct dz_key key,
		     uint32_t group);

#endif
