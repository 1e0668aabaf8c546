// SPDX-License-Identifier: MIT
/*
 * Making and mapping the shared memory of one cache.
 *
 * The happy path: open `meta` of the cache's directory, check its header, map
 * it and `dram`.  Four system calls more than nothing; no lock.
 *
 * The first to come: under the lock on `create.lock`, builds `meta.new` and
 * `dram.new`, whose space is allocated before a store can need it (no SIGBUS), and
 * renames them.  Killed on the way, it leaves files that the next one overwrites.
 *
 * Where shm_dir has no room, sizes shrink; below a useful size the segment goes
 * to the cache directory.  Another layout or a damaged header is never attached.
 */
#include "cache/segment.h"

#include "cache/copy.h"
#include "cache/disk.h"
#include "cache/sizes.h"
#include "cache/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEG_MIN_BYTES (24 * DZ_MIB)
#define GROW_SLABS    32u
#define GROW_RETRY_MS 10000

/* Any change of a size or an offset changes this: two builds refuse to share. */
static uint64_t seg_abi_hash(void)
{
	const uint64_t facts[] = {
		sizeof(struct dz_seg_header),
		offsetof(struct dz_seg_header, off_window),
		offsetof(struct dz_seg_header, tick),
		offsetof(struct dz_seg_header, dram_used),
		offsetof(struct dz_seg_header, last_sweep_ms),
		sizeof(struct dz_slot),
		offsetof(struct dz_slot, stamp_ms),
		sizeof(struct dz_slab),
		offsetof(struct dz_member, mounts),
		sizeof(struct dz_mount_rec),
		sizeof(struct dz_agent_rec),
		offsetof(struct dz_agent_rec, requests),
		sizeof(struct dz_lease),
		offsetof(struct dz_lease, seq),
		sizeof(struct dz_request),
		offsetof(struct dz_request, name),
		sizeof(struct dz_ofile),
		offsetof(struct dz_ofile, has_own),
		sizeof(struct dz_stats),
		offsetof(struct dz_stats, by_call),
		DZ_LAYOUT_MINOR,
	};

	return dz_hash64(facts, sizeof(facts), DZ_SEG_MAGIC);
}

static void seg_boot_id(uint8_t out[16])
{
	char text[64];
	ssize_t n = -1;
	int fd = dz_sys_open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC, 0);

	if (fd >= 0) {
		n = dz_sys_read(fd, text, sizeof(text));
		dz_sys_close(fd);
	}
	struct dz_key k = dz_hash128(text, n > 0 ? (size_t)n : 0, 1);
	memcpy(out, &k, 16);
}

static uint32_t seg_clamp(uint64_t n, uint32_t lo, uint32_t hi)
{
	return n < lo ? lo : n > hi ? hi : (uint32_t)n;
}

static uint32_t seg_pow2_up(uint64_t n)
{
	uint32_t p = 64;

	while (p < n && p < (1u << 31))
		p <<= 1;
	return p;
}

/* Every count that follows from the two sizes. */
static void seg_counts(struct dz_seg_header *h, uint64_t budget, uint64_t slabs)
{
	uint64_t pages = slabs * DZ_SLAB_PAGES;
	uint64_t disk_pages = h->disk_bytes / DZ_PAGE;
	uint64_t by_dram = budget / 16 / sizeof(struct dz_slot);
	uint64_t by_size = h->disk_bytes / (64 * DZ_KIB);

	h->n_members = seg_clamp(budget / (4 * DZ_MIB), 128, 1024);
	/* 1% of it; 64 workers with 1,000 open files each are no more than a node has. */
	h->n_files = seg_clamp(budget / (128 * DZ_KIB), 1024, 65536);
	h->n_leases = seg_clamp(budget / DZ_MIB, 256, 4096);
	h->n_mounts = 64;
	h->n_agents = 8;
	h->n_dram_slabs = (uint32_t)slabs;
	h->n_disk_slabs = (uint32_t)(h->disk_bytes / DZ_MIB);
	h->n_disk_slots = (uint32_t)dz_min_u64(disk_pages, dz_max_u64(by_size, by_dram));
	h->n_buckets = seg_pow2_up((pages + h->n_disk_slots) / 4);
	h->n_freq = seg_pow2_up(pages + h->n_disk_slots);
	h->n_window = seg_clamp(pages / 20, 64, UINT32_MAX);
	h->dram_bytes = slabs * DZ_MIB;
}

