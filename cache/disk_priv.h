/* SPDX-License-Identifier: MIT */
/* What disk.c (blocks) and slabfile.c (files) share. */
#ifndef DZ_DISK_PRIV_H
#define DZ_DISK_PRIV_H

#include "cache/disk.h"

/*
 * Slab s lies in file s % 16 at s / 16 MiB, whatever the tier's size: it can be
 * enlarged and shrunk, and what still fits keeps its place.  After its slabs each
 * file has one spare page, never written: the barrier punches it.
 */
#define DZ_DISK_FILES 16u

struct dz_disk {
	struct dz_seg *seg;
	const struct dz_log *log;
	int lock_fd;
	_Atomic int *fds;	 /* DZ_DISK_FILES; -1: not yet opened by this process */
	_Atomic uint64_t *ids;	 /* identity of each file, to notice a number that is not ours */
	_Atomic bool *is_broken; /* for this process only */
	char dir[DZ_PATH_MAX];
};

/* Where a page of the tier is: number of its file, and its offset there. */
static inline uint32_t dz_disk_file_of(uint32_t page)
{
	return page / DZ_SLAB_PAGES % DZ_DISK_FILES;
}

static inline uint64_t dz_disk_off_of(uint32_t page)
{
	return page / DZ_SLAB_PAGES / DZ_DISK_FILES * DZ_MIB +
	       (uint64_t)(page % DZ_SLAB_PAGES) * DZ_PAGE;
}

/* Bytes of slabs in file `file` of a tier of `n_slabs`. */
static inline uint64_t dz_disk_file_bytes(uint32_t n_slabs, uint32_t file)
{
	return file < n_slabs ? ((n_slabs - file - 1) / DZ_DISK_FILES + 1) * DZ_MIB : 0;
}

/* Descriptor of a slab file, opened at its first use; or -errno. */
int dz_disk_fd(const struct dz_disk *disk, uint32_t file);
/* Is this number still the file that we opened? */
bool dz_disk_fd_is_ours(const struct dz_disk *disk, uint32_t file, int fd);
/* Waits for the device's writes to this file. */
int dz_disk_barrier_file(const struct dz_disk *disk, uint32_t file);

/*
 * Makes the slab files this segment's own.  0: joined, another process has done
 * it; 1: the caller must replay and then call dz_disk_claimed(), and
 * old_bytes[file] is how much of each file was there before; or -errno (-EBUSY
 * another segment uses them, -EXDEV this segment's are elsewhere, -ENOSPC...).
 */
int dz_disk_claim(struct dz_disk *disk, uint64_t old_bytes[DZ_DISK_FILES]);
int dz_disk_claimed(struct dz_disk *disk);

/* Fills in a slot's record but for its word. */
struct dz_jrec;
void dz_disk_describe(struct dz_slot *s, const struct dz_jrec *rec, uint32_t kind, uint32_t tick);
/* `err` of an I/O; whether it ends the tier, and for whom. */
int dz_disk_failed(const struct dz_disk *disk, const char *what, int err);
/* An I/O took that long: when too many take too long the tier is off for a while. */
void dz_disk_took(const struct dz_disk *disk, uint32_t len, uint64_t ms);
/* Tells once, and turns the tier off for all when `is_for_all`. */
void dz_disk_switch_off(const struct dz_disk *disk, const char *what, int err, bool is_for_all);

#endif
