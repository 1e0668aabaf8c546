// SPDX-License-Identifier: MIT
/*
 * Asking for what no tier has, and waiting for it.
 *
 * The happy path: put the request into the lease table (or join the one that is
 * there), call the agent, sleep on the lease until the pieces are there.
 *
 * The agent dies: its lease is taken over at the next look (100 ms at most) and
 * another agent is started; the request goes on under a new token.  It is stuck
 * (stopped, starved), or the next one does not come up: this thread fetches for
 * this read, as it always does where no agent can be.  DRAM is full of blocks that
 * others fetch, or map: ask again for a while, then go past it (past.h).  Blob says
 * no: one log line, -errno.  Nothing moves for two minutes: -EIO.
 */
#include "cache/engine_priv.h"
#include "cache/index.h"
#include "cache/past.h"
#include "cache/sys.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define LOOK_MS	    100
#define PATIENCE_MS 120000
#define STUCK_MS    2500 /* an agent says once a second that it is there */
#define GONE_MS	    1500 /* one starts in a tenth of that */
#define BUSY_MS	    5000

struct miss {
	struct dz_engine *e;
	struct dz_key key;
	struct dz_request req;
	uint32_t agent;
	uint32_t want;
	uint32_t awaited; /* pieces that this reader needs */
	uint64_t since_ms;
	bool is_own; /* this thread fetches: the agent does not */
};

/*
 * What a program is told: files do not have unreachable hosts or broken pipes.
 * The reason is in the log.
 */
static int miss_errno(int err)
{
	switch (err) {
	case -ENOENT:
	case -EACCES:
	case -ESTALE:
	case -ENOSPC:
	case -ENOMEM:
	case -ENAMETOOLONG:
	case -EINPROGRESS:
		return err;
	default:
		return err < 0 ? -EIO : err;
	}
}

static bool miss_is_inline(const struct dz_engine *e)
{
	return atomic_load_explicit(&e->is_inline, memory_order_relaxed);
}

/* One line, not one a read: the same failure again is said after ten seconds. */
static bool miss_is_news(const struct miss *m, int err)
{
	_Atomic uint64_t *said = &m->e->said[m->key.hi % DZ_ARRAY_LEN(m->e->said)];
	uint64_t what = (m->key.hi ^ (uint64_t)(uint32_t)err << 32) & ~(uint64_t)0xffff;
	uint64_t now = dz_now_ms() / 10000 & 0xffff;
	uint64_t old = atomic_exchange_explicit(said, what | now, memory_order_relaxed);

	return old != (what | now);
}

static void miss_log(const struct miss *m, const struct dz_lease_ref *ref, int err)
{
	const struct dz_request *r = &m->e->seg.requests[ref->idx];
	char why[sizeof(r->why)];

	if (err == -ENOENT || !miss_is_news(m, err))
		return;
	/* Another request may write there by now: a copy, cut off at its end. */
	memcpy(why, r->why, sizeof(why));
	why[sizeof(why) - 1] = '\0';
	if (why[0])
		dz_error(&m->e->log, "%s", why);
	else
		dz_error(&m->e->log, "fetch %.300s: %s", m->req.name, dz_strerror(-err));
}

static void miss_pause(long ms)
{
	struct timespec ts = { 0, ms * 1000000 };

	dz_sys_2(SYS_nanosleep, &ts, NULL);
}

/* Puts the request and has it worked on.  0, or -errno. */
static int miss_ask(struct miss *m, struct dz_lease_ref *ref)
{
	int ret;

	for (int i = 0; i < 2000; i++) {
		ret = dz_lease_ask(&m->e->seg, m->key, &m->req, m->agent, m->want, ref);
		if (ret != -EAGAIN)
			break;
		/* The table is full around this key: its leases end by themselves. */
		miss_pause(1);
	}
	if (ret == 0 && ref->is_new)
		dz_call_asked(m->e);
	if (ret == 0 && !miss_is_inline(m->e))
		dz_agent_call(m->e, m->agent);
	return ret;
}

/* Is nobody there who would take the request? */
static bool miss_is_forsaken(const struct miss *m)
{
	struct dz_engine *e = m->e;
	uint64_t now = dz_now_ms();

	if (!dz_agent_is_alive(e, m->agent))
		return now - m->since_ms > GONE_MS;
	return atomic_load_explicit(&e->seg.agents[m->agent].beat_ms, memory_order_relaxed) +
		       STUCK_MS <
	       now;
}

