// SPDX-License-Identifier: MIT
/*
 * Reading from the disk tier.
 *
 * The happy path: parts of blocks are read as a stream (read_stream.c).  A block that
 * is worth a place in DRAM, or that was found in a journal and has not been checked
 * yet, is read whole, checked against its CRC and offered to DRAM.
 *
 * What fails its check is looked for again by the caller.  Buffers are private, so an
 * I/O of a process that was killed lands nowhere that matters.
 */
#include "cache/engine_priv.h"
#include "cache/evict.h"
#include "cache/index.h"
#include "cache/slabs.h"
#include "cache/sys.h"

#include <errno.h>
#include <string.h>

/* ---- one whole block ---- */

int dz_disk_promote(struct dz_engine *e, const struct dz_ofile *f, uint64_t blk,
		    const struct iovec *parts, uint32_t n_parts)
{
	const struct dz_seg *seg = &e->seg;
	struct dz_key key = dz_read_key(f, blk);
	uint64_t ctl, ready;
	struct dz_slot *s;
	uint32_t n, len = 0;
	int ret = -ENOSPC;

	if (seg->member >= seg->n_members)
		return ret;
	for (uint32_t i = 0; i < n_parts; i++)
		len += (uint32_t)parts[i].iov_len;
	atomic_fetch_add_explicit(&seg->members[seg->member].filling, 1, memory_order_relaxed);
	n = dz_slot_alloc(seg, DZ_TIER_DRAM, len, seg->member, &ctl);
	if (n == DZ_NONE)
		goto out;
	s = dz_dram_slot(seg, n);
	atomic_store_explicit(&s->key_lo, key.lo, memory_order_relaxed);
	atomic_store_explicit(&s->key_hi, key.hi, memory_order_relaxed);
	atomic_store_explicit(&s->len, len, memory_order_relaxed);
	atomic_store_explicit(&s->kind, DZ_KIND_DATA, memory_order_relaxed);
	atomic_store_explicit(&s->group, f->group, memory_order_relaxed);
	for (uint32_t i = 0, at = 0; i < n_parts; at += (uint32_t)parts[i++].iov_len)
		memcpy(dz_seg_page(seg, n) + at, parts[i].iov_base, parts[i].iov_len);
	memset(dz_seg_page(seg, n) + len, 0, dz_round_up(len, DZ_PAGE) - len);
	atomic_store_explicit(&s->valid, dz_pieces(0, len), memory_order_release);
	ret = dz_index_insert(seg, key, DZ_TIER_DRAM, n, DZ_NONE);
	if (ret < 0)
		dz_slot_discard(seg, DZ_TIER_DRAM, n, ctl);
	else if (dz_slot_publish(seg, DZ_TIER_DRAM, n, ctl, &ready))
		dz_evict_filled(seg, DZ_TIER_DRAM, n);
out:
	atomic_fetch_sub_explicit(&seg->members[seg->member].filling, 1, memory_order_relaxed);
	return ret == -EEXIST ? 0 : ret;
}

static int disk_promote(struct dz_engine *e, const struct dz_ofile *f, uint64_t blk,
			const struct dz_bounce *b, uint32_t len)
{
	return dz_disk_promote(e, f, blk, &(struct iovec){ b->data, len }, 1);
}

/* Reads `len` bytes of a block to the front of the buffers, several units at once. */
static int disk_read_block(struct dz_engine *e, struct dz_bounce *b, uint32_t slot, uint64_t ctl,
			   uint32_t len)
{
	uint32_t n = (uint32_t)dz_div_up(len, DZ_BOUNCE_UNIT), skip;
	int ret = 0;

	for (uint32_t i = 0; i < n; i++) {
		uint32_t off = i * (uint32_t)DZ_BOUNCE_UNIT;
		uint32_t part = (uint32_t)dz_min_u64(DZ_BOUNCE_UNIT, len - off);

		dz_disk_prep_read(e->disk, slot, off, part, b->data + off, &b->io[i], &skip);
		ret = dz_ring_start(b->ring, &b->io[i]);
		if (ret < 0) {
			n = i;
			break;
		}
	}
	for (uint32_t i = 0; i < n; i++) {
		bool is_done = dz_bounce_wait(b, &b->io[i]);
		int one = is_done ? dz_disk_check_read(e->disk, slot, ctl, &b->io[i]) : -EIO;
		if (one < 0 && ret == 0)
			ret = one;
	}
	return ret;
}

/* The whole block to the front of the buffers, checked.  Its length, or -errno. */
static int disk_load(struct dz_engine *e, const struct dz_ofile *f, struct dz_bounce *b,
		     uint64_t blk, uint32_t slot, uint64_t ctl)
{
	uint32_t len = (uint32_t)dz_min_u64(DZ_BLOCK_BYTES, f->size - blk * DZ_BLOCK_BYTES);
	int ret = disk_read_block(e, b, slot, ctl, len);

	if (ret == 0 && dz_disk_is_unverified(e->disk, slot))
		ret = dz_disk_verify(e->disk, slot, ctl, b->data);
	return ret < 0 ? ret : (int)len;
}

