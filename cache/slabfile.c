/* SPDX-License-Identifier: MIT */
/*
 * The files of the disk tier, and whose they are.
 *
 * `disk.lock` holds the id of the segment that the slab files belong to, and
 * flock(2) says who is using them:
 *
 *   id is ours              take the shared lock, look again: joined
 *   id is another's         exclusive lock: nobody of that segment lives.  Make
 *                           the files the right size, wait out the writes of the
 *                           dead (barrier), replay, write our id, share the lock
 *   exclusive refused       somebody is at it: wait; or the other segment lives:
 *                           there is no disk tier for us
 *
 * Killed on the way, the id is still another's, and the next one starts over.
 * The segment remembers the inode of that lock, so that a process that sees
 * another directory under the same path (a container) never takes its files for
 * ours.
 */
#include "cache/disk_priv.h"

#include "cache/fd.h"
#include "cache/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statfs.h>

/* Longest replay that we wait for; and how long another segment may keep us. */
#define REPLAY_WAIT_MS 5000
#define BUSY_WAIT_MS   40
#define DISK_MAX       (1024 * DZ_GIB)

static int file_path(const struct dz_disk *disk, const char *name, uint32_t n, char *path,
		     size_t size)
{
	int len;

	if (n == DZ_NONE)
		len = snprintf(path, size, "%s/%s", disk->dir, name);
	else
		len = snprintf(path, size, "%s/%s.%u", disk->dir, name, n);
	return len < 0 || (size_t)len >= size ? -ENAMETOOLONG : 0;
}

static int file_open(const struct dz_disk *disk, const char *name, uint32_t n, int flags)
{
	char path[DZ_PATH_MAX + 32];
	int ret = file_path(disk, name, n, path, sizeof(path));

	return ret < 0 ? ret : dz_sys_open(path, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
}

static uint64_t file_id(const struct stat *st)
{
	const uint64_t facts[] = { (uint64_t)st->st_dev, (uint64_t)st->st_ino };

	return dz_hash64(facts, sizeof(facts), DZ_SEG_MAGIC) | 1;
}

/* Its slabs and the spare page; 0 when the tier has no slab for this file. */
static uint64_t file_full_bytes(const struct dz_disk *disk, uint32_t file)
{
	uint64_t bytes = dz_disk_file_bytes(disk->seg->n_disk_slabs, file);

	return bytes ? bytes + DZ_PAGE : 0;
}

/* ---- descriptors ---- */

bool dz_disk_fd_is_ours(const struct dz_disk *disk, uint32_t file, int fd)
{
	struct stat st;

	return dz_sys_fstat(fd, &st) == 0 &&
	       file_id(&st) == atomic_load_explicit(&disk->ids[file], memory_order_relaxed);
}

/* Closed by the program, it is released, and the files may be another segment's by now. */
static bool lock_is_held(const struct dz_disk *disk)
{
	struct stat st;

	return dz_sys_fstat(disk->lock_fd, &st) == 0 &&
	       file_id(&st) ==
		       atomic_load_explicit(&disk->seg->hdr->disk_lock, memory_order_relaxed);
}

int dz_disk_fd(const struct dz_disk *disk, uint32_t file)
{
	/* acquire: pairs with the CAS below, for the file's id */
	int none = -1, fd = atomic_load_explicit(&disk->fds[file], memory_order_acquire);
	struct stat st;
	int ret;

	if (fd >= 0)
		return fd;
	if (!lock_is_held(disk))
		return -EBADF;
	fd = file_open(disk, "slab", file, O_RDWR | O_DIRECT);
	if (fd == -EINVAL) /* a file system without it */
		fd = file_open(disk, "slab", file, O_RDWR);
	fd = dz_fd_raise(fd);
	if (fd < 0)
		return fd;
	ret = dz_sys_fstat(fd, &st);
	if (ret == 0 && (uint64_t)st.st_size < file_full_bytes(disk, file))
		ret = -EIO;
	if (ret < 0) {
		dz_sys_close(fd);
		return ret;
	}
	/* Every opener stores the same: the file is not replaced while we share the lock. */
	atomic_store_explicit(&disk->ids[file], file_id(&st), memory_order_relaxed);
	dz_seg_note_fd(disk->seg, fd);
	if (atomic_compare_exchange_strong(&disk->fds[file], &none, fd))
		return fd;
	dz_sys_close(fd);
	return none;
}

/*
 * The kernel lets the device's transfers to an inode run out before it punches a
 * hole in it, even where there is one already.
 */
static int barrier_fd(const struct dz_disk *disk, uint32_t file, int fd)
{
	int ret;

	do
		ret = dz_sys_fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				       dz_disk_file_bytes(disk->seg->n_disk_slabs, file), DZ_PAGE);
	while (ret == -EINTR);
	return ret;
}

