// SPDX-License-Identifier: MIT
/*
 * Filling: a few threads, each with a buffer of a unit.
 *
 * The happy path of a fault: find its range; how much to fill (64 KiB; where faults
 * follow one another twice as much each time, up to a unit); read that as any
 * program reads (tiers, single flight, If-Match); copy it into the program; wake
 * whoever waits there.
 *
 * The read fails: the page that was touched is poisoned, a touch of it is SIGBUS;
 * before Linux 6.6, which cannot, it is tried again once a second and the reader
 * waits.  The mapping is replaced meanwhile: nothing is copied any more.  The process
 * is gone: its session ends at the next look.  We are killed: who waits goes on
 * waiting until the next pager wakes everyone, and they fault again.
 */
#include "cache/pager_priv.h"

#include "cache/sys.h"
#include "cache/uffd.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define FIRST_BYTES ((uint64_t)DZ_PIECE_BYTES)

static void pause_us(long us)
{
	struct timespec ts = { us / 1000000, us % 1000000 * 1000 };

	dz_sys_2(SYS_nanosleep, &ts, NULL);
}

/* ---- how much ---- */

/* The stream that a fault at `at` goes on with; else the oldest, begun anew. */
static struct pager_stream *stream_of(struct pager *p, uint32_t range, uint64_t at)
{
	struct pager_stream *s = p->stream[range];

	for (uint32_t i = 0; i < PAGER_STREAMS; i++) {
		if (s[i].window && at >= s[i].next && at < s[i].next + s[i].window)
			return &s[i];
	}
	s = &s[p->oldest[range]++ % PAGER_STREAMS];
	s->window = 0;
	return s;
}

static uint64_t page_of(uint64_t at)
{
	return at & ~(uint64_t)(DZ_PAGE - 1);
}

/* What to fill for the fault: within the range, pieces of one block or in sequence. */
static void fill_choose(struct pager *p, struct pager_filler *f)
{
	const struct pager_range *r = &p->st->range[f->range];
	struct pager_stream *s = stream_of(p, f->range, f->fault);
	uint64_t off = f->fault + r->delta;

	if (s->window) {
		s->window = dz_min_u64(s->window * 2, PAGER_UNIT);
		f->at = f->fault;
	} else {
		s->window = FIRST_BYTES;
		f->at = f->fault - off % FIRST_BYTES;
	}
	f->at = f->at < r->at || f->at > f->fault ? r->at : f->at;
	f->end = dz_min_u64(f->at + s->window, r->end);
	s->next = f->end;
}

/* ---- one unit ---- */

static bool fill_is_cancelled(struct pager_filler *f)
{
	bool is;

	pthread_mutex_lock(&f->copying);
	is = f->is_cancelled;
	pthread_mutex_unlock(&f->copying);
	return is;
}

static int fill_copy_once(struct pager_filler *f, uint64_t at, uint64_t end, uint64_t *done)
{
	const struct pager_session *s = &f->p->st->session[f->session];
	int ret = -ECANCELED;

	*done = 0;
	pthread_mutex_lock(&f->copying);
	if (!f->is_cancelled)
		ret = dz_uffd_copy(s->uffd, at, f->buf + (at - f->at), end - at, done);
	pthread_mutex_unlock(&f->copying);
	return ret;
}

/*
 * The buffer into the program.  Pages that are there already are left alone; a fork
 * that is under way is waited for; where nothing is registered any more it ends.
 */
static void fill_copy(struct pager_filler *f, uint64_t end)
{
	uint64_t at = f->at, done;

	while (at < end) {
		int ret = fill_copy_once(f, at, end, &done);

		at += done;
		if (at >= end)
			return;
		if (ret == -EAGAIN)
			pause_us(done ? 0 : 100);
		else if (ret == -EEXIST)
			at += DZ_PAGE;
		else if (ret == -ENOENT && at < f->fault)
			at = f->fault;
		else if (ret == -ENOMEM)
			pause_us(20000);
		else
			return;
	}
}

/* As much of the unit as can be read from its front: bytes, or -errno when that is none. */
static ssize_t fill_read(struct pager_filler *f)
{
	struct pager *p = f->p;
	uint64_t off = f->at + p->st->range[f->range].delta, len = f->end - f->at, done = 0;
	struct dz_ofile *file = &p->st->file[f->range];
	uint64_t want = off < file->size ? dz_min_u64(len, file->size - off) : 0;
	ssize_t got = -EIO;

	while (done < want) {
		got = dz_read_at(p->e, file, f->buf + done, want - done, off + done);
		if (got <= 0)
			break;
		done += (uint64_t)got;
	}
	if (done == want && want) {
		/* Behind the file's end, on its last page, are zeros. */
		memset(f->buf + done, 0, len - done);
		return (ssize_t)len;
	}
	done = page_of(done);
	return done ? (ssize_t)done : got < 0 ? got : -EIO;
}

