/* SPDX-License-Identifier: MIT */
/*
 * Reading; and writing, which a cached file refuses as the kernel refuses it for
 * a descriptor that was opened for reading.
 */
#define DZ_IN_rw 1
#include "shim/hooks.h"
#include "shim/opath.h"
#include "shim/real.h"
#include "shim/wild.h"

#include <limits.h>
#include <sys/uio.h>

#define RWF_KNOWN (RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT)

void __chk_fail(void) __attribute__((noreturn));

/* A read into a wild pointer: an error only where there is something to copy. */
static DZ_NOINLINE ssize_t read_wild(dz_fh fh, const void *buf, size_t len, int64_t off)
{
	char byte;
	ssize_t r;

	if (dz_is_kernels(buf))
		return -EFAULT;
	r = off < 0 ? off : dz_engine_pread(dz_engine, fh, &byte, len > 0, (uint64_t)off);
	return r > 0 ? -EFAULT : r;
}

DZ_DOOR(ssize_t, read, int fd, void *buf, size_t len)
{
	dz_fh fh = dz_fd_get(fd);

	if (!fh)
		return dz_ret(dz_block_3(SYS_read, fd, buf, len));
	dz_cancel_point();
	if (dz_is_opath(fh))
		return dz_done(DZ_CALL_read, -EBADF, fd, buf, len);
	if (dz_is_wild(buf))
		return dz_done(DZ_CALL_read,
			       read_wild(fh, buf, len, dz_engine_seek(dz_engine, fh, 0, SEEK_CUR)),
			       fd, buf, len);
	return dz_done(DZ_CALL_read, dz_engine_read(dz_engine, fh, buf, len), fd, buf, len);
}

DZ_DOOR(ssize_t, pread, int fd, void *buf, size_t len, off_t off)
{
	dz_fh fh = dz_fd_get(fd);

	if (!fh)
		return dz_ret(dz_block_4(SYS_pread64, fd, buf, len, off));
	dz_cancel_point();
	if (off < 0)
		return dz_done(DZ_CALL_pread, -EINVAL, fd, buf, len, off);
	if (dz_is_opath(fh))
		return dz_done(DZ_CALL_pread, -EBADF, fd, buf, len, off);
	if (dz_is_wild(buf))
		return dz_done(DZ_CALL_pread, read_wild(fh, buf, len, off), fd, buf, len, off);
	return dz_done(DZ_CALL_pread, dz_engine_pread(dz_engine, fh, buf, len, (uint64_t)off), fd,
		       buf, len, off);
}

DZ_DOOR(ssize_t, __read_chk, int fd, void *buf, size_t len, size_t room)
{
	if (len > room)
		__chk_fail();
	return door_read(fd, buf, len);
}

DZ_DOOR(ssize_t, __pread_chk, int fd, void *buf, size_t len, off_t off, size_t room)
{
	if (len > room)
		__chk_fail();
	return door_pread(fd, buf, len, off);
}

static int check_vector(const struct iovec *iov, int n)
{
	size_t sum = 0;
	int i;

	if (n < 0 || n > IOV_MAX)
		return -EINVAL;
	if (n > 0 && dz_is_wild(iov))
		return -EFAULT;
	for (i = 0; i < n; i++)
		if (__builtin_add_overflow(sum, iov[i].iov_len, &sum) || sum > SSIZE_MAX)
			return -EINVAL;
	for (i = 0; i < n; i++)
		if (dz_is_kernels(iov[i].iov_base))
			return -EFAULT;
	return 0;
}

/* How many of them can be filled: what stands before a wild one is. */
static int good_part(const struct iovec *iov, int n)
{
	int i;

	for (i = 0; i < n && !(iov[i].iov_len > 0 && dz_is_wild(iov[i].iov_base)); i++)
		;
	return i;
}

/* off -1: from the open file's own position, which moves. */
static ssize_t read_vector(dz_fh fh, const struct iovec *iov, int n, off_t off)
{
	int r = dz_is_opath(fh) ? -EBADF : check_vector(iov, n);

	if (r < 0)
		return r;
	dz_cancel_point();
	if (off < -1)
		return -EINVAL;
	r = good_part(iov, n);
	if (r < n && r == 0)
		return read_wild(fh, iov->iov_base, iov->iov_len,
				 off == -1 ? dz_engine_seek(dz_engine, fh, 0, SEEK_CUR) : off);
	if (off == -1)
		return dz_engine_readv(dz_engine, fh, iov, r);
	return dz_engine_preadv(dz_engine, fh, iov, r, (uint64_t)off);
}

/*
 * The kernel takes a vector's offset in two words, of which 64 bits leave the upper
 * one unused: the 0 behind `off` below.
 */

/* RWF_NOWAIT: -EAGAIN unless what the vector asks for is in DRAM. */
static int check_flags(dz_fh fh, const struct iovec *iov, int n, off_t off, int flags)
{
	uint64_t sum = 0;
	int64_t at = off;
	int i;

	if (flags & ~RWF_KNOWN)
		return -EOPNOTSUPP;
	if (!(flags & RWF_NOWAIT) || check_vector(iov, n) < 0)
		return 0;
	for (i = 0; i < n; i++)
		sum += iov[i].iov_len;
	if (off == -1)
		at = dz_engine_seek(dz_engine, fh, 0, SEEK_CUR);
	return at < 0 ? 0 : dz_engine_is_cached(dz_engine, fh, (uint64_t)at, sum);
}

