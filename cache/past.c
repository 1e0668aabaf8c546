/* SPDX-License-Identifier: MIT */
#include "cache/past.h"

#include "cache/sys.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define PAST_BYTES (32 * DZ_MIB)
#define NEAR_MS	   10000 /* waiting is not tried again for so long */

static struct dz_engine *past_of(const struct dz_engine *e)
{
	return atomic_load_explicit(&e->past, memory_order_acquire);
}

static void past_free(struct dz_engine *p)
{
	dz_seg_close(&p->seg);
	dz_sys_munmap(p, sizeof(*p));
}

static int past_new(const struct dz_engine *e, struct dz_engine **out)
{
	struct dz_engine *p;
	void *map;
	int ret = dz_sys_mmap(&map, NULL, sizeof(*p), PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (ret < 0)
		return ret;
	p = map;
	p->cfg = e->cfg;
	p->log = e->log;
	p->envp = e->envp;
	p->lookup = e->lookup;
	p->guard = e->guard;
	p->trace_self = e->trace_self;
	memcpy(p->lib_dir, e->lib_dir, sizeof(p->lib_dir));
	p->front.trace = &p->no_trace;
	atomic_store_explicit(&p->pid, (uint32_t)dz_sys_getpid(), memory_order_relaxed);
	atomic_store_explicit(&p->is_inline, 1, memory_order_relaxed);
	ret = dz_seg_open_private(&p->seg, &p->log, PAST_BYTES);
	if (ret == 0)
		ret = dz_member_join(&p->seg);
	if (ret == 0)
		ret = dz_engine_bind_mounts(p);
	if (ret < 0)
		past_free(p);
	else
		*out = p;
	return ret;
}

/* Made once; of two threads that make it one throws its own away. */
static struct dz_engine *past_get(struct dz_engine *e)
{
	struct dz_engine *p = past_of(e), *none = NULL;

	if (p || e->seg.is_private || past_new(e, &p) < 0)
		return p;
	if (atomic_compare_exchange_strong(&e->past, &none, p))
		return p;
	past_free(p);
	return none;
}

bool dz_past_is_near(const struct dz_engine *e)
{
	return atomic_load_explicit(&e->past_until_ms, memory_order_relaxed) > dz_now_ms();
}

bool dz_past_begin(struct dz_engine *e, const char *name)
{
	uint64_t now = dz_now_ms();
	uint64_t until =
		atomic_exchange_explicit(&e->past_until_ms, now + NEAR_MS, memory_order_relaxed);

	if (!past_get(e))
		return false;
	if (until + NEAR_MS < now)
		dz_warn(&e->log,
			"read %.300s: all of DRAM is held by others: reading straight from Blob "
			"until there is room; raise DELTAZERO_DRAM_SIZE",
			name);
	return true;
}

static void past_move(_Atomic uint64_t *from, struct dz_counter c, _Atomic uint64_t *to)
{
	uint64_t n = atomic_exchange_explicit(from, 0, memory_order_relaxed);

	if (n)
		dz_count(c, to, n);
}

/* Its requests are ours; its hits are counted by who has asked. */
static void past_count(struct dz_engine *e, struct dz_engine *p)
{
	struct dz_counter c = dz_engine_counter(e);

	for (uint32_t i = 0; i < DZ_STAT_STRIPES; i++) {
		struct dz_stats *s = &p->seg.stats[(size_t)p->seg.member * DZ_STAT_STRIPES + i];

		past_move(&s->origin_requests, c, &c.stats->origin_requests);
		past_move(&s->origin_bytes, c, &c.stats->origin_bytes);
		past_move(&s->origin_errors, c, &c.stats->origin_errors);
		past_move(&s->origin_retries, c, &c.stats->origin_retries);
		past_move(&s->origin_connections, c, &c.stats->origin_connections);
	}
	dz_count(c, &c.stats->uncached, 1);
}

/* The mount's record has another number there. */
static int past_mount(const struct dz_engine *e, const struct dz_engine *p, uint32_t rec)
{
	for (uint32_t i = 0; i < e->cfg.n_mounts; i++) {
		if (e->rec[i] == rec)
			return (int)p->rec[i];
	}
	return -ENODEV;
}

ssize_t dz_past_read(struct dz_engine *e, const struct dz_ofile *f, void *buf, size_t len,
		     uint64_t off)
{
	struct dz_engine *p = past_get(e);
	int mount = p ? past_mount(e, p, f->mount) : -EIO;
	struct dz_ofile own;
	ssize_t got;

	if (mount < 0)
		return -EIO;
	own = *f;
	own.mount = (uint32_t)mount;
	got = dz_read_at(p, &own, buf, len, off);
	past_count(e, p);
	return got;
}

int dz_past_resolve(struct dz_engine *e, uint32_t mount, const char *name, size_t len, bool strict,
		    struct dz_attr *attr)
{
	struct dz_engine *p = past_get(e);
	int ret = p ? dz_name_resolve(p, mount, name, len, strict, attr) : -EIO;

	if (p)
		past_count(e, p);
	return ret;
}

int dz_past_list(struct dz_engine *e, uint32_t mount, const char *name, size_t len,
		 struct dz_listing *out)
{
	struct dz_engine *p = past_get(e);
	int ret = p ? dz_engine_list(p, mount, name, len, out) : -EIO;

	if (p)
		past_count(e, p);
	return ret;
}

void dz_past_fork_prepare(struct dz_engine *e)
{
	if (past_of(e))
		dz_inline_fork_prepare(past_of(e));
}

void dz_past_fork_parent(struct dz_engine *e)
{
	if (past_of(e))
		dz_inline_fork_parent(past_of(e));
}

/* Its memory is shared with the parent, who goes on with it: ours is forgotten. */
void dz_past_fork_child(struct dz_engine *e)
{
	struct dz_engine *p = past_of(e);

	if (!p)
		return;
	atomic_store_explicit(&e->past, NULL, memory_order_relaxed);
	dz_inline_abandon(p);
	past_free(p);
}

void dz_past_close(struct dz_engine *e)
{
	if (past_of(e))
		past_free(past_of(e));
}
