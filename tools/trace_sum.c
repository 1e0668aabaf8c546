// SPDX-License-Identifier: MIT
/*
 * The table of -c: strace's columns, then where the bytes came from and how long
 * calls took.  Rows are collected by the number of a call, from the tables that
 * threads keep or from events, and joined by name when they are printed.
 */
#include "tools/trace.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/json.h"

void trace_sum_event(struct trace_sum *sum, const struct trace_event *ev)
{
	struct trace_sum_row *r = &sum->rows[ev->call % DZ_STAT_CALLS];

	if (ev->is_bypass)
		return;
	r->calls[ev->tier]++;
	r->ns[ev->tier] += ev->ns;
	r->errors += ev->result < 0;
	r->bytes += ev->result > 0 ? (uint64_t)ev->result : 0;
	r->max_ns = dz_max_u64(r->max_ns, ev->ns);
	r->queue_ns += (uint64_t)ev->queue_us * 1000;
	r->net_ns += (uint64_t)ev->net_us * 1000;
	r->disk_ns += (uint64_t)ev->disk_us * 1000;
	r->buckets[ev->tier][dz_trace_bucket(ev->end - ev->start)]++;
}

/* ---- the tables of threads ---- */

static uint64_t load(const _Atomic uint64_t *n)
{
	return atomic_load_explicit(n, memory_order_relaxed);
}

/* A timed call of tier 0 stands for others; those since the last one for none. */
static double share_of(uint64_t calls, uint64_t timed)
{
	return timed ? (double)calls / (double)timed : 0;
}

static void add_row(struct trace_sum_row *r, const struct dz_trace_row *from,
		    const struct trace_session *s)
{
	for (int t = 0; t < DZ_TIERS; t++) {
		const struct dz_trace_counts *c = &from->tiers[t];
		uint64_t calls = load(&c->calls);
		double share = share_of(calls, load(&c->timed));

		r->calls[t] += calls;
		r->ns[t] += (uint64_t)((double)trace_ns(s, load(&c->ticks)) * share);
		r->bytes += load(&c->bytes);
		r->errors += load(&c->errors);
		r->max_ns = dz_max_u64(r->max_ns, trace_ns(s, load(&c->max)));
		r->queue_ns += load(&c->queue_ns);
		r->net_ns += load(&c->net_ns);
		r->disk_ns += load(&c->disk_ns);
		for (int b = 0; b < DZ_TRACE_BUCKETS; b++)
			r->buckets[t][b] +=
				atomic_load_explicit(&c->buckets[b], memory_order_relaxed);
	}
}

static bool is_gone(uint64_t owner)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%u/task/%u", (unsigned int)(owner >> 32),
		 (unsigned int)owner);
	return access(path, F_OK) < 0;
}

void trace_sum_tables(struct trace_sum *sum, const struct trace_session *s, bool all)
{
	for (uint32_t i = 0; i < DZ_TRACE_TABLES; i++) {
		struct dz_trace_table *t = &s->file->tables[i];
		bool is_shared = i == DZ_TRACE_TABLES - 1;
		uint64_t owner = load(&t->owner);

		if (!all && (is_shared || !owner || !is_gone(owner)))
			continue;
		for (uint32_t k = 0; k < DZ_TRACE_ROWS; k++) {
			uint32_t call = t->call[k];

			if (call && call <= DZ_STAT_CALLS)
				add_row(&sum->rows[call - 1], &t->rows[k], s);
		}
		sum->lost += load(&t->lost);
		if (all)
			continue;
		/* Nobody writes there any more; with the owner it becomes free. */
		memset((char *)t + sizeof(t->owner), 0, sizeof(*t) - sizeof(t->owner));
		atomic_store_explicit(&t->owner, 0, memory_order_release);
	}
}

/* ---- what was not served ---- */

