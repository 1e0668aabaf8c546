/* SPDX-License-Identifier: MIT */
/*
 * fts: as walk.c, for the interface that BSD made.  A tree that may lead into a
 * mount is walked here, through the doors; a stream of ours carries OURS in its
 * options, so that the other functions know it.
 *
 * The working directory never changes, with FTS_NOCHDIR or without: fts_accpath
 * is the path from where fts_open was called.
 *
 * Entries live in the arena.  The children of a directory stand behind it; they go
 * back when fts_read leaves it.
 */
#define DZ_IN_fts 1
#include <dirent.h>
#include <fcntl.h>
#include <fts.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shim/arena.h"
#include "shim/dir.h"
#include "shim/hooks.h"
#include "shim/real.h"

#define OURS	     0x40000000
#define FTS_PATH_MAX (64 * 1024)

typedef int order_fn(const FTSENT64 **, const FTSENT64 **);

struct tree {
	FTS64 fts; /* what the program holds */
	struct dz_arena arena;
	FTSENT64 *root;	    /* the parent of all roots, level -1 */
	FTSENT64 *children; /* read ahead by fts_children for the current entry */
	size_t children_mark;
	bool has_children;
};

/* What stands in front of an entry. */
struct entry {
	struct stat64 st;
	size_t mark;  /* of the arena before its children; 0: they were not read */
	FTSENT64 ent; /* ends with its name */
};

static struct entry *of_ent(FTSENT64 *e)
{
	return (struct entry *)(void *)((char *)e - offsetof(struct entry, ent));
}

static bool is_logical(const struct tree *t)
{
	return (t->fts.fts_options & FTS_LOGICAL) != 0;
}

/* The path of a child of `parent`, in t->fts.fts_path; its length, or -ENAMETOOLONG. */
static int path_of(struct tree *t, const FTSENT64 *e)
{
	size_t len = e->fts_level == FTS_ROOTLEVEL ? 0 : e->fts_parent->fts_pathlen;
	char *path = t->fts.fts_path;

	if (len + e->fts_namelen + 2 > FTS_PATH_MAX)
		return -ENAMETOOLONG;
	if (len > 0 && path[len - 1] != '/')
		path[len++] = '/';
	memcpy(path + len, e->fts_name, e->fts_namelen + 1u);
	return (int)(len + e->fts_namelen);
}

static bool is_dot(const FTSENT64 *e)
{
	return e->fts_name[0] == '.' &&
	       (e->fts_name[1] == '\0' || (e->fts_name[1] == '.' && e->fts_name[2] == '\0'));
}

/* Looks for a directory among those above. */
static FTSENT64 *above(const FTSENT64 *e, const struct stat64 *st)
{
	for (FTSENT64 *p = e->fts_parent; p->fts_level >= FTS_ROOTLEVEL; p = p->fts_parent)
		if (p->fts_ino == st->st_ino && p->fts_dev == st->st_dev)
			return p;
	return NULL;
}

static unsigned short info_of(FTSENT64 *e, const struct stat64 *st)
{
	if (S_ISDIR(st->st_mode)) {
		if (is_dot(e) && e->fts_level > FTS_ROOTLEVEL)
			return FTS_DOT;
		e->fts_cycle = above(e, st);
		return e->fts_cycle ? FTS_DC : FTS_D;
	}
	return S_ISLNK(st->st_mode) ? FTS_SL : S_ISREG(st->st_mode) ? FTS_F : FTS_DEFAULT;
}

/* Fills attributes and fts_info; the path is in t->fts.fts_path. */
static void look(struct tree *t, FTSENT64 *e, bool follow)
{
	struct stat64 *st = &of_ent(e)->st;
	int ret = follow ? stat64(t->fts.fts_path, st) : lstat64(t->fts.fts_path, st);
	unsigned short info = 0;

	e->fts_statp = st;
	if (ret < 0 && follow && lstat64(t->fts.fts_path, st) == 0 && S_ISLNK(st->st_mode)) {
		info = FTS_SLNONE;
	} else if (ret < 0) {
		e->fts_errno = errno;
		memset(st, 0, sizeof(*st));
		info = FTS_NS;
	}
	e->fts_ino = st->st_ino;
	e->fts_dev = st->st_dev;
	e->fts_nlink = st->st_nlink;
	e->fts_info = info ? info : info_of(e, st);
}

