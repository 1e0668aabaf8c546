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
 * A large range that is not there yet, or one that would pin more than half of DRAM,
 * is not brought: its pages come when they are touched (lazy.c).  Where the system
 * does not let us, the first is brought all the same, and the second, as where DRAM
 * cannot be mapped at all (no execution from it, a private segment), becomes a
 * mapping of a file of its own (realfd.c), a small part of a file a copy in memory.
 * When a block cannot be had: -errno and no mapping.
 */
#include "cache/index.h"
#include "cache/lazy.h"
#include "cache/pins.h"
#include "cache/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define SAMPLES	   64u
#define PART_BYTES (256 * DZ_MIB)

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* Linux 5.14 */
#endif
/* What a mapping's place is asked for with. */
#define PLACE_FLAGS (MAP_FIXED | MAP_FIXED_NOREPLACE | MAP_32BIT)

/* What is being put together. */
struct stitch {
	struct dz_engine *e;
	struct dz_ofile *f;
	void *addr;
	int prot, flags;
	uint64_t off; /* of the file, a multiple of the page size */
	size_t len;   /* whole pages, up to the last one of the file */
	size_t tail;  /* whole pages behind the file's end */
	uint64_t first;
	uint32_t n;	 /* blocks */
	uint32_t *slots; /* their first pages, or DZ_NONE */
	int fd;		 /* of the DRAM file, for reading only; of this mapping alone */
	bool wants_lazy; /* before all else */
	bool is_placed;	 /* what MAP_FIXED replaces is gone */
};

/* ---- blocks ---- */

static uint32_t map_all_pieces(const struct dz_ofile *f, uint64_t blk)
{
	return dz_pieces(0, dz_min_u64(DZ_BLOCK_BYTES, f->size - blk * DZ_BLOCK_BYTES));
}

/* The slot of the whole block, DZ_NONE. */
static uint32_t map_find(const struct stitch *s, uint32_t i, uint64_t *ctl)
{
	const struct dz_seg *seg = &s->e->seg;
	uint64_t blk = s->first + i;
	struct dz_key key = dz_block_key((struct dz_key){ s->f->key_lo, s->f->key_hi }, blk);
	uint32_t all = map_all_pieces(s->f, blk);
	uint32_t slot = dz_index_find(seg, key, DZ_TIER_DRAM, ctl);

	if (slot == DZ_NONE ||
	    (atomic_load_explicit(&dz_dram_slot(seg, slot)->valid, memory_order_acquire) & all) !=
		    all)
		return DZ_NONE;
	return slot;
}

/* After the pin: is it still that block's?  An evictor that came first changed the word. */
static bool map_is_still(const struct stitch *s, uint32_t i)
{
	uint64_t ctl;

	return s->slots[i] != DZ_NONE && map_find(s, i, &ctl) == s->slots[i] &&
	       dz_ctl_is_readable(atomic_load_explicit(&dz_dram_slot(&s->e->seg, s->slots[i])->ctl,
						       memory_order_seq_cst));
}

/* Slabs of blocks [i, j): those of neighbours with one lock. */
static int map_pin(const struct stitch *s, uint32_t i, uint32_t j)
{
	int ret = 0;

	while (ret == 0 && i < j) {
		uint32_t slab = s->slots[i] / DZ_SLAB_PAGES, n = 1;

		if (s->slots[i] == DZ_NONE) {
			i++;
			continue;
		}
		while (i + n < j && s->slots[i + n] / DZ_SLAB_PAGES == slab + n)
			n++;
		ret = dz_pin_slabs(&s->e->seg, s->fd, slab, n);
		i += n;
	}
	return ret < 0 ? -EAGAIN : 0;
}

/* Waits for the block, and pins it. */
static int map_get_block(struct stitch *s, uint32_t i)
{
	uint64_t blk = s->first + i, ctl;
	uint32_t all = map_all_pieces(s->f, blk);

	for (int tries = 0; tries < 16; tries++) {
		int ret;

		s->slots[i] = map_find(s, i, &ctl);
		if (s->slots[i] != DZ_NONE) {
			ret = map_pin(s, i, i + 1);
			if (ret < 0 || map_is_still(s, i))
				return ret;
		}
		ret = dz_miss_wait(s->e, s->f, blk, all, all, 0);
		if (ret == 1)
			ret = dz_disk_bring(s->e, s->f, blk);
		if (ret < 0 && ret != -ENOENT)
			return ret;
	}
	return -ENOSPC;
}

