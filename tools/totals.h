/* SPDX-License-Identifier: MIT */
/*
 * The counters of a whole cache, summed over its members, as `dz stat` and the
 * report of `dz run` show them.  They only grow while the cache exists, so a
 * difference of two readings is what happened between them.
 */
#ifndef DZ_TOTALS_H
#define DZ_TOTALS_H

#include "cache/config.h"
#include "cache/stats.h"

#include <stdio.h>

#include "tools/json.h"

struct dz_totals {
	/* counters, each a uint64_t */
	uint64_t calls, bytes, errors;
	uint64_t hits[DZ_TIERS];
	uint64_t hit_bytes[DZ_TIERS];
	uint64_t misses, wait_ns;
	uint64_t origin_requests, origin_bytes, origin_errors, origin_retries, origin_connections;
	uint64_t uncached, evictions, crc_errors, disk_writes, disk_write_bytes;
	uint64_t name_hits, name_misses;
	uint64_t by_call[DZ_STAT_CALLS];
	uint64_t bypass, bypass_by_call[DZ_STAT_CALLS];
	/* as they are now */
	uint64_t dram_used, dram_size, disk_used, disk_size;
	uint32_t members;
	bool is_disk_off;      /* the tier switched itself off */
	bool is_disk_slow;     /* for a while */
	char dir[DZ_PATH_MAX]; /* where the segment is; "" when there is none */
};

/*
 * Reads without joining.  Returns 0, -ENOENT when there is no cache (`t` is all
 * zeros then), or the -errno of opening it.
 */
int dz_totals_read(struct dz_totals *t, const struct dz_config *cfg);
/*
 * The same, when the agent has counted its last requests too: two readings are
 * alike, or half a second has passed.
 */
int dz_totals_settled(struct dz_totals *t, const struct dz_config *cfg);
/* What was counted since `before`; sizes and members stay those of now. */
void dz_totals_since(struct dz_totals *t, const struct dz_totals *before);
/* One JSON object without a newline, each line after the first indented by `indent`. */
void dz_totals_json(FILE *to, const struct dz_totals *t, const char *indent);
/* The text format of Prometheus. */
void dz_totals_prometheus(FILE *to, const struct dz_totals *t);
/* For people. */
void dz_totals_print(FILE *to, const struct dz_totals *t);

#endif
