// SPDX-License-Identifier: MIT
/*
 * See pins.h.  Who maps sets its bit, then the slab's hint, then looks whether
 * the slot is still ready; who evicts takes the slot, then looks at the hint, and
 * at the bitmaps only when it is set: one of the two sees the other.  The hint is
 * never taken back: an evictor that cleared it after its look could hide a pin
 * that was made in between from the next one.
 */
#include "cache/pins.h"

static _Atomic uint64_t *pin_word(const struct dz_seg *seg, uint32_t member, uint32_t slab)
{
	return &seg->pins[(size_t)member * seg->pin_words + slab / 64];
}

static bool pin_is_set(const struct dz_seg *seg, uint32_t slab)
{
	for (uint32_t m = 0; m < dz_members_high(seg); m++) {
		if (atomic_load_explicit(pin_word(seg, m, slab), memory_order_seq_cst) >>
			    (slab % 64) &
		    1)
			return true;
	}
	return false;
}

void dz_pin_slab(struct dz_seg *seg, uint32_t slab)
{
	if (slab >= seg->n_dram_slabs || seg->member >= seg->n_members)
		return;
	atomic_fetch_or(pin_word(seg, seg->member, slab), 1ull << (slab % 64));
	atomic_store(&seg->dram_slabs[slab].mapped, 1);
	atomic_thread_fence(memory_order_seq_cst);
}

void dz_unpin_slab(struct dz_seg *seg, uint32_t slab)
{
	if (slab < seg->n_dram_slabs && seg->member < seg->n_members)
		atomic_fetch_and(pin_word(seg, seg->member, slab), ~(1ull << (slab % 64)));
}

bool dz_slab_is_mapped(const struct dz_seg *seg, uint32_t slab)
{
	atomic_thread_fence(memory_order_seq_cst);
	if (slab >= seg->n_dram_slabs || !atomic_load(&seg->dram_slabs[slab].mapped))
		return false;
	return pin_is_set(seg, slab);
}

uint32_t dz_pins_count(const struct dz_seg *seg)
{
	uint32_t n = 0;

	for (uint32_t w = 0; w < seg->pin_words; w++) {
		uint64_t bits = 0;

		for (uint32_t m = 0; m < dz_members_high(seg); m++)
			bits |= atomic_load_explicit(pin_word(seg, m, w * 64),
						     memory_order_relaxed);
		n += (uint32_t)__builtin_popcountll(bits);
	}
	return n;
}

void dz_pins_inherit(struct dz_seg *seg, uint32_t from, uint32_t to)
{
	for (uint32_t w = 0; w < seg->pin_words; w++) {
		uint64_t bits = atomic_load(&seg->pins[(size_t)from * seg->pin_words + w]);

		atomic_store(&seg->pins[(size_t)to * seg->pin_words + w], bits);
	}
}

void dz_pins_drop_all(struct dz_seg *seg, uint32_t member)
{
	for (uint32_t w = 0; w < seg->pin_words; w++)
		atomic_store(&seg->pins[(size_t)member * seg->pin_words + w], 0);
}
