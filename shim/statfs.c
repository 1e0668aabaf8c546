/* SPDX-License-Identifier: MIT */
/* File system information: a read-only one, as large as the cache. */
#define DZ_IN_statfs 1
#include "shim/attr.h"
#include "shim/hooks.h"
#include "shim/real.h"
#include "shim/wild.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define DZ_FS_MAGIC 0x445a /* "DZ" */

static void fill(struct statfs *st)
{
	uint64_t bytes = 0;
	uint64_t used = 0;

	dz_engine_space(dz_engine, &bytes, &used);
	memset(st, 0, sizeof(*st));
	st->f_type = DZ_FS_MAGIC;
	st->f_bsize = DZ_STAT_BLKSIZE;
	st->f_frsize = 4096;
	st->f_blocks = (fsblkcnt_t)(bytes / 4096);
	st->f_bfree = (fsblkcnt_t)((bytes - dz_min_u64(used, bytes)) / 4096);
	st->f_bavail = 0; /* nothing can be written */
	st->f_namelen = 255;
	st->f_flags = ST_RDONLY | ST_NOSUID | ST_NODEV;
}

static void fill_vfs(struct statvfs *vfs)
{
	struct statfs st;

	fill(&st);
	memset(vfs, 0, sizeof(*vfs));
	vfs->f_bsize = (unsigned long)st.f_bsize;
	vfs->f_frsize = (unsigned long)st.f_frsize;
	vfs->f_blocks = st.f_blocks;
	vfs->f_bfree = st.f_bfree;
	vfs->f_bavail = st.f_bavail;
	vfs->f_fsid = DZ_FS_MAGIC;
	vfs->f_flag = (unsigned long)st.f_flags;
	vfs->f_namemax = (unsigned long)st.f_namelen;
}

static int exists(const struct dz_path *p, const void *buf)
{
	struct dz_attr attr;

	return dz_is_wild(buf) ? -EFAULT : dz_path_stat(p, &attr);
}

DZ_DOOR(int, statfs, const char *path, struct statfs *st)
{
	struct dz_path p;
	long r = dz_path_at(AT_FDCWD, path, &p);

	if (r == 0) {
		r = dz_sys_2(SYS_statfs, p.path, st);
		if (!dz_path_again(r, &p))
			return (int)dz_ret(r);
		r = 1;
	}
	r = dz_done(DZ_CALL_statfs, r < 0 ? r : exists(&p, st), path, st);
	if (r == 0)
		fill(st);
	return (int)r;
}

DZ_DOOR(int, fstatfs, int fd, struct statfs *st)
{
	if (!dz_fd_get(fd))
		return (int)dz_ret(dz_sys_2(SYS_fstatfs, fd, st));
	if (st)
		fill(st);
	return (int)dz_done(DZ_CALL_fstatfs, dz_is_wild(st) ? -EFAULT : 0, fd, st);
}

/* libc makes a struct statvfs of the kernel's statfs; that is left to it. */
DZ_DOOR(int, statvfs, const char *path, struct statvfs *vfs)
{
	int (*real)(const char *, struct statvfs *) = DZ_REAL(statvfs);
	struct dz_path p;
	long r = dz_path_at(AT_FDCWD, path, &p);

	if (r == 0) {
		r = real(p.path, vfs);
		if (r == 0 || !dz_path_again(-errno, &p))
			return (int)r;
		r = 1;
	}
	r = dz_done(DZ_CALL_statvfs, r < 0 ? r : exists(&p, vfs), path, vfs);
	if (r == 0)
		fill_vfs(vfs);
	return (int)r;
}

DZ_DOOR(int, fstatvfs, int fd, struct statvfs *vfs)
{
	int (*real)(int, struct statvfs *) = DZ_REAL(fstatvfs);

	if (!dz_fd_get(fd))
		return real(fd, vfs);
	if (vfs)
		fill_vfs(vfs);
	return (int)dz_done(DZ_CALL_fstatvfs, dz_is_wild(vfs) ? -EFAULT : 0, fd, vfs);
}

/* -1 with errno as it was: there is no limit. */
static long limit_of(int name)
{
	switch (name) {
	case _PC_LINK_MAX:
		return 1;
	case _PC_NAME_MAX:
		return 255;
	case _PC_PATH_MAX:
		return PATH_MAX;
	case _PC_PIPE_BUF:
		return PIPE_BUF;
	case _PC_CHOWN_RESTRICTED:
	case _PC_NO_TRUNC:
	case _PC_2_SYMLINKS:
		return 1;
	case _PC_FILESIZEBITS:
		return 64;
	case _PC_REC_INCR_XFER_SIZE:
	case _PC_REC_MIN_XFER_SIZE:
	case _PC_ALLOC_SIZE_MIN:
	case _PC_REC_XFER_ALIGN:
		return 4096;
	case _PC_MAX_CANON:
	case _PC_MAX_INPUT:
		return 255;
	case _PC_VDISABLE:
		return 0;
	default:
		return -1;
	}
}

/* Libc's answer; true when the path leads into a mount: it then is in *p. */
static bool pathconf_libc(struct dz_path *p, int name, long *answer)
{
	long (*real)(const char *, int) = DZ_REAL(pathconf);
	int saved = errno;

	errno = 0;
	*answer = real(p->path, name);
	if (*answer < 0 && dz_path_again(-errno, p))
		return true;
	if (errno == 0)
		errno = saved;
	return false;
}

DZ_DOOR(long, pathconf, const char *path, int name)
{
	struct dz_path p;
	long answer;
	long r = dz_path_at(AT_FDCWD, path, &p);

	if (r == 0 && !pathconf_libc(&p, name, &answer))
		return answer;
	r = r < 0 ? r : exists(&p, "");
	r = dz_done(DZ_CALL_pathconf, r, path, name);
	return r < 0 ? r : limit_of(name);
}

DZ_DOOR(long, fpathconf, int fd, int name)
{
	long (*real)(int, int) = DZ_REAL(fpathconf);

	if (!dz_fd_get(fd))
		return real(fd, name);
	dz_done(DZ_CALL_fpathconf, 0, fd, name);
	return limit_of(name);
}

DZ_DOOR(int, isfdtype, int fd, int type)
{
	int (*real)(int, int) = DZ_REAL(isfdtype);
	dz_fh fh = dz_fd_get(fd);
	struct stat st;
	int r;

	if (!fh)
		return real(fd, type);
	r = dz_attr_fstat(fh, &st);
	return (int)dz_done(DZ_CALL_isfdtype, r < 0 ? r : (st.st_mode & S_IFMT) == (mode_t)type, fd,
			    type);
}

#include "shim/aliases.h"
