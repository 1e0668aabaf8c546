// SPDX-License-Identifier: MIT
/*
 * See pins.h.  A slab's word says whether a look at the locks is needed at all:
 * flag:1 | changes:23 | when a look found it locked:40.
 *
 * Who maps locks, then sets the flag, then looks whether the slot is still ready;
 * who evicts takes the slot, then looks at the flag, and at the locks only when it
 * is set: one of the two sees the other.  The flag is taken back by a look that
 * finds no lock, by a CAS from the word that was loaded before the look: every pin
 * changes the word, so none that came meanwhile is lost.
 *
 * A look that cannot be made (the program has closed our descriptor) says: mapped.
 */
#include "cache/pins.h"

#include "cache/sys.h"

#include <errno.h>
#include <fcntl.h>

#define PIN_FLAG   1ull
#define PIN_CHANGE 2ull
#define PIN_LOW	   0xffffffull
#define LOOK_MS	   100

int dz_pin_slabs(const struct dz_seg *seg, int fd, uint32_t slab, uint32_t n)
{
	struct flock fl = {
		.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = (off_t)slab, .l_len = (off_t)n
	};
	int ret = fd < 0 ? 0 : (int)dz_sys_3(SYS_fcntl, fd, F_OFD_SETLK, &fl);

	for (uint32_t s = slab; ret == 0 && s < slab + n && s < seg->n_dram_slabs; s++) {
		_Atomic uint64_t *word = &seg->dram_slabs[s].mapped;
		uint64_t old = atomic_load(word);

		while (!atomic_compare_exchange_weak(word, &old,
						     ((old + PIN_CHANGE) & PIN_LOW) | PIN_FLAG))
			;
		if (!(old & PIN_FLAG))
			atomic_fetch_add_explicit(&seg->hdr->dram_mapped, 1, memory_order_relaxed);
	}
	atomic_thread_fence(memory_order_seq_cst);
	return ret;
}

/* Is the slab's byte locked, and up to which slab does that lock go? */
static bool pin_is_locked(const struct dz_seg *seg, uint32_t slab, uint32_t *end)
{
	struct flock fl = {
		.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)slab, .l_len = 1
	};

	*end = slab + 1;
	if (!dz_seg_has_fd(seg, seg->dram_fd) ||
	    dz_sys_3(SYS_fcntl, seg->dram_fd, F_OFD_GETLK, &fl) < 0)
		return true;
	if (fl.l_type == F_UNLCK)
		return false;
	if (fl.l_len > 1 && fl.l_start + fl.l_len > (off_t)*end)
		*end = (uint32_t)(fl.l_start + fl.l_len);
	return true;
}

/* With a look at the locks; *end as above. */
static bool pin_look(const struct dz_seg *seg, uint32_t slab, uint32_t *end)
{
	_Atomic uint64_t *word = &seg->dram_slabs[slab].mapped;
	uint64_t seen = atomic_load(word);

	*end = slab + 1;
	if (!(seen & PIN_FLAG))
		return false;
	if (pin_is_locked(seg, slab, end)) {
		atomic_compare_exchange_strong(word, &seen, (seen & PIN_LOW) | dz_now_ms() << 24);
		return true;
	}
	if (!atomic_compare_exchange_strong(word, &seen, (seen + PIN_CHANGE) & PIN_LOW & ~PIN_FLAG))
		return (seen & PIN_FLAG) != 0;
	atomic_fetch_sub_explicit(&seg->hdr->dram_mapped, 1, memory_order_relaxed);
	return false;
}

bool dz_slab_is_mapped(const struct dz_seg *seg, uint32_t slab)
{
	uint32_t end;

	atomic_thread_fence(memory_order_seq_cst);
	return slab < seg->n_dram_slabs && pin_look(seg, slab, &end);
}

bool dz_slab_seems_mapped(const struct dz_seg *seg, uint32_t slab)
{
	uint64_t word;

	if (slab >= seg->n_dram_slabs)
		return false;
	word = atomic_load_explicit(&seg->dram_slabs[slab].mapped, memory_order_relaxed);
	if (!(word & PIN_FLAG))
		return false;
	return (dz_now_ms() & (UINT64_MAX >> 24)) - (word >> 24) < LOOK_MS ||
	       dz_slab_is_mapped(seg, slab);
}

uint32_t dz_pins_count(const struct dz_seg *seg)
{
	uint32_t n = atomic_load_explicit(&seg->hdr->dram_mapped, memory_order_relaxed);

	/* A process killed between the flag and the count: never mind by how much. */
	return n > seg->n_dram_slabs ? 0 : n;
}

uint32_t dz_pins_collect(const struct dz_seg *seg)
{
	uint32_t n = 0, end;

	for (uint32_t slab = 0; slab < seg->n_dram_slabs; slab = end) {
		end = slab + 1;
		if (!(atomic_load_explicit(&seg->dram_slabs[slab].mapped, memory_order_relaxed) &
		      PIN_FLAG) ||
		    !pin_look(seg, slab, &end))
			continue;
		end = (uint32_t)dz_min_u64(end, seg->n_dram_slabs);
		n += end - slab;
	}
	atomic_store_explicit(&seg->hdr->dram_mapped, n, memory_order_relaxed);
	return n;
}
