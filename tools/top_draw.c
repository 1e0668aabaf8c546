// SPDX-License-Identifier: MIT
/* The lines of dz top, as wide and as many as the screen. */
#include "tools/top.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tools/human.h"
#include "tools/totals.h"

struct page {
	FILE *to;
	uint32_t rows, columns; /* left; as wide */
};

static bool is_full(const struct page *p)
{
	return p->rows == 0;
}

/* One line, cut off at the edge. */
static void put(struct page *p, const char *fmt, ...) DZ_PRINTF(2, 3);
static void put(struct page *p, const char *fmt, ...)
{
	char line[512];
	va_list ap;

	if (is_full(p))
		return;
	p->rows--;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (p->columns < sizeof(line))
		line[p->columns] = '\0';
	fputs(line, p->to);
	putc('\n', p->to);
}

/* "12.3K": at most five characters. */
static const char *count(double n, char buf[16])
{
	static const char units[] = " KMGT";
	int i = 0;

	while (n >= 999.5 && units[i + 1]) {
		n /= 1000;
		i++;
	}
	if (i == 0)
		snprintf(buf, 16, "%.0f", n);
	else
		snprintf(buf, 16, "%.*f%c", n < 9.95 ? 1 : 0, n, units[i]);
	return buf;
}

static double rate(uint64_t n, const struct top_sample *s)
{
	return s->seconds > 0 ? (double)n / s->seconds : 0;
}

/* A share of the time of one thread; several that wait are more than 100. */
static double wait_percent(const struct top_counts *c, const struct top_sample *s)
{
	return s->seconds > 0 ? (double)c->wait_ns / 1e7 / s->seconds : 0;
}

static void shares(const struct top_counts *c, double out[DZ_TIERS])
{
	uint64_t all = 0;

	for (int i = 0; i < DZ_TIERS; i++)
		all += c->hit_bytes[i];
	for (int i = 0; i < DZ_TIERS; i++)
		out[i] = dz_percent((double)c->hit_bytes[i], (double)all);
}

static void draw_head(struct page *p, const struct top_sample *s)
{
	char a[DZ_HUMAN_BYTES], b[DZ_HUMAN_BYTES], c[DZ_HUMAN_BYTES], d[DZ_HUMAN_BYTES];
	const struct top_counts *n = &s->now;
	char calls[16], requests[16], when[16];
	time_t now = time(NULL);
	double share[DZ_TIERS];
	struct tm tm;

	localtime_r(&now, &tm);
	strftime(when, sizeof(when), "%H:%M:%S", &tm);
	shares(n, share);
	put(p, "dz top - %s  %s: %u processes, %u files open", when, s->dir, s->n_processes,
	    s->n_open);
	put(p, "DRAM  %s of %s, NVMe %s of %s, evictions %.0f/s", dz_human(s->dram_used, a),
	    dz_human(s->dram_size, b), dz_human(s->disk_used, c), dz_human(s->disk_size, d),
	    rate(n->evictions, s));
	put(p,
	    "calls %s/s, read %s/s: dram %.1f %%, disk %.1f %%, peer %.1f %%, blob %.1f %%; "
	    "waiting %.1f %%",
	    count(rate(n->calls, s), calls), dz_human((uint64_t)rate(n->bytes, s), a),
	    share[DZ_TIER_DRAM], share[DZ_TIER_DISK], share[DZ_TIER_PEER], share[DZ_TIER_BLOB],
	    wait_percent(n, s));
	put(p,
	    "Blob  %s requests/s, %s/s, errors %" PRIu64 ", retries %" PRIu64
	    "; call errors %.0f/s, bypass %" PRIu64,
	    count(rate(n->origin_requests, s), requests),
	    dz_human((uint64_t)rate(n->origin_bytes, s), a), s->all.origin_errors,
	    s->all.origin_retries, rate(n->errors, s), s->all.bypass);
}

static void draw_process(struct page *p, const struct top_sample *s, const struct top_process *x,
			 uint32_t depth)
{
	char calls[16], bytes[DZ_HUMAN_BYTES];
	double share[DZ_TIERS];

	shares(&x->now, share);
	put(p, "%7u %8s %10s/s %6.1f %6.1f %6.1f %6.1f %6.1f %6.0f %5u %*s%s%s", x->pid,
	    count(rate(x->now.calls, s), calls), dz_human((uint64_t)rate(x->now.bytes, s), bytes),
	    share[DZ_TIER_DRAM], share[DZ_TIER_DISK], share[DZ_TIER_PEER], share[DZ_TIER_BLOB],
	    wait_percent(&x->now, s), rate(x->now.errors, s), x->open_files,
	    (int)(depth ? 2 * depth + 1 : 0), depth ? "\\_ " : "", x->comm,
	    x->is_agent ? " (agent)" : "");
}

/* Its number is that of a parent only as long as that is the older one. */
static bool is_child(const struct top_process *x, const struct top_process *of)
{
	return x->parent == of->pid && x->pid != of->pid && of->since_ms <= x->since_ms;
}

