/* SPDX-License-Identifier: MIT */
/*
 * Copies that the kernel would make between descriptors: sendfile,
 * copy_file_range, splice out of a managed file are a loop of read and write.
 * Into one is EBADF: it is open for reading.  A short write ends the loop; the
 * source's position moves by what was written, and by nothing else.
 *
 * Also the hints, posix_fadvise and readahead: the same descriptors, no bytes.
 */
#define DZ_IN_zerocopy 1
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shim/hooks.h"
#include "shim/real.h"

#define COPY_MAX	 0x7ffff000
#define COPY_STACK_BYTES (16 * 1024)
#define COPY_MAP_BYTES	 (1024 * 1024)

struct copy {
	dz_fh from;
	uint64_t from_off;
	int to;
	int64_t to_off; /* -1: at its position */
	uint8_t *buf;
	size_t buf_bytes;
	size_t done;
};

static ssize_t copy_write(struct copy *c, const uint8_t *buf, size_t len)
{
	ssize_t n;

	if (c->to_off < 0)
		return dz_block_3(SYS_write, c->to, buf, len);
	n = dz_sys_pwrite(c->to, buf, len, (uint64_t)c->to_off);
	if (n > 0)
		c->to_off += n;
	return n;
}

/* Bytes, or -errno when there are none. */
static ssize_t copy_loop(struct copy *c, size_t len)
{
	ssize_t n = 0;

	while (c->done < len) {
		size_t want = dz_min_u64(len - c->done, c->buf_bytes), put = 0;
		ssize_t got = dz_engine_pread(dz_engine, c->from, c->buf, want, c->from_off);

		for (n = got; got > 0 && put < (size_t)got; put += (size_t)n) {
			n = copy_write(c, c->buf + put, (size_t)got - put);
			if (n <= 0)
				break;
			c->from_off += (uint64_t)n;
			c->done += (size_t)n;
		}
		if (n <= 0 || (size_t)got < want)
			break;
	}
	return c->done ? (ssize_t)c->done : n;
}

/* With a buffer: on the stack for small copies, else a mapping. */
static ssize_t copy_run(struct copy *c, size_t len)
{
	uint8_t small[COPY_STACK_BYTES];
	void *large;
	ssize_t ret;

	c->buf = small;
	c->buf_bytes = sizeof(small);
	if (len <= sizeof(small) ||
	    dz_sys_mmap(&large, NULL, COPY_MAP_BYTES, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) < 0)
		return copy_loop(c, len);
	c->buf = large;
	c->buf_bytes = COPY_MAP_BYTES;
	ret = copy_loop(c, len);
	dz_sys_munmap(large, COPY_MAP_BYTES);
	return ret;
}

/* From *off, or from the position of the description when off is NULL; moves whichever it was. */
static ssize_t copy_from(struct copy *c, off64_t *off, size_t len)
{
	int64_t at = off ? *off : dz_engine_seek(dz_engine, c->from, 0, SEEK_CUR);
	struct dz_attr attr;
	ssize_t ret = dz_engine_fstat(dz_engine, c->from, &attr);

	if (ret < 0)
		return ret;
	if (S_ISDIR(attr.mode) || at < 0)
		return -EINVAL;
	c->from_off = (uint64_t)at;
	ret = copy_run(c, dz_min_u64(len, COPY_MAX));
	if (off)
		*off = (off64_t)c->from_off;
	else if (ret > 0)
		dz_engine_seek(dz_engine, c->from, (int64_t)c->from_off, SEEK_SET);
	return ret;
}

DZ_DOOR(ssize_t, sendfile, int to, int from, off64_t *off, size_t len)
{
	dz_fh fh = dz_fd_get(from);
	struct copy c = { .from = fh, .to = to, .to_off = -1 };

	if (dz_fd_get(to))
		return dz_done(DZ_CALL_sendfile, -EBADF, to, from, off, len);
	if (!fh)
		return dz_ret(dz_sys_4(SYS_sendfile, to, from, off, len));
	return dz_done(DZ_CALL_sendfile, copy_from(&c, off, len), to, from, off, len);
}

/* copy_file_range(2) writes to regular files only, and not to one that appends. */
static ssize_t range_copy(dz_fh from, off64_t *from_off, int to, off64_t *to_off, size_t len)
{
	struct copy c = { .from = from, .to = to, .to_off = to_off ? *to_off : -1 };
	long flags = dz_sys_2(SYS_fcntl, to, F_GETFL);
	struct stat st;
	ssize_t ret = dz_sys_fstat(to, &st);

	if (ret < 0 || flags < 0)
		return -EBADF;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	if (!S_ISREG(st.st_mode) || (to_off && *to_off < 0))
		return -EINVAL;
	if ((flags & O_APPEND) || (flags & O_ACCMODE) == O_RDONLY)
		return -EBADF;
	ret = copy_from(&c, from_off, len);
	if (to_off && ret > 0)
		*to_off = c.to_off;
	return ret;
}

