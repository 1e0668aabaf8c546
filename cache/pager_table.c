// SPDX-License-Identifier: MIT
/* Who has what mapped: see pager_priv.h. */
#include "cache/pager_priv.h"

#include "cache/sys.h"
#include "cache/uffd.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

#define PROBE_AT 0x200000000ull

static bool range_is_of(const struct pager_range *r, uint32_t session)
{
	return atomic_load_explicit(&r->use, memory_order_acquire) == PAGER_USED &&
	       r->session == session;
}

static void raise_high(_Atomic uint32_t *high, uint32_t n)
{
	if (atomic_load(high) < n)
		atomic_store(high, n);
}

/* ---- sessions ---- */

int pager_session_new(struct pager *p, int uffd, enum pager_use use)
{
	for (uint32_t i = 0; i < PAGER_SESSIONS; i++) {
		struct pager_session *s = &p->st->session[i];

		if (atomic_load(&s->use) != PAGER_FREE)
			continue;
		s->uffd = uffd;
		s->pid = 0;
		s->fd = -1;
		s->id = atomic_fetch_add(&p->st->head.ids, 1) + 1;
		raise_high(&p->st->sessions, i + 1);
		atomic_store_explicit(&s->use, use, memory_order_release);
		atomic_fetch_add(&p->st->head.live, 1);
		return (int)i;
	}
	return -ENOSPC;
}

void pager_session_end(struct pager *p, uint32_t session)
{
	struct pager_session *s = &p->st->session[session];

	/* Its descriptor's number may be another's soon. */
	pager_cancel_session(p, session);
	for (uint32_t i = 0; i < atomic_load(&p->st->ranges); i++) {
		if (range_is_of(&p->st->range[i], session)) {
			atomic_store(&p->st->range[i].use, PAGER_DYING);
			pager_range_release(p, i);
		}
	}
	/* The program's copy of the description would keep it watched. */
	dz_sys_4(SYS_epoll_ctl, p->epoll_fd, EPOLL_CTL_DEL, s->uffd, NULL);
	dz_sys_close(s->uffd);
	atomic_fetch_sub(&p->st->head.live, 1);
	atomic_store_explicit(&s->use, PAGER_FREE, memory_order_release);
}

int pager_session_find(const struct pager *p, uint64_t id)
{
	for (uint32_t i = 0; id && i < atomic_load(&p->st->sessions); i++) {
		const struct pager_session *s = &p->st->session[i];

		if (atomic_load(&s->use) == PAGER_USED && s->id == id)
			return (int)i;
	}
	return -ENOENT;
}

/* A continuation is for files only, so it changes nothing; but first the memory is looked for. */
bool pager_session_is_dead(const struct pager *p, uint32_t session)
{
	struct uffdio_continue c = { .range = { PROBE_AT, DZ_PAGE } };

	return dz_sys_3(SYS_ioctl, p->st->session[session].uffd, UFFDIO_CONTINUE, &c) == -ESRCH;
}

void pager_wake(const struct pager *p, uint32_t session)
{
	for (uint32_t i = 0; i < atomic_load(&p->st->ranges); i++) {
		const struct pager_range *r = &p->st->range[i];

		if (range_is_of(r, session))
			dz_uffd_wake(p->st->session[session].uffd, r->at, r->end - r->at);
	}
}

/* ---- ranges ---- */

void pager_range_release(struct pager *p, uint32_t range)
{
	struct pager_range *r = &p->st->range[range];

	if (atomic_load(&r->use) == PAGER_DYING && p->busy[range] == 0)
		atomic_store(&r->use, PAGER_FREE);
}

/* One that we do not know is none: its reads fail. */
void pager_range_settle(struct pager *p, uint32_t range)
{
	const struct dz_seg *seg = &p->e->seg;
	uint32_t n = 0;

	while (n < seg->n_mounts &&
	       atomic_load_explicit(&seg->mounts[n].id, memory_order_acquire) !=
		       p->st->range[range].mount)
		n++;
	p->st->file[range].mount = n;
}

