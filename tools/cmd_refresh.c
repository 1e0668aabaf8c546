// SPDX-License-Identifier: MIT
/*
 * dz refresh: forgets what is known of names and asks Blob again, so that the
 * next open sees what Blob has now.  Files that are open keep what they opened.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/engine.h"
#include "tools/dz.h"
#include "tools/json.h"
#include "tools/place.h"

static const char help[] =
	"Usage: dz refresh [--json] PATH | URL...\n"
	"Forgets names, sizes and ETags that are trusted for DELTAZERO_METADATA_TTL\n"
	"seconds, and asks Blob again: of a file itself, of a directory the list of its\n"
	"entries.  Says what has changed.  Cached bytes stay: they belong to an ETag, and\n"
	"a program that opens the changed blob reads the new one's.\n"
	"\n"
	"      --json  an array of objects: name, state (new, changed, unchanged, listed,\n"
	"              gone, missing, failed), etag, size, before, error\n"
	"      --help  this text\n"
	"\n"
	"Exit status: 0, 1 when a name is not there (any more), 125 for another failure.";

static void tell(const char *what, const struct dz_attr *old, const struct dz_attr *now)
{
	if (S_ISDIR(now->mode))
		printf("%s: listed again\n", what);
	else if (!old)
		printf("%s: ETag %s, %" PRIu64 " bytes\n", what, now->etag, now->size);
	else if (strcmp(old->etag, now->etag) == 0)
		printf("%s: unchanged, ETag %s\n", what, now->etag);
	else
		printf("%s: changed: ETag %s -> %s, %" PRIu64 " -> %" PRIu64 " bytes\n", what,
		       old->etag, now->etag, old->size, now->size);
}

static void begin_json(const char *what, bool is_first)
{
	fputs(is_first ? "\n  {\"name\": " : ",\n  {\"name\": ", stdout);
	dz_json_string(stdout, what);
}

/* What it is now and, where that is something else, what it was. */
static void tell_json(const struct dz_attr *old, const struct dz_attr *now)
{
	bool has_changed = old && strcmp(old->etag, now->etag) != 0;

	if (S_ISDIR(now->mode)) {
		fputs(", \"state\": \"listed\"}", stdout);
		return;
	}
	printf(", \"state\": \"%s\", \"etag\": ", !old		? "new"
						  : has_changed ? "changed"
								: "unchanged");
	dz_json_string(stdout, now->etag);
	printf(", \"size\": %" PRIu64, now->size);
	if (has_changed) {
		fputs(", \"before\": {\"etag\": ", stdout);
		dz_json_string(stdout, old->etag);
		printf(", \"size\": %" PRIu64 "}", old->size);
	}
	putchar('}');
}

static void tell_json_failure(int err, bool was_there)
{
	printf(", \"state\": \"%s\", \"error\": ", err != -ENOENT ? "failed"
						   : was_there	  ? "gone"
								  : "missing");
	dz_json_string(stdout, dz_strerror(err));
	putchar('}');
}

static int ask_again(struct dz_engine *engine, const struct dz_place *p, struct dz_attr *now)
{
	size_t len = strlen(p->name);
	struct dz_listing list;
	int ret = dz_engine_refresh(engine, p->mount, p->name, len);

	if (ret == 0)
		ret = dz_engine_stat(engine, p->mount, p->name, len, now);
	if (ret == 0 && S_ISDIR(now->mode)) {
		ret = dz_engine_list(engine, p->mount, p->name, len, &list);
		if (ret == 0)
			dz_engine_unlist(&list);
	}
	return ret;
}

static int refresh(struct dz_engine *engine, const struct dz_place *p, const char *what, bool json)
{
	struct dz_attr old, now;
	bool was_there = dz_engine_stat(engine, p->mount, p->name, strlen(p->name), &old) == 0;
	int ret = ask_again(engine, p, &now);

	if (ret == 0) {
		if (json)
			tell_json(was_there ? &old : NULL, &now);
		else
			tell(what, was_there ? &old : NULL, &now);
		return DZ_EXIT_OK;
	}
	if (json)
		tell_json_failure(ret, was_there);
	dz_fail("refresh", "%s: %s%s", what, dz_strerror(ret),
		ret == -ENOENT && was_there ? ": it was there before" : "");
	return ret == -ENOENT ? DZ_EXIT_NO : DZ_EXIT_OURS;
}

static int refresh_all(struct dz_config *cfg, char **what, int n, bool json)
{
	static struct dz_place places[DZ_MOUNTS_MAX * 16];
	struct dz_engine *engine;
	int ret, worst = DZ_EXIT_OK;

	if (n > (int)DZ_ARRAY_LEN(places))
		return dz_usage("refresh", "more than %zu names", DZ_ARRAY_LEN(places));
	for (int i = 0; i < n; i++) {
		ret = dz_place_find("refresh", cfg, what[i], &places[i]);
		if (ret != 0)
			return ret;
	}
	ret = dz_place_engine("refresh", cfg, &engine);
	if (ret != 0)
		return ret;
	if (json)
		putchar('[');
	for (int i = 0; i < n; i++) {
		if (json)
			begin_json(what[i], i == 0);
		ret = refresh(engine, &places[i], what[i], json);
		worst = ret > worst ? ret : worst;
	}
	if (json)
		puts("\n]");
	dz_engine_close(engine);
	return worst;
}

int cmd_refresh(int argc, char **argv)
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
			return dz_flushed("refresh");
		}
		if (opt == '?')
			return dz_usage("refresh", "wrong option");
		json = true;
	}
	if (optind == argc)
		return dz_usage("refresh", "which PATH?");
	if (dz_config_read(&cfg, environ) < 0)
		return dz_fail("refresh", "%s", cfg.error);
	ret = refresh_all(&cfg, argv + optind, argc - optind, json);
	flushed = dz_flushed("refresh");
	return ret ? ret : flushed;
}
