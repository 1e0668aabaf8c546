/* SPDX-License-Identifier: MIT */
/* A real segment with a disk tier below the current directory; reopen() is a reboot. */
#ifndef DISK_FIXTURE_H
#define DISK_FIXTURE_H

#include "cache/disk.h"
#include "cache/journal.h"
#include "cache/member.h"
#include "cache/slabs.h"
#include "cache/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

struct fixture {
	struct dz_config cfg;
	struct dz_log log;
	struct dz_seg seg;
	struct dz_disk *disk;
	char root[64];
	char dir[DZ_PATH_MAX]; /* of the slab files */
	uint8_t *buf;	       /* 2 MiB, aligned, shared */
};

static inline struct dz_key key_of(uint64_t n)
{
	return dz_hash128(&n, sizeof(n), 42);
}

/* Test content is a function of the block's number and the offset. */
static inline void fill_block(uint8_t *buf, uint64_t n, uint32_t len)
{
	uint64_t x = n * 0x9e3779b97f4a7c15ull + 1;

	memset(buf, 0, dz_round_up(len, DZ_PAGE));
	for (uint32_t i = 0; i < len; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		buf[i] = (uint8_t)x;
	}
}

static inline bool block_is(const uint8_t *buf, uint64_t n, uint32_t len)
{
	uint64_t x = n * 0x9e3779b97f4a7c15ull + 1;

	for (uint32_t i = 0; i < len; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		if (buf[i] != (uint8_t)x)
			return false;
	}
	return true;
}

static inline int put(struct fixture *f, uint64_t n, uint32_t len)
{
	fill_block(f->buf, n, len);
	return dz_disk_write(f->disk, key_of(n), f->buf, len, 7, DZ_KIND_DATA);
}

/*
 * Reads block n as the engine would.  0 and the bytes in f->buf; -ENOENT a miss;
 * -errno.  Wrong bytes can only come out of a 0.
 */
static inline int get(struct fixture *f, uint64_t n, uint32_t len)
{
	struct dz_ring *ring;
	struct dz_io io;
	uint32_t slot, skip;
	uint64_t ctl;
	int ret;

	slot = dz_index_find(&f->seg, key_of(n), DZ_TIER_DISK, &ctl);
	if (slot == DZ_NONE || f->seg.disk_slots[slot].len != len)
		return -ENOENT;
	assert_int_equal(dz_ring_new(&ring, 1, false), 0);
	dz_disk_prep_read(f->disk, slot, 0, len, f->buf, &io, &skip);
	assert_int_equal(skip, 0);
	assert_int_equal(dz_ring_start(ring, &io), 0);
	assert_int_equal(dz_ring_wait(ring), 1);
	dz_ring_free(ring);
	ret = dz_disk_check_read(f->disk, slot, ctl, &io);
	if (ret == 0 && dz_disk_is_unverified(f->disk, slot))
		ret = dz_disk_verify(f->disk, slot, ctl, f->buf);
	return ret == -ESTALE || ret == -EILSEQ ? -ENOENT : ret;
}

static inline void assert_block(struct fixture *f, uint64_t n, uint32_t len)
{
	assert_int_equal(get(f, n, len), 0);
	assert_true(block_is(f->buf, n, len));
}

static inline int attach(struct fixture *f)
{
	int ret = dz_seg_open(&f->seg, &f->cfg, &f->log);

	if (ret == 0)
		ret = dz_member_join(&f->seg);
	return ret < 0 ? ret : dz_disk_open(&f->disk, &f->seg, &f->cfg, &f->log);
}

static inline void detach(struct fixture *f)
{
	dz_disk_close(f->disk);
	f->disk = NULL;
	dz_member_leave(&f->seg);
	dz_seg_close(&f->seg);
}

/* What a reboot leaves: the disk, not the shared memory. */
static inline void reopen(struct fixture *f)
{
	detach(f);
	assert_int_equal(dz_seg_purge(&f->cfg), 0);
	assert_int_equal(attach(f), 0);
}

static inline struct fixture *fixture_new(const char *cache_dir, uint64_t disk_bytes)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	snprintf(f->root, sizeof(f->root), "./dz-disk-XXXXXX");
	if (!mkdtemp(f->root) || !realpath(f->root, f->dir))
		return NULL;
	f->log = (struct dz_log){ .level = DZ_LOG_ERROR, .path = "", .who = "test" };
	snprintf(f->cfg.shm_dir, sizeof(f->cfg.shm_dir), "%s", f->dir);
	if (cache_dir)
		snprintf(f->cfg.cache_dir, sizeof(f->cfg.cache_dir), "%s", cache_dir);
	else
		snprintf(f->cfg.cache_dir, sizeof(f->cfg.cache_dir), "%.4000s/nvme", f->dir);
	f->cfg.dram_bytes = 24 * DZ_MIB;
	f->cfg.disk_bytes = disk_bytes;
	f->buf = mmap(NULL, 2 * DZ_MIB, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (f->buf == MAP_FAILED || attach(f) < 0 || dz_disk_dir(&f->cfg, f->dir, DZ_PATH_MAX) < 0)
		return NULL;
	return f;
}

static inline void fixture_free(struct fixture *f)
{
	char cmd[192];

	detach(f);
	munmap(f->buf, 2 * DZ_MIB);
	snprintf(cmd, sizeof(cmd), "chmod -R u+w %s; rm -rf %s", f->root, f->root);
	if (system(cmd) != 0)
		fprintf(stderr, "%s stays\n", f->root);
	free(f);
}

#endif
