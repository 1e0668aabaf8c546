/* SPDX-License-Identifier: MIT */
/*
 * A disk that is slower than Blob is worse than none.  A GET of a block takes 20 to 50 ms,
 * one in a hundred some 200; so an I/O is slow when it takes longer than half a second and
 * what its bytes take at 4 MB/s.  Each adds to a score, but no more than one in half a
 * second: what stood in one queue is one event.  Each other I/O takes 1 off.  16 slow ones
 * (8 seconds at least), being more than a fifth of all, switch the tier off for a minute,
 * the next time for two, up to an hour.  All members count together, by relaxed stores:
 * what two of them lose to each other is one point.
 */
#include "cache/disk_priv.h"

#define SLOW_MS	      500u
#define SLOW_PER_MS   4000u /* bytes */
#define SLOW_POINTS   4u
#define SLOW_MAX      64u
#define OFF_MS	      ((uint64_t)60000)
#define OFF_SHIFT_MAX 6u

/* The first of those who come to it says so. */
static void slow_off(const struct dz_disk *disk, uint32_t len, uint64_t ms)
{
	struct dz_seg_header *h = disk->seg->hdr;
	uint64_t off = atomic_load_explicit(&h->disk_off, memory_order_relaxed), for_ms;
	uint32_t times = atomic_load_explicit(&h->disk_slow_off, memory_order_relaxed);

	for_ms = dz_min_u64(OFF_MS << (times < OFF_SHIFT_MAX ? times : OFF_SHIFT_MAX), 60 * OFF_MS);
	if (dz_disk_off(h) != DZ_DISK_ON ||
	    !atomic_compare_exchange_strong(&h->disk_off, &off, dz_now_ms() + for_ms))
		return;
	atomic_store_explicit(&h->disk_slow_off, times + 1, memory_order_relaxed);
	atomic_store_explicit(&h->disk_slow, 0, memory_order_relaxed);
	dz_warn(disk->log,
		"disk tier %s: slower than Blob, the last %u KiB took %llu ms: off for %llu s; "
		"DELTAZERO_CACHE_DIR wants a local NVMe disk",
		disk->dir, (unsigned int)(len / 1024), (unsigned long long)ms,
		(unsigned long long)for_ms / 1000);
}

void dz_disk_took(const struct dz_disk *disk, uint32_t len, uint64_t ms)
{
	struct dz_seg_header *h = disk->seg->hdr;
	uint32_t score = atomic_load_explicit(&h->disk_slow, memory_order_relaxed);
	uint64_t now;

	if (ms <= SLOW_MS + len / SLOW_PER_MS) {
		if (score > 0)
			atomic_store_explicit(&h->disk_slow, score - 1, memory_order_relaxed);
		return;
	}
	now = dz_now_ms();
	if (now - atomic_load_explicit(&h->disk_slow_ms, memory_order_relaxed) < SLOW_MS)
		return;
	atomic_store_explicit(&h->disk_slow_ms, now, memory_order_relaxed);
	score = (uint32_t)dz_min_u64(score, SLOW_MAX) + SLOW_POINTS;
	atomic_store_explicit(&h->disk_slow, score, memory_order_relaxed);
	if (score >= SLOW_MAX)
		slow_off(disk, len, ms);
}
