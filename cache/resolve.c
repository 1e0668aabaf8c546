// SPDX-License-Identifier: MIT
/*
 * What is a name?  The door to names for stat, list and open.
 *
 * The happy path: the directory's listing is in memory and young enough: one
 * lookup.  Not listed: list the directory once for everybody (or, when it has
 * more than a page, ask for the one name).  Older than the time to live: stat
 * gets the old answer for a bounded time while a new listing is on its way; open
 * waits for it, because it pins the ETag.
 *
 * Blob cannot be reached: the error, or the old answer for stat as long as it is
 * within twice the time to live.
 */
#include "cache/engine_priv.h"
#include "cache/past.h"
#include "cache/sys.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

static bool name_is_fresh(const struct dz_engine *e, uint64_t stamp_ms, uint64_t times)
{
	if (e->cfg.ttl_ms == DZ_TTL_FOREVER)
		return true;
	return stamp_ms + e->cfg.ttl_ms * times >= dz_now_ms();
}

/* Old, or three quarters old: a listing is asked for so that nobody need wait. */
static bool name_wants_refresh(const struct dz_engine *e, uint64_t stamp_ms)
{
	return e->cfg.ttl_ms != DZ_TTL_FOREVER && stamp_ms + e->cfg.ttl_ms * 3 / 4 < dz_now_ms();
}

static size_t name_dir_len(const char *name, size_t len)
{
	const char *slash = memrchr(name, '/', len);

	return slash ? (size_t)(slash - name) : 0;
}

static void name_root(const struct dz_engine *e, uint32_t mount, struct dz_attr *attr)
{
	memset(attr, 0, sizeof(*attr));
	attr->mode = S_IFDIR | 0555;
	attr->ino = dz_names_ino(e->cfg.mounts[mount].id, "", 0);
}

/* Is the mount there at all?  Its root must have been listed once. */
static int name_check_root(struct dz_engine *e, uint32_t mount)
{
	uint64_t stamp, n;
	int ret = dz_names_dir_info(&e->seg, e->cfg.mounts[mount].id, "", 0, &stamp, &n);

	if (ret == 0)
		return 0;
	ret = dz_miss_name(e, mount, DZ_KIND_DIR, "", 0, DZ_REQ_LONG, true);
	return ret == -EINPROGRESS ? 0 : ret;
}

/* Asks Blob about the name: its directory's listing, or alone when that is long. */
static int name_ask(struct dz_engine *e, uint32_t mount, const char *name, size_t len, int round)
{
	int ret = -EINPROGRESS;

	if (round < 2)
		ret = dz_miss_name(e, mount, DZ_KIND_DIR, name, name_dir_len(name, len),
				   DZ_REQ_LONG, true);
	/* A listing that does not fit the cache: one name fits. */
	if (ret == -EINPROGRESS || ret == -ENOSPC)
		ret = dz_miss_name(e, mount, DZ_KIND_ATTR, name, len, 0, true);
	return ret;
}

/* The name is not there: because a file stands where a directory should, or just not. */
static int name_absent(struct dz_engine *e, uint32_t mount, const char *name, size_t len)
{
	size_t dir = name_dir_len(name, len);
	struct dz_attr attr;
	int ret;

	if (!dir)
		return -ENOENT;
	ret = dz_name_resolve(e, mount, name, dir, false, &attr);
	if (ret < 0)
		return ret;
	return S_ISDIR(attr.mode) ? -ENOENT : -ENOTDIR;
}

static bool name_will_do(const struct dz_engine *e, const struct dz_name *n, bool strict)
{
	if (n->state == DZ_NAME_UNKNOWN)
		return false;
	return name_is_fresh(e, n->stamp_ms, strict ? 1 : 2);
}

int dz_name_resolve(struct dz_engine *e, uint32_t mount, const char *name, size_t len, bool strict,
		    struct dz_attr *attr)
{
	uint64_t rec_id = e->cfg.mounts[mount].id;
	struct dz_name n;

	if (len > DZ_NAME_MAX - strlen(e->cfg.mounts[mount].prefix))
		return -ENAMETOOLONG;
	if (len == 0) {
		int ret = name_check_root(e, mount);

		name_root(e, mount, attr);
		return ret == -ENOBUFS ? dz_past_resolve(e, mount, name, len, strict, attr) : ret;
	}
	for (int round = 0; round < 4; round++) {
		int ret;

		dz_names_find(&e->seg, rec_id, name, len, &n);
		if (n.state == DZ_NAME_UNKNOWN && e->shared.hdr)
			dz_names_find(&e->shared, rec_id, name, len, &n);
		if (name_will_do(e, &n, strict)) {
			if (name_wants_refresh(e, n.stamp_ms) && n.listed)
				dz_miss_name(e, mount, DZ_KIND_DIR, name, name_dir_len(name, len),
					     0, false);
			if (n.state == DZ_NAME_ABSENT)
				return name_absent(e, mount, name, len);
			*attr = n.attr;
			return 0;
		}
		ret = name_ask(e, mount, name, len, round);
		if (ret == -ENOBUFS)
			return dz_past_resolve(e, mount, name, len, strict, attr);
		if (ret < 0)
			return ret;
	}
	return -EIO;
}

int dz_engine_stat(struct dz_engine *e, uint32_t mount, const char *name, size_t len,
		   struct dz_attr *attr)
{
	return dz_name_resolve(e, mount, name, len, false, attr);
}

int dz_engine_list(struct dz_engine *e, uint32_t mount, const char *name, size_t len,
		   struct dz_listing *out)
{
	uint64_t rec_id = e->cfg.mounts[mount].id, stamp, n;
	struct dz_attr attr;
	int ret = dz_name_resolve(e, mount, name, len, false, &attr);

	if (ret < 0)
		return ret;
	if (!S_ISDIR(attr.mode))
		return -ENOTDIR;
	for (int round = 0; round < 4; round++) {
		if (dz_names_dir_info(&e->seg, rec_id, name, len, &stamp, &n) == 0 &&
		    name_is_fresh(e, stamp, 2)) {
			if (name_wants_refresh(e, stamp))
				dz_miss_name(e, mount, DZ_KIND_DIR, name, len, 0, false);
			ret = dz_names_copy(&e->seg, rec_id, name, len, out);
			if (ret != -ENOENT)
				return ret;
		}
		ret = dz_miss_name(e, mount, DZ_KIND_DIR, name, len, 0, true);
		if (ret == -ENOBUFS)
			return dz_past_list(e, mount, name, len, out);
		if (ret < 0)
			return ret;
	}
	return -EIO;
}

void dz_engine_unlist(struct dz_listing *l)
{
	if (l->data)
		dz_sys_munmap(l->data, l->bytes);
	memset(l, 0, sizeof(*l));
}

int dz_engine_refresh(struct dz_engine *e, uint32_t mount, const char *name, size_t len)
{
	dz_names_forget(&e->seg, e->cfg.mounts[mount].id, name, len);
	return 0;
}
