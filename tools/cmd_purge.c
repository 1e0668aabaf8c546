// SPDX-License-Identifier: MIT
/*
 * dz purge: forgets the cache.  Programs that have it mapped go on with what they
 * mapped; whoever comes next makes a new one.
 */
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cache/disk.h"
#include "cache/log.h"
#include "cache/segment.h"
#include "tools/dz.h"

static const char help[] =
	"Usage: dz purge [--disk]\n"
	"Removes the shared memory of the cache: programs that use it go on with what\n"
	"they have, the next ones begin with an empty memory tier.  What the disk tier\n"
	"holds stays and serves them, unless it is to go too.\n"
	"\n"
	"  --disk  remove the disk tier as well\n"
	"  --help  this text";

/* Ours in the disk tier's directory; a staging file, which may hold the only copy, is not. */
static bool is_cache_file(const char *name)
{
	return strncmp(name, "slab.", 5) == 0 || strncmp(name, "journal.", 8) == 0;
}

static int purge_disk(const struct dz_config *cfg)
{
	char path[DZ_PATH_MAX];
	struct dirent *entry;
	DIR *dir;
	int ret = dz_disk_dir(cfg, path, sizeof(path));

	if (ret < 0)
		return ret;
	dir = opendir(path);
	if (!dir)
		return errno == ENOENT ? 0 : -errno;
	while ((entry = readdir(dir))) {
		if (is_cache_file(entry->d_name) && unlinkat(dirfd(dir), entry->d_name, 0) < 0 &&
		    errno != ENOENT)
			ret = -errno;
	}
	closedir(dir);
	return ret;
}

int cmd_purge(int argc, char **argv)
{
	static const struct option options[] = {
		{ "disk", no_argument, NULL, 'd' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	static struct dz_config cfg;
	bool with_disk = false;
	int opt, ret;

	while ((opt = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (opt == 'h') {
			puts(help);
			return dz_flushed("purge");
		}
		if (opt == '?')
			return dz_usage("purge", "wrong option");
		with_disk = true;
	}
	if (optind < argc)
		return dz_usage("purge", "%s: no argument is expected", argv[optind]);
	/* A wrong mount does not keep us from the directories. */
	dz_config_read(&cfg, environ);
	ret = dz_seg_purge(&cfg);
	/* Below what is no directory there is no cache. */
	if (ret < 0 && ret != -ENOTDIR)
		return dz_fail("purge", "%s: %s", cfg.shm_dir, dz_strerror(ret));
	ret = with_disk ? purge_disk(&cfg) : 0;
	if (ret < 0)
		return dz_fail("purge", "%s: %s", cfg.cache_dir, dz_strerror(ret));
	return DZ_EXIT_OK;
}
