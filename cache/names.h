/* SPDX-License-Identifier: MIT */
/*
 * path -> attributes, and directory listings.
 *
 * A directory is a cached object like a blob: its content is its entries, cut
 * into blocks by the hash of the name.  Block 0 is found under the directory's
 * key, the others under keys of this very listing, so replacing block 0
 * replaces the whole.  A name whose directory is not (yet) listed has a block
 * of its own kind with one entry.  Lookups write nothing.
 */
#ifndef DZ_NAMES_H
#define DZ_NAMES_H

#include "cache/engine.h"
#include "cache/segment.h"

enum dz_name_state {
	DZ_NAME_UNKNOWN, /* ask Blob */
	DZ_NAME_FOUND,
	DZ_NAME_ABSENT, /* its directory is listed (or Blob said 404) and it is not there */
};

struct dz_name {
	enum dz_name_state state;
	struct dz_attr attr;
	uint64_t stamp_ms; /* when Blob said so, dz_now_ms() */
	bool listed;	   /* from a listing of the whole directory */
};

/* What a directory's blocks are made of: the fetcher collects these. */
struct dz_name_in {
	const char *name; /* last component */
	uint32_t name_len;
	bool is_dir;
	uint64_t size;
	int64_t mtime_s;
	const char *etag;
};

/* `rec`: the mount record's id.  Keys of a directory (path without slashes at the ends). */
struct dz_key dz_names_dir_key(uint64_t rec_id, const char *dir, size_t len);
struct dz_key dz_names_attr_key(uint64_t rec_id, const char *name, size_t len);

/* One name below the mount (not ""): from its directory's listing, or alone. */
void dz_names_find(const struct dz_seg *seg, uint64_t rec_id, const char *name, size_t len,
		   struct dz_name *out);
/* Is the directory itself listed?  0 and its stamp and number of entries, -ENOENT. */
int dz_names_dir_info(const struct dz_seg *seg, uint64_t rec_id, const char *dir, size_t len,
		      uint64_t *stamp_ms, uint64_t *n_entries);
/* Copies all entries; -ENOENT not listed (or partly evicted), -ENOMEM. */
int dz_names_copy(const struct dz_seg *seg, uint64_t rec_id, const char *dir, size_t len,
		  struct dz_listing *out);
/* Where a walk through a listing is; all zero: at its start. */
struct dz_names_cursor {
	uint64_t listing;
	uint32_t blk, at;
};
/*
 * The next entry, one copy at a time: its name (`name` has 256 bytes) and
 * attributes.  1 there is one, 0 the end, -ENOENT not listed any more,
 * -ESTALE another listing has taken its place.
 */
int dz_names_next(const struct dz_seg *seg, uint64_t rec_id, const char *dir, size_t len,
		  struct dz_names_cursor *at, char *name, struct dz_attr *attr);
/* Base of the keys of a blob's blocks; `prefix` is the mount's. */
struct dz_key dz_names_file_key(uint64_t data_id, const char *prefix, const char *name, size_t len,
				const char *etag);
/* The data set that a name belongs to: the container and the first directory. */
uint32_t dz_names_group(uint64_t data_id, const char *name, size_t len);
/* Drops what is known. */
void dz_names_forget(struct dz_seg *seg, uint64_t rec_id, const char *name, size_t len);

/*
 * Publishes a listing.  `in` is sorted or not; names are unique.  0, -ENOSPC no
 * room in the cache.  Used by fetchers only.
 */
int dz_names_put_dir(struct dz_seg *seg, uint64_t rec_id, const char *dir, size_t len,
		     const struct dz_name_in *in, uint64_t n);
/* Publishes one name; in == NULL: it does not exist. */
int dz_names_put_attr(struct dz_seg *seg, uint64_t rec_id, const char *name, size_t len,
		      const struct dz_name_in *in);

/* Inode number of a name: stable over processes, runs and nodes. */
uint64_t dz_names_ino(uint64_t rec_id, const char *name, size_t len);

#endif
