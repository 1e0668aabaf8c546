/* SPDX-License-Identifier: MIT */
/*
 * Space of a tier: 1 MiB slabs, whole or cut into chunks of one size class
 * (4 KiB x {1,2,3,4,5,6,7,8,10,12,14,16,20,24,28,32,40,48,56,64,80,96,112,128}
 * and 256).  No lists and no counts that matter, so a kill leaves nothing to
 * repair but a slot whose owner is dead.
 *
 * Who may change what, so that every step is one CAS and can be redone:
 *
 *   slot free -> filling	whoever wins the CAS; from then on he *holds* it
 *   bit of a chunk		only the holder of its slot.  DRAM: the slot with the
 *				number of the chunk's first page.  Disk: the slot that
 *				disk_map[first page] names, which its holder put there
 *   slab free -> cut		anybody, when it is free
 *   slab cut -> free		anybody, when all its bits are 0; by way of `busy`,
 *				which anybody may bring to its end
 *
 * Hence a bit that is set while no slot is held is left over from a kill, and
 * the scrubber clears it as the holder of that slot.
 */
#ifndef DZ_SLABS_H
#define DZ_SLABS_H

#include "cache/segment.h"

/* Pages of the smallest class that holds `bytes` (1 to 256). */
uint32_t dz_class_pages(uint64_t bytes);
/* Number of the class of that many pages, below DZ_CLASSES. */
uint32_t dz_class_number(uint32_t pages);
/*
 * A walk over the free chunks of a class: the slab where one was last freed,
 * then some further ones, then a free slab, which it cuts.  Bounded, so it may
 * find none in a tier that has some; the next walk starts elsewhere.
 */
struct dz_chunk_walk {
	uint32_t pages; /* the class */
	uint32_t page;	/* first page of the chunk found */
	uint32_t slab, next, left;
	uint64_t gen; /* of the slab when it was found */
	bool is_in_slab, wants_free;
};
void dz_slabs_walk(const struct dz_seg *seg, enum dz_tier tier, uint64_t bytes,
		   struct dz_chunk_walk *w);
bool dz_slabs_next(const struct dz_seg *seg, enum dz_tier tier, struct dz_chunk_walk *w);
/* Sets the bit of the chunk found; false when it is taken, or the slab was cut anew. */
bool dz_slabs_commit(const struct dz_seg *seg, enum dz_tier tier, const struct dz_chunk_walk *w);
/*
 * First page of a free chunk for `bytes` in `tier`, or DZ_NONE when none is
 * found (evict, then try again).  Lock-free, any context.  The chunk has no
 * slot, so the scrubber takes it back: dz_slot_alloc() is for lasting use.
 */
uint32_t dz_slabs_alloc(const struct dz_seg *seg, enum dz_tier tier, uint64_t bytes);
/* Gives back the chunk that begins at `page`; freeing a free chunk does nothing. */
void dz_slabs_free(const struct dz_seg *seg, enum dz_tier tier, uint32_t page);
/*
 * For the replay of journals, while nobody else uses the tier: plain stores, no count.
 * Marks the chunk at `page` for `bytes` as taken.  0, or -EEXIST it overlaps what is there.
 */
int dz_slabs_take(const struct dz_seg *seg, enum dz_tier tier, uint32_t page, uint64_t bytes);
/* All slabs free, before; what is used, after. */
void dz_slabs_reset(const struct dz_seg *seg, enum dz_tier tier);
void dz_slabs_recount(const struct dz_seg *seg, enum dz_tier tier);
/* Class (pages a chunk) of the slab that holds `page`; 0 when the slab is free. */
uint32_t dz_slabs_chunk_pages(const struct dz_seg *seg, enum dz_tier tier, uint32_t page);
/* Is the chunk that begins at `page` allocated? */
bool dz_slabs_is_taken(const struct dz_seg *seg, enum dz_tier tier, uint32_t page);
/*
 * The `n`-th taken chunk of the slab (n counted modulo what there is); its first
 * page, and in *slot the slot that holds it.  DZ_NONE: no chunk, or no such slot.
 */
