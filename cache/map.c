// SPDX-License-Identifier: MIT
/*
 * mmap of a managed file: kernel mappings of the cache's own pages, shared by all
 * processes of the node.
 *
 * The happy path: bring every block of the range into DRAM and pin its slab; put
 * the blocks' pages side by side with MAP_FIXED (neighbours in DRAM become one
 * piece); behind the end of the file map behind the end of the DRAM file, so that
 * a touch there is SIGBUS as with any file.  The pages are opened read-only, so
 * mprotect cannot make a shared mapping writable.
 *
 * When more than half of DRAM would be pinned, or DRAM cannot be mapped that way
 * (no execution from it, a private segment), the mapping is of a file of its own
 * (realfd.c).  When a block cannot be had: -errno and no mapping.
 *
 * Pins are counted by this process alone and go when the last mapped page of a
 * slab goes; those of a killed process go with its record.  Whenever in doubt
 * (no room to note a mapping, the lock is taken) a pin stays.
 */
#include "cache/engine_priv.h"
#include "cache/index.h"
#include "cache/pins.h"
#include "cache/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define REGIONS 4096

/* The slabs of a mapping's blocks; of all the regions that it has been cut into. */
struct span {
	size_t bytes; /* of the memory that this begins */
	uint32_t users;
	uint32_t slab[];
};

/* A mapped range; block i of it starts at base + i MiB and lies in slab span->slab[i]. */
struct region {
	uintptr_t at, end; /* 0: free place */
	uintptr_t base;
	struct span *span;
};

struct dz_maps {
	struct region region[REGIONS];
	uint32_t used;	 /* places from here on were never taken */
	uint32_t refs[]; /* of each DRAM slab, in this process */
};

/* What is being put together. */
struct stitch {
	struct dz_engine *e;
	struct dz_ofile *f;
	uint64_t off; /* of the file, a multiple of the page size */
	size_t len;   /* whole pages, up to the last one of the file */
	size_t tail;  /* whole pages behind the file's end */
	uint64_t first;
	uint32_t n;	 /* blocks */
	uint32_t *slots; /* first pages; behind the span's slabs */
	struct span *span;
};

static bool map_try_lock(struct dz_engine *e)
{
	for (int i = 0; i < 100000; i++) {
		uint32_t none = 0;

		if (atomic_compare_exchange_weak(&e->map_lock, &none, 1))
			return true;
		dz_sys_0(SYS_sched_yield);
	}
	return false;
}

static void map_unlock(struct dz_engine *e)
{
	atomic_store_explicit(&e->map_lock, 0, memory_order_release);
}

/*
 * The child has its own copy of the table, and pins like the parent's; but not of
 * what a thread of the parent mapped between the copy of its pins and the fork.
 */
void dz_map_fork_child(struct dz_engine *e)
{
	struct dz_maps *m = e->maps;

	atomic_store_explicit(&e->map_lock, 0, memory_order_relaxed);
	for (uint32_t s = 0; m && s < e->seg.n_dram_slabs; s++) {
		if (m->refs[s])
			dz_pin_slab(&e->seg, s);
	}
}

bool dz_map_is_used(const struct dz_engine *e)
{
	return e->maps != NULL;
}

static int map_table(struct dz_engine *e)
{
	size_t bytes = sizeof(*e->maps) + (size_t)e->seg.n_dram_slabs * 4;
	struct dz_maps *none = NULL;
	void *map;
	int ret;

	if (e->maps)
		return 0;
	ret = dz_sys_mmap(&map, NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);
	/* Two tables would count one slab's pins apart, and the first to end would unpin it. */
	if (ret == 0 && !atomic_compare_exchange_strong(&e->maps, &none, map))
		dz_sys_munmap(map, bytes);
	return ret;
}

/* ---- pins ---- */

static int map_pin(struct dz_engine *e, uint32_t slab)
{
	if (!map_try_lock(e))
		return -EAGAIN;
	if (e->maps->refs[slab]++ == 0)
		dz_pin_slab(&e->seg, slab);
	map_unlock(e);
	return 0;
}

/* With the lock held. */
static void map_unpin_locked(struct dz_engine *e, uint32_t slab)
{
	if (e->maps->refs[slab] && --e->maps->refs[slab] == 0)
		dz_unpin_slab(&e->seg, slab);
}

