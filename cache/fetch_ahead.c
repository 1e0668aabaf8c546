// SPDX-License-Identifier: MIT
/*
 * Small blobs before they are asked for.
 *
 * A training job reads the files of a directory in an order that nobody can
 * foretell, one round trip each, while connections lie idle.  But it reads all of
 * them, so any order will do: once programs have waited for START small blobs of
 * a listed directory, the agent fetches others of it in the listing's order, up
 * to FACTOR for each that was waited for.  Every blob is still fetched once,
 * whether ahead or on demand; a job that takes a few files out of many costs at
 * most FACTOR times what it reads.
 *
 * One that reads them in an order tells what comes next: the listing's (tar, cp -r:
 * what it waits for is what the walk would have asked for), or that of the names (a
 * glob, a validation set: what it waits for ascends).  Then the walk takes that order
 * and keeps a window ahead of what has been read, which the slots' ticks show; it
 * doubles when the reader catches up, and stops where the reader stops.
 *
 * Only what fits beside what is cached: ahead stops when DRAM (or the disk tier,
 * if there is one) is nearly full, so it evicts nothing.  A listing that was
 * replaced or evicted ends the walk; the next demand starts it anew, and what is
 * cached by then is passed over.
 */
#include "cache/fetch_order.h"
#include "cache/fetch_priv.h"
#include "cache/index.h"
#include "cache/sys.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define DIRS	  16
#define START	  16u
#define FACTOR	  6u
#define IN_FLIGHT 32u
#define IN_ORDER  48u /* in flight, where what comes next is known */
#define LOOKS	  256 /* entries passed over in one round */
/* In order: entries from the walk to what is waited for, and the window in blobs. */
#define NEAR	     64
#define ASCENDS	     12 /* more up than down: the order of the names */
#define WINDOW_FIRST 32u
#define WINDOW_MAX   512u
#define WINDOW_BYTES (64 * DZ_MIB)

struct ahead_dir {
	uint64_t rec_id; /* 0: free */
	struct dz_mount mount;
	uint32_t mount_rec;
	size_t len;
	char path[DZ_NAME_MAX + 8];
	uint32_t demand, issued;
	struct dz_names_cursor at;
	bool is_done;
	struct dz_order *order; /* or NULL: the listing's */
	uint32_t next;		/* in it */
	char last[256];		/* name that was waited for last */
	int32_t ups;
	uint32_t window;	       /* blobs ahead of the reader; 0: not read in order */
	uint32_t sent, used;	       /* in order: asked for, and read up to there */
	uint32_t widened;	       /* `sent` then */
	uint64_t bytes;		       /* of those in between, about */
	struct dz_key key[WINDOW_MAX]; /* of those: n is at n % WINDOW_MAX */
	uint64_t used_ms;
};

struct fetch_ahead {
	struct ahead_dir dirs[DIRS];
	uint32_t in_flight;
};

int dz_fetch_ahead_open(struct dz_fetcher *f)
{
	f->ahead = calloc(1, sizeof(*f->ahead));
	return f->ahead ? 0 : -ENOMEM;
}

void dz_fetch_ahead_close(struct dz_fetcher *f)
{
	for (int i = 0; f->ahead && i < DIRS; i++)
		dz_order_free(f->ahead->dirs[i].order);
	free(f->ahead);
	f->ahead = NULL;
}

static struct ahead_dir *ahead_find(struct fetch_ahead *a, const struct fetch_job *job, size_t len)
{
	struct ahead_dir *oldest = &a->dirs[0];

	for (int i = 0; i < DIRS; i++) {
		struct ahead_dir *d = &a->dirs[i];

		if (d->rec_id == job->mount.id && d->len == len &&
		    memcmp(d->path, job->req.name, len) == 0)
			return d;
		if (d->used_ms < oldest->used_ms)
			oldest = d;
	}
	dz_order_free(oldest->order);
	memset(oldest, 0, sizeof(*oldest));
	oldest->rec_id = job->mount.id;
	oldest->mount = job->mount;
	oldest->mount_rec = job->req.mount;
	oldest->len = len;
	memcpy(oldest->path, job->req.name, len);
	return oldest;
}

/* Do the names that are waited for ascend?  Then their order is the walk's from `name` on. */
static void ahead_sort(const struct dz_seg *seg, struct ahead_dir *d, const char *name)
{
	d->ups += strcmp(name, d->last) > 0 ? 1 : -3;
	if (d->ups < 0)
		d->ups = 0;
	snprintf(d->last, sizeof(d->last), "%.255s", name);
	if (d->order && d->ups == 0) {
		dz_order_free(d->order);
		d->order = NULL;
	} else if (!d->order && !d->window && d->ups == ASCENDS) {
		d->order = dz_order_new(seg, d->rec_id, d->path, d->len);
		d->next = d->order ? dz_order_find(d->order, name) : 0;
	}
}

