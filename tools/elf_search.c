// SPDX-License-Identifier: MIT
/*
 * Where the loader finds a library: the object's RPATH (unless it has a RUNPATH),
 * LD_LIBRARY_PATH, its RUNPATH, the directories of /etc/ld.so.conf, the usual ones.
 */
#include "tools/elf_file.h"

#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool try_dir(const char *dir, size_t len, const char *soname, char out[4096])
{
	struct dz_elf elf;
	int n = snprintf(out, 4096, "%.*s/%s", (int)len, dir, soname);

	if (n < 0 || n >= 4096 || access(out, R_OK) < 0)
		return false;
	/* A 32-bit one of the same name is passed over, as the loader does. */
	if (dz_elf_open(&elf, out) < 0)
		return false;
	dz_elf_close(&elf);
	return true;
}

/* "DIR:DIR", with $ORIGIN for the object's own. */
static bool try_list(const char *list, const char *origin, const char *soname, char out[4096])
{
	char dir[4096];

	for (const char *p = list; p && *p; p += strcspn(p, ":"), p += *p == ':') {
		size_t len = strcspn(p, ":"), skip = 0;
		const char *slash = strrchr(origin, '/');

		if (strncmp(p, "$ORIGIN", 7) == 0)
			skip = 7;
		else if (strncmp(p, "${ORIGIN}", 9) == 0)
			skip = 9;
		if (skip && slash)
			snprintf(dir, sizeof(dir), "%.*s%.*s", (int)(slash - origin), origin,
				 (int)(len - skip), p + skip);
		else
			snprintf(dir, sizeof(dir), "%.*s", (int)len, p);
		if (try_dir(dir, strlen(dir), soname, out))
			return true;
	}
	return false;
}

static bool try_conf(const char *path, const char *soname, char out[4096], int depth)
{
	FILE *conf = fopen(path, "re");
	char line[4096];
	bool found = false;

	while (conf && !found && fgets(line, sizeof(line), conf)) {
		char *p = line + strspn(line, " \t");
		size_t len = strcspn(p, " \t\r\n#");

		if (strncmp(p, "include", 7) == 0 && depth < 4) {
			glob_t files = { 0 };

			p += 7 + strspn(p + 7, " \t");
			p[strcspn(p, " \t\r\n#")] = '\0';
			if (glob(p, 0, NULL, &files) == 0) {
				for (size_t i = 0; i < files.gl_pathc && !found; i++)
					found = try_conf(files.gl_pathv[i], soname, out, depth + 1);
			}
			globfree(&files);
		} else if (p[0] == '/') {
			found = try_dir(p, len, soname, out);
		}
	}
	if (conf)
		fclose(conf);
	return found;
}

int dz_elf_find_library(const struct dz_elf *e, const char *path, const char *soname,
			char out[4096])
{
	static const char usual[] = "/lib/x86_64-linux-gnu:/usr/lib/x86_64-linux-gnu:"
				    "/lib/aarch64-linux-gnu:/usr/lib/aarch64-linux-gnu:"
				    "/lib64:/usr/lib64:/lib:/usr/lib";
	const char *rpath = dz_elf_dynamic_text(e, DT_RPATH, 0);
	const char *runpath = dz_elf_dynamic_text(e, DT_RUNPATH, 0);

	if (strchr(soname, '/'))
		return snprintf(out, 4096, "%s", soname) < 4096 && access(soname, R_OK) == 0
			       ? 0
			       : -ENOENT;
	if ((!runpath && try_list(rpath, path, soname, out)) ||
	    try_list(getenv("LD_LIBRARY_PATH"), path, soname, out) ||
	    try_list(runpath, path, soname, out) || try_conf("/etc/ld.so.conf", soname, out, 0) ||
	    try_list(usual, path, soname, out))
		return 0;
	return -ENOENT;
}