int dz_disk_barrier_file(const struct dz_disk *disk, uint32_t file)
{
	int fd = dz_disk_fd(disk, file);

	if (fd < 0)
		return fd;
	return dz_disk_fd_is_ours(disk, file, fd) ? barrier_fd(disk, file, fd) : -EBADF;
}

/* ---- the directory and its lock ---- */

static int dir_make(char *path)
{
	int ret = 0;

	for (char *p = path + 1;; p++) {
		char c = *p;

		if (c != '/' && c != '\0')
			continue;
		*p = '\0';
		ret = dz_sys_mkdir(path, 0700);
		*p = c;
		if (c == '\0')
			break;
	}
	return ret == -EEXIST ? 0 : ret;
}

/* Ours, and nobody else's to write. */
static int dir_check(const char *path)
{
	struct stat st;
	int ret = (int)dz_sys_4(SYS_newfstatat, AT_FDCWD, path, &st, AT_SYMLINK_NOFOLLOW);

	if (ret < 0)
		return ret;
	if (!S_ISDIR(st.st_mode))
		return -ENOTDIR;
	if (st.st_uid != (uid_t)dz_sys_0(SYS_geteuid) || (st.st_mode & 077))
		return -EPERM;
	return 0;
}

/* Opens the lock and ties the segment to it. */
static int lock_open(struct dz_disk *disk)
{
	uint64_t id, bound = 0;
	struct stat st;
	int ret = dir_check(disk->dir);

	if (ret == -ENOENT) {
		ret = dir_make(disk->dir);
		if (ret == 0)
			ret = dir_check(disk->dir);
	}
	if (ret < 0)
		return ret;
	/* To make what is there already waits for a file system that hangs or is frozen. */
	disk->lock_fd = file_open(disk, "disk.lock", DZ_NONE, O_RDWR);
	if (disk->lock_fd == -ENOENT)
		disk->lock_fd = file_open(disk, "disk.lock", DZ_NONE, O_RDWR | O_CREAT);
	disk->lock_fd = dz_fd_raise(disk->lock_fd);
	if (disk->lock_fd < 0)
		return disk->lock_fd;
	ret = dz_sys_fstat(disk->lock_fd, &st);
	if (ret < 0)
		return ret;
	id = file_id(&st);
	if (!atomic_compare_exchange_strong(&disk->seg->hdr->disk_lock, &bound, id) && bound != id)
		return -EXDEV;
	return 0;
}

static int lock_set(const struct dz_disk *disk, int op)
{
	long ret;

	do
		ret = dz_sys_2(SYS_flock, disk->lock_fd, op);
	while (ret == -EINTR);
	return (int)ret;
}

static bool lock_id_is_ours(const struct dz_disk *disk)
{
	uint64_t id = 0;

	return dz_sys_pread(disk->lock_fd, &id, sizeof(id), 0) == (ssize_t)sizeof(id) &&
	       id == disk->seg->hdr->id;
}

/* Nobody is claiming the files: whoever has them, uses them. */
static bool lock_is_settled(const struct dz_disk *disk)
{
	bool is_settled;

	if (lock_set(disk, LOCK_SH | LOCK_NB) < 0)
		return false;
	is_settled = !lock_id_is_ours(disk);
	lock_set(disk, LOCK_UN);
	return is_settled;
}

/* Shared, and the files still ours: the change of a lock from one kind to the other is not atomic.
 */
static int lock_share(const struct dz_disk *disk)
{
	int ret = lock_set(disk, LOCK_SH | LOCK_NB);

	if (ret == 0 && !lock_id_is_ours(disk))
		ret = -EBUSY;
	return ret;
}