static struct trace_missed *missed_of(struct trace_sum *sum, uint64_t what, uint64_t caller,
				      const char *library)
{
	uint32_t pid = (uint32_t)(what >> 32), call = (uint32_t)(what >> 16) & 0xffff;
	struct trace_missed *m = sum->missed;

	for (uint32_t i = 0; i < sum->n_missed; i++, m++) {
		if (m->pid == pid && m->call == call && m->caller == caller &&
		    m->err == (what & 0xffff))
			return m;
	}
	if (sum->n_missed == TRACE_MISSED_MAX)
		return NULL;
	sum->n_missed++;
	*m = (struct trace_missed){ .pid = pid, .call = call, .caller = caller };
	m->err = (uint32_t)(what & 0xffff);
	snprintf(m->library, sizeof(m->library), "%.39s", library);
	return m;
}

void trace_sum_missed(struct trace_sum *sum, const struct trace_session *s)
{
	for (uint32_t i = 0; i < DZ_TRACE_MISSED; i++) {
		const struct dz_trace_missed *from = &s->file->missed[i];
		uint64_t what = load(&from->what),
			 caller = atomic_load_explicit(&from->caller, memory_order_acquire);
		struct trace_missed *m =
			what && caller ? missed_of(sum, what, caller, from->library) : NULL;

		if (m)
			m->n = load(&from->n);
	}
}

static void print_missed(FILE *to, const struct trace_sum *sum)
{
	if (!sum->n_missed)
		return;
	fputs("\nbypass: calls on a mount that were not served\n"
	      "    calls symbol           library                  reason\n"
	      "--------- ---------------- ------------------------ ----------------\n",
	      to);
	for (uint32_t i = 0; i < sum->n_missed; i++) {
		const struct trace_missed *m = &sum->missed[i];
		const char *name = strerrorname_np((int)m->err);

		fprintf(to, "%9" PRIu64 " %-16s %-24s %s (%s)\n", m->n,
			trace_call_info(m->call)->symbol, m->library[0] ? m->library : "?",
			name ? name : "?", strerror((int)m->err));
	}
}

/* ---- the table ---- */

struct line {
	const char *name;
	bool is_data;
	bool is_name; /* looks up a name: in memory unless a tier says otherwise */
	struct trace_sum_row r;
	uint64_t calls, ns, buckets[DZ_TRACE_BUCKETS];
};

static void join(struct line *l, const struct trace_sum_row *r)
{
	for (int t = 0; t < DZ_TIERS; t++) {
		l->r.calls[t] += r->calls[t];
		l->calls += r->calls[t];
		l->ns += r->ns[t];
		for (int b = 0; b < DZ_TRACE_BUCKETS; b++)
			l->buckets[b] += r->buckets[t][b];
	}
	l->r.errors += r->errors;
	l->r.max_ns = dz_max_u64(l->r.max_ns, r->max_ns);
	if (l->is_data)
		l->r.bytes += r->bytes;
}

static uint32_t collect(struct line *lines, const struct trace_sum *sum,
			const struct trace_filter *f)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < DZ_STAT_CALLS; i++) {
		const struct trace_call_info *info = trace_call_info(i);
		uint64_t calls = 0;
		uint32_t k = 0;

		for (int t = 0; t < DZ_TIERS; t++)
			calls += sum->rows[i].calls[t];
		if (!calls || !f->calls[i])
			continue;
		while (k < n && strcmp(lines[k].name, info->name) != 0)
			k++;
		if (k == n)
			lines[n++] = (struct line){ .name = info->name,
						    .is_data = info->classes & TRACE_DATA };
		lines[k].is_name |= (info->classes & TRACE_FILE) != 0;
		join(&lines[k], &sum->rows[i]);
	}
	return n;
}

/* What a line is sorted by; more is first. */
static uint64_t weight(const struct line *l, enum trace_order order)
{
	switch (order) {
	case TRACE_BY_CALLS:
		return l->calls;
	case TRACE_BY_ERRORS:
		return l->r.errors;
	case TRACE_BY_BYTES:
		return l->r.bytes;
	case TRACE_BY_AVERAGE:
		return l->calls ? l->ns / l->calls : 0;
	case TRACE_BY_MAX:
		return l->r.max_ns;
	case TRACE_BY_NAME:
		return 0;
	default:
		return l->ns;
	}
}

static int compare(const void *a, const void *b, void *order)
{
	uint64_t x = weight(a, *(enum trace_order *)order),
		 y = weight(b, *(enum trace_order *)order);

	if (x != y)
		return x > y ? -1 : 1;
	return strcmp(((const struct line *)a)->name, ((const struct line *)b)->name);
}

