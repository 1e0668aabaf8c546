/* SPDX-License-Identifier: MIT */
/*
 * readlink(2).  A mount has no symbolic links, but /proc/self/fd shows markers,
 * whose own path says nothing to a program: a link there reads as the path below
 * the mount.
 */
#define DZ_IN_link 1
#include "shim/link.h"
#include "shim/hooks.h"
#include "shim/wild.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

void __chk_fail(void) __attribute__((noreturn));

/* A decimal number at *at, which moves behind it; none is 0. */
static int number_at(const char **at)
{
	int n = 0;

	for (; **at >= '0' && **at <= '9' && n < 1 << 24; (*at)++)
		n = n * 10 + (**at - '0');
	return n;
}

/* What follows "/dev/fd/", "/proc/self/fd/" or "/proc/<own pid>/fd/"; NULL. */
static const char *behind_fd(const char *path)
{
	if (strncmp(path, "/dev/", 5) == 0)
		return strncmp(path + 5, "fd/", 3) == 0 ? path + 8 : NULL;
	if (strncmp(path, "/proc/", 6) != 0)
		return NULL;
	path += 6;
	if (strncmp(path, "self", 4) == 0)
		path += 4;
	else if (*path < '0' || *path > '9' || number_at(&path) != dz_pid)
		return NULL;
	return strncmp(path, "/fd/", 4) == 0 ? path + 4 : NULL;
}

/* "/proc/self/fd/7", "/proc/<own pid>/fd/7", "/dev/fd/7", "/dev/stdin": the number, or -1. */
static int fd_of_link(const char *path)
{
	const char *at = behind_fd(path);
	int fd;

	if (!at)
		return strcmp(path, "/dev/stdin") == 0 ? 0 : -1;
	if (!*at) /* the directory of them all */
		return -1;
	fd = number_at(&at);
	return *at ? -1 : fd;
}

int dz_link_fd(const char *path)
{
	int fd;

	if (!dz_is_on() || !dz_fd_limit || dz_is_wild(path) || path[0] != '/')
		return -1;
	if (path[1] != 'p' && path[1] != 'd')
		return -1;
	fd = fd_of_link(path);
	return fd >= 0 && dz_fd_get(fd) ? fd : -1;
}

/* "/proc/self/cwd" of a virtual working directory. */
static bool is_cwd_link(const char *path)
{
	return dz_is_on() && !dz_is_wild(path) && strcmp(path, "/proc/self/cwd") == 0;
}

static ssize_t cut(const char *path, char *buf, size_t len)
{
	size_t n = strlen(path);

	if ((ssize_t)len <= 0)
		return -EINVAL;
	if (dz_is_wild(buf))
		return -EFAULT;
	n = n < len ? n : len;
	memcpy(buf, path, n);
	return (ssize_t)n;
}

/* A link that stands for something of ours: its bytes, 0 for none, -errno. */
static ssize_t read_own(const char *path, char *buf, size_t len)
{
	char local[DZ_PATH_MAX];
	int fd = dz_link_fd(path);
	int r;

	if (fd >= 0) {
		r = dz_path_of_fh(dz_fd_get(fd), local, sizeof(local));
		return r < 0 ? r : cut(local, buf, len);
	}
	if (is_cwd_link(path) && dz_cwd_env(local, sizeof(local)))
		return cut(strchr(local, '=') + 1, buf, len);
	return 0;
}

/* 0 for "not ours and not served": *kernel holds the kernel's answer. */
static ssize_t read_link(int dir_fd, const char *path, char *buf, size_t len, long *kernel)
{
	struct dz_path p;
	struct dz_attr attr;
	ssize_t r = read_own(path, buf, len);

	if (r != 0)
		return r;
	r = dz_path_at(dir_fd, path, &p);
	if (r == 0) {
		*kernel = dz_sys_4(SYS_readlinkat, p.dir_fd, p.path, buf, len);
		if (!dz_path_again(*kernel, &p))
			return 0;
		r = 1;
	}
	if (r > 0)
		r = dz_path_stat(&p, &attr);
	return r < 0 ? r : -EINVAL;
}

static long answer(enum dz_call call, int dir_fd, const char *path, char *buf, size_t len)
{
	long kernel;
	ssize_t r = read_link(dir_fd, path, buf, len, &kernel);

	return r == 0 ? dz_ret(kernel) : dz_done(call, r, dir_fd, path, buf, len);
}

DZ_DOOR(ssize_t, readlink, const char *path, char *buf, size_t len)
{
	return answer(DZ_CALL_readlink, AT_FDCWD, path, buf, len);
}

DZ_DOOR(ssize_t, readlinkat, int dir_fd, const char *path, char *buf, size_t len)
{
	return answer(DZ_CALL_readlinkat, dir_fd, path, buf, len);
}

DZ_DOOR(ssize_t, __readlink_chk, const char *path, char *buf, size_t len, size_t room)
{
	if (len > room)
		__chk_fail();
	return answer(DZ_CALL___readlink_chk, AT_FDCWD, path, buf, len);
}

DZ_DOOR(ssize_t, __readlinkat_chk, int dir_fd, const char *path, char *buf, size_t len, size_t room)
{
	if (len > room)
		__chk_fail();
	return answer(DZ_CALL___readlinkat_chk, dir_fd, path, buf, len);
}

ssize_t dz_link_read(const char *path, char *buf, size_t len)
{
	long kernel;
	ssize_t r = read_link(AT_FDCWD, path, buf, len, &kernel);

	return r == 0 ? kernel : r;
}

#include "shim/aliases.h"
