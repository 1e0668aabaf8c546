/* SPDX-License-Identifier: MIT */
/* Temporary files: their names are made up inside libc, so the template is looked at before. */
#define DZ_IN_rotemp 1
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "shim/hooks.h"
#include "shim/real.h"
#include "shim/rofs.h"

/* 0: libc's; else -errno. */
static int template_check(const char *template, int suffix_len)
{
	size_t len = strlen(template);
	struct dz_path p;
	int ret = dz_path_at(AT_FDCWD, template, &p);

	if (ret <= 0)
		return ret;
	if (suffix_len < 0 || len < 6 + (size_t)suffix_len ||
	    memcmp(template + len - (size_t)suffix_len - 6, "XXXXXX", 6) != 0)
		return -EINVAL;
	ret = dz_ro_make_dir(&p);
	return ret == -EEXIST ? -EROFS : ret;
}

DZ_DOOR(int, mkostemps, char *template, int suffix_len, int flags)
{
	int (*libc_mkostemps)(char *, int, int) = DZ_REAL(mkostemps);
	int r = template_check(template, suffix_len);

	return r == 0 ? libc_mkostemps(template, suffix_len, flags)
		      : (int)dz_done(DZ_CALL_mkostemps, r, template, suffix_len, flags);
}

DZ_DOOR(int, mkstemp, char *template)
{
	return door_mkostemps(template, 0, 0);
}

DZ_DOOR(int, mkostemp, char *template, int flags)
{
	return door_mkostemps(template, 0, flags);
}

DZ_DOOR(int, mkstemps, char *template, int suffix_len)
{
	return door_mkostemps(template, suffix_len, 0);
}

DZ_DOOR(char *, mkdtemp, char *template)
{
	char *(*libc_mkdtemp)(char *) = DZ_REAL(mkdtemp);
	int r = template_check(template, 0);

	if (r == 0)
		return libc_mkdtemp(template);
	dz_done(DZ_CALL_mkdtemp, r, template);
	return NULL;
}

#include "shim/aliases.h"
