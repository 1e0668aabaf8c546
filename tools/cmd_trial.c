// SPDX-License-Identifier: MIT
/*
 * dz trial: the same command without a cache, with an empty one and with a full
 * one, side by side.
 *
 * 1. Two directories of our own, below those of the user, so that nothing that
 *    is cached already helps or suffers.
 * 2. Each round: no cache, cold, warm.  Before each round everything is purged.
 * 3. The table, the page and one sentence.  The directories go, whatever happens.
 *
 * Interrupted, it shows what it has.
 */
#include <errno.h>
#include <ftw.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/dz.h"
#include "tools/price.h"
#include "tools/trial.h"

static const char help[] =
	"Usage: dz trial [-m LOCAL=URL]... [OPTION]... [--] COMMAND [ARGUMENT]...\n"
	"Runs the unchanged COMMAND without a cache, with an empty and with a full one,\n"
	"and shows what that did to its time, its waiting and the requests to Blob.  The\n"
	"caches are the trial's own and are removed at the end.  COMMAND's standard input\n"
	"is empty.\n"
	"\n"
	"  -m, --mount LOCAL=URL  what is below the path LOCAL (DELTAZERO_MOUNT)\n"
	"      --runs N           rounds of the three; medians are shown (1)\n"
	"      --report FILE      also a page with pictures: one HTML file that needs no\n"
	"                         network\n"
	"      --cache-dir DIR    where the disk tier lies (DELTAZERO_CACHE_DIR)\n"
	"      --shm-dir DIR      where the memory tier lies (DELTAZERO_SHM_DIR)\n"
	"      --dram-size N      of the cold and warm runs (DELTAZERO_DRAM_SIZE)\n"
	"      --disk-size N      of the cold and warm runs (DELTAZERO_DISK_SIZE)\n"
	"      --price USD        of 10,000 requests (0.005)\n"
	"      --json             one JSON object; COMMAND prints to standard error\n"
	"      --help             this text\n"
	"\n"
	"No cache means the same library with 32 MiB of memory and no disk: what does\n"
	"not fit there comes from Blob each time.\n"
	"\n"
	"Exit status: 0, 1 when COMMAND did not end with 0 in every run, 125 for a\n"
	"failure of dz, 130 when it was interrupted.";

#define NO_CACHE_DRAM "32M"

static void add_mount(struct trial *t, const char *mount)
{
	char *all;

	if (asprintf(&all, "%s%s%s", t->mounts ? t->mounts : "", t->mounts ? ";" : "", mount) < 0)
		abort();
	free(t->mounts);
	t->mounts = all;
}

enum { CACHE_DIR = 256, SHM_DIR, DRAM_SIZE, DISK_SIZE, RUNS, REPORT, PRICE, JSON };

/* One option.  0, -1 help was given, or the exit status. */
static int take_option(struct trial *t, int opt)
{
	char *end;

	switch (opt) {
	case 'm':
		add_mount(t, optarg);
		return 0;
	case CACHE_DIR:
		return setenv("DELTAZERO_CACHE_DIR", optarg, 1);
	case SHM_DIR:
		return setenv("DELTAZERO_SHM_DIR", optarg, 1);
	case DRAM_SIZE:
		return setenv("DELTAZERO_DRAM_SIZE", optarg, 1);
	case DISK_SIZE:
		return setenv("DELTAZERO_DISK_SIZE", optarg, 1);
	case RUNS:
		t->runs = (uint32_t)strtoul(optarg, &end, 10);
		if (*end || t->runs < 1 || t->runs > TRIAL_RUNS_MAX)
			return dz_usage("trial", "--runs %s: 1 to %d", optarg, TRIAL_RUNS_MAX);
		return 0;
	case REPORT:
		t->report = optarg;
		return 0;
	case PRICE:
		t->price = dz_price_parse(optarg);
		return t->price < 0 ? dz_usage("trial", "--price %s: not a number of USD", optarg)
				    : 0;
	case JSON:
		t->json = true;
		return 0;
	case 'h':
		puts(help);
		return -1;
	default:
		return dz_usage("trial", "wrong option");
	}
}