/* A dead or stuck fetcher's lease becomes a request again. */
static void miss_look_after(struct miss *m, const struct dz_lease_ref *ref)
{
	struct dz_seg *seg = &m->e->seg;
	uint64_t word = atomic_load_explicit(&seg->leases[ref->idx].word, memory_order_acquire);

	if (dz_lease_state(word) == DZ_LEASE_ACTIVE) {
		bool is_dead = !dz_member_is_alive(seg, dz_lease_owner(word));

		if (dz_lease_take_over(seg, ref->idx, word, is_dead))
			dz_lease_ring(seg, m->agent, ref->idx);
	} else if (dz_lease_state(word) == DZ_LEASE_REQUESTED) {
		dz_lease_ring(seg, m->agent, ref->idx);
	}
	dz_member_sweep(seg, false);
	if (miss_is_inline(m->e))
		return;
	m->is_own = miss_is_forsaken(m);
	atomic_store_explicit(&m->e->agent_seen_ms, 0, memory_order_relaxed);
	dz_agent_call(m->e, m->agent);
}

/* Sleeps for the lease or works on it; 1 it goes on, 0 look again, -errno it failed. */
static int miss_step(struct miss *m, struct dz_lease_ref *ref)
{
	const struct dz_lease *l = &m->e->seg.leases[ref->idx];
	uint64_t since_ns = dz_now_ns();
	uint32_t seq = ref->seq;
	int ret;

	if (m->is_own || miss_is_inline(m->e)) {
		ret = dz_inline_pump(m->e, ref);
		if (ret < 0)
			return ret;
	} else {
		dz_lease_wait(&m->e->seg, ref, m->awaited | DZ_LEASE_END, LOOK_MS);
	}
	dz_call_waited(m->e, since_ns, atomic_load_explicit(&l->active_us, memory_order_relaxed));
	ret = dz_lease_poll(&m->e->seg, ref);
	if (ret == 1 && ref->seq == seq) {
		miss_look_after(m, ref);
		if (dz_now_ms() - m->since_ms > PATIENCE_MS)
			return -EIO;
	} else {
		m->since_ms = dz_now_ms();
	}
	return ret;
}

/* ---- blocks ---- */

static void miss_block(struct miss *m, struct dz_engine *e, const struct dz_ofile *f, uint64_t blk,
		       uint32_t want, uint32_t flags)
{
	uint32_t rec = f->mount;

	memset(m, 0, offsetof(struct miss, agent));
	m->e = e;
	m->key = dz_block_key((struct dz_key){ f->key_lo, f->key_hi }, blk);
	m->want = want;
	m->is_own = false;
	m->agent = e->home_agent;
	for (uint32_t i = 0; i < e->cfg.n_mounts; i++) {
		if (e->rec[i] == rec)
			m->agent = e->agent[i];
	}
	m->since_ms = dz_now_ms();
	m->req.kind = DZ_KIND_DATA;
	m->req.mount = rec;
	m->req.flags = flags;
	m->req.blk = blk;
	m->req.blob_size = f->size;
	m->req.group = f->group;
	m->req.name_len = f->name_len;
	memcpy(m->req.etag, f->etag, sizeof(m->req.etag));
	memcpy(m->req.name, f->name, sizeof(m->req.name));
}

/* The names are older than the blob: the next open asks for them anew. */
static void miss_forget(struct miss *m)
{
	struct dz_engine *e = m->e;

	for (uint32_t i = 0; i < e->cfg.n_mounts; i++) {
		if (e->rec[i] == m->req.mount)
			dz_names_forget(&e->seg, e->cfg.mounts[i].id, m->req.name, m->req.name_len);
	}
}

static bool miss_on_disk(const struct dz_engine *e, struct dz_key key)
{
	uint64_t ctl;

	return dz_disk_is_on(e->disk) && dz_index_find(&e->seg, key, DZ_TIER_DISK, &ctl) != DZ_NONE;
}

/* Until when may one wait for room?  Others that did so of late had none. */
static uint64_t miss_busy_until(const struct dz_engine *e)
{
	return dz_now_ms() + (dz_past_is_near(e) ? 0 : BUSY_MS);
}

