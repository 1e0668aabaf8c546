// SPDX-License-Identifier: MIT
/*
 * One read: block by block, copy from DRAM; what is not there comes from the
 * disk tier, or is fetched and waited for.
 *
 * The copy takes no lock: load the slot's word, check that the pieces are there,
 * copy, load the word again.  If the slot got another tenant meanwhile the copy
 * is thrown away and the block looked for again.
 *
 * A failure in the middle returns the bytes before it; the next read returns the
 * error.  A read never returns a byte that was not checked against the slot.
 */
#include "cache/copy.h"
#include "cache/engine_priv.h"
#include "cache/evict.h"
#include "cache/index.h"
#include "cache/past.h"
#include "cache/probe.h"
#include "cache/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define BLOCK_MASK  (DZ_BLOCK_BYTES - 1)
#define READ_MAX    0x7ffff000u
#define ALL_PIECES  0xffffu
#define WINDOW_MAX  32u
#define SMALL_MAX   2048u
#define AHEAD_BYTES 2048u
/* Looks at a block that lies on the disk but cannot be read from there. */
#define DISK_TRIES 4

/*
 * The copy races with an evictor on purpose; its result counts only if the
 * slot's word is still the same afterwards.
 */
__attribute__((noinline, no_sanitize("thread"))) static void
read_racy_copy(void *dst, const void *src, size_t n, bool by_string)
{
	/*
	 * Source and destination of a whole block do not fit a core's cache together.
	 * A processor that copies strings itself does not read what it overwrites: 1.37x
	 * libc's memcpy, which does so from many times that size on.
	 */
	if (by_string && n >= DZ_BLOCK_BYTES)
		dz_copy_string(dst, src, n);
	else
		memcpy(dst, src, n);
	__asm__ volatile("" ::: "memory");
}

/*
 * Small reads are mostly in sequence and shorter than memory is away: what one a
 * little later will want is called for now.  Addresses beyond the end do no harm.
 */
static inline void read_call_ahead(const uint8_t *at, size_t n)
{
	for (size_t i = 0; n <= SMALL_MAX && i < n; i += 64)
		__builtin_prefetch(at + AHEAD_BYTES + i);
}

/*
 * The copy and its check: true when `slot` had those bytes, of its generation in
 * `ctl`, until the last of them was copied.
 */
static inline bool read_copy(const struct dz_seg *seg, uint32_t slot, uint64_t ctl, uint32_t off,
			     size_t n, void *dst)
{
	uint64_t after;

	read_racy_copy(dst, dz_seg_page(seg, slot) + off, n, seg->has_string_copy);
	read_call_ahead(dz_seg_page(seg, slot) + off, n);
	/* Acquire: the copy above stays above; pairs with the evictor's release fence. */
	atomic_thread_fence(memory_order_acquire);
	after = atomic_load_explicit(&dz_dram_slot(seg, slot)->ctl, memory_order_relaxed);
	return dz_ctl_gen(after) == dz_ctl_gen(ctl) && dz_ctl_is_readable(after);
}

/* Are the bytes there?  A slot's length and place are not believed either. */
static inline bool read_has(const struct dz_seg *seg, uint32_t slot, uint32_t off, size_t n)
{
	const struct dz_slot *s = dz_dram_slot(seg, slot);
	uint32_t need = dz_pieces(off, n);

	/* Acquire: pairs with the release that set the bits after the bytes. */
	return (atomic_load_explicit(&s->valid, memory_order_acquire) & need) == need &&
	       off + n <= atomic_load_explicit(&s->len, memory_order_relaxed) &&
	       off + n <= (uint64_t)(seg->n_dram_slots - slot) * DZ_PAGE;
}

size_t dz_dram_copy(const struct dz_seg *seg, struct dz_key key, uint32_t off, size_t n, void *dst,
		    uint32_t *slot)
{
	for (int i = 0; i < 3; i++) {
		uint64_t ctl;

		*slot = dz_index_find_bytes(seg, key, off, n, &ctl);
		if (*slot == DZ_NONE || !read_has(seg, *slot, off, n))
			return 0;
		if (read_copy(seg, *slot, ctl, off, n, dst)) {
			dz_evict_touch(seg, DZ_TIER_DRAM, *slot);
			return n;
		}
	}
	return 0;
}

