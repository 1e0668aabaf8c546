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

/* What make bench-eviction was run with. */
#define DZ_EVICT_WINDOW_PART 20u /* the window is 1/20 of the blocks */
#define DZ_EVICT_SAMPLE	     8u	 /* random blocks, of which the worst may go */
#define DZ_EVICT_MARGIN                                                                            \
	1u /* by how much a newcomer must be used more often                                       \
	    */
#define DZ_EVICT_COUNT_MAX 15u
#define DZ_EVICT_HALF_MIN  8u /* capacities, see dz_evict_half() */
#define DZ_EVICT_HALF_MAX  64u
#define DZ_EVICT_IDLE_PART 4u /* see dz_evict_idle_after() */

/*
 * The decisions.  `word` is an entry of the frequency table: count:4 | tick:12,
 * `now` the table's clock, `half` how many of its units halve a count.
 */
uint32_t dz_evict_freq(uint16_t word, uint32_t now, uint32_t half);
uint16_t dz_evict_bump(uint16_t word, uint32_t now, uint32_t half);
/* Units that halve a count, for a cache of `capacity` blocks and a load of
 * `footprint` ones. */
uint32_t dz_evict_half(uint64_t capacity, uint64_t footprint, uint32_t age_shift);
/*
 * Of 256 evictions, how many go by recency alone, when LRU would hit `lead` (of
 * 65536) more than we do: all from 1/16 on.
 */
uint32_t dz_evict_by_recency(int32_t lead);

/*
 * Accesses to others after which a data set is idle: twice its longest pause so
 * far, but 1/4 of the capacity at least, and one capacity at most.
 */
uint64_t dz_evict_idle_after(uint64_t capacity, uint32_t gap);

/* What is known of a block when it is weighed. */
struct dz_evict_view {
	bool is_idle; /* nobody has used its data set for long */
	uint32_t freq;
	uint32_t age; /* ticks since it was counted last */
};
/* Which of two blocks goes first. */
bool dz_evict_goes_before(struct dz_evict_view a, struct dz_evict_view b);
/* Does the newcomer displace the block? */
bool dz_evict_displaces(struct dz_evict_view newcomer, struct dz_evict_view block);

/*
 * Counts one access of the block (once a period at most).  For every block that
 * a read or a mapping uses, whether it was there or had to be fetched; not for
 * prefetch.  Relaxed stores, any context.
 */
void dz_evict_touch(const struct dz_seg *seg, enum dz_tier tier, uint32_t slot);

/* Ticks that a unit of the clock has, as a shift. */
static inline uint32_t dz_evict_shift(const struct dz_seg *seg)
{
	uint32_t shift = atomic_load_explicit(&seg->hdr->age_shift, memory_order_relaxed);

	return shift ? (shift - 1) & 31 : 0;
}

/* Ticks between two counted accesses of a block. */
static inline uint32_t dz_evict_period(uint32_t shift)
{
	return shift > 2 ? 1u << (shift - 2) : 1;
}

/* Would dz_evict_touch() count the access?  It asks that itself, too. */
static inline bool dz_evict_is_due(const struct dz_seg *seg, const struct dz_slot *s)
{
	uint32_t last = atomic_load_explicit(&s->tick, memory_order_relaxed);
	uint32_t tick = atomic_load_explicit(&seg->hdr->tick, memory_order_relaxed);

	return last == 0 || tick - last >= dz_evict_period(dz_evict_shift(seg));
}
/* A block was filled into `slot` (key and group are stored): it enters the
 * window. */
void dz_evict_filled(const struct dz_seg *seg, enum dz_tier tier, uint32_t slot);
/* How often the key was used of late, as the policy weighs it: 0 to 15. */
uint32_t dz_evict_count(const struct dz_seg *seg, enum dz_tier tier, struct dz_key key);
/*
 * Frees space for a chunk of `pages` (0: any) in `tier` by evicting one or more
 * blocks.  Returns 0 when something was freed, -EAGAIN when nothing could be.
 */
int dz_evict_make_room(const struct dz_seg *seg, enum dz_tier tier, uint32_t pages);
/*
 * Should a block with this key (and group) be written to the tier?  Yes while
 * it has room; then only if it displaces the worst of a few.
 */
bool dz_evict_admits(const struct dz_seg *seg, enum dz_tier tier, struct dz_key key,
		     uint32_t group);

#endif
