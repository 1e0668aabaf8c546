/* SPDX-License-Identifier: MIT */
/*
 * key -> slot.  Two buckets of eight words a key; an entry names a slot and 24
 * bits of the key, and counts only while the slot's own record says so: readable
 * and of this key.  So a stale entry is never wrong, only useless.
 *
 * Insert, among others who insert the same key at the same time:
 *
 *   1. look for a living entry of the key: there is one, -EEXIST;
 *   2. CAS an empty word to the entry, marked new;
 *   3. look again.  A settled entry, or a new one in a lower place: take ours
 *      back, -EEXIST.  A new one in a higher place: take that one out;
 *   4. CAS ours to settled.  It is gone (somebody did 3 to it): -EEXIST.
 *
 * Of two who both pass 2, at least one sees the other in 3 (their CAS and loads
 * are seq_cst), and of two new entries only one can be settled.  Killed between
 * any two steps: a new entry, which readers use like a settled one.
 */
#include "cache/index.h"

#include <errno.h>

#define ENTRY_TIER	((uint64_t)1 << 39)
#define ENTRY_NEW	((uint64_t)1 << 32)
#define ENTRY_TAG_SHIFT 40
#define BUCKET_ENTRIES	8
#define PLACES		(2 * BUCKET_ENTRIES)
#define INDEX_TRIES	64

/* Where the entries of a key may stand: eight words each of two buckets. */
struct places {
	uint32_t bucket[2];
	uint64_t tag; /* not 0, so that no entry is 0 */
};

static uint64_t mix(uint64_t x)
{
	x ^= x >> 32;
	x *= 0xd6e8feb86659fd93ull;
	x ^= x >> 32;
	x *= 0xd6e8feb86659fd93ull;
	return x ^ x >> 32;
}

static struct places places_of(const struct dz_seg *seg, struct dz_key key)
{
	uint64_t h = mix(key.lo ^ mix(key.hi));
	uint64_t h2 = mix(h + 0x9e3779b97f4a7c15ull);
	uint32_t mask = seg->n_buckets - 1;
	struct places p = {
		.bucket = { (uint32_t)h & mask, (uint32_t)h2 & mask },
		.tag = h2 >> ENTRY_TAG_SHIFT,
	};

	if (p.bucket[0] == p.bucket[1])
		p.bucket[1] = (p.bucket[1] + 1) & mask;
	if (p.tag == 0)
		p.tag = 1;
	return p;
}

static _Atomic uint64_t *place_at(const struct dz_seg *seg, const struct places *p, uint32_t i)
{
	return &seg->buckets[p->bucket[i / BUCKET_ENTRIES]].entry[i % BUCKET_ENTRIES];
}

static uint32_t tier_slots(const struct dz_seg *seg, enum dz_tier tier)
{
	return tier == DZ_TIER_DRAM   ? seg->n_dram_slots
	       : tier == DZ_TIER_DISK ? seg->n_disk_slots
				      : 0;
}

static uint64_t entry_of(const struct places *p, enum dz_tier tier, uint32_t slot)
{
	return p->tag << ENTRY_TAG_SHIFT | (tier == DZ_TIER_DISK ? ENTRY_TIER : 0) | slot;
}

static uint32_t entry_slot(uint64_t entry)
{
	return (uint32_t)entry;
}

static enum dz_tier entry_tier(uint64_t entry)
{
	return entry & ENTRY_TIER ? DZ_TIER_DISK : DZ_TIER_DRAM;
}

/* Tag and tier are those of `want`. */
static bool entry_may_be(uint64_t entry, uint64_t want)
{
	return ((entry ^ want) & ~(ENTRY_NEW | (uint64_t)UINT32_MAX)) == 0;
}

/* Does `slot` hold `key` now?  *ctl is its word, the same before and after the key was read. */
static bool slot_has(const struct dz_seg *seg, struct dz_key key, enum dz_tier tier, uint32_t slot,
		     uint64_t *ctl)
{
	const struct dz_slot *s;
	struct dz_key k;
	uint64_t before;

	if (slot >= tier_slots(seg, tier))
		return false;
	s = dz_slot_of(seg, tier, slot);
	/* acquire: pairs with the CAS that made it filling or ready */
	before = atomic_load_explicit(&s->ctl, memory_order_acquire);
	if (!dz_ctl_is_readable(before))
		return false;
	/* acquire: the second look at ctl stays behind these */
	k.lo = atomic_load_explicit(&s->key_lo, memory_order_acquire);
	k.hi = atomic_load_explicit(&s->key_hi, memory_order_acquire);
	if (!dz_key_eq(k, key))
		return false;
	*ctl = atomic_load_explicit(&s->ctl, memory_order_acquire);
	return dz_ctl_gen(*ctl) == dz_ctl_gen(before) && dz_ctl_is_readable(*ctl);
}

