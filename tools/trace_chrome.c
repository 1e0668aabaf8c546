// SPDX-License-Identifier: MIT
/*
 * Chrome's trace format, as Perfetto reads it: an array of complete events
 * ("ph": "X"), times in microseconds since the trace began: since 1970 they would not
 * keep their nanoseconds in the double that a reader makes of them, and calls would
 * overlap.  The array may lack its end: a trace that was cut off opens as well.
 *
 * DFTracer's is the same but for this: one event a line, without commas between
 * them (its tools parse lines, and Perfetto does not miss the commas), whole
 * microseconds, and files and the host as hashes, told by metadata ("ph": "M").
 */
#include "tools/trace.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "tools/totals.h"

#define PATHS_TOLD 65536u

static uint64_t began_ns;

void trace_chrome_begin(FILE *to, uint64_t wall_ns)
{
	began_ns = wall_ns;
	fputs("[\n", to);
}

/*
 * A clock that is still being learned moves a call against the one before it, by less
 * than the time of a call, and Perfetto drops what overlaps another without lying in
 * it.  Calls come here when they end, each thread's in order: none ends before the one
 * that came before it, and none begins within one that it does not hold whole.  Kept
 * are the calls of a thread that a later one may still touch; a call that holds others
 * (a handler's, in the middle of a read) takes their place.
 */
#define SPANS 8u

struct spans {
	uint32_t tid, n;
	struct {
		uint64_t start, end;
	} span[SPANS]; /* one after the other */
};

static void settle(const struct trace_event *ev, uint64_t *start, uint64_t *end)
{
	static struct spans threads[1024];
	struct spans *t = &threads[ev->tid % DZ_ARRAY_LEN(threads)];

	if (t->tid != ev->tid)
		*t = (struct spans){ .tid = ev->tid };
	*start = ev->start_ns;
	*end = ev->start_ns + ev->ns;
	if (t->n > 0 && *end < t->span[t->n - 1].end)
		*end = t->span[t->n - 1].end;
	while (t->n > 0 && *start <= t->span[t->n - 1].start)
		t->n--;
	if (t->n > 0 && *start < t->span[t->n - 1].end)
		*start = t->span[t->n - 1].end;
	if (t->n == SPANS)
		memmove(t->span, t->span + 1, --t->n * sizeof(t->span[0]));
	t->span[t->n].start = *start;
	t->span[t->n++].end = *end;
}

static void put_us(FILE *to, const char *name, uint64_t ns)
{
	fprintf(to, ", \"%s\": %" PRIu64 ".%03u", name, ns / 1000, (unsigned int)(ns % 1000));
}

static const char *path_of(const struct trace_event *ev)
{
	if (ev->fd_path)
		return ev->fd_path;
	for (uint32_t i = 0; i < 6; i++) {
		if (ev->strings[i])
			return ev->strings[i];
	}
	return NULL;
}

static uint64_t hash_of(const char *text)
{
	uint64_t hash = 14695981039346656037ull;

	for (; *text; text++)
		hash = (hash ^ (unsigned char)*text) * 1099511628211ull;
	return hash;
}

static uint64_t host_hash(char name[65])
{
	name[64] = '\0';
	if (gethostname(name, 64) < 0)
		name[0] = '\0';
	return hash_of(name);
}

static void put_args(FILE *to, const struct trace_event *ev)
{
	const struct trace_call_info *info = trace_call_info(ev->call);
	const char *path = path_of(ev), *tier = trace_tier(ev);

	fprintf(to, "\"ret\": %" PRId64, ev->result);
	if (path) {
		fputs(", \"fname\": ", to);
		dz_json_string(to, path);
	}
	if ((info->classes & TRACE_DATA) && ev->result >= 0)
		fprintf(to, ", \"size\": %" PRId64, ev->result);
	if (info->args && info->args[0] == 'f')
		fprintf(to, ", \"fd\": %d", (int)ev->args[0]);
	if (tier)
		fprintf(to, ", \"tier\": \"%s\"", tier);
	if (ev->gets)
		fprintf(to, ", \"gets\": %u", ev->gets);
	if (ev->tier)
		fprintf(to, ", \"queue_us\": %u, \"net_us\": %u, \"disk_us\": %u", ev->queue_us,
			ev->net_us, ev->disk_us);
}

static void put_head(FILE *to, const struct trace_event *ev, const char *name, const char *cat,
		     char ph)
{
	static uint64_t id;

	fprintf(to, "{\"id\": %" PRIu64 ", \"name\": \"%s\", \"cat\": \"%s\", \"ph\": \"%c\"", id++,
		name, cat, ph);
	fprintf(to, ", \"pid\": %u, \"tid\": %u", ev->pid, ev->tid);
}

void trace_chrome_event(FILE *to, const struct trace_event *ev, bool is_first)
{
	uint64_t start, end;

	settle(ev, &start, &end);
	fputs(is_first ? "" : ",\n", to);
	put_head(to, ev, trace_call_info(ev->call)->symbol, "POSIX", 'X');
	put_us(to, "ts", start > began_ns ? start - began_ns : 0);
	put_us(to, "dur", end - start);
	fputs(", \"args\": {", to);
	put_args(to, ev);
	fputs("}}", to);
}

static void put_hash(FILE *to, const struct trace_event *ev, const char *kind, const char *text,
		     uint64_t hash)
{
	put_head(to, ev, kind, "dftracer", 'M');
	fputs(", \"args\": {\"name\": ", to);
	dz_json_string(to, text);
	fprintf(to, ", \"value\": \"%016" PRIx64 "\"}}\n", hash);
}

/* Told again is no harm: the tools take the first. */
static bool is_told(uint64_t hash)
{
	static uint64_t told[PATHS_TOLD];
	bool was = told[hash % PATHS_TOLD] == hash;

	told[hash % PATHS_TOLD] = hash;
	return was;
}

void trace_dftracer_event(FILE *to, const struct trace_event *ev, bool is_first)
{
	const char *path = path_of(ev);
	uint64_t hash = path ? hash_of(path) : 0, host, start, end;
	char name[65];

	settle(ev, &start, &end);
	host = host_hash(name);
	if (is_first)
		put_hash(to, ev, "HH", name, host);
	if (path && !is_told(hash))
		put_hash(to, ev, "FH", path, hash);
	put_head(to, ev, trace_call_info(ev->call)->symbol, "POSIX", 'X');
	fprintf(to, ", \"ts\": %" PRIu64 ", \"dur\": %" PRIu64, start / 1000,
		end / 1000 - start / 1000);
	fprintf(to, ", \"args\": {\"hhash\": \"%016" PRIx64 "\", ", host);
	if (path)
		fprintf(to, "\"fhash\": \"%016" PRIx64 "\", ", hash);
	put_args(to, ev);
	fputs("}}\n", to);
}

void trace_chrome_end(FILE *to)
{
	fputs("\n]\n", to);
}