static FTSENT64 *entry_new(struct tree *t, FTSENT64 *parent, const char *name)
{
	size_t len = strlen(name);
	struct entry *e = dz_arena_get(&t->arena, sizeof(*e) + len + 1);

	if (!e || len > UINT16_MAX)
		return NULL;
	memcpy(e->ent.fts_name, name, len + 1);
	e->ent.fts_namelen = (unsigned short)len;
	e->ent.fts_parent = parent;
	e->ent.fts_level = (short)(parent ? parent->fts_level + 1 : FTS_ROOTPARENTLEVEL);
	e->ent.fts_instr = FTS_NOINSTR;
	e->ent.fts_statp = &e->st;
	return &e->ent;
}

/* Links n entries in the program's order; the list is arranged on the arena. */
static FTSENT64 *sorted(struct tree *t, FTSENT64 *first, size_t n)
{
	FTSENT64 **all, *e = first;
	size_t mark = t->arena.used;

	if (!t->fts.fts_compar || n < 2)
		return first;
	all = dz_arena_get(&t->arena, n * sizeof(*all));
	if (!all)
		return first;
	for (size_t i = 0; i < n; i++, e = e->fts_link)
		all[i] = e;
	qsort(all, n, sizeof(*all), (int (*)(const void *, const void *))t->fts.fts_compar);
	for (size_t i = 0; i < n; i++)
		all[i]->fts_link = i + 1 < n ? all[i + 1] : NULL;
	first = all[0];
	t->arena.used = mark;
	return first;
}

static void look_child(struct tree *t, FTSENT64 *e, uint8_t type)
{
	int sparing = FTS_NOSTAT | FTS_PHYSICAL;
	bool may_skip =
		(t->fts.fts_options & sparing) == sparing && type != DT_DIR && type != DT_UNKNOWN;
	int len = path_of(t, e);

	if (len < 0) {
		e->fts_info = FTS_ERR;
		e->fts_errno = -len;
	} else if (may_skip) {
		e->fts_info = FTS_NSOK;
	} else {
		look(t, e, is_logical(t));
	}
}

/* All entries of a directory, or NULL: errno is 0 when it is empty. */
static FTSENT64 *read_dir(struct tree *t, FTSENT64 *dir, bool only_names)
{
	FTSENT64 *first = NULL, **last = &first;
	DIR *stream = opendir(t->fts.fts_path);
	struct dirent64 *d;
	size_t n = 0;

	if (!stream)
		return NULL;
	while ((errno = 0, d = readdir64(stream))) {
		bool dot = strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0;

		if (dot && !(t->fts.fts_options & FTS_SEEDOT))
			continue;
		*last = entry_new(t, dir, d->d_name);
		if (!*last) {
			errno = ENOMEM;
			break;
		}
		if (only_names)
			(*last)->fts_info = FTS_NSOK;
		else
			look_child(t, *last, d->d_type);
		last = &(*last)->fts_link;
		n++;
	}
	int saved = errno;
	closedir(stream);
	t->fts.fts_path[dir->fts_pathlen] = '\0';
	first = sorted(t, saved ? NULL : first, n);
	errno = saved;
	return first;
}

/* From now on a root is called by the last part of its path. */
static void root_rename(FTSENT64 *e)
{
	char *slash = strrchr(e->fts_name, '/');

	if (!slash || (slash == e->fts_name && slash[1] == '\0'))
		return;
	e->fts_namelen = (unsigned short)strlen(slash + 1);
	memmove(e->fts_name, slash + 1, e->fts_namelen + 1u);
}

