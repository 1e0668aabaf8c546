// SPDX-License-Identifier: MIT
/*
 * Where the cache lies, how fast its disk is, and how large it is or would be.
 *
 * The speed is that of a file without a name (O_TMPFILE) in the cache directory,
 * O_DIRECT, 1 MiB at a time, several under way, for a second at most: nothing is
 * left behind.
 */
#include "tools/doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cache/disk.h"
#include "cache/log.h"
#include "cache/ring.h"
#include "cache/sizes.h"
#include "cache/sys.h"
#include "tools/human.h"
#include "tools/place.h"

#define TEST_BYTES (96 * DZ_MIB)
#define TEST_NS	   700000000u
#define TEST_DEPTH 8u

/* The directory, or the nearest above it that exists. */
static void nearest_directory(const char *path, char dir[DZ_PATH_MAX])
{
	snprintf(dir, DZ_PATH_MAX, "%s", path);
	while (access(dir, F_OK) < 0 && strlen(dir) > 1) {
		char *slash = strrchr(dir, '/');

		slash[slash == dir] = '\0';
	}
}

/* ---- shared memory ---- */

static void examine_shm(struct dz_doctor *d)
{
	char dir[DZ_PATH_MAX], a[DZ_HUMAN_BYTES], b[DZ_HUMAN_BYTES];
	uint64_t wanted = d->cfg->dram_bytes ? d->cfg->dram_bytes : dz_default_dram(), room;

	nearest_directory(d->cfg->shm_dir, dir);
	if (access(dir, W_OK) < 0) {
		dz_found(d, DZ_HEALTH_FAIL, "shm",
			 "set DELTAZERO_SHM_DIR to a writable directory, best a tmpfs",
			 "%s cannot be written to: %s", dir, dz_strerror(-errno));
		return;
	}
	/* An eighth is left to others. */
	room = dz_free_bytes(dir);
	room -= room / 8;
	if (room < wanted)
		dz_found(d, room < 24 * DZ_MIB ? DZ_HEALTH_FAIL : DZ_HEALTH_WARN, "shm",
			 "enlarge it: `docker run --shm-size=8g`, in Kubernetes an emptyDir with "
			 "medium: Memory at /dev/shm; or set DELTAZERO_SHM_DIR",
			 "%s has room for %s, the DRAM tier wants %s", dir, dz_human(room, a),
			 dz_human(wanted, b));
	else
		dz_found(d, DZ_HEALTH_OK, "shm", NULL, "%s has room for %s", dir,
			 dz_human(room, a));
}

/* What is, or would be made, and by which rule. */
static void examine_sizes(struct dz_doctor *d)
{
	char a[DZ_HUMAN_BYTES], b[DZ_HUMAN_BYTES], c[DZ_HUMAN_BYTES], where[DZ_PATH_MAX + 32];
	uint64_t memory = dz_meminfo("MemAvailable"), disk;
	uint64_t limit = dz_cgroup_limit("memory.max", "memory", "memory.limit_in_bytes");
	struct dz_seg seg;

	if (dz_place_look(&seg, d->cfg) == 0) {
		snprintf(where, sizeof(where), "%s", seg.dir);
		dz_found(d, DZ_HEALTH_OK, "cache", NULL,
			 "there is one, in %s: DRAM tier %s, disk tier %s%s", where,
			 dz_human(seg.dram_bytes, a), dz_human(seg.disk_bytes, b),
			 dz_disk_off(seg.hdr) ? " (it switched itself off)" : "");
		if (dz_disk_off(seg.hdr) == DZ_DISK_OFF_FOR_NOW)
			dz_found(d, DZ_HEALTH_WARN, "disk tier",
				 "let DELTAZERO_CACHE_DIR lie on a local NVMe disk, and see what "
				 "else uses this one (iostat -x 1)",
				 "its disk is slower than Blob: it is off for a while");
		else if (dz_disk_off(seg.hdr))
			dz_found(d, DZ_HEALTH_WARN, "disk tier",
				 "look into the log for the cause (DELTAZERO_LOG=warn:FILE), "
				 "mend it, then `dz purge`",
				 "it switched itself off after an error");
		dz_seg_close(&seg);
		return;
	}
	disk = dz_disk_budget(d->cfg);
	if (d->cfg->dram_bytes)
		snprintf(where, sizeof(where), "as DELTAZERO_DRAM_SIZE says");
	else
		snprintf(where, sizeof(where), "a quarter of %s %s",
			 dz_human(dz_min_u64(memory, limit), c),
			 limit < memory ? "that the container may use" : "of available memory");
	dz_found(d, DZ_HEALTH_OK, "dram size", NULL, "would be %s, tables included: %s",
		 dz_human(d->cfg->dram_bytes ? d->cfg->dram_bytes : dz_default_dram(), a), where);
	if (d->cfg->disk_bytes == DZ_SIZE_NONE)
		dz_found(d, DZ_HEALTH_OK, "disk size", NULL, "none, as DELTAZERO_DISK_SIZE says");
	else
		dz_found(d, disk ? DZ_HEALTH_OK : DZ_HEALTH_WARN, "disk size",
			 disk ? NULL : "set DELTAZERO_CACHE_DIR to a disk with room",
			 "would be %s: %s", dz_human(disk, b),
			 d->cfg->disk_bytes ? "as DELTAZERO_DISK_SIZE says"
					    : "a quarter of what is free there, at most 1 TiB");
}