DZ_DOOR(ssize_t, copy_file_range, int from, off64_t *from_off, int to, off64_t *to_off, size_t len,
	unsigned int flags)
{
	dz_fh fh = dz_fd_get(from);

	if (dz_fd_get(to))
		return dz_done(DZ_CALL_copy_file_range, -EBADF, from, from_off, to, to_off, len,
			       flags);
	if (!fh)
		return dz_ret(
			dz_sys_6(SYS_copy_file_range, from, from_off, to, to_off, len, flags));
	return dz_done(DZ_CALL_copy_file_range,
		       flags ? -EINVAL : range_copy(fh, from_off, to, to_off, len), from, from_off,
		       to, to_off, len, flags);
}

/*
 * splice(2) fills a pipe as far as there is room and waits only for the first
 * byte.  A second description of the same pipe, one that does not block, writes
 * like that; without /proc it is one write that poll has promised room for.
 */
static ssize_t splice_to_pipe(dz_fh from, off64_t *off, int pipe_fd, size_t len, bool may_wait)
{
	struct pollfd room = { .fd = pipe_fd, .events = POLLOUT };
	struct copy c = { .from = from, .to_off = -1 };
	char path[32];
	ssize_t ret;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", pipe_fd);
	c.to = dz_sys_open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC, 0);
	if (c.to < 0 && (ret = dz_block_3(SYS_poll, &room, 1, may_wait ? -1 : 0)) <= 0)
		return ret < 0 ? ret : -EAGAIN;
	if (c.to < 0) {
		c.to = pipe_fd;
		return copy_from(&c, off, dz_min_u64(len, PIPE_BUF));
	}
	do
		ret = copy_from(&c, off, len);
	while (ret == -EAGAIN && may_wait && (ret = dz_block_3(SYS_poll, &room, 1, -1)) > 0);
	dz_sys_close(c.to);
	return ret;
}

static bool is_pipe(int fd)
{
	struct stat st;

	return dz_sys_fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode);
}

DZ_DOOR(ssize_t, splice, int from, off64_t *from_off, int to, off64_t *to_off, size_t len,
	unsigned int flags)
{
	dz_fh fh = dz_fd_get(from);

	if (dz_fd_get(to))
		return dz_done(DZ_CALL_splice, -EBADF, from, from_off, to, to_off, len, flags);
	if (!fh)
		return dz_ret(dz_block_6(SYS_splice, from, from_off, to, to_off, len, flags));
	return dz_done(
		DZ_CALL_splice,
		!is_pipe(to) ? -EINVAL
		: to_off     ? -ESPIPE
			     : splice_to_pipe(fh, from_off, to, len, !(flags & SPLICE_F_NONBLOCK)),
		from, from_off, to, to_off, len, flags);
}

/* Between two pipes only: of a file there is nothing to serve. */
DZ_DOOR(ssize_t, tee, int from, int to, size_t len, unsigned int flags)
{
	if (dz_fd_get(from) || dz_fd_get(to))
		return dz_bypass(DZ_CALL_tee, -EINVAL, from, to, len, flags);
	return dz_ret(dz_block_4(SYS_tee, from, to, len, flags));
}

/* posix_fadvise(2) returns its error, and leaves errno alone. */
DZ_DOOR(int, posix_fadvise, int fd, off_t off, off_t len, int advice)
{
	dz_fh fh = dz_fd_get(fd);
	long r;

	if (!fh)
		return (int)-dz_sys_4(SYS_fadvise64, fd, off, len, advice);
	if (off < 0 || len < 0 || advice < POSIX_FADV_NORMAL || advice > POSIX_FADV_NOREUSE)
		return EINVAL;
	dz_done(DZ_CALL_posix_fadvise,
		(r = dz_engine_advise(dz_engine, fh, (uint64_t)off, (uint64_t)len, advice), 0), fd,
		off, len, advice);
	return (int)-r;
}

DZ_DOOR(ssize_t, readahead, int fd, off64_t off, size_t len)
{
	dz_fh fh = dz_fd_get(fd);

	if (!fh)
		return dz_ret(dz_sys_3(SYS_readahead, fd, off, len));
	return dz_done(
		DZ_CALL_readahead,
		off < 0 ? -EINVAL
			: dz_engine_advise(dz_engine, fh, (uint64_t)off, len, POSIX_FADV_WILLNEED),
		fd, off, len);
}

#include "shim/aliases.h"
