/* SPDX-License-Identifier: MIT */
/*
 * The life of a slot.  Each arrow of layout.h is one CAS on ctl here; between
 * two of them the slot is *held* by one process, and what it does then can be
 * done again by whoever recovers it:
 *
 *   alloc	free -> filling, then the chunk's bit
 *   evict	ready(g) -> evicting(g+1), look for pins, then finish
 *   discard	filling or quarantine(g) -> evicting(g+1), then the same
 *   finish	index entry, key, valid, the chunk's bit, then evicting -> free
 *
 * Key and `valid` are 0 in a free slot.  So a reader with a stale index entry
 * that meets the next tenant finds no key, then the tenant's, never the old one
 * over the tenant's bytes.
 */
#include "cache/evict.h"
#include "cache/index.h"
#include "cache/pins.h"
#include "cache/slabs.h"
#include "cache/sys.h"

#include <errno.h>

/* Evictions for one allocation, and free disk slots looked at. */
#define ROOM_TRIES 32
#define LOOK_SLOTS 64

static uint32_t tier_slots(const struct dz_seg *seg, enum dz_tier tier)
{
	return tier == DZ_TIER_DRAM   ? seg->n_dram_slots
	       : tier == DZ_TIER_DISK ? seg->n_disk_slots
				      : 0;
}

/* Generation 0 is before the first use: a hazard record of slot 0 would be 0. */
static uint32_t gen_next(uint32_t gen)
{
	return gen + 1 ? gen + 1 : 1;
}

/* free -> filling */
static bool slot_claim(struct dz_slot *s, uint32_t owner, uint64_t *now)
{
	uint64_t ctl = atomic_load_explicit(&s->ctl, memory_order_acquire);
	uint32_t gen = dz_ctl_gen(ctl) ? dz_ctl_gen(ctl) : 1;

	*now = dz_ctl(gen, owner, DZ_SLOT_FILLING);
	return dz_ctl_state(ctl) == DZ_SLOT_FREE &&
	       atomic_compare_exchange_strong(&s->ctl, &ctl, *now);
}

/* filling -> free: it had no key, nobody has seen it */
static void slot_unclaim(struct dz_slot *s, uint64_t ctl)
{
	atomic_compare_exchange_strong(&s->ctl, &ctl, dz_ctl(dz_ctl_gen(ctl), 0, DZ_SLOT_FREE));
}

static void slot_blank(struct dz_slot *s)
{
	atomic_store_explicit(&s->len, 0, memory_order_relaxed);
	atomic_store_explicit(&s->crc, 0, memory_order_relaxed);
	atomic_store_explicit(&s->group, 0, memory_order_relaxed);
	atomic_store_explicit(&s->tick, 0, memory_order_relaxed);
	atomic_store_explicit(&s->stamp_ms, dz_now_ms(), memory_order_relaxed);
	atomic_store_explicit(&s->kind, 0, memory_order_relaxed);
	atomic_store_explicit(&s->born, 0, memory_order_relaxed);
}

/* ---- alloc ---- */

/* A DRAM slot is the page's own. */
static uint32_t place_dram(const struct dz_seg *seg, uint64_t bytes, uint32_t owner, uint64_t *ctl)
{
	struct dz_chunk_walk w;

	dz_slabs_walk(seg, DZ_TIER_DRAM, bytes, &w);
	while (dz_slabs_next(seg, DZ_TIER_DRAM, &w)) {
		struct dz_slot *s = dz_dram_slot(seg, w.page);

		if (!slot_claim(s, owner, ctl))
			continue;
		atomic_store_explicit(&s->page, w.page, memory_order_relaxed);
		if (dz_slabs_commit(seg, DZ_TIER_DRAM, &w))
			return w.page;
		slot_unclaim(s, *ctl);
	}
	return DZ_NONE;
}

static uint32_t claim_disk_slot(const struct dz_seg *seg, uint32_t owner, uint64_t *ctl)
{
	_Atomic uint32_t *hint = &seg->hdr->disk_slot_hint;
	uint32_t n = seg->n_disk_slots, i;

	if (n == 0)
		return DZ_NONE;
	i = atomic_load_explicit(hint, memory_order_relaxed) % n;
	for (uint32_t k = 0; k < LOOK_SLOTS && k < n; k++, i = (i + 1) % n) {
		if (!slot_claim(&seg->disk_slots[i], owner, ctl))
			continue;
		atomic_store_explicit(hint, i + 1, memory_order_relaxed);
		return i;
	}
	atomic_store_explicit(hint, i, memory_order_relaxed);
	return DZ_NONE;
}

