/* SPDX-License-Identifier: MIT */
/* What must hold in a segment after the dead have been dealt with, and nobody is at work. */
#ifndef DZ_TEST_INVARIANTS_H
#define DZ_TEST_INVARIANTS_H

#include "cache/disk.h"
#include "cache/files.h"
#include "cache/index.h"
#include "cache/lease.h"
#include "cache/member.h"
#include "cache/slabs.h"
#include "cache/sys.h"

#include <stdio.h>

/* As agents and engines do it in the course of time; deadlines are taken as passed. */
static inline void invariants_repair(struct dz_seg *seg, struct dz_disk *disk)
{
	for (uint32_t n = 0; n < seg->n_members; n++)
		atomic_store(&seg->members[n].deadline_ms, 0);
	for (uint32_t n = 0; n < seg->n_files; n++)
		atomic_store(&seg->files[n].handover_ms, 0);
	if (disk)
		dz_disk_watch(disk, seg);
	dz_member_sweep(seg, true);
	if (disk)
		dz_disk_recover(disk, DZ_NONE);
	for (int round = 0; round < 2; round++) {
		dz_slabs_scrub(seg, DZ_TIER_DRAM, 0, seg->n_dram_slabs);
		dz_slabs_scrub(seg, DZ_TIER_DISK, 0, seg->n_disk_slabs);
		dz_index_scrub(seg, 0, seg->n_buckets);
	}
}

static inline uint32_t invariants_members(const struct dz_seg *seg)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < seg->n_members; i++)
		n += atomic_load(&seg->members[i].state) != DZ_MEMBER_FREE;
	return n;
}

static inline uint32_t invariants_files(const struct dz_seg *seg)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < seg->n_files; i++)
		n += (atomic_load(&seg->files[i].ctl) & 0xff) != DZ_FILE_FREE;
	return n;
}

static inline const char *invariants_of_slot(const struct dz_seg *seg, enum dz_tier tier,
					     uint32_t slot)
{
	const struct dz_slot *s = dz_slot_of(seg, tier, slot);
	struct dz_key key = { atomic_load(&s->key_lo), atomic_load(&s->key_hi) };
	uint64_t ctl = atomic_load(&s->ctl), found;
	uint32_t page = tier == DZ_TIER_DRAM ? slot : atomic_load(&s->page);

	switch (dz_ctl_state(ctl)) {
	case DZ_SLOT_FREE:
		return key.lo || key.hi ? "a free slot has a key" : NULL;
	case DZ_SLOT_READY:
		if (!dz_slabs_is_taken(seg, tier, page))
			return "a ready slot has no chunk";
		if (tier == DZ_TIER_DISK && atomic_load(&seg->disk_map[page]) != slot + 1)
			return "the map does not name a disk slot";
		if (dz_index_find(seg, key, tier, &found) != slot)
			return "a ready slot is not found";
		return NULL;
	case DZ_SLOT_FILLING:
		return "a slot stays in filling";
	case DZ_SLOT_EVICTING:
		return "a slot stays in evicting";
	case DZ_SLOT_QUARANTINE:
		return "a slot stays in quarantine";
	}
	return "a slot is in no state";
}

static inline const char *invariants_of_tier(const struct dz_seg *seg, enum dz_tier tier)
{
	static char text[160];
	bool is_dram = tier == DZ_TIER_DRAM;
	uint32_t slots = is_dram ? seg->n_dram_slots : seg->n_disk_slots;
	uint32_t slabs = is_dram ? seg->n_dram_slabs : seg->n_disk_slabs;
	uint64_t ready = 0, taken = 0;

	for (uint32_t i = 0; i < slots; i++) {
		const char *complaint = invariants_of_slot(seg, tier, i);
		uint64_t ctl = atomic_load(&dz_slot_of(seg, tier, i)->ctl);

		if (complaint) {
			snprintf(text, sizeof(text), "%s: %s %u, owner %u, generation %u",
				 complaint, is_dram ? "DRAM" : "disk", i, dz_ctl_owner(ctl),
				 dz_ctl_gen(ctl));
			return text;
		}
		ready += dz_ctl_state(ctl) == DZ_SLOT_READY;
	}
	for (uint32_t i = 0; i < slabs; i++)
		taken += dz_slabs_count(seg, tier, i);
	return ready == taken ? NULL : "chunks and ready slots are not as many";
}

static inline const char *invariants_of_leases(const struct dz_seg *seg)
{
	for (uint32_t i = 0; i < seg->n_leases; i++) {
		uint64_t word = atomic_load(&seg->leases[i].word);

		if (dz_lease_state(word) == DZ_LEASE_ACTIVE &&
		    !dz_member_is_alive(seg, dz_lease_owner(word)))
			return "a lease is a dead one's";
	}
	return NULL;
}

/* NULL: all is well.  `seg` is the only member. */
static inline const char *invariants_complaint(const struct dz_seg *seg)
{
	const char *complaint = invariants_of_tier(seg, DZ_TIER_DRAM);

	if (!complaint)
		complaint = invariants_of_tier(seg, DZ_TIER_DISK);
	if (!complaint)
		complaint = invariants_of_leases(seg);
	if (!complaint && invariants_members(seg) != 1)
		complaint = "a dead member has its record still";
	if (!complaint && invariants_files(seg) != 0)
		complaint = "an open file is nobody's";
	return complaint;
}

#endif
