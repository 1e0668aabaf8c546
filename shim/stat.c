/* SPDX-License-Identifier: MIT */
/* stat(2), its flavours, and their names from before glibc 2.33 (__xstat...). */
#define DZ_IN_stat 1
#include "shim/attr.h"
#include "shim/hidden.h"
#include "shim/hooks.h"
#include "shim/link.h"
#include "shim/wild.h"

#include <fcntl.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/sysmacros.h>

#define NS_PER_S 1000000000

static struct timespec to_timespec(int64_t ns)
{
	struct timespec ts = { .tv_sec = ns / NS_PER_S, .tv_nsec = ns % NS_PER_S };

	if (ts.tv_nsec < 0) {
		ts.tv_sec--;
		ts.tv_nsec += NS_PER_S;
	}
	return ts;
}

void dz_attr_to_stat(const struct dz_attr *attr, uint32_t mount, struct stat *st)
{
	memset(st, 0, sizeof(*st));
	st->st_dev = makedev(DZ_STAT_MAJOR, mount);
	st->st_ino = attr->ino;
	st->st_mode = attr->mode;
	/* Also of a directory: fts and find then do not count on sub-directories. */
	st->st_nlink = 1;
	st->st_uid = (uid_t)getauxval(AT_EUID);
	st->st_gid = (gid_t)getauxval(AT_EGID);
	st->st_size = S_ISDIR(attr->mode) ? 4096 : (off_t)attr->size;
	st->st_blksize = DZ_STAT_BLKSIZE;
	st->st_blocks = (blkcnt_t)dz_div_up((uint64_t)st->st_size, 512);
	st->st_mtim = to_timespec(attr->mtime_ns);
	st->st_ctim = st->st_mtim;
	st->st_atim = st->st_mtim;
}

int dz_attr_fstat(dz_fh fh, struct stat *st)
{
	char name[DZ_NAME_MAX + 1];
	struct dz_attr attr;
	uint32_t mount;
	int r = dz_engine_fstat(dz_engine, fh, &attr);

	if (r < 0)
		return r;
	/* A marker may come from a process with other mounts than ours. */
	if (dz_engine_name(dz_engine, fh, &mount, name) < 0)
		mount = DZ_MOUNTS_MAX;
	dz_attr_to_stat(&attr, mount, st);
	return 0;
}

static int stat_path(const struct dz_path *p, struct stat *st)
{
	struct dz_attr attr;
	int r = dz_is_wild(st) ? -EFAULT : dz_path_stat(p, &attr);

	if (r == 0)
		dz_attr_to_stat(&attr, p->mount, st);
	return r;
}

/* The descriptor itself is meant: AT_EMPTY_PATH and an empty path (or none). */
static bool means_fd(const char *path, int flags)
{
	return (flags & AT_EMPTY_PATH) && (!path || path[0] == '\0');
}

/* A virtual working directory or a marker, asked for by descriptor; 0 for none of ours. */
static int stat_fd(int fd, struct stat *st)
{
	struct dz_path p;
	dz_fh fh = dz_fd_get(fd);
	int r;

	if (fh)
		r = dz_is_wild(st) ? -EFAULT : dz_attr_fstat(fh, st);
	else if (fd == AT_FDCWD && dz_path_at(AT_FDCWD, ".", &p) == 1)
		r = stat_path(&p, st);
	else
		return 0;
	return r < 0 ? r : 1;
}

/* The link of /proc that stands for a file of ours, not the file: the kernel knows it. */
static bool means_link(const char *path, int flags)
{
	return (flags & AT_SYMLINK_NOFOLLOW) && dz_fd_limit && dz_link_fd(path) >= 0;
}

/* `r`: what the kernel has said of the path as it stands, or DZ_NOT_ASKED. */
static DZ_NOINLINE long stat_looked_at(enum dz_call call, long r, int dir_fd, const char *path,
				       struct stat *st, int flags)
{
	struct dz_path p;
	long ours = means_fd(path, flags) ? stat_fd(dir_fd, st) : 0;