uint32_t dz_slabs_nth(const struct dz_seg *seg, enum dz_tier tier, uint32_t slab, uint32_t n,
		      uint32_t *slot);
/* The slab where a chunk of the class was last cut or freed. */
uint32_t dz_slabs_hint(const struct dz_seg *seg, enum dz_tier tier, uint32_t pages);
/* Taken chunks of a slab. */
uint32_t dz_slabs_count(const struct dz_seg *seg, enum dz_tier tier, uint32_t slab);
/*
 * Repairs slabs [first, first + n) after kills: clears bits without a slot,
 * finishes evictions of dead members, evicts blocks that the index does not
 * name, returns empty slabs; of the disk tier also the like part of its slots.
 * Not a disk slot that a dead member was writing to.  How many slots it freed.
 * Over the whole tier it also counts again what is used.
 */
uint32_t dz_slabs_scrub(const struct dz_seg *seg, enum dz_tier tier, uint32_t first, uint32_t n);

/*
 * A slot with space for `bytes`, in state filling and owned by `owner`, evicting
 * (evict.h) as needed; DZ_NONE when nothing can be freed now.  *ctl is its word.
 * Key, len, group, kind are the caller's to store before dz_index_insert().
 */
uint32_t dz_slot_alloc(const struct dz_seg *seg, enum dz_tier tier, uint64_t bytes, uint32_t owner,
		       uint64_t *ctl);
/*
 * For the replay: the disk slot `slot`, which is free, becomes the holder of the chunk at
 * `page`; *ctl is what its word will be once ready.  False: the chunk overlaps another.
 */
bool dz_slot_take(const struct dz_seg *seg, uint32_t slot, uint32_t page, uint64_t bytes,
		  uint64_t *ctl);
/* Undoes that. */
void dz_slot_untake(const struct dz_seg *seg, uint32_t slot);
/* Before it, all that the tables of the disk tier hold goes, but for the index. */
void dz_slot_reset_disk(const struct dz_seg *seg);
/* filling (word `ctl`) -> ready, same generation; *now is the new word.  False: taken over. */
bool dz_slot_publish(const struct dz_seg *seg, enum dz_tier tier, uint32_t slot, uint64_t ctl,
		     uint64_t *now);
/* ready (word `ctl`) -> filling, same generation: `owner` will add pieces.  False: it changed. */
bool dz_slot_refill(const struct dz_seg *seg, enum dz_tier tier, uint32_t slot, uint64_t ctl,
		    uint32_t owner, uint64_t *now);
/*
 * filling or quarantine (word `ctl`) -> free, space and all.  Returns false when
 * somebody took it over meanwhile.  A pinned DRAM slot stays in `evicting`, out
 * of readers' sight, until dz_slot_reap() finds it unpinned.
 */
bool dz_slot_discard(const struct dz_seg *seg, enum dz_tier tier, uint32_t slot, uint64_t ctl);
/*
 * ready -> evicting -> free: takes it out of the index and gives the space back.
 * Returns false when it is not ready, changed, or pinned by a hazard record.
 */
bool dz_slot_evict(const struct dz_seg *seg, enum dz_tier tier, uint32_t slot);
/*
 * Finishes an eviction or a discard that its owner (dead, or kept off by a pin)
 * did not: evicting (word `ctl`, by which he was judged) -> free.  False when it
 * is not in that state, or still pinned, or another finishes it.
 */
bool dz_slot_reap(const struct dz_seg *seg, enum dz_tier tier, uint32_t slot, uint64_t ctl);

/* The scrubber's: gives back the chunk at `page`, whose bit is set though `slot` is free. */
bool dz_slot_free_orphan(const struct dz_seg *seg, enum dz_tier tier, uint32_t slot, uint32_t page);

/*
 * Pins a DRAM slot (word `ctl`, readable) by a hazard record of this member, so
 * that a pointer into it may escape.  Returns the record's number, -ESTALE the
 * slot has changed, -EAGAIN all records are in use.
 */
int dz_slot_pin(const struct dz_seg *seg, uint32_t slot, uint64_t ctl);
void dz_slot_unpin(const struct dz_seg *seg, int record);

#endif