static int range_free(struct pager *p)
{
	for (uint32_t i = 0; i < PAGER_RANGES; i++) {
		if (atomic_load(&p->st->range[i].use) == PAGER_FREE)
			return (int)i;
	}
	return -ENOSPC;
}

/* `like` with another session and bounds. */
static int range_put(struct pager *p, const struct pager_range *like, const struct dz_ofile *f)
{
	int i = range_free(p);
	struct pager_range *r;

	if (i < 0)
		return i;
	r = &p->st->range[i];
	r->session = like->session;
	r->at = like->at;
	r->end = like->end;
	r->delta = like->delta;
	r->id = like->id;
	r->mount = like->mount;
	memcpy(&p->st->file[i], f, sizeof(*f));
	memset(p->stream[i], 0, sizeof(p->stream[i]));
	pager_range_settle(p, (uint32_t)i);
	raise_high(&p->st->ranges, (uint32_t)i + 1);
	atomic_store_explicit(&r->use, PAGER_USED, memory_order_release);
	return 0;
}

int pager_range_add(struct pager *p, uint32_t session, const struct dz_lazy_msg *msg)
{
	const struct pager_range r = { .session = session,
				       .at = msg->at,
				       .end = msg->at + msg->len,
				       .delta = msg->off - msg->at,
				       .id = msg->id,
				       .mount = msg->mount };

	return range_put(p, &r, &msg->file);
}

static void range_cut(struct pager *p, uint32_t n, uint64_t at, uint64_t end)
{
	struct pager_range *r = &p->st->range[n], rest = { .session = r->session,
							   .at = end,
							   .end = r->end,
							   .delta = r->delta,
							   .id = r->id,
							   .mount = r->mount };

	if (at <= r->at && end >= r->end) {
		atomic_store(&r->use, PAGER_DYING);
		pager_range_release(p, n);
	} else if (at <= r->at) {
		r->at = end;
	} else {
		/* Without room for the rest the hole stays in: nobody faults there. */
		if (end < r->end && range_put(p, &rest, &p->st->file[n]) < 0)
			return;
		r->end = at;
	}
}

void pager_ranges_cut(struct pager *p, uint32_t session, uint64_t at, uint64_t end, uint64_t id)
{
	uint32_t n = atomic_load(&p->st->ranges);

	for (uint32_t i = 0; i < n; i++) {
		const struct pager_range *r = &p->st->range[i];

		if (range_is_of(r, session) && r->at < end && r->end > at && (!id || r->id == id))
			range_cut(p, i, at, end);
	}
}

int pager_range_find(const struct pager *p, uint32_t session, uint64_t at)
{
	for (uint32_t i = 0; i < atomic_load(&p->st->ranges); i++) {
		const struct pager_range *r = &p->st->range[i];

		if (range_is_of(r, session) && r->at <= at && at < r->end)
			return (int)i;
	}
	return -ENOENT;
}

void pager_ranges_inherit(struct pager *p, uint32_t session, uint32_t parent)
{
	uint32_t n = atomic_load(&p->st->ranges);

	/* Of one that was killed in the middle of this. */
	pager_ranges_cut(p, session, 0, UINT64_MAX, 0);
	for (uint32_t i = 0; i < n; i++) {
		struct pager_range like = { .session = session };
		const struct pager_range *r = &p->st->range[i];

		if (!range_is_of(r, parent))
			continue;
		like.at = r->at;
		like.end = r->end;
		like.delta = r->delta;
		like.id = r->id;
		like.mount = r->mount;
		if (range_put(p, &like, &p->st->file[i]) < 0)
			dz_error(&p->log, "lazy mappings: the table is full: a child of fork waits "
					  "for pages that nobody fills");
	}
	atomic_store_explicit(&p->st->session[session].use, PAGER_USED, memory_order_release);
}
