/* SPDX-License-Identifier: MIT */
/*
 * Directories as Blob sorts them: by the bytes of the full name.  A directory
 * counts with its '/', so "a-b" comes before "a/" and what lies below "a/" fits
 * between its neighbours.
 *
 * Reading 100,000 names takes longer than the page of 5,000 that is wanted, so a
 * directory is kept, sorted, until its mtime changes.  The mtime moves in steps
 * of a few milliseconds: a directory that changed in the instant before it was
 * read may change again unseen, and is read again the next time.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/serve.h"

#define DIRS_MAX      256
#define SETTLED_AFTER 50000000 /* ns; beyond any tick of a file system's clock */

struct cached {
	struct serve_dir dir; /* first, so that a serve_dir is its cached */
	struct cached *next;
	char *path;
	struct timespec mtime;
	uint64_t ino;
	bool is_settled;
	unsigned refs; /* readers, and one for the list */
};

struct serve_dirs {
	pthread_mutex_t lock;
	struct cached *list; /* most recently used first */
	unsigned n;
};

struct serve_dirs *serve_dirs_open(void)
{
	struct serve_dirs *dirs = calloc(1, sizeof(*dirs));

	if (dirs)
		pthread_mutex_init(&dirs->lock, NULL);
	return dirs;
}

static void cached_put(struct cached *c)
{
	if (--c->refs > 0)
		return;
	for (size_t i = 0; i < c->dir.n_names; i++)
		free(c->dir.names[i]);
	free(c->dir.names);
	free(c->path);
	free(c);
}

void serve_dirs_close(struct serve_dirs *dirs)
{
	struct cached *next;

	for (struct cached *c = dirs->list; c; c = next) {
		next = c->next;
		cached_put(c);
	}
	pthread_mutex_destroy(&dirs->lock);
	free(dirs);
}

/* 'd'irectory, 'f'ile, or 0 for what is no blob; symbolic links are followed. */
static char kind_of(int dir_fd, const struct dirent *e)
{
	struct stat st;

	if (e->d_type == DT_DIR)
		return strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 ? 'd' : 0;
	if (e->d_type == DT_REG)
		return 'f';
	if (e->d_type != DT_LNK && e->d_type != DT_UNKNOWN)
		return 0;
	if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
	    fstatat(dir_fd, e->d_name, &st, 0) < 0)
		return 0;
	return S_ISDIR(st.st_mode) ? 'd' : S_ISREG(st.st_mode) ? 'f' : 0;
}

static int add_name(struct serve_dir *dir, const char *name, bool is_dir)
{
	size_t n = strlen(name);
	char *copy;

	if (dir->n_names == dir->cap) {
		size_t cap = dir->cap ? dir->cap * 2 : 16;
		char **names = realloc(dir->names, cap * sizeof(*names));

		if (!names)
			return -ENOMEM;
		dir->names = names;
		dir->cap = cap;
	}
	copy = malloc(n + 2);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, name, n);
	memcpy(copy + n, is_dir ? "/" : "", is_dir ? 2 : 1);
	dir->names[dir->n_names++] = copy;
	return 0;
}

