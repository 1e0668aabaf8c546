// SPDX-License-Identifier: MIT
/* What the runs say: the table, JSON, and one sentence of advice. */
#include "tools/trial.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "tools/human.h"
#include "tools/price.h"

/* Differences below these parts are taken for chance. */
#define NOISE_ONE  0.10 /* of a single run of each */
#define NOISE_MANY 0.03 /* of medians whose ranges do not meet */

const char *const trial_titles[TRIAL_MODES] = { "no cache", "cold", "warm" };
const char trial_note[] =
	"\"No cache\" is the same library with 32 MiB of memory and no disk: what does not fit "
	"there "
	"comes from Blob each time.  \"Cold\" begins with an empty cache of the usual size, "
	"\"warm\" "
	"with what the cold run left.  What was fetched ahead of its reader counts as DRAM; the "
	"bytes below the requests are what Blob sent.  The price takes each request for a "
	"read: " DZ_PRICE_NOTE ".";

static int by_seconds(const void *a, const void *b)
{
	const struct trial_run *x = *(struct trial_run *const *)a;
	const struct trial_run *y = *(struct trial_run *const *)b;

	return x->seconds < y->seconds ? -1 : x->seconds > y->seconds;
}

const struct trial_run *trial_median(const struct trial *t, enum trial_mode mode)
{
	struct trial_run *sorted[TRIAL_RUNS_MAX];

	if (!t->n[mode])
		return NULL;
	memcpy(sorted, t->run[mode], t->n[mode] * sizeof(sorted[0]));
	qsort(sorted, t->n[mode], sizeof(sorted[0]), by_seconds);
	return sorted[(t->n[mode] - 1) / 2];
}

void trial_range(const struct trial *t, enum trial_mode mode, double *least, double *most)
{
	*least = *most = t->n[mode] ? t->run[mode][0]->seconds : 0;
	for (uint32_t i = 1; i < t->n[mode]; i++) {
		double s = t->run[mode][i]->seconds;

		*least = s < *least ? s : *least;
		*most = s > *most ? s : *most;
	}
}

uint64_t trial_bytes(const struct trial_run *run)
{
	uint64_t sum = 0;

	for (int t = 0; t < DZ_TIERS; t++)
		sum += run->totals.hit_bytes[t];
	return sum;
}

static double longest_wait(const struct trial_run *run)
{
	return run->n_processes ? (double)run->processes[0].wait_ns / 1e9 : 0;
}

/* ---- the table ---- */

struct rows {
	struct trial_row *at;
	uint32_t n;
};

static struct trial_row *add_row(struct rows *rows, bool is_part, const char *title)
{
	struct trial_row *r = &rows->at[rows->n < TRIAL_ROWS_MAX ? rows->n++ : TRIAL_ROWS_MAX - 1];

	memset(r, 0, sizeof(*r));
	snprintf(r->title, sizeof(r->title), "%s", title);
	r->is_part = is_part;
	return r;
}

DZ_PRINTF(3, 4)
static void put(struct trial_row *r, int mode, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(r->value[mode], sizeof(r->value[mode]), fmt, ap);
	va_end(ap);
}

static void time_rows(const struct trial *t, const struct trial_run *const *m, struct rows *rows)
{
	struct trial_row *wall = add_row(rows, false, "wall time");
	struct trial_row *range = t->runs > 1 ? add_row(rows, true, "from, to") : NULL;
	struct trial_row *speed = add_row(rows, true, "as fast as no cache");
	struct trial_row *cpu = add_row(rows, false, "CPU time");
	struct trial_row *wait = add_row(rows, false, "waiting for data, all");
	struct trial_row *most = add_row(rows, true, "the longest of one");
	double least, longest;

	for (int i = 0; i < TRIAL_MODES; i++) {
		if (!m[i])
			continue;
		put(wall, i, "%.2f s", m[i]->seconds);
		put(cpu, i, "%.2f s", m[i]->cpu_seconds);
		put(wait, i, "%.2f s", (double)m[i]->totals.wait_ns / 1e9);
		put(most, i, "%.2f s", longest_wait(m[i]));
		if (m[TRIAL_NONE] && i != TRIAL_NONE)
			put(speed, i, "%.2fx", m[TRIAL_NONE]->seconds / m[i]->seconds);
		trial_range(t, (enum trial_mode)i, &least, &longest);
		if (range)
			put(range, i, "%.2f-%.2f s", least, longest);
	}
}