/* 0: shared and ours; 1: exclusive, to be claimed; -EBUSY; -errno. */
static int lock_take(const struct dz_disk *disk)
{
	uint64_t begin_ms = dz_now_ms();

	for (;;) {
		const struct timespec ms = { .tv_nsec = 1000000 };
		uint64_t waited_ms = dz_now_ms() - begin_ms;
		int ret;

		if (lock_id_is_ours(disk)) {
			if (lock_share(disk) == 0)
				return 0;
		} else {
			ret = lock_set(disk, LOCK_EX | LOCK_NB);
			if (ret == 0 && !lock_id_is_ours(disk))
				return 1;
			if (ret < 0 && ret != -EWOULDBLOCK)
				return ret;
		}
		if (waited_ms > REPLAY_WAIT_MS ||
		    (waited_ms > BUSY_WAIT_MS && lock_is_settled(disk)))
			return -EBUSY;
		dz_sys_2(SYS_nanosleep, &ms, NULL);
	}
}

/* ---- sizes ---- */

/* What the file system must keep for others. */
static uint64_t fs_reserve(const struct statfs *fs)
{
	return dz_min_u64(DZ_GIB, (uint64_t)fs->f_blocks * (uint64_t)fs->f_bsize / 20);
}

/* Bytes that the slab files occupy now. */
static uint64_t files_occupy(const struct dz_disk *disk)
{
	char path[DZ_PATH_MAX + 32];
	uint64_t sum = 0;

	for (uint32_t i = 0; i < DZ_DISK_FILES; i++) {
		struct stat st;

		if (file_path(disk, "slab", i, path, sizeof(path)) == 0 &&
		    dz_sys_stat(path, &st) == 0)
			sum += (uint64_t)st.st_blocks * 512;
	}
	return sum;
}

