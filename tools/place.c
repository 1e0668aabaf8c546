// SPDX-License-Identifier: MIT
#include "tools/place.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cache/log.h"
#include "tools/dz.h"
#include "tools/install_path.h"

/* Which mount has `path`: the longest that does. */
static int find_mount(const struct dz_config *cfg, const char *path, struct dz_place *place)
{
	int best = -ENOENT;
	size_t len;

	for (uint32_t i = 0; i < cfg->n_mounts; i++) {
		const struct dz_mount *m = &cfg->mounts[i];

		if (strncmp(path, m->local, m->local_len) == 0 &&
		    (path[m->local_len] == '/' || path[m->local_len] == '\0') &&
		    (best < 0 || m->local_len > cfg->mounts[best].local_len))
			best = (int)i;
	}
	if (best < 0)
		return best;
	place->mount = (uint32_t)best;
	path += cfg->mounts[best].local_len;
	path += strspn(path, "/");
	len = strlen(path);
	while (len > 0 && path[len - 1] == '/')
		len--;
	if (len > DZ_NAME_MAX)
		return -ENAMETOOLONG;
	memcpy(place->name, path, len);
	place->name[len] = '\0';
	return 0;
}

/* Absolute, without "//", "." and ".."; there is no link in a mount to be followed. */
static int normalise(const char *path, char out[DZ_PATH_MAX])
{
	char whole[2 * DZ_PATH_MAX], cwd[DZ_PATH_MAX];
	size_t len = 0;

	if (path[0] != '/' && !getcwd(cwd, sizeof(cwd)))
		return -errno;
	if (strlen(path) >= DZ_PATH_MAX)
		return -ENAMETOOLONG;
	snprintf(whole, sizeof(whole), "%s/%s", path[0] == '/' ? "" : cwd, path);
	for (const char *p = whole; *p;) {
		size_t n = strcspn(p, "/");

		if (n == 2 && p[0] == '.' && p[1] == '.') {
			while (len > 0 && out[--len] != '/')
				;
		} else if (n > 0 && !(n == 1 && p[0] == '.')) {
			if (len + n + 2 > DZ_PATH_MAX)
				return -ENAMETOOLONG;
			out[len++] = '/';
			memcpy(out + len, p, n);
			len += n;
		}
		p += n + (p[n] == '/');
	}
	out[len] = '\0';
	return 0;
}

static int add_url(const char *command, struct dz_config *cfg, const char *url,
		   struct dz_place *place)
{
	char text[DZ_URL_MAX + DZ_NAME_MAX + DZ_SAS_MAX + 32], why[256];
	int n = snprintf(text, sizeof(text), "/.dz-%u=%s", cfg->n_mounts, url);

	if (n < 0 || (size_t)n >= sizeof(text))
		return dz_fail(command, "%.60s...: too long", url);
	if (cfg->n_mounts == DZ_MOUNTS_MAX)
		return dz_fail(command, "%.60s: more than %d places at once", url, DZ_MOUNTS_MAX);
	if (dz_config_mount(&cfg->mounts[cfg->n_mounts], text, (size_t)n, environ, why,
			    sizeof(why)) < 0)
		return dz_fail(command, "%s", why);
	place->mount = cfg->n_mounts++;
	place->name[0] = '\0';
	return 0;
}

int dz_place_find(const char *command, struct dz_config *cfg, const char *what,
		  struct dz_place *place)
{
	char path[DZ_PATH_MAX];
	int ret;

	if (strstr(what, "://"))
		return add_url(command, cfg, what, place);
	ret = normalise(what, path);
	if (ret == 0)
		ret = find_mount(cfg, path, place);
	if (ret == -ENAMETOOLONG)
		return dz_fail(command, "%.60s...: a name of more than %d bytes", what,
			       DZ_NAME_MAX);
	if (ret < 0)
		return dz_fail(command, "%s: not below a mount of DELTAZERO_MOUNT", what);
	return 0;
}

int dz_place_engine(const char *command, const struct dz_config *cfg, struct dz_engine **engine)
{
	char lib[DZ_PATH_MAX];
	int ret;

	if (dz_library_path(lib) < 0)
		return dz_fail(command, "libdeltazero.so: neither beside dz nor in ../lib");
	ret = dz_engine_open(engine, cfg, environ, lib);
	return ret < 0 ? dz_fail(command, "cache: %s", dz_strerror(ret)) : 0;
}

static bool has_segment(const char *base)
{
	char path[DZ_PATH_MAX + 64];

	snprintf(path, sizeof(path), "%s/deltazero.%u.%d/meta", base, (unsigned int)geteuid(),
		 DZ_LAYOUT_MAJOR);
	return access(path, F_OK) == 0;
}

bool dz_place_has_cache(const struct dz_config *cfg)
{
	return has_segment(cfg->shm_dir) || has_segment(cfg->cache_dir);
}

int dz_place_look(struct dz_seg *seg, const struct dz_config *cfg)
{
	static const struct dz_log log = { .level = DZ_LOG_ERROR, .path = "", .who = "dz" };

	return dz_place_has_cache(cfg) ? dz_seg_open(seg, cfg, &log) : -ENOENT;
}
