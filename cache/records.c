// SPDX-License-Identifier: MIT
/*
 * The records of mounts and of agents in the segment: found, made, and given back.
 *
 * A member sets the bit of each mount record that it uses (fork hands them on), and an
 * open file names its own.  When a table is full, what nobody uses is retired: credentials
 * that change every day would fill it in a week.
 *
 *     free (0) -> in use (the id, odd) <-> leaving (the id, even) -> gone -> free
 *
 * Who retires makes the id even, then looks at the bits; who binds sets its bit, then
 * looks at the id, and makes it odd again: one of the two sees the other.  `ready` is
 * cleared before the record is free, so nobody meets a former tenant's fields.  Killed
 * anywhere: the next one who looks for room goes on.
 */
#include "cache/engine_priv.h"
#include "cache/sys.h"

#include <errno.h>
#include <string.h>

#define GONE  2u /* no id: those are odd, or odd less one and large */
#define TRIES 4

static bool record_has_user(const struct dz_seg *seg, uint32_t n)
{
	uint64_t bit = 1ull << n;

	for (uint32_t m = 1; m < dz_members_high(seg); m++) {
		if (atomic_load_explicit(&seg->members[m].mounts, memory_order_seq_cst) & bit)
			return true;
	}
	for (uint32_t i = 0; i < seg->n_files; i++) {
		if ((atomic_load_explicit(&seg->files[i].ctl, memory_order_seq_cst) & 0xff) !=
			    DZ_FILE_FREE &&
		    seg->files[i].mount == n)
			return true;
	}
	return false;
}

static void record_free(_Atomic uint64_t *id, struct dz_mount_rec *r)
{
	uint64_t gone = GONE;

	if (r)
		atomic_store_explicit(&r->ready, 0, memory_order_seq_cst);
	atomic_compare_exchange_strong(id, &gone, 0);
}

static void mounts_retire(struct dz_seg *seg)
{
	for (uint32_t n = 0; n < seg->n_mounts && n < 64; n++) {
		struct dz_mount_rec *r = &seg->mounts[n];
		uint64_t id = atomic_load(&r->id), leaving = id & ~1ull;

		if (id == GONE) {
			record_free(&r->id, r);
			continue;
		}
		if (!id || record_has_user(seg, n) ||
		    !atomic_compare_exchange_strong(&r->id, &id, leaving))
			continue;
		atomic_thread_fence(memory_order_seq_cst);
		if (record_has_user(seg, n))
			atomic_compare_exchange_strong(&r->id, &leaving, leaving | 1);
		else if (atomic_compare_exchange_strong(&r->id, &leaving, GONE))
			record_free(&r->id, r);
	}
}

static bool identity_has_mount(const struct dz_seg *seg, uint64_t identity)
{
	for (uint32_t n = 0; n < seg->n_mounts; n++) {
		if (atomic_load(&seg->mounts[n].id) && seg->mounts[n].identity == identity)
			return true;
	}
	return false;
}

static bool agent_is_there(const struct dz_seg *seg, const struct dz_agent_rec *r)
{
	uint32_t member = atomic_load(&r->member);

	return member && member != DZ_NONE && dz_member_is_alive(seg, member) &&
	       atomic_load(&seg->members[member].is_agent);
}

/* Those of credentials that no mount has any more.  Its counters are the members'. */
static void agents_retire(struct dz_seg *seg)
{
	for (uint32_t n = 0; n < seg->n_agents; n++) {
		struct dz_agent_rec *r = &seg->agents[n];
		uint64_t identity = atomic_load(&r->identity), gone = GONE;

		if (!identity || (identity != GONE &&
				  (identity_has_mount(seg, identity) || agent_is_there(seg, r))))
			continue;
		if (identity != GONE &&
		    !atomic_compare_exchange_strong(&r->identity, &identity, GONE))
			continue;
		atomic_thread_fence(memory_order_seq_cst);
		if (identity != GONE && identity_has_mount(seg, identity)) {
			atomic_compare_exchange_strong(&r->identity, &gone, identity);
			continue;
		}
		atomic_store(&r->member, 0);
		atomic_store(&r->failures, 0);
		atomic_store(&r->starting_until_ms, 0);
		for (uint32_t w = 0; w < seg->pending_words; w++)
			atomic_store(&seg->pending[n * seg->pending_words + w], 0);
		record_free(&r->identity, NULL);
	}
}

