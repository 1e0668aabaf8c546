/* SPDX-License-Identifier: MIT */
/*
 * stdio: a stream over a mount is libc's own, made by fopencookie, with its
 * descriptor field set to the marker.  So fread, fgets, getline, ungetc, fscanf,
 * fseeko, feof and fileno are libc's, and only opening and closing are ours.
 *
 * Two things a cookie stream cannot do.  It cannot take the place of an existing
 * FILE, as freopen must: that one gets an ordinary descriptor with the file's
 * bytes.  And it has no wide side, where libc would crash: wide.c makes it an
 * ordinary one before.
 *
 * What is read of FILE is _fileno, public since glibc 2.0, and what lies behind it
 * since 2.1: the table of functions, then for such a stream the cookie.
 */
#define DZ_IN_stdio 1
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shim/hooks.h"
#include "shim/real.h"
#include "shim/stdio.h"

#define STREAM_MAGIC 0x6d61657274537a64
/*
 * A seek makes libc read a whole buffer again, and a large fread takes one after the
 * other: 64 KiB costs a random reader 5 us, and a sequential one nothing.
 */
#define STREAM_BUF_BYTES (64 * 1024)

struct stream {
	uint64_t magic;
	int fd;
	bool is_detached; /* another file has taken the place: libc closes */
	char buf[STREAM_BUF_BYTES] __attribute__((aligned(4096)));
};

/* Of every cookie stream; known when there is one of ours. */
static const void *_Atomic cookie_functions;

static struct stream *stream_of(FILE *fp)
{
	void **behind = (void **)(void *)(fp + 1);
	struct stream *s;

	if (fp->_fileno < 0 || !behind[0] || behind[0] != cookie_functions)
		return NULL;
	s = behind[1];
	return s && s->magic == STREAM_MAGIC ? s : NULL;
}

bool dz_stdio_is_ours(FILE *fp)
{
	return stream_of(fp) != NULL;
}

static ssize_t stream_read(void *cookie, char *buf, size_t len)
{
	struct stream *s = cookie;
	dz_fh fh = dz_fd_get(s->fd);

	/* The program may have put another file on the number. */
	if (!fh)
		return dz_ret(dz_sys_read(s->fd, buf, len));
	dz_cancel_point();
	return dz_done(DZ_CALL_read, dz_engine_read(dz_engine, fh, buf, len), s->fd, buf, len);
}

static int stream_seek(void *cookie, off64_t *off, int whence)
{
	struct stream *s = cookie;
	dz_fh fh = dz_fd_get(s->fd);
	long r = fh ? dz_done(DZ_CALL_lseek, dz_engine_seek(dz_engine, fh, *off, whence), s->fd,
			      *off, whence)
		    : dz_ret(dz_sys_3(SYS_lseek, s->fd, *off, whence));

	if (r < 0)
		return -1;
	*off = r;
	return 0;
}

static int stream_close(void *cookie)
{
	struct stream *s = cookie;
	int fd = s->fd;

	if (s->is_detached)
		return 0;
	s->magic = 0;
	dz_sys_munmap(s, sizeof(*s));
	return (int)dz_done(DZ_CALL_close, dz_fd_close(fd), fd);
}

