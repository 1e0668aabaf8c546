/* SPDX-License-Identifier: MIT */
/*
 * Changes of names: a mount answers EROFS, after the checks that Linux makes
 * before it looks whether it may write.  So mkdir -p of a directory that exists
 * succeeds (EEXIST), mv out of a mount copies (EXDEV), and rm says EROFS.
 */
#define DZ_IN_rofs 1
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shim/hooks.h"
#include "shim/rofs.h"
#include "shim/seen.h"

static int parent_check(const struct dz_path *p)
{
	const char *slash = strrchr(p->name, '/');
	struct dz_attr attr;
	int ret;

	if (!slash)
		return 0; /* the root of the mount */
	ret = dz_engine_stat(dz_engine, p->mount, p->name, (size_t)(slash - p->name), &attr);
	if (ret < 0)
		return ret;
	return S_ISDIR(attr.mode) ? 0 : -ENOTDIR;
}

int dz_ro_make_dir(const struct dz_path *p)
{
	struct dz_attr attr;
	int ret = parent_check(p);

	if (ret < 0)
		return ret;
	ret = dz_engine_stat(dz_engine, p->mount, p->name, p->len, &attr);
	return ret == 0 ? -EEXIST : ret == -ENOENT ? -EROFS : ret;
}

int dz_ro_make(const struct dz_path *p)
{
	int ret = dz_ro_make_dir(p);

	/* "name/" can only be a directory's. */
	return ret == -EROFS && p->wants_dir ? -ENOENT : ret;
}

int dz_ro_unlink(const struct dz_path *p)
{
	int ret = parent_check(p);

	return ret < 0 ? ret : p->len == 0 ? -EISDIR : -EROFS;
}

int dz_ro_rmdir(const struct dz_path *p)
{
	int ret = parent_check(p);

	return ret < 0 ? ret : p->len == 0 ? -EBUSY : -EROFS;
}

int dz_ro_change(const struct dz_path *p)
{
	struct dz_attr attr;
	int ret = dz_path_stat(p, &attr);

	return ret < 0 ? ret : -EROFS;
}

int dz_ro_truncate(const struct dz_path *p)
{
	struct dz_attr attr;
	int ret = dz_path_stat(p, &attr);

	return ret < 0 ? ret : S_ISDIR(attr.mode) ? -EISDIR : -EROFS;
}

int dz_ro_door(uint32_t call, dz_ro_rule *rule, long nr, int dir_fd, const char *path, long a,
	       long b, long c)
{
	struct dz_path p;
	long r = dz_path_at(dir_fd, path, &p);

	if (r == 0 && (rule == dz_ro_make || rule == dz_ro_make_dir) && dz_path_is_hidden(&p))
		r = 1;
	if (r == 0) {
		r = dz_sys_5(nr, p.dir_fd, p.path, a, b, c);
		dz_seen_forget();
		if (!dz_path_again(r, &p))
			return (int)dz_ret(r);
		r = 1;
	}
	return (int)dz_done(call, r < 0 ? r : rule(&p), dir_fd, path, a, b, c);
}

DZ_DOOR(int, mkdirat, int dir_fd, const char *path, mode_t mode)
{
	return dz_ro_door(DZ_CALL_mkdirat, dz_ro_make_dir, SYS_mkdirat, dir_fd, path, mode, 0, 0);
}

DZ_DOOR(int, mkdir, const char *path, mode_t mode)
{
	return dz_ro_door(DZ_CALL_mkdir, dz_ro_make_dir, SYS_mkdirat, AT_FDCWD, path, mode, 0, 0);
}

DZ_DOOR(int, rmdir, const char *path)
{
	return dz_ro_door(DZ_CALL_rmdir, dz_ro_rmdir, SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR, 0,
			  0);
}

DZ_DOOR(int, unlinkat, int dir_fd, const char *path, int flags)
{
	return dz_ro_door(DZ_CALL_unlinkat, flags & AT_REMOVEDIR ? dz_ro_rmdir : dz_ro_unlink,
			  SYS_unlinkat, dir_fd, path, flags, 0, 0);
}

DZ_DOOR(int, unlink, const char *path)
{
	return dz_ro_door(DZ_CALL_unlink, dz_ro_unlink, SYS_unlinkat, AT_FDCWD, path, 0, 0, 0);
}

/* remove(3): a file is unlinked; what is a directory says so, and is then removed as one. */
DZ_DOOR(int, remove, const char *path)
{
	int saved = errno, ret = door_unlink(path);

	if (ret == 0 || errno != EISDIR)
		return ret;
	errno = saved;
	return door_rmdir(path);
}

DZ_DOOR(int, mknodat, int dir_fd, const char *path, mode_t mode, dev_t dev)
{
	return dz_ro_door(DZ_CALL_mknodat, dz_ro_make, SYS_mknodat, dir_fd, path, mode, (long)dev,
			  0);
}

DZ_DOOR(int, mknod, const char *path, mode_t mode, dev_t dev)
{
	return dz_ro_door(DZ_CALL_mknod, dz_ro_make, SYS_mknodat, AT_FDCWD, path, mode, (long)dev,
			  0);
}

/* mknod(3) of programs that were linked before glibc 2.33. */
DZ_DOOR(int, __xmknodat, int version, int dir_fd, const char *path, mode_t mode, dev_t *dev)
{
	if (version != 0)
		return (int)dz_ret(-EINVAL);
	return door_mknodat(dir_fd, path, mode, *dev);
}

DZ_DOOR(int, __xmknod, int version, const char *path, mode_t mode, dev_t *dev)
{
	return door___xmknodat(version, AT_FDCWD, path, mode, dev);
}

