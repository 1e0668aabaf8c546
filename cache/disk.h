/* SPDX-License-Identifier: MIT */
/*
 * The NVMe tier: slab files, preallocated, O_DIRECT, and a journal per writer.
 * A block is written, then journalled (no fsync), then made findable; so what
 * the index names is on the disk, and after a crash a torn or overwritten block
 * fails its CRC at its first use and is a miss.  Disk full, read-only or broken: the
 * tier switches itself off with one log line, reads go to Blob; slow: for a while.
 *
 * The files belong to one segment at a time: each process that has them open
 * holds a shared lock, and a new segment takes them over (barrier, replay) under
 * the exclusive one.  While another segment's processes live, there is no disk
 * tier for the new one.
 */
#ifndef DZ_DISK_H
#define DZ_DISK_H

#include "cache/index.h"
#include "cache/ring.h"
#include "cache/segment.h"
#include "cache/slabs.h"
#include "cache/sys.h"

struct dz_disk;
struct dz_disk_writer;

/* The directory of its files: `<cache_dir>/deltazero.<uid>.<layout major>`.  0 or -EINVAL. */
int dz_disk_dir(const struct dz_config *cfg, char *dir, size_t size);
/*
 * Bytes that the tier of a new segment should have: as configured, or a quarter
 * of what is free there (our own slab files count as free; the directory need
 * not exist), at most 1 TiB; 0 for none.
 */
uint64_t dz_disk_budget(const struct dz_config *cfg);
/* How much of it slabs may take: the journals and the spare pages are within the limit too. */
static inline uint64_t dz_disk_for_slabs(uint64_t budget)
{
	uint64_t rest = budget / 32 + DZ_MIB;

	return budget > rest ? (budget - rest) & ~(DZ_MIB - 1) : 0;
}
/* What a journal may grow to: two of them, while one is written anew, fit beside the slabs. */
static inline uint64_t dz_disk_journal_max(uint64_t slab_bytes)
{
	return slab_bytes / 64 + 256 * DZ_KIB;
}

/*
 * Opens the slab files of the cache directory; whoever of a new segment comes
 * first creates and preallocates them and replays the journals, others wait for
 * that (5 s at most).  *out is NULL and 0 is returned when there is no disk tier
 * (configured off, or it cannot work here: one log line).  -ENOMEM otherwise.
 * The segment's member number may be set later.
 */
int dz_disk_open(struct dz_disk **out, struct dz_seg *seg, const struct dz_config *cfg,
		 const struct dz_log *log);
void dz_disk_close(struct dz_disk *disk);
/* Has it switched itself off?  For good, or for some time, which is over at some time. */
enum dz_disk_off { DZ_DISK_ON, DZ_DISK_OFF, DZ_DISK_OFF_FOR_NOW };
static inline enum dz_disk_off dz_disk_off(const struct dz_seg_header *hdr)
{
	uint64_t off = atomic_load_explicit(&hdr->disk_off, memory_order_relaxed);

	if (off <= 1)
		return off ? DZ_DISK_OFF : DZ_DISK_ON;
	return dz_now_ms() < off ? DZ_DISK_OFF_FOR_NOW : DZ_DISK_ON;
}
/* Neither off nor broken.  When it is not, every slot of the disk is a miss. */
bool dz_disk_is_on(const struct dz_disk *disk);
/* The lowest of its descriptors that is at least `from`; -1 when there is none. */
int dz_disk_next_fd(const struct dz_disk *disk, int from);
/* Where the disk tier keeps this descriptor, to be replaced by one exchange; NULL. */
int *dz_disk_fd_place(struct dz_disk *disk, int fd);

/*
 * Prepares *io to read [off, off + len) of the block in disk slot `slot` into
 * `buf` (4096-aligned, room for len rounded out to pages on both sides);
 * *skip is where byte `off` will be in buf.  The first use of a slab file opens
 * it.  When that or the slot is bad, the I/O fails and its check says -ESTALE.
 */
void dz_disk_prep_read(const struct dz_disk *disk, uint32_t slot, uint32_t off, uint32_t len,
		       void *buf, struct dz_io *io, uint32_t *skip);
/*
 * After the I/O: were these the bytes of `key`?  Re-checks ctl against `ctl`
 * (as dz_index_find gave it).  0, or -ESTALE the slot has another tenant, is
 * being written, or its file could not be opened: a miss; or the I/O's error
 * (which may switch the tier off).
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

/*
 * The same for several blocks at once, by a thread that has a writer of its own: writes
 * of neighbours are one, several are in flight, the journal is appended to once.
 */
#define DZ_DISK_BATCH	    64u /* blocks */
#define DZ_DISK_BATCH_BYTES (8 * DZ_MIB)
struct dz_disk_put {
	struct dz_key key;
	const void *data; /* of a DRAM slot, or the caller's */
	uint64_t dram_ctl;
	uint32_t
		dram; /* the slot, whose generation must be dram_ctl's after the copy; or DZ_NONE */
	uint32_t len, group, kind;
	int ret; /* the answer: as of dz_disk_write(), or -ESTALE gone from DRAM */
	/* disk_write.c's own */
	uint32_t slot, page, crc;
	uint64_t ctl;
};
/* What a block takes of a batch's bytes. */
static inline uint64_t dz_disk_put_bytes(uint32_t len)
{
	return (uint64_t)dz_class_pages(len) * DZ_PAGE;
}
/* By the thread that will use and free it.  0, -ENOMEM. */
int dz_disk_writer_new(struct dz_disk_writer **out, bool no_uring);
void dz_disk_writer_free(struct dz_disk_writer *w);
/* Returns how many writes it was.  Blocks beyond what a batch holds: -ENOBUFS. */
uint32_t dz_disk_write_batch(struct dz_disk *disk, struct dz_disk_writer *w,
			     struct dz_disk_put *puts, uint32_t n);

/*
 * After the death of a member that was writing `slot`: returns once none of its
 * writes can land any more (a killed process's I/O still does, for a while).
 * 0; -EOPNOTSUPP, -errno: not proved, the slot must stay in quarantine.
 */
int dz_disk_barrier(struct dz_disk *disk, uint32_t slot);
/*
 * For every slot that the dead `member` was writing (DZ_NONE: that any dead
 * member was), and those in quarantine: barrier, then free.  Looks at every slot
 * of the tier.  Returns how many were freed.
 */
uint32_t dz_disk_recover(struct dz_disk *disk, uint32_t member);
/*
 * The same of whoever is dead, in the part-th of so many parts of the slots, and not many
 * at a time: what was left by a recoverer that had no disk, or was killed.
 */
uint32_t dz_disk_recover_part(struct dz_disk *disk, uint32_t part, uint32_t parts);
/* From now on the sweeper of this process calls that for the dead. */
void dz_disk_watch(struct dz_disk *disk, struct dz_seg *seg);

#endif