/* A free slot has key 0, so that key is nobody's. */
static bool key_is_valid(struct dz_key key)
{
	return key.lo != 0 || key.hi != 0;
}

static inline __attribute__((always_inline)) uint32_t find(const struct dz_seg *seg,
							   struct dz_key key, enum dz_tier tier,
							   uint64_t *ctl, uint32_t off, size_t n)
{
	struct places p = places_of(seg, key);
	uint64_t want = entry_of(&p, tier, 0);

	if (!key_is_valid(key))
		return DZ_NONE;
	for (uint32_t i = 0; i < PLACES; i++) {
		uint64_t e = atomic_load_explicit(place_at(seg, &p, i), memory_order_acquire);

		if (e == 0 || !entry_may_be(e, want))
			continue;
		if (n && entry_slot(e) < seg->n_dram_slots)
			dz_index_prefetch(seg, entry_slot(e), off, n);
		if (slot_has(seg, key, tier, entry_slot(e), ctl))
			return entry_slot(e);
	}
	return DZ_NONE;
}

uint32_t dz_index_find(const struct dz_seg *seg, struct dz_key key, enum dz_tier tier,
		       uint64_t *ctl)
{
	return find(seg, key, tier, ctl, 0, 0);
}

uint32_t dz_index_find_bytes(const struct dz_seg *seg, struct dz_key key, uint32_t off, size_t n,
			     uint64_t *ctl)
{
	return find(seg, key, DZ_TIER_DRAM, ctl, off, n);
}

/* The first place from `from` on with a living entry of key that is not at `but`; PLACES: none. */
static uint32_t find_other(const struct dz_seg *seg, const struct places *p, struct dz_key key,
			   enum dz_tier tier, uint32_t from, uint32_t but, uint64_t *entry)
{
	uint64_t want = entry_of(p, tier, 0), ctl;

	for (uint32_t i = from; i < PLACES; i++) {
		uint64_t e;

		if (i == but)
			continue;
		e = atomic_load_explicit(place_at(seg, p, i), memory_order_seq_cst);
		if (e == 0 || !entry_may_be(e, want) ||
		    !slot_has(seg, key, tier, entry_slot(e), &ctl))
			continue;
		*entry = e;
		return i;
	}
	return PLACES;
}

/* Does the entry, standing in `bucket`, name a slot whose key belongs there? */
static bool entry_is_alive(const struct dz_seg *seg, uint32_t bucket, uint64_t entry)
{
	enum dz_tier tier = entry_tier(entry);
	uint32_t slot = entry_slot(entry);
	const struct dz_slot *s;
	struct dz_key k;
	struct places p;
	uint64_t ctl;

	if (slot >= tier_slots(seg, tier))
		return false;
	s = dz_slot_of(seg, tier, slot);
	ctl = atomic_load_explicit(&s->ctl, memory_order_acquire);
	if (dz_ctl_state(ctl) == DZ_SLOT_FREE)
		return false;
	k.lo = atomic_load_explicit(&s->key_lo, memory_order_acquire);
	k.hi = atomic_load_explicit(&s->key_hi, memory_order_acquire);
	p = places_of(seg, k);
	return key_is_valid(k) && (p.bucket[0] == bucket || p.bucket[1] == bucket) &&
	       p.tag == entry >> ENTRY_TAG_SHIFT;
}

/* Puts `entry` into an empty word of the emptier bucket; its place, or PLACES when both are full.
 */
static uint32_t put_new(const struct dz_seg *seg, const struct places *p, uint64_t entry)
{
	uint32_t n[2] = { 0, 0 }, first;

	for (uint32_t i = 0; i < PLACES; i++)
		n[i / BUCKET_ENTRIES] +=
			atomic_load_explicit(place_at(seg, p, i), memory_order_relaxed) != 0;
	first = n[1] < n[0] ? BUCKET_ENTRIES : 0;
	for (uint32_t k = 0; k < PLACES; k++) {
		uint32_t i = (first + k) % PLACES;
		uint64_t none = 0;

		if (atomic_compare_exchange_strong(place_at(seg, p, i), &none, entry))
			return i;
	}
	return PLACES;
}

/* Both buckets full: empties the words of dead entries.  How many. */
static uint32_t scrub_places(const struct dz_seg *seg, const struct places *p)
{
	return dz_index_scrub(seg, p->bucket[0], 1) + dz_index_scrub(seg, p->bucket[1], 1);
}

/* Steps 3 and 4 for the new entry at `at`. */
static int settle(const struct dz_seg *seg, const struct places *p, struct dz_key key,
		  enum dz_tier tier, uint32_t at, uint64_t entry)
{
	uint64_t other, mine = entry | ENTRY_NEW;
	uint32_t from = 0;