static uint64_t seg_place(uint64_t *end, uint64_t bytes)
{
	uint64_t off = *end;

	*end = dz_round_up(off + bytes, DZ_PAGE);
	return off;
}

/* Where each table lies; sets meta_bytes. */
static void seg_offsets(struct dz_seg_header *h)
{
	uint64_t end = DZ_PAGE;
	uint64_t held_words = dz_div_up(h->n_files, 64);
	uint64_t pending_words = dz_div_up(h->n_leases, 64);

	h->off_members = seg_place(&end, h->n_members * sizeof(struct dz_member));
	h->off_stats =
		seg_place(&end, (uint64_t)h->n_members * DZ_STAT_STRIPES * sizeof(struct dz_stats));
	h->off_held = seg_place(&end, h->n_members * held_words * 8);
	h->off_mounts = seg_place(&end, h->n_mounts * sizeof(struct dz_mount_rec));
	h->off_agents = seg_place(&end, h->n_agents * sizeof(struct dz_agent_rec));
	h->off_pending = seg_place(&end, h->n_agents * pending_words * 8);
	h->off_leases = seg_place(&end, h->n_leases * sizeof(struct dz_lease));
	h->off_requests = seg_place(&end, h->n_leases * sizeof(struct dz_request));
	h->off_files = seg_place(&end, h->n_files * sizeof(struct dz_ofile));
	h->off_buckets = seg_place(&end, h->n_buckets * sizeof(struct dz_bucket));
	h->off_dram_slots =
		seg_place(&end, (uint64_t)h->n_dram_slabs * DZ_SLAB_PAGES * sizeof(struct dz_slot));
	h->off_dram_slabs = seg_place(&end, h->n_dram_slabs * sizeof(struct dz_slab));
	h->off_disk_slots = seg_place(&end, (uint64_t)h->n_disk_slots * sizeof(struct dz_slot));
	h->off_disk_slabs = seg_place(&end, h->n_disk_slabs * sizeof(struct dz_slab));
	h->off_disk_map = seg_place(&end, (uint64_t)h->n_disk_slabs * DZ_SLAB_PAGES * 4);
	h->off_freq = seg_place(&end, (uint64_t)h->n_freq * 2);
	h->off_window = seg_place(&end, (uint64_t)h->n_window * 4);
	h->meta_bytes = end;
}

/*
 * The largest geometry whose meta and data together stay within `budget`.
 * Returns false when not even one slab fits.
 */
static bool seg_geometry(struct dz_seg_header *h, uint64_t budget, uint64_t disk_bytes)
{
	uint64_t slabs = budget / DZ_MIB;

	memset(h, 0, sizeof(*h));
	h->disk_bytes = disk_bytes & ~(DZ_MIB - 1);
	for (int round = 0; round < 4 && slabs > 0; round++) {
		seg_counts(h, budget, slabs);
		seg_offsets(h);
		if (h->meta_bytes + h->dram_bytes <= budget)
			return true;
		if (h->meta_bytes >= budget)
			return false;
		slabs = (budget - h->meta_bytes) / DZ_MIB;
	}
	if (!slabs)
		return false;
	seg_counts(h, budget, slabs);
	seg_offsets(h);
	return h->meta_bytes + h->dram_bytes <= budget;
}

static void seg_stamp(struct dz_seg_header *h)
{
	h->magic = DZ_SEG_MAGIC;
	h->major = DZ_LAYOUT_MAJOR;
	h->minor = DZ_LAYOUT_MINOR;
	h->abi_hash = seg_abi_hash();
	h->uid = (uint32_t)geteuid();
	seg_boot_id(h->boot_id);
	h->id = dz_now_ns() ^ (uint64_t)dz_sys_getpid() << 48;
}

