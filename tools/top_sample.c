// SPDX-License-Identifier: MIT
/*
 * Two readings of the counters and their difference.  Nothing is joined and nothing
 * is written; a cache that is purged meanwhile is looked for again.  A process is
 * known by its number and the time when it joined: a member's record is used again.
 */
#include "tools/top.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cache/member.h"
#include "cache/sys.h"
#include "cache/trace.h"
#include "tools/place.h"

_Static_assert(sizeof(struct top_counts) == offsetof(struct dz_stats, pad0),
	       "the same counters in the same order");
#define WORDS (sizeof(struct top_counts) / sizeof(uint64_t))

struct top {
	const struct dz_config *cfg;
	struct dz_seg seg;
	bool is_open;
	struct top_sample last;
	struct top_seen *seen; /* by the number of an open file; NULL: not looked yet */
	uint64_t pid_ns;
};

const char *const top_order_names[TOP_ORDERS] = { "read", "calls", "wait", "pid" };

struct top *top_new(const struct dz_config *cfg)
{
	struct top *t = calloc(1, sizeof(*t));

	if (!t)
		abort();
	t->cfg = cfg;
	t->pid_ns = dz_trace_pid_ns();
	return t;
}

static void let_go(struct top *t)
{
	if (t->is_open)
		dz_seg_close(&t->seg);
	free(t->seen);
	top_sample_free(&t->last);
	t->seen = NULL;
	t->is_open = false;
}

void top_free(struct top *t)
{
	let_go(t);
	free(t);
}

void top_sample_free(struct top_sample *s)
{
	free(s->processes);
	memset(s, 0, sizeof(*s));
}

/* Purged, or replaced by another: what is mapped is nobody's any more. */
static bool is_stale(const struct top *t)
{
	struct stat now, then;

	return fstatat(t->seg.dir_fd, "dram", &now, 0) < 0 || fstat(t->seg.dram_fd, &then) < 0 ||
	       now.st_ino != then.st_ino || stat(t->seg.dir, &now) < 0 ||
	       fstat(t->seg.dir_fd, &then) < 0 || now.st_ino != then.st_ino;
}

static int look(struct top *t)
{
	int ret;

	if (t->is_open && !is_stale(t))
		return 0;
	let_go(t);
	ret = dz_place_look(&t->seg, t->cfg);
	if (ret < 0)
		return ret;
	t->is_open = true;
	return 0;
}

/* ---- counters ---- */

static void add_counts(struct top_counts *to, const struct dz_seg *seg, uint32_t member)
{
	uint64_t *sum = (uint64_t *)to;

	for (uint32_t i = 0; i < DZ_STAT_STRIPES; i++) {
		_Atomic uint64_t *from = (void *)&seg->stats[(size_t)member * DZ_STAT_STRIPES + i];

		for (size_t w = 0; w < WORDS; w++)
			sum[w] += atomic_load_explicit(&from[w], memory_order_relaxed);
	}
	to->bytes = 0;
	for (int i = 0; i < DZ_TIERS; i++)
		to->bytes += to->hit_bytes[i];
}

static void subtract(struct top_counts *out, const struct top_counts *all,
		     const struct top_counts *before)
{
	const uint64_t *now = (const uint64_t *)all, *then = (const uint64_t *)before;
	uint64_t *diff = (uint64_t *)out;

	for (size_t w = 0; w < WORDS; w++)
		diff[w] = now[w] - (now[w] >= then[w] ? then[w] : now[w]);
}

static const struct top_process *before(const struct top *t, const struct top_process *p)
{
	for (uint32_t i = 0; i < t->last.n_processes; i++) {
		const struct top_process *x = &t->last.processes[i];

		if (x->pid == p->pid && x->since_ms == p->since_ms)
			return x;
	}
	return NULL;
}

static uint32_t count_held(const struct dz_seg *seg, uint32_t member)
{
	uint32_t n = 0;

	for (uint32_t w = 0; w < seg->held_words; w++)
		n += (uint32_t)__builtin_popcountll(atomic_load_explicit(
			&seg->held[(size_t)member * seg->held_words + w], memory_order_relaxed));
	return n;
}

