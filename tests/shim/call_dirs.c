/* SPDX-License-Identifier: MIT */
/* Directories on a tree: argument 1 is its root.  Order is the file system's own: sorted. */
#include "say.h"

#include <dirent.h>
#include <fcntl.h>
#include <fts.h>
#include <ftw.h>
#include <glob.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <wordexp.h>

static char *lines[20000];
static int n_lines;

static void keep(const char *kind, const char *text, long a, long b)
{
	if (asprintf(&lines[n_lines], "%s %s %ld %ld", kind, text, a, b) > 0)
		n_lines++;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void flush_lines(void)
{
	qsort(lines, (size_t)n_lines, sizeof(*lines), by_text);
	for (int i = 0; i < n_lines; i++)
		dprintf(1, "%s\n", lines[i]);
	n_lines = 0;
}

static void streams(const char *path)
{
	DIR *dir = SAY_PTR(opendir(path));
	struct dirent entry, *e;
	long at[64], k = 0;
	char third[256] = "";
	struct stat st;

	SAY(dirfd(dir) > 2);
	SAY(fstat(dirfd(dir), &st));
	SAY(S_ISDIR(st.st_mode));
	SAY(fcntl(dirfd(dir), F_GETFD));
	while ((e = readdir(dir))) {
		keep("entry", e->d_name, e->d_type, 0);
		fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW);
		if (strcmp(e->d_name, "..") != 0 && e->d_ino != st.st_ino)
			keep("another inode", e->d_name, 0, 0);
		if (k < 64)
			at[k++] = telldir(dir);
		if (k == 3)
			strcpy(third, e->d_name);
	}
	flush_lines();
	SAY(errno);
	seekdir(dir, at[1]);
	e = readdir(dir);
	SAY(e && strcmp(e->d_name, third) == 0);
	rewinddir(dir);
	for (k = 0; (e = readdir(dir)); k++)
		;
	SAY(k);
	rewinddir(dir);
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
	for (k = 0; readdir_r(dir, &entry, &e) == 0 && e; k++)
		;
	SAY(k);
	SAY(closedir(dir));
}

static void errors(void)
{
	int fd = open("text/lines.txt", O_RDONLY);

	SAY_PTR(opendir("none"));
	SAY_PTR(opendir("text/lines.txt"));
	SAY_PTR(opendir("text/lines.txt/x"));
	SAY_PTR(opendir(""));
	SAY_PTR(fdopendir(fd));
	SAY_PTR(fdopendir(9999));
	SAY(lseek(fd, 0, SEEK_CUR));
	SAY(close(fd));
}

static void owned(void)
{
	int fd = open("many", O_RDONLY | O_DIRECTORY), other = dup(fd), n = 0;
	DIR *dir = SAY_PTR(fdopendir(fd));

	SAY(dirfd(dir) == fd);
	while (readdir(dir))
		n++;
	SAY(n);
	SAY(closedir(dir));
	SAY(fcntl(fd, F_GETFD));
	/* The end is the description's: the other descriptor is there too. */
	dir = SAY_PTR(fdopendir(other));
	SAY(readdir(dir) == NULL);
	rewinddir(dir);
	for (n = 0; readdir(dir); n++)
		;
	SAY(n);
	SAY(closedir(dir));
}

static void records(void)
{
	int fd = open("many", O_RDONLY | O_DIRECTORY), calls = 0, n = 0;
	char buf[1024];
	ssize_t got;

	SAY(getdents64(fd, buf, 8));
	for (; (got = getdents64(fd, buf, sizeof(buf))) > 0; calls++)
		for (ssize_t at = 0; at < got; n++) {
			struct dirent64 *d = (void *)(buf + at);

			keep("record", d->d_name, d->d_type, d->d_reclen);
			at += d->d_reclen;
		}
	flush_lines();
	SAY(got);
	SAY(n);
	SAY(calls > 1);
	SAY(lseek(fd, 0, SEEK_SET));
	SAY(syscall(SYS_getdents64, fd, buf, sizeof(buf)) > 0);
	SAY(close(fd));
	fd = open("text/lines.txt", O_RDONLY);
	SAY(getdents64(fd, buf, sizeof(buf)));
	SAY(close(fd));
}

static int only_digit(const struct dirent *d)
{
	return strpbrk(d->d_name, "37") != NULL;
}

static void scans(void)
{
	struct dirent **list;
	int n = (int)SAY(scandir("many", &list, only_digit, alphasort));

	for (int i = 0; i < n; i++) {
		dprintf(1, "%s ", list[i]->d_name);
		free(list[i]);
	}
	free(list);
	SAY(scandir("none", &list, NULL, NULL));
	int fd = open(".", O_RDONLY);
	SAY(scandirat(fd, "text", &list, NULL, alphasort));
	SAY(close(fd));
}

