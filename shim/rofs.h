/* SPDX-License-Identifier: MIT */
/*
 * A mount is read-only: what each kind of change answers, in the order in which
 * Linux looks (fs/namei.c, fs/open.c, fs/attr.c).
 */
#ifndef DZ_ROFS_H
#define DZ_ROFS_H

#include "shim/paths.h"

typedef int dz_ro_rule(const struct dz_path *p);

/* A new name: -ENOENT or -ENOTDIR no such parent, -EEXIST, else -EROFS. */
int dz_ro_make(const struct dz_path *p);
int dz_ro_make_dir(const struct dz_path *p);
/* A name that goes: its parent has to be there, it need not. */
int dz_ro_unlink(const struct dz_path *p);
int dz_ro_rmdir(const struct dz_path *p);
/* An attribute or the length of what must exist. */
int dz_ro_change(const struct dz_path *p);
int dz_ro_truncate(const struct dz_path *p);

/*
 * A whole door: system call `nr`(dir_fd, path, a, b, c) when the path is not ours,
 * else what the rule says, counted under `call`.
 */
int dz_ro_door(uint32_t call, dz_ro_rule *rule, long nr, int dir_fd, const char *path, long a,
	       long b, long c);

#endif
