/* SPDX-License-Identifier: MIT */
/*
 * The bytes of one block of a directory (or of one name): header, hash table of
 * offsets, entries.  Read from shared memory, so every offset is checked against
 * the length of the block before it is followed.
 */
#ifndef DZ_NAMES_FORMAT_H
#define DZ_NAMES_FORMAT_H

#include "cache/names.h"

#define DZ_DIR_MAGIC 0x52494454u

struct dz_dir_head {
	uint32_t magic;
	uint32_t n_blocks; /* of this listing */
	uint32_t blk;
	uint32_t n_entries; /* in this block */
	uint32_t table_len; /* power of two; offsets, 0 is empty */
	uint32_t bytes;	    /* of this block */
	uint64_t listing;   /* what the keys of blocks 1.. are made with */
	uint64_t total;	    /* entries in all blocks */
	uint64_t ino;	    /* of the directory: its entries' numbers derive from names */
};

struct dz_dir_entry {
	uint64_t hash;
	uint64_t size;
	int64_t mtime_ns;
	uint64_t ino;
	uint16_t name_len;
	uint8_t etag_len;
	uint8_t is_dir;
	uint32_t pad;
	char text[]; /* name, NUL, etag, NUL */
};

uint64_t dz_dir_hash(const char *name, size_t len);
static inline size_t dz_dir_entry_bytes(size_t name_len, size_t etag_len)
{
	return (sizeof(struct dz_dir_entry) + name_len + etag_len + 2 + 7) & ~(size_t)7;
}

/* Copies the head of a block of `len` bytes; false when it cannot be one. */
bool dz_dir_head_read(const uint8_t *block, uint32_t len, struct dz_dir_head *head);
/* The entry of `name`, copied to *out; 1 found, 0 not there, -EPROTO nonsense. */
int dz_dir_block_find(const uint8_t *block, const struct dz_dir_head *head, const char *name,
		      size_t name_len, uint64_t hash, struct dz_attr *out);
/* Entry at offset *at (0: the first), which is moved to the next; NULL at the end or nonsense. */
const struct dz_dir_entry *dz_dir_block_next(const uint8_t *block, const struct dz_dir_head *head,
					     uint32_t *at);
/* Builds one block of the `n` entries in[order[i]] into buf; returns its bytes, 0 no room. */
uint32_t dz_dir_block_build(uint8_t *buf, uint32_t room, struct dz_dir_head *head, uint64_t rec_id,
			    const char *dir, size_t dir_len, const struct dz_name_in *in,
			    const uint32_t *order, uint32_t n);

#endif
