// SPDX-License-Identifier: MIT
/*
 * The file as an ordinary descriptor, for what only the kernel can do with it.
 *
 * The happy path: an anonymous file (memfd; above a size, an unlinked one of the
 * cache directory) is filled with the blob's bytes, sealed, and opened again for
 * reading only.
 *
 * When filling fails half way there is no descriptor but the error: nothing ever
 * shows zeros for bytes that did not come.
 */
#include "cache/engine_priv.h"
#include "cache/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define MEMFD_MAX (256 * DZ_MIB)

static int real_new_file(const struct dz_engine *e, uint64_t size)
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

static int real_fill(struct dz_engine *e, struct dz_ofile *f, int fd)
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
static int real_reopen(int fd)
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

int dz_real_fd(struct dz_engine *e, struct dz_ofile *f)
{
	int ret, fd = real_new_file(e, f->size);

	if (fd < 0)
		return fd;
	ret = f->size ? real_fill(e, f, fd) : 0;
	if (ret < 0) {
		dz_sys_close(fd);
		return ret;
	}
	dz_sys_2(SYS_fchmod, fd, 0555);
	return real_reopen(fd);
}

int dz_engine_real_fd(struct dz_engine *e, dz_fh fh, bool cloexec)
{
	struct dz_ofile *f = dz_file_get(&e->seg, fh);
	int fd;

	if (!f)
		return -EBADF;
	if (S_ISDIR(f->mode))
		return -EISDIR;
	fd = dz_real_fd(e, f);
	if (fd >= 0 && !cloexec)
		dz_sys_3(SYS_fcntl, fd, F_SETFD, 0);
	return fd;
}
