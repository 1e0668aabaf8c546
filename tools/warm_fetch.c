// SPDX-License-Identifier: MIT
/* Planning, fetching and looking again: what dz warm does with its files. */
#include "tools/warm.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/index.h"
#include "tools/disk_check.h"
#include "tools/dz.h"
#include "tools/human.h"
#include "tools/price.h"
#include "tools/totals.h"

/* Blocks that all threads together have asked for and do not yet wait for. */
#define AHEAD_BLOCKS 128u

/* Slot of a block on disk, or DZ_NONE; *in_dram: all its bytes are in memory. */
static uint32_t find_block(const struct dz_engine *e, const struct dz_ofile *f, uint64_t blk,
			   uint32_t len, bool *in_dram)
{
	struct dz_key key = dz_block_key((struct dz_key){ f->key_lo, f->key_hi }, blk);
	uint64_t ctl;

	*in_dram = dz_dram_has(&e->seg, key, dz_pieces(0, len));
	return e->disk ? dz_index_find(&e->seg, key, DZ_TIER_DISK, &ctl) : DZ_NONE;
}

static bool is_cached(const struct dz_engine *e, const struct dz_ofile *f, uint64_t blk,
		      uint32_t len)
{
	bool in_dram;

	return find_block(e, f, blk, len, &in_dram) != DZ_NONE || in_dram;
}

static uint32_t block_len(const struct dz_ofile *f, uint64_t blk)
{
	return (uint32_t)dz_min_u64(DZ_BLOCK_BYTES, f->size - blk * DZ_BLOCK_BYTES);
}

static bool is_interrupted(const struct dz_warm *w)
{
	return atomic_load_explicit(w->interrupted, memory_order_relaxed);
}

/* Runs fn over every file's open description. */
typedef int file_fn(struct dz_warm *w, dz_fh fh, const struct dz_ofile *f, void *arg);

static int with_file(struct dz_warm *w, const struct dz_warm_file *file, file_fn *fn, void *arg)
{
	const struct dz_ofile *f;
	dz_fh fh;
	int ret = dz_engine_open_file(w->engine, file->mount, file->name, strlen(file->name),
				      O_RDONLY, &fh);

	if (ret < 0)
		return ret;
	f = dz_file_get(&w->engine->seg, fh);
	ret = f ? fn(w, fh, f, arg) : -EBADF;
	dz_engine_close_file(w->engine, fh);
	return ret;
}

static void tell_error(struct dz_warm *w, const struct dz_warm_file *file, int err)
{
	const char *local = w->engine->cfg.mounts[file->mount].local;
	char path[DZ_PATH_MAX + DZ_NAME_MAX];

	snprintf(path, sizeof(path), "%s/%s", local, file->name);
	if (w->json) {
		fputs("{\"event\": \"error\", \"path\": ", stdout);
		dz_json_string(stdout, path);
		fputs(", \"error\": ", stdout);
		dz_json_string(stdout, dz_strerror(err));
		puts("}");
	} else {
		fputs(w->progress.is_bar ? "\r\033[K" : "", stderr);
		dz_fail("warm", "%s: %s", path, dz_strerror(err));
	}
}

/* ---- what would be fetched ---- */

static int plan_file(struct dz_warm *w, dz_fh fh, const struct dz_ofile *f, void *arg)
{
	uint64_t n = dz_div_up(f->size, DZ_BLOCK_BYTES);

	(void)fh;
	(void)arg;
	for (uint64_t blk = 0; blk < n; blk++) {
		uint32_t len = block_len(f, blk);

		if (is_cached(w->engine, f, blk, len)) {
			w->cached_bytes += len;
			continue;
		}
		w->missing_bytes += len;
		w->missing_blocks++;
	}
	return 0;
}

static void print_plan(const struct dz_warm *w, double usd)
{
	char bytes[DZ_HUMAN_BYTES], cached[DZ_HUMAN_BYTES], missing[DZ_HUMAN_BYTES];

	if (w->json) {
		printf("{\"event\": \"plan\", \"files\": %zu, \"bytes\": %" PRIu64
		       ", \"cached_bytes\": %" PRIu64 ", \"fetch_bytes\": %" PRIu64
		       ", \"gets\": %" PRIu64 ", \"lists\": %" PRIu64
		       ", \"price_usd\": %.6f, \"price_note\": \"" DZ_PRICE_NOTE "\"}\n",
		       w->n_files, w->bytes, w->cached_bytes, w->missing_bytes, w->missing_blocks,
		       w->directories, usd);
		return;
	}
	printf("%zu files, %s: %s are cached, %s would be fetched by %" PRIu64
	       " GETs for USD %.4f\n(%s)\n",
	       w->n_files, dz_human(w->bytes, bytes), dz_human(w->cached_bytes, cached),
	       dz_human(w->missing_bytes, missing), w->missing_blocks, usd, DZ_PRICE_NOTE);
}

