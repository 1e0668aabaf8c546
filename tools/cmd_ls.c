// SPDX-License-Identifier: MIT
/*
 * dz ls: what lies below a mount or a URL, as a program would see it, without a
 * program.  Names go through the cache like anybody's.
 */
#include <dlfcn.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cache/engine.h"
#include "tools/dz.h"
#include "tools/place.h"
#include "tools/totals.h"

static const char help[] =
	"Usage: dz ls [-l] [--json] [PATH | URL]...\n"
	"Lists what is below a mount (a local path such as /mnt/blob/train; the mounts\n"
	"are those of DELTAZERO_MOUNT) or behind a URL.  Without an argument: the mounts.\n"
	"\n"
	"  -l, --long  mode, size, time and name\n"
	"      --json  an array of objects: name, type, size, mtime\n"
	"      --help  this text\n"
	"\n"
	"Exit status: 0, 1 when a name is not there, 125 for another failure.";

enum form { FORM_NAMES, FORM_LONG, FORM_JSON };

struct entry {
	const char *name;
	uint64_t size;
	int64_t mtime_ns;
	uint32_t mode;
};

static void print_entry(const struct entry *e, enum form form, bool is_first)
{
	const char *slash = S_ISDIR(e->mode) ? "/" : "";
	time_t seconds = (time_t)(e->mtime_ns / 1000000000);
	char when[32] = "-";
	struct tm tm;

	if (gmtime_r(&seconds, &tm))
		strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
	if (form == FORM_NAMES) {
		printf("%s%s\n", e->name, slash);
	} else if (form == FORM_LONG) {
		printf("%s %14" PRIu64 " %s %s%s\n", *slash ? "dr-xr-xr-x" : "-r--r--r--", e->size,
		       when, e->name, slash);
	} else {
		fputs(is_first ? "\n  {\"name\": " : ",\n  {\"name\": ", stdout);
		dz_json_string(stdout, e->name);
		printf(", \"type\": \"%s\", \"size\": %" PRIu64 ", \"mtime\": \"%s\"}",
		       *slash ? "directory" : "file", e->size, when);
	}
}

static int list_directory(struct dz_engine *engine, uint32_t mount, const char *name,
			  enum form form, bool *is_first)
{
	struct dz_listing list;
	int ret = dz_engine_list(engine, mount, name, strlen(name), &list);

	if (ret < 0)
		return ret;
	for (uint64_t i = 0; i < list.n; i++) {
		const struct dz_list_entry *e = (const void *)(list.data + list.offset[i]);
		const struct entry line = { e->name, e->size, e->mtime_ns, e->mode };

		print_entry(&line, form, *is_first);
		*is_first = false;
	}
	dz_engine_unlist(&list);
	return 0;
}

/* A directory's entries, or the one file that `name` is. */
static int list(struct dz_engine *engine, uint32_t mount, const char *name, enum form form,
		bool *is_first)
{
	const char *base = strrchr(name, '/');
	struct dz_attr attr;
	int ret = dz_engine_stat(engine, mount, name, strlen(name), &attr);

	if (ret < 0)
		return ret;
	if (S_ISDIR(attr.mode))
		return list_directory(engine, mount, name, form, is_first);
	const struct entry line = { base ? base + 1 : name, attr.size, attr.mtime_ns, attr.mode };

	print_entry(&line, form, *is_first);
	*is_first = false;
	return 0;
}

static int list_one(const struct dz_config *base, const char *what, enum form form, bool *is_first)
{
	static struct dz_config cfg;
	struct dz_engine *engine;
	struct dz_place place;
	int ret;

	cfg = *base;
	ret = dz_place_find("ls", &cfg, what, &place);
	if (ret == 0)
		ret = dz_place_engine("ls", &cfg, &engine);
	if (ret != 0)
		return ret;
	ret = list(engine, place.mount, place.name, form, is_first);
	dz_engine_close(engine);
	if (ret == 0)
		return DZ_EXIT_OK;
	dz_fail("ls", "%s: %s", what, dz_strerror(ret));
	return ret == -ENOENT ? DZ_EXIT_NO : DZ_EXIT_OURS;
}

static int list_mounts(const struct dz_config *cfg, enum form form)
{
	for (uint32_t i = 0; i < cfg->n_mounts; i++) {
		const struct dz_mount *m = &cfg->mounts[i];

		if (form == FORM_JSON) {
			fputs(i ? ",\n  {\"name\": " : "\n  {\"name\": ", stdout);
			dz_json_string(stdout, m->local);
			fputs(", \"type\": \"mount\"}", stdout);
		} else {
			printf("%s = %s/%s/%s\n", m->local, m->endpoint, m->container, m->prefix);
		}
	}
	return DZ_EXIT_OK;
}

static int list_all(const struct dz_config *cfg, char **what, int n, enum form form)
{
	bool is_first = true;
	int ret, worst = DZ_EXIT_OK;

	if (form == FORM_JSON)
		putchar('[');
	if (n == 0)
		worst = list_mounts(cfg, form);
	for (int i = 0; i < n; i++) {
		if (n > 1 && form != FORM_JSON)
			printf("%s%s:\n", i ? "\n" : "", what[i]);
		ret = list_one(cfg, what[i], form, &is_first);
		worst = ret > worst ? ret : worst;
	}
	if (form == FORM_JSON)
		puts("\n]");
	ret = dz_flushed("ls");
	return ret > worst ? ret : worst;
}

int cmd_ls(int argc, char **argv)
{
	static const struct option options[] = {
		{ "long", no_argument, NULL, 'l' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	static struct dz_config cfg;
	enum form form = FORM_NAMES;
	int opt;

	while ((opt = getopt_long(argc, argv, "lh", options, NULL)) != -1) {
		if (opt == 'h') {
			puts(help);
			return dz_flushed("ls");
		}
		if (opt == '?')
			return dz_usage("ls", "wrong option");
		form = opt == 'j' ? FORM_JSON : FORM_LONG;
	}
	if (dz_config_read(&cfg, environ) < 0)
		return dz_fail("ls", "%s", cfg.error);
	return list_all(&cfg, argv + optind, argc - optind, form);
}