static int map_get_blocks(struct stitch *s)
{
	uint32_t missing = 0;
	uint64_t ctl;
	int ret;

	for (uint32_t i = 0; i < s->n; i++)
		s->slots[i] = map_find(s, i, &ctl);
	ret = map_pin(s, 0, s->n);
	for (uint32_t i = 0; i < s->n && ret == 0; i++) {
		if (map_is_still(s, i))
			continue;
		if (missing++ % 32 == 0)
			dz_read_prefetch(s->e, s->f, s->first + i, s->first + i + 64);
		ret = map_get_block(s, i);
	}
	return ret;
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

/* Behind the file's end: what lies behind that of the DRAM file. */
static int map_tail(const struct stitch *s, uint8_t *at)
{
	int how = (s->flags & ~(MAP_FIXED_NOREPLACE | MAP_32BIT | MAP_POPULATE)) | MAP_FIXED;
	void *got;

	return s->tail ? dz_sys_mmap(&got, at + s->len, s->tail, s->prot, how, s->fd,
				     s->e->seg.dram_bytes)
		       : 0;
}

static int map_place(const struct stitch *s, uint8_t *at)
{
	uint64_t off = s->off, end = s->off + s->len;
	int how = (s->flags & ~(MAP_FIXED_NOREPLACE | MAP_32BIT)) | MAP_FIXED;
	void *got;
	int ret = 0;

	while (off < end && ret == 0) {
		size_t n = map_run(s, off, end);

		ret = dz_sys_mmap(&got, at + (off - s->off), n, s->prot, how, s->fd,
				  map_dram_off(s, off));
		off += n;
	}
	return ret == 0 ? map_tail(s, at) : ret;
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

/* The first mapping of all: MAP_FIXED replaces with it what is there. */
static int map_first(struct stitch *s, void **out, size_t len, int prot, int flags, uint64_t off)
{
	int ret = dz_sys_mmap(out, s->addr, len, prot, flags, s->fd, off);

	s->is_placed |= ret == 0;
	return ret;
}

/*
 * Where huge pages of the DRAM file can be mapped as such: as far from a multiple of
 * one as most of the blocks lie there.
 */
static uint64_t map_residue(const struct stitch *s)
{
	uint32_t odd = 0;

	for (uint32_t i = 0; i < s->n; i++)
		odd += (uint32_t)(s->slots[i] / DZ_SLAB_PAGES + s->first + i) & 1;
	return (s->off + (odd > s->n / 2 ? DZ_HUGE_PAGE / 2 : 0)) % DZ_HUGE_PAGE;
}

/* A place for all of it, at such a distance where we may choose. */
static int map_reserve(struct stitch *s, void **out, uint64_t residue)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (s->flags & PLACE_FLAGS);
	size_t len = s->len + s->tail;
	bool is_free = !s->addr && !(s->flags & PLACE_FLAGS) && len >= DZ_HUGE_PAGE;
	int ret = is_free ? dz_sys_reserve(out, len, residue)
			  : dz_sys_mmap(out, s->addr, len, PROT_NONE, flags, -1, 0);

	s->is_placed |= ret == 0;
	return ret;
}

static int map_make(struct stitch *s, void **out)
{
	int ret;

	if (s->n && !s->tail && s->len < DZ_HUGE_PAGE &&
	    map_run(s, s->off, s->off + s->len) == s->len)
		return map_first(s, out, s->len, s->prot, s->flags, map_dram_off(s, s->off));
	ret = map_reserve(s, out, map_residue(s));
	if (ret == 0) {
		ret = map_place(s, *out);
		if (ret < 0)
			dz_sys_munmap(*out, s->len + s->tail);
	}
	return ret;
}

/* Would so many blocks leave the cache half of its memory? */
static bool map_fits(const struct stitch *s)
{
	const struct dz_seg *seg = &s->e->seg;
	uint32_t most = seg->n_dram_slabs / 2;

	return s->n <= most &&
	       (s->n + dz_pins_count(seg) <= most || s->n + dz_pins_collect(seg) <= most);
}

static int map_stitch(struct stitch *s, void **out)
{
	size_t bytes = (size_t)s->n * sizeof(*s->slots);
	uint32_t few[64];
	void *many = NULL;
	int ret = 0;

	if (s->e->seg.is_private || !map_fits(s))
		return -ENOSPC;
	s->slots = few;
	if (s->n > DZ_ARRAY_LEN(few))
		ret = dz_sys_mmap(&many, NULL, bytes, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (ret < 0)
		return ret;
	if (many)
		s->slots = many;
	ret = s->fd = map_open_dram(s->e);
	if (ret >= 0) {
		ret = map_get_blocks(s);
		if (ret == 0)
			ret = map_make(s, out);
		dz_sys_close(s->fd);
	}
	if (many)
		dz_sys_munmap(many, bytes);
	return ret;
}

/* ---- lazily ---- */

static uint32_t map_agent(const struct stitch *s)
{
	for (uint32_t i = 0; i < s->e->cfg.n_mounts; i++) {
		if (s->e->rec[i] == s->f->mount)
			return s->e->agent[i];
	}
	return s->e->home_agent;
}

/* Is a quarter of it missing, as far as some blocks tell? */
static bool map_is_cold(const struct stitch *s)
{
	uint32_t n = (uint32_t)dz_min_u64(s->n, SAMPLES), cold = 0;
	uint64_t ctl;

	for (uint32_t i = 0; i < n; i++)
		cold += map_find(s, (uint32_t)((uint64_t)s->n * i / n), &ctl) == DZ_NONE;
	return cold > n / 4;
}

/* Filling ahead is a wish: what does not come now comes when it is touched. */
static void map_populate(const struct stitch *s, void *at)
{
	if (s->flags & MAP_LOCKED)
		dz_sys_2(SYS_mlock, at, s->len);
	else if ((s->flags & (MAP_POPULATE | MAP_NONBLOCK)) == MAP_POPULATE)
		dz_sys_3(SYS_madvise, at, s->len, MADV_POPULATE_READ);
}

static int map_lazy_at(struct stitch *s, struct dz_map *m, void *at)
{
	int ret = 0;

	s->fd = s->tail ? map_open_dram(s->e) : -1;
	if (s->tail && s->fd < 0)
		return s->fd;
	ret = map_tail(s, at);
	if (ret == 0)
		ret = dz_lazy_begin(s->e, m, (uintptr_t)at);
	if (ret == 0)
		ret = (int)dz_sys_3(SYS_mprotect, at, s->len, s->prot);
	if (s->fd >= 0)
		dz_sys_close(s->fd);
	return ret;
}

static int map_lazy(struct stitch *s, struct dz_map *m, void **out)
{
	int ret;

	if (!s->len || !m->file || !dz_lazy_is_possible(s->e, map_agent(s)))
		return -EAGAIN;
	m->off = s->off;
	ret = map_reserve(s, out, s->off % DZ_HUGE_PAGE);
	if (ret < 0)
		return ret;
	m->end = (uintptr_t)*out + s->len;
	ret = map_lazy_at(s, m, *out);
	if (ret < 0) {
		dz_sys_munmap(*out, s->len + s->tail);
		return -EAGAIN;
	}
	map_populate(s, *out);
	m->kind = DZ_MAP_LAZY;
	return 0;
}

/* ---- the three ways ---- */

/* Its part of the file, in memory of its own. */
static int map_part(struct stitch *s, void **out)
{
	uint64_t want = dz_min_u64(s->len, s->f->size - s->off), done = 0;
	ssize_t got = 1;
	int ret = dz_sys_mmap(out, s->addr, s->len, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | (s->flags & PLACE_FLAGS), -1, 0);

	if (ret < 0)
		return ret;
	s->is_placed = true;
	while (done < want && got > 0) {
		got = dz_read_at(s->e, s->f, (uint8_t *)*out + done, want - done, s->off + done);
		done += got > 0 ? (uint64_t)got : 0;
	}
	ret = done == want ? (int)dz_sys_3(SYS_mprotect, *out, s->len, s->prot)
	      : got < 0	   ? (int)got
			   : -EIO;
	if (ret < 0)
		dz_sys_munmap(*out, s->len);
	return ret;
}

static int map_copy(struct stitch *s, void **out)
{
	int ret = s->fd = dz_real_fd(s->e, s->f);

	if (ret < 0)
		return ret;
	ret = map_first(s, out, s->len + s->tail, s->prot, s->flags, s->off);
	dz_sys_close(s->fd);
	return ret;
}

static bool map_cannot_stitch(int err)
{
	return err == -ENOSPC || err == -EPERM || err == -EAGAIN || err == -EACCES;
}

static int map_any(struct stitch *s, struct dz_map *m, void **out)
{
	int ret = -EAGAIN;

	m->kind = DZ_MAP_TIER;
	if (s->wants_lazy)
		ret = map_lazy(s, m, out);
	if (ret == -EAGAIN)
		ret = map_stitch(s, out);
	if (map_cannot_stitch(ret))
		ret = map_lazy(s, m, out);
	if (ret == -EAGAIN) {
		bool is_part =
			s->len && !s->tail && s->len <= PART_BYTES && s->len < s->f->size / 2;

		m->kind = DZ_MAP_COPY;
		ret = is_part ? map_part(s, out) : map_copy(s, out);
	}
	return ret;
}

/* With what it replaces out of sight. */
static int map_over(struct stitch *s, struct dz_map *m, void **out)
{
	bool is_over = (s->flags & PLACE_FLAGS & ~MAP_32BIT) == MAP_FIXED;
	uintptr_t at = (uintptr_t)s->addr, end = at + s->len + s->tail;
	uint32_t taken = is_over && at % DZ_PAGE == 0 ? dz_engine_unmap_begin(s->e, at, end) : 0;
	int ret = map_any(s, m, out);

	/* Failing, the kernel may have taken away what was there all the same. */
	dz_engine_unmap_end(s->e, taken, at, end, s->is_placed);
	return ret;
}

int dz_map_file(struct dz_engine *e, struct dz_ofile *f, const struct dz_map_want *w, void **out)
{
	uint64_t file_end = dz_round_up(f->size, DZ_PAGE);
	size_t whole = dz_round_up(w->len, DZ_PAGE);
	struct stitch s = {
		.e = e, .f = f, .addr = w->addr, .prot = w->prot, .off = w->off, .flags = w->flags
	};
	struct dz_map *m, none = { .file = NULL };
	int ret = dz_maps_open(e);

	if (ret < 0)
		return ret;
	s.len = w->off < file_end ? (size_t)dz_min_u64(whole, file_end - w->off) : 0;
	s.tail = whole - s.len;
	s.first = w->off / DZ_BLOCK_BYTES;
	s.n = s.len ? (uint32_t)((w->off + s.len - 1) / DZ_BLOCK_BYTES - s.first + 1) : 0;
	s.wants_lazy = w->like ? w->like->kind == DZ_MAP_LAZY
			       : s.len >= DZ_LAZY_MIN_BYTES && map_is_cold(&s);
	m = dz_map_new(e, f);
	ret = map_over(&s, m ? m : &none, out);
	if (!m && ret == 0)
		dz_map_unlisted(e, (uintptr_t)*out, (uintptr_t)*out + whole);
	if (m && ret < 0)
		dz_map_drop(e, m);
	if (!m || ret < 0)
		return ret;
	m->end = (uintptr_t)*out + whole;
	m->off = w->off;
	m->prot = w->prot;
	m->is_shared = (w->flags & MAP_TYPE) != MAP_PRIVATE;
	dz_map_show(e, m, (uintptr_t)*out);
	return 0;
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

int dz_engine_map(struct dz_engine *e, dz_fh fh, void *addr, size_t len, int prot, int flags,
		  uint64_t off, void **out)
{
	struct dz_map_want w = { addr, len, prot, flags, off, NULL };
	struct dz_ofile *f = dz_file_get(&e->seg, fh);
	int ret;

	if (!f)
		return -EBADF;
	ret = map_check(f, len, prot, flags, off);
	return ret < 0 ? ret : dz_map_file(e, f, &w, out);
}