/* Has `slot` those bytes of this block?  Then *ctl is its word, and the use is counted. */
static inline bool read_is_at(const struct dz_seg *seg, struct dz_key key, uint32_t slot,
			      uint32_t off, size_t n, uint64_t *ctl)
{
	const struct dz_slot *s = dz_dram_slot(seg, slot);

	/* Acquire: pairs with the CAS that made it filling or ready. */
	*ctl = atomic_load_explicit(&s->ctl, memory_order_acquire);
	/* The key is that of this generation, or the check after the copy fails. */
	if (!dz_ctl_is_readable(*ctl) ||
	    atomic_load_explicit(&s->key_lo, memory_order_relaxed) != key.lo ||
	    atomic_load_explicit(&s->key_hi, memory_order_relaxed) != key.hi ||
	    (key.lo | key.hi) == 0 || !read_has(seg, slot, off, n))
		return false;
	if (dz_evict_is_due(seg, s))
		dz_evict_touch(seg, DZ_TIER_DRAM, slot);
	return true;
}

bool dz_dram_copy_at(const struct dz_seg *seg, struct dz_key key, uint32_t slot, uint32_t off,
		     size_t n, void *dst)
{
	uint64_t ctl;

	return read_is_at(seg, key, slot, off, n, &ctl) && read_copy(seg, slot, ctl, off, n, dst);
}

bool dz_dram_has(const struct dz_seg *seg, struct dz_key key, uint32_t mask)
{
	uint64_t ctl;
	uint32_t slot = dz_index_find(seg, key, DZ_TIER_DRAM, &ctl);

	return slot != DZ_NONE &&
	       (atomic_load_explicit(&dz_dram_slot(seg, slot)->valid, memory_order_acquire) &
		mask) == mask;
}

static inline _Atomic uint32_t *read_hint(struct dz_engine *e, const struct dz_ofile *f,
					  uint64_t blk)
{
	return &e->hints[(f->key_lo + blk) % DZ_ENGINE_HINTS];
}

/* All pieces that block `blk` of the file has. */
static uint32_t read_all(const struct dz_ofile *f, uint64_t blk)
{
	uint64_t left = f->size - blk * DZ_BLOCK_BYTES;

	return dz_pieces(0, dz_min_u64(left, DZ_BLOCK_BYTES));
}

static bool read_is_cached(const struct dz_engine *e, const struct dz_ofile *f, uint64_t blk)
{
	struct dz_key key = dz_read_key(f, blk);
	uint64_t ctl;

	return dz_dram_has(&e->seg, key, read_all(f, blk)) ||
	       (dz_disk_is_on(e->disk) &&
		dz_index_find(&e->seg, key, DZ_TIER_DISK, &ctl) != DZ_NONE);
}

void dz_read_prefetch(struct dz_engine *e, const struct dz_ofile *f, uint64_t first, uint64_t last)
{
	uint64_t end = dz_div_up(f->size, DZ_BLOCK_BYTES);

	for (uint64_t b = first; b <= last && b < end; b++) {
		if (!read_is_cached(e, f, b))
			dz_miss_start(e, f, b, read_all(f, b), DZ_REQ_PREFETCH);
	}
}

/*
 * A reader enters block `blk`: when it came from the one before, the window
 * doubles and what it covers is asked for.  The words are shared by all readers
 * of the description: a lost update costs a smaller window.
 */
static void read_advance(struct dz_engine *e, struct dz_ofile *f, uint64_t blk)
{
	uint32_t advice = atomic_load_explicit(&f->advice, memory_order_relaxed);
	uint32_t window = atomic_load_explicit(&f->window, memory_order_relaxed);
	uint64_t last = atomic_load_explicit(&f->last_blk, memory_order_relaxed);
	uint64_t ahead = atomic_load_explicit(&f->ahead, memory_order_relaxed);
	uint64_t limit = dz_max_u64(1, e->seg.n_dram_slabs / 8);

	if (advice == POSIX_FADV_RANDOM || f->size <= DZ_BLOCK_BYTES)
		return;
	if (blk != last + 1)
		window = 0;
	else
		window = window ? window * 2 : 1;
	if (advice == POSIX_FADV_SEQUENTIAL && window < 8)
		window = 8;
	window = (uint32_t)dz_min_u64(dz_min_u64(window, WINDOW_MAX), limit);
	atomic_store_explicit(&f->window, window, memory_order_relaxed);
	atomic_store_explicit(&f->last_blk, blk, memory_order_relaxed);
	if (!window)
		return;
	if (ahead <= blk || ahead > blk + 2 * WINDOW_MAX)
		ahead = blk + 1;
	/* In steps of half a window, so that requests go out in batches. */
	if (ahead > blk + window / 2 + 1)
		return;
	atomic_store_explicit(&f->ahead, blk + window + 1, memory_order_relaxed);
	dz_read_prefetch(e, f, ahead, blk + window);
}