bool trace_order_named(const char *name, enum trace_order *order)
{
	static const struct {
		const char *name;
		enum trace_order order;
	} orders[] = {
		{ "time", TRACE_BY_TIME },	  { "time-total", TRACE_BY_TIME },
		{ "total-time", TRACE_BY_TIME },  { "calls", TRACE_BY_CALLS },
		{ "count", TRACE_BY_CALLS },	  { "errors", TRACE_BY_ERRORS },
		{ "error", TRACE_BY_ERRORS },	  { "bytes", TRACE_BY_BYTES },
		{ "avg-time", TRACE_BY_AVERAGE }, { "time-avg", TRACE_BY_AVERAGE },
		{ "max-time", TRACE_BY_MAX },	  { "time-max", TRACE_BY_MAX },
		{ "longest", TRACE_BY_MAX },	  { "name", TRACE_BY_NAME },
		{ "syscall", TRACE_BY_NAME },	  { "none", TRACE_UNSORTED },
		{ "nothing", TRACE_UNSORTED },
	};

	for (size_t i = 0; i < DZ_ARRAY_LEN(orders); i++) {
		if (strcmp(orders[i].name, name) == 0) {
			*order = orders[i].order;
			return true;
		}
	}
	return false;
}

/* No call in the first `share` of them took longer, to the bucket. */
static uint64_t quantile(const struct line *l, double share, const struct trace_session *s)
{
	uint64_t seen = 0, all = 0, want;

	for (uint32_t b = 0; b < DZ_TRACE_BUCKETS; b++)
		all += l->buckets[b];
	want = (uint64_t)(share * (double)all);
	for (uint32_t b = 0; b < DZ_TRACE_BUCKETS; b++) {
		seen += l->buckets[b];
		if (seen > want || seen == all)
			return dz_min_u64(trace_ns(s, dz_trace_bucket_end(b)), l->r.max_ns);
	}
	return l->r.max_ns;
}

static void put_time(FILE *to, uint64_t ns)
{
	char text[32];

	if (ns < 10000)
		snprintf(text, sizeof(text), "%" PRIu64 "ns", ns);
	else if (ns < 10000000)
		snprintf(text, sizeof(text), "%" PRIu64 "us", ns / 1000);
	else if (ns < 10000000000)
		snprintf(text, sizeof(text), "%" PRIu64 "ms", ns / 1000000);
	else
		snprintf(text, sizeof(text), "%" PRIu64 "s", ns / 1000000000);
	fprintf(to, " %7s", text);
}

static void put_count(FILE *to, uint64_t n, int width)
{
	if (n)
		fprintf(to, " %*" PRIu64, width, n);
	else
		fprintf(to, " %*s", width, "");
}

static void print_line(FILE *to, const struct line *l, uint64_t all_ns,
		       const struct trace_session *s)
{
	static const double shares[] = { 0.5, 0.99, 0.999 };

	fprintf(to, "%6.2f %11.6f %11" PRIu64 " %9" PRIu64,
		all_ns ? 100.0 * (double)l->ns / (double)all_ns : 0.0, (double)l->ns / 1e9,
		l->calls ? l->ns / l->calls / 1000 : 0, l->calls);
	put_count(to, l->r.errors, 9);
	for (int t = 0; t < DZ_TIERS; t++)
		put_count(to, t || l->is_data || l->is_name ? l->r.calls[t] : 0, 8);
	put_count(to, l->is_data ? l->r.bytes : 0, 13);
	for (size_t i = 0; i < DZ_ARRAY_LEN(shares); i++)
		put_time(to, quantile(l, shares[i], s));
	put_time(to, l->r.max_ns);
	fprintf(to, " %s\n", l->name);
}

static void print_rule(FILE *to)
{
	fputs("------ ----------- ----------- --------- --------- -------- -------- -------- "
	      "--------"
	      " ------------- ------- ------- ------- ------- ----------------\n",
	      to);
}