static void byte_rows(const struct trial_run *const *m, struct rows *rows)
{
	static const char *const tiers[DZ_TIERS] = { "from DRAM", "from NVMe", "from peers",
						     "from Blob" };
	struct trial_row *read = add_row(rows, false, "read below the mount");
	char buf[DZ_HUMAN_BYTES];

	for (int i = 0; i < TRIAL_MODES; i++) {
		if (m[i])
			put(read, i, "%s", dz_human(trial_bytes(m[i]), buf));
	}
	for (int tier = 0; tier < DZ_TIERS; tier++) {
		struct trial_row *row;
		bool any = tier != DZ_TIER_PEER;

		for (int i = 0; i < TRIAL_MODES; i++)
			any |= m[i] && m[i]->totals.hit_bytes[tier];
		if (!any)
			continue;
		row = add_row(rows, true, tiers[tier]);
		for (int i = 0; i < TRIAL_MODES; i++) {
			if (m[i])
				put(row, i, "%.1f %%",
				    dz_percent((double)m[i]->totals.hit_bytes[tier],
					       (double)trial_bytes(m[i])));
		}
	}
}

static void blob_rows(const struct trial *t, const struct trial_run *const *m, struct rows *rows)
{
	struct trial_row *requests = add_row(rows, false, "requests to Blob");
	struct trial_row *price = add_row(rows, true, "price, USD");
	struct trial_row *bytes = add_row(rows, true, "bytes");
	struct trial_row *errors = add_row(rows, true, "errors, retries");
	struct trial_row *evictions = add_row(rows, false, "evictions");
	struct trial_row *status = add_row(rows, false, "exit status");
	char buf[DZ_HUMAN_BYTES];

	for (int i = 0; i < TRIAL_MODES; i++) {
		if (!m[i])
			continue;
		const struct dz_totals *s = &m[i]->totals;

		put(requests, i, "%" PRIu64, s->origin_requests);
		put(price, i, "%.6f", dz_price((double)s->origin_requests, t->price));
		put(bytes, i, "%s", dz_human(s->origin_bytes, buf));
		put(errors, i, "%" PRIu64 ", %" PRIu64, s->origin_errors, s->origin_retries);
		put(evictions, i, "%" PRIu64, s->evictions);
		put(status, i, "%d", m[i]->status);
	}
}

uint32_t trial_rows(const struct trial *t, struct trial_row at[TRIAL_ROWS_MAX])
{
	const struct trial_run *m[TRIAL_MODES];
	struct rows rows = { .at = at };

	for (int i = 0; i < TRIAL_MODES; i++)
		m[i] = trial_median(t, (enum trial_mode)i);
	time_rows(t, m, &rows);
	byte_rows(m, &rows);
	blob_rows(t, m, &rows);
	return rows.n;
}

void trial_print(const struct trial *t)
{
	struct trial_row rows[TRIAL_ROWS_MAX];
	uint32_t n = trial_rows(t, rows);
	char advice[1024];

	printf("\n%-24s %16s %16s %16s\n", t->runs > 1 ? "medians" : "", trial_titles[0],
	       trial_titles[1], trial_titles[2]);
	for (uint32_t i = 0; i < n; i++)
		printf("%s%-*s %16s %16s %16s\n", rows[i].is_part ? "  " : "",
		       rows[i].is_part ? 22 : 24, rows[i].title, rows[i].value[0], rows[i].value[1],
		       rows[i].value[2]);
	printf("\n%s\n", trial_note);
	if (t->report)
		printf("Pictures: %s\n", t->report);
	trial_advice(t, advice, sizeof(advice));
	printf("\n%s\n", advice);
}

/* ---- JSON ---- */