static int parse(struct trial *t, int argc, char **argv)
{
	static const struct option options[] = {
		{ "mount", required_argument, NULL, 'm' },
		{ "cache-dir", required_argument, NULL, CACHE_DIR },
		{ "shm-dir", required_argument, NULL, SHM_DIR },
		{ "dram-size", required_argument, NULL, DRAM_SIZE },
		{ "disk-size", required_argument, NULL, DISK_SIZE },
		{ "runs", required_argument, NULL, RUNS },
		{ "report", required_argument, NULL, REPORT },
		{ "price", required_argument, NULL, PRICE },
		{ "json", no_argument, NULL, JSON },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	int opt, ret = 0;

	while (ret == 0 && (opt = getopt_long(argc, argv, "+m:h", options, NULL)) != -1)
		ret = take_option(t, opt);
	t->command = argv + optind;
	if (ret == 0 && optind == argc)
		return dz_usage("trial", "which command?");
	return ret;
}

/* ---- directories of our own ---- */

static int make_below(const char *base, char dir[DZ_PATH_MAX])
{
	char path[DZ_PATH_MAX];

	/* The base may be yet to be made, as it is by the cache itself. */
	snprintf(path, sizeof(path), "%s", base);
	for (char *p = path + 1; (p = strchr(p, '/')); p++) {
		*p = '\0';
		mkdir(path, 0755);
		*p = '/';
	}
	mkdir(path, 0700);
	if (snprintf(dir, DZ_PATH_MAX, "%s/dz-trial.XXXXXX", base) >= DZ_PATH_MAX)
		return dz_fail("trial", "%s: too long", base);
	if (mkdtemp(dir))
		return 0;
	dz_fail("trial", "%s: %m", dir);
	dir[0] = '\0';
	return DZ_EXIT_OURS;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *where)
{
	(void)st;
	(void)kind;
	(void)where;
	remove(path);
	return 0;
}

static void remove_tree(const char *dir)
{
	if (dir[0])
		nftw(dir, remove_one, 32, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

/* The environment of a mode, and the configuration that follows from it. */
static int set_mode(const struct trial *t, enum trial_mode mode, struct dz_config *cfg)
{
	static char *dram, *disk;
	static bool is_saved;
	char path[2][2 * DZ_PATH_MAX];
	bool is_none = mode == TRIAL_NONE;

	if (!is_saved) {
		dram = getenv("DELTAZERO_DRAM_SIZE");
		dram = dram ? strdup(dram) : NULL;
		disk = getenv("DELTAZERO_DISK_SIZE");
		disk = disk ? strdup(disk) : NULL;
		is_saved = true;
	}
	snprintf(path[0], sizeof(path[0]), "%s/%s", t->shm_dir, is_none ? "none" : "full");
	snprintf(path[1], sizeof(path[1]), "%s/%s", t->cache_dir, is_none ? "none" : "full");
	setenv("DELTAZERO_SHM_DIR", path[0], 1);
	setenv("DELTAZERO_CACHE_DIR", path[1], 1);
	unsetenv("DELTAZERO_DRAM_SIZE");
	unsetenv("DELTAZERO_DISK_SIZE");
	if (is_none || dram)
		setenv("DELTAZERO_DRAM_SIZE", is_none ? NO_CACHE_DRAM : dram, 1);
	if (is_none || disk)
		setenv("DELTAZERO_DISK_SIZE", is_none ? "0" : disk, 1);
	return dz_config_read(cfg, environ) < 0 ? dz_fail("trial", "%s", cfg->error) : 0;
}

/* The agents of purged segments end by themselves. */
static void purge(const struct trial *t, enum trial_mode mode)
{
	static struct dz_config cfg;

	if (set_mode(t, mode, &cfg) != 0)
		return;
	dz_seg_purge(&cfg);
	remove_tree(cfg.cache_dir);
}

/* ---- the runs ---- */

static int run_one(struct trial *t, enum trial_mode mode, uint32_t round)
{
	static struct dz_config cfg;
	struct trial_run *run = calloc(1, sizeof(*run));
	int ret;

	if (!run)
		return dz_fail("trial", "no memory");
	ret = set_mode(t, mode, &cfg);
	if (ret == 0) {
		fprintf(stderr, "dz trial: %s, run %u of %u\n", trial_titles[mode], round + 1,
			t->runs);
		run->mode = mode;
		run->round = round;
		ret = trial_run(run, t, &cfg);
		if (ret < 0 && ret != -EINTR)
			dz_fail("trial", "%s: cache: %s", trial_titles[mode], dz_strerror(ret));
	}
	if (ret != 0) {
		trial_run_free(run);
		return ret == -EINTR ? 130 : DZ_EXIT_OURS;
	}
	t->run[mode][t->n[mode]++] = run;
	/* dz itself could not start it: no more runs of that. */
	return run->status >= 125 && run->status <= 127 ? run->status : 0;
}

static int run_all(struct trial *t)
{
	int ret = 0;

	for (uint32_t round = 0; round < t->runs && ret == 0; round++) {
		for (int mode = 0; mode < TRIAL_MODES && ret == 0; mode++) {
			if (mode != TRIAL_WARM)
				purge(t, (enum trial_mode)mode);
			ret = run_one(t, (enum trial_mode)mode, round);
		}
	}
	purge(t, TRIAL_NONE);
	purge(t, TRIAL_COLD);
	return ret;
}

static int report(const struct trial *t)
{
	int ret = t->report ? trial_page(t, t->report) : 0;

	if (t->json)
		trial_json(stdout, t);
	else
		trial_print(t);
	if (ret < 0)
		return dz_fail("trial", "%s: %s", t->report, dz_strerror(ret));
	for (int mode = 0; mode < TRIAL_MODES; mode++) {
		for (uint32_t i = 0; i < t->n[mode]; i++) {
			if (t->run[mode][i]->status != 0)
				return DZ_EXIT_NO;
		}
	}
	return DZ_EXIT_OK;
}

static int prepare(struct trial *t, struct dz_config *cfg)
{
	FILE *page;

	if (t->mounts && setenv("DELTAZERO_MOUNT", t->mounts, 1) < 0)
		return dz_fail("trial", "environment: %m");
	if (dz_config_read(cfg, environ) < 0)
		return dz_fail("trial", "%s", cfg->error);
	if (cfg->n_mounts == 0)
		return dz_usage("trial", "nothing is mounted: -m LOCAL=URL");
	if (t->report) {
		page = fopen(t->report, "we");
		if (!page)
			return dz_fail("trial", "%s: %m", t->report);
		fclose(page);
	}
	return 0;
}

int cmd_trial(int argc, char **argv)
{
	static struct trial t = { .runs = 1, .price = DZ_PRICE_GET };
	static struct dz_config cfg;
	int flushed, ret = parse(&t, argc, argv);
	sigset_t signals;

	if (ret < 0)
		return dz_flushed("trial");
	if (ret == 0)
		ret = prepare(&t, &cfg);
	trial_signals(&signals);
	sigprocmask(SIG_BLOCK, &signals, &t.mask);
	if (ret == 0)
		ret = make_below(cfg.shm_dir, t.shm_dir);
	if (ret == 0)
		ret = make_below(cfg.cache_dir, t.cache_dir);
	if (ret == 0)
		ret = run_all(&t);
	remove_tree(t.shm_dir);
	remove_tree(t.cache_dir);
	if ((ret == 0 || ret == 130) && t.n[TRIAL_NONE]) {
		int told = report(&t);

		ret = ret ? ret : told;
	}
	for (int mode = 0; mode < TRIAL_MODES; mode++) {
		for (uint32_t i = 0; i < t.n[mode]; i++)
			trial_run_free(t.run[mode][i]);
	}
	free(t.mounts);
	flushed = dz_flushed("trial");
	return flushed ? flushed : ret;
}
