// SPDX-License-Identifier: MIT
/*
 * Taking requests and ending them.
 *
 * The happy path: the bit of a lease is set for this agent; claim the lease
 * (requested -> active), copy its request, start a job; the job asks Blob, stores
 * what arrives and publishes it piece by piece; end the lease and wake who waits.
 *
 * A failure ends the lease with -errno and a message.  Killed anywhere, the
 * lease's owner is dead: a waiter or the sweeper makes it a request again.
 */
#include "cache/fetch_priv.h"

#include "cache/index.h"
#include "cache/sys.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RENEW_MS 500

static const struct dz_mount *fetch_own_mount(const struct dz_fetcher *f, uint64_t identity)
{
	for (uint32_t i = 0; i < f->opt.cfg->n_mounts; i++) {
		if (f->opt.cfg->mounts[i].identity == identity)
			return &f->opt.cfg->mounts[i];
	}
	return NULL;
}

/* The mount of a request: where, from shared memory; the SAS, from our environment. */
static int fetch_fill_mount(struct fetch_job *job)
{
	const struct dz_seg *seg = job->f->seg;
	const struct dz_mount_rec *rec;
	const struct dz_mount *own;
	struct dz_mount *m = &job->mount;

	if (job->req.mount >= seg->n_mounts)
		return -EINVAL;
	rec = &seg->mounts[job->req.mount];
	/* Another's request came into this place while we took it: it is asked again. */
	if (!atomic_load_explicit(&rec->ready, memory_order_acquire) ||
	    rec->identity != job->f->opt.identity)
		return -EAGAIN;
	memset(m, 0, sizeof(*m));
	m->id = atomic_load_explicit(&rec->id, memory_order_acquire);
	snprintf(m->endpoint, sizeof(m->endpoint), "%.511s", rec->endpoint);
	snprintf(m->account, sizeof(m->account), "%.63s", rec->account);
	snprintf(m->container, sizeof(m->container), "%.63s", rec->container);
	snprintf(m->prefix, sizeof(m->prefix), "%.1023s", rec->prefix);
	m->path_style = rec->path_style;
	m->identity = rec->identity;
	m->data_id = rec->data_id;
	/* Given to another mount meanwhile?  The copy above stays above; pairs with records.c. */
	atomic_thread_fence(memory_order_acquire);
	if (!m->id || !atomic_load_explicit(&rec->ready, memory_order_relaxed) ||
	    atomic_load_explicit(&rec->id, memory_order_relaxed) != m->id)
		return -EAGAIN;
	own = fetch_own_mount(job->f, rec->identity);
	if (own)
		memcpy(m->sas, own->sas, sizeof(m->sas));
	return 0;
}

/*
 * Is the request that of the lease's key?  Its place may have been another's who
 * slept in the middle of writing there.
 */
static bool fetch_is_of_key(const struct fetch_job *job)
{
	const struct dz_request *r = &job->req;
	const struct dz_mount *m = &job->mount;
	size_t len = strlen(r->name);
	struct dz_key want;

	if (r->kind == DZ_KIND_DATA) {
		want = dz_names_file_key(m->data_id, m->prefix, r->name, len, r->etag);
		want = dz_block_key(want, r->blk);
	} else if (r->kind == DZ_KIND_DIR) {
		want = dz_names_dir_key(m->id, r->name, len);
	} else {
		want = dz_names_attr_key(m->id, r->name, len);
	}
	return dz_key_eq(want, job->key);
}

void dz_fetch_why(struct fetch_job *job, int err, const char *action)
{
	const struct dz_blob_res *r = &job->http.res;
	struct dz_request *req;

	if (job->lease == DZ_NONE || !dz_lease_holds(job->f->seg, job->lease, job->word))
		return;
	req = &job->f->seg->requests[job->lease];
	snprintf(req->why, sizeof(req->why), "%s %.96s/%.48s/%.24s%.180s: %s%s%.40s%s", action,
		 job->mount.endpoint, job->mount.container, job->mount.prefix, job->req.name,
		 dz_strerror(-err), r->error_code[0] ? " (" : "", r->error_code,
		 r->error_code[0] ? ")" : "");
}

