// SPDX-License-Identifier: MIT
/*
 * Parts of blocks from the disk tier, and what a reader in order wants next.
 *
 * The happy path: the range is cut into units of up to 256 KiB; up to eight are under
 * way, in order; the oldest is waited for, checked (is the slot still this block's?) and
 * copied to the program.  From the third read in a row on (at the front of a file from the
 * second), units go out for twice what was read in order so far, and stay under way, or
 * here, when the call ends: the next one finds them, and a program that reads 8 KiB at a
 * time waits for one I/O in 32 calls.  When the first byte of a block is read that DRAM
 * wants, the block goes there from its units.
 *
 * A jump to elsewhere waits for what is under way and forgets it.  A unit that fails its
 * check ends the read: what came before counts, the rest is looked for again by the caller.
 * What was checked stays good: the file's key has its ETag, and the buffers are private.
 */
#include "cache/engine_priv.h"
#include "cache/evict.h"
#include "cache/index.h"

#include <fcntl.h>
#include <string.h>

#define STREAK_MIN 2u /* reads in a row before */

static struct dz_unit *stream_head(struct dz_stream *s)
{
	return &s->unit[s->head];
}

/* The oldest unit's buffer is free again. */
static void stream_release(struct dz_stream *s)
{
	s->head = (s->head + 1) % DZ_BOUNCE_IOS;
	/* A short file uses the same few pages, then. */
	if (--s->n == 0)
		s->head = 0;
}

void dz_stream_drop(struct dz_bounce *b)
{
	struct dz_stream *s = &b->stream;

	while (s->n && dz_bounce_wait(b, &b->io[s->head]))
		stream_release(s);
	s->n = s->head = 0;
}

void dz_stream_place(const struct dz_ofile *f, struct dz_bounce *b, uint64_t pos)
{
	struct dz_stream *s = &b->stream;
	bool is_same = s->key_lo == f->key_lo && s->key_hi == f->key_hi;

	while (is_same && s->n && stream_head(s)->pos + stream_head(s)->len <= pos &&
	       dz_bounce_wait(b, &b->io[s->head]))
		stream_release(s);
	if (s->n && (!is_same || stream_head(s)->pos > pos || b->is_broken))
		dz_stream_drop(b);
	/* A step over something, within what is here, is in order too. */
	if (!is_same || (pos != s->next && !s->n)) {
		s->row = 0;
		s->streak = pos == 0;
	}
	if (!s->n)
		s->end = pos;
	s->key_lo = f->key_lo;
	s->key_hi = f->key_hi;
	s->next = pos;
	s->calls++;
}

void dz_stream_went(struct dz_stream *s, size_t n)
{
	s->next += n;
	s->row += n;
	s->streak += n > 0;
	if (!s->n)
		s->end = s->next;
}

void dz_stream_keep(struct dz_bounce *b, uint64_t blk, uint32_t slot, uint64_t ctl, uint32_t len)
{
	struct dz_stream *s = &b->stream;

	for (uint32_t off = 0; off < len; off += (uint32_t)DZ_BOUNCE_UNIT)
		s->unit[s->n++] = (struct dz_unit){
			.pos = blk * DZ_BLOCK_BYTES + off,
			.ctl = ctl,
			.slot = slot,
			.len = (uint32_t)dz_min_u64(DZ_BOUNCE_UNIT, len - off),
			.is_checked = true,
		};
	s->end = blk * DZ_BLOCK_BYTES + len;
}

/* How far to go: to the end of what is asked for, and ahead. */
static uint64_t stream_limit(const struct dz_ofile *f, const struct dz_bounce *b, uint64_t end)
{
	const struct dz_stream *s = &b->stream;
	uint32_t advice = atomic_load_explicit(&f->advice, memory_order_relaxed);
	uint64_t ahead = 2 * s->row;

	if (b->is_for_one_read)
		return end;
	if (advice == POSIX_FADV_SEQUENTIAL)
		ahead = DZ_BOUNCE_IOS * DZ_BOUNCE_UNIT;
	else if (s->streak < STREAK_MIN || advice == POSIX_FADV_RANDOM)
		return end;
	ahead = dz_min_u64(dz_max_u64(ahead, DZ_BOUNCE_UNIT), DZ_BOUNCE_IOS * DZ_BOUNCE_UNIT);
	ahead = dz_round_up(s->next + ahead, DZ_BOUNCE_UNIT);
	return dz_min_u64(dz_max_u64(end, ahead), f->size);
}

/* Ahead of what is asked for nothing is read that memory has. */
static void stream_skip_dram(struct dz_engine *e, const struct dz_ofile *f, struct dz_stream *s,
			     uint64_t limit)
{
	while (s->end < limit && s->end % DZ_BLOCK_BYTES == 0) {
		uint64_t len = dz_min_u64(DZ_BLOCK_BYTES, f->size - s->end);

		if (!dz_dram_has(&e->seg, dz_read_key(f, s->end / DZ_BLOCK_BYTES),
				 dz_pieces(0, len)))
			return;
		s->end += len;
	}
}

/*
 * The next unit goes out; false when there is no more before `limit`, no room, or it is
 * not for us.  `end`: of what is asked for.
 */