static void json_run(FILE *to, const struct trial *t, const struct trial_run *run)
{
	fprintf(to,
		"    {\"mode\": \"%s\", \"round\": %u, \"status\": %d, \"seconds\": %.6f, "
		"\"cpu_seconds\": %.6f, \"wait_seconds\": %.6f, \"price_usd\": %.8f,\n"
		"     \"processes\": [",
		trial_titles[run->mode], run->round + 1, run->status, run->seconds,
		run->cpu_seconds, (double)run->totals.wait_ns / 1e9,
		dz_price((double)run->totals.origin_requests, t->price));
	for (uint32_t i = 0; i < run->n_processes; i++) {
		const struct trial_process *p = &run->processes[i];

		fprintf(to, "%s{\"pid\": %u, \"command\": ", i ? ", " : "", p->pid);
		dz_json_string(to, p->comm);
		fprintf(to, ", \"wait_seconds\": %.6f, \"bytes\": %" PRIu64 ", \"seconds\": %.3f}",
			(double)p->wait_ns / 1e9, p->bytes, p->last - p->first);
	}
	fputs("],\n     \"files\": [", to);
	for (uint32_t i = 0; i < run->n_files && i < 100; i++) {
		fputs(i ? ", {\"name\": " : "{\"name\": ", to);
		dz_json_string(to, run->files[i].name);
		fprintf(to, ", \"wait_seconds\": %.3f}", run->files[i].wait_seconds);
	}
	fputs("],\n     \"samples\": [", to);
	for (uint32_t i = 0; i < run->n_samples; i++) {
		const struct trial_sample *s = &run->samples[i];

		fprintf(to,
			"%s{\"seconds\": %.3f, \"dram\": %" PRIu64 ", \"disk\": %" PRIu64
			", \"blob\": %" PRIu64 ", \"wait_seconds\": %.3f}",
			i ? ", " : "", s->seconds, s->bytes[DZ_TIER_DRAM], s->bytes[DZ_TIER_DISK],
			s->bytes[DZ_TIER_BLOB], (double)s->wait_ns / 1e9);
	}
	fputs("],\n     \"stat\": ", to);
	dz_totals_json(to, &run->totals, "     ");
	fputs("}", to);
}

void trial_json(FILE *to, const struct trial *t)
{
	const char *comma = "";
	char advice[1024];

	fputs("{\n  \"command\": [", to);
	for (char **arg = t->command; *arg; arg++) {
		fputs(arg == t->command ? "" : ", ", to);
		dz_json_string(to, *arg);
	}
	fputs("],\n  \"runs\": [\n", to);
	for (uint32_t round = 0; round < t->runs; round++) {
		for (int mode = 0; mode < TRIAL_MODES; mode++) {
			if (round >= t->n[mode])
				continue;
			fputs(comma, to);
			json_run(to, t, t->run[mode][round]);
			comma = ",\n";
		}
	}
	fputs("\n  ],\n  \"note\": ", to);
	dz_json_string(to, trial_note);
	fputs(",\n  \"advice\": ", to);
	trial_advice(t, advice, sizeof(advice));
	dz_json_string(to, advice);
	fputs("\n}\n", to);
}

/* ---- advice ---- */

/* Did some runs of one mode take as long as some of the other? */
static bool ranges_meet(const struct trial *t, enum trial_mode a, enum trial_mode b)
{
	double least_a, most_a, least_b, most_b;

	trial_range(t, a, &least_a, &most_a);
	trial_range(t, b, &least_b, &most_b);
	return t->runs > 1 && least_a <= most_b && least_b <= most_a;
}

/* Seconds that mode `b` takes less than mode `a`; 0 when that is next to nothing. */
static double gain_of(const struct trial *t, enum trial_mode a, enum trial_mode b)
{
	double whole = trial_median(t, a)->seconds, gain = whole - trial_median(t, b)->seconds;
	double noise = (t->runs > 1 ? NOISE_MANY : NOISE_ONE) * whole;

	return gain > noise || gain < -noise ? gain : 0;
}

static bool all_ended_well(const struct trial *t)
{
	for (int mode = 0; mode < TRIAL_MODES; mode++) {
		for (uint32_t i = 0; i < t->n[mode]; i++) {
			if (t->run[mode][i]->status != 0)
				return false;
		}
	}
	return true;
}

