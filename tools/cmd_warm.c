// SPDX-License-Identifier: MIT
/*
 * dz warm: fetches what a job will read, before it does.
 *
 * 1. The names: a prefix is listed down to its leaves, a list is looked up.
 * 2. Each of a few threads takes the next file, asks for its blocks a window
 *    ahead and waits for each in turn, as any reader would.  A block that some
 *    tier has is passed over, so an interrupted run goes on where it stopped.
 * 3. With --verify, every block is looked for again, and those on disk are read
 *    against their checksums.
 *
 * A file that fails is named, the others go on, and the status is 1.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/dz.h"
#include "tools/price.h"
#include "tools/warm.h"

static const char help[] =
	"Usage: dz warm [OPTION]... [PREFIX]...\n"
	"Fetches blobs into the cache of this node before a program asks for them.\n"
	"PREFIX is a path below a mount of DELTAZERO_MOUNT, a file or a directory with\n"
	"all below it, or a URL.  What is cached already is passed over, so a run that\n"
	"was stopped can be started again.  On a terminal a bar shows how far it is;\n"
	"elsewhere there is one JSON object a line.\n"
	"\n"
	"  -f, --files LIST   the paths that stand in LIST, one a line (- is standard\n"
	"                     input); those without a / in front are below PREFIX\n"
	"  -j, --jobs N       files at a time (32)\n"
	"  -n, --dry-run      fetch nothing: bytes, GETs and their price\n"
	"      --verify       afterwards look for every block, and check those on disk\n"
	"      --price USD    of 10,000 reads (0.005)\n"
	"      --json         JSON lines on a terminal too\n"
	"      --help         this text\n"
	"\n"
	"Exit status: 0 all of it is cached, 1 some of it is not, 125 for another\n"
	"failure, 130 when it was interrupted.";

static atomic_bool interrupted;

static void on_signal(int sig)
{
	(void)sig;
	atomic_store_explicit(&interrupted, true, memory_order_relaxed);
}

static void catch_signals(void)
{
	struct sigaction act = { .sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND };

	sigaction(SIGINT, &act, NULL);
	sigaction(SIGTERM, &act, NULL);
}

struct request {
	const char *list;
	long jobs;
	bool is_dry, is_verify, json;
	double price;
};

/* Returns 0, or the exit status (-1: help was given). */
static int parse(struct request *r, int argc, char **argv)
{
	enum { VERIFY = 256, PRICE, JSON };
	static const struct option options[] = {
		{ "files", required_argument, NULL, 'f' },
		{ "jobs", required_argument, NULL, 'j' },
		{ "dry-run", no_argument, NULL, 'n' },
		{ "verify", no_argument, NULL, VERIFY },
		{ "price", required_argument, NULL, PRICE },
		{ "json", no_argument, NULL, JSON },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	char *end;
	int opt;

	while ((opt = getopt_long(argc, argv, "f:j:nh", options, NULL)) != -1) {
		switch (opt) {
		case 'f':
			r->list = optarg;
			break;
		case 'j':
			r->jobs = strtol(optarg, &end, 10);
			if (*end || r->jobs < 1 || r->jobs > DZ_WARM_JOBS_MAX)
				return dz_usage("warm", "-j %s: 1 to %d", optarg, DZ_WARM_JOBS_MAX);
			break;
		case 'n':
			r->is_dry = true;
			break;
		case VERIFY:
			r->is_verify = true;
			break;
		case PRICE:
			r->price = dz_price_parse(optarg);
			if (r->price < 0)
				return dz_usage("warm", "--price %s: not a number of USD", optarg);
			break;
		case JSON:
			r->json = true;
			break;
		case 'h':
			puts(help);
			return -1;
		default:
			return dz_usage("warm", "wrong option");
		}
	}
	return optind == argc && !r->list ? dz_usage("warm", "which PREFIX, or -f LIST?") : 0;
}

/* The places that the operands and the list name.  0, or the exit status. */
static int find_places(struct dz_warm *w, struct dz_config *cfg, const struct request *r,
		       char **prefixes, int n)
{
	int ret = 0;

	if (n > DZ_MOUNTS_MAX)
		return dz_usage("warm", "more than %d prefixes: use -f", DZ_MOUNTS_MAX);
	for (int i = 0; ret == 0 && i < n; i++)
		ret = dz_place_find("warm", cfg, prefixes[i], &w->prefix[i]);
	if (ret == 0)
		ret = dz_place_engine("warm", cfg, &w->engine);
	if (ret != 0)
		return ret;
	if (r->list)
		return dz_warm_list(w, cfg, r->list, n > 0 ? &w->prefix[0] : NULL);
	for (int i = 0; ret == 0 && i < n; i++)
		ret = dz_warm_below(w, &w->prefix[i]);
	return ret;
}

static int warm(struct dz_config *cfg, const struct request *r, char **prefixes, int n)
{
	static struct dz_warm w;
	int ret;

	w.jobs = (uint32_t)r->jobs;
	w.price = r->price;
	w.interrupted = &interrupted;
	w.json = r->json || !isatty(STDOUT_FILENO);
	ret = find_places(&w, cfg, r, prefixes, n);
	if (ret == 0 && r->is_dry)
		ret = dz_warm_plan(&w);
	else if (ret == 0)
		ret = dz_warm_fetch(&w, r->is_verify);
	if (w.engine)
		dz_engine_close(w.engine);
	dz_warm_free(&w);
	return ret;
}

int cmd_warm(int argc, char **argv)
{
	static struct dz_config cfg;
	struct request r = { .jobs = 32, .price = DZ_PRICE_GET };
	int flushed, ret = parse(&r, argc, argv);

	if (ret < 0)
		return dz_flushed("warm");
	if (ret > 0)
		return ret;
	if (dz_config_read(&cfg, environ) < 0)
		return dz_fail("warm", "%s", cfg.error);
	catch_signals();
	ret = warm(&cfg, &r, argv + optind, argc - optind);
	flushed = dz_flushed("warm");
	return ret ? ret : flushed;
}
