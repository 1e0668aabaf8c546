/* SPDX-License-Identifier: MIT */
#include "shim/hidden.h"

#include "shim/fdtab.h"
#include "shim/guard.h"

#include "cache/sys.h"

#include <fcntl.h>

uint32_t dz_hidden_count;

/* Of the mount with the same number; all 0: there is none. */
static struct {
	dev_t dev;
	ino_t ino;
} hidden[DZ_MOUNTS_MAX];

void dz_hidden_start(void)
{
	struct stat st;
	uint32_t i;

	for (i = 0; i < dz_config.n_mounts; i++) {
		if (dz_sys_stat(dz_config.mounts[i].local, &st) < 0 || !S_ISDIR(st.st_mode))
			continue;
		hidden[i].dev = st.st_dev;
		hidden[i].ino = st.st_ino;
		dz_hidden_count++;
	}
}

bool dz_hidden_has(dev_t dev, ino_t ino)
{
	uint32_t i;

	for (i = 0; dz_hidden_count && i < dz_config.n_mounts; i++)
		if (hidden[i].ino == ino && hidden[i].dev == dev)
			return true;
	return false;
}

/* Still, or has the directory gone and its number been given to another? */
static bool is_still(uint32_t i)
{
	struct stat st;

	return dz_sys_stat(dz_config.mounts[i].local, &st) == 0 && st.st_ino == hidden[i].ino &&
	       st.st_dev == hidden[i].dev;
}

bool dz_hidden_root(dev_t dev, ino_t ino, struct dz_path *p)
{
	uint32_t i;

	if (dz_depth > 0 || !dz_is_on())
		return false;
	for (i = 0; i < dz_config.n_mounts; i++) {
		if (hidden[i].ino != ino || hidden[i].dev != dev || ino == 0 || !is_still(i))
			continue;
		p->mount = i;
		p->len = 0;
		p->name[0] = '\0';
		p->wants_dir = true;
		return dz_attach() == 0;
	}
	return false;
}

bool dz_hidden_fd(int fd, struct dz_path *p)
{
	struct stat st;
	long r;

	if (!dz_hidden_count)
		return false;
	r = fd == AT_FDCWD ? dz_sys_stat(".", &st) : dz_sys_fstat(fd, &st);
	return dz_hidden_stat(r, &st, p);
}

int dz_hidden_replace(int fd, const struct dz_path *p)
{
	long flags = dz_sys_2(SYS_fcntl, fd, F_GETFD);
	int cloexec = flags >= 0 && (flags & FD_CLOEXEC) ? O_CLOEXEC : 0;
	int marker = dz_fd_open(p, O_RDONLY | O_DIRECTORY);
	int r;

	if (marker < 0)
		return marker;
	r = (int)dz_sys_3(SYS_dup3, marker, fd, cloexec);
	if (r >= 0)
		r = dz_fd_set(fd, dz_fd_get(marker));
	dz_fd_close(marker);
	return r;
}
