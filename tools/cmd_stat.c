// SPDX-License-Identifier: MIT
/*
 * dz stat: what the cache of this user on this node has done and holds.  It only
 * looks: no cache is made where there is none, and nothing is joined.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <unistd.h>

#include "cache/log.h"
#include "tools/dz.h"
#include "tools/totals.h"

static const char help[] =
	"Usage: dz stat [--json | --prometheus] [-o FILE]\n"
	"Shows what the cache of this user on this node has done since it was made, and\n"
	"what it holds.  DELTAZERO_SHM_DIR says where it is, as it does for a program.\n"
	"\n"
	"      --json         one JSON object: calls, bytes, hits, misses, origin,\n"
	"                     wait_seconds, evictions, dram, disk, members, bypass\n"
	"      --prometheus   the text format of Prometheus\n"
	"  -o, --output FILE  into FILE, which is replaced as a whole: a reader, such as\n"
	"                     node_exporter's textfile collector, never sees a part\n"
	"      --help         this text\n"
	"\n"
	"Where there is no cache yet, every number is 0.";

static void print(FILE *to, const struct dz_totals *totals, int format)
{
	if (format == 'j') {
		dz_totals_json(to, totals, "");
		putc('\n', to);
	} else if (format == 'p') {
		dz_totals_prometheus(to, totals);
	} else {
		dz_totals_print(to, totals);
	}
}

/* Beside the file, then in its place, so that it is always a whole one. */
static int print_to(const char *path, const struct dz_totals *totals, int format)
{
	char beside[DZ_PATH_MAX];
	int n = snprintf(beside, sizeof(beside), "%s.%d", path, (int)getpid());
	bool is_written;
	FILE *to;

	if (n < 0 || (size_t)n >= sizeof(beside))
		return dz_fail("stat", "%.60s...: too long", path);
	to = fopen(beside, "we");
	if (!to)
		return dz_fail("stat", "%s: %m", beside);
	print(to, totals, format);
	is_written = !ferror(to) && fflush(to) == 0;
	is_written = fclose(to) == 0 && is_written;
	if (is_written && rename(beside, path) == 0)
		return DZ_EXIT_OK;
	dz_fail("stat", "%s: %m", path);
	unlink(beside);
	return DZ_EXIT_OURS;
}

int cmd_stat(int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "prometheus", no_argument, NULL, 'p' },
		{ "output", required_argument, NULL, 'o' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	static struct dz_config cfg;
	static struct dz_totals totals;
	const char *output = NULL;
	int opt, ret, format = 0;

	while ((opt = getopt_long(argc, argv, "ho:", options, NULL)) != -1) {
		if (opt == 'h') {
			puts(help);
			return dz_flushed("stat");
		}
		if (opt == '?')
			return dz_usage("stat", "wrong option");
		if (opt == 'o')
			output = optarg;
		else
			format = opt;
	}
	if (optind < argc)
		return dz_usage("stat", "%s: no argument is expected", argv[optind]);
	/* A wrong mount does not keep us from looking at the cache. */
	dz_config_read(&cfg, environ);
	ret = dz_totals_read(&totals, &cfg);
	if (ret < 0 && ret != -ENOENT)
		return dz_fail("stat", "%s: %s", cfg.shm_dir, dz_strerror(ret));
	if (output)
		return print_to(output, &totals, format);
	print(stdout, &totals, format);
	return dz_flushed("stat");
}
