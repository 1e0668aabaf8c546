/* SPDX-License-Identifier: MIT */
/*
 * Directories: opendir and its family.
 *
 * A stream of ours is one mapping that begins with a magic number, so that each
 * function knows whose stream it was given: libc never sees ours, nor we libc's.
 * A stream over a mount holds a snapshot of the listing, taken at opendir and at
 * rewinddir; its positions are indexes: 0 is ".", 1 is "..", then the entries.
 *
 * A mount point need not exist as a real directory.  The stream of its parent is
 * then ours as well: it gives the kernel's entries, then the mount point.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define DZ_IN_dir 1
#include "shim/dir.h"
#include "shim/hidden.h"
#include "shim/hooks.h"
#include "shim/real.h"

/* The low half read as libc's first field, its descriptor, is negative. */
#define DIR_MAGIC      0x5244457ad17aface
#define DIR_READ_BYTES (32 * 1024)

struct dz_dir {
	uint64_t magic;
	int fd;
	dz_fh fh;		    /* 0: a real directory with mount points below it */
	uint64_t pos;		    /* next entry of `list`; of a real one: next mount */
	struct dz_listing list;	    /* empty for a real directory */
	uint32_t read_at, read_end; /* what is left in read_buf */
	union {
		struct dirent64 ent;
		uint8_t room[sizeof(struct dirent64) + DZ_NAME_MAX];
	};
	uint8_t read_buf[DIR_READ_BYTES] __attribute__((aligned(8)));
};
_Static_assert(sizeof(struct dirent) == sizeof(struct dirent64), "one record layout");

/* ---- streams ---- */

static bool dir_is_ours(const void *stream)
{
	return *(const uint64_t *)stream == DIR_MAGIC;
}