/* It cannot be had: a touch is SIGBUS, or waits for better times. */
static void fill_fail(struct pager_filler *f)
{
	const struct pager_session *s = &f->p->st->session[f->session];
	int ret = -ECANCELED;

	pthread_mutex_lock(&f->copying);
	if (!f->is_cancelled)
		ret = dz_uffd_poison(s->uffd, f->fault, DZ_PAGE);
	pthread_mutex_unlock(&f->copying);
	if (ret == -EINVAL || ret == -ENOTTY)
		pause_us(1000000);
}

static void fill_unit(struct pager_filler *f)
{
	ssize_t got = fill_read(f);

	if (fill_is_cancelled(f))
		return;
	if (got > 0)
		fill_copy(f, f->at + (uint64_t)got);
	if (got < 0 || f->at + (uint64_t)got <= f->fault)
		fill_fail(f);
}

/* ---- the queue ---- */

/* Does somebody fill that page already?  He will wake whoever waits there. */
static bool fill_is_under_way(const struct pager *p, const struct pager_fault *fault)
{
	for (uint32_t i = 0; i < PAGER_FILLERS; i++) {
		const struct pager_filler *f = &p->filler[i];

		if (f->is_busy && f->session == fault->session && f->at <= fault->at &&
		    fault->at < f->end)
			return true;
	}
	return false;
}

/* Takes the fault over; false: nothing is to be done. */
static bool fill_take(struct pager *p, struct pager_filler *f, const struct pager_fault *fault)
{
	int range;

	if (atomic_load(&p->st->session[fault->session].use) != PAGER_USED ||
	    fill_is_under_way(p, fault))
		return false;
	range = pager_range_find(p, fault->session, fault->at);
	if (range < 0)
		return false;
	f->session = fault->session;
	f->range = (uint32_t)range;
	f->fault = fault->at;
	f->is_cancelled = false;
	fill_choose(p, f);
	f->is_busy = true;
	p->busy[range]++;
	return true;
}

/* With the lock held, which it gives up meanwhile. */
static void fill_serve(struct pager *p, struct pager_filler *f)
{
	uint64_t at = f->at, end = f->end;
	int uffd = p->st->session[f->session].uffd;

	pthread_mutex_unlock(&p->lock);
	fill_unit(f);
	pthread_mutex_lock(&p->lock);
	f->is_busy = false;
	p->busy[f->range]--;
	pager_range_release(p, f->range);
	/* Who came while we were at it was not queued: now everyone looks again. */
	if (atomic_load(&p->st->session[f->session].use) == PAGER_USED)
		dz_uffd_wake(uffd, at, end - at);
}

static void *filler_main(void *arg)
{
	struct pager_filler *f = arg;
	struct pager *p = f->p;

	pthread_mutex_lock(&p->lock);
	for (;;) {
		struct pager_fault fault;

		while (!p->queued)
			pthread_cond_wait(&p->wanted, &p->lock);
		fault = p->queue[p->head];
		p->head = (p->head + 1) % PAGER_QUEUE;
		p->queued--;
		if (fill_take(p, f, &fault))
			fill_serve(p, f);
	}
	return NULL;
}

int pager_fillers_start(struct pager *p)
{
	for (uint32_t i = 0; i < PAGER_FILLERS; i++) {
		struct pager_filler *f = &p->filler[i];
		void *buf;
		int ret = dz_sys_mmap(&buf, NULL, PAGER_UNIT, PROT_READ | PROT_WRITE,
				      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (ret < 0)
			return ret;
		f->p = p;
		f->buf = buf;
		f->is_busy = false;
		pthread_mutex_init(&f->copying, NULL);
		ret = pthread_create(&f->thread, NULL, filler_main, f);
		if (ret)
			return -ret;
	}
	return 0;
}

void pager_queue(struct pager *p, uint32_t session, uint64_t at)
{
	uint32_t n;

	pthread_mutex_lock(&p->lock);
	if (p->queued == PAGER_QUEUE) {
		p->has_overflow = true;
	} else {
		n = (p->head + p->queued++) % PAGER_QUEUE;
		p->queue[n] = (struct pager_fault){ session, page_of(at) };
		pthread_cond_signal(&p->wanted);
	}
	pthread_mutex_unlock(&p->lock);
}

static void fill_cancel(struct pager_filler *f)
{
	pthread_mutex_lock(&f->copying);
	f->is_cancelled = true;
	pthread_mutex_unlock(&f->copying);
}

void pager_cancel_session(struct pager *p, uint32_t session)
{
	for (uint32_t i = 0; i < PAGER_FILLERS; i++) {
		if (p->filler[i].is_busy && p->filler[i].session == session)
			fill_cancel(&p->filler[i]);
	}
}

void pager_cancel(struct pager *p, uint64_t at, uint64_t end)
{
	for (uint32_t i = 0; i < PAGER_FILLERS; i++) {
		struct pager_filler *f = &p->filler[i];

		if (f->is_busy && f->at < end && f->end > at)
			fill_cancel(f);
	}
}