/* Does a miss at byte `at` follow the last one?  Then the streak grows. */
static uint32_t read_streak(struct dz_ofile *f, uint64_t at)
{
	uint64_t next = atomic_load_explicit(&f->next_off, memory_order_relaxed);
	uint32_t streak = 0;

	if (next && at + DZ_PIECE_BYTES >= next && at <= next + DZ_PIECE_BYTES)
		streak = atomic_load_explicit(&f->streak, memory_order_relaxed) + 1;
	atomic_store_explicit(&f->streak, streak, memory_order_relaxed);
	return streak;
}

/*
 * Pieces to fetch for a miss at `off` of n bytes: just those and their neighbour,
 * four when it is the second in a row, all of the block from the third on.
 */
static uint32_t read_want(struct dz_ofile *f, uint64_t blk, uint32_t off, size_t n, uint32_t *flags)
{
	uint32_t advice = atomic_load_explicit(&f->advice, memory_order_relaxed);
	uint32_t mask = dz_pieces(off, n), streak;

	*flags = 0;
	if (f->size <= DZ_BLOCK_BYTES || n >= 4 * DZ_PIECE_BYTES || advice == POSIX_FADV_SEQUENTIAL)
		return read_all(f, blk);
	streak = read_streak(f, blk * DZ_BLOCK_BYTES + off);
	if (streak > 1 && advice != POSIX_FADV_RANDOM)
		return read_all(f, blk);
	mask |= mask << 1;
	if (streak == 1)
		mask |= mask << 2;
	mask &= read_all(f, blk);
	*flags = DZ_REQ_SMALL;
	atomic_store_explicit(&f->next_off,
			      blk * DZ_BLOCK_BYTES +
				      (32 - (uint64_t)__builtin_clz(mask)) * DZ_PIECE_BYTES,
			      memory_order_relaxed);
	return mask;
}

/* Not in DRAM: from the disk, or fetched.  `left` is what the call still wants. */
static ssize_t read_slow(struct dz_engine *e, struct dz_ofile *f, uint64_t blk, uint32_t off,
			 size_t n, size_t left, void *dst, enum dz_tier *tier)
{
	struct dz_key key = dz_read_key(f, blk);
	uint32_t slot;
	uint64_t last = (blk * DZ_BLOCK_BYTES + off + left - 1) / DZ_BLOCK_BYTES;

	for (int i = 0; i < 16; i++) {
		uint32_t flags, want;
		ssize_t got = dz_read_disk(e, f, blk, off, left, dst);
		int ret;

		*tier = DZ_TIER_DISK;
		if (got)
			return got;
		*tier = DZ_TIER_BLOB;
		want = read_want(f, blk, off, n, &flags);
		if (i >= DISK_TRIES)
			flags |= DZ_MISS_FETCH;
		if (last > blk)
			dz_read_prefetch(e, f, blk + 1, dz_min_u64(last, blk + WINDOW_MAX));
		ret = dz_miss_wait(e, f, blk, dz_pieces(off, n), want, flags | DZ_MISS_PAST);
		if (ret == -ENOBUFS)
			return dz_past_read(e, f, dst, n, blk * DZ_BLOCK_BYTES + off);
		if (ret < 0)
			return ret;
		if (ret == 0 && dz_dram_copy(&e->seg, key, off, n, dst, &slot))
			return (ssize_t)n;
	}
	return -EIO;
}

/*
 * Bytes by file, for dz top.  A counter that processes may share costs more than a
 * small copy, so of these one in 64 stands for all.  Which one goes by the golden
 * ratio: no rhythm in which a program reads its files can keep in step with it.
 */
static inline void read_count_file(struct dz_ofile *f, size_t n, uint64_t nth)
{
	uint64_t weight = n >= DZ_PIECE_BYTES ? 1 : 64;

	if (__builtin_expect(weight == 1 || nth * 0x9e3779b97f4a7c15ull >> 58 == 0, 0))
		atomic_fetch_add_explicit(&f->read_bytes, weight * n, memory_order_relaxed);
}

