// SPDX-License-Identifier: MIT
/*
 * Who belongs to whom in dz top.  A record knows from whom it was forked.  Of the
 * others (a program that was started, a loader's workers of spawn and forkserver, a
 * fork of a process that has touched no mount) /proc knows the ancestors:
 *
 *     the nearest one that is a member is the parent,
 *     else the first one that was started with our library: it gets a row too.
 */
#include "cache/trace.h"
#include "tools/top.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ANCESTORS_MAX 32

/* Up to len - 1 bytes of /proc/PID/NAME, with a NUL behind them; how many. */
static size_t read_proc(uint32_t pid, const char *name, char *buf, size_t len)
{
	char path[64];
	size_t n = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%u/%s", pid, name);
	f = fopen(path, "re");
	if (f) {
		n = fread(buf, 1, len - 1, f);
		fclose(f);
	}
	buf[n] = '\0';
	return n;
}

/* As it was started; another user's cannot be read. */
static bool is_preloaded(uint32_t pid)
{
	static const char name[] = "LD_PRELOAD=";
	static char env[256 * 1024];
	size_t n = read_proc(pid, "environ", env, sizeof(env));

	for (size_t at = 0; at < n; at += strlen(env + at) + 1) {
		if (strncmp(env + at, name, sizeof(name) - 1) == 0)
			return strstr(env + at, "libdeltazero.so") != NULL;
	}
	return false;
}

static const struct top_process *find(const struct top_sample *s, uint32_t pid)
{
	for (uint32_t i = 0; i < s->n_processes; i++) {
		if (s->processes[i].pid == pid)
			return &s->processes[i];
	}
	return NULL;
}

/* A process that has touched no mount: nothing is counted of it. */
static void add_bystander(struct top_sample *s, uint32_t pid)
{
	size_t n = s->n_processes + 1;
	struct top_process *p = reallocarray(s->processes, n, sizeof(*p));

	if (!p)
		abort();
	s->processes = p;
	p += s->n_processes++;
	memset(p, 0, sizeof(*p));
	p->pid = pid;
	read_proc(pid, "comm", p->comm, sizeof(p->comm));
	p->comm[strcspn(p->comm, "\n")] = '\0';
}

static uint32_t ancestor(struct top_sample *s, uint32_t pid)
{
	uint32_t first = 0;

	for (int i = 0; i < ANCESTORS_MAX && (pid = dz_trace_parent_of(pid)) > 1; i++) {
		if (find(s, pid))
			return pid;
		if (is_preloaded(pid))
			first = pid;
	}
	if (first)
		add_bystander(s, first);
	return first;
}

void top_find_parents(struct top_sample *s)
{
	uint32_t n = s->n_processes;

	for (uint32_t i = 0; i < n; i++) {
		struct top_process *p = &s->processes[i];

		/* What another container calls by this number is another process. */
		if (!p->is_agent && p->is_here && (!p->parent || !find(s, p->parent))) {
			uint32_t parent = ancestor(s, p->pid);

			s->processes[i].parent = parent;
		}
	}
}
