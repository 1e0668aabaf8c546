// SPDX-License-Identifier: MIT
/*
 * Is a process to be traced from its start?  Yes when
 *
 *     its environment says so          dz trace -- COMMAND, and what it starts
 *     its record said so               before it was replaced by exec
 *     the process that forked it is    its word goes to the child
 *     an ancestor is, or is waited for dz trace -p PID
 *
 * For the last one, the file `tracing` in the cache's directory has a line for each
 * PID that a tracer was given: its word, the number, and the namespace that the
 * number is of.  Without that file nobody traces, and nothing is searched.  A line
 * that outlived its tracer leads to a session that is not there: the word is taken
 * back at the first call.
 */
#include "cache/engine_priv.h"
#include "cache/sys.h"
#include "cache/trace.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define ANCESTORS_MAX 32

static struct dz_member *trace_member(const struct dz_engine *e)
{
	return e->seg.member < e->seg.n_members ? &e->seg.members[e->seg.member] : NULL;
}

static void trace_set(struct dz_engine *e, uint64_t word)
{
	struct dz_member *m = trace_member(e);

	if (m && !e->seg.is_private)
		atomic_store_explicit(&m->trace, word, memory_order_relaxed);
}

static bool trace_goes_on(uint64_t word)
{
	return (word & (DZ_TRACE_FOLLOW | DZ_TRACE_CLOSE)) == DZ_TRACE_FOLLOW;
}

/* The word of a traced member with this pid that wants children to follow; 0. */
static uint64_t trace_word_of(const struct dz_engine *e, uint32_t pid)
{
	for (uint32_t i = 1; i < e->seg.n_members; i++) {
		const struct dz_member *m = &e->seg.members[i];
		uint64_t word = atomic_load_explicit(&m->trace, memory_order_relaxed);

		if (trace_goes_on(word) &&
		    atomic_load_explicit(&m->pid, memory_order_relaxed) == pid)
			return word;
	}
	return 0;
}

static uint64_t parse_number(const char **at, uint32_t base)
{
	uint64_t n = 0;

	for (;; ++*at) {
		uint32_t c = (uint32_t)(unsigned char)**at;
		uint32_t digit = c >= '0' && c <= '9'	? c - '0'
				 : c >= 'a' && c <= 'f' ? c - 'a' + 10
							: base;

		if (digit >= base)
			return n;
		n = n * base + digit;
	}
}

uint32_t dz_trace_parent_of(uint32_t pid)
{
	char buf[512], path[32];
	const char *at;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%u/stat", pid);
	fd = dz_sys_open(path, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return 0;
	n = dz_sys_read(fd, buf, sizeof(buf) - 1);
	dz_sys_close(fd);
	buf[n > 0 ? n : 0] = '\0';
	/* "123 (a name) S 45 ...": a name may hold anything. */
	at = strrchr(buf, ')');
	if (!at || strlen(at) < 5)
		return 0;
	at += 4;
	return (uint32_t)parse_number(&at, 10);
}

uint64_t dz_trace_pid_ns(void)
{
	struct stat st;

	return dz_sys_stat("/proc/self/ns/pid", &st) < 0 ? 0 : (uint64_t)st.st_ino;
}

/* The word in the list of those that tracers were given; 0. */
static uint64_t trace_given(const char *list, uint32_t pid, uint64_t ns)
{
	while (list && *list) {
		uint64_t word = parse_number(&list, 16), of, in;

		list += *list == ' ';
		of = parse_number(&list, 10);
		list += *list == ' ';
		in = parse_number(&list, 10);
		if (of == pid && in == ns && trace_goes_on(word))
			return word;
		list = strchr(list, '\n');
		list += list != NULL;
	}
	return 0;
}

/* Of ourselves before an exec, or of the nearest ancestor. */
static uint64_t trace_search(const struct dz_engine *e, const char *list)
{
	uint32_t pid = atomic_load_explicit(&e->pid, memory_order_relaxed);
	uint64_t ns = dz_trace_pid_ns();

	for (int i = 0; i < ANCESTORS_MAX && pid > 1; i++) {
		uint64_t word = trace_word_of(e, pid);

		if (!word)
			word = trace_given(list, pid, ns);
		if (word)
			return word;
		pid = dz_trace_parent_of(pid);
	}
	return 0;
}

static uint64_t trace_find(const struct dz_engine *e)
{
	char list[4096];
	ssize_t n;
	int fd = dz_sys_openat(e->seg.dir_fd, DZ_TRACING, O_RDONLY | O_CLOEXEC | O_NOFOLLOW, 0);

	if (fd < 0)
		return 0;
	n = dz_sys_read(fd, list, sizeof(list) - 1);
	dz_sys_close(fd);
	list[n > 0 ? n : 0] = '\0';
	return trace_search(e, list);
}

/* From the environment; 0 when that session is over. */
static uint64_t trace_told(const struct dz_engine *e, char *const *envp)
{
	const char *text = dz_config_env(envp, "DELTAZERO_TRACE");
	uint64_t word = text ? parse_number(&text, 16) : 0;
	char name[32];

	if (!word || *text)
		return 0;
	dz_trace_file_name(dz_trace_session(word), name);
	return dz_sys_3(SYS_faccessat, e->seg.dir_fd, name, 0) == 0 ? word : 0;
}

void dz_trace_begin(struct dz_engine *e, char *const *envp)
{
	struct dz_member *m = trace_member(e);
	uint64_t word;

	e->front.trace = m ? &m->trace : &e->no_trace;
	if (!m || e->seg.is_private)
		return;
	word = trace_told(e, envp);
	if (!word)
		word = trace_find(e);
	if (word)
		trace_set(e, word & ~(uint64_t)DZ_TRACE_CLOSE);
}

void dz_trace_fork_child(struct dz_engine *e, uint64_t word)
{
	struct dz_member *m = trace_member(e);

	atomic_store_explicit(&e->trace_lock, 0, memory_order_relaxed);
	dz_trace_forget_next(e);
	e->front.trace = m ? &m->trace : &e->no_trace;
	if (trace_goes_on(word))
		trace_set(e, word);
}

void dz_trace_end(struct dz_engine *e)
{
	void *at = atomic_load_explicit(&e->trace_file, memory_order_relaxed);

	if (at)
		dz_sys_munmap(at, DZ_TRACE_BYTES);
}