/* Makes the held disk slot the holder of the chunk at `page`. */
static bool disk_map_put(const struct dz_seg *seg, uint32_t slot, uint32_t page)
{
	uint32_t none = 0;

	/* before the map names it: what recovers the slot finds its chunk */
	atomic_store_explicit(&seg->disk_slots[slot].page, page, memory_order_relaxed);
	return atomic_compare_exchange_strong(&seg->disk_map[page], &none, slot + 1);
}

static void disk_map_drop(const struct dz_seg *seg, uint32_t slot, uint32_t page)
{
	uint32_t ours = slot + 1;

	atomic_compare_exchange_strong(&seg->disk_map[page], &ours, 0);
}

/* Free disk slots come from the pool; no slot is told from no chunk by *has_slot. */
static uint32_t place_disk(const struct dz_seg *seg, uint64_t bytes, uint32_t owner, uint64_t *ctl,
			   bool *has_slot)
{
	uint32_t slot = claim_disk_slot(seg, owner, ctl);
	struct dz_chunk_walk w;

	*has_slot = slot != DZ_NONE;
	if (slot == DZ_NONE)
		return DZ_NONE;
	dz_slabs_walk(seg, DZ_TIER_DISK, bytes, &w);
	while (dz_slabs_next(seg, DZ_TIER_DISK, &w)) {
		if (!disk_map_put(seg, slot, w.page))
			continue;
		if (dz_slabs_commit(seg, DZ_TIER_DISK, &w))
			return slot;
		disk_map_drop(seg, slot, w.page);
	}
	slot_unclaim(&seg->disk_slots[slot], *ctl);
	atomic_store_explicit(&seg->hdr->disk_slot_hint, slot, memory_order_relaxed);
	return DZ_NONE;
}

uint32_t dz_slot_alloc(const struct dz_seg *seg, enum dz_tier tier, uint64_t bytes, uint32_t owner,
		       uint64_t *ctl)
{
	if (tier_slots(seg, tier) == 0 || bytes > DZ_BLOCK_BYTES)
		return DZ_NONE;
	for (uint32_t tries = 0; tries < ROOM_TRIES; tries++) {
		bool has_slot = true;
		uint32_t slot = tier == DZ_TIER_DRAM
					? place_dram(seg, bytes, owner, ctl)
					: place_disk(seg, bytes, owner, ctl, &has_slot);

		if (slot != DZ_NONE) {
			slot_blank(dz_slot_of(seg, tier, slot));
			return slot;
		}
		if (tier == DZ_TIER_DRAM && dz_seg_grow(seg))
			continue;
		/* without a slot any block that goes will do */
		if (dz_evict_make_room(seg, tier, has_slot ? dz_class_pages(bytes) : 0) < 0)
			return DZ_NONE;
	}
	return DZ_NONE;
}

bool dz_slot_take(const struct dz_seg *seg, uint32_t slot, uint32_t page, uint64_t bytes,
		  uint64_t *ctl)
{
	struct dz_slot *s = &seg->disk_slots[slot];
	uint32_t gen = dz_ctl_gen(atomic_load_explicit(&s->ctl, memory_order_relaxed));

	if (dz_slabs_take(seg, DZ_TIER_DISK, page, bytes) != 0)
		return false;
	atomic_store_explicit(&seg->disk_map[page], slot + 1, memory_order_relaxed);
	slot_blank(s);
	atomic_store_explicit(&s->page, page, memory_order_relaxed);
	*ctl = dz_ctl(gen ? gen : 1, 0, DZ_SLOT_READY);
	return true;
}

/* A new generation, and nobody's. */
static void slot_clear(struct dz_slot *s)
{
	uint32_t gen = dz_ctl_gen(atomic_load_explicit(&s->ctl, memory_order_relaxed));

	atomic_store_explicit(&s->ctl, dz_ctl(gen_next(gen), 0, DZ_SLOT_FREE),
			      memory_order_relaxed);
	atomic_store_explicit(&s->key_lo, 0, memory_order_relaxed);
	atomic_store_explicit(&s->key_hi, 0, memory_order_relaxed);
	atomic_store_explicit(&s->valid, 0, memory_order_relaxed);
}

void dz_slot_untake(const struct dz_seg *seg, uint32_t slot)
{
	struct dz_slot *s = &seg->disk_slots[slot];
	uint32_t page = atomic_load_explicit(&s->page, memory_order_relaxed);

	slot_clear(s);
	atomic_store_explicit(&seg->disk_map[page], 0, memory_order_relaxed);
	dz_slabs_free(seg, DZ_TIER_DISK, page);
}

