/* SPDX-License-Identifier: MIT */
/*
 * Open-file descriptions in shared memory, and the markers that stand for them.
 *
 * A description that only its opener ever held is given back at its close.  One
 * that may be held by several processes (after fork, exec, SCM_RIGHTS) is marked
 * shared, and given back when no member's bitmap names it: bitmaps, not counts,
 * because a count cannot be repaired after SIGKILL.  What another program or
 * process finds it by is a marker of its own (marker.h), made when it is handed over.
 */
#ifndef DZ_FILES_H
#define DZ_FILES_H

#include "cache/segment.h"

/* How long a description is kept for a program that was started with it. */
#define DZ_HANDOVER_MS 60000

/* Number + 1 below, generation above; 0 is none. */
static inline uint64_t dz_fh_make(uint32_t n, uint32_t gen)
{
	return (uint64_t)gen << 32 | (n + 1);
}

/* A description's word: see files.c. */
static inline uint32_t dz_file_state(uint64_t ctl)
{
	return (uint32_t)(ctl & 0xff);
}

static inline uint32_t dz_file_gen(uint64_t ctl)
{
	return (uint32_t)(ctl >> 32);
}

/* Takes a free description (state opening, held by us); DZ_NONE when all are in use. */
uint32_t dz_file_alloc(struct dz_seg *seg);
/* opening -> open: its fields are filled in. Returns its handle. */
uint64_t dz_file_ready(struct dz_seg *seg, uint32_t n);
/* The description of a handle; NULL when it is stale or wild.  Any context. */
static inline struct dz_ofile *dz_file_get(const struct dz_seg *seg, uint64_t fh)
{
	uint32_t n = (uint32_t)fh - 1;
	uint64_t ctl;

	if (n >= seg->n_files)
		return NULL;
	/* Acquire: pairs with the release of dz_file_ready(). */
	ctl = atomic_load_explicit(&seg->files[n].ctl, memory_order_acquire);
	if (dz_file_gen(ctl) != (uint32_t)(fh >> 32) || dz_file_state(ctl) < DZ_FILE_OPEN)
		return NULL;
	return &seg->files[n];
}
/* This member has no descriptor for it any more. */
void dz_file_drop(struct dz_seg *seg, uint64_t fh);
/* It may be held by other processes from now on, and not reclaimed before ms from now. */
void dz_file_share(struct dz_seg *seg, uint64_t fh, uint64_t handover_ms);
/*
 * The same, and descriptor fd, a marker of it, becomes one that other programs and
 * processes can resolve.  -EBADF when fd is something else; -errno of the kernel's: they
 * will not.
 */
int dz_file_hand_over(struct dz_seg *seg, uint64_t fh, int fd, uint64_t ms);
/* A marker's descriptor for it; 0 <= fd or -errno. */
int dz_file_marker(struct dz_seg *seg, uint64_t fh, bool cloexec);
/* The handle behind a marker that was handed over, now held by us too; -EBADF. */
int dz_file_resolve(struct dz_seg *seg, int fd, uint64_t *fh);
/* Everything `from` holds is held by `to` too (fork). */
void dz_files_inherit(struct dz_seg *seg, uint32_t from, uint32_t to);
/* Drops what a member held (it is dead, or leaves). */
void dz_files_drop_all(struct dz_seg *seg, uint32_t member);
/*
 * Does somebody hold it still?  Who was given it by exec and has not attached within a
 * second does not.
 */
bool dz_file_lives(const struct dz_seg *seg, uint64_t fh);
/* Gives back shared descriptions that nobody holds any more. */
void dz_files_sweep(struct dz_seg *seg);

#endif