	if (means_link(path, flags))
		return dz_ret(dz_sys_4(SYS_newfstatat, dir_fd, path, st, flags));
	if (ours != 0)
		return dz_done(call, ours < 0 ? ours : 0, dir_fd, path, st, flags);
	ours = dz_path_look_at(dir_fd, path, &p);
	if (ours == 0) {
		if (r == DZ_NOT_ASKED || p.path != path)
			r = dz_sys_4(SYS_newfstatat, p.dir_fd, p.path, st, flags);
		if (!dz_hidden_stat(r, st, &p) && !dz_path_again(r, &p))
			return dz_ret(r);
	}
	return dz_done(call, ours < 0 ? ours : stat_path(&p, st), dir_fd, path, st, flags);
}

static DZ_INLINE long stat_at(enum dz_call call, int dir_fd, const char *path, struct stat *st,
			      int flags)
{
	long r;

	if (!dz_path_passes(dir_fd, path))
		return stat_looked_at(call, DZ_NOT_ASKED, dir_fd, path, st, flags);
	r = dz_sys_4(SYS_newfstatat, dir_fd, path, st, flags);
	if (dz_path_is_missing(r) || dz_hot.has_hidden)
		return stat_looked_at(call, r, dir_fd, path, st, flags);
	return dz_ret(r);
}

DZ_DOOR(int, stat, const char *path, struct stat *st)
{
	return (int)stat_at(DZ_CALL_stat, AT_FDCWD, path, st, 0);
}

/* There are no symbolic links in a mount. */
DZ_DOOR(int, lstat, const char *path, struct stat *st)
{
	return (int)stat_at(DZ_CALL_lstat, AT_FDCWD, path, st, AT_SYMLINK_NOFOLLOW);
}

DZ_DOOR(int, fstatat, int dir_fd, const char *path, struct stat *st, int flags)
{
	return (int)stat_at(DZ_CALL_fstatat, dir_fd, path, st, flags);
}

DZ_DOOR(int, fstat, int fd, struct stat *st)
{
	dz_fh fh = dz_fd_get(fd);
	struct dz_path p;
	long r;

	if (!fh) {
		r = dz_sys_2(SYS_fstat, fd, st);
		if (!dz_hidden_stat(r, st, &p))
			return (int)dz_ret(r);
		return (int)dz_done(DZ_CALL_fstat, stat_path(&p, st), fd, 0, st);
	}
	return (int)dz_done(DZ_CALL_fstat, dz_is_wild(st) ? -EFAULT : dz_attr_fstat(fh, st), fd, 0,
			    st);
}

/* --- before glibc 2.33: the first argument is the layout of struct stat --- */

#if defined(__x86_64__)
#define VERSION_IS_KNOWN(v) ((v) == 0 || (v) == 1)
#else
#define VERSION_IS_KNOWN(v) ((v) == 0)
#endif

DZ_DOOR(int, __xstat, int version, const char *path, struct stat *st)
{
	if (!VERSION_IS_KNOWN(version))
		return (int)dz_ret(-EINVAL);
	return (int)stat_at(DZ_CALL___xstat, AT_FDCWD, path, st, 0);
}

DZ_DOOR(int, __lxstat, int version, const char *path, struct stat *st)
{
	if (!VERSION_IS_KNOWN(version))
		return (int)dz_ret(-EINVAL);
	return (int)stat_at(DZ_CALL___lxstat, AT_FDCWD, path, st, AT_SYMLINK_NOFOLLOW);
}

DZ_DOOR(int, __fxstatat, int version, int dir_fd, const char *path, struct stat *st, int flags)
{
	if (!VERSION_IS_KNOWN(version))
		return (int)dz_ret(-EINVAL);
	return (int)stat_at(DZ_CALL___fxstatat, dir_fd, path, st, flags);
}

DZ_DOOR(int, __fxstat, int version, int fd, struct stat *st)
{
	if (!VERSION_IS_KNOWN(version))
		return (int)dz_ret(-EINVAL);
	return door_fstat(fd, st);
}

