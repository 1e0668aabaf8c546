/* SPDX-License-Identifier: MIT */
/*
 * A struct dz_seg in anonymous memory, shared with children, with the counts that
 * a test wants: no files, no locks.  Member 1 is ours and live; to others than
 * itself a member in state free is dead.
 */
#ifndef DZ_TEST_FAKE_SEG_H
#define DZ_TEST_FAKE_SEG_H

#include "cache/segment.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct fake_counts {
	uint32_t members, files, leases; /* 0: a few */
	uint32_t dram_slabs, disk_slabs, disk_slots;
	uint32_t buckets, freq; /* powers of two; 0: as dz_seg_open() does */
	uint32_t window;	/* 0: as dz_seg_open() does */
};

/*
 * Zeroed, shared with children, and with nothing mapped behind its end: a step
 * out of bounds is a SIGSEGV.  What is never touched costs nothing.
 */
static inline void *fake_alloc(uint64_t n, size_t size)
{
	size_t bytes = dz_round_up(n * size, 64), mapped = dz_round_up(bytes + 1, 4096);
	uint8_t *p = mmap(NULL, mapped + 4096, PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED || mprotect(p + mapped, 4096, PROT_NONE))
		abort();
	return p + mapped - bytes;
}

static inline void fake_free(void *p, uint64_t n, size_t size)
{
	size_t bytes = dz_round_up(n * size, 64), mapped = dz_round_up(bytes + 1, 4096);

	munmap((uint8_t *)p + bytes - mapped, mapped + 4096);
}

static inline uint32_t fake_pow2_up(uint64_t n)
{
	uint32_t p = 64;

	while (p < n)
		p <<= 1;
	return p;
}

static inline void fake_seg_init(struct dz_seg *seg, const struct fake_counts *n)
{
	uint64_t slots;

	memset(seg, 0, sizeof(*seg));
	seg->n_members = n->members ? n->members : 8;
	seg->n_files = n->files ? n->files : 64;
	seg->n_leases = n->leases ? n->leases : 64;
	seg->n_mounts = 4;
	seg->n_agents = 2;
	seg->n_dram_slabs = n->dram_slabs;
	seg->n_dram_slots = n->dram_slabs * DZ_SLAB_PAGES;
	seg->n_disk_slabs = n->disk_slabs;
	seg->n_disk_slots = n->disk_slots;
	slots = (uint64_t)seg->n_dram_slots + n->disk_slots;
	seg->n_buckets = n->buckets ? n->buckets : fake_pow2_up(slots / 4);
	seg->n_freq = n->freq ? n->freq : fake_pow2_up(slots);
	seg->n_window = n->window ? n->window : seg->n_dram_slots / 20 + 64;
	seg->held_words = (seg->n_files + 63) / 64;
	seg->pending_words = (seg->n_leases + 63) / 64;
	seg->dram_bytes = (uint64_t)n->dram_slabs * DZ_MIB;
	seg->disk_bytes = (uint64_t)n->disk_slabs * DZ_MIB;
	seg->hdr = fake_alloc(1, sizeof(*seg->hdr));
	seg->members = fake_alloc(seg->n_members, sizeof(*seg->members));
	seg->stats = fake_alloc(seg->n_members * DZ_STAT_STRIPES, sizeof(*seg->stats));
	seg->held = fake_alloc((uint64_t)seg->n_members * seg->held_words, 8);
	seg->mounts = fake_alloc(seg->n_mounts, sizeof(*seg->mounts));
	seg->agents = fake_alloc(seg->n_agents, sizeof(*seg->agents));
	seg->pending = fake_alloc((uint64_t)seg->n_agents * seg->pending_words, 8);
	seg->leases = fake_alloc(seg->n_leases, sizeof(*seg->leases));
	seg->requests = fake_alloc(seg->n_leases, sizeof(*seg->requests));
	seg->files = fake_alloc(seg->n_files, sizeof(*seg->files));
	seg->buckets = fake_alloc(seg->n_buckets, sizeof(*seg->buckets));
	seg->dram_slots = fake_alloc(seg->n_dram_slots, sizeof(*seg->dram_slots));
	seg->dram_slabs = fake_alloc(seg->n_dram_slabs, sizeof(*seg->dram_slabs));
	seg->disk_slots = fake_alloc(seg->n_disk_slots, sizeof(*seg->disk_slots));
	seg->disk_slabs = fake_alloc(seg->n_disk_slabs, sizeof(*seg->disk_slabs));
	seg->disk_map = fake_alloc((uint64_t)seg->n_disk_slabs * DZ_SLAB_PAGES, 4);
	seg->freq = fake_alloc(seg->n_freq, 2);
	seg->window = fake_alloc(seg->n_window, 4);
	seg->dram = fake_alloc(seg->dram_bytes, 1);
	seg->member = 1;
	atomic_store(&seg->members[1].state, DZ_MEMBER_LIVE);
	seg->dir_fd = seg->lock_fd = seg->dram_fd = -1;
	seg->is_private = true;
}

static inline void fake_seg_fini(struct dz_seg *seg)
{
	fake_free(seg->hdr, 1, sizeof(*seg->hdr));
	fake_free(seg->members, seg->n_members, sizeof(*seg->members));
	fake_free(seg->stats, seg->n_members * DZ_STAT_STRIPES, sizeof(*seg->stats));
	fake_free(seg->held, (uint64_t)seg->n_members * seg->held_words, 8);
	fake_free(seg->mounts, seg->n_mounts, sizeof(*seg->mounts));
	fake_free(seg->agents, seg->n_agents, sizeof(*seg->agents));
	fake_free(seg->pending, (uint64_t)seg->n_agents * seg->pending_words, 8);
	fake_free(seg->leases, seg->n_leases, sizeof(*seg->leases));
	fake_free(seg->requests, seg->n_leases, sizeof(*seg->requests));
	fake_free(seg->files, seg->n_files, sizeof(*seg->files));
	fake_free(seg->buckets, seg->n_buckets, sizeof(*seg->buckets));
	fake_free(seg->dram_slots, seg->n_dram_slots, sizeof(*seg->dram_slots));
	fake_free(seg->dram_slabs, seg->n_dram_slabs, sizeof(*seg->dram_slabs));
	fake_free(seg->disk_slots, seg->n_disk_slots, sizeof(*seg->disk_slots));
	fake_free(seg->disk_slabs, seg->n_disk_slabs, sizeof(*seg->disk_slabs));
	fake_free(seg->disk_map, (uint64_t)seg->n_disk_slabs * DZ_SLAB_PAGES, 4);
	fake_free(seg->freq, seg->n_freq, 2);
	fake_free(seg->window, seg->n_window, 4);
	fake_free(seg->dram, seg->dram_bytes, 1);
}

#endif
