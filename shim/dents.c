/* SPDX-License-Identifier: MIT */
/*
 * getdents64(2): what a directory's entries look like as records.
 *
 * A position is an index: 0 is ".", 1 is "..", then the entries of the listing.
 * It lives in the shared description; the listing that it counts in is kept per
 * description from one call to the next.
 *
 * A mount point need not exist as a real directory.  It is then shown in front of
 * what the kernel gives for the directory above it.
 */
#define DZ_IN_dents 1
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shim/dir.h"
#include "shim/hidden.h"
#include "shim/hooks.h"
#include "shim/opath.h"

#define SNAPSHOTS     32
#define SNAPSHOT_BUSY UINT64_MAX

/* ---- snapshots for getdents64 ---- */

/*
 * One slot a description.  A slot is taken by swapping its word for BUSY, never
 * waited for: a fork in between leaks a slot in the child, no more.
 */
static struct dir_snapshot {
	_Atomic uint64_t fh;
	struct dz_listing list;
} snapshots[SNAPSHOTS];

static bool snapshot_take(dz_fh fh, struct dz_listing *out)
{
	for (size_t i = 0; i < SNAPSHOTS; i++) {
		uint64_t expect = fh;

		if (atomic_load(&snapshots[i].fh) != fh ||
		    !atomic_compare_exchange_strong(&snapshots[i].fh, &expect, SNAPSHOT_BUSY))
			continue;
		*out = snapshots[i].list;
		atomic_store(&snapshots[i].fh, 0);
		return true;
	}
	return false;
}

/* Keeps the listing for the next call; the slot of another description may go for it. */
static void snapshot_put(dz_fh fh, struct dz_listing *list)
{
	for (size_t i = 0; i < 2 * SNAPSHOTS; i++) {
		struct dir_snapshot *s = &snapshots[(i + fh) % SNAPSHOTS];
		uint64_t have = atomic_load(&s->fh);

		if (have == SNAPSHOT_BUSY || (have != 0 && i < SNAPSHOTS))
			continue;
		if (!atomic_compare_exchange_strong(&s->fh, &have, SNAPSHOT_BUSY))
			continue;
		if (have != 0)
			dz_engine_unlist(&s->list);
		s->list = *list;
		atomic_store(&s->fh, fh);
		return;
	}
	dz_engine_unlist(list);
}

void dz_dir_forget(dz_fh fh)
{
	struct dz_listing list;

	while (snapshot_take(fh, &list))
		dz_engine_unlist(&list);
}

int dz_dir_list(dz_fh fh, struct dz_listing *out)
{
	char name[DZ_NAME_MAX + 1];
	struct dz_attr attr;
	uint32_t mount;
	int ret;

	ret = dz_engine_fstat(dz_engine, fh, &attr);
	if (ret < 0)
		return ret;
	if (!S_ISDIR(attr.mode))
		return -ENOTDIR;
	ret = dz_engine_name(dz_engine, fh, &mount, name);
	if (ret < 0)
		return ret;
	return dz_engine_list(dz_engine, mount, name, strlen(name), out);
}

/* ---- one entry as a record ---- */

static uint64_t ino_of_parent(uint32_t mount, char *name)
{
	char *slash = strrchr(name, '/');
	struct dz_attr attr;
	struct stat st;
	char local[DZ_PATH_MAX];
	int ret;

	if (name[0] != '\0') {
		*(slash ? slash : name) = '\0';
		ret = dz_engine_stat(dz_engine, mount, name, strlen(name), &attr);
		return ret == 0 ? attr.ino : 1;
	}
	ret = dz_path_local(mount, "", local, sizeof(local));
	slash = ret > 0 ? strrchr(local, '/') : NULL;
	if (!slash)
		return 1;
	slash[slash == local] = '\0';
	return dz_sys_stat(local, &st) == 0 ? st.st_ino : 1;
}

static uint64_t ino_of_dot(dz_fh fh, bool parent)
{
	char name[DZ_NAME_MAX + 1];
	struct dz_attr attr;
	uint32_t mount;

	if (parent && dz_engine_name(dz_engine, fh, &mount, name) == 0)
		return ino_of_parent(mount, name);
	return !parent && dz_engine_fstat(dz_engine, fh, &attr) == 0 ? attr.ino : 1;
}

