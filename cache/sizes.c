// SPDX-License-Identifier: MIT
/* How much memory there is, as far as the kernel and the cgroup tell. */
#include "cache/sizes.h"

#include "cache/sys.h"

#include <fcntl.h>
#include <string.h>
#include <sys/statfs.h>

#define DRAM_MAX (64 * DZ_GIB)

static uint64_t sizes_number(const char *path, const char *label)
{
	char buf[4096];
	const char *p = buf;
	uint64_t n = 0;
	ssize_t got;
	int fd = dz_sys_open(path, O_RDONLY | O_CLOEXEC, 0);

	if (fd < 0)
		return 0;
	got = dz_sys_read(fd, buf, sizeof(buf) - 1);
	dz_sys_close(fd);
	if (got <= 0)
		return 0;
	buf[got] = '\0';
	if (label)
		p = strstr(buf, label);
	if (!p)
		return 0;
	p += label ? strlen(label) : 0;
	while (*p == ' ')
		p++;
	for (; *p >= '0' && *p <= '9' && n < UINT64_MAX / 16; p++)
		n = n * 10 + (uint64_t)(*p - '0');
	return n;
}

uint64_t dz_free_bytes(const char *dir)
{
	struct statfs fs;

	if (dz_sys_2(SYS_statfs, dir, &fs) < 0)
		return 0;
	return (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize;
}

/* A quarter of the memory that is free, within the cgroup's limit. */
uint64_t dz_default_dram(void)
{
	uint64_t free_bytes = sizes_number("/proc/meminfo", "MemAvailable:") * DZ_KIB;
	uint64_t v2 = sizes_number("/sys/fs/cgroup/memory.max", NULL);
	uint64_t v1 = sizes_number("/sys/fs/cgroup/memory/memory.limit_in_bytes", NULL);

	if (v2)
		free_bytes = dz_min_u64(free_bytes, v2);
	if (v1)
		free_bytes = dz_min_u64(free_bytes, v1);
	return dz_min_u64(dz_max_u64(free_bytes / 4, 64 * DZ_MIB), DRAM_MAX);
}
