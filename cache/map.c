// SPDX-License-Identifier: MIT
/*
 * The file as the kernel wants it: a real descriptor, or a mapping.
 *
 * The happy path: an anonymous file (memfd; above a size, an unlinked one of the
 * cache directory) is filled with the blob's bytes and sealed; the mapping is the
 * kernel's own, so every fault, every kernel access and every fork behaves as
 * with a local file.
 *
 * When filling fails half way, there is no descriptor and no mapping, but the
 * error: nothing ever shows zeros for bytes that did not come.
 */
#include "cache/engine_priv.h"
#include "cache/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define MEMFD_MAX (256 * DZ_MIB)

void dz_map_forget(struct dz_engine *e)
{
	(void)e; /* mappings are the kernel's: a child keeps its own */
}

static int map_new_file(const struct dz_engine *e, uint64_t size)
{
	long fd = -ENOSYS;

	if (size <= MEMFD_MAX)
		fd = dz_sys_2(SYS_memfd_create, "deltazero", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		fd = dz_sys_open(e->cfg.cache_dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0)
		fd = dz_sys_open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	return (int)fd;
}

static int map_fill(struct dz_engine *e, struct dz_ofile *f, int fd)
{
	void *to;
	uint64_t done = 0;
	int ret = dz_sys_fallocate(fd, 0, 0, f->size);

	if (ret < 0)
		return ret;
	ret = dz_sys_mmap(&to, NULL, f->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (ret < 0)
		return ret;
	while (done < f->size) {
		ssize_t got = dz_read_at(e, f, (uint8_t *)to + done, f->size - done, done);

		if (got <= 0) {
			ret = got < 0 ? (int)got : -EIO;
			break;
		}
		done += (uint64_t)got;
	}
	dz_sys_munmap(to, f->size);
	return ret;
}

/* Read-only from here on, for whoever gets it. */
static int map_reopen(int fd)
{
	char path[40];
	int ro;

	dz_sys_3(SYS_fcntl, fd, F_ADD_SEALS,
		 F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ro = dz_sys_open(path, O_RDONLY | O_CLOEXEC, 0);
	dz_sys_close(fd);
	return ro;
}

static int map_real_fd(struct dz_engine *e, struct dz_ofile *f)
{
	int ret, fd = map_new_file(e, f->size);

	if (fd < 0)
		return fd;
	ret = f->size ? map_fill(e, f, fd) : 0;
	if (ret < 0) {
		dz_sys_close(fd);
		return ret;
	}
	dz_sys_2(SYS_fchmod, fd, 0555);
	return map_reopen(fd);
}

int dz_engine_real_fd(struct dz_engine *e, dz_fh fh, bool cloexec)
{
	struct dz_ofile *f = dz_file_get(&e->seg, fh);
	int fd;

	if (!f)
		return -EBADF;
	if (S_ISDIR(f->mode))
		return -EISDIR;
	fd = map_real_fd(e, f);
	if (fd >= 0 && !cloexec)
		dz_sys_3(SYS_fcntl, fd, F_SETFD, 0);
	return fd;
}

static int map_check(const struct dz_ofile *f, size_t len, int prot, int flags, uint64_t off)
{
	int type = flags & MAP_TYPE;

	if (S_ISDIR(f->mode))
		return -ENODEV;
	if (!len || off % DZ_PAGE)
		return -EINVAL;
	if (type != MAP_PRIVATE && type != MAP_SHARED && type != MAP_SHARED_VALIDATE)
		return -EINVAL;
	if (type == MAP_SHARED_VALIDATE && (flags & MAP_SYNC))
		return -EOPNOTSUPP;
	return type != MAP_PRIVATE && (prot & PROT_WRITE) ? -EACCES : 0;
}

int dz_engine_map(struct dz_engine *e, dz_fh fh, void *addr, size_t len, int prot, int flags,
		  uint64_t off, void **out)
{
	struct dz_ofile *f = dz_file_get(&e->seg, fh);
	int ret, fd;

	if (!f)
		return -EBADF;
	ret = map_check(f, len, prot, flags, off);
	if (ret < 0)
		return ret;
	fd = map_real_fd(e, f);
	if (fd < 0)
		return fd;
	ret = dz_sys_mmap(out, addr, len, prot, flags, fd, off);
	dz_sys_close(fd);
	return ret;
}

void dz_engine_unmapped(struct dz_engine *e, void *addr, size_t len)
{
	(void)e;
	(void)addr;
	(void)len;
}