/* Does all of it fit?  Said before, because the last files would push the first out. */
static void tell_space(const struct dz_warm *w)
{
	uint64_t room = w->engine->seg.dram_bytes + w->engine->seg.disk_bytes;
	char a[DZ_HUMAN_BYTES], b[DZ_HUMAN_BYTES];

	if (w->bytes > room)
		fprintf(stderr,
			"dz warm: %s are more than the cache can hold (%s): raise "
			"DELTAZERO_DISK_SIZE, or warm a part\n",
			dz_human(w->bytes, a), dz_human(room, b));
}

int dz_warm_plan(struct dz_warm *w)
{
	for (size_t i = 0; i < w->n_files && !is_interrupted(w); i++) {
		int ret = with_file(w, &w->files[i], plan_file, NULL);

		if (ret < 0) {
			tell_error(w, &w->files[i], ret);
			w->failed_files++;
		}
	}
	tell_space(w);
	print_plan(w, dz_price((double)w->missing_blocks, w->price) +
			      dz_price((double)w->directories, DZ_PRICE_LIST));
	return is_interrupted(w) ? 130 : w->failed_files ? DZ_EXIT_NO : DZ_EXIT_OK;
}

/* ---- fetching ---- */

struct worker {
	struct dz_warm *w;
	uint8_t *buf; /* DZ_BLOCK_BYTES */
	uint32_t window;
	bool was_cached[AHEAD_BLOCKS + 1]; /* before we asked, by block % its length */
};

static void count_block(struct dz_warm *w, uint32_t len, bool was_cached)
{
	pthread_mutex_lock(&w->lock);
	*(was_cached ? &w->cached_bytes : &w->fetched_bytes) += len;
	w->progress.done_bytes += len;
	w->progress.moved_bytes += was_cached ? 0 : len;
	dz_progress_show(&w->progress);
	pthread_mutex_unlock(&w->lock);
}

/* Asks for [from, to), and remembers what need not be asked for. */
static void ask_ahead(struct worker *me, dz_fh fh, const struct dz_ofile *f, uint64_t from,
		      uint64_t to)
{
	for (uint64_t blk = from; blk < to; blk++)
		me->was_cached[blk % DZ_ARRAY_LEN(me->was_cached)] =
			is_cached(me->w->engine, f, blk, block_len(f, blk));
	if (from < to)
		dz_engine_advise(me->w->engine, fh, from * DZ_BLOCK_BYTES,
				 (to - from) * DZ_BLOCK_BYTES, POSIX_FADV_WILLNEED);
}

static int fetch_file(struct dz_warm *w, dz_fh fh, const struct dz_ofile *f, void *arg)
{
	struct worker *me = arg;
	uint64_t n = dz_div_up(f->size, DZ_BLOCK_BYTES), asked = 0;

	for (uint64_t blk = 0; blk < n && !is_interrupted(w); blk++) {
		uint32_t len = block_len(f, blk);
		uint64_t last = dz_min_u64(blk + me->window, n);
		bool was_cached;

		ask_ahead(me, fh, f, asked, last);
		asked = dz_max_u64(asked, last);
		was_cached = me->was_cached[blk % DZ_ARRAY_LEN(me->was_cached)];
		if (!was_cached) {
			ssize_t got =
				dz_engine_pread(w->engine, fh, me->buf, len, blk * DZ_BLOCK_BYTES);

			if (got != (ssize_t)len)
				return got < 0 ? (int)got : -EIO;
		}
		count_block(w, len, was_cached);
	}
	return 0;
}

static void *work(void *arg)
{
	struct worker *me = arg;
	struct dz_warm *w = me->w;

	while (!is_interrupted(w)) {
		struct dz_warm_file *file;
		int ret;

		pthread_mutex_lock(&w->lock);
		file = w->next < w->n_files ? &w->files[w->next++] : NULL;
		pthread_mutex_unlock(&w->lock);
		if (!file)
			break;
		ret = with_file(w, file, fetch_file, me);
		pthread_mutex_lock(&w->lock);
		w->progress.done_files++;
		if (ret < 0) {
			w->failed_files++;
			tell_error(w, file, ret);
		}
		dz_progress_show(&w->progress);
		pthread_mutex_unlock(&w->lock);
	}
	return NULL;
}

/* As many threads as it takes; without any, this one. */
static int run_workers(struct dz_warm *w)
{
	static struct worker workers[DZ_WARM_JOBS_MAX];
	static pthread_t threads[DZ_WARM_JOBS_MAX];
	uint32_t n = (uint32_t)dz_max_u64(1, dz_min_u64(w->jobs, w->n_files)), started = 0;
	uint32_t ahead = (uint32_t)dz_min_u64(AHEAD_BLOCKS, w->engine->seg.n_dram_slabs / 4);
	int ret = 0;

	for (uint32_t i = 0; i < n; i++) {
		workers[i] = (struct worker){ .w = w, .window = ahead / n ? ahead / n : 1 };
		workers[i].buf = malloc(DZ_BLOCK_BYTES);
		if (!workers[i].buf)
			break;
		if (pthread_create(&threads[started], NULL, work, &workers[i]) == 0)
			started++;
	}
	if (started == 0 && workers[0].buf)
		work(&workers[0]);
	else if (started == 0)
		ret = -ENOMEM;
	for (uint32_t i = 0; i < started; i++)
		pthread_join(threads[i], NULL);
	for (uint32_t i = 0; i < n; i++)
		free(workers[i].buf);
	return ret;
}