static int dir_new(int fd, dz_fh fh, struct dz_dir **out)
{
	void *at;
	int ret = dz_sys_mmap(&at, NULL, sizeof(struct dz_dir), PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (ret < 0)
		return ret;
	*out = at;
	(*out)->magic = DIR_MAGIC;
	(*out)->fd = fd;
	(*out)->fh = fh;
	return 0;
}

static void dir_free(struct dz_dir *d)
{
	if (d->fh)
		dz_engine_unlist(&d->list);
	d->magic = 0;
	dz_sys_munmap(d, sizeof(*d));
}

/* Over a descriptor; 0 and *out, or -errno.  The descriptor stays the caller's on error. */
static int dir_over(int fd, dz_fh fh, struct dz_dir **out)
{
	int64_t at = fh ? dz_engine_seek(dz_engine, fh, 0, SEEK_CUR) : 0;
	int ret = dir_new(fd, fh, out);

	if (ret < 0)
		return ret;
	ret = fh ? dz_dir_list(fh, &(*out)->list) : 0;
	if (ret < 0) {
		(*out)->fh = 0;
		dir_free(*out);
		return ret;
	}
	(*out)->pos = at > 0 ? (uint64_t)at : 0;
	return 0;
}

/* opendir(3) and what stands on it, for a path that is ours. */
static int dir_open(const struct dz_path *p, struct dz_dir **out)
{
	int flags = O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC;
	int fd = dz_fd_open(p, flags), ret;

	if (fd < 0)
		return fd;
	ret = dir_over(fd, dz_fd_get(fd), out);
	if (ret < 0)
		dz_fd_close(fd);
	return ret;
}

/* The kernel's next entry, then the mount points: 1, 0 at the end, -errno. */
static int dir_next_real(struct dz_dir *d)
{
	const struct dirent64 *k = (const void *)(d->read_buf + d->read_at);
	const char *name;
	struct stat st;

	if (d->read_at == d->read_end && d->pos == 0) {
		long got = dz_sys_3(SYS_getdents64, d->fd, d->read_buf, sizeof(d->read_buf));

		if (got < 0)
			return (int)got;
		d->read_at = 0;
		d->read_end = (uint32_t)got;
		k = (const void *)d->read_buf;
	}
	if (d->read_at < d->read_end) {
		memcpy(&d->ent, k, k->d_reclen);
		d->read_at += k->d_reclen;
		return 1;
	}
	if (dz_sys_fstat(d->fd, &st) < 0)
		return 0;
	name = dz_dir_mount_below(d->fd, &st, &d->pos);
	if (!name)
		return 0;
	struct dz_dir_entry e = { d->pos, name, strlen(name), DT_DIR };
	dz_dir_record(&d->ent, sizeof(d->room), &e, -(int64_t)d->pos);
	return 1;
}

/* Fills d->ent: 1, 0 at the end, -errno. */
static int dir_next(struct dz_dir *d)
{
	struct dz_dir_entry e;
	uint64_t pos;

	if (!d->fh)
		return dir_next_real(d);
	pos = d->pos;
	if (!dz_dir_entry_at(d->fh, &d->list, pos, &e)) {
		/* Whoever shares the description is at the end too. */
		dz_engine_seek(dz_engine, d->fh, (int64_t)pos, SEEK_SET);
		return 0;
	}
	dz_dir_record(&d->ent, sizeof(d->room), &e, (int64_t)pos + 1);
	d->pos = pos + 1;
	return 1;
}

static void dir_rewind(struct dz_dir *d)
{
	struct dz_listing fresh;

	d->pos = 0;
	d->read_at = d->read_end = 0;
	if (!d->fh) {
		dz_sys_3(SYS_lseek, d->fd, 0, SEEK_SET);
		return;
	}
	dz_engine_seek(dz_engine, d->fh, 0, SEEK_SET);
	/* What cannot be listed again stays as it was. */
	if (dz_dir_list(d->fh, &fresh) < 0)
		return;
	dz_engine_unlist(&d->list);
	d->list = fresh;
}

static void dir_seek(struct dz_dir *d, long to)
{
	if (d->fh) {
		d->pos = to > 0 ? (uint64_t)to : 0;
		return;
	}
	d->read_at = d->read_end = 0;
	d->pos = to < 0 ? (uint64_t)-to : 0;
	if (to >= 0)
		dz_sys_3(SYS_lseek, d->fd, to, SEEK_SET);
}

/* A descriptor becomes a stream: 1 and *out when it is ours or shows a mount, 0 when libc's. */
static int dir_from_fd(int fd, struct dz_dir **out)
{
	struct dz_path p;
	int ret;

	if (!dz_fd_get(fd) && dz_hidden_fd(fd, &p)) {
		ret = dz_hidden_replace(fd, &p);
		if (ret < 0)
			return ret;
	}
	if (!dz_fd_get(fd) && !dz_dir_has_mount_below(fd))
		return 0;
	ret = dir_over(fd, dz_fd_get(fd), out);
	return ret < 0 ? ret : 1;
}

/* libc's stream, replaced by ours when it has a mount point to show. */
static DIR *dir_or_libc(DIR *libc)
{
	int (*libc_dirfd)(DIR *) = DZ_REAL(dirfd);
	int (*libc_closedir)(DIR *) = DZ_REAL(closedir);
	struct dz_dir *d;
	int fd;

	if (!libc || !dz_is_on() || !dz_dir_has_mount_below(libc_dirfd(libc)))
		return libc;
	fd = (int)dz_sys_3(SYS_fcntl, libc_dirfd(libc), F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return libc;
	if (dir_over(fd, 0, &d) < 0) {
		dz_sys_close(fd);
		return libc;
	}
	libc_closedir(libc);
	return (DIR *)d;
}

/* Is it of a real directory that a mount hides?  Then it is closed, and *p what is meant. */
static bool dir_is_hidden(DIR *libc, struct dz_path *p)
{
	int (*libc_dirfd)(DIR *) = DZ_REAL(dirfd);
	int (*libc_closedir)(DIR *) = DZ_REAL(closedir);

	if (!dz_hidden_fd(libc_dirfd(libc), p))
		return false;
	libc_closedir(libc);
	return true;
}

/* In a trace it is an open of a descriptor, as strace would show it. */
static long number_of(int ret, struct dz_dir *const *d)
{
	return ret < 0 ? ret : (*d)->fd;
}

DZ_DOOR(DIR *, opendir, const char *path)
{
	DIR *(*libc_opendir)(const char *) = DZ_REAL(opendir);
	struct dz_path p;
	struct dz_dir *d;
	long r = dz_path_at(AT_FDCWD, path, &p);

	if (r == 0) {
		DIR *dir = libc_opendir(p.path);

		if (dir ? !dir_is_hidden(dir, &p) : !dz_path_again(-errno, &p))
			return dir_or_libc(dir);
	}
	r = dz_done(DZ_CALL_opendir, r < 0 ? r : number_of(dir_open(&p, &d), &d), AT_FDCWD, path,
		    O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_DIRECTORY);
	return r < 0 ? NULL : (DIR *)d;
}

DZ_DOOR(DIR *, fdopendir, int fd)
{
	DIR *(*libc_fdopendir)(int) = DZ_REAL(fdopendir);
	struct dz_dir *d;
	long r = dir_from_fd(fd, &d);

	if (r == 0)
		return libc_fdopendir(fd);
	r = dz_done(DZ_CALL_fdopendir, r < 0 ? r : 0, fd);
	return r < 0 ? NULL : (DIR *)d;
}

DZ_DOOR(int, closedir, DIR *dir)
{
	int (*libc_closedir)(DIR *) = DZ_REAL(closedir);
	struct dz_dir *d = (struct dz_dir *)dir;
	int fd;

	if (!dir || !dir_is_ours(dir))
		return libc_closedir(dir);
	fd = d->fd;
	dir_free(d);
	return (int)dz_done(DZ_CALL_closedir, dz_fd_close(fd), fd);
}

DZ_DOOR(struct dirent64 *, readdir, DIR *dir)
{
	struct dirent64 *(*libc_readdir)(DIR *) = DZ_REAL(readdir64);
	struct dz_dir *d = (struct dz_dir *)dir;
	long r;

	if (!dir_is_ours(dir))
		return libc_readdir(dir);
	r = dir_next(d);
	if (r < 0)
		dz_ret(r);
	return r > 0 ? &d->ent : NULL;
}

DZ_DOOR(int, readdir_r, DIR *dir, struct dirent64 *ent, struct dirent64 **out)
{
	int (*libc_readdir_r)(DIR *, struct dirent64 *, struct dirent64 **) = DZ_REAL(readdir64_r);
	struct dz_dir *d = (struct dz_dir *)dir;
	int r;

	if (!dir_is_ours(dir))
		return libc_readdir_r(dir, ent, out);
	/* A longer name does not fit into what the caller has. */
	do
		r = dir_next(d);
	while (r > 0 && d->ent.d_reclen > sizeof(*ent));
	*out = r > 0 ? memcpy(ent, &d->ent, d->ent.d_reclen) : NULL;
	return r < 0 ? -r : 0;
}

DZ_DOOR(void, rewinddir, DIR *dir)
{
	void (*libc_rewinddir)(DIR *) = DZ_REAL(rewinddir);

	if (!dir_is_ours(dir))
		libc_rewinddir(dir);
	else
		dir_rewind((struct dz_dir *)dir);
}

DZ_DOOR(void, seekdir, DIR *dir, long to)
{
	void (*libc_seekdir)(DIR *, long) = DZ_REAL(seekdir);

	if (!dir_is_ours(dir))
		libc_seekdir(dir, to);
	else
		dir_seek((struct dz_dir *)dir, to);
}

DZ_DOOR(long, telldir, DIR *dir)
{
	long (*libc_telldir)(DIR *) = DZ_REAL(telldir);
	struct dz_dir *d = (struct dz_dir *)dir;

	if (!dir_is_ours(dir))
		return libc_telldir(dir);
	/* Of a real directory: the position after the entry that was given last. */
	return d->fh ? (long)d->pos : d->ent.d_off;
}

DZ_DOOR(int, dirfd, DIR *dir)
{
	int (*libc_dirfd)(DIR *) = DZ_REAL(dirfd);

	return dir_is_ours(dir) ? ((struct dz_dir *)dir)->fd : libc_dirfd(dir);
}

/* ---- scandir: over the doors above, as a program would ---- */

struct scan {
	struct dirent64 **list;
	size_t n, room;
};

static void scan_free(struct scan *s)
{
	while (s->n > 0)
		free(s->list[--s->n]); /* lint: free: what scan_add made */
	free(s->list);		       /* lint: free: what scan_add made */
}

/* What scandir gives is freed by the program, entry by entry: it has to be malloc's. */
static int scan_add(struct scan *s, const struct dirent64 *ent)
{
	struct dirent64 *copy;

	if (s->n == s->room) {
		size_t room = s->room ? 2 * s->room : 32;
		void *list =
			realloc(s->list, room * sizeof(*s->list)); /* lint: realloc: as above */

		if (!list)
			return -ENOMEM;
		s->list = list;
		s->room = room;
	}
	copy = malloc(ent->d_reclen); /* lint: malloc: the caller frees it */
	if (!copy)
		return -ENOMEM;
	s->list[s->n++] = memcpy(copy, ent, ent->d_reclen);
	return 0;
}

typedef int scan_filter(const struct dirent64 *);
typedef int scan_order(const struct dirent64 **, const struct dirent64 **);

static int scan_all(struct dz_dir *d, struct scan *s, scan_filter *filter)
{
	int ret;

	while ((ret = dir_next(d)) > 0) {
		if (filter && !filter(&d->ent))
			continue;
		ret = scan_add(s, &d->ent);
		if (ret < 0)
			return ret;
	}
	return ret;
}

static int scan(struct dz_dir *d, struct dirent64 ***out, scan_filter *filter, scan_order *order)
{
	struct scan s = { 0 };
	int fd = d->fd, ret = scan_all(d, &s, filter);

	dir_free(d);
	dz_fd_close(fd);
	if (ret < 0) {
		scan_free(&s);
		return ret;
	}
	if (order && s.n > 1)
		qsort(s.list, s.n, sizeof(*s.list), (int (*)(const void *, const void *))order);
	*out = s.list;
	return (int)s.n;
}

/* A path that is ours, or that has a mount point to show: 1 and *out, 0 it is libc's, -errno. */
static int scan_open(int dir_fd, const char *path, struct dz_dir **out)
{
	struct dz_path p;
	int ret = dz_path_at(dir_fd, path, &p), fd;

	if (ret < 0 || !dz_is_on())
		return ret;
	if (ret == 0) {
		fd = dz_sys_openat(p.dir_fd, p.path,
				   O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC, 0);
		if (fd >= 0 && !dz_hidden_fd(fd, &p)) {
			ret = dz_dir_has_mount_below(fd) ? dir_over(fd, 0, out) : 1;
			if (ret != 0)
				dz_sys_close(fd);
			return ret == 0;
		}
		if (fd < 0 && !dz_path_again(fd, &p))
			return 0;
		if (fd >= 0)
			dz_sys_close(fd);
	}
	ret = dir_open(&p, out);
	return ret < 0 ? ret : 1;
}

DZ_DOOR(int, scandirat, int dir_fd, const char *path, struct dirent64 ***out, scan_filter *filter,
	scan_order *order)
{
	int (*libc_scandirat)(int, const char *, struct dirent64 ***, scan_filter *, scan_order *) =
		DZ_REAL(scandirat64);
	struct dz_dir *d;
	long r = scan_open(dir_fd, path, &d);

	if (r == 0)
		return libc_scandirat(dir_fd, path, out, filter, order);
	return (int)dz_done(DZ_CALL_scandirat, r < 0 ? r : scan(d, out, filter, order), dir_fd,
			    path, out, filter, order);
}

DZ_DOOR(int, scandir, const char *path, struct dirent64 ***out, scan_filter *filter,
	scan_order *order)
{
	return door_scandirat(AT_FDCWD, path, out, filter, order);
}

#include "shim/aliases.h"