/* Slabs of the tier that the file system has room for. */
static uint32_t slabs_that_fit(const struct dz_disk *disk)
{
	struct statfs fs;
	uint64_t room;

	/* some tell no size (ramfs) */
	if (dz_sys_2(SYS_statfs, disk->dir, &fs) < 0 || fs.f_blocks == 0)
		return disk->seg->n_disk_slabs;
	room = (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize + files_occupy(disk);
	room -= dz_min_u64(room, fs_reserve(&fs) + DZ_DISK_FILES * DZ_PAGE);
	return (uint32_t)dz_min_u64(disk->seg->n_disk_slabs, room / DZ_MIB);
}

/* The segment's private count follows what the claimer found. */
static void seg_limit_slabs(struct dz_seg *seg, uint32_t n)
{
	if (n >= seg->n_disk_slabs)
		return;
	seg->n_disk_slabs = n;
	seg->disk_bytes = n * DZ_MIB;
}

static int file_set_size(int fd, uint64_t old, uint64_t full, uint64_t occupied)
{
	int ret = 0;

	if (old > full)
		ret = dz_sys_ftruncate(fd, full);
	if (ret == 0 && (old < full || occupied < full - DZ_PAGE))
		ret = dz_sys_fallocate(fd, 0, 0, full);
	if (ret == -EOPNOTSUPP) /* then a full disk shows at the first write */
		ret = dz_sys_ftruncate(fd, full);
	return ret;
}

/* One slab file at its full size, no transfer of a dead process under way. */
static int file_prepare(const struct dz_disk *disk, uint32_t file, uint64_t *old_bytes)
{
	uint64_t full = file_full_bytes(disk, file);
	struct stat st;
	int ret, fd = file_open(disk, "slab", file, O_RDWR | O_CREAT);

	if (fd < 0)
		return fd;
	ret = dz_sys_fstat(fd, &st);
	if (ret < 0)
		goto out;
	if (!S_ISREG(st.st_mode)) {
		ret = -EINVAL;
		goto out;
	}
	*old_bytes = (uint64_t)st.st_size;
	ret = file_set_size(fd, *old_bytes, full, (uint64_t)st.st_blocks * 512);
	if (ret == 0)
		barrier_fd(disk, file, fd);
	else if (*old_bytes < full)
		dz_sys_ftruncate(fd, *old_bytes);
out:
	dz_sys_close(fd);
	return ret;
}

static void file_remove(const struct dz_disk *disk, uint32_t file)
{
	char path[DZ_PATH_MAX + 32];

	if (file_path(disk, "slab", file, path, sizeof(path)) == 0)
		dz_sys_unlinkat(AT_FDCWD, path, 0);
}

/* All files of the tier; what an earlier, larger tier left goes. */
static int files_prepare(struct dz_disk *disk, uint64_t old_bytes[DZ_DISK_FILES])
{
	struct dz_seg *seg = disk->seg;
	uint32_t fit = slabs_that_fit(disk);

	if (fit == 0)
		return -ENOSPC;
	if (fit < seg->n_disk_slabs)
		dz_warn(disk->log,
			"disk tier %s: %u MiB instead of %u: the file system has no more room: "
			"free some or set DELTAZERO_DISK_SIZE",
			disk->dir, fit, seg->n_disk_slabs);
	seg_limit_slabs(seg, fit);
	for (uint32_t i = 0; i < DZ_DISK_FILES; i++) {
		int ret;

		old_bytes[i] = 0;
		if (file_full_bytes(disk, i) == 0) {
			file_remove(disk, i);
			continue;
		}
		ret = file_prepare(disk, i, &old_bytes[i]);
		if (ret == 0)
			continue;
		/* Give back what this attempt made. */
		for (uint32_t k = 0; k <= i; k++) {
			if (old_bytes[k] == 0)
				file_remove(disk, k);
		}
		return ret;
	}
	return 0;
}

int dz_disk_claim(struct dz_disk *disk, uint64_t old_bytes[DZ_DISK_FILES])
{
	struct dz_seg *seg = disk->seg;
	int ret = lock_open(disk);

	if (ret == 0)
		ret = lock_take(disk);
	if (ret < 0)
		return ret;
	if (ret == 0) {
		/*
		 * acquire: pairs with the store in dz_disk_claimed(); DZ_NONE, which is
		 * while it is replayed, limits nothing
		 */
		seg_limit_slabs(seg,
				atomic_load_explicit(&seg->hdr->disk_slabs, memory_order_acquire));
		return seg->n_disk_slabs ? 0 : -ENOSPC;
	}
	ret = files_prepare(disk, old_bytes);
	return ret < 0 ? ret : 1;
}

int dz_disk_claimed(struct dz_disk *disk)
{
	uint64_t id = disk->seg->hdr->id;
	ssize_t n;

	/* release: pairs with the load in dz_disk_claim(); the write of the id orders it too */
	atomic_store_explicit(&disk->seg->hdr->disk_slabs, disk->seg->n_disk_slabs,
			      memory_order_release);
	n = dz_sys_pwrite(disk->lock_fd, &id, sizeof(id), 0);
	if (n != (ssize_t)sizeof(id))
		return n < 0 ? (int)n : -ENOSPC;
	return lock_share(disk);
}

void dz_disk_switch_off(const struct dz_disk *disk, const char *what, int err, bool is_for_all)
{
	if (is_for_all) {
		if (atomic_exchange(&disk->seg->hdr->disk_off, 1) == 1)
			return;
	} else if (atomic_exchange(disk->is_broken, true)) {
		return;
	}
	dz_warn(disk->log,
		"disk tier %s: %s: %s: switched off, reads go to Blob; DELTAZERO_CACHE_DIR wants "
		"a writable directory with room on a local disk",
		disk->dir, what,
		err == -EXDEV	? "another directory than the other processes see"
		: err == -EBUSY ? "in use by another cache"
				: dz_strerror(err));
}

uint64_t dz_disk_budget(const struct dz_config *cfg)
{
	struct dz_disk disk;
	struct statfs fs;
	char path[DZ_PATH_MAX];
	size_t n = strlen(cfg->cache_dir);

	if (cfg->disk_bytes == DZ_SIZE_NONE)
		return 0;
	if (cfg->disk_bytes)
		return cfg->disk_bytes;
	if (dz_disk_dir(cfg, disk.dir, sizeof(disk.dir)) < 0)
		return 0;
	memcpy(path, cfg->cache_dir, n + 1);
	/* It need not be there yet: the nearest directory above it will do. */
	while (dz_sys_2(SYS_statfs, path, &fs) < 0) {
		while (n > 1 && path[n - 1] != '/')
			n--;
		if (n <= 1)
			return 0;
		path[--n] = '\0';
	}
	return dz_min_u64(((uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize + files_occupy(&disk)) / 4,
			  DISK_MAX);
}
