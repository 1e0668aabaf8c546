/* SPDX-License-Identifier: MIT */
/*
 * open(2) and its kin.  A path of a mount becomes an open file in the engine and
 * a marker, a real descriptor, in this process.
 *
 * What may be wrong, in the order in which the kernel would find it: the name
 * (ENOENT, ENOTDIR), O_CREAT|O_EXCL on what is there (EEXIST), writing to a
 * directory (EISDIR), O_DIRECTORY or a final slash on a file (ENOTDIR), any wish
 * to write or create (EROFS).
 */
#define DZ_IN_open 1
#include "shim/hidden.h"
#include "shim/hooks.h"
#include "shim/opath.h"
#include "shim/real.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>

#define TMPFILE_BIT (O_TMPFILE & ~O_DIRECTORY)
/* What F_GETFL does not show. */
#define FLAGS_OF_OPEN (O_CLOEXEC | O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC)

static bool wants_write(int flags)
{
	return (flags & O_ACCMODE) != O_RDONLY || (flags & (O_TRUNC | TMPFILE_BIT));
}

/* The name does not exist; is that what is wrong, or that it cannot be made? */
static int missing(const struct dz_path *p, int flags)
{
	struct dz_path parent;
	struct dz_attr attr;
	uint32_t len = p->len;

	if (!(flags & O_CREAT) || len == 0)
		return -ENOENT;
	while (len > 0 && p->name[len - 1] != '/')
		len--;
	parent = *p;
	parent.len = len > 0 ? len - 1 : 0;
	parent.name[parent.len] = '\0';
	parent.wants_dir = true;
	return dz_path_stat(&parent, &attr) < 0 ? -ENOENT : -EROFS;
}

/* Whether `flags` can be had for a name with these attributes. */
static int check_attr(const struct dz_path *p, int flags, const struct dz_attr *attr)
{
	bool is_dir = S_ISDIR(attr->mode);

	if ((flags & O_CREAT) && (flags & O_EXCL))
		return -EEXIST;
	if (is_dir && !(flags & TMPFILE_BIT) && ((flags & O_CREAT) || wants_write(flags)))
		return -EISDIR;
	if (!is_dir && (p->wants_dir || (flags & O_DIRECTORY)))
		return -ENOTDIR;
	return wants_write(flags) ? -EROFS : 0;
}

static int check(const struct dz_path *p, int flags)
{
	struct dz_path name = *p;
	struct dz_attr attr;
	int r;

	name.wants_dir = false;
	r = dz_path_stat(&name, &attr);
	if (r == -ENOENT)
		return missing(p, flags);
	return r < 0 ? r : check_attr(p, flags, &attr);
}

/* Plain reading needs no look of its own: the engine finds the errors of names itself. */
static bool is_plain(const struct dz_path *p, int flags)
{
	return !(flags & (O_CREAT | O_DIRECTORY)) && !wants_write(flags) && !p->wants_dir;
}

_Atomic bool dz_opath_seen;

int dz_fd_open(const struct dz_path *p, int flags)
{
	dz_fh fh;
	int fd;
	int r;

	if (flags & O_PATH) { /* as the kernel: nothing else counts then */
		flags &= O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
		dz_opath_seen = true;
	}
	r = is_plain(p, flags) ? 0 : check(p, flags);
	if (r == 0)
		r = dz_engine_open_file(dz_engine, p->mount, p->name, p->len,
					flags & ~FLAGS_OF_OPEN, &fh);
	if (r < 0)
		return r;
	fd = dz_engine_marker(dz_engine, fh, 0, flags & O_CLOEXEC);
	if (fd < 0) {
		dz_engine_close_file(dz_engine, fh);
		return fd;
	}
	r = dz_fd_set(fd, fh);
	if (r < 0) {
		dz_sys_close(fd);
		dz_engine_close_file(dz_engine, fh);
		return r;
	}
	return fd;
}

/* A marker that was closed behind our back (io_uring can) must not lend its file to a new one. */
static long fresh(long fd)
{
	if (fd >= 0 && dz_fd_get((int)fd))
		dz_fd_set((int)fd, 0);
	return fd;
}

/* The kernel has opened the directory that a mount hides: *p is the mount's. */
static bool is_hidden(long fd, int flags, struct dz_path *p)
{
	if (fd < 0 || !(flags & O_DIRECTORY) || !dz_hidden_fd((int)fd, p))
		return false;
	dz_sys_close((int)fd);
	return true;
}

/* `r`: what the kernel has said of the path as it stands, or DZ_NOT_ASKED. */
static DZ_NOINLINE long open_looked_at(enum dz_call call, long r, int dir_fd, const char *path,
				       int flags, mode_t mode)
{
	struct dz_path p;
	long ours = dz_path_look_at(dir_fd, path, &p);

	if (ours == 0 && (flags & O_CREAT) && dz_path_is_hidden(&p))
		ours = 1;
	if (ours == 0) {
		/* A FIFO or a terminal may keep us waiting. */
		if (r == DZ_NOT_ASKED || p.path != path)
			r = dz_block_4(SYS_openat, p.dir_fd, p.path, flags, mode);
		if (!is_hidden(r, flags, &p) && !dz_path_again(r, &p))
			return dz_ret(fresh(r));
	}
	dz_cancel_point();
	return dz_done(call, ours < 0 ? ours : dz_fd_open(&p, flags), dir_fd, path, flags, mode);
}

