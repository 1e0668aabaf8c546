/* SPDX-License-Identifier: MIT */
/*
 * From a path as a program writes it to a mount and a name, or to "not ours".
 *
 *  1. Most paths are absolute, clean and elsewhere: a compare with each mount's
 *     first bytes and two searches for what is not clean.
 *  2. A relative path on a real directory is only looked at when one of its
 *     components is the last component of a mount: no other can enter one.
 *  3. What is left is joined to its base and walked component by component in
 *     `struct walk`, a normalised absolute path.
 *
 * A path that goes through a mount and leaves it ("/mnt/blob/../x", "../../etc"
 * in a virtual working directory) is not ours, but the kernel could not follow
 * it: it gets the walked path instead.
 */
#include "shim/paths.h"

#include "shim/fdtab.h"
#include "shim/guard.h"
#include "shim/hidden.h"
#include "shim/link.h"
#include "shim/seen.h"
#include "shim/wild.h"

#include "cache/sys.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* Normalised and absolute, without a slash at the end: "" is the root. */
struct walk {
	char buf[DZ_PATH_MAX];
	size_t len;
	bool was_inside; /* it has been below a mount */
};

/* The mount that holds the normalised path, its index; -1 none. */
static int mount_of(const char *path, size_t len)
{
	uint32_t i;

	for (i = 0; i < dz_config.n_mounts; i++) {
		const struct dz_mount *m = &dz_config.mounts[i];

		if (len >= m->local_len && memcmp(path, m->local, m->local_len) == 0 &&
		    (path[m->local_len] == '/' || path[m->local_len] == '\0'))
			return (int)i;
	}
	return -1;
}

/* Fills *out from what stands behind a mount's local path ("", "/a/b"). */
static int take_name(int mount, const char *rest, size_t len, struct dz_path *out)
{
	while (len > 0 && *rest == '/') {
		rest++;
		len--;
	}
	if (len > DZ_NAME_MAX)
		return -ENAMETOOLONG;
	/* rest may lie in out->name (dz_path_follow). */
	memmove(out->name, rest, len);
	out->name[len] = '\0';
	out->len = (uint32_t)len;
	out->mount = (uint32_t)mount;
	return dz_attach() < 0 ? -EIO : 1;
}

int dz_path_stat(const struct dz_path *p, struct dz_attr *attr)
{
	int r = dz_engine_stat(dz_engine, p->mount, p->name, p->len, attr);

	if (r == 0 && p->wants_dir && !S_ISDIR(attr->mode))
		return -ENOTDIR;
	return r;
}

/* ".." below a mount: what it is applied to must be a directory, as for the kernel. */
static int check_dir(const struct walk *w)
{
	struct dz_attr attr;
	struct dz_path p;
	int mount = mount_of(w->buf, w->len);
	int r;

	if (mount < 0)
		return 0;
	p.wants_dir = true;
	r = take_name(mount, w->buf + dz_config.mounts[mount].local_len,
		      w->len - dz_config.mounts[mount].local_len, &p);
	return r < 0 ? r : dz_path_stat(&p, &attr);
}

static int walk_up(struct walk *w)
{
	int r = check_dir(w);

	while (w->len > 0 && w->buf[w->len - 1] != '/')
		w->len--;
	w->len -= w->len > 0;
	w->buf[w->len] = '\0';
	return r;
}

static int walk_down(struct walk *w, const char *component, size_t len)
{
	if (w->len + 1 + len + 1 > sizeof(w->buf))
		return -ENAMETOOLONG;
	w->buf[w->len++] = '/';
	memcpy(w->buf + w->len, component, len);
	w->len += len;
	w->buf[w->len] = '\0';
	w->was_inside = w->was_inside || mount_of(w->buf, w->len) >= 0;
	return 0;
}

static int walk_step(struct walk *w, const char *component, size_t len)
{
	if (len == 0 || (len == 1 && component[0] == '.'))
		return 0;
	if (len == 2 && component[0] == '.' && component[1] == '.')
		return walk_up(w);
	return walk_down(w, component, len);
}

static int walk_along(struct walk *w, const char *path)
{
	size_t len;
	int r = 0;

	for (; *path && r == 0; path += len) {
		while (*path == '/')
			path++;
		len = strcspn(path, "/");
		r = walk_step(w, path, len);
	}
	return r;
}