bool dz_dir_entry_at(dz_fh fh, const struct dz_listing *list, uint64_t pos,
		     struct dz_dir_entry *out)
{
	const struct dz_list_entry *e;

	if (pos < 2) {
		*out = (struct dz_dir_entry){ ino_of_dot(fh, pos == 1), "..", pos + 1, DT_DIR };
		out->name += 1 - pos;
		return true;
	}
	if (pos - 2 >= list->n)
		return false;
	e = (const void *)(list->data + list->offset[pos - 2]);
	*out = (struct dz_dir_entry){ e->ino, e->name, e->name_len,
				      S_ISDIR(e->mode) ? DT_DIR : DT_REG };
	return true;
}

/* Bytes of the record, 0 when `room` is too small for it.  `off`: the position after it. */
size_t dz_dir_record(void *buf, size_t room, const struct dz_dir_entry *e, int64_t off)
{
	struct dirent64 *d = buf;
	size_t bytes = dz_round_up(offsetof(struct dirent64, d_name) + e->len + 1, 8);

	if (bytes > room)
		return 0;
	d->d_ino = e->ino;
	d->d_off = off;
	d->d_reclen = (uint16_t)bytes;
	d->d_type = e->type;
	memcpy(d->d_name, e->name, e->len);
	d->d_name[e->len] = '\0';
	return bytes;
}

static ssize_t records_fill(dz_fh fh, const struct dz_listing *list, uint64_t *pos, void *buf,
			    size_t len)
{
	size_t done = 0, bytes;
	struct dz_dir_entry e;

	while (dz_dir_entry_at(fh, list, *pos, &e)) {
		bytes = dz_dir_record((uint8_t *)buf + done, len - done, &e, (int64_t)*pos + 1);
		if (bytes == 0)
			return done ? (ssize_t)done : -EINVAL;
		done += bytes;
		(*pos)++;
	}
	return (ssize_t)done;
}

ssize_t dz_dir_getdents(dz_fh fh, void *buf, size_t len)
{
	int64_t at = dz_engine_seek(dz_engine, fh, 0, SEEK_CUR);
	struct dz_listing list;
	uint64_t pos = (uint64_t)at;
	ssize_t ret;

	if (dz_is_opath(fh))
		return -EBADF;
	if (at < 0)
		return (ssize_t)at;
	/* From the start the kernel shows what is there now. */
	if (at == 0)
		dz_dir_forget(fh);
	if (at == 0 || !snapshot_take(fh, &list)) {
		ret = dz_dir_list(fh, &list);
		if (ret < 0)
			return ret;
	}
	ret = records_fill(fh, &list, &pos, buf, len);
	if (ret > 0) {
		snapshot_put(fh, &list);
		dz_engine_seek(dz_engine, fh, (int64_t)pos, SEEK_SET);
	} else {
		dz_engine_unlist(&list);
	}
	return ret;
}

/* ---- the parent of a mount point that does not exist ---- */

/* The directory above each mount point, once it was seen. */
static struct dir_above {
	_Atomic bool known;
	dev_t dev;
	ino_t ino;
} above[DZ_MOUNTS_MAX];

static bool is_above(const struct stat *dir, uint64_t k, const char *slash)
{
	const struct dz_mount *m = &dz_config.mounts[k];
	char path[sizeof(m->local)];
	size_t len = slash == m->local ? 1 : (size_t)(slash - m->local);
	struct stat st;

	if (!atomic_load_explicit(&above[k].known, memory_order_acquire)) {
		memcpy(path, m->local, len);
		path[len] = '\0';
		if (dz_sys_stat(path, &st) < 0)
			return false;
		above[k].dev = st.st_dev;
		above[k].ino = st.st_ino;
		atomic_store_explicit(&above[k].known, true, memory_order_release);
	}
	return above[k].ino == dir->st_ino && above[k].dev == dir->st_dev;
}

