/* SPDX-License-Identifier: MIT */
/*
 * glob: libc's own, told to look at directories through our doors
 * (GLOB_ALTDIRFUNC) when the pattern can lead to a mount.  wordexp does the same
 * inside libc, out of reach; its words that still hold a pattern are expanded
 * afterwards, when the input has no quotes that would forbid it.
 */
#define DZ_IN_glob 1
#include <dirent.h>
#include <fcntl.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <wordexp.h>

#include "shim/hooks.h"
#include "shim/real.h"

/* Can a path that the pattern matches be below a mount, or be one? */
static bool may_lead_to_mount(const char *pattern)
{
	size_t fixed = strcspn(pattern, "*?[\\{~");

	if (!dz_is_on())
		return false;
	if (pattern[0] != '/')
		return true; /* depends on the working directory */
	for (uint32_t i = 0; i < dz_config.n_mounts; i++) {
		size_t len = dz_min_u64(fixed, dz_config.mounts[i].local_len);

		if (strncmp(pattern, dz_config.mounts[i].local, len) == 0)
			return true;
	}
	/* A link or ".." may lead anywhere; a plain name in another place does not. */
	return strstr(pattern, "..") != NULL;
}

static void *alt_opendir(const char *path)
{
	return opendir(path);
}

static struct dirent64 *alt_readdir(void *dir)
{
	return readdir64(dir);
}

static void alt_closedir(void *dir)
{
	closedir(dir);
}

typedef int glob_fn(const char *, int, int (*)(const char *, int), glob64_t *);

DZ_DOOR(int, glob, const char *pattern, int flags, int (*on_error)(const char *, int),
	glob64_t *out)
{
	glob_fn *libc_glob = DZ_REAL(glob64);
	int r;

	if ((flags & GLOB_ALTDIRFUNC) || !may_lead_to_mount(pattern))
		return libc_glob(pattern, flags, on_error, out);
	out->gl_opendir = alt_opendir;
	out->gl_readdir = alt_readdir;
	out->gl_closedir = alt_closedir;
	out->gl_stat = stat64;
	out->gl_lstat = lstat64;
	r = libc_glob(pattern, flags | GLOB_ALTDIRFUNC, on_error, out);
	out->gl_flags &= ~GLOB_ALTDIRFUNC;
	return r;
}

/* The word at `i` becomes what it matches; nothing changes when that is nothing. */
static int word_expand(wordexp_t *w, size_t *i)
{
	size_t first = w->we_offs + *i;
	glob64_t g = { .gl_pathc = 0 };
	char **words;
	int ret = door_glob(w->we_wordv[first], 0, NULL, &g);

	if (ret != 0)
		return ret == GLOB_NOSPACE ? WRDE_NOSPACE : 0;
	/* lint: realloc: wordfree() frees the words and their list */
	words = realloc(w->we_wordv, (w->we_offs + w->we_wordc + g.gl_pathc) * sizeof(*words));
	if (!words) {
		globfree64(&g);
		return WRDE_NOSPACE;
	}
	w->we_wordv = words;
	memmove(words + first + g.gl_pathc, words + first + 1, (w->we_wordc - *i) * sizeof(*words));
	free(w->we_wordv[first]); /* lint: free: as above */
	memcpy(words + first, g.gl_pathv, g.gl_pathc * sizeof(*words));
	w->we_wordc += g.gl_pathc - 1;
	*i += g.gl_pathc - 1;
	/* The words are libc's strings; only their list was glob's. */
	free(g.gl_pathv); /* lint: free: as above */
	return 0;
}

DZ_DOOR(int, wordexp, const char *text, wordexp_t *out, int flags)
{
	int (*libc_wordexp)(const char *, wordexp_t *, int) = DZ_REAL(wordexp);
	size_t from = flags & WRDE_APPEND ? out->we_wordc : 0;
	int r = libc_wordexp(text, out, flags);

	if (r != 0 || !dz_is_on() || strpbrk(text, "'\"\\"))
		return r;
	if (!(flags & WRDE_DOOFFS))
		out->we_offs = 0;
	for (size_t i = from; i < out->we_wordc && r == 0; i++) {
		const char *word = out->we_wordv[out->we_offs + i];

		if (strpbrk(word, "*?[") && may_lead_to_mount(word))
			r = word_expand(out, &i);
	}
	return r;
}

#include "shim/aliases.h"