static int on_visit(const char *path, const struct stat *st, int flag, struct FTW *where)
{
	keep("nftw", path, flag * 1000 + where->level, S_ISREG(st->st_mode) ? st->st_size : -1);
	return strstr(path, "y.json") && flag == FTW_F ? 0 : 0;
}

static int on_old_visit(const char *path, const struct stat *st, int flag)
{
	keep("ftw", path, flag, S_ISREG(st->st_mode) ? st->st_size : -1);
	return 0;
}

static int stop_there(const char *path, const struct stat *st, int flag, struct FTW *where)
{
	(void)st, (void)flag, (void)where;
	return strstr(path, "deep") ? 42 : 0;
}

static void walks(const char *path)
{
	SAY(nftw(path, on_visit, 10, FTW_PHYS));
	flush_lines();
	SAY(nftw(path, on_visit, 1, FTW_DEPTH));
	flush_lines();
	SAY(nftw(path, on_visit, 10, FTW_PHYS | FTW_CHDIR | FTW_MOUNT));
	flush_lines();
	SAY(ftw(path, on_old_visit, 10));
	flush_lines();
	SAY(nftw(path, stop_there, 10, 0));
	SAY(nftw("none", on_visit, 10, 0));
	SAY(nftw("text/lines.txt", on_visit, 10, 0));
	flush_lines();
}

static int by_name(const FTSENT **a, const FTSENT **b)
{
	return strcmp((*a)->fts_name, (*b)->fts_name);
}

static void trees(char *path, int options)
{
	char *paths[] = { path, NULL };
	FTS *t = SAY_PTR(fts_open(paths, options, by_name));
	FTSENT *e, *c;

	while ((e = fts_read(t))) {
		dprintf(1, "fts %d %d %s %s %d %d\n", e->fts_info, e->fts_level, e->fts_path,
			e->fts_level		    ? e->fts_name
			: strstr(path, e->fts_name) ? "root"
						    : "?",
			e->fts_pathlen - (int)strlen(path), strcmp(e->fts_path, e->fts_accpath));
		if (strcmp(e->fts_name, "many") == 0)
			fts_set(t, e, FTS_SKIP);
		if (strcmp(e->fts_name, "deep") == 0 && e->fts_info == FTS_D)
			for (c = fts_children(t, 0); c; c = c->fts_link)
				dprintf(1, "child %s %d\n", c->fts_name, c->fts_info);
	}
	SAY(errno);
	SAY(fts_close(t));
}

static void patterns(const char *root)
{
	static const char *const tails[] = { "/*",	 "/*/*.txt", "/**/[a-m]*",
					     "/many/1?", "/none/*",  "/{text,many}/*1*",
					     "/te*t/",	 "/.*" };
	char pattern[4096];
	wordexp_t w;
	glob_t g;

	for (size_t i = 0; i < sizeof(tails) / sizeof(*tails); i++) {
		snprintf(pattern, sizeof(pattern), "%s%s", root, tails[i]);
		dprintf(1, "%s\n", tails[i]);
		if (SAY(glob(pattern, GLOB_BRACE | GLOB_MARK, NULL, &g)) != 0)
			continue;
		for (size_t k = 0; k < g.gl_pathc; k++)
			dprintf(1, " %s\n", g.gl_pathv[k]);
		globfree(&g);
	}
	SAY(glob("te*", GLOB_NOCHECK, NULL, &g));
	SAY(g.gl_pathc);
	globfree(&g);
	snprintf(pattern, sizeof(pattern), "one %s/text/*.txt three", root);
	SAY(wordexp(pattern, &w, 0));
	for (size_t k = 0; k < w.we_wordc; k++)
		dprintf(1, " %s\n", w.we_wordv[k]);
	SAY(w.we_wordv[w.we_wordc] == NULL);
	wordfree(&w);
}

int main(int argc, char **argv)
{
	if (argc < 2 || chdir(argv[1]) != 0)
		return 2;
	streams(".");
	streams("many");
	streams("tree/deep/");
	errors();
	owned();
	records();
	scans();
	walks(argv[1]);
	walks("tree");
	trees(argv[1], FTS_PHYSICAL | FTS_NOCHDIR);
	trees(argv[1], FTS_LOGICAL | FTS_NOCHDIR | FTS_NOSTAT);
	trees("tree/", FTS_PHYSICAL | FTS_NOCHDIR | FTS_NOSTAT);
	trees("text/lines.txt", FTS_PHYSICAL | FTS_NOCHDIR);
	patterns(argv[1]);
	return 0;
}
