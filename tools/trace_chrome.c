// SPDX-License-Identifier: MIT
/*
 * Chrome's trace format, as Perfetto and the tools of DFTracer read it: an array
 * of complete events ("ph": "X"), times in microseconds.  The array may lack its
 * end: a trace that was cut off opens as well.
 */
#include "tools/trace.h"

#include <inttypes.h>

#include "tools/totals.h"

void trace_chrome_begin(FILE *to)
{
	fputs("[\n", to);
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

void trace_chrome_event(FILE *to, const struct trace_event *ev, bool is_first)
{
	static uint64_t id;

	fprintf(to, "%s{\"id\": %" PRIu64 ", \"name\": \"%s\", \"cat\": \"POSIX\", \"ph\": \"X\"",
		is_first ? "" : ",\n", id++, trace_call_info(ev->call)->symbol);
	fprintf(to, ", \"pid\": %u, \"tid\": %u", ev->pid, ev->tid);
	put_us(to, "ts", ev->start_ns);
	put_us(to, "dur", ev->ns);
	fputs(", \"args\": {", to);
	put_args(to, ev);
	fputs("}}", to);
}

void trace_chrome_end(FILE *to)
{
	fputs("\n]\n", to);
}
