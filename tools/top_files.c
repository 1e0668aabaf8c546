// SPDX-License-Identifier: MIT
/*
 * The files of dz top: which were read most since the last sample.
 *
 * An open file counts what is read through it (read_count() in cache/read.c).  Its
 * record is used again only when all others have been, so one that was opened, read
 * and closed between two samples is still there to be seen.  A record that had two
 * files meanwhile has forgotten the first: where a job opens more files between two
 * samples than there are records, what is shown is a part of them.
 */
#include "tools/top.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* What a record has counted for its file since the last sample. */
struct found {
	uint32_t n;
	bool is_open;
	uint64_t key_lo, key_hi; /* which blob, at which ETag */
	uint64_t bytes;
};

static uint64_t load(const _Atomic uint64_t *word)
{
	return atomic_load_explicit(word, memory_order_relaxed);
}

/* The generation goes up when a file is closed: that of the last one is below it. */
static uint32_t generation(uint64_t ctl)
{
	return (uint32_t)(ctl >> 32) - ((ctl & 0xff) == DZ_FILE_FREE);
}

static bool is_shown(const struct dz_ofile *f, uint64_t ctl)
{
	return ((ctl & 0xff) == DZ_FILE_OPEN || (ctl & 0xff) == DZ_FILE_FREE) && f->name_len &&
	       f->name_len <= DZ_NAME_MAX && S_ISREG(f->mode);
}

/* Record n: what it adds; false: nothing that is to be shown. */
static bool find(const struct dz_ofile *f, struct top_seen *seen, struct found *out)
{
	uint64_t ctl = atomic_load_explicit(&f->ctl, memory_order_acquire);
	uint64_t bytes = load(&f->read_bytes), before;

	if (!is_shown(f, ctl))
		return false;
	before = seen->generation == generation(ctl) && seen->bytes <= bytes ? seen->bytes : 0;
	*out = (struct found){ .is_open = (ctl & 0xff) == DZ_FILE_OPEN,
			       .key_lo = f->key_lo,
			       .key_hi = f->key_hi,
			       .bytes = bytes - before };
	seen->generation = generation(ctl);
	seen->bytes = bytes;
	return out->is_open || out->bytes;
}

static int by_key(const void *a, const void *b)
{
	const struct found *x = a, *y = b;

	if (x->key_lo != y->key_lo)
		return x->key_lo < y->key_lo ? -1 : 1;
	if (x->key_hi != y->key_hi)
		return x->key_hi < y->key_hi ? -1 : 1;
	return 0;
}

static int by_heat(const void *a, const void *b)
{
	const struct top_file *x = a, *y = b;

	if (x->bytes != y->bytes)
		return x->bytes > y->bytes ? -1 : 1;
	if (x->opens != y->opens)
		return x->opens > y->opens ? -1 : 1;
	return strcmp(x->name, y->name);
}

static void add(struct top_file *file, const struct found *x, const struct dz_ofile *f)
{
	file->size = f->size;
	file->bytes += x->bytes;
	file->opens += x->is_open;
	if (x->is_open)
		file->at = dz_max_u64(file->at, load(&f->pos));
	memcpy(file->name, f->name, sizeof(file->name) - 1);
}

/* Those of one key are one file; the hottest of them go to the sample. */
static void join(struct top_sample *s, const struct found *all, uint32_t n,
		 const struct dz_ofile *files)
{
	struct top_file *out = calloc(n + 1, sizeof(*out));
	uint32_t n_out = 0;

	if (!out)
		abort();
	for (uint32_t i = 0; i < n; i++) {
		n_out += i == 0 || by_key(&all[i - 1], &all[i]) != 0;
		add(&out[n_out - 1], &all[i], &files[all[i].n]);
	}
	qsort(out, n_out, sizeof(*out), by_heat);
	s->n_files = (uint32_t)dz_min_u64(n_out, TOP_FILES_MAX);
	memcpy(s->files, out, s->n_files * sizeof(*out));
	free(out);
}

void top_read_files(const struct dz_seg *seg, struct top_seen *seen, bool is_first,
		    struct top_sample *s)
{
	struct found *all = calloc(seg->n_files + 1, sizeof(*all));
	uint32_t n = 0;

	if (!all)
		abort();
	for (uint32_t i = 0; i < seg->n_files; i++) {
		if (!find(&seg->files[i], &seen[i], &all[n]))
			continue;
		s->n_open += all[n].is_open;
		all[n].n = i;
		if (is_first)
			all[n].bytes = 0;
		n += all[n].is_open || all[n].bytes;
	}
	qsort(all, n, sizeof(*all), by_key);
	join(s, all, n, seg->files);
	free(all);
}