/* A key of System V from a file's number, as libc makes it, whose own stat no door sees. */
DZ_DOOR(key_t, ftok, const char *path, int project)
{
	struct stat st;

	if (stat_at(DZ_CALL_ftok, AT_FDCWD, path, &st, 0) < 0)
		return -1;
	return (key_t)((uint32_t)(st.st_ino & 0xffff) | (uint32_t)(st.st_dev & 0xff) << 16 |
		       (uint32_t)project << 24);
}

/* --- statx --- */

static struct statx_timestamp to_statx_time(struct timespec ts)
{
	return (struct statx_timestamp){ .tv_sec = ts.tv_sec, .tv_nsec = (uint32_t)ts.tv_nsec };
}

/* Last-Modified is the only time that Blob tells, so it is the birth time too. */
static void stat_to_statx(const struct stat *st, struct statx *stx)
{
	memset(stx, 0, sizeof(*stx));
	stx->stx_mask = STATX_BASIC_STATS | STATX_BTIME;
	stx->stx_blksize = (uint32_t)st->st_blksize;
	stx->stx_nlink = (uint32_t)st->st_nlink;
	stx->stx_uid = st->st_uid;
	stx->stx_gid = st->st_gid;
	stx->stx_mode = (uint16_t)st->st_mode;
	stx->stx_ino = st->st_ino;
	stx->stx_size = (uint64_t)st->st_size;
	stx->stx_blocks = (uint64_t)st->st_blocks;
	stx->stx_atime = to_statx_time(st->st_atim);
	stx->stx_ctime = to_statx_time(st->st_ctim);
	stx->stx_mtime = to_statx_time(st->st_mtim);
	stx->stx_btime = stx->stx_mtime;
	stx->stx_dev_major = major(st->st_dev);
	stx->stx_dev_minor = minor(st->st_dev);
}

static int statx_path(const struct dz_path *p, struct statx *stx)
{
	struct stat st;
	int r = dz_is_wild(stx) ? -EFAULT : stat_path(p, &st);

	if (r == 0)
		stat_to_statx(&st, stx);
	return r;
}

/* As stat_fd(): 1 done, 0 not ours, -errno. */
static int statx_fd(int fd, struct statx *stx)
{
	struct stat st;
	int r = stat_fd(fd, &st);

	if (r > 0 && dz_is_wild(stx))
		return -EFAULT;
	if (r > 0)
		stat_to_statx(&st, stx);
	return r;
}

static bool is_hidden(long r, const struct statx *stx, struct dz_path *p)
{
	struct stat st;

	if (r < 0 || !dz_hidden_count)
		return false;
	st.st_mode = stx->stx_mask & STATX_INO ? stx->stx_mode : 0;
	st.st_dev = makedev(stx->stx_dev_major, stx->stx_dev_minor);
	st.st_ino = stx->stx_ino;
	return dz_hidden_stat(r, &st, p);
}

DZ_DOOR(int, statx, int dir_fd, const char *path, int flags, unsigned int mask, struct statx *stx)
{
	struct dz_path p;
	long r = means_fd(path, flags) ? statx_fd(dir_fd, stx) : 0;

	if (means_link(path, flags))
		return (int)dz_ret(dz_sys_5(SYS_statx, dir_fd, path, flags, mask, stx));
	if (r != 0)
		return (int)dz_done(DZ_CALL_statx, r < 0 ? r : 0, dir_fd, path, flags, mask, stx);
	r = dz_path_at(dir_fd, path, &p);
	if (r == 0) {
		r = dz_sys_5(SYS_statx, p.dir_fd, p.path, flags, mask, stx);
		if (!is_hidden(r, stx, &p) && !dz_path_again(r, &p))
			return (int)dz_ret(r);
		r = 1;
	}
	return (int)dz_done(DZ_CALL_statx, r < 0 ? r : statx_path(&p, stx), dir_fd, path, flags,
			    mask, stx);
}

#include "shim/aliases.h"
