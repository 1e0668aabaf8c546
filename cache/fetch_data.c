// SPDX-License-Identifier: MIT
/*
 * Fetching blocks.
 *
 * The happy path: find or make the block's slot (filling, findable at once), GET
 * the first run of pieces that are wanted and not there, store the bytes as they
 * arrive, set a piece's bit when its last byte is stored, wake the waiters; when
 * nothing wanted is missing, filling -> ready, and the block goes to the disk
 * tier if it is whole.
 *
 * A GET that fails leaves the pieces that arrived: they are the blob's bytes at
 * this ETag.  Taken over meanwhile: our CAS fails, the slot is quarantined, and we
 * give it back, because we know that we no longer write to it.
 */
#include "cache/fetch_priv.h"

#include "cache/evict.h"
#include "cache/index.h"
#include "cache/member.h"
#include "cache/slabs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ALL_PIECES 0xffffu

static struct dz_slot *data_slot(const struct fetch_job *job)
{
	return dz_dram_slot(job->f->seg, job->slot);
}

static uint32_t data_all(const struct fetch_job *job)
{
	uint32_t n = (uint32_t)dz_div_up(job->block_len, DZ_PIECE_BYTES);

	return n >= DZ_PIECES ? ALL_PIECES : (1u << n) - 1;
}

static _Atomic uint32_t *data_filling(const struct dz_seg *seg)
{
	return &seg->members[seg->member].filling;
}

/* The block is in DRAM in part (ready): fill it further. */
static bool data_refill(struct fetch_job *job)
{
	struct dz_seg *seg = job->f->seg;
	uint64_t ctl;
	uint32_t n = dz_index_find(seg, job->key, DZ_TIER_DRAM, &ctl);

	if (n == DZ_NONE || dz_ctl_state(ctl) != DZ_SLOT_READY ||
	    !dz_slot_refill(seg, DZ_TIER_DRAM, n, ctl, seg->member, &job->ctl))
		return false;
	job->slot = n;
	return true;
}

static int data_new_slot(struct fetch_job *job)
{
	struct dz_seg *seg = job->f->seg;
	struct dz_slot *s;
	uint32_t page_end;
	int ret;

	job->slot = dz_slot_alloc(seg, DZ_TIER_DRAM, job->block_len, seg->member, &job->ctl);
	if (job->slot == DZ_NONE)
		return -ENOSPC;
	s = data_slot(job);
	atomic_store_explicit(&s->key_lo, job->key.lo, memory_order_relaxed);
	atomic_store_explicit(&s->key_hi, job->key.hi, memory_order_relaxed);
	atomic_store_explicit(&s->len, job->block_len, memory_order_relaxed);
	atomic_store_explicit(&s->kind, DZ_KIND_DATA, memory_order_relaxed);
	atomic_store_explicit(&s->group, job->req.group, memory_order_relaxed);
	atomic_store_explicit(&s->valid, 0, memory_order_relaxed);
	/* What a mapping shows behind the end of a file is zero. */
	page_end = (uint32_t)dz_round_up(job->block_len, DZ_PAGE);
	memset(dz_seg_page(seg, job->slot) + job->block_len, 0, page_end - job->block_len);
	ret = dz_index_insert(seg, job->key, DZ_TIER_DRAM, job->slot, DZ_NONE);
	if (ret < 0) {
		dz_slot_discard(seg, DZ_TIER_DRAM, job->slot, job->ctl);
		job->slot = DZ_NONE;
	}
	return ret;
}

/*
 * Somebody else has the block in filling though the lease is ours: out of the disk
 * (then all is there), or left over from a lease that was taken from him.  -EEXIST:
 * out of the way now; -EALREADY: what is wanted is there; -EAGAIN: ours, and busy.
 */
static int data_displace(struct fetch_job *job)
{
	struct dz_seg *seg = job->f->seg;
	uint64_t ctl;
	uint32_t n = dz_index_find(seg, job->key, DZ_TIER_DRAM, &ctl), owner = dz_ctl_owner(ctl);
	uint32_t want = data_all(job) &
			atomic_load_explicit(&seg->leases[job->lease].want, memory_order_acquire);
	struct dz_slot *s;

	if (n == DZ_NONE || dz_ctl_state(ctl) != DZ_SLOT_FILLING)
		return -EEXIST;
	s = dz_dram_slot(seg, n);
	if ((atomic_load_explicit(&s->valid, memory_order_acquire) & want) == want)
		return -EALREADY;
	if (owner == (seg->member & 0xffff))
		return -EAGAIN;
	if (!dz_member_is_alive(seg, owner)) {
		dz_member_settle_slot(seg, n, ctl);
		return -EEXIST;
	}
	dz_index_remove(seg, job->key, DZ_TIER_DRAM, n);
	atomic_compare_exchange_strong(&s->ctl, &ctl,
				       dz_ctl(dz_ctl_gen(ctl) + 1, owner, DZ_SLOT_QUARANTINE));
	return -EEXIST;
}

static int data_get_slot(struct fetch_job *job)
{
	int ret = -EEXIST;

	/* First, so that whoever recovers us looks for slots. */
	atomic_fetch_add_explicit(data_filling(job->f->seg), 1, memory_order_relaxed);
	for (int i = 0; i < 4 && ret == -EEXIST; i++) {
		ret = data_refill(job) ? 0 : data_new_slot(job);
		if (ret == -EEXIST)
			ret = data_displace(job);
	}
	if (ret == 0) {
		atomic_store_explicit(&job->f->seg->leases[job->lease].slot, job->slot,
				      memory_order_release);
		return 0;
	}
	atomic_fetch_sub_explicit(data_filling(job->f->seg), 1, memory_order_relaxed);
	/* Others hold all of DRAM, or this block, for the moment. */
	return ret == -EEXIST || ret == -ENOSPC ? -EAGAIN : ret;
}