/* The table's lines in their order; the caller frees them. */
static struct line *sorted_lines(const struct trace_sum *sum, const struct trace_filter *f,
				 enum trace_order order, uint32_t *n)
{
	struct line *lines = calloc(DZ_STAT_CALLS, sizeof(*lines));

	if (!lines)
		abort();
	*n = collect(lines, sum, f);
	if (order != TRACE_UNSORTED)
		qsort_r(lines, *n, sizeof(*lines), compare, &order);
	return lines;
}

void trace_sum_print(FILE *to, const struct trace_sum *sum, const struct trace_session *s,
		     const struct trace_filter *f, enum trace_order order)
{
	struct line total = { .name = "total", .is_data = true, .is_name = true };
	uint64_t tier0 = 0;
	uint32_t n;
	struct line *lines = sorted_lines(sum, f, order, &n);

	fputs("% time     seconds  usecs/call     calls    errors     dram     disk     peer     "
	      "blob"
	      "         bytes     p50     p99   p99.9     max syscall\n",
	      to);
	print_rule(to);
	for (uint32_t i = 0; i < n; i++) {
		total.ns += lines[i].ns;
		if (lines[i].is_data || lines[i].is_name)
			tier0 += lines[i].r.calls[0];
	}
	for (uint32_t i = 0; i < n; i++) {
		struct trace_sum_row *r = &lines[i].r;
		uint64_t ns = total.ns;

		print_line(to, &lines[i], ns, s);
		join(&total, r);
		total.ns = ns;
	}
	total.r.calls[0] = tier0;
	print_rule(to);
	print_line(to, &total, total.ns, s);
	if (sum->lost)
		fprintf(to, "%" PRIu64 " calls had no room in the table\n", sum->lost);
	print_missed(to, sum);
	free(lines);
}

/* ---- JSON ---- */

static void json_line(FILE *to, const struct line *l, const struct trace_session *s)
{
	static const char *const tiers[DZ_TIERS] = { "dram", "disk", "peer", "blob" };
	const char *comma = "";

	fprintf(to,
		"{\"name\": \"%s\", \"calls\": %" PRIu64 ", \"errors\": %" PRIu64
		", \"seconds\": %.9f, \"bytes\": %" PRIu64 ", \"tiers\": {",
		l->name, l->calls, l->r.errors, (double)l->ns / 1e9, l->is_data ? l->r.bytes : 0);
	for (int t = 0; t < DZ_TIERS; t++) {
		if (t || l->is_data || l->is_name)
			fprintf(to, "%s\"%s\": %" PRIu64, comma, tiers[t], l->r.calls[t]);
		comma = t || l->is_data || l->is_name ? ", " : "";
	}
	fprintf(to,
		"}, \"p50_ns\": %" PRIu64 ", \"p99_ns\": %" PRIu64 ", \"p999_ns\": %" PRIu64
		", \"max_ns\": %" PRIu64 "}",
		quantile(l, 0.5, s), quantile(l, 0.99, s), quantile(l, 0.999, s), l->r.max_ns);
}

static void json_missed(FILE *to, const struct trace_missed *m)
{
	const char *name = strerrorname_np((int)m->err);

	fprintf(to, "{\"calls\": %" PRIu64 ", \"symbol\": \"%s\", \"library\": ", m->n,
		trace_call_info(m->call)->symbol);
	dz_json_string(to, m->library);
	fprintf(to, ", \"error\": \"%s\"}", name ? name : "?");
}

void trace_sum_json(FILE *to, const struct trace_sum *sum, const struct trace_session *s,
		    const struct trace_filter *f, enum trace_order order)
{
	uint32_t n;
	struct line *lines = sorted_lines(sum, f, order, &n);

	fputs("{\"calls\": [", to);
	for (uint32_t i = 0; i < n; i++) {
		fputs(i ? ", " : "", to);
		json_line(to, &lines[i], s);
	}
	fputs("], \"bypass\": [", to);
	for (uint32_t i = 0; i < sum->n_missed; i++) {
		fputs(i ? ", " : "", to);
		json_missed(to, &sum->missed[i]);
	}
	fprintf(to, "], \"lost\": %" PRIu64 "}\n", sum->lost);
	free(lines);
}