void dz_fetch_end(struct fetch_job *job, int err)
{
	struct dz_fetcher *f = job->f;

	if (job->lease != DZ_NONE)
		dz_lease_finish(f->seg, job->lease, job->word, err);
	*job->link = job->after;
	if (job->after)
		job->after->link = job->link;
	if (job->req.flags & DZ_REQ_AHEAD)
		dz_fetch_ahead_ended(f);
	f->n_jobs--;
	free(job);
}

int dz_fetch_submit(struct fetch_job *job)
{
	memset(&job->http.res, 0, sizeof(job->http.res));
	job->http.mount = &job->mount;
	job->http.name = job->name;
	job->http.arg = job;
	return dz_blob_submit(job->f->blob, &job->http);
}

static void fetch_start(struct dz_fetcher *f, uint32_t idx, uint64_t word)
{
	struct fetch_job *job = calloc(1, sizeof(*job));
	int ret;

	if (!job) {
		dz_lease_finish(f->seg, idx, word, -ENOMEM);
		return;
	}
	job->f = f;
	job->lease = idx;
	job->word = word;
	job->slot = DZ_NONE;
	memcpy(&job->req, &f->seg->requests[idx], sizeof(job->req));
	job->req.name[DZ_NAME_MAX] = '\0';
	job->req.etag[DZ_ETAG_MAX - 1] = '\0';
	job->key.lo = atomic_load_explicit(&f->seg->leases[idx].key_lo, memory_order_relaxed);
	job->key.hi = atomic_load_explicit(&f->seg->leases[idx].key_hi, memory_order_relaxed);
	job->after = f->jobs;
	job->link = &f->jobs;
	if (f->jobs)
		f->jobs->link = &job->after;
	f->jobs = job;
	f->n_jobs++;
	ret = fetch_fill_mount(job);
	/* Not what was asked for under this key: it is asked again. */
	if (ret == 0 && !fetch_is_of_key(job))
		ret = -EAGAIN;
	if (ret < 0) {
		dz_fetch_end(job, ret);
		return;
	}
	snprintf(job->name, sizeof(job->name), "%.1023s%s", job->mount.prefix, job->req.name);
	if (job->req.kind == DZ_KIND_DATA)
		dz_fetch_data_start(job);
	else
		dz_fetch_names_start(job);
}

static bool fetch_is_ours(const struct dz_fetcher *f, uint32_t idx)
{
	uint32_t mount = f->seg->requests[idx].mount;

	return mount < f->seg->n_mounts && f->seg->mounts[mount].identity == f->opt.identity;
}

static void fetch_take(struct dz_fetcher *f, uint32_t idx)
{
	uint64_t word;

	if (idx < f->seg->n_leases && fetch_is_ours(f, idx) && dz_lease_claim(f->seg, idx, &word))
		fetch_start(f, idx, word);
}

static int fetch_by_block(const void *a, const void *b)
{
	const struct fetch_rung *x = a, *y = b;

	return (x->blk > y->blk) - (x->blk < y->blk);
}

/*
 * Blocks that are asked for at once get slots in their order, so that neighbours in
 * the file are neighbours in DRAM: a mapping of them is of fewer pieces, of huge pages.
 */
static void fetch_take_batch(struct dz_fetcher *f)
{
	qsort(f->rung, f->n_rung, sizeof(f->rung[0]), fetch_by_block);
	for (uint32_t i = 0; i < f->n_rung; i++)
		fetch_take(f, f->rung[i].idx);
	f->n_rung = 0;
}

static void fetch_note(struct dz_fetcher *f, uint32_t idx)
{
	/* Of another request by the time it is taken: then it comes out of order. */
	if (idx < f->seg->n_leases)
		f->rung[f->n_rung++] =
			(struct fetch_rung){ .blk = f->seg->requests[idx].blk, .idx = idx };
	if (f->n_rung == FETCH_BATCH)
		fetch_take_batch(f);
}

/* All requests that were rung, unless the disk cannot keep up. */
static void fetch_take_rung(struct dz_fetcher *f)
{
	_Atomic uint64_t *bits = &f->seg->pending[f->opt.agent * f->seg->pending_words];

	for (uint32_t w = 0; w < f->seg->pending_words; w++) {
		uint64_t rung;

		if (!dz_fetch_writer_has_room(f))
			break;
		if (!atomic_load_explicit(&bits[w], memory_order_relaxed))
			continue;
		/* Acquire: pairs with the release in dz_lease_ring(). */
		rung = atomic_exchange_explicit(&bits[w], 0, memory_order_acquire);
		for (; rung; rung &= rung - 1)
			fetch_note(f, w * 64 + (uint32_t)__builtin_ctzll(rung));
	}
	fetch_take_batch(f);
}

