/* SPDX-License-Identifier: MIT */
/* Where the bytes of one file are: the parts of dz explain. */
#ifndef DZ_EXPLAIN_H
#define DZ_EXPLAIN_H

#include "cache/engine_priv.h"

/* A run of blocks in the same state. */
struct dz_explain_run {
	uint64_t first, last;
	uint32_t pieces; /* of each: bits that DRAM holds; 0 not there */
	bool is_whole;	 /* DRAM has all of it */
	bool on_disk, is_unverified;
	uint32_t used;	   /* of late, as eviction weighs it */
	uint64_t since_ms; /* of the oldest: when it came there, dz_now_ms(); 0: not known */
};

struct dz_explain {
	struct dz_engine *engine;
	char path[DZ_PATH_MAX + DZ_NAME_MAX]; /* below the mount, or its URL */
	char url[3072];
	const struct dz_mount *mount; /* NULL: not one of this environment's */
	struct dz_ofile file;	      /* a copy */
	/* What the cache knew before we asked. */
	bool was_known, was_listed;
	uint64_t age_ms;
	/* Blob's word; `blob_err` 1: not asked. */
	int blob_err;
	char blob_etag[DZ_ETAG_MAX];
	uint64_t blob_size;
	/* where its blocks are */
	struct dz_explain_run *runs;
	size_t n_runs;
	uint64_t n_blocks, dram_bytes, disk_bytes, nowhere_bytes, dram_blocks, disk_blocks;
};

/* Fills in runs and sums.  0 or -ENOMEM. */
int dz_explain_blocks(struct dz_explain *x);
void dz_explain_print(const struct dz_explain *x);
void dz_explain_json(const struct dz_explain *x);

#endif
