/* SPDX-License-Identifier: MIT */
/*
 * dlopen of a library on a mount: the loader opens files by calls of its own, so
 * it is given a path of /proc/self/fd/N, an ordinary descriptor with the library's bytes,
 * which is closed again when it is mapped.  RTLD_DEEPBIND and the rest of the
 * flags are the program's.
 *
 * What the library needs the loader finds among what is loaded.  So those needed that lie
 * on a mount, by its RUNPATH or LD_LIBRARY_PATH, are loaded before it; they stay loaded.
 * (What the program itself is linked with is loaded before us: that it does not see.)
 *
 * The loader takes a path that it has seen for the same library, whatever lies there by
 * now, and numbers of descriptors come again.  So each library has a spelling of its own
 * ("/proc/self/fd/.//././/7"), and the same library, opened again, has that one.
 */
#define DZ_IN_loader 1
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "shim/env.h"
#include "shim/hooks.h"
#include "shim/needed.h"
#include "shim/real.h"

typedef void *dlopen_fn(const char *, int);
typedef void *dlmopen_fn(Lmid_t, const char *, int);

/* A marker of the library, or -1: it is not on a mount, or cannot be had.  Then the loader
 * fails by itself, with its own message for dlerror. */
static int marker_of_path(const char *path)
{
	struct dz_path p;
	int ret;

	ret = dz_path_at(AT_FDCWD, path, &p);
	if (ret == 0) {
		ret = (int)dz_sys_4(SYS_faccessat, p.dir_fd, p.path, 0, 0);
		ret = dz_path_again(ret, &p);
	}
	return ret > 0 ? dz_fd_open(&p, O_RDONLY | O_CLOEXEC) : -1;
}

/* The library `name` in a directory of `path` that is on a mount. */
static int marker_along(const char *path, const char *origin, const char *name)
{
	char candidate[DZ_PATH_MAX];
	struct dz_path p;
	int marker = -1;
	int r = 0;

	for (uint32_t i = 0; path && r != -ENOENT && marker < 0; i++) {
		r = dz_needed_candidate(path, i, origin, name, candidate, sizeof(candidate));
		/* Not through links: a search is no place for a system call for each. */
		if (r == 0 && dz_path_at(AT_FDCWD, candidate, &p) > 0)
			marker = dz_fd_open(&p, O_RDONLY | O_CLOEXEC);
	}
	return marker;
}

static const char *library_path(void)
{
	char *const *env = dz_env_at_start();

	return env ? dz_config_env(env, "LD_LIBRARY_PATH") : NULL;
}

static bool is_loaded(const char *name)
{
	dlopen_fn *libc_dlopen = DZ_REAL(dlopen);
	int (*libc_dlclose)(void *) = DZ_REAL(dlclose);
	void *handle = libc_dlopen(name, RTLD_LAZY | RTLD_NOLOAD);

	if (handle)
		libc_dlclose(handle);
	return handle != NULL;
}

static int library_marker(const char *path)
{
	int marker;

	if (!path || dz_depth > 0 || !dz_is_on())
		return -1;
	if (strchr(path, '/'))
		return marker_of_path(path);
	if (!*path)
		return -1;
	marker = marker_along(library_path(), "", path);
	if (marker < 0 || !is_loaded(path))
		return marker;
	dz_fd_close(marker);
	return -1;
}

/* --- spellings --- */

#define SPELLING_BITS 16
#define SPELLINGS     256

/* What a library is known by: another blob under the same name is another one. */
struct library {
	_Atomic uint32_t spelling; /* 0: free */
	_Atomic int fd;		   /* the number in it */
	_Atomic uint64_t ino;
	_Atomic uint64_t size;
	_Atomic int64_t mtime_ns;
};

static struct library libraries[SPELLINGS];
static _Atomic uint32_t last_spelling;

static void spell(char *out, size_t len, uint32_t spelling, int fd)
{
	char bits[2 * SPELLING_BITS + 1];

	for (uint32_t i = 0; i < SPELLING_BITS; i++) {
		bits[2 * i] = '/';
		bits[2 * i + 1] = spelling >> i & 1 ? '.' : '/';
	}
	bits[2 * SPELLING_BITS] = '\0';
	snprintf(out, len, "/proc/self/fd%s/%d", bits, fd);
}

static struct library *library_find(const struct dz_attr *attr)
{
	for (uint32_t i = 0; i < SPELLINGS; i++) {
		struct library *l = &libraries[i];

		if (l->spelling && l->ino == attr->ino && l->size == attr->size &&
		    l->mtime_ns == attr->mtime_ns)
			return l;
	}
	return NULL;
}