	for (uint32_t tries = 0; tries < INDEX_TRIES; tries++) {
		uint32_t i = find_other(seg, p, key, tier, from, at, &other);

		if (i == PLACES)
			return atomic_compare_exchange_strong(place_at(seg, p, at), &mine, entry)
				       ? 0
				       : -EEXIST;
		if (!(other & ENTRY_NEW) || i < at)
			break;
		if (atomic_compare_exchange_strong(place_at(seg, p, i), &other, 0))
			from = i + 1;
	}
	atomic_compare_exchange_strong(place_at(seg, p, at), &mine, 0);
	return -EEXIST;
}

int dz_index_insert(const struct dz_seg *seg, struct dz_key key, enum dz_tier tier, uint32_t slot,
		    uint32_t old)
{
	struct places p = places_of(seg, key);
	uint64_t entry = entry_of(&p, tier, slot), there;
	uint32_t at;

	if (!key_is_valid(key) || slot >= tier_slots(seg, tier))
		return -EINVAL;
	for (uint32_t tries = 0; tries < INDEX_TRIES; tries++) {
		at = find_other(seg, &p, key, tier, 0, PLACES, &there);
		if (at != PLACES) {
			if (entry_slot(there) == slot)
				return 0;
			if (entry_slot(there) != old)
				return -EEXIST;
			if (atomic_compare_exchange_strong(place_at(seg, &p, at), &there, entry))
				return 0;
			continue;
		}
		at = put_new(seg, &p, entry | ENTRY_NEW);
		if (at != PLACES)
			return settle(seg, &p, key, tier, at, entry);
		if (scrub_places(seg, &p) == 0)
			return -ENOSPC;
	}
	return -ENOSPC;
}

void dz_index_prefetch_places(const struct dz_seg *seg, struct dz_key key)
{
	struct places p = places_of(seg, key);

	__builtin_prefetch(&seg->buckets[p.bucket[0]], 1);
	__builtin_prefetch(&seg->buckets[p.bucket[1]], 1);
}

int dz_index_add(const struct dz_seg *seg, struct dz_key key, enum dz_tier tier, uint32_t slot)
{
	struct places p = places_of(seg, key);
	uint64_t there;

	if (!key_is_valid(key) || slot >= tier_slots(seg, tier))
		return -EINVAL;
	if (find_other(seg, &p, key, tier, 0, PLACES, &there) != PLACES)
		return -EEXIST;
	return put_new(seg, &p, entry_of(&p, tier, slot)) != PLACES ? 0 : -ENOSPC;
}

void dz_index_drop_tier(const struct dz_seg *seg, enum dz_tier tier)
{
	for (uint32_t b = 0; b < seg->n_buckets; b++) {
		for (uint32_t i = 0; i < BUCKET_ENTRIES; i++) {
			_Atomic uint64_t *word = &seg->buckets[b].entry[i];
			uint64_t e = atomic_load_explicit(word, memory_order_relaxed);

			if (e != 0 && entry_tier(e) == tier)
				atomic_compare_exchange_strong(word, &e, 0);
		}
	}
}

bool dz_index_remove(const struct dz_seg *seg, struct dz_key key, enum dz_tier tier, uint32_t slot)
{
	struct places p = places_of(seg, key);
	uint64_t want = entry_of(&p, tier, slot);
	bool was_there = false;

	for (uint32_t i = 0; i < PLACES; i++) {
		uint64_t e = atomic_load_explicit(place_at(seg, &p, i), memory_order_acquire);

		/* a second turn only when it was settled under our hands */
		while (e != 0 && (e & ~ENTRY_NEW) == want) {
			if (atomic_compare_exchange_strong(place_at(seg, &p, i), &e, 0)) {
				was_there = true;
				break;
			}
		}
	}
	return was_there;
}

uint32_t dz_index_scrub(const struct dz_seg *seg, uint32_t first, uint32_t n)
{
	uint32_t cleared = 0;

	for (uint32_t b = first; b < seg->n_buckets && b - first < n; b++) {
		for (uint32_t i = 0; i < BUCKET_ENTRIES; i++) {
			_Atomic uint64_t *word = &seg->buckets[b].entry[i];
			uint64_t e = atomic_load_explicit(word, memory_order_acquire);

			/*
			 * The slot may get its key back between the look and the CAS:
			 * then a living block is lost to readers until it is evicted.
			 */
			if (e != 0 && !entry_is_alive(seg, b, e) &&
			    atomic_compare_exchange_strong(word, &e, 0))
				cleared++;
		}
	}
	return cleared;
}