static void record_fill(struct dz_mount_rec *r, const struct dz_mount *m)
{
	/* Two that fill it in at once write the same bytes. */
	if (atomic_load_explicit(&r->ready, memory_order_acquire))
		return;
	memcpy(r->endpoint, m->endpoint, sizeof(r->endpoint));
	memcpy(r->account, m->account, sizeof(r->account));
	memcpy(r->container, m->container, sizeof(r->container));
	memcpy(r->prefix, m->prefix, sizeof(r->prefix));
	r->path_style = m->path_style;
	r->data_id = m->data_id;
	r->identity = m->identity;
	atomic_store_explicit(&r->ready, 1, memory_order_release);
}

/* Ours for as long as our bit is set?  A record that is leaving comes back. */
static bool record_hold(struct dz_seg *seg, uint32_t n, uint64_t id)
{
	_Atomic uint64_t *mounts = &seg->members[seg->member].mounts;
	uint64_t leaving = id & ~1ull;

	atomic_fetch_or(mounts, 1ull << n);
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load(&seg->mounts[n].id) == id ||
	    atomic_compare_exchange_strong(&seg->mounts[n].id, &leaving, id) || leaving == id)
		return true;
	atomic_fetch_and(mounts, ~(1ull << n));
	return false;
}

/* The record of a mount in shared memory, made when it is not there; DZ_NONE. */
static uint32_t mount_rec(struct dz_seg *seg, const struct dz_mount *m)
{
	for (uint32_t i = 0; i < seg->n_mounts; i++) {
		uint32_t n = (uint32_t)((m->id + i) % dz_min_u64(seg->n_mounts, 64));
		struct dz_mount_rec *r = &seg->mounts[n];
		uint64_t old = atomic_load(&r->id);

		if (!old)
			atomic_compare_exchange_strong(&r->id, &old, m->id);
		if (old && (old | 1) != m->id)
			continue;
		if (!record_hold(seg, n, m->id))
			continue;
		record_fill(r, m);
		/* Before we look for its agent's: agents_retire() looks the other way round. */
		atomic_thread_fence(memory_order_seq_cst);
		return n;
	}
	return DZ_NONE;
}

static uint32_t agent_rec(struct dz_seg *seg, uint64_t identity)
{
	for (uint32_t n = 0; n < seg->n_agents; n++) {
		uint64_t old = 0;

		if (atomic_load_explicit(&seg->agents[n].identity, memory_order_acquire) ==
			    identity ||
		    atomic_compare_exchange_strong(&seg->agents[n].identity, &old, identity) ||
		    old == identity)
			return n;
	}
	return DZ_NONE;
}

static bool bind_one(struct dz_engine *e, uint32_t i)
{
	struct dz_mount *m = &e->cfg.mounts[i];

	if (!m->identity)
		m->identity = 1; /* anonymous */
	e->rec[i] = mount_rec(&e->seg, m);
	e->agent[i] = e->rec[i] == DZ_NONE ? DZ_NONE : agent_rec(&e->seg, m->identity);
	return e->agent[i] != DZ_NONE;
}

void dz_engine_hold_mounts(struct dz_engine *e)
{
	for (uint32_t i = 0; i < e->cfg.n_mounts && e->seg.member < e->seg.n_members; i++) {
		if (e->rec[i] < 64)
			atomic_fetch_or(&e->seg.members[e->seg.member].mounts, 1ull << e->rec[i]);
	}
}

int dz_engine_bind_mounts(struct dz_engine *e)
{
	for (uint32_t i = 0; i < e->cfg.n_mounts; i++) {
		bool is_bound = bind_one(e, i);

		for (int tries = 0; !is_bound && tries < TRIES; tries++) {
			dz_member_sweep(&e->seg, true);
			mounts_retire(&e->seg);
			agents_retire(&e->seg);
			is_bound = bind_one(e, i);
		}
		if (!is_bound)
			return -EUSERS;
	}
	return 0;
}