/* The first run pays for the filling. */
static void say_cold(const struct trial *t, char *text, size_t size)
{
	double gain = gain_of(t, TRIAL_NONE, TRIAL_COLD);

	if (ranges_meet(t, TRIAL_NONE, TRIAL_COLD))
		gain = 0;
	if (gain < 0)
		snprintf(text, size, "the first run, which fills the cache, loses %.2f s (%.0f %%)",
			 -gain, dz_percent(-gain, trial_median(t, TRIAL_NONE)->seconds));
	else if (gain > 0)
		snprintf(text, size, "the first run, which fills the cache, already gains %.2f s",
			 gain);
	else
		snprintf(text, size,
			 "the first run, which fills the cache, shows no clear difference");
}

static void say_room(const struct trial_run *warm, char *text, size_t size)
{
	uint64_t all = trial_bytes(warm), again = warm->totals.hit_bytes[DZ_TIER_BLOB];
	char a[DZ_HUMAN_BYTES], b[DZ_HUMAN_BYTES];

	text[0] = '\0';
	if (again * 20 > all)
		snprintf(text, size,
			 "; %s of %s came from Blob again when warm, so give it more room "
			 "(DELTAZERO_DISK_SIZE)",
			 dz_human(again, a), dz_human(all, b));
}

/* The medians differ, and so do runs of the same kind: nothing follows. */
static bool say_unclear(const struct trial *t, char *text, size_t size)
{
	double least_none, most_none, least_warm, most_warm;

	if (!ranges_meet(t, TRIAL_NONE, TRIAL_WARM) || gain_of(t, TRIAL_NONE, TRIAL_WARM) == 0)
		return false;
	trial_range(t, TRIAL_NONE, &least_none, &most_none);
	trial_range(t, TRIAL_WARM, &least_warm, &most_warm);
	snprintf(text, size,
		 "The runs differ too much among themselves to tell (without a cache %.2f to %.2f "
		 "s, warm %.2f to %.2f s): repeat it with more --runs, on a quiet machine.",
		 least_none, most_none, least_warm, most_warm);
	return true;
}

void trial_advice(const struct trial *t, char *text, size_t size)
{
	const struct trial_run *none = trial_median(t, TRIAL_NONE);
	const struct trial_run *cold = trial_median(t, TRIAL_COLD);
	const struct trial_run *warm = trial_median(t, TRIAL_WARM);
	char first[160], room[200];
	double gain;

	if (!none || !cold || !warm) {
		snprintf(text, size, "Not all runs were made: there is nothing to advise.");
		return;
	}
	if (!all_ended_well(t)) {
		snprintf(
			text, size,
			"The command ended with %d without a cache, %d cold and %d warm: mend that "
			"first, these figures are of a failure.",
			none->status, cold->status, warm->status);
		return;
	}
	if (trial_bytes(none) + trial_bytes(cold) + trial_bytes(warm) == 0) {
		snprintf(text, size,
			 "The command read nothing below the mount: look at -m, at the paths that "
			 "it "
			 "opens, and at `dz check %.80s`.",
			 t->command[0]);
		return;
	}
	if (say_unclear(t, text, size))
		return;
	say_cold(t, first, sizeof(first));
	say_room(warm, room, sizeof(room));
	gain = gain_of(t, TRIAL_NONE, TRIAL_WARM);
	if (gain > 0)
		snprintf(text, size,
			 "Use the cache if this data is read more than once: a warm run takes %.2f "
			 "s "
			 "instead of %.2f s (%.1f times as fast) and sends %" PRIu64
			 " requests instead of %" PRIu64 "; %s%s.",
			 warm->seconds, none->seconds, none->seconds / warm->seconds,
			 warm->totals.origin_requests, none->totals.origin_requests, first, room);
	else if (gain < 0)
		snprintf(text, size,
			 "Do not use the cache for this command as it is: even warm it takes %.2f "
			 "s, "
			 "%.2f s (%.0f %%) longer than without; %s%s.",
			 warm->seconds, -gain, dz_percent(-gain, none->seconds), first, room);
	else
		snprintf(text, size,
			 "The cache does not change how long this command takes (%.2f s warm, %.2f "
			 "s "
			 "without; at most %.0f %% of the time one process waits for data), but it "
			 "sends %" PRIu64 " requests instead of %" PRIu64 "; %s%s.",
			 warm->seconds, none->seconds,
			 dz_percent(longest_wait(none), none->seconds),
			 warm->totals.origin_requests, none->totals.origin_requests, first, room);
}
