// SPDX-License-Identifier: MIT
/*
 * dz purge: forgets the cache.  Programs that have it mapped go on with what they
 * mapped; whoever comes next makes a new one.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/disk.h"
#include "cache/layout.h"
#include "cache/log.h"
#include "cache/segment.h"
#include "tools/dz.h"

static const char help[] =
	"Usage: dz purge [--disk] [--json]\n"
	"Removes the shared memory of the cache: programs that use it go on with what\n"
	"they have, the next ones begin with an empty memory tier.  What the disk tier\n"
	"holds stays and serves them, unless it is to go too.\n"
	"\n"
	"  --disk  remove the disk tier as well\n"
	"  --json  one JSON object: what went of dram (bytes) and disk (files, bytes)\n"
	"  --help  this text";

/* What is there no more. */
struct gone {
	uint64_t files, bytes;
};

/* What a file takes, which is less than its size where it has holes. */
static void add_file(struct gone *gone, int dir_fd, const char *name)
{
	struct stat st;

	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	gone->files++;
	gone->bytes += (uint64_t)st.st_blocks * 512;
}

/* The segment lies below the one or the other, which may be the same. */
static struct gone find_memory(const struct dz_config *cfg)
{
	const char *const bases[] = { cfg->shm_dir, cfg->cache_dir };
	size_t n_bases = strcmp(bases[0], bases[1]) == 0 ? 1 : 2;
	struct gone memory = { 0, 0 };

	for (size_t i = 0; i < n_bases; i++) {
		char path[DZ_PATH_MAX + 64];
		int n = snprintf(path, sizeof(path), "%s/deltazero.%u.%d/", bases[i],
				 (unsigned int)geteuid(), DZ_LAYOUT_MAJOR);

		snprintf(path + n, sizeof(path) - (size_t)n, "meta");
		add_file(&memory, AT_FDCWD, path);
		snprintf(path + n, sizeof(path) - (size_t)n, "dram");
		add_file(&memory, AT_FDCWD, path);
	}
	return memory;
}

/* Ours in the disk tier's directory; a staging file, which may hold the only copy, is not. */
static bool is_cache_file(const char *name)
{
	return strncmp(name, "slab.", 5) == 0 || strncmp(name, "journal.", 8) == 0;
}

static int purge_disk(const struct dz_config *cfg, struct gone *gone)
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
		struct gone one = { 0, 0 };

		if (!is_cache_file(entry->d_name))
			continue;
		add_file(&one, dirfd(dir), entry->d_name);
		if (unlinkat(dirfd(dir), entry->d_name, 0) == 0) {
			gone->files += one.files;
			gone->bytes += one.bytes;
		} else if (errno != ENOENT) {
			ret = -errno;
		}
	}
	closedir(dir);
	return ret;
}

/* null: there was no cache, or the disk tier was to stay. */
static void print_json(const struct gone *memory, const struct gone *disk)
{
	fputs("{\"dram\": ", stdout);
	if (memory->files)
		printf("{\"bytes\": %" PRIu64 "}", memory->bytes);
	else
		fputs("null", stdout);
	fputs(", \"disk\": ", stdout);
	if (disk)
		printf("{\"files\": %" PRIu64 ", \"bytes\": %" PRIu64 "}", disk->files,
		       disk->bytes);
	else
		fputs("null", stdout);
	puts("}");
}

static int purge(const struct dz_config *cfg, bool with_disk, bool json)
{
	struct gone memory = find_memory(cfg), disk = { 0, 0 };
	int ret = dz_seg_purge(cfg);

	/* Below what is no directory there is no cache. */
	if (ret < 0 && ret != -ENOTDIR)
		return dz_fail("purge", "%s: %s", cfg->shm_dir, dz_strerror(ret));
	ret = with_disk ? purge_disk(cfg, &disk) : 0;
	if (ret < 0)
		return dz_fail("purge", "%s: %s", cfg->cache_dir, dz_strerror(ret));
	if (json)
		print_json(&memory, with_disk ? &disk : NULL);
	return dz_flushed("purge");
}

int cmd_purge(int argc, char **argv)
{
	static const struct option options[] = {
		{ "disk", no_argument, NULL, 'd' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	static struct dz_config cfg;
	bool with_disk = false, json = false;
	int opt;

	while ((opt = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (opt == 'h') {
			puts(help);
			return dz_flushed("purge");
		}
		if (opt == '?')
			return dz_usage("purge", "wrong option");
		with_disk |= opt == 'd';
		json |= opt == 'j';
	}
	if (optind < argc)
		return dz_usage("purge", "%s: no argument is expected", argv[optind]);
	/* A wrong mount does not keep us from the directories. */
	dz_config_read(&cfg, environ);
	return purge(&cfg, with_disk, json);
}