/* The whole block: checked, offered to DRAM, and its wanted part copied. */
static ssize_t disk_whole(struct dz_engine *e, const struct dz_ofile *f, struct dz_bounce *b,
			  uint64_t blk, uint32_t slot, uint64_t ctl, uint32_t off, size_t len,
			  void *dst)
{
	int block_len = disk_load(e, f, b, blk, slot, ctl);
	size_t n;

	if (block_len < 0)
		return 0;
	n = (size_t)dz_min_u64(len, (uint32_t)block_len - off);
	if (dz_evict_admits(&e->seg, DZ_TIER_DRAM, dz_read_key(f, blk), f->group))
		disk_promote(e, f, blk, b, (uint32_t)block_len);
	memcpy(dst, b->data + off, n);
	/* The rest may be wanted next, and need not be read again. */
	dz_stream_keep(b, blk, slot, ctl, (uint32_t)block_len);
	dz_evict_touch(&e->seg, DZ_TIER_DISK, slot);
	return (ssize_t)n;
}

int dz_disk_bring(struct dz_engine *e, const struct dz_ofile *f, uint64_t blk)
{
	_Atomic uint64_t mark;
	struct dz_bounce *b;
	uint64_t ctl;
	uint32_t slot;
	int ret;

	if (!dz_disk_is_on(e->disk))
		return -ENOENT;
	slot = dz_index_find(&e->seg, dz_read_key(f, blk), DZ_TIER_DISK, &ctl);
	if (slot == DZ_NONE || dz_ctl_state(ctl) != DZ_SLOT_READY)
		return -ENOENT;
	b = dz_engine_bounce_lock(e, &mark);
	if (!b)
		return -ENOSPC;
	dz_stream_drop(b);
	ret = disk_load(e, f, b, blk, slot, ctl);
	ret = ret < 0 ? -ENOENT : disk_promote(e, f, blk, b, (uint32_t)ret);
	dz_engine_bounce_unlock(e, b);
	return ret;
}

/*
 * Worth reading whole?  Unchecked ones are; others if DRAM has room, or would make
 * some.  For a few bytes of a block that costs as much as many small reads, so these
 * save up for it: in all, no more bytes than were asked for.
 */
static bool disk_wants_whole(struct dz_engine *e, const struct dz_ofile *f, struct dz_bounce *b,
			     uint64_t blk, uint32_t slot, size_t len)
{
	uint64_t used = atomic_load_explicit(&e->seg.hdr->dram_used, memory_order_relaxed);
	uint64_t price = dz_min_u64(DZ_BLOCK_BYTES, f->size - blk * DZ_BLOCK_BYTES);

	if (dz_disk_is_unverified(e->disk, slot))
		return true;
	if (used + DZ_BLOCK_BYTES <= e->seg.dram_bytes)
		return dz_evict_admits(&e->seg, DZ_TIER_DRAM, dz_read_key(f, blk), f->group);
	b->saved = dz_min_u64(b->saved + len, DZ_BLOCK_BYTES);
	if (b->saved < price ||
	    !dz_evict_admits(&e->seg, DZ_TIER_DRAM, dz_read_key(f, blk), f->group))
		return false;
	b->saved -= price;
	return true;
}

ssize_t dz_read_disk(struct dz_engine *e, struct dz_ofile *f, uint64_t blk, uint32_t off,
		     size_t len, void *dst)
{
	uint64_t ctl, start = blk * DZ_BLOCK_BYTES + off;
	struct dz_bounce *b;
	_Atomic uint64_t mark;
	ssize_t got;
	uint32_t slot;

	if (!dz_disk_is_on(e->disk))
		return 0;
	slot = dz_index_find(&e->seg, dz_read_key(f, blk), DZ_TIER_DISK, &ctl);
	if (slot == DZ_NONE || dz_ctl_state(ctl) != DZ_SLOT_READY)
		return 0;
	b = dz_engine_bounce_lock(e, &mark);
	if (!b)
		return 0;
	dz_stream_place(f, b, start);
	if (b->stream.n == 0 && disk_wants_whole(e, f, b, blk, slot, len)) {
		got = disk_whole(e, f, b, blk, slot, ctl, off, len, dst);
		dz_stream_went(&b->stream, (size_t)got);
	} else {
		got = dz_stream_read(e, f, b, len, dst);
	}
	dz_engine_bounce_unlock(e, b);
	return got;
}

/* ---- whose buffers ---- */

/*
 * Has the read that keeps them busy been left by a jump?  Then its frame is gone, and its
 * mark with it once anything else has lain there, at the latest the mark of the next read
 * from the same depth.  Asked of the kernel: the stack may be gone too.  A frame that a
 * handler has interrupted is whole, on whatever stack.
 */
