/* SPDX-License-Identifier: MIT */
/*
 * The NVMe tier: slab files, preallocated, O_DIRECT, and a journal per writer.
 * A block is written, then journalled (no fsync), then made findable; so what
 * the index names is on the disk, and after a crash a torn or overwritten block
 * fails its CRC at its first use and is a miss.  Disk full, read-only, slow or
 * broken: the tier switches itself off with one log line, reads go to Blob.
 */
#ifndef DZ_DISK_H
#define DZ_DISK_H

#include "cache/index.h"
#include "cache/ring.h"
#include "cache/segment.h"

struct dz_disk;

/*
 * Opens the slab files of the cache directory (creating and preallocating them
 * when `seg->is_new`, and replaying the journals then).  *out is NULL and 0 is
 * returned when there is no disk tier (configured off, or it cannot work here:
 * one log line).  -ENOMEM otherwise.
 */
int dz_disk_open(struct dz_disk **out, struct dz_seg *seg, const struct dz_config *cfg,
		 const struct dz_log *log);
void dz_disk_close(struct dz_disk *disk);

/*
 * Prepares *io to read [off, off + len) of the block in disk slot `slot` into
 * `buf` (4096-aligned, room for len rounded out to pages on both sides);
 * *skip is where byte `off` will be in buf.
 */
void dz_disk_prep_read(const struct dz_disk *disk, uint32_t slot, uint32_t off, uint32_t len,
		       void *buf, struct dz_io *io, uint32_t *skip);
/*
 * After the I/O: were these the bytes of `key`?  Re-checks ctl against `ctl`
 * (as dz_index_find gave it).  0, or -ESTALE the slot has another tenant,
 * or the I/O's error (which may switch the tier off).
 */
int dz_disk_check_read(const struct dz_disk *disk, uint32_t slot, uint64_t ctl, struct dz_io *io);
/* Is the block still unverified (replayed)?  Then it must be read whole and checked first. */
bool dz_disk_is_unverified(const struct dz_disk *disk, uint32_t slot);
/*
 * Checks the whole block, already read, against its CRC.  0 (now verified) or
 * -EILSEQ: the slot has been dropped, the caller treats it as a miss.
 */
int dz_disk_verify(const struct dz_disk *disk, uint32_t slot, uint64_t ctl, const void *data);

/*
 * Writes a whole block (data 4096-aligned, zero-filled up to its page end),
 * journals it and makes it findable.  May evict; asks the policy first.
 * Returns 0, -EAGAIN not admitted, -EEXIST already there, or -errno.
 * Synchronous: for the agent, or inline.
 */
int dz_disk_write(struct dz_disk *disk, struct dz_key key, const void *data, uint32_t len,
		  uint32_t group, uint32_t kind);

#endif
