// SPDX-License-Identifier: MIT
/*
 * dz explain: where the bytes of one file are, and who has it open.
 *
 * By PATH: the name as the cache knows it, then a description of our own, so that
 * its blocks are looked up as a program's read would.  By PID:FD: the
 * description behind that descriptor, which a marker's path names.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/marker.h"
#include "cache/sys.h"
#include "tools/ask.h"
#include "tools/dz.h"
#include "tools/explain.h"
#include "tools/place.h"

static const char help[] =
	"Usage: dz explain [--json] PATH | URL | PID:FD\n"
	"Shows where each block of a file is (memory, disk, nowhere), which pieces of it\n"
	"are there, how often it was used of late, which processes have it open, and\n"
	"whether Blob still has the version that the cache holds.\n"
	"\n"
	"      --json  one JSON object: path, url, size, etag, blob_etag, is_current,\n"
	"              known_seconds, bytes, open, blocks\n"
	"      --help  this text\n"
	"\n"
	"PID:FD is a descriptor of a running process, such as 4711:9.\n"
	"\n"
	"Exit status: 0, 1 when there is no such file, 125 for another failure.";

static void set_url(struct dz_explain *x, const struct dz_mount_rec *rec)
{
	snprintf(x->url, sizeof(x->url), "%.511s/%.63s/%.1023s%.1024s", rec->endpoint,
		 rec->container, rec->prefix, x->file.name);
}

/* What the cache knew of the name before anybody asks. */
static void look_name_up(struct dz_explain *x, const struct dz_place *p)
{
	struct dz_name name;

	if (!p->name[0])
		return;
	dz_names_find(&x->engine->seg, x->mount->id, p->name, strlen(p->name), &name);
	x->was_known = name.state == DZ_NAME_FOUND;
	x->was_listed = name.listed;
	x->age_ms = dz_now_ms() - name.stamp_ms;
}

/* 0, or -errno. */
static int by_path(struct dz_explain *x, const struct dz_place *p)
{
	const struct dz_ofile *f;
	dz_fh fh;
	int ret;

	x->mount = &x->engine->cfg.mounts[p->mount];
	look_name_up(x, p);
	ret = dz_engine_open_file(x->engine, p->mount, p->name, strlen(p->name), O_RDONLY, &fh);
	if (ret < 0)
		return ret;
	f = dz_file_get(&x->engine->seg, fh);
	if (f)
		x->file = *f;
	ret = !f ? -EBADF : S_ISDIR(f->mode) ? -EISDIR : 0;
	dz_engine_close_file(x->engine, fh);
	snprintf(x->path, sizeof(x->path), "%s/%s", x->mount->local, p->name);
	set_url(x, &x->engine->seg.mounts[x->file.mount % x->engine->seg.n_mounts]);
	return ret;
}

/* The description that a marker stands for. */
static int by_marker(struct dz_explain *x, const struct dz_marker *m)
{
	const struct dz_seg *seg = &x->engine->seg;
	const struct dz_ofile *f = &seg->files[m->n];
	uint64_t ctl = atomic_load_explicit(&f->ctl, memory_order_acquire);

	if ((uint8_t)ctl != DZ_FILE_OPEN || (m->is_own && ctl >> 32 != m->gen))
		return -EBADF;
	x->file = *f;
	x->file.name[sizeof(x->file.name) - 1] = '\0';
	if (x->file.mount >= seg->n_mounts)
		return -EBADF;
	for (uint32_t i = 0; i < x->engine->cfg.n_mounts; i++) {
		if (x->engine->rec[i] == x->file.mount)
			x->mount = &x->engine->cfg.mounts[i];
	}
	set_url(x, &seg->mounts[x->file.mount]);
	snprintf(x->path, sizeof(x->path), "%s/%s",
		 x->mount ? x->mount->local : "(a mount of that process)", x->file.name);
	return S_ISDIR(x->file.mode) ? -EISDIR : 0;
}

static int by_descriptor(struct dz_explain *x, unsigned int pid, unsigned int fd)
{
	char link[64], path[DZ_PATH_MAX];
	struct dz_marker m;
	ssize_t len;

	snprintf(link, sizeof(link), "/proc/%u/fd/%u", pid, fd);
	len = readlink(link, path, sizeof(path) - 1);
	if (len < 0)
		return -errno;
	path[len] = '\0';
	x->was_known = false;
	return dz_marker_of_path(&x->engine->seg, path, &m) ? by_marker(x, &m) : -EBADF;
}

static void ask_blob(struct dz_explain *x)
{
	struct dz_blob_res res = { 0 };
	struct dz_ask *ask;

	x->blob_err = 1;
	if (!x->mount)
		return;
	if (dz_ask_open(&ask, environ) == 0) {
		x->blob_err = dz_ask_head(ask, x->mount, x->file.name, &res);
		snprintf(x->blob_etag, sizeof(x->blob_etag), "%s", res.etag);
		x->blob_size = res.size;
	}
	dz_ask_close(ask);
}

static const char *reason(int err)
{
	if (err == -EISDIR)
		return "is a directory: `dz ls` shows it";
	if (err == -EBADF)
		return "is not a file of a mount";
	return dz_strerror(err);
}

static int explain(struct dz_config *cfg, const char *what, bool json)
{
	static struct dz_explain x;
	struct dz_place place;
	unsigned int pid, fd;
	char end;
	bool is_fd = sscanf(what, "%u:%u%c", &pid, &fd, &end) == 2;
	int ret = is_fd ? 0 : dz_place_find("explain", cfg, what, &place);

	if (ret == 0 && is_fd && !dz_place_has_cache(cfg))
		ret = dz_fail("explain", "%s: there is no cache that it could belong to", what);
	if (ret == 0)
		ret = dz_place_engine("explain", cfg, &x.engine);
	if (ret != 0)
		return ret;
	ret = is_fd ? by_descriptor(&x, pid, fd) : by_path(&x, &place);
	if (ret == 0) {
		ask_blob(&x);
		ret = dz_explain_blocks(&x);
	}
	if (ret == 0 && json)
		dz_explain_json(&x);
	else if (ret == 0)
		dz_explain_print(&x);
	else
		dz_fail("explain", "%s: %s", what, reason(ret));
	free(x.runs);
	dz_engine_close(x.engine);
	return ret == 0 ? DZ_EXIT_OK : ret == -ENOENT ? DZ_EXIT_NO : DZ_EXIT_OURS;
}

int cmd_explain(int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	static struct dz_config cfg;
	bool json = false;
	int opt, ret, flushed;

	while ((opt = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (opt == 'h') {
			puts(help);
			return dz_flushed("explain");
		}
		if (opt == '?')
			return dz_usage("explain", "wrong option");
		json = true;
	}
	if (argc - optind != 1)
		return dz_usage("explain", "one PATH, URL or PID:FD");
	if (dz_config_read(&cfg, environ) < 0)
		return dz_fail("explain", "%s", cfg.error);
	ret = explain(&cfg, argv[optind], json);
	flushed = dz_flushed("explain");
	return flushed ? flushed : ret;
}