/* A stream that reads `fd` and closes it; the descriptor stays the caller's on error. */
static int stream_over(int fd, FILE **out)
{
	cookie_io_functions_t functions = { stream_read, NULL, stream_seek, stream_close };
	struct stream *s;
	void *at;
	int ret = dz_sys_mmap(&at, NULL, sizeof(*s), PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (ret < 0)
		return ret;
	s = at;
	s->magic = STREAM_MAGIC;
	s->fd = fd;
	*out = fopencookie(s, "r", functions);
	if (!*out) {
		dz_sys_munmap(s, sizeof(*s));
		return -ENOMEM;
	}
	(*out)->_fileno = fd;
	cookie_functions = *(void **)(void *)(*out + 1);
	setvbuf(*out, s->buf, _IOFBF, sizeof(s->buf));
	return 0;
}

/* What open(2) takes for fopen's mode, or -EINVAL.  Behind a comma stands the character set. */
static int mode_flags(const char *mode)
{
	int flags = mode[0] == 'r'   ? O_RDONLY
		    : mode[0] == 'w' ? O_WRONLY | O_CREAT | O_TRUNC
		    : mode[0] == 'a' ? O_WRONLY | O_CREAT | O_APPEND
				     : -EINVAL;

	if (flags < 0)
		return flags;
	/* libc looks at six more characters. */
	for (int i = 1; i < 7 && mode[i] != '\0' && mode[i] != ','; i++) {
		if (mode[i] == '+')
			flags = (flags & ~O_ACCMODE) | O_RDWR;
		else if (mode[i] == 'x')
			flags |= O_EXCL;
		else if (mode[i] == 'e')
			flags |= O_CLOEXEC;
	}
	return flags;
}

static int real_fd(const struct dz_path *p)
{
	int fd = dz_fd_open(p, O_RDONLY | O_CLOEXEC), ret;

	if (fd < 0)
		return fd;
	ret = dz_engine_real_fd(dz_engine, dz_fd_get(fd), true);
	dz_fd_close(fd);
	return ret;
}

/* "r,ccs=UTF-16": libc converts for its own streams only, so it gets an ordinary descriptor. */
static int stream_converting(const struct dz_path *p, const char *mode, FILE **out)
{
	FILE *(*libc_fopen)(const char *, const char *) = DZ_REAL(fopen);
	char path[32];
	int fd = real_fd(p), ret = 0;

	if (fd < 0)
		return fd;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	*out = libc_fopen(path, mode);
	if (!*out)
		ret = -errno;
	dz_sys_close(fd);
	return ret;
}

static int stream_open(const struct dz_path *p, const char *mode, FILE **out)
{
	int flags = mode_flags(mode), fd, ret;

	if (flags < 0)
		return flags;
	if (strstr(mode, ",ccs=") && (flags & O_ACCMODE) == O_RDONLY)
		return stream_converting(p, mode, out);
	fd = dz_fd_open(p, flags);
	if (fd < 0)
		return fd;
	/* Open for writing: an ordinary descriptor. */
	if (!dz_fd_get(fd)) {
		FILE *(*libc_fdopen)(int, const char *) = DZ_REAL(fdopen);

		*out = libc_fdopen(fd, mode);
		ret = *out ? 0 : -errno;
	} else {
		ret = stream_over(fd, out);
	}
	if (ret < 0)
		dz_fd_close(fd);
	return ret;
}

/* fdopen(3): the mode may not ask for more than the descriptor can. */
static int stream_fdopen(int fd, dz_fh fh, const char *mode, FILE **out)
{
	int want = mode_flags(mode), have;
	int ret = want < 0 ? want : dz_engine_fd_flags(dz_engine, fh, &have);

	if (ret < 0)
		return ret;
	if ((want & O_ACCMODE) != O_RDONLY && (have & O_ACCMODE) != O_RDWR)
		return -EINVAL;
	return stream_over(fd, out);
}

/*
 * The descriptor of fp is about to become another file's, by libc itself, which
 * duplicates over the number; what it stood for is forgotten before.
 */
static struct stream *stream_detach(FILE *fp, struct _IO_wide_data *wide)
{
	struct stream *s = stream_of(fp);
	int fd = fp->_fileno;

	if (fd >= 0 && dz_fd_get(fd))
		dz_fd_set(fd, 0);
	if (!s)
		return NULL;
	s->is_detached = true;
	/* -1 for a cookie stream; freopen would write through it. */
	fp->_wide_data = wide;
	return s;
}

/* An ordinary descriptor with what freopen(3) is to read: of a path, or of fp itself. */
static int reopen_source(const struct dz_path *p, FILE *fp, const char *mode)
{
	int flags = mode_flags(mode);

	if (flags < 0)
		return flags;
	if ((flags & O_ACCMODE) != O_RDONLY)
		return p ? dz_fd_open(p, flags | O_CLOEXEC) : -EROFS;
	if (p)
		return real_fd(p);
	return dz_engine_real_fd(dz_engine, dz_fd_get(fp->_fileno), true);
}

typedef FILE *freopen_fn(const char *, const char *, FILE *);

/*
 * fp reads `path` (NULL: itself), which is ours when p is not NULL; its FILE stays
 * the same, with the wide side that it is given.
 */
static int stream_reopen(const struct dz_path *p, const char *path, const char *mode, FILE *fp,
			 struct _IO_wide_data *wide)
{
	freopen_fn *libc_freopen = DZ_REAL(freopen);
	bool is_ours = p || !path;
	int fd = is_ours ? reopen_source(p, fp, mode) : -1, ret = 0;
	struct stream *s = stream_detach(fp, wide);
	char proc[32];

	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	/* When there is nothing to read this fails too, and closes fp as it should. */
	if (!libc_freopen(is_ours ? proc : path, mode, fp))
		ret = is_ours && fd < 0 ? fd : -errno;
	if (fd >= 0)
		dz_sys_close(fd);
	if (s)
		dz_sys_munmap(s, sizeof(*s));
	return ret;
}

/*
 * What a FILE holds for its wide side libc makes in fopen only, so it is taken from a
 * second stream, which stays for ever; a kilobyte, once for each managed stream that
 * becomes libc's own.  NULL: no memory.
 */
static struct _IO_wide_data *spare_wide_side(void)
{
	FILE *(*libc_fopen)(const char *, const char *) = DZ_REAL(fopen);
	FILE *donor = libc_fopen("/dev/null", "re");

	if (!donor)
		return NULL;
	dz_sys_close(donor->_fileno);
	donor->_fileno = -1;
	return donor->_wide_data;
}

/*
 * A stream of bytes becomes one that can be read wide: libc's own, over an ordinary
 * descriptor with the same number.
 */
int dz_stdio_widen(FILE *fp)
{
	off64_t at = ftello64(fp);
	struct _IO_wide_data *wide;

	/* Bytes were read: it is a stream of bytes for good. */
	if (at != 0 || fp->_IO_read_end != fp->_IO_read_base)
		return -EINVAL;
	wide = spare_wide_side();
	return wide ? stream_reopen(NULL, NULL, "r", fp, wide) : -ENOMEM;
}

FILE *dz_stdio_wrap(int fd, const char *mode)
{
	FILE *fp;

	return stream_fdopen(fd, dz_fd_get(fd), mode, &fp) < 0 ? NULL : fp;
}

/* In a trace it is an open of a descriptor, as strace would show it. */
static long number_of(int ret, FILE *const *fp)
{
	return ret < 0 ? ret : (*fp)->_fileno;
}

DZ_DOOR(FILE *, fopen, const char *path, const char *mode)
{
	FILE *(*libc_fopen)(const char *, const char *) = DZ_REAL(fopen);
	struct dz_path p;
	FILE *fp = NULL;
	long r = dz_path_at(AT_FDCWD, path, &p);

	if (r == 0) {
		fp = libc_fopen(p.path, mode);
		if (fp || !dz_path_again(-errno, &p))
			return fp;
	}
	r = dz_done(DZ_CALL_fopen, r < 0 ? r : number_of(stream_open(&p, mode, &fp), &fp), AT_FDCWD,
		    path, mode_flags(mode));
	return r < 0 ? NULL : fp;
}

DZ_DOOR(FILE *, fdopen, int fd, const char *mode)
{
	FILE *(*libc_fdopen)(int, const char *) = DZ_REAL(fdopen);
	dz_fh fh = dz_fd_get(fd);
	FILE *fp;

	if (!fh)
		return libc_fdopen(fd, mode);
	return dz_done(DZ_CALL_fdopen, stream_fdopen(fd, fh, mode, &fp), fd, mode) < 0 ? NULL : fp;
}

/* A stream of ours closes through its cookie; libc's own closes the number itself. */
DZ_DOOR(int, fclose, FILE *fp)
{
	int (*libc_fclose)(FILE *) = DZ_REAL(fclose);

	if (fp && dz_fd_get(fp->_fileno) && !stream_of(fp))
		dz_fd_set(fp->_fileno, 0);
	return libc_fclose(fp);
}

/* Asked before: libc's own closes the stream when it fails. */
static bool leads_to_mount(struct dz_path *p)
{
	return dz_is_on() && dz_path_again(dz_sys_3(SYS_faccessat, p->dir_fd, p->path, F_OK), p);
}

DZ_DOOR(FILE *, freopen, const char *path, const char *mode, FILE *fp)
{
	freopen_fn *libc_freopen = DZ_REAL(freopen);
	bool is_managed = dz_fd_get(fp->_fileno) != 0;
	struct dz_path p = { .path = NULL };
	struct _IO_wide_data *wide;
	long r = path ? dz_path_at(AT_FDCWD, path, &p) : 0;

	if (r == 0 && path && leads_to_mount(&p))
		r = 1;
	if (r == 0 && !is_managed)
		return libc_freopen(p.path, mode, fp);
	/* Modes "rm" and "r,ccs=" use it at once. */
	wide = stream_of(fp) ? spare_wide_side() : NULL;
	r = r < 0 ? r : stream_reopen(r > 0 ? &p : NULL, p.path, mode, fp, wide);
	return dz_done(DZ_CALL_freopen, r, path, mode, fp) < 0 ? NULL : fp;
}

#include "shim/aliases.h"