static bool bounce_is_left(struct dz_engine_bounce *x)
{
	/* Taken out while we look: a handler of ours, in between, finds it just busy. */
	_Atomic uint64_t *mark = atomic_exchange(&x->mark, NULL);
	uint64_t found = 0;
	struct iovec to = { &found, sizeof(found) };
	struct iovec from = { (void *)(uintptr_t)mark, sizeof(found) };
	long n;

	if (!mark)
		return false;
	n = dz_sys6(SYS_process_vm_readv, dz_sys_getpid(), (long)&to, 1, (long)&from, 1, 0);
	if (n == -EFAULT || (n == (long)sizeof(found) && found != x->turn))
		return true;
	atomic_store(&x->mark, mark);
	return false;
}

/* It is busy, and with this read. */
static void bounce_set_mark(struct dz_engine_bounce *x, _Atomic uint64_t *mark, uint64_t turn)
{
	x->turn = turn;
	atomic_store(&x->mark, mark);
}

/* x is ours alone.  What was under way there lands in pages that the kernel holds. */
static struct dz_bounce *bounce_renew(struct dz_engine_bounce *x)
{
	struct dz_bounce *old = x->bounce;

	x->bounce = NULL;
	if (old)
		dz_bounce_free(old);
	if (dz_bounce_new(&x->bounce) == 0)
		return x->bounce;
	x->bounce = NULL;
	atomic_store_explicit(&x->is_busy, false, memory_order_relaxed);
	atomic_store_explicit(&x->tid, 0, memory_order_release);
	return NULL;
}

/*
 * A thread's place in the table; a dead thread's is taken over, and one that it jumped
 * away from.  Busy (a signal handler reads while its thread does): another place, and
 * with none left a set for this one read.
 */
struct dz_bounce *dz_engine_bounce_lock(struct dz_engine *e, _Atomic uint64_t *mark)
{
	uint64_t turn = atomic_fetch_add_explicit(&e->bounce_turn, 1, memory_order_relaxed) + 1;
	uint32_t tid = (uint32_t)dz_sys_gettid();
	struct dz_bounce *b = NULL;

	/* Before the first look: where a read that was left had its own, from here it is gone. */
	atomic_store(mark, turn);
	for (uint32_t i = 0; i < DZ_ENGINE_BOUNCES; i++) {
		struct dz_engine_bounce *x = &e->bounces[(tid + i) % DZ_ENGINE_BOUNCES];
		uint32_t old = atomic_load_explicit(&x->tid, memory_order_relaxed);

		if (old == tid) {
			bool was_busy =
				atomic_exchange_explicit(&x->is_busy, true, memory_order_acquire);

			if (was_busy && !bounce_is_left(x))
				continue;
			bounce_set_mark(x, mark, turn);
			return was_busy || !x->bounce || !dz_ring_is_ours(x->bounce->ring)
				       ? bounce_renew(x)
				       : x->bounce;
		}
		if (old && dz_sys_3(SYS_tgkill, dz_sys_getpid(), old, 0) == 0)
			continue;
		if (!atomic_compare_exchange_strong(&x->tid, &old, tid))
			continue;
		atomic_store(&x->mark, NULL);
		atomic_store_explicit(&x->is_busy, true, memory_order_relaxed);
		bounce_set_mark(x, mark, turn);
		return bounce_renew(x);
	}
	if (dz_bounce_new(&b) < 0)
		return NULL;
	b->is_for_one_read = true;
	return b;
}

void dz_engine_bounce_unlock(struct dz_engine *e, struct dz_bounce *b)
{
	for (uint32_t i = 0; i < DZ_ENGINE_BOUNCES; i++) {
		struct dz_engine_bounce *x = &e->bounces[i];

		if (x->bounce != b)
			continue;
		atomic_store(&x->mark, NULL);
		if (!b->is_broken) {
			atomic_store_explicit(&x->is_busy, false, memory_order_release);
			return;
		}
		/* The kernel took the ring away: no more reads with these. */
		x->bounce = NULL;
		atomic_store_explicit(&x->is_busy, false, memory_order_relaxed);
		atomic_store_explicit(&x->tid, 0, memory_order_release);
		break;
	}
	dz_bounce_free(b);
}

void dz_engine_forget_bounces(struct dz_engine *e)
{
	for (uint32_t i = 0; i < DZ_ENGINE_BOUNCES; i++) {
		if (e->bounces[i].bounce)
			dz_bounce_abandon(e->bounces[i].bounce);
		e->bounces[i].bounce = NULL;
		atomic_store_explicit(&e->bounces[i].is_busy, false, memory_order_relaxed);
		atomic_store_explicit(&e->bounces[i].tid, 0, memory_order_relaxed);
	}
}
