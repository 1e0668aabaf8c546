// SPDX-License-Identifier: MIT
/*
 * Which path a descriptor of a process stands for, as far as its events have told:
 * a call that closes a descriptor, or names it elsewhere than as its first
 * argument, comes without.  A table of the latest; a wrong guess is impossible,
 * because a number gets its path from the call that opened it.
 */
#include "tools/trace.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define ENTRIES 8192

static struct {
	uint64_t key; /* pid:32 | fd:32, 0: free */
	char *path;
} entries[ENTRIES];

static size_t place(uint64_t key)
{
	return (size_t)((key * 0x9e3779b97f4a7c15ull) >> 51) % ENTRIES;
}

const char *trace_path_of(uint32_t pid, int64_t fd)
{
	uint64_t key = (uint64_t)pid << 32 | (uint32_t)fd;
	size_t i = place(key);

	return fd >= 0 && entries[i].key == key ? entries[i].path : NULL;
}

static void learn(uint32_t pid, int64_t fd, const char *path)
{
	uint64_t key = (uint64_t)pid << 32 | (uint32_t)fd;
	size_t i = place(key);

	if (fd < 0 || fd > INT32_MAX ||
	    (entries[i].key == key && strcmp(entries[i].path, path) == 0))
		return;
	free(entries[i].path);
	entries[i].path = strdup(path);
	entries[i].key = entries[i].path ? key : 0;
}

/* Does the call give a descriptor of the file that its first argument names? */
static bool copies_fd(const struct trace_event *ev)
{
	const char *name = trace_call_info(ev->call)->symbol;

	return strncmp(name, "dup", 3) == 0 ||
	       (strcmp(name, "fcntl") == 0 && ev->result > 2 &&
		(ev->args[1] == F_DUPFD || ev->args[1] == F_DUPFD_CLOEXEC));
}

void trace_path_learn(struct trace_event *ev)
{
	if (trace_gives_fd(ev)) {
		if (ev->fd_path)
			learn(ev->pid, ev->result, ev->fd_path);
		return;
	}
	if (!trace_has_fd(ev))
		return;
	if (!ev->fd_path)
		ev->fd_path = trace_path_of(ev->pid, (int64_t)ev->args[0]);
	if (!ev->fd_path)
		return;
	learn(ev->pid, (int64_t)ev->args[0], ev->fd_path);
	if (ev->result >= 0 && copies_fd(ev))
		learn(ev->pid, ev->result, ev->fd_path);
}