static bool has_parent(const struct top_sample *s, const struct top_process *x)
{
	for (uint32_t i = 0; i < s->n_processes; i++) {
		if (is_child(x, &s->processes[i]))
			return true;
	}
	return false;
}

/* Those of one parent in their order, each with its own below it; `keep` rows stay free. */
static void draw_family(struct page *p, const struct top_sample *s, const struct top_process *of,
			uint32_t depth, uint32_t keep)
{
	for (uint32_t i = 0; i < s->n_processes && p->rows > keep; i++) {
		const struct top_process *x = &s->processes[i];

		if (of ? !is_child(x, of) : has_parent(s, x))
			continue;
		draw_process(p, s, x, depth);
		draw_family(p, s, x, depth + 1, keep);
	}
}

static void draw_file(struct page *p, const struct top_sample *s, const struct top_file *f)
{
	char bytes[DZ_HUMAN_BYTES], size[DZ_HUMAN_BYTES];

	put(p, "%10s/s %10s %6.1f %5u %s", dz_human((uint64_t)rate(f->bytes, s), bytes),
	    dz_human(f->size, size), dz_percent((double)f->at, (double)f->size), f->opens, f->name);
}

void top_draw(FILE *to, const struct top_sample *s, uint32_t rows, uint32_t columns,
	      enum top_order order)
{
	struct page p = { to, rows ? rows : UINT32_MAX, columns };
	uint32_t for_files;

	draw_head(&p, s);
	put(&p, "%s", "");
	put(&p,
	    "    PID  CALLS/S       READ/S  DRAM%%  DISK%%  PEER%%  BLOB%%  WAIT%% ERR/S OPENS "
	    "COMMAND"
	    "  (by %s)",
	    top_order_names[order]);
	/* At least a third of the screen is the files'. */
	for_files = rows ? (uint32_t)dz_min_u64(s->n_files, rows / 3) + 2 : 0;
	draw_family(&p, s, NULL, 0, for_files);
	if (!s->n_files || p.rows < 3)
		return;
	put(&p, "%s", "");
	put(&p, "      READ/S       SIZE    AT%% OPENS FILE");
	for (uint32_t i = 0; i < s->n_files && !is_full(&p) && (rows || i < 10); i++)
		draw_file(&p, s, &s->files[i]);
}

/* ---- JSON ---- */

static void json_counts(FILE *to, const struct top_sample *s, const struct top_counts *c)
{
	static const char *const tiers[DZ_TIERS] = { "dram", "disk", "peer", "blob" };

	fprintf(to, "\"calls_per_s\": %.1f, \"bytes_per_s\": %.1f, \"errors_per_s\": %.1f, ",
		rate(c->calls, s), rate(c->bytes, s), rate(c->errors, s));
	fprintf(to, "\"waiting\": %.4f, \"bytes_per_s_by_tier\": {", wait_percent(c, s) / 100);
	for (int i = 0; i < DZ_TIERS; i++)
		fprintf(to, "%s\"%s\": %.1f", i ? ", " : "", tiers[i], rate(c->hit_bytes[i], s));
	fputs("}", to);
}

void top_json(FILE *to, const struct top_sample *s)
{
	fprintf(to, "{\"time\": %lld, \"seconds\": %.3f, ", (long long)time(NULL), s->seconds);
	json_counts(to, s, &s->now);
	fprintf(to,
		", \"origin\": {\"requests_per_s\": %.1f, \"bytes_per_s\": %.1f, \"errors\": "
		"%" PRIu64 ", \"retries\": %" PRIu64 "}, \"evictions_per_s\": %.1f",
		rate(s->now.origin_requests, s), rate(s->now.origin_bytes, s), s->all.origin_errors,
		s->all.origin_retries, rate(s->now.evictions, s));
	fprintf(to, ", \"dram\": {\"used\": %" PRIu64 ", \"size\": %" PRIu64 "}", s->dram_used,
		s->dram_size);
	fprintf(to, ", \"disk\": {\"used\": %" PRIu64 ", \"size\": %" PRIu64 "}", s->disk_used,
		s->disk_size);
	fputs(", \"processes\": [", to);
	for (uint32_t i = 0; i < s->n_processes; i++) {
		const struct top_process *p = &s->processes[i];

		fprintf(to,
			"%s{\"pid\": %u, \"parent\": %u, \"agent\": %s, \"opens\": %u, \"comm\": ",
			i ? ", " : "", p->pid, p->parent, p->is_agent ? "true" : "false",
			p->open_files);
		dz_json_string(to, p->comm);
		fputs(", ", to);
		json_counts(to, s, &p->now);
		putc('}', to);
	}
	fputs("], \"files\": [", to);
	for (uint32_t i = 0; i < s->n_files; i++) {
		const struct top_file *f = &s->files[i];

		fprintf(to, "%s{\"name\": ", i ? ", " : "");
		dz_json_string(to, f->name);
		fprintf(to, ", \"size\": %" PRIu64 ", \"opens\": %u, \"bytes_per_s\": %.1f}",
			f->size, f->opens, rate(f->bytes, s));
	}
	fputs("]}\n", to);
}