/* Is `name` what the walk comes to next, or nearly? */
static bool ahead_is_next(const struct dz_seg *seg, const struct ahead_dir *d, const char *want)
{
	struct dz_names_cursor at = d->at;
	struct dz_attr attr;
	char name[256];

	if (d->order)
		return dz_order_find(d->order, want) - d->next < NEAR;
	for (int i = 0; i < NEAR / 4; i++) {
		if (dz_names_next(seg, d->rec_id, d->path, d->len, &at, name, &attr) <= 0)
			return false;
		if (strcmp(want, name) == 0)
			return true;
	}
	return false;
}

static void ahead_widen(struct ahead_dir *d, uint32_t most)
{
	d->window = d->window ? 2 * d->window : WINDOW_FIRST;
	if (d->window > most)
		d->window = most;
	d->widened = d->sent;
}

/* Somebody waits for a blob of the directory: does he read in order, and faster than we? */
static void ahead_follow(const struct dz_seg *seg, struct ahead_dir *d, const char *name)
{
	ahead_sort(seg, d, name);
	if (!d->issued || d->is_done || !ahead_is_next(seg, d, name)) {
		d->window /= 2;
		return;
	}
	if (!d->window) {
		d->sent = d->used = 0;
		d->bytes = 0;
	}
	ahead_widen(d, WINDOW_MAX);
}

static bool ahead_was_read(const struct dz_seg *seg, struct dz_key key)
{
	uint64_t ctl;
	uint32_t slot = dz_index_find(seg, key, DZ_TIER_DRAM, &ctl);

	return slot != DZ_NONE &&
	       atomic_load_explicit(&dz_dram_slot(seg, slot)->tick, memory_order_relaxed);
}

/*
 * How far has the reader come?  A few looks: it need not be exact.  When next to all
 * that has arrived is read, it waits for what is under way, and more could be.
 */
static void ahead_measure(const struct dz_seg *seg, struct ahead_dir *d, uint32_t in_flight)
{
	for (uint32_t span = d->sent - d->used; span; span /= 2) {
		uint32_t n = d->used + span - 1;

		if (!ahead_was_read(seg, d->key[n % WINDOW_MAX]))
			continue;
		d->bytes -= d->bytes / (d->sent - d->used) * span;
		d->used = n + 1;
		break;
	}
	if (d->window < 2 * IN_ORDER && d->sent - d->widened >= d->window &&
	    d->sent - d->used <= in_flight + d->window / 8)
		ahead_widen(d, 2 * IN_ORDER);
}

/* May the walk go on? */
static bool ahead_is_wanted(const struct ahead_dir *d, uint32_t in_flight)
{
	uint32_t window = d->window, out = d->sent - d->used;

	if (d->is_done)
		return false;
	if (in_flight < IN_FLIGHT && d->issued < d->demand * FACTOR)
		return true;
	return window && out < window && d->bytes < WINDOW_BYTES &&
	       in_flight < dz_min_u64(window, IN_ORDER);
}

void dz_fetch_ahead_demand(struct fetch_job *job)
{
	const char *slash = strrchr(job->req.name, '/');
	struct ahead_dir *d;

	if (!job->f->ahead || job->req.blob_size > DZ_BLOCK_BYTES ||
	    (job->req.flags & (DZ_REQ_AHEAD | DZ_REQ_PREFETCH)))
		return;
	d = ahead_find(job->f->ahead, job, slash ? (size_t)(slash - job->req.name) : 0);
	d->demand++;
	d->used_ms = dz_now_ms();
	ahead_follow(job->f->seg, d, slash ? slash + 1 : job->req.name);
	/* Waited for though the walk has ended: begin it again, as the factor allows. */
	if (d->is_done && d->demand > d->issued / FACTOR + START) {
		d->is_done = false;
		memset(&d->at, 0, sizeof(d->at));
		dz_order_free(d->order);
		d->order = NULL;
		d->ups = 0;
	}
}

void dz_fetch_ahead_ended(struct dz_fetcher *f)
{
	if (f->ahead && f->ahead->in_flight)
		f->ahead->in_flight--;
}

/* Would one more small blob stay without another having to go? */
static bool ahead_fits(const struct dz_fetcher *f)
{
	const struct dz_seg *seg = f->seg;
	uint64_t used = atomic_load_explicit(&seg->hdr->dram_used, memory_order_relaxed);

	if (f->opt.disk && dz_disk_is_on(f->opt.disk))
		return atomic_load_explicit(&seg->hdr->disk_used, memory_order_relaxed) <
		       seg->disk_bytes / 10 * 9;
	return used < seg->dram_bytes / 10 * 8;
}