void dz_fetcher_rescan(struct dz_fetcher *f)
{
	for (uint32_t i = 0; i < f->seg->n_leases; i++) {
		uint64_t word = atomic_load_explicit(&f->seg->leases[i].word, memory_order_acquire);

		if (dz_lease_state(word) == DZ_LEASE_REQUESTED)
			fetch_note(f, i);
	}
	fetch_take_batch(f);
}

/* The client's counters, added to ours by what they grew. */
static void fetch_count(struct dz_fetcher *f)
{
	struct dz_stats *s = &f->seg->stats[(size_t)f->seg->member * DZ_STAT_STRIPES];
	struct dz_agent_rec *a = &f->seg->agents[f->opt.agent];
	struct dz_blob_stats now;

	if (f->seg->member >= f->seg->n_members)
		return;
	dz_blob_get_stats(f->blob, &now);
	dz_stat_add(&s->origin_requests, now.requests - f->last.requests);
	dz_stat_add(&s->origin_bytes, now.bytes - f->last.bytes);
	dz_stat_add(&s->origin_errors, now.errors - f->last.errors);
	dz_stat_add(&s->origin_retries, now.retries - f->last.retries);
	dz_stat_add(&s->origin_connections, now.connections - f->last.connections);
	atomic_store_explicit(&a->connections, now.open_now, memory_order_relaxed);
	atomic_store_explicit(&a->peak, now.peak_open, memory_order_relaxed);
	f->last = now;
}

/* Blob may take its time, with nothing to show for it: as long as we wait, so do others. */
static void fetch_renew(struct dz_fetcher *f)
{
	uint64_t now = dz_now_ms();

	if (now < f->renewed_ms + RENEW_MS)
		return;
	f->renewed_ms = now;
	for (struct fetch_job *job = f->jobs; job; job = job->after) {
		if (job->lease != DZ_NONE)
			dz_lease_holds(f->seg, job->lease, job->word);
	}
}

int dz_fetcher_pump(struct dz_fetcher *f, int timeout_ms, int wake_fd, uint32_t only)
{
	int ret;

	if (only == DZ_NONE) {
		dz_fetch_ahead_run(f);
		fetch_take_rung(f);
	} else
		fetch_take(f, only);
	fetch_renew(f);
	ret = dz_blob_pump(f->blob, timeout_ms, wake_fd);
	fetch_count(f);
	return ret < 0 ? ret : (int)f->n_jobs;
}

int dz_fetcher_open(struct dz_fetcher **out, const struct dz_fetch_options *opt)
{
	struct dz_blob_options bo = {
		.max_connections = 64,
		.budget_ms = 60000,
		.is_guest = !opt->has_writer_thread,
		.log = opt->log,
		.envp = opt->envp,
	};
	struct dz_fetcher *f = calloc(1, sizeof(*f));
	int ret;

	if (!f)
		return -ENOMEM;
	f->opt = *opt;
	f->seg = opt->seg;
	ret = dz_blob_open(&f->blob, &bo);
	if (ret < 0)
		goto err_free;
	if (opt->has_writer_thread)
		ret = dz_fetch_ahead_open(f);
	if (ret == 0 && opt->has_writer_thread && opt->disk)
		ret = dz_fetch_writer_open(f);
	if (ret < 0)
		goto err_blob;
	*out = f;
	return 0;

err_blob:
	dz_blob_close(f->blob);
	dz_fetch_ahead_close(f);
err_free:
	free(f);
	return ret;
}

void dz_fetcher_close(struct dz_fetcher *f)
{
	dz_blob_close(f->blob);
	dz_fetch_writer_close(f);
	dz_fetch_ahead_close(f);
	free(f);
}

void dz_fetcher_abandon(struct dz_fetcher *f)
{
	dz_blob_abandon(f->blob);
	free(f);
}

bool dz_fetcher_is_idle(const struct dz_fetcher *f)
{
	return f->n_jobs == 0 && dz_fetch_writer_is_idle(f);
}
