/* SPDX-License-Identifier: MIT */
/*
 * The parts of `dz top`: top_sample reads the cache's counters twice and subtracts,
 * top_files and top_family do so for files and find out who belongs to whom,
 * top_draw makes lines of it, cmd_top has the options and the terminal.
 */
#ifndef DZ_TOOLS_TOP_H
#define DZ_TOOLS_TOP_H

#include "cache/segment.h"

#include <stdio.h>

/* What was counted: struct dz_stats without the arrays by call. */
struct top_counts {
	uint64_t calls, bytes, errors;
	uint64_t hits[DZ_TIERS];
	uint64_t hit_bytes[DZ_TIERS];
	uint64_t misses, wait_ns, bypass;
	uint64_t origin_requests, origin_bytes, origin_errors, origin_retries, origin_connections;
	uint64_t evictions, disk_writes, disk_write_bytes, crc_errors;
	uint64_t name_hits, name_misses, uncached;
};

struct top_process {
	uint32_t pid, parent; /* parent: its pid, 0 not known */
	bool is_agent;
	bool is_here; /* its number is one of our own PID namespace */
	char comm[16];
	uint64_t since_ms; /* with pid: who it is */
	struct top_counts all;
	struct top_counts now; /* since the last sample */
	uint32_t open_files;
};

struct top_file {
	char name[256];
	uint64_t size, at; /* the furthest reader's position */
	uint32_t opens;
	uint64_t bytes; /* read since the last sample, about */
};

#define TOP_FILES_MAX 64
struct top_sample {
	uint64_t ns;	/* CLOCK_MONOTONIC */
	double seconds; /* since the last sample */
	struct top_process *processes;
	uint32_t n_processes;
	struct top_counts all, now;
	struct top_file files[TOP_FILES_MAX];
	uint32_t n_files; /* the hottest of those that are open or were read */
	uint32_t n_open;
	uint64_t dram_used, dram_size, disk_used, disk_size;
	char dir[DZ_PATH_MAX];
};

struct top; /* the mapped cache and what was seen last */

struct top *top_new(const struct dz_config *cfg);
/* 0, or -ENOENT there is no cache (now), or another -errno. */
int top_take(struct top *t, struct top_sample *s);
void top_sample_free(struct top_sample *s);
void top_free(struct top *t);

/* What record n of the open files had counted at the last sample: an array of n_files. */
struct top_seen {
	uint32_t generation;
	uint64_t bytes;
};
void top_read_files(const struct dz_seg *seg, struct top_seen *seen, bool is_first,
		    struct top_sample *s);
/* Of processes that were not forked from another of them. */
void top_find_parents(struct top_sample *s);

enum top_order { TOP_BY_BYTES, TOP_BY_CALLS, TOP_BY_WAIT, TOP_BY_PID, TOP_ORDERS };
extern const char *const top_order_names[TOP_ORDERS];
void top_sort(struct top_sample *s, enum top_order order);

/* Lines without escapes, at most `rows` of `columns`; 0 rows: all. */
void top_draw(FILE *to, const struct top_sample *s, uint32_t rows, uint32_t columns,
	      enum top_order order);
void top_json(FILE *to, const struct top_sample *s);

#endif
