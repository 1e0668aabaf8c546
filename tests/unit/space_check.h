/* SPDX-License-Identifier: MIT */
/* Do slabs, slots and index agree?  Holds when nobody is in the middle of something. */
#ifndef DZ_TEST_SPACE_CHECK_H
#define DZ_TEST_SPACE_CHECK_H

#include "cache/index.h"
#include "cache/slabs.h"
#include "tests/unit/fake_seg.h"

/* What is wrong with a slot, or NULL. */
static inline const char *space_complaint_of_slot(const struct dz_seg *seg, enum dz_tier tier,
						  uint32_t slot)
{
	const struct dz_slot *s = dz_slot_of(seg, tier, slot);
	struct dz_key key = { s->key_lo, s->key_hi };
	uint64_t ctl;

	switch (dz_ctl_state(s->ctl)) {
	case DZ_SLOT_FREE:
		return key.lo || key.hi || s->valid ? "a free slot has a key" : NULL;
	case DZ_SLOT_READY:
		if (tier == DZ_TIER_DRAM && s->page != slot)
			return "a DRAM slot is not its page's";
		if (tier == DZ_TIER_DISK && seg->disk_map[s->page] != slot + 1)
			return "the map does not name a disk slot";
		if (!dz_slabs_is_taken(seg, tier, s->page))
			return "a ready slot has no chunk";
		return dz_index_find(seg, key, tier, &ctl) != slot ? "a ready slot is not found"
								   : NULL;
	default:
		return "a slot is held";
	}
}

static inline const char *space_complaint(const struct dz_seg *seg, enum dz_tier tier)
{
	uint32_t slots = tier == DZ_TIER_DRAM ? seg->n_dram_slots : seg->n_disk_slots;
	uint32_t slabs = tier == DZ_TIER_DRAM ? seg->n_dram_slabs : seg->n_disk_slabs;
	uint32_t ready = 0, taken = 0;

	for (uint32_t i = 0; i < slots; i++) {
		const char *complaint = space_complaint_of_slot(seg, tier, i);

		if (complaint)
			return complaint;
		ready += dz_ctl_state(dz_slot_of(seg, tier, i)->ctl) == DZ_SLOT_READY;
	}
	for (uint32_t i = 0; i < slabs; i++) {
		uint32_t n = dz_slabs_count(seg, tier, i);

		if (n == 0 && dz_slabs_chunk_pages(seg, tier, i * DZ_SLAB_PAGES) != 0)
			return "an empty slab was not returned";
		taken += n;
	}
	return taken != ready ? "a chunk is taken by nobody" : NULL;
}

#endif
