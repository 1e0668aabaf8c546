/* SPDX-License-Identifier: MIT */
/* Directory streams, and the records of getdents64 for a description of ours. */
#ifndef DZ_DIR_H
#define DZ_DIR_H

#include "cache/engine.h"

struct stat;

/* One entry, on its way to a record. */
struct dz_dir_entry {
	uint64_t ino;
	const char *name;
	size_t len;
	uint8_t type; /* DT_* */
};

/* What a description's directory holds now; -ENOTDIR. */
int dz_dir_list(dz_fh fh, struct dz_listing *out);
/* The entry at a position: 0 is ".", 1 is "..". False behind the last one. */
bool dz_dir_entry_at(dz_fh fh, const struct dz_listing *list, uint64_t pos,
		     struct dz_dir_entry *out);
/* Writes a struct dirent64; its bytes, or 0 when `room` is too small.  `off`: the position after
 * it. */
size_t dz_dir_record(void *buf, size_t room, const struct dz_dir_entry *e, int64_t off);
/* The next mount, from *k on, to be shown below the real directory `dir_fd`; its name or NULL. */
const char *dz_dir_mount_below(int dir_fd, const struct stat *dir, uint64_t *k);
bool dz_dir_has_mount_below(int dir_fd);

/*
 * getdents64(2): whole records from the position of the description, which
 * moves.  Bytes, 0 at the end, -EINVAL when not one record fits, -ENOTDIR.
 */
ssize_t dz_dir_getdents(dz_fh fh, void *buf, size_t len);
/* The same for a descriptor that is not ours: the kernel's answer, with the mount points that
 * have no directory of their own below it. */
ssize_t dz_dir_getdents_kernel(int fd, void *buf, size_t len);
/* The last descriptor of a description is gone: drop its snapshot. */
void dz_dir_forget(dz_fh fh);
/* Must a walk from `path` see through our eyes: is it ours, or may it reach a mount below? */
bool dz_dir_leads_to_mount(const char *path);

#endif