/* Makes `e` what fts_read gives: its path stands in the stream's. */
static FTSENT64 *give(struct tree *t, FTSENT64 *e)
{
	int len = path_of(t, e);

	if (len >= 0)
		e->fts_pathlen = (unsigned short)len;
	e->fts_path = e->fts_accpath = t->fts.fts_path;
	t->fts.fts_cur = e;
	t->has_children = false;
	return e;
}

/* The next brother of `e`, or the parent, for the second time. */
static FTSENT64 *go_on(struct tree *t, FTSENT64 *e)
{
	FTSENT64 *next = e->fts_link;

	while (next && next->fts_instr == FTS_SKIP)
		next = next->fts_link;
	if (next) {
		give(t, next);
		if (next->fts_level == FTS_ROOTLEVEL) {
			root_rename(next);
			t->fts.fts_dev = next->fts_dev;
		}
		if (next->fts_instr == FTS_FOLLOW) {
			look(t, next, true);
			next->fts_instr = FTS_NOINSTR;
		}
		return next;
	}
	e = e->fts_parent;
	if (e->fts_level < FTS_ROOTLEVEL) {
		t->fts.fts_cur = e;
		errno = 0;
		return NULL;
	}
	dz_arena_reset(&t->arena, of_ent(e)->mark);
	t->fts.fts_path[e->fts_pathlen] = '\0';
	e->fts_info = e->fts_errno ? FTS_ERR : FTS_DP;
	t->fts.fts_cur = e;
	t->has_children = false;
	return e;
}

/* Into a directory that was given for the first time. */
static FTSENT64 *go_into(struct tree *t, FTSENT64 *e)
{
	FTSENT64 *first;

	if (t->has_children && of_ent(e)->mark) {
		first = t->children;
		errno = 0;
	} else {
		of_ent(e)->mark = t->arena.used;
		first = read_dir(t, e, false);
	}
	if (!first) {
		e->fts_info = errno ? FTS_DNR : FTS_DP;
		e->fts_errno = errno;
		dz_arena_reset(&t->arena, of_ent(e)->mark);
		t->has_children = false;
		return e;
	}
	/* A brother in front, for go_on() to start from. */
	FTSENT64 before = { .fts_link = first, .fts_parent = e };
	return go_on(t, &before);
}

static FTSENT64 *tree_read(struct tree *t)
{
	FTSENT64 *e = t->fts.fts_cur;
	int instr;

	if (!e || e->fts_level < FTS_ROOTLEVEL) {
		if (!e || e->fts_link == NULL)
			return NULL;
		FTSENT64 before = { .fts_link = e->fts_link, .fts_parent = e };
		e->fts_link = NULL;
		return go_on(t, &before);
	}
	instr = e->fts_instr;
	e->fts_instr = FTS_NOINSTR;
	if (instr == FTS_AGAIN ||
	    (instr == FTS_FOLLOW && (e->fts_info == FTS_SL || e->fts_info == FTS_SLNONE))) {
		look(t, e, instr == FTS_FOLLOW || is_logical(t));
		return e;
	}
	if (e->fts_info != FTS_D)
		return go_on(t, e);
	if (instr == FTS_SKIP ||
	    ((t->fts.fts_options & FTS_XDEV) && e->fts_dev != t->fts.fts_dev)) {
		e->fts_info = FTS_DP;
		return e;
	}
	return go_into(t, e);
}

static int roots_read(struct tree *t, char *const *paths)
{
	FTSENT64 **last = &t->root->fts_link;
	size_t n = 0;

	for (; *paths; paths++, n++) {
		FTSENT64 *e = entry_new(t, t->root, *paths);

		if (!e || path_of(t, e) < 0)
			return -ENAMETOOLONG;
		look(t, e, is_logical(t) || (t->fts.fts_options & FTS_COMFOLLOW));
		if (e->fts_info == FTS_DOT)
			e->fts_info = FTS_D;
		*last = e;
		last = &e->fts_link;
	}
	t->root->fts_link = sorted(t, t->root->fts_link, n);
	return 0;
}