static void read_process(const struct top *t, uint32_t i, struct top_process *p)
{
	const struct dz_member *m = &t->seg.members[i];
	uint32_t parent = atomic_load_explicit(&m->parent, memory_order_relaxed);
	const struct top_process *then;

	memset(p, 0, sizeof(*p));
	p->pid = atomic_load_explicit(&m->pid, memory_order_relaxed);
	p->since_ms = atomic_load_explicit(&m->joined_ms, memory_order_relaxed);
	p->is_here = atomic_load_explicit(&m->pid_ns, memory_order_relaxed) == t->pid_ns;
	p->is_agent = atomic_load_explicit(&m->is_agent, memory_order_relaxed) != 0;
	if (parent && parent < t->seg.n_members)
		p->parent = atomic_load_explicit(&t->seg.members[parent].pid, memory_order_relaxed);
	memcpy(p->comm, m->comm, sizeof(p->comm) - 1);
	p->open_files = count_held(&t->seg, i);
	add_counts(&p->all, &t->seg, i);
	then = before(t, p);
	if (then)
		subtract(&p->now, &p->all, &then->all);
	else
		p->now = p->all;
}

static void read_processes(struct top *t, struct top_sample *s)
{
	s->processes = calloc(t->seg.n_members, sizeof(*s->processes));
	if (!s->processes)
		abort();
	for (uint32_t i = 0; i < t->seg.n_members; i++) {
		add_counts(&s->all, &t->seg, i);
		if (i > 0 &&
		    atomic_load_explicit(&t->seg.members[i].state, memory_order_acquire) ==
			    DZ_MEMBER_LIVE &&
		    dz_member_is_alive(&t->seg, i))
			read_process(t, i, &s->processes[s->n_processes++]);
	}
	s->all.evictions = atomic_load_explicit(&t->seg.hdr->evictions, memory_order_relaxed);
	top_find_parents(s);
}

static void read_files(struct top *t, struct top_sample *s)
{
	bool is_first = !t->seen;

	if (is_first)
		t->seen = calloc(t->seg.n_files, sizeof(*t->seen));
	if (!t->seen)
		abort();
	top_read_files(&t->seg, t->seen, is_first, s);
}

/* ---- all of it ---- */

static void remember(struct top *t, const struct top_sample *s)
{
	struct top_process *copy = malloc((s->n_processes + 1) * sizeof(*copy));

	if (!copy)
		abort();
	memcpy(copy, s->processes, s->n_processes * sizeof(*copy));
	free(t->last.processes);
	t->last = *s;
	t->last.processes = copy;
}

int top_take(struct top *t, struct top_sample *s)
{
	int ret = look(t);

	memset(s, 0, sizeof(*s));
	if (ret < 0)
		return ret;
	s->ns = dz_now_ns();
	s->seconds = t->last.ns ? (double)(s->ns - t->last.ns) / 1e9 : 0;
	read_processes(t, s);
	read_files(t, s);
	subtract(&s->now, &s->all, &t->last.all);
	s->dram_used = atomic_load_explicit(&t->seg.hdr->dram_used, memory_order_relaxed);
	s->disk_used = atomic_load_explicit(&t->seg.hdr->disk_used, memory_order_relaxed);
	s->dram_size = t->seg.dram_bytes;
	s->disk_size = t->seg.disk_bytes;
	memcpy(s->dir, t->seg.dir, sizeof(s->dir));
	remember(t, s);
	return 0;
}

static uint64_t weight(const struct top_process *p, enum top_order order)
{
	return order == TOP_BY_CALLS  ? p->now.calls
	       : order == TOP_BY_WAIT ? p->now.wait_ns
	       : order == TOP_BY_PID  ? UINT32_MAX - p->pid
				      : p->now.bytes;
}

void top_sort(struct top_sample *s, enum top_order order)
{
	/* Insertion: a few, and nearly in order from the last time. */
	for (uint32_t i = 1; i < s->n_processes; i++) {
		struct top_process p = s->processes[i];
		uint32_t k = i;

		while (k && (weight(&s->processes[k - 1], order) < weight(&p, order) ||
			     (weight(&s->processes[k - 1], order) == weight(&p, order) &&
			      s->processes[k - 1].pid > p.pid))) {
			s->processes[k] = s->processes[k - 1];
			k--;
		}
		s->processes[k] = p;
	}
}
