/* SPDX-License-Identifier: MIT */
/*
 * What every file here may use: attributes, rounding, and the limits that the
 * shared layout, the Blob client and the shim have in common.  No state, no
 * code that can fail.
 */
#ifndef DZ_BASE_H
#define DZ_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define DZ_EXPORT	     __attribute__((visibility("default")))
#define DZ_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define DZ_NODISCARD	     __attribute__((warn_unused_result))
#define DZ_UNUSED	     __attribute__((unused))
/* Runs fn(&variable) when the variable leaves its scope. */
#define DZ_AUTO(fn) __attribute__((cleanup(fn)))

#define DZ_ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define DZ_KIB		((uint64_t)1 << 10)
#define DZ_MIB		((uint64_t)1 << 20)
#define DZ_GIB		((uint64_t)1 << 30)

/* Unit of keys, checksums and fetching: an aligned piece of a blob. */
#define DZ_BLOCK_BYTES DZ_MIB
/* Unit in which the progress of a block is published (16 a block). */
#define DZ_PIECE_BYTES (64 * DZ_KIB)
#define DZ_PIECES      16
/* Azure: a blob name has at most 1,024 characters. */
#define DZ_NAME_MAX 1024
/* An ETag without its quotes; Azure's are 17 to 19 characters. */
#define DZ_ETAG_MAX   64
#define DZ_MOUNTS_MAX 16

static inline uint64_t dz_min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t dz_max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* `to` is a power of two. */
static inline uint64_t dz_round_up(uint64_t n, uint64_t to)
{
	return (n + to - 1) & ~(to - 1);
}

static inline uint64_t dz_div_up(uint64_t n, uint64_t by)
{
	return (n + by - 1) / by;
}

#endif