static bool ends_as_dir(const char *path)
{
	const char *last = strrchr(path, '/');

	last = last ? last + 1 : path;
	return strcmp(last, "") == 0 || strcmp(last, ".") == 0 || strcmp(last, "..") == 0;
}

/* The kernel gets the walked path: it cannot follow the one that was written. */
static int leave(const struct walk *w, struct dz_path *out)
{
	int n = snprintf(out->name, sizeof(out->name), "%s%s", w->buf,
			 w->len == 0 || out->wants_dir ? "/" : "");

	if (n < 0 || (size_t)n >= sizeof(out->name))
		return -ENAMETOOLONG;
	out->dir_fd = AT_FDCWD;
	out->path = out->name;
	return 0;
}

/* `path` from the base that is in *w already. */
static int look_from(struct walk *w, const char *path, struct dz_path *out)
{
	bool wants_dir = ends_as_dir(path);
	int mount;
	int r;

	r = walk_along(w, path);
	mount = mount_of(w->buf, w->len);
	if (r < 0)
		return w->was_inside || mount >= 0 ? r : 0;
	out->wants_dir = wants_dir;
	if (mount >= 0)
		return take_name(mount, w->buf + dz_config.mounts[mount].local_len,
				 w->len - dz_config.mounts[mount].local_len, out);
	return w->was_inside ? leave(w, out) : 0;
}

/* No "//", "/./", "/../" and no slash at the end: nothing to normalise. */
static bool is_clean(const char *path, size_t len)
{
	return !strstr(path, "//") && !strstr(path, "/.") && path[len - 1] != '/';
}

/* A path that is clean and elsewhere must not cost a walk's room on a signal handler's stack. */
static __attribute__((noinline)) int look_unclean(const char *path, struct dz_path *out)
{
	struct walk w;

	w.len = 0;
	w.buf[0] = '\0';
	w.was_inside = false;
	return look_from(&w, path, out);
}

static int look_absolute(const char *path, struct dz_path *out)
{
	size_t len = strlen(path);
	bool clean = is_clean(path, len);
	int mount = clean ? mount_of(path, len) : -1;

	if (mount >= 0) {
		out->wants_dir = false;
		return take_name(mount, path + dz_config.mounts[mount].local_len,
				 len - dz_config.mounts[mount].local_len, out);
	}
	return clean || len >= DZ_PATH_MAX ? 0 : look_unclean(path, out);
}

/* Is one component the last of a mount's local path?  A path without it enters none. */
static bool may_enter(const char *path)
{
	size_t len;
	uint32_t i;

	for (; *path; path += len) {
		while (*path == '/')
			path++;
		len = strcspn(path, "/");
		for (i = 0; i < dz_config.n_mounts; i++) {
			const struct dz_mount *m = &dz_config.mounts[i];

			if (m->local_len > len && m->local[m->local_len - len - 1] == '/' &&
			    memcmp(m->local + m->local_len - len, path, len) == 0)
				return true;
		}
	}
	return false;
}

/* Where a real directory descriptor (or AT_FDCWD) stands; false when nobody can say. */
static bool real_base(int dir_fd, struct walk *w)
{
	char link[32];
	long n;

	if (dir_fd == AT_FDCWD) {
		n = dz_sys_2(SYS_getcwd, w->buf, sizeof(w->buf)) - 1;
	} else {
		snprintf(link, sizeof(link), "/proc/self/fd/%d", dir_fd);
		n = dz_sys_4(SYS_readlinkat, AT_FDCWD, link, w->buf, sizeof(w->buf) - 1);
	}
	if (n <= 0 || w->buf[0] != '/')
		return false;
	w->len = n == 1 ? 0 : (size_t)n;
	w->buf[w->len] = '\0';
	w->was_inside = mount_of(w->buf, w->len) >= 0;
	return true;
}

static int base_of_mount(uint32_t mount, const char *name, struct walk *w)
{
	int n = dz_path_local(mount, name, w->buf, sizeof(w->buf));

	if (n < 0)
		return -ENAMETOOLONG;
	w->len = (size_t)n;
	w->was_inside = true;
	return 0;
}

/* A relative path of a real directory. */
static __attribute__((noinline)) int look_from_real(int dir_fd, const char *path,
						    struct dz_path *out)
{
	struct walk w;

