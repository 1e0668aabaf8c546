// SPDX-License-Identifier: MIT
/* The calls of hooks.def by their numbers, and how each looks in a trace. */
#include "tools/trace.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum call_number {
#define HOOK(name, family) CALL_##name,
#define ALIAS(alias, name, family)
#define SKIP(name, reason)
#include "shim/hooks.def"
#undef HOOK
	CALLS
};

#define FILE_  TRACE_FILE
#define DESC   TRACE_DESC
#define MEMORY TRACE_MEMORY
#define DATA   TRACE_DATA
#define ADDR   TRACE_ADDR

static const struct trace_call_info symbols[CALLS] = {
#define HOOK(name, family) { #name, #name, NULL, 0 },
#include "shim/hooks.def"
};

static const struct trace_call_info shown[CALLS] = {
#define DZ_TRACE_CALL(symbol, name, args, classes)                                                 \
	[CALL_##symbol] = { #symbol, name, args, classes },
#include "tools/trace_calls.def"
};

const struct trace_call_info *trace_call_info(uint32_t call)
{
	static const struct trace_call_info unknown = { "?", "?", NULL, 0 };

	if (call >= CALLS)
		return &unknown;
	return shown[call].symbol ? &shown[call] : &symbols[call];
}

void trace_event_free(struct trace_event *ev)
{
	free(ev->text);
	ev->text = NULL;
}

bool trace_has_fd(const struct trace_event *ev)
{
	const struct trace_call_info *info = trace_call_info(ev->call);

	return info->args && info->args[0] == 'f';
}

bool trace_gives_fd(const struct trace_event *ev)
{
	const struct trace_call_info *info = trace_call_info(ev->call);

	return ev->result >= 0 && info->args && strncmp(info->args, "DsOo", 4) == 0;
}

const char *trace_tier(const struct trace_event *ev)
{
	static const char *const names[DZ_TIERS] = { "dram", "disk", "peer", "blob" };
	uint32_t classes = trace_call_info(ev->call)->classes;

	if (ev->is_bypass)
		return "bypass";
	if (ev->tier)
		return names[ev->tier % DZ_TIERS];
	if ((classes & TRACE_DATA) && ev->result > 0)
		return names[0];
	/* A name is looked up in the cache, also one that is not there. */
	return (classes & TRACE_FILE) && (ev->result >= 0 || ev->result == -ENOENT) ? names[0]
										    : NULL;
}