void dz_slot_reset_disk(const struct dz_seg *seg)
{
	for (uint32_t i = 0; i < seg->n_disk_slots; i++) {
		struct dz_slot *s = &seg->disk_slots[i];

		if (atomic_load_explicit(&s->ctl, memory_order_relaxed) != 0)
			slot_clear(s);
	}
	for (uint64_t p = 0; p < (uint64_t)seg->n_disk_slabs * DZ_SLAB_PAGES; p++)
		atomic_store_explicit(&seg->disk_map[p], 0, memory_order_relaxed);
	dz_slabs_reset(seg, DZ_TIER_DISK);
}

bool dz_slot_publish(const struct dz_seg *seg, enum dz_tier tier, uint32_t slot, uint64_t ctl,
		     uint64_t *now)
{
	*now = dz_ctl(dz_ctl_gen(ctl), 0, DZ_SLOT_READY);
	return slot < tier_slots(seg, tier) && dz_ctl_state(ctl) == DZ_SLOT_FILLING &&
	       atomic_compare_exchange_strong(&dz_slot_of(seg, tier, slot)->ctl, &ctl, *now);
}

bool dz_slot_refill(const struct dz_seg *seg, enum dz_tier tier, uint32_t slot, uint64_t ctl,
		    uint32_t owner, uint64_t *now)
{
	*now = dz_ctl(dz_ctl_gen(ctl), owner, DZ_SLOT_FILLING);
	return slot < tier_slots(seg, tier) && dz_ctl_state(ctl) == DZ_SLOT_READY &&
	       atomic_compare_exchange_strong(&dz_slot_of(seg, tier, slot)->ctl, &ctl, *now);
}

/* ---- free ---- */

/*
 * Does anybody pin the slot?  Comes after the seq_cst CAS that took it from its
 * readers; dz_slot_pin() stores its record and then loads ctl, both seq_cst too,
 * so one of the two sees the other.  A record of another generation belongs to
 * one who is about to notice and drop it: it only delays.
 */
static bool slot_is_pinned(const struct dz_seg *seg, uint32_t slot)
{
	if (dz_slab_is_mapped(seg, slot / DZ_SLAB_PAGES))
		return true;
	for (uint32_t m = 0; m < dz_members_high(seg); m++) {
		const struct dz_member *member = &seg->members[m];

		if (atomic_load(&member->state) == DZ_MEMBER_FREE)
			continue;
		for (int i = 0; i < DZ_HAZARDS; i++) {
			uint64_t pin = atomic_load(&member->hazard[i]);

			if (pin != 0 && (uint32_t)pin == slot)
				return true;
		}
	}
	return false;
}

/* The chunk of a held slot, if it has one still. */
static void slot_free_chunk(const struct dz_seg *seg, enum dz_tier tier, uint32_t slot)
{
	uint32_t page =
		atomic_load_explicit(&dz_slot_of(seg, tier, slot)->page, memory_order_relaxed);

	if (tier == DZ_TIER_DRAM) {
		dz_slabs_free(seg, tier, slot);
		return;
	}
	if (page / DZ_SLAB_PAGES >= seg->n_disk_slabs ||
	    atomic_load_explicit(&seg->disk_map[page], memory_order_acquire) != slot + 1)
		return;
	dz_slabs_free(seg, tier, page);
	disk_map_drop(seg, slot, page);
	atomic_store_explicit(&seg->hdr->disk_slot_hint, slot, memory_order_relaxed);
}

/* evicting (word `ctl`, held) -> free */
static void slot_finish(const struct dz_seg *seg, enum dz_tier tier, uint32_t slot, uint64_t ctl)
{
	struct dz_slot *s = dz_slot_of(seg, tier, slot);
	struct dz_key key = { atomic_load_explicit(&s->key_lo, memory_order_relaxed),
			      atomic_load_explicit(&s->key_hi, memory_order_relaxed) };

	dz_index_remove(seg, key, tier, slot);
	atomic_store_explicit(&s->key_lo, 0, memory_order_relaxed);
	atomic_store_explicit(&s->key_hi, 0, memory_order_relaxed);
	atomic_store_explicit(&s->valid, 0, memory_order_relaxed);
	slot_free_chunk(seg, tier, slot);
	/* release: pairs with the acquire of slot_claim() */
	atomic_compare_exchange_strong(&s->ctl, &ctl, dz_ctl(dz_ctl_gen(ctl), 0, DZ_SLOT_FREE));
}