	return real_base(dir_fd, &w) ? look_from(&w, path, out) : 0;
}

/* 1 with the base in *w, or -errno. */
static int base_of(int dir_fd, struct walk *w)
{
	dz_fh fh = dir_fd == AT_FDCWD ? 0 : dz_fd_get(dir_fd);
	char name[DZ_NAME_MAX + 1];
	struct dz_attr attr;
	uint32_t mount;

	if (dir_fd == AT_FDCWD)
		return dz_cwd_get(&mount, name) && base_of_mount(mount, name, w) == 0
			       ? 1
			       : -ENAMETOOLONG;
	if (dz_engine_fstat(dz_engine, fh, &attr) < 0 ||
	    dz_engine_name(dz_engine, fh, &mount, name) < 0)
		return -EBADF;
	if (!S_ISDIR(attr.mode))
		return -ENOTDIR;
	return base_of_mount(mount, name, w) < 0 ? -ENAMETOOLONG : 1;
}

/* "/dev/stdin" and the like: the kernel would find a socket behind the marker (ENXIO). */
static int look_link(int fd, struct dz_path *out)
{
	int r = dz_engine_name(dz_engine, dz_fd_get(fd), &out->mount, out->name);

	if (r < 0)
		return r;
	out->len = (uint32_t)strlen(out->name);
	out->wants_dir = false;
	return 1;
}

static __attribute__((noinline)) int look_from_ours(int dir_fd, const char *path,
						    struct dz_path *out)
{
	struct walk w;
	int r = base_of(dir_fd, &w);

	return r > 0 ? look_from(&w, path, out) : r;
}

int dz_path_look(int dir_fd, const char *path, struct dz_path *out)
{
	int r;

	if (dz_depth > 0 || dz_is_wild(path) || path[0] == '\0')
		return 0;
	r = dz_fd_limit ? dz_link_fd(path) : -1;
	if (r >= 0)
		return look_link(r, out);
	if (path[0] == '/')
		return look_absolute(path, out);
	if (dir_fd == AT_FDCWD ? dz_cwd_is_inside() : dz_fd_get(dir_fd) != 0)
		return look_from_ours(dir_fd, path, out);
	return may_enter(path) ? look_from_real(dir_fd, path, out) : 0;
}

bool dz_path_is_above(const char *path)
{
	size_t len = strlen(path);
	uint32_t i;

	for (i = 0; i < dz_config.n_mounts; i++)
		if (strncmp(dz_config.mounts[i].local, path, len) == 0 &&
		    dz_config.mounts[i].local[len] == '/')
			return true;
	return false;
}

int dz_path_local(uint32_t mount, const char *name, char *buf, size_t len)
{
	int n = snprintf(buf, len, "%s%s%s", dz_config.mounts[mount].local, *name ? "/" : "", name);

	return n < 0 || (size_t)n >= len ? -ERANGE : n;
}

int dz_path_of_fh(dz_fh fh, char *buf, size_t len)
{
	char name[DZ_NAME_MAX + 1];
	uint32_t mount;
	int r = dz_engine_name(dz_engine, fh, &mount, name);

	return r < 0 ? r : dz_path_local(mount, name, buf, len);
}

/* --- symbolic links that lead into a mount --- */

#define LINKS_MAX 40 /* as the kernel */

/* What is left to walk; a link's target is put before it. */
struct rest {
	char buf[DZ_PATH_MAX];
	char *at;
};

static bool rest_put(struct rest *rest, const char *target, size_t len)
{
	size_t left = strlen(rest->at);

	if (len + 1 + left + 1 > sizeof(rest->buf))
		return false;
	memmove(rest->buf + len + (left > 0), rest->at, left + 1);
	memcpy(rest->buf, target, len);
	/* Not at the end: what the link means need not be a directory. */
	if (left > 0)
		rest->buf[len] = '/';
	rest->at = rest->buf;
	return true;
}