static void map_unpin(struct dz_engine *e, uint32_t slab)
{
	if (!map_try_lock(e))
		return;
	map_unpin_locked(e, slab);
	map_unlock(e);
}

/* ---- blocks ---- */

static uint32_t map_all_pieces(const struct dz_ofile *f, uint64_t blk)
{
	return dz_pieces(0, dz_min_u64(DZ_BLOCK_BYTES, f->size - blk * DZ_BLOCK_BYTES));
}

/* The block's slot, if it is whole and could be pinned; DZ_NONE. */
static uint32_t map_pin_block(struct stitch *s, uint64_t blk)
{
	const struct dz_seg *seg = &s->e->seg;
	struct dz_key key = dz_block_key((struct dz_key){ s->f->key_lo, s->f->key_hi }, blk);
	uint32_t all = map_all_pieces(s->f, blk), slot;
	uint64_t ctl, after;

	slot = dz_index_find(seg, key, DZ_TIER_DRAM, &ctl);
	if (slot == DZ_NONE || map_pin(s->e, slot / DZ_SLAB_PAGES) < 0)
		return DZ_NONE;
	/* After the pin: an evictor that came first has changed the word. */
	after = atomic_load_explicit(&dz_dram_slot(seg, slot)->ctl, memory_order_seq_cst);
	if (dz_ctl_gen(after) == dz_ctl_gen(ctl) && dz_ctl_is_readable(after) &&
	    (atomic_load_explicit(&dz_dram_slot(seg, slot)->valid, memory_order_acquire) & all) ==
		    all)
		return slot;
	map_unpin(s->e, slot / DZ_SLAB_PAGES);
	return DZ_NONE;
}

static int map_get_block(struct stitch *s, uint32_t i)
{
	uint64_t blk = s->first + i;
	uint32_t all = map_all_pieces(s->f, blk);

	for (int tries = 0; tries < 16; tries++) {
		int ret;

		s->slots[i] = map_pin_block(s, blk);
		if (s->slots[i] != DZ_NONE) {
			s->span->slab[i] = s->slots[i] / DZ_SLAB_PAGES;
			return 0;
		}
		ret = dz_miss_wait(s->e, s->f, blk, all, all, 0);
		if (ret == 1)
			ret = dz_disk_bring(s->e, s->f, blk);
		if (ret < 0 && ret != -ENOENT)
			return ret;
	}
	return -ENOSPC;
}

static void map_drop_blocks(struct stitch *s, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		map_unpin(s->e, s->span->slab[i]);
}

static int map_get_blocks(struct stitch *s)
{
	dz_read_prefetch(s->e, s->f, s->first, s->first + dz_min_u64(s->n, 64));
	for (uint32_t i = 0; i < s->n; i++) {
		int ret;

		if (i % 32 == 0 && i)
			dz_read_prefetch(s->e, s->f, s->first + i + 32, s->first + i + 64);
		ret = map_get_block(s, i);
		if (ret < 0) {
			map_drop_blocks(s, i);
			return ret;
		}
	}
	return 0;
}

/* ---- pieces ---- */

/* Offset in the DRAM file of the page that shows file offset off. */
static uint64_t map_dram_off(const struct stitch *s, uint64_t off)
{
	return (uint64_t)s->slots[off / DZ_BLOCK_BYTES - s->first] * DZ_PAGE + off % DZ_BLOCK_BYTES;
}

/* How many bytes from off on lie side by side in DRAM. */
static size_t map_run(const struct stitch *s, uint64_t off, uint64_t end)
{
	uint64_t to = dz_min_u64(end, (off / DZ_BLOCK_BYTES + 1) * DZ_BLOCK_BYTES);

	while (to < end && map_dram_off(s, to) == map_dram_off(s, off) + (to - off))
		to = dz_min_u64(end, to + DZ_BLOCK_BYTES);
	return (size_t)(to - off);
}