/* The next mount, from *k, that is to be shown below the directory `dir_fd`; its name or NULL. */
const char *dz_dir_mount_below(int dir_fd, const struct stat *dir, uint64_t *k)
{
	while (*k < dz_config.n_mounts) {
		uint64_t i = (*k)++;
		const char *slash = strrchr(dz_config.mounts[i].local, '/');

		if (slash && slash[1] != '\0' && is_above(dir, i, slash) &&
		    dz_sys_3(SYS_faccessat, dir_fd, slash + 1, F_OK) != 0)
			return slash + 1;
	}
	return NULL;
}

bool dz_dir_has_mount_below(int dir_fd)
{
	struct stat st;
	uint64_t k = 0;

	return dz_is_on() && dz_sys_fstat(dir_fd, &st) == 0 && S_ISDIR(st.st_mode) &&
	       dz_dir_mount_below(dir_fd, &st, &k);
}

/* Before the first of the kernel's records, so that no state is needed. */
static size_t mounts_fill(int fd, void *buf, size_t len)
{
	size_t done = 0, bytes;
	const char *name;
	struct stat st;
	uint64_t k = 0;

	if (!dz_is_on() || dz_sys_3(SYS_lseek, fd, 0, SEEK_CUR) != 0 || dz_sys_fstat(fd, &st) < 0)
		return 0;
	while ((name = dz_dir_mount_below(fd, &st, &k))) {
		struct dz_dir_entry e = { k, name, strlen(name), DT_DIR };

		bytes = dz_dir_record((uint8_t *)buf + done, len - done, &e, 0);
		if (bytes == 0)
			break;
		done += bytes;
	}
	return done;
}

ssize_t dz_dir_getdents_kernel(int fd, void *buf, size_t len)
{
	struct dz_path p;

	if (dz_hidden_fd(fd, &p) && dz_hidden_replace(fd, &p) >= 0)
		return dz_dir_getdents(dz_fd_get(fd), buf, len);
	/* Room for one record of the kernel's, so that the position moves. */
	size_t most = offsetof(struct dirent64, d_name) + NAME_MAX + 8;
	size_t done = len > most ? mounts_fill(fd, buf, len - most) : 0;
	ssize_t ret = dz_sys_3(SYS_getdents64, fd, (uint8_t *)buf + done, len - done);

	return ret < 0 ? ret : ret + (ssize_t)done;
}

bool dz_dir_leads_to_mount(const char *path)
{
	struct stat st, at;
	struct dz_path p;
	int ret;

	if (!dz_is_on())
		return false;
	ret = dz_path_at(AT_FDCWD, path, &p);
	if (ret != 0)
		return ret > 0;
	ret = dz_sys_stat(p.path, &st);
	if (ret < 0)
		return dz_path_again(ret, &p);
	if (dz_hidden_stat(ret, &st, &p))
		return true;
	for (uint32_t i = 0; i < dz_config.n_mounts; i++) {
		char dir[sizeof(dz_config.mounts[i].local)];
		char *slash;

		memcpy(dir, dz_config.mounts[i].local, sizeof(dir));
		while ((slash = strrchr(dir, '/'))) {
			slash[slash == dir] = '\0';
			if (dz_sys_stat(dir, &at) == 0 && at.st_ino == st.st_ino &&
			    at.st_dev == st.st_dev)
				return true;
			if (slash == dir)
				break;
		}
	}
	return false;
}

DZ_DOOR(ssize_t, getdents64, int fd, void *buf, size_t len)
{
	dz_fh fh = dz_fd_get(fd);

	if (!fh)
		return dz_ret(dz_dir_getdents_kernel(fd, buf, len));
	return dz_done(DZ_CALL_getdents64, dz_dir_getdents(fh, buf, len), fd, buf, len);
}

DZ_DOOR(ssize_t, getdirentries, int fd, char *buf, size_t len, off64_t *at)
{
	dz_fh fh = dz_fd_get(fd);
	int64_t was = fh ? dz_engine_seek(dz_engine, fh, 0, SEEK_CUR)
			 : dz_sys_3(SYS_lseek, fd, 0, SEEK_CUR);
	ssize_t r = fh ? dz_dir_getdents(fh, buf, len) : dz_dir_getdents_kernel(fd, buf, len);

	if (r >= 0)
		*at = was;
	return fh ? dz_done(DZ_CALL_getdirentries, r, fd, buf, len, at) : dz_ret(r);
}

#include "shim/aliases.h"
