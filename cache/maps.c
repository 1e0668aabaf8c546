// SPDX-License-Identifier: MIT
/*
 * See maps.h.
 *
 * A range that will be unmapped or replaced is taken out of sight first, then the
 * kernel acts, then its slots are given back or, when the kernel refused, shown
 * again.  A range that another thread maps at the same place in between has a slot
 * of its own and loses nothing.
 */
#include "cache/lazy.h"
#include "cache/sys.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

struct dz_maps {
	_Atomic uint32_t used; /* slots from here on were never taken */
	struct dz_map map[DZ_MAPS];
	_Atomic uint32_t users[DZ_MAPS]; /* of the file with that number */
	struct dz_ofile file[DZ_MAPS];
};

int dz_maps_open(struct dz_engine *e)
{
	struct dz_maps *none = NULL;
	void *map;
	int ret;

	if (e->maps)
		return 0;
	ret = dz_sys_mmap(&map, NULL, sizeof(*e->maps), PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (ret == 0 && !atomic_compare_exchange_strong(&e->maps, &none, map))
		dz_sys_munmap(map, sizeof(*e->maps));
	return ret;
}

/* ---- slots ---- */

static void map_bounds(struct dz_engine *e, uintptr_t at, uintptr_t end)
{
	uintptr_t low = e->front.maps_low, high = e->front.maps_high;

	while ((!low || at < low) && !atomic_compare_exchange_weak(&e->front.maps_low, &low, at))
		;
	while (end > high && !atomic_compare_exchange_weak(&e->front.maps_high, &high, end))
		;
}

static struct dz_map *map_slot(struct dz_maps *maps)
{
	for (uint32_t i = 0; i < DZ_MAPS; i++) {
		uintptr_t free_at = 0;
		uint32_t used = maps->used;

		if (!atomic_compare_exchange_strong(&maps->map[i].at, &free_at, DZ_MAP_UNSEEN))
			continue;
		while (used <= i && !atomic_compare_exchange_weak(&maps->used, &used, i + 1))
			;
		return &maps->map[i];
	}
	return NULL;
}

struct dz_map *dz_map_new(struct dz_engine *e, const struct dz_ofile *f)
{
	struct dz_maps *maps = e->maps;
	struct dz_map *m = map_slot(maps);

	for (uint32_t i = 0; m && i < DZ_MAPS; i++) {
		uint32_t nobody = 0;

		if (!atomic_compare_exchange_strong(&maps->users[i], &nobody, 1))
			continue;
		memcpy(&maps->file[i], f, sizeof(*f));
		m->file = &maps->file[i];
		m->file_no = i;
		return m;
	}
	return NULL;
}

void dz_map_show(struct dz_engine *e, struct dz_map *m, uintptr_t at)
{
	map_bounds(e, at, m->end);
	/* Release: pairs with the load in dz_map_next(). */
	atomic_store_explicit(&m->at, at, memory_order_release);
}

void dz_map_unlisted(struct dz_engine *e, uintptr_t at, uintptr_t end)
{
	map_bounds(e, at, end);
}

void dz_map_drop(struct dz_engine *e, struct dz_map *m)
{
	atomic_fetch_sub(&e->maps->users[m->file_no], 1);
	atomic_store_explicit(&m->at, 0, memory_order_release);
}

struct dz_map *dz_map_next(const struct dz_engine *e, uintptr_t at, uintptr_t end, uint32_t *i)
{
	struct dz_maps *maps = e->maps;

	while (maps && *i < maps->used) {
		struct dz_map *m = &maps->map[(*i)++];
		uintptr_t start = atomic_load_explicit(&m->at, memory_order_acquire);

		if (start > DZ_MAP_UNSEEN && start < end && m->end > at)
			return m;
	}
	return NULL;
}

/* ---- unmapping ---- */

uint32_t dz_engine_unmap_begin(struct dz_engine *e, uintptr_t at, uintptr_t end)
{
	uint32_t chain = 0, i = 0;
	struct dz_map *m;

	while ((m = dz_map_next(e, at, end, &i))) {
		uintptr_t was_at = m->at;

		/* Another thread may be faster. */
		if (was_at <= DZ_MAP_UNSEEN ||
		    !atomic_compare_exchange_strong(&m->at, &was_at, DZ_MAP_UNSEEN))
			continue;
		m->was_at = was_at;
		m->next = chain;
		chain = (uint32_t)(m - e->maps->map) + 1;
	}
	return chain;
}

/* What lies behind the hole gets a slot of its own. */
static void map_show_rest(struct dz_engine *e, const struct dz_map *m, uintptr_t end)
{
	struct dz_map *rest = map_slot(e->maps);

	if (!rest)
		return;
	rest->end = m->end;
	rest->off = m->off + (end - m->was_at);
	rest->file = m->file;
	rest->file_no = m->file_no;
	rest->prot = m->prot;
	rest->kind = m->kind;
	rest->is_shared = m->is_shared;
	rest->lazy_id = m->lazy_id;
	atomic_fetch_add(&e->maps->users[m->file_no], 1);
	dz_map_show(e, rest, end);
}

void dz_engine_unmap_end(struct dz_engine *e, uint32_t chain, uintptr_t at, uintptr_t end,
			 bool is_gone)
{
	while (chain) {
		struct dz_map *m = &e->maps->map[chain - 1];

		chain = m->next;
		if (is_gone && m->end > end)
			map_show_rest(e, m, end);
		if (is_gone && m->kind == DZ_MAP_LAZY)
			dz_lazy_unmapped(e, m, at, end);
		if (!is_gone) {
			dz_map_show(e, m, m->was_at);
		} else if (m->was_at < at) {
			m->end = at;
			dz_map_show(e, m, m->was_at);
		} else {
			dz_map_drop(e, m);
		}
	}
}

int dz_engine_map_is(const struct dz_engine *e, uintptr_t at, uintptr_t end)
{
	struct dz_map *m;
	uint32_t i = 0;
	int is = 0;

	while ((m = dz_map_next(e, at, end, &i)))
		is |= DZ_MAP_IS_OURS | (m->is_shared ? DZ_MAP_IS_SHARED : 0) |
		      (m->kind == DZ_MAP_LAZY ? DZ_MAP_IS_LAZY : 0);
	return is;
}

void dz_engine_map_protected(struct dz_engine *e, uintptr_t at, uintptr_t end, int prot)
{
	struct dz_map *m;
	uint32_t i = 0;

	while ((m = dz_map_next(e, at, end, &i))) {
		if (at <= m->at && m->end <= end)
			m->prot = prot;
	}
}

void dz_engine_map_willneed(struct dz_engine *e, uintptr_t at, uintptr_t end)
{
	struct dz_map *m;
	uint32_t i = 0;

	while ((m = dz_map_next(e, at, end, &i))) {
		uintptr_t start = m->at, from = at > start ? at : start;
		uintptr_t to = end < m->end ? end : m->end;
		uint64_t first = (m->off + (from - start)) / DZ_BLOCK_BYTES;
		uint64_t last = (m->off + (to - start) - 1) / DZ_BLOCK_BYTES;
		uint64_t most = e->seg.n_dram_slabs / 2;

		if (start > DZ_MAP_UNSEEN && from < to && m->kind == DZ_MAP_LAZY)
			dz_read_prefetch(e, m->file, first, dz_min_u64(last, first + most));
	}
}
