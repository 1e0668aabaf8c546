/* SPDX-License-Identifier: MIT */
/* XXH3 (inlined from the system's header, so it adds no library). */
#ifndef DZ_HASH_H
#define DZ_HASH_H

#include "cache/base.h"

struct dz_key {
	uint64_t lo;
	uint64_t hi;
};

uint64_t dz_hash64(const void *data, size_t len, uint64_t seed);
struct dz_key dz_hash128(const void *data, size_t len, uint64_t seed);
/*
 * CRC-32C (Castagnoli), by SSE4.2 or ARM instructions where present.  `crc` is 0
 * for the first piece and the last result for the next: the CRC of a whole is
 * that of its pieces in turn.
 */
uint32_t dz_crc32c(uint32_t crc, const void *data, size_t len);
/* The same without the instruction: what the test compares with. */
uint32_t dz_crc32c_portable(uint32_t crc, const void *data, size_t len);

static inline bool dz_key_eq(struct dz_key a, struct dz_key b)
{
	return a.lo == b.lo && a.hi == b.hi;
}

#endif
