/* SPDX-License-Identifier: MIT */
/*
 * ftw and nftw: libc's walk with calls that no door sees, so a tree that may lead
 * into a mount is walked here, through the doors, as a program would.  Other trees
 * are libc's.
 *
 * One directory is open at a time: its names are read into the arena, it is
 * closed, then each name is visited.  So the program's limit of descriptors holds
 * whatever it is.
 */
#define DZ_IN_walk 1
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shim/arena.h"
#include "shim/dir.h"
#include "shim/hooks.h"
#include "shim/real.h"

#define WALK_PATH_MAX (64 * 1024)

struct walk {
	__ftw64_func_t old_fn; /* ftw's, or NULL */
	__nftw64_func_t fn;
	int flags;
	dev_t dev;
	int start_fd; /* FTW_CHDIR: where we began */
	struct dz_arena arena;
	char *path; /* in the arena, WALK_PATH_MAX */
	struct seen *seen;
};

/* A directory that was entered; kept when links are followed, which can lead in circles. */
struct seen {
	struct seen *before;
	dev_t dev;
	ino_t ino;
};

struct name {
	struct name *next;
	uint8_t type;
	char text[];
};

static int go_to(struct walk *w, size_t base)
{
	char kept = w->path[base];
	int ret;

	if (fchdir(w->start_fd) < 0)
		return -1;
	if (base == 0)
		return 0;
	w->path[base] = '\0';
	ret = chdir(w->path);
	w->path[base] = kept;
	return ret;
}

/* Calls the program back: its answer, -1 and errno when we cannot. */
static int tell(struct walk *w, const struct stat *st, int flag, size_t base, int level)
{
	/* ftw(3) knows no links and no second visit. */
	static const int old_flag[] = { FTW_F, FTW_D, FTW_DNR, FTW_NS, FTW_F, FTW_D, FTW_NS };
	const struct stat64 *same = (const void *)st;
	struct FTW where = { (int)base, level };

	if ((w->flags & FTW_CHDIR) && go_to(w, base) < 0)
		return -1;
	if (w->old_fn)
		return w->old_fn(w->path, same, old_flag[flag]);
	return w->fn(w->path, same, flag, &where);
}

static bool was_seen(struct walk *w, const struct stat *st)
{
	for (const struct seen *s = w->seen; s; s = s->before)
		if (s->ino == st->st_ino && s->dev == st->st_dev)
			return true;
	return false;
}

static int names_read(struct walk *w, DIR *dir, struct name **first)
{
	struct name **last = first;
	struct dirent64 *d;

	*first = NULL;
	for (errno = 0; (d = readdir64(dir)); errno = 0) {
		size_t len = strlen(d->d_name);

		if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0)
			continue;
		*last = dz_arena_get(&w->arena, sizeof(**last) + len + 1);
		if (!*last)
			return -ENOMEM;
		(*last)->type = d->d_type;
		memcpy((*last)->text, d->d_name, len);
		last = &(*last)->next;
	}
	return -errno;
}

static int visit(struct walk *w, size_t base, int level, bool may_be_link);

static int visit_names(struct walk *w, const struct name *n, size_t len, int level)
{
	int ret = 0;

	if (len == 0 || w->path[len - 1] != '/')
		w->path[len++] = '/';
	for (; n && ret == 0; n = n->next) {
		size_t name_len = strlen(n->text);

		if (len + name_len + 2 > WALK_PATH_MAX)
			return (int)dz_ret(-ENAMETOOLONG);
		memcpy(w->path + len, n->text, name_len + 1);
		ret = visit(w, len, level, n->type == DT_LNK || n->type == DT_UNKNOWN);
		if ((w->flags & FTW_ACTIONRETVAL) && ret == FTW_SKIP_SUBTREE)
			ret = FTW_CONTINUE;
	}
	return (w->flags & FTW_ACTIONRETVAL) && ret == FTW_SKIP_SIBLINGS ? 0 : ret;
}

static int visit_dir(struct walk *w, const struct stat *st, size_t base, int level)
{
	size_t mark = w->arena.used, len = strlen(w->path);
	struct name *first;
	DIR *dir;
	int ret;

	if ((w->flags & FTW_CHDIR) && go_to(w, 0) < 0)
		return -1;
	dir = opendir(w->path);
	if (!dir)
		return errno == EACCES ? tell(w, st, FTW_DNR, base, level) : -1;
	ret = names_read(w, dir, &first);
	closedir(dir);
	if (ret == 0 && !(w->flags & FTW_DEPTH))
		ret = tell(w, st, FTW_D, base, level);
	else if (ret < 0)
		ret = (int)dz_ret(ret);
	if (ret == 0)
		ret = visit_names(w, first, len, level + 1);
	w->path[len] = '\0';
	if (w->flags & FTW_PHYS) /* else the arena holds what was seen */
		dz_arena_reset(&w->arena, mark);
	if (ret == 0 && (w->flags & FTW_DEPTH))
		ret = tell(w, st, FTW_DP, base, level);
	return ret;
}

