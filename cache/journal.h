/* SPDX-License-Identifier: MIT */
/*
 * What lies where on the disk: one 64-byte record a block written, appended to
 * the file `journal.<member>` of the cache's directory after the block itself.
 * Nothing is flushed on the way: a record that a crash swallows is a miss, one
 * whose block was lost or overwritten fails the block's CRC.
 *
 * Of all records that name a place the highest `seq` holds; one whose own sum is
 * wrong (torn, bit rot) is skipped.  A file is opened for each append, so no
 * descriptor is kept, and a journal may be renamed under its writers.
 */
#ifndef DZ_JOURNAL_H
#define DZ_JOURNAL_H

#include "cache/hash.h"

#define DZ_JREC_MAGIC 0x4a5a4431u /* "1DZJ" */

struct dz_jrec {
	uint64_t seq; /* from 1 */
	uint64_t key_lo, key_hi;
	uint32_t page; /* first page of the block in the disk tier */
	uint32_t len;
	uint32_t crc; /* CRC-32C of the block */
	uint32_t group;
	uint32_t kind; /* enum dz_kind */
	uint32_t magic;
	uint32_t pad[3];
	uint32_t sum; /* CRC-32C of the 60 bytes before */
};
_Static_assert(sizeof(struct dz_jrec) == 64, "a record is 64 bytes");

/* Fills in magic and sum. */
void dz_jrec_seal(struct dz_jrec *rec);
bool dz_jrec_is_valid(const struct dz_jrec *rec);

/*
 * Appends n sealed records to the journal of `member` in directory `dir`, in one write.
 * Returns the file's size before it, or -errno (-ENOSPC, -EROFS, -EIO...).
 */
int64_t dz_journal_append(const char *dir, uint32_t member, const struct dz_jrec *recs, uint32_t n);

/* Is this record (still) wanted? */
typedef bool dz_journal_fn(void *ctx, const struct dz_jrec *rec);

/* It will be this record's turn in a moment. */
typedef void dz_journal_soon_fn(void *ctx, const struct dz_jrec *rec);

/*
 * Reads every journal of `dir` and calls fn for each valid record, newest first
 * (and soon, or NULL, for those that follow);
 * then leaves one file with those that fn wanted.  Nobody else may append
 * meanwhile.  *last is the highest seq seen.  Returns 0, -ENOMEM or -errno of
 * the directory; journals that cannot be read are passed over.
 */
int dz_journal_replay(const char *dir, dz_journal_fn *fn, dz_journal_soon_fn *soon, void *ctx,
		      uint64_t *last);

/*
 * Rewrites the journal of `member` with the records that fn wants, while others
 * may append to it.  Killed on the way, it leaves both, which is harmless.
 */
int dz_journal_compact(const char *dir, uint32_t member, uint64_t unique, dz_journal_fn *fn,
		       void *ctx);

/* Removes every journal of `dir`. */
void dz_journal_remove(const char *dir);

#endif