int dz_miss_wait(struct dz_engine *e, const struct dz_ofile *f, uint64_t blk, uint32_t mask,
		 uint32_t want, uint32_t flags)
{
	struct dz_lease_ref ref;
	struct miss m;
	uint64_t busy_ms;
	int ret;

	miss_block(&m, e, f, blk, want | mask, flags & ~(DZ_MISS_FETCH | DZ_MISS_PAST));
	busy_ms = miss_busy_until(e);
	m.awaited = mask;
	for (int tries = 0; tries < 64; tries++) {
		if (dz_dram_has(&e->seg, m.key, mask))
			return 0;
		if (!(flags & DZ_MISS_FETCH) && miss_on_disk(e, m.key))
			return 1;
		ret = miss_ask(&m, &ref);
		for (ret = ret < 0 ? ret : 1; ret == 1;) {
			if (dz_dram_has(&e->seg, m.key, mask))
				return 0;
			ret = miss_step(&m, &ref);
		}
		if (ret == -EAGAIN && dz_now_ms() < busy_ms) {
			dz_member_sweep(&e->seg, false);
			miss_pause(tries < 20 ? 1 : 20);
			tries -= tries > 20;
		} else if (ret == -EAGAIN) {
			break;
		} else if (ret < 0 && ret != -ECANCELED) {
			miss_log(&m, &ref, ret);
			if (ret == -ESTALE)
				miss_forget(&m);
			return miss_errno(ret);
		}
	}
	if ((flags & DZ_MISS_PAST) && dz_past_begin(e, m.req.name))
		return -ENOBUFS;
	dz_error(&e->log,
		 "read %.300s: the cache is too small to hold the block while it is copied: "
		 "raise DELTAZERO_DRAM_SIZE",
		 m.req.name);
	return -EIO;
}

void dz_miss_start(struct dz_engine *e, const struct dz_ofile *f, uint64_t blk, uint32_t want,
		   uint32_t flags)
{
	struct dz_lease_ref ref;
	struct miss m;

	if (miss_is_inline(e))
		return;
	miss_block(&m, e, f, blk, want, flags);
	if (dz_lease_ask(&e->seg, m.key, &m.req, m.agent, want, &ref) == 0 && ref.is_new)
		dz_agent_call(e, m.agent);
}

/* ---- names ---- */

/* A listing may be too large; for one name there is room as soon as others are done. */
static bool miss_may_pass(enum dz_kind kind, int err)
{
	return err == -EAGAIN || (err == -ENOSPC && kind != DZ_KIND_DIR);
}

static int miss_name_once(struct dz_engine *e, uint32_t mount, enum dz_kind kind, const char *name,
			  size_t len, uint32_t flags, bool wait)
{
	uint64_t rec_id = e->cfg.mounts[mount].id;
	struct dz_lease_ref ref;
	struct miss m;
	int ret;

	memset(&m, 0, sizeof(m));
	m.e = e;
	m.key = kind == DZ_KIND_DIR ? dz_names_dir_key(rec_id, name, len)
				    : dz_names_attr_key(rec_id, name, len);
	/* Leases of names and of blocks of the same key never meet: other hashes. */
	m.agent = e->agent[mount];
	m.want = 1;
	m.since_ms = dz_now_ms();
	m.req.kind = kind;
	m.req.mount = e->rec[mount];
	m.req.flags = wait ? 0 : DZ_REQ_PREFETCH;
	m.req.name_len = (uint32_t)len;
	memcpy(m.req.name, name, len);
	if (!wait && miss_is_inline(e))
		return 0;
	ret = miss_ask(&m, &ref);
	if (ret < 0 || !wait)
		return ret;
	for (ret = 1; ret == 1;) {
		/* A long listing goes on without us when one name will do. */
		if ((flags & DZ_REQ_LONG) &&
		    (__atomic_load_n(&e->seg.requests[ref.idx].flags, __ATOMIC_RELAXED) &
		     DZ_REQ_LONG) &&
		    dz_lease_poll(&e->seg, &ref) == 1)
			return -EINPROGRESS;
		ret = miss_step(&m, &ref);
	}
	/* Cut off by a takeover: the caller looks, and asks, again. */
	if (ret == 0 || ret == -ECANCELED)
		return 0;
	if (miss_may_pass(kind, ret))
		return ret;
	miss_log(&m, &ref, ret);
	return miss_errno(ret);
}

int dz_miss_name(struct dz_engine *e, uint32_t mount, enum dz_kind kind, const char *name,
		 size_t len, uint32_t flags, bool wait)
{
	uint64_t busy_ms = miss_busy_until(e);
	int ret;

	for (;;) {
		ret = miss_name_once(e, mount, kind, name, len, flags, wait);
		if (!wait || !miss_may_pass(kind, ret))
			return miss_errno(ret);
		if (dz_now_ms() >= busy_ms)
			return dz_past_begin(e, name) ? -ENOBUFS : miss_errno(ret);
		dz_member_sweep(&e->seg, false);
		miss_pause(20);
	}
}