/* Pointers from offsets; the header is checked and the mappings are in place. */
static void seg_bind(struct dz_seg *seg, void *meta)
{
	uint8_t *base = meta;
	struct dz_seg_header *h = meta;

	seg->hdr = h;
	seg->members = (void *)(base + h->off_members);
	seg->stats = (void *)(base + h->off_stats);
	seg->held = (void *)(base + h->off_held);
	seg->mounts = (void *)(base + h->off_mounts);
	seg->agents = (void *)(base + h->off_agents);
	seg->pending = (void *)(base + h->off_pending);
	seg->leases = (void *)(base + h->off_leases);
	seg->requests = (void *)(base + h->off_requests);
	seg->files = (void *)(base + h->off_files);
	seg->buckets = (void *)(base + h->off_buckets);
	seg->dram_slots = (void *)(base + h->off_dram_slots);
	seg->dram_slabs = (void *)(base + h->off_dram_slabs);
	seg->disk_slots = (void *)(base + h->off_disk_slots);
	seg->disk_slabs = (void *)(base + h->off_disk_slabs);
	seg->disk_map = (void *)(base + h->off_disk_map);
	seg->freq = (void *)(base + h->off_freq);
	seg->window = (void *)(base + h->off_window);
}

static void seg_copy_counts(struct dz_seg *seg, const struct dz_seg_header *h)
{
	seg->n_members = h->n_members;
	seg->n_files = h->n_files;
	seg->n_leases = h->n_leases;
	seg->n_mounts = h->n_mounts;
	seg->n_agents = h->n_agents;
	seg->n_dram_slabs = h->n_dram_slabs;
	seg->n_dram_slots = h->n_dram_slabs * DZ_SLAB_PAGES;
	seg->n_disk_slabs = h->n_disk_slabs;
	seg->n_disk_slots = h->n_disk_slots;
	seg->n_buckets = h->n_buckets;
	seg->n_freq = h->n_freq;
	seg->n_window = h->n_window;
	seg->held_words = (uint32_t)dz_div_up(h->n_files, 64);
	seg->pending_words = (uint32_t)dz_div_up(h->n_leases, 64);
	seg->meta_bytes = h->meta_bytes;
	seg->dram_bytes = h->dram_bytes;
	seg->disk_bytes = h->disk_bytes;
}

/*
 * Is this header, read into private memory, one that this build may map?  Its
 * offsets are computed again from its counts: none is believed.
 */
static int seg_check(const struct dz_seg_header *h, uint64_t file_bytes)
{
	struct dz_seg_header want = *h;
	uint8_t boot[16];

	if (h->magic != DZ_SEG_MAGIC || h->major != DZ_LAYOUT_MAJOR ||
	    h->abi_hash != seg_abi_hash())
		return -EPROTO;
	if (h->n_members < 1 || h->n_members > 65000 || h->n_files < 64 || h->n_files > 1u << 20 ||
	    h->n_leases < 64 || h->n_leases > 1u << 16 || h->n_mounts > 4096 || h->n_mounts < 1 ||
	    h->n_agents < 1 || h->n_agents > 64 || h->n_dram_slabs > 1u << 23 ||
	    h->n_dram_slabs < 1 || h->n_disk_slabs > 1u << 23 || h->n_disk_slots > 1u << 31 ||
	    h->n_buckets < 64 || (h->n_buckets & (h->n_buckets - 1)) || h->n_freq < 64 ||
	    (h->n_freq & (h->n_freq - 1)) || h->n_window < 1 || h->n_window > 1u << 30)
		return -EPROTO;
	seg_offsets(&want);
	want.dram_bytes = (uint64_t)want.n_dram_slabs * DZ_MIB;
	if (memcmp(&want, h, offsetof(struct dz_seg_header, tick)) != 0 ||
	    h->meta_bytes != file_bytes)
		return -EPROTO;
	if (atomic_load_explicit(&h->state, memory_order_relaxed) != 1)
		return -ENOENT;
	seg_boot_id(boot);
	return memcmp(boot, h->boot_id, 16) == 0 ? 0 : -ENOENT;
}

