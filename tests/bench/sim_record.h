/* SPDX-License-Identifier: MIT */
/*
 * A recording of `dz record` as accesses of the simulator: a read or a mapping uses
 * each block that it covers, in the order in which the calls ended.  Calls of a
 * thread that stay in the block of its last one are one access: a reader of 4 KiB
 * at a time would otherwise hit in every policy.
 */
#ifndef DZ_BENCH_SIM_RECORD_H
#define DZ_BENCH_SIM_RECORD_H

#include "cache/names.h"
#include "tests/bench/sim_policies.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct sim_record {
	struct trace t;
	uint8_t *group;	   /* of each block */
	uint64_t *key;	   /* of each block: path:32 | block of the file:32 */
	uint32_t *bucket;  /* block + 1 */
	uint8_t *paths;	   /* the group of each */
	uint64_t *threads; /* the last key of each, or UINT64_MAX */
	uint32_t n_paths, n_threads, n_buckets;
	uint64_t block_bytes, n_calls;
};

/* Room for one more of n, in steps of two. */
static inline void *sim_grown(void *at, size_t n, size_t size)
{
	void *more = n & (n - 1) ? at : reallocarray(at, n ? 2 * n : 1, size);

	if (!more)
		abort();
	return more;
}

static inline uint32_t *sim_bucket(const struct sim_record *r, uint64_t key)
{
	uint32_t b = (uint32_t)((key * 0x9e3779b97f4a7c15ull) >> 32) % r->n_buckets;

	while (r->bucket[b] && r->key[r->bucket[b] - 1] != key)
		b = (b + 1) % r->n_buckets;
	return &r->bucket[b];
}

static inline void sim_rehash(struct sim_record *r)
{
	free(r->bucket);
	r->n_buckets = r->n_buckets ? 4 * r->n_buckets : 4099;
	r->bucket = calloc(r->n_buckets, sizeof(*r->bucket));
	if (!r->bucket)
		abort();
	for (uint32_t i = 0; i < r->t.n_ids; i++)
		*sim_bucket(r, r->key[i]) = i + 1;
}

static inline void sim_access(struct sim_record *r, uint32_t thread, uint32_t path, uint64_t block)
{
	uint64_t key = (uint64_t)path << 32 | (uint32_t)block;
	uint32_t *at;

	if (r->threads[thread] == key)
		return;
	r->threads[thread] = key;
	if (2 * r->t.n_ids >= r->n_buckets)
		sim_rehash(r);
	at = sim_bucket(r, key);
	if (!*at) {
		r->key = sim_grown(r->key, r->t.n_ids, sizeof(*r->key));
		r->group = sim_grown(r->group, r->t.n_ids, 1);
		r->key[r->t.n_ids] = key;
		r->group[r->t.n_ids] = r->paths[path];
		*at = ++r->t.n_ids;
	}
	r->t.id = sim_grown(r->t.id, r->t.n, sizeof(*r->t.id));
	r->t.id[r->t.n++] = *at - 1;
}

static inline bool sim_path(struct sim_record *r, const char *line)
{
	uint32_t n;
	int at = 0;

	if (sscanf(line, "P %" SCNu32 " %n", &n, &at) != 1 || !at || n != r->n_paths)
		return false;
	r->paths = sim_grown(r->paths, r->n_paths, 1);
	r->paths[r->n_paths++] = (uint8_t)dz_names_group(1, line + at, strcspn(line + at, "\n"));
	return true;
}

static inline bool sim_thread(struct sim_record *r, const char *line)
{
	uint32_t n;

	if (sscanf(line, "T %" SCNu32, &n) != 1 || n != r->n_threads)
		return false;
	r->threads = sim_grown(r->threads, r->n_threads, sizeof(*r->threads));
	r->threads[r->n_threads++] = UINT64_MAX;
	return true;
}

static inline bool sim_call(struct sim_record *r, const char *line)
{
	uint32_t thread, path;
	uint64_t off, len;
	char op;

	if (sscanf(line, "%" SCNu32 " %*u %c %" SCNu32 " %" SCNu64 " %" SCNu64, &thread, &op, &path,
		   &off, &len) != 5 ||
	    thread >= r->n_threads || path >= r->n_paths)
		return false;
	if ((op != 'r' && op != 'm') || !len)
		return true;
	/* More than four thousand million blocks of a file are no recording. */
	if (len > UINT64_MAX - off || (off + len - 1) / r->block_bytes > UINT32_MAX)
		return false;
	for (uint64_t b = off / r->block_bytes; b <= (off + len - 1) / r->block_bytes; b++)
		sim_access(r, thread, path, b);
	r->n_calls++;
	return true;
}

/* False, and a line on standard error: there is no such recording. */
static inline bool sim_record_read(struct sim_record *r, const char *file, uint64_t block_bytes)
{
	FILE *from = fopen(file, "re");
	unsigned long number = 0;
	char *line = NULL;
	size_t cap = 0;
	bool ok = from != NULL;

	*r = (struct sim_record){ .block_bytes = block_bytes };
	while (ok && getline(&line, &cap, from) > 0)
		ok = ++number == 1    ? strcmp(line, "dz-record 1\n") == 0
		     : line[0] == 'P' ? sim_path(r, line)
		     : line[0] == 'T' ? sim_thread(r, line)
				      : sim_call(r, line);
	ok = ok && r->t.n;
	if (!from)
		perror(file);
	else if (!ok)
		fprintf(stderr, "%s: line %lu: not of a recording of reads\n", file, number);
	if (from)
		fclose(from);
	free(line);
	r->t.group = r->group;
	r->t.to = r->t.n;
	return ok;
}

static inline void sim_record_free(struct sim_record *r)
{
	free(r->t.id);
	free(r->group);
	free(r->key);
	free(r->bucket);
	free(r->paths);
	free(r->threads);
}

#endif