/* A step of the kernel's walk: down, and through a link.  False: it leads nowhere. */
static bool follow_step(struct walk *w, struct rest *rest, int *links)
{
	char target[DZ_PATH_MAX];
	size_t len = strcspn(rest->at, "/");
	const char *component = rest->at;
	long n;

	rest->at += len;
	while (*rest->at == '/')
		rest->at++;
	if (walk_step(w, component, len) < 0)
		return false;
	if (mount_of(w->buf, w->len) >= 0)
		return true;
	n = dz_sys_4(SYS_readlinkat, AT_FDCWD, w->len ? w->buf : "/", target, sizeof(target) - 1);
	if (n == -EINVAL)
		return true;
	if (n <= 0 || ++*links > LINKS_MAX || !rest_put(rest, target, (size_t)n))
		return false;
	if (target[0] == '/')
		w->len = 0;
	else
		walk_up(w);
	w->buf[w->len] = '\0';
	while (*rest->at == '/')
		rest->at++;
	return true;
}

static bool follow(struct walk *w, const char *path, struct dz_path *p)
{
	struct rest rest;
	int links = 0;
	size_t len = strlen(path);

	if (len >= sizeof(rest.buf))
		return false;
	memcpy(rest.buf, path, len + 1);
	rest.at = rest.buf;
	while (*rest.at == '/')
		rest.at++;
	while (*rest.at && mount_of(w->buf, w->len) < 0)
		if (!follow_step(w, &rest, &links))
			return false;
	return mount_of(w->buf, w->len) >= 0 && look_from(w, rest.at, p) == 1;
}

/* Is what stands before the last slash a directory from which no mount is reached? */
static bool is_plain_dir(int dir_fd, const char *path, size_t len, bool keep)
{
	char dir[DZ_PATH_MAX];
	struct stat st;

	if (keep && dz_seen(DZ_SEEN_DIR, path, len))
		return true;
	if (len >= sizeof(dir))
		return true;
	memcpy(dir, path, len);
	dir[len] = '\0';
	if (dz_sys_4(SYS_newfstatat, dir_fd, dir, &st, 0) < 0 ||
	    dz_hidden_has(st.st_dev, st.st_ino))
		return false;
	if (keep)
		dz_seen_note(DZ_SEEN_DIR, path, len);
	return true;
}

/*
 * Is it worth a walk?  Not when the last component is no link and the kernel
 * could reach the directory that it stands in: then the name is just missing.
 */
static bool may_lead(int dir_fd, const char *path, bool keep)
{
	const char *slash = strrchr(path, '/');
	struct dz_path p;
	char c;

	if (dz_sys_4(SYS_readlinkat, dir_fd, path, &c, 1) > 0)
		return true;
	if (!slash)
		return dir_fd != AT_FDCWD && dz_hidden_fd(dir_fd, &p);
	return slash != path && !is_plain_dir(dir_fd, path, (size_t)(slash - path), keep);
}

static bool walk_links(struct dz_path *p)
{
	const char *path = p->path;
	bool wants_dir = ends_as_dir(path);
	struct walk w;

	w.len = 0;
	w.buf[0] = '\0';
	w.was_inside = false;
	if (path[0] != '/' && !real_base(p->dir_fd, &w))
		return false;
	if (!follow(&w, path, p))
		return false;
	p->wants_dir = p->wants_dir || wants_dir;
	return true;
}

bool dz_path_follow(struct dz_path *p)
{
	const char *path = p->path;
	const char *slash;
	size_t len;
	bool keep;

	if (dz_depth > 0 || dz_is_wild(path) || path[0] == '\0')
		return false;
	len = strlen(path);
	/* Another descriptor may have the same number the next time. */
	keep = path[0] == '/' || p->dir_fd == AT_FDCWD;
	if (keep && dz_seen(DZ_SEEN_NAME, path, len))
		return false;
	if (may_lead(p->dir_fd, path, keep)) {
		if (walk_links(p))
			return true;
		slash = strrchr(path, '/');
		if (keep && slash)
			dz_seen_note(DZ_SEEN_DIR, path, (size_t)(slash - path));
	}
	if (keep)
		dz_seen_note(DZ_SEEN_NAME, path, len);
	return false;
}

bool dz_path_is_hidden(struct dz_path *p)
{
	const char *path = p->path;
	const char *slash;

	if (!dz_hidden_count || dz_depth > 0 || dz_is_wild(path))
		return false;
	slash = strrchr(path, '/');
	if (slash && (slash == path || is_plain_dir(p->dir_fd, path, (size_t)(slash - path),
						    path[0] == '/' || p->dir_fd == AT_FDCWD)))
		return false;
	if (!slash && (p->dir_fd == AT_FDCWD || !path[0]))
		return false;
	return walk_links(p);
}