/* Our descriptors keep out of the numbers that programs use and close. */
static int seg_high_fd(int fd)
{
	static const int floors[] = { 900, 200, 50, 20 };

	for (size_t i = 0; i < DZ_ARRAY_LEN(floors); i++) {
		long high = dz_sys_3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, floors[i]);

		if (high >= 0) {
			dz_sys_close(fd);
			return (int)high;
		}
	}
	return fd;
}

static int seg_open_high(int dir_fd, const char *name, int flags)
{
	int fd = dz_sys_openat(dir_fd, name, flags | O_CLOEXEC, 0600);

	return fd < 0 ? fd : seg_high_fd(fd);
}

static int seg_map(struct dz_seg *seg, int meta_fd, const struct dz_seg_header *h)
{
	int prot = PROT_READ | (seg->is_read_only ? 0 : PROT_WRITE);
	void *meta, *dram;
	int ret = dz_sys_mmap(&meta, NULL, h->meta_bytes, prot, MAP_SHARED, meta_fd, 0);

	if (ret < 0)
		return ret;
	ret = dz_sys_map_huge(&dram, h->dram_bytes, prot, seg->dram_fd);
	if (ret < 0) {
		dz_sys_munmap(meta, h->meta_bytes);
		return ret;
	}
	/* A core of the program shows neither data nor names. */
	dz_sys_3(SYS_madvise, meta, h->meta_bytes, MADV_DONTDUMP);
	dz_sys_3(SYS_madvise, dram, h->dram_bytes, MADV_DONTDUMP);
	dz_sys_3(SYS_madvise, dram, h->dram_bytes, MADV_HUGEPAGE);
	seg->dram = dram;
	seg_copy_counts(seg, h);
	seg_bind(seg, meta);
	return 0;
}

static void seg_close_fds(struct dz_seg *seg)
{
	if (seg->dram_fd >= 0)
		dz_sys_close(seg->dram_fd);
	if (seg->lock_fd >= 0)
		dz_sys_close(seg->lock_fd);
	if (seg->dir_fd >= 0)
		dz_sys_close(seg->dir_fd);
	seg->dram_fd = seg->lock_fd = seg->dir_fd = -1;
}