/*
 * May the kernel be asked first?  Not to create: what is not there may be the mount point,
 * and then it would be a file.
 */
static inline bool passes(int dir_fd, const char *path, int flags)
{
	if (__builtin_expect(flags & (O_CREAT | O_DIRECTORY), 0))
		return !dz_hot.has_hidden && (!dz_is_on() || dz_path_is_elsewhere(path));
	return dz_path_passes(dir_fd, path);
}

static DZ_INLINE long open_at(enum dz_call call, int dir_fd, const char *path, int flags,
			      mode_t mode)
{
	long r;

	if (!passes(dir_fd, path, flags))
		return open_looked_at(call, DZ_NOT_ASKED, dir_fd, path, flags, mode);
	r = dz_block_4(SYS_openat, dir_fd, path, flags, mode);
	if (dz_path_is_missing(r))
		return open_looked_at(call, r, dir_fd, path, flags, mode);
	return dz_ret(fresh(r));
}

/* Without O_CREAT and O_TMPFILE the kernel does not look at mode, and neither do we. */
DZ_DOOR(int, open, const char *path, int flags, mode_t mode)
{
	return (int)open_at(DZ_CALL_open, AT_FDCWD, path, flags, mode);
}

DZ_DOOR(int, openat, int dir_fd, const char *path, int flags, mode_t mode)
{
	return (int)open_at(DZ_CALL_openat, dir_fd, path, flags, mode);
}

/* The fortified ones: with O_CREAT and no mode libc ends the program, and says why. */
DZ_DOOR(int, __open_2, const char *path, int flags)
{
	int (*real)(const char *, int) = DZ_REAL(__open_2);

	if (real && (flags & (O_CREAT | TMPFILE_BIT)))
		return real(path, flags);
	return (int)open_at(DZ_CALL___open_2, AT_FDCWD, path, flags, 0);
}

DZ_DOOR(int, __openat_2, int dir_fd, const char *path, int flags)
{
	int (*real)(int, const char *, int) = DZ_REAL(__openat_2);

	if (real && (flags & (O_CREAT | TMPFILE_BIT)))
		return real(dir_fd, path, flags);
	return (int)open_at(DZ_CALL___openat_2, dir_fd, path, flags, 0);
}

DZ_DOOR(int, creat, const char *path, mode_t mode)
{
	return (int)open_at(DZ_CALL_creat, AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

/* Does a path that began at `dir_fd` end below it?  Not when that is a directory of the kernel's.
 */
static bool is_beneath(int dir_fd, const struct dz_path *p)
{
	char dir[DZ_NAME_MAX + 1];
	dz_fh fh = dir_fd == AT_FDCWD ? 0 : dz_fd_get(dir_fd);
	uint32_t mount;
	size_t len;

	if (dir_fd == AT_FDCWD ? !dz_cwd_get(&mount, dir)
			       : !fh || dz_engine_name(dz_engine, fh, &mount, dir) < 0)
		return false;
	len = strlen(dir);
	return mount == p->mount && strncmp(p->name, dir, len) == 0 &&
	       (len == 0 || p->name[len] == '/' || p->name[len] == '\0');
}

/* A call that would leave the directory it is told to stay in: as at a mount point. */
static long open_how(int dir_fd, const struct dz_path *p, const struct open_how *how, size_t size)
{
	const uint64_t stay = RESOLVE_BENEATH | RESOLVE_IN_ROOT | RESOLVE_NO_XDEV;

	if (!how || size < sizeof(*how))
		return how ? -EINVAL : -EFAULT;
	if (how->resolve & RESOLVE_CACHED)
		return -EAGAIN;
	if ((how->resolve & stay) && !is_beneath(dir_fd, p))
		return -EXDEV;
	return dz_fd_open(p, (int)how->flags);
}

/* glibc has it since 2.43; before, programs come by syscall(2). */
DZ_DOOR(int, openat2, int dir_fd, const char *path, const struct open_how *how, size_t size)
{
	struct dz_path p;
	long r = dz_path_at(dir_fd, path, &p);

	if (r == 0) {
		r = dz_block_4(SYS_openat2, p.dir_fd, p.path, how, size);
		if (!dz_path_again(r, &p))
			return (int)dz_ret(fresh(r));
		r = 1;
	}
	return (int)dz_done(DZ_CALL_openat2, r < 0 ? r : open_how(dir_fd, &p, how, size), dir_fd,
			    path, how, size);
}

/* As a file system that has none; `p` is NULL for a descriptor of ours. */
static int refuse_handle(const struct dz_path *p)
{
	struct dz_attr attr;
	int r = p ? dz_path_stat(p, &attr) : 0;

	return r < 0 ? r : -EOPNOTSUPP;
}

DZ_DOOR(int, name_to_handle_at, int dir_fd, const char *path, void *handle, int *mount_id,
	int flags)
{
	struct dz_path p;
	long r = dz_path_at(dir_fd, path, &p);

	if (r == 0 && !dz_fd_get(dir_fd))
		return (int)dz_ret(
			dz_sys_5(SYS_name_to_handle_at, p.dir_fd, p.path, handle, mount_id, flags));
	return (int)dz_done(DZ_CALL_name_to_handle_at, r < 0 ? r : refuse_handle(r > 0 ? &p : NULL),
			    dir_fd, path, handle, mount_id, flags);
}

#include "shim/aliases.h"
