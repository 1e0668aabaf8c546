// SPDX-License-Identifier: MIT
/*
 * mremap(2) of a mapping of a managed file: it grows, shrinks and moves as one of a
 * file does, although it may consist of several pieces.
 *
 * Growing where it is: what follows of the blob is mapped behind it.  Moving: a new
 * place, there the pages that it has (written ones too), then what follows.  On a
 * failure everything is where it was.
 */
#include "cache/lazy.h"
#include "cache/sys.h"
#include "cache/vmas.h"

#include <errno.h>
#include <sys/mman.h>

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

struct remap {
	struct dz_engine *e;
	struct dz_map *m;
	uintptr_t at, to; /* to: 0 no place was had */
	size_t len, new_len;
	int flags;
};

/* The one mapping that has all of the range; NULL as when a piece is another's. */
static struct dz_map *remap_find(const struct dz_engine *e, uintptr_t at, uintptr_t end)
{
	uint32_t i = 0;
	struct dz_map *m = dz_map_next(e, at, end, &i);

	return m && m->at <= at && m->end >= end ? m : NULL;
}

/* What follows the old end, mapped at `at`. */
static int remap_rest(const struct remap *r, uintptr_t at, int how)
{
	struct dz_map_want w = { .addr = (void *)at,
				 .len = r->new_len - r->len,
				 .prot = r->m->prot,
				 .flags = how | (r->m->is_shared ? MAP_SHARED : MAP_PRIVATE),
				 .off = r->m->off + (r->at - r->m->at) + r->len,
				 .like = r->m };
	void *got;
	int ret = dz_map_file(r->e, r->m->file, &w, &got);

	/* A kernel before 4.17 takes the flag for a hint. */
	if (ret == 0 && (uintptr_t)got != at) {
		dz_sys_munmap(got, w.len);
		ret = -ENOMEM;
	}
	return ret;
}

/* Two neighbours of one blob are one again; to the pager too. */
static void remap_join(const struct remap *r, uintptr_t border)
{
	struct dz_map *next = remap_find(r->e, border, border + 1);
	uintptr_t at = border;

	if (!next || next->kind != r->m->kind ||
	    !atomic_compare_exchange_strong(&next->at, &at, DZ_MAP_UNSEEN))
		return;
	r->m->end = next->end;
	dz_map_drop(r->e, next);
	if (r->m->kind == DZ_MAP_LAZY)
		dz_lazy_tell(r->e, r->m, r->m->at);
}

static int remap_in_place(const struct remap *r)
{
	uintptr_t border = r->at + r->len;
	int ret;

	if (r->m->end != border)
		return -ENOMEM;
	ret = remap_rest(r, border, MAP_FIXED_NOREPLACE);
	if (ret == 0)
		remap_join(r, border);
	return ret == -EEXIST ? -ENOMEM : ret;
}

/* What is at the new place is of the same mapping. */
static void remap_same(const struct remap *r, struct dz_map *moved, size_t len)
{
	moved->end = r->to + len;
	moved->off = r->m->off + (r->at - r->m->at);
	moved->prot = r->m->prot;
	moved->kind = r->m->kind;
	moved->is_shared = r->m->is_shared;
}

/* A new place, of the size wanted; everything that is there is out of sight. */
static int remap_reserve(struct remap *r, void *new_addr)
{
	int how = r->flags & MREMAP_FIXED ? MAP_FIXED : 0;
	void *place;
	int ret = dz_sys_mmap(&place, how ? new_addr : NULL, r->new_len, PROT_NONE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | how, -1, 0);

	r->to = ret == 0 ? (uintptr_t)place : 0;
	return ret;
}

/* The pages go there, what follows is mapped behind them, what is left goes. */
static int remap_carry(struct remap *r, struct dz_map *moved, size_t len)
{
	bool is_lazy = r->m->kind == DZ_MAP_LAZY;
	uint32_t taken;
	int ret = 0;

	remap_same(r, moved, len);
	if (is_lazy)
		ret = dz_lazy_tell(r->e, moved, r->to);
	if (ret == 0 && r->new_len > r->len)
		ret = remap_rest(r, r->to + len, MAP_FIXED);
	if (ret == 0)
		ret = dz_vmas_move(r->at, r->at + len, r->to);
	if (ret < 0)
		return ret;
	/* Moving took lazy pages out of their registration; nobody knows the place yet. */
	if (is_lazy)
		dz_lazy_register(r->e, moved, r->to);
	taken = dz_engine_unmap_begin(r->e, r->at, r->at + r->len);
	if (r->len > len)
		dz_sys_munmap((void *)(r->at + len), r->len - len);
	dz_engine_unmap_end(r->e, taken, r->at, r->at + r->len, true);
	return 0;
}

static int remap_move(struct remap *r, void *new_addr)
{
	size_t len = dz_min_u64(r->len, r->new_len);
	struct dz_map *moved = dz_map_new(r->e, r->m->file);
	uint32_t taken;
	int ret;

	if (!moved)
		return -ENOMEM;
	ret = remap_reserve(r, new_addr);
	if (ret == 0)
		ret = remap_carry(r, moved, len);
	if (ret == 0) {
		dz_map_show(r->e, moved, r->to);
		r->m = moved;
		remap_join(r, r->to + len);
		return 0;
	}
	dz_map_drop(r->e, moved);
	if (!r->to)
		return ret;
	taken = dz_engine_unmap_begin(r->e, r->to, r->to + r->new_len);
	dz_sys_munmap((void *)r->to, r->new_len);
	dz_engine_unmap_end(r->e, taken, r->to, r->to + r->new_len, true);
	return ret;
}

static int remap_shrink(struct remap *r)
{
	uintptr_t at = r->at + r->new_len, end = r->at + r->len;
	uint32_t taken = dz_engine_unmap_begin(r->e, at, end);
	int ret = dz_sys_munmap((void *)at, end - at);

	dz_engine_unmap_end(r->e, taken, at, end, ret == 0);
	return ret;
}

static int remap_check(const struct remap *r, uintptr_t new_addr)
{
	if (r->at % DZ_PAGE || !r->new_len || !r->len)
		return -EINVAL;
	/* To keep the old one too is for anonymous memory and, of late, for all of it. */
	if (r->flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED))
		return -EINVAL;
	if (!(r->flags & MREMAP_FIXED))
		return 0;
	if (!(r->flags & MREMAP_MAYMOVE) || new_addr % DZ_PAGE ||
	    (new_addr < r->at + r->len && r->at < new_addr + r->new_len))
		return -EINVAL;
	return 0;
}

int dz_engine_remap(struct dz_engine *e, void *addr, size_t len, size_t new_len, int flags,
		    void *new_addr, void **out)
{
	struct remap r = { .e = e,
			   .at = (uintptr_t)addr,
			   .len = dz_round_up(len, DZ_PAGE),
			   .new_len = dz_round_up(new_len, DZ_PAGE),
			   .flags = flags };
	int ret = remap_check(&r, (uintptr_t)new_addr);

	if (ret < 0)
		return ret;
	r.m = remap_find(e, r.at, r.at + r.len);
	if (!r.m)
		return -EFAULT;
	r.to = r.at;
	if (flags & MREMAP_FIXED)
		ret = remap_move(&r, new_addr);
	else if (r.new_len < r.len)
		ret = remap_shrink(&r);
	else if (r.new_len > r.len)
		ret = remap_in_place(&r);
	if (ret == -ENOMEM && r.new_len > r.len && !(flags & MREMAP_FIXED) &&
	    (flags & MREMAP_MAYMOVE))
		ret = remap_move(&r, NULL);
	*out = (void *)r.to;
	return ret;
}