static int enter(struct walk *w, const struct stat *st, size_t base, int level, bool may_be_link)
{
	struct seen *s;

	if ((w->flags & FTW_MOUNT) && st->st_dev != w->dev)
		return 0;
	if (w->flags & FTW_PHYS)
		return visit_dir(w, st, base, level);
	if (may_be_link && was_seen(w, st))
		return 0;
	s = dz_arena_get(&w->arena, sizeof(*s));
	if (!s)
		return (int)dz_ret(-ENOMEM);
	*s = (struct seen){ w->seen, st->st_dev, st->st_ino };
	w->seen = s;
	return visit_dir(w, st, base, level);
}

static int visit(struct walk *w, size_t base, int level, bool may_be_link)
{
	struct stat st;
	int flag = FTW_F, ret;

	if ((w->flags & FTW_CHDIR) && go_to(w, 0) < 0)
		return -1;
	ret = w->flags & FTW_PHYS ? lstat(w->path, &st) : stat(w->path, &st);
	if (ret < 0) {
		if (errno != EACCES && errno != ENOENT)
			return -1;
		ret = lstat(w->path, &st);
		flag = ret == 0 && S_ISLNK(st.st_mode) ? FTW_SLN : FTW_NS;
		if (level == 0 && flag == FTW_NS)
			return -1;
		return tell(w, &st, flag, base, level);
	}
	if (level == 0)
		w->dev = st.st_dev;
	if (S_ISDIR(st.st_mode))
		return enter(w, &st, base, level, may_be_link);
	return tell(w, &st, S_ISLNK(st.st_mode) ? FTW_SL : FTW_F, base, level);
}

static int walk_root(struct walk *w, const char *dir)
{
	size_t len = strlen(dir);
	char *slash;
	int ret;

	if (len == 0 || len + 2 > WALK_PATH_MAX)
		return (int)dz_ret(len == 0 ? -ENOENT : -ENAMETOOLONG);
	w->path = dz_arena_get(&w->arena, WALK_PATH_MAX);
	memcpy(w->path, dir, len + 1);
	while (len > 1 && w->path[len - 1] == '/')
		w->path[--len] = '\0';
	slash = strrchr(w->path, '/');
	ret = visit(w, slash && slash[1] ? (size_t)(slash + 1 - w->path) : 0, 0, true);
	return (w->flags & FTW_ACTIONRETVAL) &&
			       (ret == FTW_SKIP_SUBTREE || ret == FTW_SKIP_SIBLINGS)
		       ? 0
		       : ret;
}

static int walk(struct walk *w, const char *dir)
{
	int ret = dz_arena_open(&w->arena);

	if (ret < 0)
		return (int)dz_ret(ret);
	w->start_fd = w->flags & FTW_CHDIR ? open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	if ((w->flags & FTW_CHDIR) && w->start_fd < 0)
		ret = -1;
	else
		ret = walk_root(w, dir);
	if (w->start_fd >= 0) {
		int saved = errno;

		if (fchdir(w->start_fd) < 0 && ret == 0)
			ret = -1;
		else
			errno = saved;
		close(w->start_fd);
	}
	dz_arena_close(&w->arena);
	return ret;
}

DZ_DOOR(int, ftw, const char *dir, __ftw64_func_t fn, int fds)
{
	int (*libc_ftw)(const char *, __ftw64_func_t, int) = DZ_REAL(ftw64);
	struct walk w = { .old_fn = fn };

	if (!dz_dir_leads_to_mount(dir))
		return libc_ftw(dir, fn, fds);
	return walk(&w, dir);
}

DZ_DOOR(int, nftw, const char *dir, __nftw64_func_t fn, int fds, int flags)
{
	int (*libc_nftw)(const char *, __nftw64_func_t, int, int) = DZ_REAL(nftw64);
	struct walk w = { .fn = fn, .flags = flags };

	if (!dz_dir_leads_to_mount(dir))
		return libc_nftw(dir, fn, fds, flags);
	if (flags & ~(FTW_PHYS | FTW_MOUNT | FTW_CHDIR | FTW_DEPTH | FTW_ACTIONRETVAL))
		return (int)dz_ret(-EINVAL);
	return walk(&w, dir);
}

#include "shim/aliases.h"
