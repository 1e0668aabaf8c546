// SPDX-License-Identifier: MIT
/*
 * dz verify: every cached byte of the disk tier against its checksum.
 *
 * Each slot that is ready is read from the device (O_DIRECT, several at a time)
 * and its CRC-32C compared with the one that was taken when it was written.  A
 * block that fails is dropped, so a program that wants it fetches it again; one
 * that is evicted or overwritten while we read it is nobody's loss and skipped.
 * Memory has no checksums: the DRAM tier is counted, not checked.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "tools/disk_check.h"
#include "tools/dz.h"
#include "tools/human.h"
#include "tools/place.h"

static const char help[] =
	"Usage: dz verify [--json]\n"
	"Reads every block of the disk tier and compares it with its checksum.  A block\n"
	"that fails is dropped and will be fetched again when it is wanted.  Programs\n"
	"may use the cache meanwhile.  Blocks in memory have no checksum and are only\n"
	"counted.\n"
	"\n"
	"      --json  one JSON object at the end, and progress a second\n"
	"      --help  this text\n"
	"\n"
	"Exit status: 0 every block is good, 1 some were not, 125 for another failure.";

struct verify {
	struct dz_engine *engine;
	struct dz_disk_check disk;
	uint64_t dram_blocks, dram_bytes;
	struct dz_progress progress;
};

static void count_dram(struct verify *v)
{
	const struct dz_seg *seg = &v->engine->seg;
	uint64_t ctl;
	uint32_t len;

	for (uint32_t n = 0; n < seg->n_dram_slots; n++) {
		if (!dz_slot_is_ready(dz_dram_slot(seg, n), &ctl, &len))
			continue;
		v->dram_blocks++;
		v->dram_bytes += len;
	}
}

static int verify_disk(struct verify *v)
{
	const struct dz_seg *seg = &v->engine->seg;
	uint64_t ctl;
	uint32_t len;
	int ret = dz_disk_check_open(&v->disk, v->engine, &v->progress);

	if (ret < 0)
		return ret;
	for (uint32_t n = 0; n < seg->n_disk_slots; n++) {
		if (dz_slot_is_ready(&seg->disk_slots[n], &ctl, &len))
			v->progress.total_bytes += len;
	}
	for (uint32_t n = 0; n < seg->n_disk_slots; n++)
		dz_disk_check_slot(&v->disk, n);
	dz_disk_check_close(&v->disk);
	return 0;
}

static void print_json(const struct verify *v, double seconds)
{
	const struct dz_disk_check *d = &v->disk;

	printf("{\"event\": \"done\", \"disk\": {\"good\": %" PRIu64 ", \"bad\": %" PRIu64
	       ", \"evicted_meanwhile\": %" PRIu64 ", \"unreadable\": %" PRIu64
	       ", \"bytes\": %" PRIu64 "}, \"dram\": {\"blocks\": %" PRIu64 ", \"bytes\": %" PRIu64
	       "}, \"seconds\": %.3f}\n",
	       d->good, d->bad, d->moved, d->failed, d->bytes, v->dram_blocks, v->dram_bytes,
	       seconds);
}

static void print_result(const struct verify *v, double seconds)
{
	const struct dz_disk_check *d = &v->disk;
	char size[DZ_HUMAN_BYTES], dram[DZ_HUMAN_BYTES], rate[DZ_HUMAN_BYTES];

	printf("disk  %" PRIu64 " blocks (%s) are good, %" PRIu64 " failed their checksum", d->good,
	       dz_human(d->bytes, size), d->bad);
	if (d->moved)
		printf(", %" PRIu64 " were evicted meanwhile", d->moved);
	if (d->failed)
		printf(", %" PRIu64 " could not be read", d->failed);
	printf("; %s/s\n",
	       dz_human(seconds > 0 ? (uint64_t)((double)d->bytes / seconds) : 0, rate));
	printf("DRAM  %" PRIu64 " blocks (%s): memory has no checksums\n", v->dram_blocks,
	       dz_human(v->dram_bytes, dram));
	if (d->bad)
		puts("The bad blocks were dropped: they are fetched again when they are wanted.\n"
		     "If this happens again, suspect the disk: look at `dmesg` and `smartctl -a`.");
}

/* Is there anything to look at?  The engine would make a cache where there is none. */
static bool has_cache(const struct dz_config *cfg)
{
	char dir[DZ_PATH_MAX], path[DZ_PATH_MAX + 16];

	if (dz_place_has_cache(cfg))
		return true;
	if (dz_disk_dir(cfg, dir, sizeof(dir)) < 0)
		return false;
	snprintf(path, sizeof(path), "%s/slab.0", dir);
	return access(path, F_OK) == 0;
}

static int verify(const struct dz_config *cfg, bool json)
{
	static struct verify v;
	int ret;

	if (!has_cache(cfg)) {
		puts(json ? "{\"event\": \"done\", \"disk\": null, \"dram\": null}"
			  : "no cache: nothing has run yet, or it was purged");
		return DZ_EXIT_OK;
	}
	ret = dz_place_engine("verify", cfg, &v.engine);
	if (ret != 0)
		return ret;
	dz_progress_start(&v.progress, json);
	if (v.engine->disk)
		ret = verify_disk(&v);
	count_dram(&v);
	double seconds = dz_progress_end(&v.progress);

	if (ret == 0 && json)
		print_json(&v, seconds);
	else if (ret == 0)
		print_result(&v, seconds);
	if (!v.engine->disk && !json)
		puts("There is no disk tier (DELTAZERO_DISK_SIZE=0, or it switched itself off).");
	dz_engine_close(v.engine);
	if (ret < 0)
		return dz_fail("verify", "%s", dz_strerror(ret));
	return v.disk.bad || v.disk.failed ? DZ_EXIT_NO : DZ_EXIT_OK;
}

int cmd_verify(int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	static struct dz_config cfg;
	bool json = false;
	int opt, ret, flushed;

	while ((opt = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (opt == 'h') {
			puts(help);
			return dz_flushed("verify");
		}
		if (opt == '?')
			return dz_usage("verify", "wrong option");
		json = true;
	}
	if (optind < argc)
		return dz_usage("verify", "%s: no argument is expected", argv[optind]);
	/* A wrong mount does not keep us from the cache: no mount is needed here. */
	dz_config_read(&cfg, environ);
	cfg.n_mounts = 0;
	ret = verify(&cfg, json);
	flushed = dz_flushed("verify");
	return ret ? ret : flushed;
}
