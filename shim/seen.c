/* SPDX-License-Identifier: MIT */
#include "shim/seen.h"

#include "cache/sys.h"

#include <stdatomic.h>
#include <string.h>

#define SEEN	  256
#define TIME_MASK 0xffffffull /* of a word; what is above is the hash's */

static _Atomic uint64_t words[SEEN];
static _Atomic uint32_t changes;

static uint64_t hash_of(enum dz_seen_kind kind, const char *path, size_t len)
{
	uint64_t h = (uint64_t)kind << 32 | atomic_load_explicit(&changes, memory_order_relaxed);
	uint64_t piece = 0;

	for (h += len << 40; len > 0; path += sizeof(piece)) {
		size_t n = len < sizeof(piece) ? len : sizeof(piece);

		if (n < sizeof(piece))
			piece = 0;
		memcpy(&piece, path, n);
		h = (h ^ piece) * 0x9e3779b97f4a7c15ull;
		h ^= h >> 32;
		len -= n;
	}
	return h * 0x9e3779b97f4a7c15ull;
}

bool dz_seen(enum dz_seen_kind kind, const char *path, size_t len)
{
	uint64_t h = hash_of(kind, path, len);
	uint64_t word = atomic_load_explicit(&words[h % SEEN], memory_order_relaxed);

	if ((word ^ h) & ~TIME_MASK)
		return false;
	return ((dz_now_ms() - word) & TIME_MASK) < DZ_SEEN_MS;
}

void dz_seen_note(enum dz_seen_kind kind, const char *path, size_t len)
{
	uint64_t h = hash_of(kind, path, len);

	atomic_store_explicit(&words[h % SEEN], (h & ~TIME_MASK) | (dz_now_ms() & TIME_MASK),
			      memory_order_relaxed);
}

void dz_seen_forget(void)
{
	atomic_fetch_add_explicit(&changes, 1, memory_order_relaxed);
}