DZ_DOOR(int, mkfifoat, int dir_fd, const char *path, mode_t mode)
{
	return dz_ro_door(DZ_CALL_mkfifoat, dz_ro_make, SYS_mknodat, dir_fd, path, mode | S_IFIFO,
			  0, 0);
}

DZ_DOOR(int, mkfifo, const char *path, mode_t mode)
{
	return dz_ro_door(DZ_CALL_mkfifo, dz_ro_make, SYS_mknodat, AT_FDCWD, path, mode | S_IFIFO,
			  0, 0);
}

DZ_DOOR(int, symlinkat, const char *target, int dir_fd, const char *path)
{
	struct dz_path p;
	long r = dz_path_at(dir_fd, path, &p);

	if (r == 0) {
		r = dz_sys_3(SYS_symlinkat, target, p.dir_fd, p.path);
		dz_seen_forget();
		if (!dz_path_again(r, &p))
			return (int)dz_ret(r);
		r = 1;
	}
	return (int)dz_done(DZ_CALL_symlinkat, r < 0 ? r : dz_ro_make(&p), target, dir_fd, path);
}

DZ_DOOR(int, symlink, const char *target, const char *path)
{
	return door_symlinkat(target, AT_FDCWD, path);
}

DZ_DOOR(int, truncate, const char *path, off_t len)
{
	struct dz_path p;
	long r = len < 0 ? -EINVAL : dz_path_at(AT_FDCWD, path, &p);

	if (r == 0) {
		r = dz_sys_2(SYS_truncate, p.path, len);
		if (!dz_path_again(r, &p))
			return (int)dz_ret(r);
		r = 1;
	}
	return (int)dz_done(DZ_CALL_truncate, r < 0 ? r : dz_ro_truncate(&p), path, len);
}

/* ---- two paths, of which one or both are ours ---- */

struct pair {
	struct dz_path from, to;
	int from_is, to_is; /* dz_path_at's answers */
};

/* -errno, 0 both are the kernel's, 1 one of them is ours. */
static int pair_look(struct pair *w, int from_fd, const char *from, int to_fd, const char *to)
{
	w->from_is = dz_path_at(from_fd, from, &w->from);
	if (w->from_is < 0)
		return w->from_is;
	w->to_is = dz_path_at(to_fd, to, &w->to);
	if (w->to_is < 0)
		return w->to_is;
	return w->from_is || w->to_is;
}

/* The kernel found one of them not: does a symbolic link lead to a mount? */
static bool pair_again(struct pair *w, long r)
{
	w->from_is = dz_path_again(r, &w->from);
	w->to_is = dz_path_again(r, &w->to);
	return w->from_is || w->to_is;
}

static bool kernel_has(const struct dz_path *p)
{
	struct stat st;

	return dz_sys_4(SYS_newfstatat, p->dir_fd, p->path, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static int pair_rename(const struct pair *w)
{
	int ret = w->from_is ? parent_check(&w->from) : kernel_has(&w->from) ? 0 : -ENOENT;

	if (ret == 0 && w->to_is)
		ret = parent_check(&w->to);
	if (ret < 0)
		return ret;
	if (!w->from_is || !w->to_is || w->from.mount != w->to.mount)
		return -EXDEV;
	return w->from.len == 0 || w->to.len == 0 ? -EBUSY : -EROFS;
}

static int pair_link(const struct pair *w)
{
	struct dz_attr attr;
	int ret;

	ret = w->from_is ? dz_path_stat(&w->from, &attr) : (kernel_has(&w->from) ? 0 : -ENOENT);
	if (ret < 0)
		return ret;
	if (w->to_is)
		return dz_ro_make(&w->to);
	return kernel_has(&w->to) ? -EEXIST : -EXDEV;
}

DZ_DOOR(int, renameat2, int from_fd, const char *from, int to_fd, const char *to,
	unsigned int flags)
{
	struct pair w;
	long r = pair_look(&w, from_fd, from, to_fd, to);

	if (r == 0) {
		r = dz_sys_5(SYS_renameat2, w.from.dir_fd, w.from.path, w.to.dir_fd, w.to.path,
			     flags);
		dz_seen_forget();
		if ((r != -ENOENT && r != -ENOTDIR) || !pair_again(&w, r))
			return (int)dz_ret(r);
		r = 1;
	}
	return (int)dz_done(DZ_CALL_renameat2, r < 0 ? r : pair_rename(&w), from_fd, from, to_fd,
			    to, flags);
}

DZ_DOOR(int, renameat, int from_fd, const char *from, int to_fd, const char *to)
{
	return door_renameat2(from_fd, from, to_fd, to, 0);
}

DZ_DOOR(int, rename, const char *from, const char *to)
{
	return door_renameat2(AT_FDCWD, from, AT_FDCWD, to, 0);
}

DZ_DOOR(int, linkat, int from_fd, const char *from, int to_fd, const char *to, int flags)
{
	struct pair w;
	long r = pair_look(&w, from_fd, from, to_fd, to);

	/* The marker itself must not get a name. */
	if (r == 0 && (flags & AT_EMPTY_PATH) && dz_fd_get(from_fd))
		r = -EXDEV;
	if (r == 0) {
		r = dz_sys_5(SYS_linkat, w.from.dir_fd, w.from.path, w.to.dir_fd, w.to.path, flags);
		dz_seen_forget();
		if ((r != -ENOENT && r != -ENOTDIR) || !pair_again(&w, r))
			return (int)dz_ret(r);
		r = 1;
	}
	return (int)dz_done(DZ_CALL_linkat, r < 0 ? r : pair_link(&w), from_fd, from, to_fd, to,
			    flags);
}

DZ_DOOR(int, link, const char *from, const char *to)
{
	return door_linkat(AT_FDCWD, from, AT_FDCWD, to, 0);
}

#include "shim/aliases.h"
