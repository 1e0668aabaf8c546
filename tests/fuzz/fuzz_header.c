/* SPDX-License-Identifier: MIT */
/*
 * The file `meta` of a segment, with patches: attach, and touch the end of each table
 * if it was believed.
 */
#include "cache/segment.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct dz_config cfg;
static struct dz_log quiet = { .level = DZ_LOG_ERROR, .path = "/dev/null", .who = "fuzz" };
static struct dz_seg_header original;
static int meta_fd;

static void remove_all(void)
{
	char cmd[DZ_PATH_MAX + 16];

	snprintf(cmd, sizeof(cmd), "rm -rf '%.4000s'", cfg.shm_dir);
	if (system(cmd))
		perror(cmd);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct dz_seg seg;
	char path[2 * DZ_PATH_MAX];

	(void)argc;
	(void)argv;
	snprintf(cfg.shm_dir, sizeof(cfg.shm_dir), "/dev/shm/dz-fuzz-XXXXXX");
	if (!mkdtemp(cfg.shm_dir))
		return 1;
	atexit(remove_all);
	snprintf(cfg.cache_dir, sizeof(cfg.cache_dir), "%.4000s/cache", cfg.shm_dir);
	cfg.dram_bytes = 24 * DZ_MIB;
	cfg.disk_bytes = DZ_SIZE_NONE;
	if (dz_seg_open(&seg, &cfg, &quiet) < 0)
		return 1;
	snprintf(path, sizeof(path), "%s/meta", seg.dir);
	meta_fd = open(path, O_RDWR);
	original = *seg.hdr;
	dz_seg_close(&seg);
	return 0;
}

static uint64_t touch_ends(const struct dz_seg *seg)
{
	return seg->members[seg->n_members - 1].state + seg->leases[seg->n_leases - 1].word +
	       seg->files[seg->n_files - 1].ctl + seg->buckets[seg->n_buckets - 1].entry[7] +
	       seg->dram_slots[seg->n_dram_slots - 1].ctl +
	       seg->dram_slabs[seg->n_dram_slabs - 1].ctl + seg->window[seg->n_window - 1] +
	       seg->freq[seg->n_freq - 1] + seg->mounts[seg->n_mounts - 1].id +
	       seg->agents[seg->n_agents - 1].identity +
	       seg->held[(size_t)seg->n_members * seg->held_words - 1] +
	       seg->dram[seg->dram_bytes - 1];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct dz_seg_header h = original;
	struct dz_seg seg;
	static uint64_t sum;

	for (size_t at = 0; at + 6 <= size; at += 6) {
		size_t off = (data[at] | (size_t)data[at + 1] << 8) % sizeof(h);

		memcpy((uint8_t *)&h + off, data + at + 2,
		       sizeof(h) - off < 4 ? sizeof(h) - off : 4);
	}
	if (pwrite(meta_fd, &h, sizeof(h), 0) != (ssize_t)sizeof(h))
		abort();
	/* another boot, or half built: it would be replaced, which is not wanted here */
	if (memcmp(h.boot_id, original.boot_id, 16) != 0 || atomic_load(&h.state) != 1)
		return 0;
	if (dz_seg_open(&seg, &cfg, &quiet) == 0) {
		sum += touch_ends(&seg);
		dz_seg_close(&seg);
	}
	return 0;
}