static bool ahead_has(const struct dz_fetcher *f, struct dz_key key)
{
	uint64_t ctl;

	return dz_index_find(f->seg, key, DZ_TIER_DRAM, &ctl) != DZ_NONE ||
	       (f->opt.disk && dz_index_find(f->seg, key, DZ_TIER_DISK, &ctl) != DZ_NONE);
}

/* A request like a program's.  0, or -EAGAIN: no place for it now. */
static int ahead_ask(struct dz_fetcher *f, const struct ahead_dir *d, const char *path,
		     const struct dz_attr *attr, struct dz_key base)
{
	uint32_t pieces = (uint32_t)dz_div_up(attr->size, DZ_PIECE_BYTES);
	struct dz_lease_ref ref;
	struct dz_request req;
	int ret;

	memset(&req, 0, sizeof(req));
	req.kind = DZ_KIND_DATA;
	req.mount = d->mount_rec;
	req.flags = DZ_REQ_AHEAD | DZ_REQ_PREFETCH;
	req.name_len = (uint32_t)strlen(path);
	req.blob_size = attr->size;
	req.group = dz_names_group(d->mount.data_id, path, req.name_len);
	memcpy(req.etag, attr->etag, sizeof(req.etag));
	memcpy(req.name, path, req.name_len + 1);
	ret = dz_lease_ask(f->seg, dz_block_key(base, 0), &req, f->opt.agent,
			   (uint32_t)((1ull << pieces) - 1), &ref);
	if (ret == 0 && ref.is_new)
		f->ahead->in_flight++;
	return ret;
}

/* The walk's next entry: 1, 0 there is none any more. */
static int ahead_next(const struct dz_seg *seg, struct ahead_dir *d, char *path, size_t size,
		      struct dz_attr *attr)
{
	const char *slash = d->len ? "/" : "";
	struct dz_name found;
	char name[256];
	int n;

	if (!d->order) {
		if (dz_names_next(seg, d->rec_id, d->path, d->len, &d->at, name, attr) <= 0)
			return 0;
		n = snprintf(path, size, "%.*s%s%s", (int)d->len, d->path, slash, name);
		return n >= 0 && n <= DZ_NAME_MAX;
	}
	if (d->next >= d->order->n)
		return 0;
	n = snprintf(path, size, "%.*s%s%s", (int)d->len, d->path, slash,
		     d->order->name[d->next++]);
	if (n < 0 || n > DZ_NAME_MAX)
		return 0;
	dz_names_find(seg, d->rec_id, path, (size_t)n, &found);
	*attr = found.attr;
	/* Gone since: passed over, as what is no file. */
	if (found.state != DZ_NAME_FOUND)
		attr->mode = 0;
	return 1;
}

/* One entry of the walk.  1 asked for, 0 passed over, -errno: stop for now. */
static int ahead_step(struct dz_fetcher *f, struct ahead_dir *d)
{
	struct dz_names_cursor before = d->at;
	uint32_t next = d->next;
	char path[DZ_NAME_MAX + 8];
	struct dz_attr attr;
	struct dz_key base;
	int ret;

	if (!ahead_next(f->seg, d, path, sizeof(path), &attr)) {
		d->is_done = true;
		return -ENOENT;
	}
	if (!S_ISREG(attr.mode) || !attr.size || attr.size > DZ_BLOCK_BYTES)
		return 0;
	base = dz_names_file_key(d->mount.data_id, d->mount.prefix, path, strlen(path), attr.etag);
	if (ahead_has(f, dz_block_key(base, 0)))
		return 0;
	ret = ahead_ask(f, d, path, &attr, base);
	if (ret < 0) {
		d->at = before;
		d->next = next;
		return ret;
	}
	d->issued++;
	if (d->window) {
		d->key[d->sent++ % WINDOW_MAX] = dz_block_key(base, 0);
		d->bytes += attr.size;
	}
	return 1;
}

static void ahead_run_dir(struct dz_fetcher *f, struct ahead_dir *d)
{
	if (d->demand < START)
		return;
	if (d->window)
		ahead_measure(f->seg, d, f->ahead->in_flight);
	for (int i = 0; i < LOOKS && ahead_is_wanted(d, f->ahead->in_flight); i++) {
		if (ahead_step(f, d) < 0)
			return;
	}
}

void dz_fetch_ahead_run(struct dz_fetcher *f)
{
	if (!f->ahead)
		return;
	/* What another fetcher took from us has not been counted off. */
	if (!f->n_jobs)
		f->ahead->in_flight = 0;
	if (f->ahead->in_flight >= IN_ORDER || !ahead_fits(f))
		return;
	for (int i = 0; i < DIRS; i++) {
		if (f->ahead->dirs[i].rec_id)
			ahead_run_dir(f, &f->ahead->dirs[i]);
	}
}