/* When all are taken, a library that is opened twice is loaded twice. */
static void library_note(const struct dz_attr *attr, uint32_t spelling, int fd)
{
	struct library *l = library_find(attr);

	for (uint32_t i = 0; !l && i < SPELLINGS; i++)
		if (!libraries[i].spelling)
			l = &libraries[i];
	if (!l)
		return;
	l->ino = attr->ino;
	l->size = attr->size;
	l->mtime_ns = attr->mtime_ns;
	l->fd = fd;
	l->spelling = spelling;
}

/* --- loading --- */

#define NO_SPACE ((Lmid_t)-100) /* dlopen: where the caller is */

static void *load(Lmid_t space, const char *path, int flags)
{
	dlmopen_fn *libc_dlmopen = DZ_REAL(dlmopen);
	dlopen_fn *libc_dlopen = DZ_REAL(dlopen);

	return space == NO_SPACE ? libc_dlopen(path, flags) : libc_dlmopen(space, path, flags);
}

/* It is there already, or NULL. */
static void *library_again(Lmid_t space, const struct dz_attr *attr, int flags)
{
	const struct library *l = space == LM_ID_NEWLM ? NULL : library_find(attr);
	char path[80];

	if (!l)
		return NULL;
	spell(path, sizeof(path), l->spelling, l->fd);
	return load(space, path, flags | RTLD_NOLOAD);
}

/* A library that is being loaded, and who needs it. */
struct loading {
	const struct loading *by;
	uint64_t ino;
	Lmid_t space;
};

static void *library_load(const struct loading *by, Lmid_t space, int marker, int flags);

static bool is_loading(const struct loading *l, uint64_t ino)
{
	for (; l; l = l->by)
		if (l->ino == ino)
			return true;
	return false;
}

/* What stands before it in the order of loading, where that is on a mount. */
static void load_needed(const struct loading *self, int marker, int fd)
{
	char origin[DZ_PATH_MAX];
	struct dz_needed needed;
	char *slash;

	if (self->space != NO_SPACE ||
	    dz_path_of_fh(dz_fd_get(marker), origin, sizeof(origin)) < 0 ||
	    !dz_needed_open(fd, &needed))
		return;
	slash = strrchr(origin, '/');
	if (slash)
		*slash = '\0';
	for (uint32_t i = 0; i < needed.n; i++) {
		int found;

		if (strchr(needed.names[i], '/') || is_loaded(needed.names[i]))
			continue;
		found = marker_along(needed.path, origin, needed.names[i]);
		if (found < 0)
			found = marker_along(library_path(), "", needed.names[i]);
		if (found < 0)
			continue;
		library_load(self, NO_SPACE, found, RTLD_LAZY);
		dz_fd_close(found);
	}
	dz_needed_close(&needed);
}

static void *library_load(const struct loading *by, Lmid_t space, int marker, int flags)
{
	struct loading self = { .by = by, .space = space };
	dz_fh fh = dz_fd_get(marker);
	struct dz_attr attr;
	uint32_t spelling;
	void *handle;
	char path[80];
	int fd;

	if (dz_engine_fstat(dz_engine, fh, &attr) < 0 || is_loading(by, attr.ino))
		return NULL;
	handle = library_again(space, &attr, flags);
	if (handle || (flags & RTLD_NOLOAD))
		return handle;
	self.ino = attr.ino;
	fd = dz_engine_real_fd(dz_engine, fh, true);
	if (fd >= 0)
		load_needed(&self, marker, fd);
	spelling = atomic_fetch_add(&last_spelling, 1) + 1;
	/* Without a descriptor the loader fails, and says so. */
	spell(path, sizeof(path), spelling, fd);
	handle = load(space, path, flags);
	if (fd >= 0)
		dz_sys_close(fd);
	if (handle && space != LM_ID_NEWLM)
		library_note(&attr, spelling, fd);
	return handle;
}

static void *library_open(Lmid_t space, int marker, int flags)
{
	void *handle = library_load(NULL, space, marker, flags);

	dz_fd_close(marker);
	dz_done(space == NO_SPACE ? DZ_CALL_dlopen : DZ_CALL_dlmopen, 0);
	return handle;
}

/*
 * The loader searches the RUNPATH of whoever it returns to: libc's dlopen has to be
 * the last thing that these two do, so that the compiler jumps there.
 */
DZ_DOOR(void *, dlopen, const char *path, int flags)
{
	dlopen_fn *libc_dlopen = DZ_REAL(dlopen);
	int marker = library_marker(path);

	if (marker >= 0)
		return library_open(NO_SPACE, marker, flags);
	return libc_dlopen(path, flags);
}

DZ_DOOR(void *, dlmopen, Lmid_t space, const char *path, int flags)
{
	dlmopen_fn *libc_dlmopen = DZ_REAL(dlmopen);
	int marker = library_marker(path);

	if (marker >= 0)
		return library_open(space, marker, flags);
	return libc_dlmopen(space, path, flags);
}

#include "shim/aliases.h"
