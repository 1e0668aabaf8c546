/* SPDX-License-Identifier: MIT */
/*
 * Counters of one member, in shared memory: they survive _exit and SIGKILL.
 * A thread adds to one of a few stripes with relaxed atomics; a reader sums.
 */
#ifndef DZ_STATS_H
#define DZ_STATS_H

#include "cache/layout.h"

#define DZ_STAT_STRIPES 4
#define DZ_STAT_CALLS	320 /* shim's enum of calls, see shim/hooks.def */

struct dz_stats {
	_Atomic uint64_t calls, bytes, errors;
	_Atomic uint64_t hits[DZ_TIERS];      /* blocks served, by where they were */
	_Atomic uint64_t hit_bytes[DZ_TIERS]; /* bytes served, by where they were */
	_Atomic uint64_t misses;	      /* blocks that had to be fetched */
	_Atomic uint64_t wait_ns;	      /* waiting for disk or network */
	_Atomic uint64_t bypass;
	_Atomic uint64_t origin_requests, origin_bytes, origin_errors, origin_retries,
		origin_connections; /* of fetchers: the agent, or inline */
	_Atomic uint64_t evictions, disk_writes, disk_write_bytes, crc_errors;
	_Atomic uint64_t name_hits, name_misses;
	_Atomic uint64_t uncached; /* reads and names for which DRAM had no room: past it */
	uint64_t pad0[6];
	_Atomic uint32_t by_call[DZ_STAT_CALLS];
	_Atomic uint32_t bypass_by_call[DZ_STAT_CALLS];
};
_Static_assert(sizeof(struct dz_stats) == 2816, "a stripe is 44 cache lines");

/* Adds n to a counter of a stripe. */
static inline void dz_stat_add(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

#endif