/* ---- the disk's speed ---- */

struct speed_test {
	struct dz_ring *ring;
	struct dz_io io[TEST_DEPTH];
	uint8_t *buf;
	int fd;
	int err;
};

/* Bytes a second of up to `limit` bytes from the start of the file; *done is how many. */
static double measure(struct speed_test *t, bool is_write, uint64_t limit, uint64_t *done)
{
	uint64_t begin = dz_now_ns(), end = begin + TEST_NS, off = 0;
	uint32_t under_way = 0;

	*done = 0;
	for (uint32_t i = 0;; i = (i + 1) % TEST_DEPTH) {
		struct dz_io *io = &t->io[i];

		if (under_way == TEST_DEPTH || (under_way && (off >= limit || dz_now_ns() > end))) {
			uint32_t oldest = (i + TEST_DEPTH - under_way) % TEST_DEPTH;

			while (!t->io[oldest].is_done && dz_ring_wait(t->ring) >= 0)
				;
			if (!t->io[oldest].is_done || t->io[oldest].res != (int32_t)DZ_MIB)
				t->err = t->io[oldest].res < 0 ? t->io[oldest].res : -EIO;
			else
				*done += DZ_MIB;
			under_way--;
			i = (i + TEST_DEPTH - 1) % TEST_DEPTH;
			continue;
		}
		if (off >= limit || dz_now_ns() > end || t->err)
			break;
		*io = (struct dz_io){ .is_write = is_write,
				      .fd = t->fd,
				      .buf = t->buf + i * DZ_MIB,
				      .len = DZ_MIB,
				      .off = off };
		if (dz_ring_start(t->ring, io) < 0)
			break;
		off += DZ_MIB;
		under_way++;
	}
	return (double)*done * 1e9 / (double)(dz_now_ns() - begin);
}

static int open_nameless(const char *dir, bool *is_direct)
{
	int fd = open(dir, O_TMPFILE | O_RDWR | O_DIRECT | O_CLOEXEC, 0600);

	*is_direct = fd >= 0;
	return fd >= 0 ? fd : open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
}

static void tell_speed(struct dz_doctor *d, const char *dir, bool is_direct, double wr, double rd)
{
	char a[DZ_HUMAN_BYTES], b[DZ_HUMAN_BYTES];
	bool is_slow = rd < 200e6 && is_direct;

	dz_found(d, is_slow || !is_direct ? DZ_HEALTH_WARN : DZ_HEALTH_OK, "disk",
		 !is_direct ? "the page cache stands between: a local NVMe file system is better"
		 : is_slow  ? "that is slower than Blob over a good network: set "
			      "DELTAZERO_CACHE_DIR to a local NVMe disk (on Azure /mnt, or "
			      "/nvme), or DELTAZERO_DISK_SIZE=0"
			    : NULL,
		 "%s: writes %s/s, reads %s/s%s", dir, dz_human((uint64_t)wr, a),
		 dz_human((uint64_t)rd, b), is_direct ? "" : ", without O_DIRECT");
}

static void examine_speed(struct dz_doctor *d)
{
	struct speed_test t = { .fd = -1 };
	char dir[DZ_PATH_MAX];
	uint64_t written, read_back;
	bool is_direct = false;
	double wr, rd;

	if (d->cfg->disk_bytes == DZ_SIZE_NONE)
		return;
	nearest_directory(d->cfg->cache_dir, dir);
	t.fd = open_nameless(dir, &is_direct);
	if (t.fd < 0) {
		dz_found(d, DZ_HEALTH_WARN, "disk",
			 "set DELTAZERO_CACHE_DIR to a writable directory on a local disk; without "
			 "one there is no disk tier",
			 "%s: %s", dir, dz_strerror(-errno));
		return;
	}
	t.buf = aligned_alloc(DZ_PAGE, TEST_DEPTH * DZ_MIB);
	if (t.buf && dz_ring_new(&t.ring, TEST_DEPTH, false) == 0) {
		/* Not all zeros: some disks are quick at those. */
		for (size_t i = 0; i < TEST_DEPTH * DZ_MIB; i++)
			t.buf[i] = (uint8_t)(i * 2654435761u >> 13);
		wr = measure(&t, true, TEST_BYTES, &written);
		rd = t.err ? 0 : measure(&t, false, written, &read_back);
		dz_ring_free(t.ring);
		if (t.err)
			dz_found(d, DZ_HEALTH_WARN, "disk", "make room, or set DELTAZERO_CACHE_DIR",
				 "%s: a test file: %s", dir, dz_strerror(t.err));
		else
			tell_speed(d, dir, is_direct, wr, rd);
	}
	free(t.buf);
	close(t.fd);
}

void dz_doctor_cache(struct dz_doctor *d)
{
	examine_shm(d);
	examine_speed(d);
	examine_sizes(d);
}