static bool stream_start(struct dz_engine *e, const struct dz_ofile *f, struct dz_bounce *b,
			 uint64_t end, uint64_t limit)
{
	struct dz_stream *s = &b->stream;
	uint32_t off, i = (s->head + s->n) % DZ_BOUNCE_IOS;
	struct dz_unit *u = &s->unit[i];
	uint64_t blk;

	if (s->n == DZ_BOUNCE_IOS)
		return false;
	if (s->end >= end)
		stream_skip_dram(e, f, s, limit);
	if (s->end >= limit)
		return false;
	blk = s->end / DZ_BLOCK_BYTES;
	off = (uint32_t)(s->end % DZ_BLOCK_BYTES);
	/* Where a read is done at once, none before it is needed. */
	if (!dz_ring_is_uring(b->ring) && (s->n || s->end >= end))
		return false;
	*u = (struct dz_unit){ .pos = s->end, .call = s->calls };
	u->slot = dz_index_find(&e->seg, dz_read_key(f, blk), DZ_TIER_DISK, &u->ctl);
	if (u->slot == DZ_NONE || dz_ctl_state(u->ctl) != DZ_SLOT_READY ||
	    dz_disk_is_unverified(e->disk, u->slot))
		return false;
	u->len = (uint32_t)dz_min_u64(DZ_BOUNCE_UNIT - off % DZ_BOUNCE_UNIT,
				      dz_min_u64(limit - s->end, DZ_BLOCK_BYTES - off));
	u->is_wanted = off == 0 && s->end >= end &&
		       dz_evict_admits(&e->seg, DZ_TIER_DRAM, dz_read_key(f, blk), f->group);
	dz_disk_prep_read(e->disk, u->slot, off, u->len, dz_bounce_buf(b, i), &b->io[i], &u->skip);
	if (dz_ring_start(b->ring, &b->io[i]) < 0)
		return false;
	s->is_queued = true;
	s->end += u->len;
	s->n++;
	return true;
}

/* Waited for and checked? */
static bool unit_is_good(struct dz_engine *e, struct dz_bounce *b, uint32_t i, uint64_t since_ms)
{
	struct dz_unit *u = &b->stream.unit[i];
	struct dz_io *io = &b->io[i];

	if (u->is_checked)
		return true;
	if (!dz_bounce_wait(b, io))
		return false;
	/* It may have lain here done while the program did something else. */
	if (u->call != b->stream.calls)
		io->took_ms = dz_min_u64(io->took_ms, dz_now_ms() - since_ms);
	u->is_checked = dz_disk_check_read(e->disk, u->slot, u->ctl, io) == 0;
	return u->is_checked;
}

/* The block that begins with the oldest unit, if all of it is under way: to DRAM. */
static void stream_promote(struct dz_engine *e, const struct dz_ofile *f, struct dz_bounce *b,
			   uint64_t since_ms)
{
	struct dz_stream *s = &b->stream;
	uint64_t blk = stream_head(s)->pos / DZ_BLOCK_BYTES;
	uint32_t len = (uint32_t)dz_min_u64(DZ_BLOCK_BYTES, f->size - blk * DZ_BLOCK_BYTES);
	struct iovec parts[DZ_BLOCK_BYTES / DZ_BOUNCE_UNIT];
	uint32_t have = 0, n = 0;

	stream_head(s)->is_wanted = false;
	for (; n < DZ_ARRAY_LEN(parts) && n < s->n && have < len; n++) {
		uint32_t i = (s->head + n) % DZ_BOUNCE_IOS;
		const struct dz_unit *u = &s->unit[i];

		if (u->slot != stream_head(s)->slot || u->ctl != stream_head(s)->ctl ||
		    !unit_is_good(e, b, i, since_ms))
			return;
		parts[n] = (struct iovec){ dz_bounce_buf(b, i) + u->skip, u->len };
		have += u->len;
	}
	if (have == len)
		dz_disk_promote(e, f, blk, parts, n);
}

/* What the oldest unit has of [pos, pos + len): bytes, or 0: it is of no use. */
static size_t stream_copy(struct dz_engine *e, const struct dz_ofile *f, struct dz_bounce *b,
			  uint64_t pos, size_t len, void *dst, uint64_t since_ms)
{
	struct dz_stream *s = &b->stream;
	struct dz_unit *u = stream_head(s);
	size_t n = (size_t)dz_min_u64(len, u->pos + u->len - pos);

	if (!unit_is_good(e, b, s->head, since_ms))
		return 0;
	if (u->is_wanted)
		stream_promote(e, f, b, since_ms);
	memcpy(dst, dz_bounce_buf(b, s->head) + u->skip + (pos - u->pos), n);
	if (pos + n == u->pos + u->len) {
		dz_evict_touch(&e->seg, DZ_TIER_DISK, u->slot);
		stream_release(s);
	}
	return n;
}

ssize_t dz_stream_read(struct dz_engine *e, const struct dz_ofile *f, struct dz_bounce *b,
		       size_t len, void *dst)
{
	struct dz_stream *s = &b->stream;
	uint64_t end = s->next + len, limit = stream_limit(f, b, end);
	uint64_t since_ms = dz_now_ms();
	size_t done = 0;

	for (;;) {
		bool is_end;
		size_t n;

		while (stream_start(e, f, b, end, limit))
			;
		/* Or at a block that was in DRAM when the units around it were started. */
		is_end = done == len || !s->n || stream_head(s)->pos > s->next + done;
		/* The device works while we copy; where there is to wait, that hands them over. */
		if (s->is_queued && (is_end || b->io[s->head].is_done)) {
			dz_ring_kick(b->ring);
			s->is_queued = false;
		}
		if (is_end)
			break;
		n = stream_copy(e, f, b, s->next + done, len - done, (uint8_t *)dst + done,
				since_ms);
		if (!n) {
			dz_stream_drop(b);
			break;
		}
		done += n;
	}
	dz_stream_went(s, done);
	return (ssize_t)done;
}