/* ---- looking again ---- */

static int look_again(struct dz_warm *w, dz_fh fh, const struct dz_ofile *f, void *arg)
{
	struct dz_disk_check *check = arg;
	uint64_t n = dz_div_up(f->size, DZ_BLOCK_BYTES);

	(void)fh;
	for (uint64_t blk = 0; blk < n; blk++) {
		uint32_t len = block_len(f, blk);
		bool in_dram;
		uint32_t slot = find_block(w->engine, f, blk, len, &in_dram);

		if (slot != DZ_NONE && check)
			dz_disk_check_slot(check, slot);
		if (slot == DZ_NONE && !in_dram) {
			w->missing_bytes += len;
			w->missing_blocks++;
		}
	}
	return 0;
}

/* Sets missing_*; returns how many blocks failed their checksum, or -errno. */
static int64_t verify(struct dz_warm *w)
{
	static struct dz_disk_check check;
	bool has_disk = w->engine->disk;
	int ret = has_disk ? dz_disk_check_open(&check, w->engine, NULL) : 0;

	if (ret < 0)
		return ret;
	for (size_t i = 0; i < w->n_files && !is_interrupted(w); i++) {
		ret = with_file(w, &w->files[i], look_again, has_disk ? &check : NULL);
		if (ret < 0)
			tell_error(w, &w->files[i], ret);
	}
	if (has_disk)
		dz_disk_check_close(&check);
	return (int64_t)(check.bad + check.failed);
}

/* ---- the command ---- */

static void print_end(const struct dz_warm *w, double seconds, uint64_t requests, bool verified,
		      int64_t bad)
{
	char fetched[DZ_HUMAN_BYTES], cached[DZ_HUMAN_BYTES], rate[DZ_HUMAN_BYTES];
	char took[DZ_HUMAN_BYTES], missing[DZ_HUMAN_BYTES];
	double per_second = seconds > 0 ? (double)w->fetched_bytes / seconds : 0;
	double usd = dz_price((double)requests, w->price);

	if (w->json) {
		printf("{\"event\": \"done\", \"files\": %zu, \"failed_files\": %" PRIu64
		       ", \"bytes\": %" PRIu64 ", \"fetched_bytes\": %" PRIu64
		       ", \"cached_bytes\": %" PRIu64 ", \"seconds\": %.3f"
		       ", \"bytes_per_second\": %.0f, \"requests\": %" PRIu64
		       ", \"price_usd\": %.6f, \"interrupted\": %s",
		       w->n_files, w->failed_files, w->bytes, w->fetched_bytes, w->cached_bytes,
		       seconds, per_second, requests, usd, is_interrupted(w) ? "true" : "false");
		if (verified)
			printf(", \"missing_bytes\": %" PRIu64 ", \"bad_blocks\": %" PRId64,
			       w->missing_bytes, bad);
		puts("}");
		return;
	}
	printf("%zu files: %s fetched in %s (%s/s), %s were cached; %" PRIu64
	       " requests, USD %.4f\n",
	       w->n_files, dz_human(w->fetched_bytes, fetched), dz_human_time(seconds, took),
	       dz_human((uint64_t)per_second, rate), dz_human(w->cached_bytes, cached), requests,
	       usd);
	if (is_interrupted(w))
		puts("Interrupted: the same command goes on where this one stopped.");
	if (verified && w->missing_blocks)
		printf("%s are not in the cache: it has no room for all of it\n",
		       dz_human(w->missing_bytes, missing));
	if (verified)
		printf("%" PRId64 " blocks on disk failed their checksum\n", bad);
}

int dz_warm_fetch(struct dz_warm *w, bool is_verify)
{
	static struct dz_totals before, after;
	int64_t bad = 0;
	double seconds;
	int ret;

	tell_space(w);
	pthread_mutex_init(&w->lock, NULL);
	w->progress.total_bytes = w->bytes;
	w->progress.total_files = w->n_files;
	dz_totals_read(&before, &w->engine->cfg);
	dz_progress_start(&w->progress, w->json);
	ret = w->n_files ? run_workers(w) : 0;
	seconds = dz_progress_end(&w->progress);
	dz_totals_settled(&after, &w->engine->cfg);
	dz_totals_since(&after, &before);
	if (ret == 0 && is_verify && !is_interrupted(w)) {
		bad = verify(w);
		ret = bad < 0 ? (int)bad : 0;
	}
	if (ret < 0)
		return dz_fail("warm", "%s", dz_strerror(ret));
	print_end(w, seconds, after.origin_requests, is_verify, bad);
	if (is_interrupted(w))
		return 130;
	return w->failed_files || w->missing_blocks || bad ? DZ_EXIT_NO : DZ_EXIT_OK;
}