static int by_bytes(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int open_dir(struct serve *srv, const char *path)
{
	int fd = openat(srv->root_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static bool is_marked(struct serve *srv, const char *path, const char *name)
{
	char below[SERVE_PATH_MAX];

	return srv->has_state &&
	       (size_t)snprintf(below, sizeof(below), "%s/%s", path, name) < sizeof(below) &&
	       serve_is_marker(srv, below, NULL);
}

/* A directory that also is a blob stands there twice: "a" and "a/". */
static int read_names(struct serve *srv, const char *path, struct serve_dir *dir, DIR *stream)
{
	struct dirent *e;
	int ret = 0;

	while (ret == 0 && (e = readdir(stream))) {
		char kind = kind_of(dirfd(stream), e);

		if (kind == 'f' || (kind == 'd' && is_marked(srv, path, e->d_name)))
			ret = add_name(dir, e->d_name, false);
		if (kind == 'd' && ret == 0)
			ret = add_name(dir, e->d_name, true);
	}
	if (dir->n_names > 0)
		qsort(dir->names, dir->n_names, sizeof(*dir->names), by_bytes);
	return ret;
}

/* Was `mtime` so long ago that a later change must have another one? */
static bool is_settled(struct timespec mtime)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (now.tv_sec - mtime.tv_sec) * 1000000000 + (now.tv_nsec - mtime.tv_nsec) >
	       SETTLED_AFTER;
}

static struct cached *read_dir(struct serve *srv, const char *path)
{
	struct cached *c = calloc(1, sizeof(*c));
	int fd = open_dir(srv, path);
	struct stat st;
	DIR *stream;

	if (!c || fd < 0 || fstat(fd, &st) < 0)
		goto err_close;
	*c = (struct cached){ .path = strdup(path),
			      .mtime = st.st_mtim,
			      .ino = st.st_ino,
			      .is_settled = is_settled(st.st_mtim),
			      .refs = 1 };
	stream = fdopendir(fd);
	if (!stream)
		goto err_close;
	if (!c->path || read_names(srv, path, &c->dir, stream) < 0) {
		closedir(stream);
		cached_put(c);
		return NULL;
	}
	closedir(stream);
	return c;

err_close:
	if (fd >= 0)
		close(fd);
	if (c)
		free(c->path);
	free(c);
	return NULL;
}

static bool is_current(struct serve *srv, const struct cached *c)
{
	struct stat st;

	return c->is_settled && fstatat(srv->root_fd, c->path, &st, 0) == 0 &&
	       st.st_ino == c->ino && st.st_mtim.tv_sec == c->mtime.tv_sec &&
	       st.st_mtim.tv_nsec == c->mtime.tv_nsec;
}

/* Takes the entry for `path` off the list; NULL when there is none. */
static struct cached *take(struct serve_dirs *dirs, const char *path)
{
	for (struct cached **at = &dirs->list; *at; at = &(*at)->next) {
		struct cached *c = *at;

		if (strcmp(c->path, path) == 0) {
			*at = c->next;
			dirs->n--;
			return c;
		}
	}
	return NULL;
}

static void drop_last(struct serve_dirs *dirs)
{
	struct cached **at = &dirs->list;

	while ((*at)->next)
		at = &(*at)->next;
	cached_put(*at);
	*at = NULL;
	dirs->n--;
}

static void insert(struct serve_dirs *dirs, struct cached *c)
{
	c->next = dirs->list;
	dirs->list = c;
	if (++dirs->n > DIRS_MAX)
		drop_last(dirs);
}

const struct serve_dir *serve_dir_get(struct serve *srv, const char *path)
{
	struct serve_dirs *dirs = srv->dirs;
	struct cached *c;

	pthread_mutex_lock(&dirs->lock);
	c = take(dirs, path);
	if (c && !is_current(srv, c)) {
		cached_put(c);
		c = NULL;
	}
	if (!c)
		c = read_dir(srv, path);
	if (c) {
		c->refs++;
		insert(dirs, c);
	}
	pthread_mutex_unlock(&dirs->lock);
	return c ? &c->dir : NULL;
}

void serve_dir_put(struct serve *srv, const struct serve_dir *dir)
{
	pthread_mutex_lock(&srv->dirs->lock);
	cached_put((struct cached *)dir);
	pthread_mutex_unlock(&srv->dirs->lock);
}

/* Not from the cache: mostly the first entry decides. */
bool serve_dir_has_files(struct serve *srv, const char *path)
{
	int fd = open_dir(srv, path);
	DIR *stream = fd >= 0 ? fdopendir(fd) : NULL;
	bool found = false;
	struct dirent *e;

	while (stream && !found && (e = readdir(stream))) {
		char kind = kind_of(fd, e);
		char below[SERVE_PATH_MAX];

		found = kind == 'f' || (kind == 'd' && is_marked(srv, path, e->d_name));
		if (kind == 'd' && !found &&
		    (size_t)snprintf(below, sizeof(below), "%s/%s", path, e->d_name) <
			    sizeof(below))
			found = serve_dir_has_files(srv, below);
	}
	if (stream)
		closedir(stream);
	else if (fd >= 0)
		close(fd);
	return found;
}
