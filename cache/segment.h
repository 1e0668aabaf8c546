/* SPDX-License-Identifier: MIT */
/*
 * The mapped shared memory of one cache: created by whoever comes first,
 * checked (magic, layout, signature of every offset and size, boot, sizes) by
 * everyone else.  struct dz_seg is the private view that every module of cache/
 * takes: base pointers, and counts copied once after the check, so a segment
 * that changes under us cannot lead us out of bounds.
 */
#ifndef DZ_SEGMENT_H
#define DZ_SEGMENT_H

#include "cache/config.h"
#include "cache/layout.h"
#include "cache/log.h"
#include "cache/stats.h"

struct dz_seg {
	struct dz_seg_header *hdr;
	struct dz_member *members;
	struct dz_stats *stats; /* n_members * DZ_STAT_STRIPES */
	_Atomic uint64_t *held; /* n_members bitmaps of held_words: open files held */
	struct dz_mount_rec *mounts;
	struct dz_agent_rec *agents;
	_Atomic uint64_t *pending; /* n_agents bitmaps of n_leases bits: requested leases */
	struct dz_lease *leases;
	struct dz_request *requests;
	struct dz_ofile *files;
	struct dz_bucket *buckets;
	struct dz_slot *dram_slots; /* one a page of DRAM: dz_dram_slot() */
	struct dz_slab *dram_slabs;
	struct dz_slot *disk_slots; /* a pool; `page` says where */
	struct dz_slab *disk_slabs;
	_Atomic uint32_t *disk_map; /* one a disk page: chunk that begins here -> slot + 1 */
	_Atomic uint16_t *freq;	    /* frequency:4 | tick:12 */
	_Atomic uint32_t *window;   /* DRAM slots, oldest first */
	uint8_t *dram;		    /* n_dram_slabs MiB */
	uint32_t n_members, n_files, n_leases, n_mounts, n_agents;
	uint32_t n_dram_slabs, n_dram_slots, n_disk_slabs, n_disk_slots;
	uint32_t n_buckets, n_freq, n_window, held_words, pending_words;
	uint64_t meta_bytes, dram_bytes, disk_bytes;
	const struct dz_log *log;
	uint32_t member; /* our number; DZ_NONE: not a member (read only) */
	int dir_fd;	 /* the cache's directory; high, O_CLOEXEC */
	int lock_fd;	 /* `members`: byte locks of the live */
	int dram_fd;
	_Atomic int *fds_low;	     /* the engine's, see engine.h; NULL: this is not one's */
	uint64_t dram_ino, lock_ino; /* which files those are */
	/* Set by who has the disk tier open: settles what a dead member wrote there. */
	void (*on_dead)(struct dz_seg *seg, uint32_t member);
	void *disk;
	_Atomic uint32_t is_sweeping; /* a thread of ours recovers the dead */
	bool is_private;	      /* anonymous memory: no other process but our children */
	bool has_string_copy;	      /* dz_has_string_copy() */
	bool is_read_only;	      /* mapped so: nothing may be counted or noted in it */
	bool is_new;		      /* we created it: the journals want replaying */
	char dir[DZ_PATH_MAX];
};

/*
 * Maps the cache's segment, creating it first when there is none (or one of
 * another boot).  Returns 0, or -errno with one log line: -EPROTO a segment of
 * another layout or a damaged one, -ENOSPC no room even for the smallest,
 * -EACCES, -EROFS...  Nothing is left behind on error.
 */
int dz_seg_open(struct dz_seg *seg, const struct dz_config *cfg, const struct dz_log *log);
/*
 * Only to read from, where it cannot be written (a container that mounts it read-only): lookups and
 * copies work, nothing else does.  -errno without a log line.
 */
int dz_seg_open_read_only(struct dz_seg *seg, const struct dz_config *cfg,
			  const struct dz_log *log);
/* A segment in anonymous shared memory, for when dz_seg_open() cannot: small, no disk tier. */
int dz_seg_open_private(struct dz_seg *seg, const struct dz_log *log, uint64_t dram_bytes);
void dz_seg_close(struct dz_seg *seg);
/* Records of members below this one are all that were ever used. */
static inline uint32_t dz_members_high(const struct dz_seg *seg)
{
	uint32_t high = atomic_load_explicit(&seg->hdr->members_high, memory_order_seq_cst);

	return high && high < seg->n_members ? high : seg->n_members;
}

/* The engine has a descriptor more.  Before its number is stored where it can be used. */
static inline void dz_seg_note_fd(struct dz_seg *seg, int fd)
{
	int low = seg->fds_low ? atomic_load_explicit(seg->fds_low, memory_order_relaxed) : 0;

	while (fd >= 0 && fd < low && !atomic_compare_exchange_weak(seg->fds_low, &low, fd))
		;
}
/*
 * Is `fd`, our dram_fd or lock_fd, still that file?  A program that closes what it
 * did not open gets our number for a file of its own.
 */
bool dz_seg_has_fd(const struct dz_seg *seg, int fd);
/* Slabs of DRAM that may be used now. */
uint32_t dz_seg_backed(const struct dz_seg *seg);
/*
 * More memory behind the DRAM tier: 32 MiB, allocated before it is used, so that a
 * store never faults.  False when all of it is there, or there is no more to be had.
 */
bool dz_seg_grow(const struct dz_seg *seg);
/* Removes the segment's files: a new one is made by the next to come. */
int dz_seg_purge(const struct dz_config *cfg);

/*
 * Record of the DRAM slot that begins at page `slot`.  Records of the first pages
 * of all slabs lie side by side: those of whole blocks would else be 16 KiB apart,
 * in the same few sets of every cache and on a page of memory each.
 */
static inline struct dz_slot *dz_dram_slot(const struct dz_seg *seg, uint32_t slot)
{
	return &seg->dram_slots[(size_t)(slot % DZ_SLAB_PAGES) * seg->n_dram_slabs +
				slot / DZ_SLAB_PAGES];
}

static inline uint8_t *dz_seg_page(const struct dz_seg *seg, uint32_t page)
{
	return seg->dram + (size_t)page * DZ_PAGE;
}

#endif