bool dz_slot_discard(const struct dz_seg *seg, enum dz_tier tier, uint32_t slot, uint64_t ctl)
{
	enum dz_slot_state state = dz_ctl_state(ctl);
	uint64_t now = dz_ctl(gen_next(dz_ctl_gen(ctl)), seg->member, DZ_SLOT_EVICTING);

	if (slot >= tier_slots(seg, tier) ||
	    (state != DZ_SLOT_FILLING && state != DZ_SLOT_QUARANTINE) ||
	    !atomic_compare_exchange_strong(&dz_slot_of(seg, tier, slot)->ctl, &ctl, now))
		return false;
	/* pinned while it was ready, then refilled: its bytes stay where they are */
	if (tier == DZ_TIER_DRAM && slot_is_pinned(seg, slot)) {
		uint64_t left = dz_ctl(dz_ctl_gen(now), DZ_NONE, DZ_SLOT_EVICTING);

		atomic_compare_exchange_strong(&dz_slot_of(seg, tier, slot)->ctl, &now, left);
		return true;
	}
	slot_finish(seg, tier, slot, now);
	return true;
}

bool dz_slot_evict(const struct dz_seg *seg, enum dz_tier tier, uint32_t slot)
{
	uint64_t ctl, now;
	struct dz_slot *s;

	/* Of one who is no member nobody can tell whether he lives: two would finish it. */
	if (slot >= tier_slots(seg, tier) || seg->member >= seg->n_members)
		return false;
	s = dz_slot_of(seg, tier, slot);
	ctl = atomic_load_explicit(&s->ctl, memory_order_acquire);
	now = dz_ctl(gen_next(dz_ctl_gen(ctl)), seg->member, DZ_SLOT_EVICTING);
	if (dz_ctl_state(ctl) != DZ_SLOT_READY ||
	    !atomic_compare_exchange_strong(&s->ctl, &ctl, now))
		return false;
	if (tier == DZ_TIER_DRAM && slot_is_pinned(seg, slot)) {
		/* nothing was changed: the old generation is still the truth */
		atomic_compare_exchange_strong(&s->ctl, &now, ctl);
		return false;
	}
	slot_finish(seg, tier, slot, now);
	return true;
}

bool dz_slot_reap(const struct dz_seg *seg, enum dz_tier tier, uint32_t slot, uint64_t ctl)
{
	uint64_t now = dz_ctl(dz_ctl_gen(ctl), seg->member, DZ_SLOT_EVICTING);

	if (slot >= tier_slots(seg, tier) || dz_ctl_state(ctl) != DZ_SLOT_EVICTING)
		return false;
	/* before it is ours: the pin may last, and we may not */
	if (tier == DZ_TIER_DRAM && slot_is_pinned(seg, slot))
		return false;
	/* of two who finish it one would clear what is the next tenant's */
	if (!atomic_compare_exchange_strong(&dz_slot_of(seg, tier, slot)->ctl, &ctl, now))
		return false;
	slot_finish(seg, tier, slot, now);
	return true;
}

bool dz_slot_free_orphan(const struct dz_seg *seg, enum dz_tier tier, uint32_t slot, uint32_t page)
{
	struct dz_slot *s = dz_slot_of(seg, tier, slot);
	uint64_t ctl;

	if (!slot_claim(s, seg->member, &ctl))
		return false;
	atomic_store_explicit(&s->page, page, memory_order_relaxed);
	slot_free_chunk(seg, tier, slot);
	slot_unclaim(s, ctl);
	return true;
}

/* ---- pins ---- */

int dz_slot_pin(const struct dz_seg *seg, uint32_t slot, uint64_t ctl)
{
	uint64_t pin = (uint64_t)dz_ctl_gen(ctl) << 32 | slot, now;

	if (slot >= seg->n_dram_slots || seg->member >= seg->n_members)
		return -EAGAIN;
	for (int i = 0; i < DZ_HAZARDS; i++) {
		_Atomic uint64_t *hazard = &seg->members[seg->member].hazard[i];
		uint64_t none = 0;

		if (!atomic_compare_exchange_strong(hazard, &none, pin))
			continue;
		/* seq_cst, after the record's: see slot_is_pinned() */
		now = atomic_load(&dz_dram_slot(seg, slot)->ctl);
		if (dz_ctl_gen(now) == dz_ctl_gen(ctl) && dz_ctl_is_readable(now))
			return i;
		atomic_store(hazard, 0);
		return -ESTALE;
	}
	return -EAGAIN;
}

void dz_slot_unpin(const struct dz_seg *seg, int record)
{
	if (record >= 0 && record < DZ_HAZARDS)
		atomic_store(&seg->members[seg->member].hazard[record], 0);
}
