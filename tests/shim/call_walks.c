/* SPDX-License-Identifier: MIT */
/* Every walk that libc has, from argument 1: the paths that each finds. */
#include <fts.h>
#include <ftw.h>
#include <glob.h>
#include <stdio.h>
#include <sys/stat.h>

static int on_visit(const char *path, const struct stat *st, int flag, struct FTW *where)
{
	(void)st, (void)flag, (void)where;
	puts(path);
	return 0;
}

static int on_old_visit(const char *path, const struct stat *st, int flag)
{
	(void)st, (void)flag;
	puts(path);
	return 0;
}

int main(int argc, char **argv)
{
	char *roots[] = { argv[1], NULL }, pattern[4096];
	FTSENT *e;
	glob_t g;
	FTS *t;

	if (argc < 2)
		return 2;
	nftw(argv[1], on_visit, 5, FTW_PHYS);
	ftw(argv[1], on_old_visit, 5);
	t = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
	while ((e = fts_read(t)))
		puts(e->fts_path);
	fts_close(t);
	snprintf(pattern, sizeof(pattern), "%s/b*/tree/*/er/*", argv[1]);
	if (glob(pattern, 0, NULL, &g) == 0)
		for (size_t i = 0; i < g.gl_pathc; i++)
			puts(g.gl_pathv[i]);
	return 0;
}