static int map_place(const struct stitch *s, uint8_t *at, int prot, int flags, int fd)
{
	uint64_t off = s->off, end = s->off + s->len;
	int how = (flags & ~(MAP_FIXED_NOREPLACE | MAP_32BIT)) | MAP_FIXED;
	void *got;
	int ret = 0;

	while (off < end && ret == 0) {
		size_t n = map_run(s, off, end);

		ret = dz_sys_mmap(&got, at + (off - s->off), n, prot, how, fd,
				  map_dram_off(s, off));
		off += n;
	}
	if (ret == 0 && s->tail)
		ret = dz_sys_mmap(&got, at + s->len, s->tail, prot, how & ~MAP_POPULATE, fd,
				  s->e->seg.dram_bytes);
	return ret;
}

/* The DRAM file, for reading only. */
static int map_open_dram(const struct dz_engine *e)
{
	char path[40];

	if (!dz_seg_has_fd(&e->seg, e->seg.dram_fd))
		return -EAGAIN;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", e->seg.dram_fd);
	return dz_sys_open(path, O_RDONLY | O_CLOEXEC, 0);
}

static int map_make(struct stitch *s, void *addr, int prot, int flags, void **out)
{
	size_t len = s->len + s->tail;
	int fd = map_open_dram(s->e), ret;

	if (fd < 0)
		return fd;
	/* A place for all of it first; MAP_FIXED replaces what is there, as asked. */
	ret = dz_sys_mmap(out, addr, len, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE |
				  (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE | MAP_32BIT)),
			  -1, 0);
	if (ret == 0) {
		ret = map_place(s, *out, prot, flags, fd);
		if (ret < 0)
			dz_sys_munmap(*out, len);
	}
	dz_sys_close(fd);
	return ret;
}

/* A place for a mapped range, with the lock held; false: there is none, its pins stay. */
static bool map_put_region(struct dz_maps *m, struct region r)
{
	for (uint32_t i = 0; r.at < r.end && i < REGIONS; i++) {
		if (m->region[i].at)
			continue;
		m->region[i] = r;
		r.span->users++;
		if (i >= m->used)
			m->used = i + 1;
		return true;
	}
	return false;
}

static void span_free(struct span *span)
{
	dz_sys_munmap(span, span->bytes);
}

/* Notes the mapping.  No place to note it: its pins stay for good. */
static void map_note(struct stitch *s, uintptr_t at)
{
	struct region r = {
		.at = at, .end = at + s->len, .base = at - s->off % DZ_BLOCK_BYTES, .span = s->span
	};
	bool is_noted = false;

	if (map_try_lock(s->e)) {
		is_noted = map_put_region(s->e->maps, r);
		map_unlock(s->e);
	}
	if (!is_noted)
		span_free(s->span);
}

static int map_arrays(struct stitch *s)
{
	size_t bytes = sizeof(*s->span) + (size_t)s->n * 8;
	void *map;
	int ret;

	ret = dz_sys_mmap(&map, NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);
	if (ret < 0)
		return ret;
	s->span = map;
	s->span->bytes = bytes;
	s->slots = s->span->slab + s->n;
	return 0;
}

static int map_stitch(struct dz_engine *e, struct dz_ofile *f, void *addr, size_t len, int prot,
		      int flags, uint64_t off, void **out)
{
	uint64_t file_end = dz_round_up(f->size, DZ_PAGE);
	size_t whole = dz_round_up(len, DZ_PAGE);
	struct stitch s = { .e = e, .f = f, .off = off };
	int ret;

	s.len = off < file_end ? (size_t)dz_min_u64(whole, file_end - off) : 0;
	s.tail = whole - s.len;
	s.first = off / DZ_BLOCK_BYTES;
	s.n = s.len ? (uint32_t)((off + s.len - 1) / DZ_BLOCK_BYTES - s.first + 1) : 0;
	if (e->seg.is_private || s.n > e->seg.n_dram_slabs / 2 ||
	    s.n + dz_pins_count(&e->seg) > e->seg.n_dram_slabs / 2)
		return -ENOSPC;
	ret = map_table(e);
	if (ret == 0 && s.n)
		ret = map_arrays(&s);
	if (ret == 0 && s.n)
		ret = map_get_blocks(&s);
	if (ret < 0)
		goto err_arrays;
	ret = map_make(&s, addr, prot, flags, out);
	if (ret == 0) {
		if (s.n)
			map_note(&s, (uintptr_t)*out);
		return 0;
	}
	map_drop_blocks(&s, s.n);
err_arrays:
	if (s.span)
		span_free(s.span);
	return ret;
}

