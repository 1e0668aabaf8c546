/* SPDX-License-Identifier: MIT */
#include "cache/marker.h"

#include "cache/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define NAME_BYTES 80

static void marker_dir(const struct dz_seg *seg, char *name)
{
	snprintf(name, NAME_BYTES, "files.%llx", (unsigned long long)seg->hdr->id);
}

static void marker_name(const struct dz_seg *seg, uint32_t n, char *name)
{
	snprintf(name, NAME_BYTES, "files.%llx/%u", (unsigned long long)seg->hdr->id, n);
}

static void marker_own_name(const struct dz_seg *seg, uint32_t n, uint32_t gen, char *name)
{
	snprintf(name, NAME_BYTES, "files.%llx/%u.%x", (unsigned long long)seg->hdr->id, n, gen);
}

/* 0 too when it is there. */
static int marker_make(struct dz_seg *seg, const char *name)
{
	char dir[NAME_BYTES];
	long ret = dz_sys_4(SYS_mknodat, seg->dir_fd, name, S_IFSOCK | 0600, 0);

	if (ret == -ENOENT) {
		marker_dir(seg, dir);
		ret = dz_sys_3(SYS_mkdirat, seg->dir_fd, dir, 0700);
		if (ret == 0 || ret == -EEXIST)
			ret = dz_sys_4(SYS_mknodat, seg->dir_fd, name, S_IFSOCK | 0600, 0);
	}
	return ret == -EEXIST ? 0 : (int)ret;
}

static int marker_make_and_open(struct dz_seg *seg, const char *name, int flags)
{
	int ret = marker_make(seg, name);

	return ret < 0 ? ret : dz_sys_openat(seg->dir_fd, name, flags, 0);
}

int dz_marker_open(struct dz_seg *seg, uint32_t n, int flags)
{
	char name[NAME_BYTES];
	int fd;

	marker_name(seg, n, name);
	/* What was never made is not looked for first. */
	if (atomic_load_explicit(&seg->files[n].marker_ino, memory_order_relaxed)) {
		fd = dz_sys_openat(seg->dir_fd, name, flags, 0);
		if (fd != -ENOENT)
			return fd;
	}
	return marker_make_and_open(seg, name, flags);
}

int dz_marker_open_own(struct dz_seg *seg, uint32_t n, uint32_t gen, int flags)
{
	char name[NAME_BYTES];

	marker_own_name(seg, n, gen, name);
	/* First: killed behind it, the name is removed all the same. */
	atomic_store_explicit(&seg->files[n].has_own, 1, memory_order_seq_cst);
	return marker_make_and_open(seg, name, flags);
}

void dz_marker_forget_own(struct dz_seg *seg, uint32_t n, uint32_t gen)
{
	char name[NAME_BYTES];

	if (seg->dir_fd < 0 || !atomic_load_explicit(&seg->files[n].has_own, memory_order_seq_cst))
		return;
	marker_own_name(seg, n, gen, name);
	dz_sys_unlinkat(seg->dir_fd, name, 0);
	atomic_store_explicit(&seg->files[n].has_own, 0, memory_order_relaxed);
}

static int digit_of(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : 16;
}

/* A number of at most 32 bits; what follows it, NULL when there is none. */
static const char *number_at(const char *at, int base, uint32_t *out)
{
	const char *start = at;
	uint64_t n = 0;

	for (; digit_of(*at) < base && n <= UINT32_MAX; at++)
		n = n * (uint64_t)base + (uint64_t)digit_of(*at);
	*out = (uint32_t)n;
	return at == start || n > UINT32_MAX ? NULL : at;
}

bool dz_marker_of_path(const struct dz_seg *seg, const char *path, struct dz_marker *m)
{
	const char *name = strrchr(path, '/');
	char dir[NAME_BYTES];
	size_t len;

	marker_dir(seg, dir);
	len = strlen(dir);
	if (!name || (size_t)(name - path) <= len || name[-1 - (ptrdiff_t)len] != '/' ||
	    memcmp(name - len, dir, len) != 0)
		return false;
	name = number_at(name + 1, 10, &m->n);
	m->gen = 0;
	m->is_own = name && *name == '.';
	if (m->is_own)
		name = number_at(name + 1, 16, &m->gen);
	/* "7 (deleted)" is nobody's. */
	return name && *name == '\0' && m->n < seg->n_files;
}

bool dz_marker_of_fd(const struct dz_seg *seg, int fd, struct dz_marker *m)
{
	char link[64], path[DZ_PATH_MAX];
	long len;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	len = dz_sys_4(SYS_readlinkat, AT_FDCWD, link, path, sizeof(path) - 1);
	if (len <= 0)
		return false;
	path[len] = '\0';
	return dz_marker_of_path(seg, path, m);
}