static void read_count(struct dz_engine *e, struct dz_ofile *f, enum dz_tier tier, size_t n,
		       uint64_t since_ns)
{
	struct dz_counter c = dz_engine_counter(e);
	uint64_t ns = since_ns ? dz_now_ns() - since_ns : 0;

	DZ_PROBE3(read, tier, n, ns);
	dz_count(c, &c.stats->hits[tier], 1);
	dz_count(c, &c.stats->hit_bytes[tier], n);
	if (tier == DZ_TIER_BLOB)
		dz_count(c, &c.stats->misses, 1);
	if (!since_ns) {
		read_count_file(f, n,
				atomic_load_explicit(&c.stats->hits[tier], memory_order_relaxed));
		return;
	}
	atomic_fetch_add_explicit(&f->read_bytes, n, memory_order_relaxed);
	dz_count(c, &c.stats->wait_ns, ns);
	dz_call_needed(e, tier, tier == DZ_TIER_DISK ? ns : 0);
}

static inline void read_count_hit(struct dz_engine *e, struct dz_ofile *f, size_t n)
{
	struct dz_counter c = dz_engine_counter(e);
	_Atomic uint64_t *hits = &c.stats->hits[DZ_TIER_DRAM];

	dz_count(c, hits, 1);
	dz_count(c, &c.stats->hit_bytes[DZ_TIER_DRAM], n);
	read_count_file(f, n, atomic_load_explicit(hits, memory_order_relaxed));
}

/*
 * The bytes, if they are where the block was last.  Memory is what takes the time,
 * and a processor looks a few hundred instructions ahead: so they are called for
 * first, then come checks and books, then the copy.  One that is overtaken by an
 * evictor was counted all the same.
 */
static inline bool read_near(struct dz_engine *e, struct dz_ofile *f, uint64_t blk, uint32_t off,
			     size_t n, void *dst)
{
	uint32_t slot = atomic_load_explicit(read_hint(e, f, blk), memory_order_relaxed);
	uint64_t ctl;

	if (slot >= e->seg.n_dram_slots)
		return false;
	dz_index_prefetch(&e->seg, slot, off, n);
	if (!read_is_at(&e->seg, dz_read_key(f, blk), slot, off, n, &ctl))
		return false;
	read_count_hit(e, f, n);
	return read_copy(&e->seg, slot, ctl, off, n, dst);
}

static ssize_t read_blocks(struct dz_engine *e, struct dz_ofile *f, void *buf, size_t len,
			   uint64_t off)
{
	size_t done = 0;

	while (done < len) {
		uint64_t blk = (off + done) / DZ_BLOCK_BYTES, since = 0;
		uint32_t in = (uint32_t)((off + done) & BLOCK_MASK), slot = DZ_NONE;
		size_t n = (size_t)dz_min_u64(len - done, DZ_BLOCK_BYTES - in);
		enum dz_tier tier = DZ_TIER_DRAM;
		uint8_t *dst = (uint8_t *)buf + done;
		ssize_t got =
			(ssize_t)dz_dram_copy(&e->seg, dz_read_key(f, blk), in, n, dst, &slot);

		if (got)
			atomic_store_explicit(read_hint(e, f, blk), slot, memory_order_relaxed);
		if (!got && e->shared.hdr)
			got = (ssize_t)dz_dram_copy(&e->shared, dz_read_key(f, blk), in, n, dst,
						    &slot);
		if (!got) {
			since = dz_now_ns();
			got = read_slow(e, f, blk, in, n, len - done, dst, &tier);
		}
		if (got < 0)
			return done ? (ssize_t)done : got;
		read_count(e, f, tier, (size_t)got, since);
		done += (size_t)got;
		if (in == 0)
			read_advance(e, f, blk);
	}
	return (ssize_t)done;
}

ssize_t dz_read_at(struct dz_engine *e, struct dz_ofile *f, void *buf, size_t len, uint64_t off)
{
	uint64_t size = f->size, blk = off / DZ_BLOCK_BYTES;
	uint32_t in = (uint32_t)(off & BLOCK_MASK);

	if (off >= size || !len)
		return 0;
	len = (size_t)dz_min_u64(dz_min_u64(len, READ_MAX), size - off);
	if (in + len > DZ_BLOCK_BYTES || !read_near(e, f, blk, in, len, buf))
		return read_blocks(e, f, buf, len, off);
	DZ_PROBE3(read, DZ_TIER_DRAM, len, 0);
	if (in == 0)
		read_advance(e, f, blk);
	return (ssize_t)len;
}