static int tree_open(char *const *paths, int options, order_fn *order, struct tree **out)
{
	struct dz_arena arena;
	struct tree *t;
	int ret = dz_arena_open(&arena);

	if (ret < 0)
		return ret;
	t = dz_arena_get(&arena, sizeof(*t));
	t->fts.fts_path = dz_arena_get(&arena, FTS_PATH_MAX);
	t->arena = arena;
	t->fts.fts_pathlen = FTS_PATH_MAX;
	t->fts.fts_compar = (int (*)(const void *, const void *))order;
	t->fts.fts_options = options | FTS_NOCHDIR | OURS;
	t->fts.fts_rfd = -1;
	t->root = entry_new(t, NULL, "");
	ret = roots_read(t, paths);
	t->fts.fts_cur = t->root;
	if (ret < 0)
		dz_arena_close(&t->arena);
	*out = t;
	return ret;
}

static bool is_ours(const FTS64 *fts)
{
	return (fts->fts_options & OURS) != 0;
}

DZ_DOOR(FTS64 *, fts_open, char *const *paths, int options, order_fn *order)
{
	FTS64 *(*libc_fts_open)(char *const *, int, order_fn *) = DZ_REAL(fts64_open);
	bool ours = false;
	struct tree *t = NULL;

	for (char *const *p = paths; dz_is_on() && *p && !ours; p++)
		ours = dz_dir_leads_to_mount(*p);
	if (!ours || (options & ~FTS_OPTIONMASK))
		return libc_fts_open(paths, options, order);
	return dz_done(DZ_CALL_fts_open, tree_open(paths, options, order, &t), paths, options,
		       order) < 0
		       ? NULL
		       : &t->fts;
}

DZ_DOOR(FTSENT64 *, fts_read, FTS64 *fts)
{
	FTSENT64 *(*libc_fts_read)(FTS64 *) = DZ_REAL(fts64_read);

	return is_ours(fts) ? tree_read((struct tree *)fts) : libc_fts_read(fts);
}

/* Of the directory that fts_read has just given, or the roots before its first call. */
DZ_DOOR(FTSENT64 *, fts_children, FTS64 *fts, int instr)
{
	FTSENT64 *(*libc_fts_children)(FTS64 *, int) = DZ_REAL(fts64_children);
	struct tree *t = (struct tree *)fts;
	FTSENT64 *e = fts->fts_cur;

	if (!is_ours(fts))
		return libc_fts_children(fts, instr);
	errno = 0;
	if (e && e->fts_level < FTS_ROOTLEVEL)
		return e->fts_link;
	if (!e || e->fts_info != FTS_D)
		return NULL;
	if (!of_ent(e)->mark)
		of_ent(e)->mark = t->arena.used;
	t->children = read_dir(t, e, instr == FTS_NAMEONLY);
	/* Names alone are read again when they are gone into. */
	t->has_children = t->children && instr != FTS_NAMEONLY;
	return t->children;
}

DZ_DOOR(int, fts_set, FTS64 *fts, FTSENT64 *e, int instr)
{
	int (*libc_fts_set)(FTS64 *, FTSENT64 *, int) = DZ_REAL(fts64_set);

	if (!is_ours(fts))
		return libc_fts_set(fts, e, instr);
	if (instr != 0 && instr != FTS_AGAIN && instr != FTS_FOLLOW && instr != FTS_NOINSTR &&
	    instr != FTS_SKIP)
		return (int)dz_ret(-EINVAL);
	e->fts_instr = (unsigned short)instr;
	return 0;
}

DZ_DOOR(int, fts_close, FTS64 *fts)
{
	int (*libc_fts_close)(FTS64 *) = DZ_REAL(fts64_close);
	struct dz_arena arena;

	if (!is_ours(fts))
		return libc_fts_close(fts);
	arena = ((struct tree *)fts)->arena;
	dz_arena_close(&arena);
	return 0;
}

#include "shim/aliases.h"
