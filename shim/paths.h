/* SPDX-License-Identifier: MIT */
/*
 * Is a path ours?  Applies the directory descriptor, the virtual working
 * directory, ".", "..", "//".  Below a mount there are no symbolic links, so ".."
 * is lexical there, but the component before it must be a directory that exists.
 */
#ifndef DZ_PATHS_H
#define DZ_PATHS_H

#include "shim/fdtab.h"
#include "shim/init.h"
#include "shim/wild.h"

#include <errno.h>
#include <fcntl.h>

struct dz_path {
	/* What to give the kernel when the path is not ours: mostly the caller's
	 * own, but "../../etc" from below a mount becomes "/etc". */
	int dir_fd;
	const char *path;
	/* What it is when it is ours. */
	uint32_t mount;
	uint32_t len;		    /* of name */
	bool wants_dir;		    /* the path ended in '/', "/." or "/.." */
	char name[DZ_NAME_MAX + 1]; /* below the mount, "" is its root */
};

/*
 * 1: ours, *out filled, and the engine is attached.  0: not ours, call the kernel
 * with out->dir_fd and out->path.  -errno: ours and wrong (-ENAMETOOLONG,
 * -ENOTDIR, -ENOENT; -EIO no engine).  A NULL or empty path is the kernel's
 * (relative "" with a managed dir_fd included: AT_EMPTY_PATH callers look at the
 * descriptor first).
 */
int dz_path_look(int dir_fd, const char *path, struct dz_path *out);
/*
 * One pass over an absolute path that needs no walk and begins as no mount does: most
 * paths of most programs.  False: it has to be looked at.
 */
bool dz_path_is_elsewhere(const char *path);
/* At the start, after dz_hidden_start(): with what the mounts' paths begin. */
void dz_path_start(void);

static inline int dz_path_at(int dir_fd, const char *path, struct dz_path *out)
{
	out->dir_fd = dir_fd;
	out->path = path;
	return dz_is_on() && !dz_path_is_elsewhere(path) ? dz_path_look(dir_fd, path, out) : 0;
}

/* The same where dz_path_passes() has said no. */
static inline int dz_path_look_at(int dir_fd, const char *path, struct dz_path *out)
{
	out->dir_fd = dir_fd;
	out->path = path;
	return dz_is_on() ? dz_path_look(dir_fd, path, out) : 0;
}

/* Which bit of dz_hot.begins a path that begins with a slash has. */
static inline unsigned int dz_path_bit(const char *path)
{
	return path[1] & 63;
}

/*
 * May the kernel be asked first?  At a glance: what begins like no mount, or at a real
 * directory, can only end in one by way of a name that the kernel does not find, be it a
 * symbolic link or a "..".  So what is missing (dz_path_is_missing) is to be looked at.
 * Not so where the mount point exists, and the kernel would find what the mount hides.
 */
static inline bool dz_path_passes(int dir_fd, const char *path)
{
	if (!dz_is_on())
		return true;
	if (__builtin_expect(dz_hot.has_hidden || dz_is_wild(path), 0))
		return dz_path_is_elsewhere(path);
	if (__builtin_expect(path[0] == '/', 1))
		return !(dz_hot.begins >> dz_path_bit(path) & 1) || dz_path_is_elsewhere(path);
	return path[0] && (dir_fd == AT_FDCWD ? !dz_hot.was_inside : !dz_fd_get(dir_fd));
}

/* An answer behind which a path of ours may be. */
static inline bool dz_path_is_missing(long r)
{
	return __builtin_expect(r == -ENOENT || r == -ENOTDIR, 0);
}

/*
 * After the kernel failed with `r` on a path that is not ours: does it lead into
 * a mount through a symbolic link outside?  Then *p is that path, as
 * from dz_path_at().
 */
bool dz_path_follow(struct dz_path *p);

/*
 * Before the kernel makes a new name that is not ours: would it stand in a real
 * directory that a mount hides (hidden.h)?  Then *p is that path below the mount.
 */
bool dz_path_is_hidden(struct dz_path *p);

static inline bool dz_path_again(long r, struct dz_path *p)
{
	return dz_path_is_missing(r) && dz_is_on() && dz_path_follow(p);
}

/* The attributes of a path that is ours; -ENOTDIR when it wants a directory and is a file. */
int dz_path_stat(const struct dz_path *p, struct dz_attr *attr);
/* Is this normalised path a parent of a mount? */
bool dz_path_is_above(const char *path);
/* The local path ("/mnt/blob/a/b") of a mount's name; returns its length or -ERANGE. */
int dz_path_local(uint32_t mount, const char *name, char *buf, size_t len);
/* The local path of an open file; its length or -errno. */
int dz_path_of_fh(dz_fh fh, char *buf, size_t len);

/* --- the virtual working directory (cwd.c) --- */

bool dz_cwd_is_inside(void);
/* Is it below a mount?  Then its mount and name (DZ_NAME_MAX + 1 bytes). */
bool dz_cwd_get(uint32_t *mount, char *name);
/* "DELTAZERO_CWD=..." for the environment of a child, NULL when it is the kernel's. */
const char *dz_cwd_env(char *buf, size_t len);
/* At start: takes DELTAZERO_CWD over when the kernel's directory is the empty one. */
void dz_cwd_start(const char *value);
/* chdir(2): 0 or -errno. */
int dz_cwd_change(const char *path);
/* getcwd(2), the system call: bytes with the NUL, or -errno. */
long dz_cwd_syscall(char *buf, size_t len);
/* A descriptor (O_PATH, close-on-exec) of a directory that is empty and stays so; -errno. */
int dz_cwd_void_fd(void);

#endif
