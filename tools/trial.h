/* SPDX-License-Identifier: MIT */
/*
 * The parts of dz trial.
 *
 *     cmd_trial      options, the caches, the order of the runs
 *     trial_run      one run of the command, and what is sampled meanwhile
 *     trial_sum      medians, the table, JSON and the sentence of advice
 *     trial_page     the HTML page      trial_svg   its pictures
 */
#ifndef DZ_TRIAL_H
#define DZ_TRIAL_H

#include "tools/totals.h"
#include "tools/trace.h"

#include <signal.h>

enum trial_mode { TRIAL_NONE, TRIAL_COLD, TRIAL_WARM, TRIAL_MODES };

#define TRIAL_SAMPLES_MAX 400 /* beyond that every second one goes */
#define TRIAL_RUNS_MAX	  20
#define TRIAL_NAME_BYTES  256

/* Sums since the start of the run. */
struct trial_sample {
	double seconds;
	uint64_t bytes[DZ_TIERS];
	uint64_t wait_ns;
};

struct trial_process {
	uint32_t member, pid;
	uint64_t joined_ms;
	char comm[16];
	uint64_t wait_ns, bytes;
	double first, last; /* seconds of the run at which it was seen */
};

/* A file that somebody was seen waiting for, at the times when we looked. */
struct trial_file {
	char name[TRIAL_NAME_BYTES];
	double wait_seconds;
};

struct trial_run {
	enum trial_mode mode;
	uint32_t round;
	int status; /* exit status, 128 + n for a signal */
	double seconds, cpu_seconds;
	struct dz_totals totals;
	struct trial_sample samples[TRIAL_SAMPLES_MAX];
	uint32_t n_samples;
	uint64_t every_ns;		 /* between samples */
	struct trial_process *processes; /* the longest waiting first */
	uint32_t n_processes;
	double other_wait_seconds; /* of processes that were too short to be seen */
	struct trial_file *files;  /* likewise */
	uint32_t n_files;
	/* calls that read, by tier and by how long they took; edges in ns */
	uint64_t latency[DZ_TIERS][DZ_TRACE_BUCKETS];
	double latency_ns[DZ_TRACE_BUCKETS];
	uint64_t calls[DZ_TIERS], call_ns[DZ_TIERS];
};

struct trial {
	char **command;
	const char *report;
	uint32_t runs;
	double price;
	bool json;
	char *mounts;
	char shm_dir[DZ_PATH_MAX], cache_dir[DZ_PATH_MAX]; /* private; removed at the end */
	struct trial_run *run[TRIAL_MODES][TRIAL_RUNS_MAX];
	uint32_t n[TRIAL_MODES]; /* runs made */
	sigset_t mask;		 /* the command's; ours has those that end us blocked */
};

/* ---- trial_run ---- */

/*
 * Runs the command over the cache of cfg, whose environment is set, and fills in
 * the run.  0; -EINTR when it was interrupted; -errno.
 */
int trial_run(struct trial_run *run, const struct trial *t, const struct dz_config *cfg);
void trial_run_free(struct trial_run *run);
/* Blocked all along, so that none of them leaves our directories behind. */
void trial_signals(sigset_t *set);

/* ---- trial_sum ---- */

extern const char *const trial_titles[TRIAL_MODES];
/* What "no cache" means here: said wherever the figures are shown. */
extern const char trial_note[];

/* The run of a mode with the median wall time; NULL when there is none. */
const struct trial_run *trial_median(const struct trial *t, enum trial_mode mode);
uint64_t trial_bytes(const struct trial_run *run);
/* Of a round's runs of a mode: the shortest and the longest. */
void trial_range(const struct trial *t, enum trial_mode mode, double *least, double *most);
/* The sentence. */
void trial_advice(const struct trial *t, char *text, size_t size);

struct trial_row {
	char title[48];
	char value[TRIAL_MODES][48];
	bool is_part; /* of the row above */
};
#define TRIAL_ROWS_MAX 24
/* The table; returns the number of rows. */
uint32_t trial_rows(const struct trial *t, struct trial_row rows[TRIAL_ROWS_MAX]);
void trial_print(const struct trial *t);
void trial_json(FILE *to, const struct trial *t);

/* ---- trial_page, trial_svg ---- */

/* 0 or -errno. */
int trial_page(const struct trial *t, const char *path);
/* Text in HTML. */
void trial_text(FILE *to, const char *s);

void trial_svg_wall(FILE *to, const struct trial *t);
void trial_svg_shares(FILE *to, const struct trial *t);
void trial_svg_throughput(FILE *to, const struct trial *t, enum trial_mode mode);
void trial_svg_latency(FILE *to, const struct trial *t);
void trial_svg_processes(FILE *to, const struct trial *t);
void trial_svg_files(FILE *to, const struct trial *t);

#endif
