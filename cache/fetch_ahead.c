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
 * Only what fits beside what is cached: ahead stops when DRAM (or the disk tier,
 * if there is one) is nearly full, so it evicts nothing.  A listing that was
 * replaced or evicted ends the walk; the next demand starts it anew, and what is
 * cached by then is passed over.
 */
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
#define LOOKS	  256 /* entries passed over in one round */

struct ahead_dir {
	uint64_t rec_id; /* 0: free */
	struct dz_mount mount;
	uint32_t mount_rec;
	size_t len;
	char path[DZ_NAME_MAX + 8];
	uint32_t demand, issued;
	struct dz_names_cursor at;
	bool is_done;
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
	memset(oldest, 0, sizeof(*oldest));
	oldest->rec_id = job->mount.id;
	oldest->mount = job->mount;
	oldest->mount_rec = job->req.mount;
	oldest->len = len;
	memcpy(oldest->path, job->req.name, len);
	return oldest;
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
	/* Waited for though the walk has ended: begin it again, as the factor allows. */
	if (d->is_done && d->demand > d->issued / FACTOR + START) {
		d->is_done = false;
		memset(&d->at, 0, sizeof(d->at));
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

/* One entry of the walk.  1 asked for, 0 passed over, -errno: stop for now. */
static int ahead_step(struct dz_fetcher *f, struct ahead_dir *d)
{
	struct dz_names_cursor before = d->at;
	char path[DZ_NAME_MAX + 8], name[256];
	struct dz_attr attr;
	struct dz_key base;
	int n, ret = dz_names_next(f->seg, d->rec_id, d->path, d->len, &d->at, name, &attr);

	if (ret <= 0) {
		d->is_done = true;
		return -ENOENT;
	}
	n = snprintf(path, sizeof(path), "%.*s%s%s", (int)d->len, d->path, d->len ? "/" : "", name);
	if (n < 0 || n > DZ_NAME_MAX || !S_ISREG(attr.mode) || !attr.size ||
	    attr.size > DZ_BLOCK_BYTES)
		return 0;
	base = dz_names_file_key(d->mount.data_id, d->mount.prefix, path, (size_t)n, attr.etag);
	if (ahead_has(f, dz_block_key(base, 0)))
		return 0;
	ret = ahead_ask(f, d, path, &attr, base);
	if (ret < 0) {
		d->at = before;
		return ret;
	}
	d->issued++;
	return 1;
}

static void ahead_run_dir(struct dz_fetcher *f, struct ahead_dir *d)
{
	if (d->demand < START)
		return;
	for (int i = 0; i < LOOKS && !d->is_done && f->ahead->in_flight < IN_FLIGHT &&
			d->issued < d->demand * FACTOR;
	     i++) {
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
	if (f->ahead->in_flight >= IN_FLIGHT || !ahead_fits(f))
		return;
	for (int i = 0; i < DIRS; i++) {
		if (f->ahead->dirs[i].rec_id)
			ahead_run_dir(f, &f->ahead->dirs[i]);
	}
}
