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
	"Usage: dz stat [--json | --prometheus]\n"
	"Shows what the cache of this user on this node has done since it was made, and\n"
	"what it holds.  DELTAZERO_SHM_DIR says where it is, as it does for a program.\n"
	"\n"
	"  --json        one JSON object: calls, bytes, hits, misses, origin,\n"
	"                wait_seconds, evictions, dram, disk, members, bypass\n"
	"  --prometheus  the text format of Prometheus\n"
	"  --help        this text\n"
	"\n"
	"Where there is no cache yet, every number is 0.";

int cmd_stat(int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "prometheus", no_argument, NULL, 'p' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	static struct dz_config cfg;
	static struct dz_totals totals;
	int opt, ret, format = 0;

	while ((opt = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (opt == 'h') {
			puts(help);
			return dz_flushed("stat");
		}
		if (opt == '?')
			return dz_usage("stat", "wrong option");
		format = opt;
	}
	if (optind < argc)
		return dz_usage("stat", "%s: no argument is expected", argv[optind]);
	/* A wrong mount does not keep us from looking at the cache. */
	dz_config_read(&cfg, environ);
	ret = dz_totals_read(&totals, &cfg);
	if (ret < 0 && ret != -ENOENT)
		return dz_fail("stat", "%s: %s", cfg.shm_dir, dz_strerror(ret));
	if (format == 'j') {
		dz_totals_json(stdout, &totals, "");
		putchar('\n');
	} else if (format == 'p') {
		dz_totals_prometheus(stdout, &totals);
	} else {
		dz_totals_print(stdout, &totals);
	}
	return dz_flushed("stat");
}
