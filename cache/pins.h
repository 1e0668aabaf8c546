/* SPDX-License-Identifier: MIT */
/*
 * Slabs of DRAM that programs have mapped.  A mapped slab is not evicted.
 *
 * What is mapped, the kernel knows: a mapping is of an open description of its own,
 * which holds a read lock (F_OFD_SETLK) on the bytes of the DRAM file that bear the
 * numbers of its slabs.  The kernel lets go of it when the last copy of the last
 * piece is gone: unmapped, replaced, or its process ended, whoever it was, and
 * however it came to the copy.  Nothing has to be told, inherited or recovered.
 */
#ifndef DZ_PINS_H
#define DZ_PINS_H

#include "cache/segment.h"

/*
 * The description `fd` of the DRAM file will be mapped: its slabs stay from now on.
 * Afterwards the caller looks again whether its slots are still there.  0, or -errno
 * of the lock.
 */
int dz_pin_slabs(const struct dz_seg *seg, int fd, uint32_t slab, uint32_t n);
/* For an evictor that has already taken the slot: does anybody map the slab? */
bool dz_slab_is_mapped(const struct dz_seg *seg, uint32_t slab);
/* The same from memory, where somebody has looked of late: for choosing a victim. */
bool dz_slab_seems_mapped(const struct dz_seg *seg, uint32_t slab);
/* How many slabs may be mapped; more than are, until dz_pins_collect() has looked. */
uint32_t dz_pins_count(const struct dz_seg *seg);
/* Looks at all of them; returns how many are mapped. */
uint32_t dz_pins_collect(const struct dz_seg *seg);

#endif