/* ---- unmapping ---- */

static bool map_touches(uintptr_t at, uintptr_t end, uintptr_t from, uintptr_t to)
{
	return at < to && end > from;
}

/* The blocks of r that [at, end) covered and that neither remainder touches. */
static void map_cut(struct dz_engine *e, const struct region *r, uintptr_t at, uintptr_t end)
{
	uintptr_t first = (r->at - r->base) / DZ_BLOCK_BYTES;
	uintptr_t last = (r->end - 1 - r->base) / DZ_BLOCK_BYTES;

	for (uintptr_t b = first; b <= last; b++) {
		uintptr_t from = r->base + b * DZ_BLOCK_BYTES, to = from + DZ_BLOCK_BYTES;

		if (at > r->at && map_touches(r->at, at, from, to))
			continue;
		if (end < r->end && map_touches(end, r->end, from, to))
			continue;
		map_unpin_locked(e, r->span->slab[b]);
	}
}

/* The two remainders of r end and begin in one block: its pin is each one's now. */
static void map_pin_twice(struct dz_maps *m, const struct region *r, uintptr_t at, uintptr_t end)
{
	uintptr_t left = (at - 1 - r->base) / DZ_BLOCK_BYTES;
	uintptr_t right = (end - r->base) / DZ_BLOCK_BYTES;

	if (at > r->at && end < r->end && left == right)
		m->refs[r->span->slab[left]]++;
}

/* [at, end) goes out of region number i. */
static void map_take_out(struct dz_engine *e, uint32_t i, uintptr_t at, uintptr_t end)
{
	struct dz_maps *m = e->maps;
	struct region old = m->region[i], left = old, right = old;

	map_cut(e, &old, at, end);
	map_pin_twice(m, &old, at, end);
	left.end = at;
	right.at = end;
	m->region[i].at = 0;
	map_put_region(m, left);
	map_put_region(m, right);
	if (--old.span->users == 0)
		span_free(old.span);
}

void dz_engine_unmapped(struct dz_engine *e, void *addr, size_t len)
{
	uintptr_t at = (uintptr_t)addr, end = at + dz_round_up(len, DZ_PAGE);
	struct dz_maps *m = e->maps;
	uint32_t used;

	if (!m || !map_try_lock(e))
		return;
	used = m->used;
	for (uint32_t i = 0; i < used; i++) {
		const struct region *r = &m->region[i];

		if (r->at && map_touches(r->at, r->end, at, end))
			map_take_out(e, i, at, end);
	}
	map_unlock(e);
}

static int map_check(const struct dz_ofile *f, size_t len, int prot, int flags, uint64_t off)
{
	int type = flags & MAP_TYPE;

	if (S_ISDIR(f->mode))
		return -ENODEV;
	if (!len || off % DZ_PAGE)
		return -EINVAL;
	if (type != MAP_PRIVATE && type != MAP_SHARED && type != MAP_SHARED_VALIDATE)
		return -EINVAL;
	if (type == MAP_SHARED_VALIDATE && (flags & MAP_SYNC))
		return -EOPNOTSUPP;
	return type != MAP_PRIVATE && (prot & PROT_WRITE) ? -EACCES : 0;
}

static int map_copy(struct dz_engine *e, struct dz_ofile *f, void *addr, size_t len, int prot,
		    int flags, uint64_t off, void **out)
{
	int fd = dz_real_fd(e, f), ret;

	if (fd < 0)
		return fd;
	ret = dz_sys_mmap(out, addr, len, prot, flags, fd, off);
	dz_sys_close(fd);
	return ret;
}

int dz_engine_map(struct dz_engine *e, dz_fh fh, void *addr, size_t len, int prot, int flags,
		  uint64_t off, void **out)
{
	struct dz_ofile *f = dz_file_get(&e->seg, fh);
	int ret;

	if (!f)
		return -EBADF;
	ret = map_check(f, len, prot, flags, off);
	if (ret < 0)
		return ret;
	ret = map_stitch(e, f, addr, len, prot, flags, off, out);
	if (ret == -ENOSPC || ret == -EPERM || ret == -EAGAIN || ret == -EACCES)
		ret = map_copy(e, f, addr, len, prot, flags, off, out);
	return ret;
}
