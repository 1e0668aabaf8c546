/* SPDX-License-Identifier: MIT */
/*
 * Slabs of DRAM that programs have mapped: a bitmap a member, so that what a
 * killed member mapped is forgotten with it.  A mapped slab is not evicted.
 */
#ifndef DZ_PINS_H
#define DZ_PINS_H

#include "cache/segment.h"

/* This member maps (or no longer maps) slab `slab`.  Afterwards the caller looks again
 * whether the slot that it wants is still there. */
void dz_pin_slab(struct dz_seg *seg, uint32_t slab);
void dz_unpin_slab(struct dz_seg *seg, uint32_t slab);
/* For an evictor that has already taken the slot: does anybody map the slab? */
bool dz_slab_is_mapped(const struct dz_seg *seg, uint32_t slab);
/* Slabs that are mapped now. */
uint32_t dz_pins_count(const struct dz_seg *seg);
void dz_pins_inherit(struct dz_seg *seg, uint32_t from, uint32_t to);
void dz_pins_drop_all(struct dz_seg *seg, uint32_t member);

#endif