/* filling -> ready.  A block without any piece is given back instead. */
static void data_release_slot(struct fetch_job *job)
{
	struct dz_seg *seg = job->f->seg;
	struct dz_slot *s = data_slot(job);
	uint32_t valid = atomic_load_explicit(&s->valid, memory_order_relaxed);
	uint32_t mine = job->slot;
	uint64_t ready;

	/* Not what another has stored there, if the lease was taken from us. */
	atomic_compare_exchange_strong(&seg->leases[job->lease].slot, &mine, DZ_NONE);
	if (!valid) {
		dz_index_remove(seg, job->key, DZ_TIER_DRAM, job->slot);
		if (dz_slot_discard(seg, DZ_TIER_DRAM, job->slot, job->ctl))
			return;
	} else if (dz_slot_publish(seg, DZ_TIER_DRAM, job->slot, job->ctl, &ready)) {
		dz_evict_filled(seg, DZ_TIER_DRAM, job->slot);
		if (valid == data_all(job) && job->f->opt.disk)
			dz_fetch_write(job->f, job->slot, ready);
		return;
	}
	/* Taken over while we slept: quarantined for our sake; we are done with it. */
	uint64_t ctl = atomic_load_explicit(&s->ctl, memory_order_acquire);

	if (dz_ctl_state(ctl) == DZ_SLOT_QUARANTINE && dz_ctl_owner(ctl) == (seg->member & 0xffff))
		dz_slot_discard(seg, DZ_TIER_DRAM, job->slot, ctl);
}

static void data_release(struct fetch_job *job)
{
	data_release_slot(job);
	atomic_fetch_sub_explicit(data_filling(job->f->seg), 1, memory_order_relaxed);
}

static void data_fail(struct fetch_job *job, int err)
{
	dz_fetch_why(job, err, "read");
	if (job->slot != DZ_NONE)
		data_release(job);
	dz_fetch_end(job, err);
}

/* The next run of wanted pieces that are not there; false when there is none. */
static bool data_next_range(struct fetch_job *job)
{
	uint32_t all = data_all(job), first, last;
	uint32_t want =
		atomic_load_explicit(&job->f->seg->leases[job->lease].want, memory_order_acquire);
	uint32_t valid = atomic_load_explicit(&data_slot(job)->valid, memory_order_relaxed);
	uint32_t missing = want & all & ~valid;

	if (!missing)
		return false;
	first = (uint32_t)__builtin_ctz(missing);
	for (last = first; last + 1 < DZ_PIECES && (missing >> (last + 1) & 1);)
		last++;
	job->next = first * DZ_PIECE_BYTES;
	job->http.off = job->req.blk * DZ_BLOCK_BYTES + job->next;
	job->http.len = dz_min_u64((last + 1) * DZ_PIECE_BYTES, job->block_len) - job->next;
	return true;
}

/* Bytes of [next, end) that complete pieces; the last one may be short. */
static void data_mark(struct fetch_job *job, uint64_t from, uint64_t to)
{
	uint32_t bits = 0;

	for (uint64_t p = from / DZ_PIECE_BYTES; p * DZ_PIECE_BYTES < to; p++) {
		if (dz_min_u64((p + 1) * DZ_PIECE_BYTES, job->block_len) <= to)
			bits |= 1u << p;
	}
	if (!bits)
		return;
	/* Release: the bytes before their bits; pairs with the acquire of a reader. */
	atomic_fetch_or_explicit(&data_slot(job)->valid, bits, memory_order_release);
	dz_lease_progress(job->f->seg, job->lease, bits);
}

static int data_body(struct dz_blob_req *http, uint64_t off, const void *data, size_t n)
{
	struct fetch_job *job = http->arg;
	uint64_t at = off - job->req.blk * DZ_BLOCK_BYTES;

	if (at != job->next || at + n > job->block_len)
		return -EIO;
	if (http->res.size != job->req.blob_size)
		return -ESTALE;
	if (!dz_lease_holds(job->f->seg, job->lease, job->word))
		return -ECANCELED;
	memcpy(dz_seg_page(job->f->seg, job->slot) + at, data, n);
	job->next = at + n;
	data_mark(job, at, at + n);
	return 0;
}

static void data_continue(struct fetch_job *job);

static void data_done(struct dz_blob_req *http, int err)
{
	struct fetch_job *job = http->arg;

	if (err == 0)
		data_continue(job);
	else
		data_fail(job, err);
}

static void data_continue(struct fetch_job *job)
{
	int ret;

	if (!data_next_range(job)) {
		data_release(job);
		dz_fetch_end(job, 0);
		return;
	}
	job->http.op = DZ_BLOB_GET;
	job->http.etag = job->req.etag;
	job->http.body = data_body;
	job->http.done = data_done;
	ret = dz_fetch_submit(job);
	if (ret < 0)
		data_fail(job, ret);
}

void dz_fetch_data_start(struct fetch_job *job)
{
	uint64_t start = job->req.blk * DZ_BLOCK_BYTES;
	int ret;

	if (job->req.blk > UINT64_MAX / DZ_BLOCK_BYTES - 1 || start >= job->req.blob_size) {
		dz_fetch_end(job, -EINVAL);
		return;
	}
	job->block_len = (uint32_t)dz_min_u64(DZ_BLOCK_BYTES, job->req.blob_size - start);
	dz_fetch_ahead_demand(job);
	ret = data_get_slot(job);
	if (ret == -EALREADY || ret == -EAGAIN)
		dz_fetch_end(job, ret == -EAGAIN ? ret : 0);
	else if (ret < 0)
		data_fail(job, ret);
	else
		data_continue(job);
}