/* Is the open file still the directory's `meta`, or was it purged and made anew meanwhile? */
static bool seg_is_named(const struct dz_seg *seg, int meta_fd)
{
	struct stat mine, st;

	return dz_sys_fstat(meta_fd, &mine) == 0 &&
	       dz_sys_4(SYS_newfstatat, seg->dir_fd, "meta", &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       st.st_ino == mine.st_ino;
}

/* -ENOENT: nothing to attach to, make it. */
static int seg_attach(struct dz_seg *seg, int mode)
{
	struct dz_seg_header h;
	struct stat st;
	int ret, fd = dz_sys_openat(seg->dir_fd, "meta", mode | O_CLOEXEC, 0);

	if (fd < 0)
		return fd;
	ret = dz_sys_fstat(fd, &st);
	if (ret == 0 && dz_sys_pread(fd, &h, sizeof(h), 0) != (ssize_t)sizeof(h))
		ret = -EPROTO;
	if (ret == 0)
		ret = seg_check(&h, (uint64_t)st.st_size);
	if (ret < 0)
		goto out;
	seg->is_read_only = mode == O_RDONLY;
	seg->dram_fd = seg_open_high(seg->dir_fd, "dram", mode);
	ret = seg->dram_fd;
	if (ret < 0)
		goto out;
	ret = dz_sys_fstat(seg->dram_fd, &st);
	/* Another one's data under these tables would be wrong bytes. */
	if (ret == 0 && (uint32_t)st.st_ino != h.dram_ino)
		ret = seg_is_named(seg, fd) ? -EPROTO : -ENOENT;
	if (ret == 0 && (uint64_t)st.st_size != h.dram_bytes)
		ret = -EPROTO;
	seg->dram_ino = st.st_ino;
	if (ret == 0)
		ret = seg_map(seg, fd, &h);
	if (ret < 0) {
		dz_sys_close(seg->dram_fd);
		seg->dram_fd = -1;
	}
out:
	dz_sys_close(fd);
	return ret;
}

/* A file of `bytes`, the first `backed` of them allocated. */
static int seg_make_file(int dir_fd, const char *name, uint64_t bytes, uint64_t backed)
{
	int ret, fd;

	dz_sys_unlinkat(dir_fd, name, 0);
	fd = dz_sys_openat(dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return fd;
	ret = dz_sys_ftruncate(fd, bytes);
	if (ret == 0)
		ret = dz_sys_fallocate(fd, 0, 0, backed);
	if (ret == -EOPNOTSUPP)
		ret = 0;
	if (ret < 0) {
		dz_sys_close(fd);
		dz_sys_unlinkat(dir_fd, name, 0);
		return ret;
	}
	return fd;
}

static int seg_rename(int dir_fd, const char *from, const char *to)
{
	return (int)dz_sys_5(SYS_renameat2, dir_fd, from, dir_fd, to, 0);
}

/* Under the creation lock: both files at full size, then their names. */
static int seg_build(struct dz_seg *seg, struct dz_seg_header *h)
{
	uint32_t backed = (uint32_t)dz_min_u64(h->n_dram_slabs, GROW_SLABS);
	int meta_fd, dram_fd, ret;
	struct stat st;

	dz_sys_unlinkat(seg->dir_fd, "meta", 0);
	dram_fd = seg_make_file(seg->dir_fd, "dram.new", h->dram_bytes, (uint64_t)backed * DZ_MIB);
	if (dram_fd < 0)
		return dram_fd;
	ret = dz_sys_fstat(dram_fd, &st);
	dz_sys_close(dram_fd);
	if (ret < 0)
		goto err_dram;
	h->dram_ino = (uint32_t)st.st_ino;
	meta_fd = seg_make_file(seg->dir_fd, "meta.new", h->meta_bytes, h->meta_bytes);
	if (meta_fd < 0) {
		ret = meta_fd;
		goto err_dram;
	}
	seg_stamp(h);
	atomic_store_explicit(&h->dram_backed, backed, memory_order_relaxed);
	atomic_store_explicit(&h->state, 1, memory_order_relaxed);
	ret = dz_sys_pwrite(meta_fd, h, sizeof(*h), 0) == (ssize_t)sizeof(*h) ? 0 : -EIO;
	dz_sys_close(meta_fd);
	if (ret == 0)
		ret = seg_rename(seg->dir_fd, "dram.new", "dram");
	if (ret == 0)
		ret = seg_rename(seg->dir_fd, "meta.new", "meta");
	if (ret == 0)
		return 0;
	dz_sys_unlinkat(seg->dir_fd, "meta.new", 0);
err_dram:
	dz_sys_unlinkat(seg->dir_fd, "dram.new", 0);
	return ret;
}

/* mkdir -p; an existing directory is fine. */
static int seg_mkdirs(const char *path)
{
	char buf[DZ_PATH_MAX];
	size_t n = strlen(path);

	if (n >= sizeof(buf))
		return -ENAMETOOLONG;
	memcpy(buf, path, n + 1);
	for (size_t i = 1; i <= n; i++) {
		if (buf[i] != '/' && buf[i] != '\0')
			continue;
		buf[i] = '\0';
		int ret = dz_sys_mkdir(buf, 0700);

		if (ret < 0 && ret != -EEXIST && i == n)
			return ret;
		buf[i] = path[i];
	}
	return 0;
}

static int seg_dir_name(char *dir, size_t room, const char *base)
{
	int n = snprintf(dir, room, "%s/deltazero.%u.%d", base, (unsigned int)geteuid(),
			 DZ_LAYOUT_MAJOR);

	return n < 0 || (size_t)n >= room ? -ENAMETOOLONG : 0;
}

/* The cache's directory below `base`, ours alone (0700, our uid); -ENOENT. */
static int seg_open_dir(struct dz_seg *seg, const char *base)
{
	struct stat st;
	int ret = seg_dir_name(seg->dir, sizeof(seg->dir), base);

	if (ret == 0)
		ret = dz_sys_open(seg->dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
	if (ret < 0)
		return ret;
	seg->dir_fd = seg_high_fd(ret);
	ret = dz_sys_fstat(seg->dir_fd, &st);
	if (ret == 0 && (st.st_uid != geteuid() || (st.st_mode & 077)))
		ret = -EPERM;
	return ret;
}

/* The same, made when it is not there, and the file of the members' locks in it. */
static int seg_make_dir(struct dz_seg *seg, const char *base)
{
	struct stat st;
	int ret = seg_open_dir(seg, base);

	if (ret == -ENOENT) {
		ret = seg_mkdirs(seg->dir);
		if (ret == 0)
			ret = seg_open_dir(seg, base);
	}
	if (ret == 0)
		ret = seg->lock_fd = seg_open_high(seg->dir_fd, "members", O_RDWR | O_CREAT);
	if (ret >= 0)
		ret = dz_sys_fstat(seg->lock_fd, &st);
	if (ret == 0)
		seg->lock_ino = st.st_ino;
	return ret;
}

static int seg_lock_create(const struct dz_seg *seg)
{
	struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int fd = dz_sys_openat(seg->dir_fd, "create.lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	long ret;

	if (fd < 0)
		return fd;
	do
		ret = dz_sys_3(SYS_fcntl, fd, F_SETLKW, &fl);
	while (ret == -EINTR);
	return fd;
}

/* Room for `wanted` in this directory's file system, leaving an eighth of it free. */
static uint64_t seg_fit(const struct dz_seg *seg, uint64_t wanted)
{
	uint64_t free_bytes = dz_free_bytes(seg->dir);

	return dz_min_u64(wanted, free_bytes - free_bytes / 8);
}

static int seg_create(struct dz_seg *seg, const struct dz_config *cfg, const struct dz_log *log)
{
	struct dz_seg_header h;
	uint64_t wanted = cfg->dram_bytes ? cfg->dram_bytes : dz_default_dram();
	uint64_t budget = seg_fit(seg, wanted);

	if (budget < dz_min_u64(wanted, SEG_MIN_BYTES) ||
	    !seg_geometry(&h, budget, dz_disk_for_slabs(dz_disk_budget(cfg))))
		return -ENOSPC;
	if (budget < wanted && cfg->dram_bytes)
		dz_warn(log,
			"shared memory %s: %llu MiB instead of %llu: the file system has no more "
			"room: enlarge it or set DELTAZERO_SHM_DIR",
			seg->dir, (unsigned long long)(budget / DZ_MIB),
			(unsigned long long)(wanted / DZ_MIB));
	return seg_build(seg, &h);
}

/* Attach, or create and attach, below `base`. */
static int seg_open_at(struct dz_seg *seg, const char *base, const struct dz_config *cfg,
		       const struct dz_log *log)
{
	int ret, lock;

	seg->dir_fd = seg->lock_fd = seg->dram_fd = -1;
	ret = seg_make_dir(seg, base);
	if (ret == 0)
		ret = seg_attach(seg, O_RDWR);
	if (ret != -ENOENT)
		goto out;
	lock = seg_lock_create(seg);
	ret = lock;
	if (lock < 0)
		goto out;
	ret = seg_attach(seg, O_RDWR);
	if (ret == -ENOENT) {
		ret = seg_create(seg, cfg, log);
		if (ret == 0)
			ret = seg_attach(seg, O_RDWR);
		seg->is_new = ret == 0;
	}
	dz_sys_close(lock);
out:
	if (ret < 0)
		seg_close_fds(seg);
	return ret;
}

int dz_seg_open(struct dz_seg *seg, const struct dz_config *cfg, const struct dz_log *log)
{
	int ret;

	memset(seg, 0, sizeof(*seg));
	seg->member = DZ_NONE;
	seg->has_string_copy = dz_has_string_copy();
	seg->log = log;
	ret = seg_open_at(seg, cfg->shm_dir, cfg, log);
	if (ret == 0)
		return 0;
	if (ret == -EPROTO) {
		dz_error(log,
			 "shared memory %s/meta: not of this build's layout (%d.%d) or damaged: "
			 "running without it; `dz purge` removes it",
			 seg->dir, DZ_LAYOUT_MAJOR, DZ_LAYOUT_MINOR);
		return ret;
	}
	/* Mounted read-only on purpose: the caller reads what others put there. */
	if (ret == -EROFS)
		return ret;
	int first = ret;

	ret = seg_open_at(seg, cfg->cache_dir, cfg, log);
	if (ret == 0) {
		if (seg->is_new)
			dz_warn(log,
				"shared memory %s: %s: the DRAM tier is in the cache directory %s "
				"instead: enlarge it or set DELTAZERO_SHM_DIR",
				cfg->shm_dir, dz_strerror(first), cfg->cache_dir);
		return 0;
	}
	dz_error(log,
		 "shared memory %s: %s, and cache directory %s: %s: running without a shared "
		 "cache; set DELTAZERO_SHM_DIR to a writable directory",
		 cfg->shm_dir, dz_strerror(first), cfg->cache_dir, dz_strerror(ret));
	return ret;
}

int dz_seg_open_read_only(struct dz_seg *seg, const struct dz_config *cfg, const struct dz_log *log)
{
	int ret;

	memset(seg, 0, sizeof(*seg));
	seg->member = DZ_NONE;
	seg->log = log;
	seg->dir_fd = seg->lock_fd = seg->dram_fd = -1;
	ret = seg_open_dir(seg, cfg->shm_dir);
	if (ret == 0)
		ret = seg_attach(seg, O_RDONLY);
	/* Nothing is opened below it later on. */
	if (seg->dir_fd >= 0)
		dz_sys_close(seg->dir_fd);
	seg->dir_fd = -1;
	if (ret < 0)
		seg_close_fds(seg);
	return ret;
}

int dz_seg_open_private(struct dz_seg *seg, const struct dz_log *log, uint64_t dram_bytes)
{
	struct dz_seg_header h;
	void *meta, *dram;
	int ret;

	memset(seg, 0, sizeof(*seg));
	seg->dir_fd = seg->lock_fd = seg->dram_fd = -1;
	seg->log = log;
	seg->is_private = true;
	if (!seg_geometry(&h, dram_bytes, 0))
		return -EINVAL;
	ret = dz_sys_mmap(&meta, NULL, h.meta_bytes, PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (ret < 0)
		return ret;
	ret = dz_sys_mmap(&dram, NULL, h.dram_bytes, PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (ret < 0) {
		dz_sys_munmap(meta, h.meta_bytes);
		return ret;
	}
	seg_stamp(&h);
	memcpy(meta, &h, sizeof(h));
	seg->dram = dram;
	seg_copy_counts(seg, &h);
	seg_bind(seg, meta);
	return 0;
}

void dz_seg_close(struct dz_seg *seg)
{
	if (seg->hdr)
		dz_sys_munmap(seg->hdr, seg->meta_bytes);
	if (seg->dram)
		dz_sys_munmap(seg->dram, seg->dram_bytes);
	seg->hdr = NULL;
	seg->dram = NULL;
	seg_close_fds(seg);
}

uint32_t dz_seg_backed(const struct dz_seg *seg)
{
	uint32_t n = atomic_load_explicit(&seg->hdr->dram_backed, memory_order_acquire);

	return n && n < seg->n_dram_slabs ? n : seg->n_dram_slabs;
}

bool dz_seg_has_fd(const struct dz_seg *seg, int fd)
{
	struct stat st;

	return fd >= 0 && dz_sys_fstat(fd, &st) == 0 &&
	       st.st_ino == (fd == seg->dram_fd ? seg->dram_ino : seg->lock_ino);
}

bool dz_seg_grow(const struct dz_seg *seg)
{
	struct dz_seg_header *h = seg->hdr;
	uint32_t from = dz_seg_backed(seg), to;
	uint64_t now = dz_now_ms();

	if (from >= seg->n_dram_slabs ||
	    atomic_load_explicit(&h->dram_stuck_ms, memory_order_relaxed) > now ||
	    !dz_seg_has_fd(seg, seg->dram_fd))
		return false;
	to = (uint32_t)dz_min_u64(from + GROW_SLABS, seg->n_dram_slabs);
	if (dz_sys_fallocate(seg->dram_fd, 0, from * DZ_MIB, (to - from) * DZ_MIB) < 0) {
		atomic_store_explicit(&h->dram_stuck_ms, now + GROW_RETRY_MS, memory_order_relaxed);
		return false;
	}
	/* Two that grow at once have allocated the same; one of them says so. */
	atomic_compare_exchange_strong(&h->dram_backed, &from, to);
	return true;
}

/*
 * The agents of a removed segment end by themselves; told so, they do it at once,
 * and the disk tier's files are free for the next segment.
 */
static void seg_end_agents(int dir_fd)
{
	for (int tries = 0; tries < 300; tries++) {
		int n_alive = 0;

		for (int i = 0; i < 8; i++) {
			char name[16];
			int fd;

			snprintf(name, sizeof(name), "agent.%d", i);
			fd = dz_sys_openat(dir_fd, name, O_WRONLY | O_NONBLOCK | O_CLOEXEC, 0);
			if (fd < 0)
				continue; /* ENXIO: nobody reads */
			n_alive++;
			if (tries % 50 == 0)
				dz_sys_write_quiet(fd, "q", 1);
			dz_sys_close(fd);
		}
		if (!n_alive)
			return;
		struct timespec ts = { 0, 10000000 };

		dz_sys_2(SYS_nanosleep, &ts, NULL);
	}
}

/* Removes the entries of a directory that begin with `prefix`, and what lies in those. */
static void seg_remove_all(int dir_fd, const char *prefix)
{
	_Alignas(8) char buf[4096];
	long n;

	while ((n = dz_sys_3(SYS_getdents64, dir_fd, buf, sizeof(buf))) > 0) {
		for (long at = 0; at < n;) {
			/* ino:64 off:64 rec_len:16 type:8 name */
			const char *name = buf + at + 19;
			uint16_t rec_len;
			int fd;

			memcpy(&rec_len, buf + at + 16, sizeof(rec_len));
			at += rec_len;
			if (name[0] == '.' || strncmp(name, prefix, strlen(prefix)) != 0 ||
			    dz_sys_unlinkat(dir_fd, name, 0) == 0)
				continue;
			fd = dz_sys_openat(dir_fd, name,
					   O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
			if (fd < 0)
				continue;
			seg_remove_all(fd, "");
			dz_sys_close(fd);
			dz_sys_unlinkat(dir_fd, name, AT_REMOVEDIR);
		}
	}
}

static int seg_purge_at(const char *base)
{
	static const char *const names[] = { "meta", "dram", "meta.new", "dram.new" };
	struct dz_seg seg = { .dir_fd = -1, .lock_fd = -1, .dram_fd = -1 };
	char dir[DZ_PATH_MAX];
	int fd = seg_dir_name(dir, sizeof(dir), base);

	if (fd < 0)
		return fd;
	fd = dz_sys_open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	seg.dir_fd = fd;
	int lock = seg_lock_create(&seg);

	for (size_t i = 0; i < DZ_ARRAY_LEN(names); i++)
		dz_sys_unlinkat(fd, names[i], 0);
	seg_end_agents(fd);
	seg_remove_all(fd, "files."); /* the markers of its open files */
	if (lock >= 0)
		dz_sys_close(lock);
	dz_sys_close(fd);
	return 0;
}

int dz_seg_purge(const struct dz_config *cfg)
{
	int a = seg_purge_at(cfg->shm_dir);
	int b = seg_purge_at(cfg->cache_dir);

	return a < 0 ? a : b;
}
