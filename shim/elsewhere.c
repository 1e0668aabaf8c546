/* SPDX-License-Identifier: MIT */
/*
 * Most paths are absolute, clean and not below a mount.  They are told here:
 *
 *  1. it begins as no mount does, nor as /proc and /dev, which have links to what is open;
 *  2. no "//", "/./", "/../" or their like at the end: nothing leads elsewhere.  That is
 *     one pass, 16 bytes at a time, in aligned loads: none reaches into a page that the
 *     path is not in, and what lies around the path does not count.
 *
 * Whatever is not sure takes the longer way (paths.c).
 */
#include "shim/fdtab.h"
#include "shim/hidden.h"
#include "shim/hooks.h"
#include "shim/paths.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

static uint64_t bit_of(const char *path)
{
	return 1ull << dz_path_bit(path);
}

void dz_path_start(void)
{
	uint64_t begins = bit_of("/proc") | bit_of("/dev");
	uint32_t i;

	for (i = 0; i < dz_config.n_mounts; i++)
		begins |= dz_config.mounts[i].local_len ? bit_of(dz_config.mounts[i].local) : ~0ull;
	dz_hot.begins = begins;
	dz_hot.has_hidden = dz_hidden_count > 0;
}

static bool begins_as(const char *path, const char *mount)
{
	while (*mount && *path == *mount) {
		path++;
		mount++;
	}
	return !*mount;
}

/* A second look, at all of it. */
static DZ_NOINLINE bool begins_as_ours(const char *path)
{
	uint32_t i;

	if (dz_fd_limit && (path[1] == 'p' || path[1] == 'd'))
		return true;
	for (i = 0; i < dz_config.n_mounts; i++)
		if (begins_as(path, dz_config.mounts[i].local))
			return true;
	return false;
}

#if defined(__SSE2__)

/*
 * Behind a slash stands another one or a dot, at each bit of `pairs`, counted from `at`.
 * The name of a hidden file is clean; a component that is dots only is not.
 */
static bool are_clean(const char *at, uint32_t pairs)
{
	for (; pairs; pairs &= pairs - 1) {
		const char *c = at + __builtin_ctz(pairs);

		if (c[0] == '/' || c[1] == '/' || c[1] == '.' || c[1] == '\0')
			return false;
	}
	return true;
}

/* 16 times the byte that is in `four` four times; not a constant in memory, which may be cold. */
static inline __m128i splat(uint32_t four)
{
	__asm__("" : "+r"(four));
	return _mm_set1_epi32((int)four);
}

static inline uint32_t bytes_that_are(__m128i bytes, __m128i c)
{
	return (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(bytes, c));
}

/* The first byte is a slash. */
static inline __attribute__((no_sanitize_address)) bool is_clean(const char *path)
{
	const char *at = (const char *)((uintptr_t)path & ~(uintptr_t)15);
	uint32_t before = ~0u << ((uintptr_t)path & 15);
	const __m128i slash = splat(0x2f2f2f2f);
	const __m128i dot = splat(0x2e2e2e2e);
	uint32_t carry = 0;

	for (;; at += 16, before = ~0u) {
		__m128i bytes = _mm_load_si128((const __m128i *)(const void *)at);
		uint32_t end = bytes_that_are(bytes, _mm_setzero_si128()) & before;
		uint32_t slashes = bytes_that_are(bytes, slash) & before;
		uint32_t pairs = (slashes << 1 | carry) & (slashes | bytes_that_are(bytes, dot));

		if (end) /* what stands behind it does not count */
			pairs &= (end & -end) - 1;
		if (pairs && !are_clean(at, pairs))
			return false;
		if (end)
			return true;
		carry = slashes >> 15;
	}
}

#else

static inline bool is_clean(const char *path)
{
	for (; *path; path++)
		if (path[0] == '/' && (path[1] == '/' || path[1] == '.'))
			return false;
	return true;
}

#endif

bool dz_path_is_elsewhere(const char *path)
{
	/* Left to who knows what it means. */
	if (dz_is_wild(path) || path[0] != '/')
		return false;
	if ((dz_hot.begins & bit_of(path)) && begins_as_ours(path))
		return false;
	return is_clean(path);
}