DZ_DOOR(ssize_t, readv, int fd, const struct iovec *iov, int n)
{
	dz_fh fh = dz_fd_get(fd);

	if (!fh)
		return dz_ret(dz_block_3(SYS_readv, fd, iov, n));
	return dz_done(DZ_CALL_readv, read_vector(fh, iov, n, -1), fd, iov, n);
}

DZ_DOOR(ssize_t, preadv, int fd, const struct iovec *iov, int n, off_t off)
{
	dz_fh fh = dz_fd_get(fd);

	if (!fh)
		return dz_ret(dz_block_5(SYS_preadv, fd, iov, n, off, 0));
	return dz_done(DZ_CALL_preadv, off < 0 ? -EINVAL : read_vector(fh, iov, n, off), fd, iov, n,
		       off);
}

DZ_DOOR(ssize_t, preadv2, int fd, const struct iovec *iov, int n, off_t off, int flags)
{
	dz_fh fh = dz_fd_get(fd);
	int r;

	if (!fh)
		return dz_ret(dz_block_6(SYS_preadv2, fd, iov, n, off, 0, flags));
	r = check_flags(fh, iov, n, off, flags);
	return dz_done(DZ_CALL_preadv2, r < 0 ? r : read_vector(fh, iov, n, off), fd, iov, n, off,
		       flags);
}

/* --- writing --- */

DZ_DOOR(ssize_t, write, int fd, const void *buf, size_t len)
{
	if (!dz_fd_get(fd))
		return dz_ret(dz_block_3(SYS_write, fd, buf, len));
	return dz_done(DZ_CALL_write, -EBADF, fd, buf, len);
}

DZ_DOOR(ssize_t, pwrite, int fd, const void *buf, size_t len, off_t off)
{
	if (!dz_fd_get(fd))
		return dz_ret(dz_block_4(SYS_pwrite64, fd, buf, len, off));
	return dz_done(DZ_CALL_pwrite, -EBADF, fd, buf, len, off);
}

DZ_DOOR(ssize_t, writev, int fd, const struct iovec *iov, int n)
{
	if (!dz_fd_get(fd))
		return dz_ret(dz_block_3(SYS_writev, fd, iov, n));
	return dz_done(DZ_CALL_writev, -EBADF, fd, iov, n);
}

DZ_DOOR(ssize_t, pwritev, int fd, const struct iovec *iov, int n, off_t off)
{
	if (!dz_fd_get(fd))
		return dz_ret(dz_block_5(SYS_pwritev, fd, iov, n, off, 0));
	return dz_done(DZ_CALL_pwritev, -EBADF, fd, iov, n, off);
}

DZ_DOOR(ssize_t, pwritev2, int fd, const struct iovec *iov, int n, off_t off, int flags)
{
	if (!dz_fd_get(fd))
		return dz_ret(dz_block_6(SYS_pwritev2, fd, iov, n, off, 0, flags));
	return dz_done(DZ_CALL_pwritev2, -EBADF, fd, iov, n, off, flags);
}

DZ_DOOR(int, ftruncate, int fd, off_t len)
{
	if (!dz_fd_get(fd))
		return (int)dz_ret(dz_sys_2(SYS_ftruncate, fd, len));
	return (int)dz_done(DZ_CALL_ftruncate, -EINVAL, fd, len);
}

DZ_DOOR(int, fallocate, int fd, int mode, off_t off, off_t len)
{
	if (!dz_fd_get(fd))
		return (int)dz_ret(dz_sys_4(SYS_fallocate, fd, mode, off, len));
	return (int)dz_done(DZ_CALL_fallocate, -EBADF, fd, mode, off, len);
}

/* Returns the error instead of setting errno; libc's own has a fallback that writes. */
DZ_DOOR(int, posix_fallocate, int fd, off_t off, off_t len)
{
	int (*real)(int, off_t, off_t) = DZ_REAL(posix_fallocate);
	int saved = errno;

	if (!dz_fd_get(fd))
		return real ? real(fd, off, len) : EOPNOTSUPP;
	dz_done(DZ_CALL_posix_fallocate, -EBADF, fd, off, len);
	errno = saved;
	return EBADF;
}

/* --- syncing: nothing of ours is dirty --- */

DZ_DOOR(int, fsync, int fd)
{
	if (!dz_fd_get(fd))
		return (int)dz_ret(dz_block_3(SYS_fsync, fd, 0, 0));
	return (int)dz_done(DZ_CALL_fsync, 0, fd);
}

DZ_DOOR(int, fdatasync, int fd)
{
	if (!dz_fd_get(fd))
		return (int)dz_ret(dz_block_3(SYS_fdatasync, fd, 0, 0));
	return (int)dz_done(DZ_CALL_fdatasync, 0, fd);
}

DZ_DOOR(int, syncfs, int fd)
{
	if (!dz_fd_get(fd))
		return (int)dz_ret(dz_sys_1(SYS_syncfs, fd));
	return (int)dz_done(DZ_CALL_syncfs, 0, fd);
}

DZ_DOOR(int, sync_file_range, int fd, off_t off, off_t len, unsigned int flags)
{
	if (!dz_fd_get(fd))
		return (int)dz_ret(dz_sys_4(SYS_sync_file_range, fd, off, len, flags));
	return (int)dz_done(DZ_CALL_sync_file_range, 0, fd, off, len, flags);
}

#include "shim/aliases.h"
