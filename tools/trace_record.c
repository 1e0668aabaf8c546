// SPDX-License-Identifier: MIT
/*
 * A job's calls as text that `dz replay` reads, and that holds no data and no
 * credentials: names, places and sizes.  One line a thing:
 *
 *     dz-record 1
 *     P path name               a file or directory, below its mount
 *     T thread pid us           a thread, and when it began
 *     thread gap op path offset length took
 *
 * Paths and threads are numbers from 0 on in the order in which they come; times
 * are in microseconds: gap is the thread's time since its last call, took that of
 * the call.  op: o open, c close, r read, m map, s stat and its like, l list; a
 * capital: it failed, as it has to at the replay.
 */
#include "tools/trace.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tools/json.h"
#include "tools/trace_record.h"

struct thread {
	uint32_t pid, tid;
	uint64_t end_ns; /* of its last call */
};
struct place {
	uint32_t pid;
	int32_t fd;
	uint64_t pos;
};

struct trace_record {
	const struct dz_config *cfg;
	FILE *to;
	char **paths;
	size_t n_paths, cap_paths, n_buckets;
	uint32_t *buckets; /* path + 1 */
	struct thread *threads;
	size_t n_threads;
	struct place *places;
	size_t n_places;
	uint64_t start_ns;
	uint64_t n_calls, bytes; /* written so far; read or mapped by them */
};

static void *grown(void *at, size_t n, size_t size)
{
	void *more = n & (n - 1) ? at : reallocarray(at, n ? 2 * n : 1, size);

	if (!more)
		abort();
	return more;
}

/* ---- paths ---- */

static size_t bucket_of(const struct trace_record *r, const char *path)
{
	uint64_t hash = 14695981039346656037ull;

	for (const char *c = path; *c; c++)
		hash = (hash ^ (unsigned char)*c) * 1099511628211ull;
	return (size_t)(hash % r->n_buckets);
}

static void enter(struct trace_record *r, size_t n)
{
	size_t b = bucket_of(r, r->paths[n]);

	while (r->buckets[b])
		b = (b + 1) % r->n_buckets;
	r->buckets[b] = (uint32_t)n + 1;
}

static void rehash(struct trace_record *r)
{
	free(r->buckets);
	r->n_buckets = r->n_buckets ? 4 * r->n_buckets : 1021;
	r->buckets = calloc(r->n_buckets, sizeof(*r->buckets));
	if (!r->buckets)
		abort();
	for (size_t i = 0; i < r->n_paths; i++)
		enter(r, i);
}

static size_t path_number(struct trace_record *r, const char *path)
{
	size_t b;

	if (2 * r->n_paths >= r->n_buckets)
		rehash(r);
	for (b = bucket_of(r, path); r->buckets[b]; b = (b + 1) % r->n_buckets) {
		if (strcmp(r->paths[r->buckets[b] - 1], path) == 0)
			return r->buckets[b] - 1;
	}
	r->paths = grown(r->paths, r->n_paths, sizeof(*r->paths));
	r->paths[r->n_paths] = strdup(path);
	if (!r->paths[r->n_paths])
		abort();
	enter(r, r->n_paths);
	fprintf(r->to, "P %zu %s\n", r->n_paths, path);
	return r->n_paths++;
}

/* Below its mount; NULL: of none, or not to be written in a line. */
static const char *below_mount(const struct trace_record *r, const char *path)
{
	for (uint32_t i = 0; path && i < r->cfg->n_mounts; i++) {
		const char *local = r->cfg->mounts[i].local;
		size_t n = strlen(local);

		if (strncmp(path, local, n) != 0 || (path[n] != '/' && path[n] != '\0') ||
		    strchr(path, '\n'))
			continue;
		for (path += n; *path == '/';)
			path++;
		return *path ? path : ".";
	}
	return NULL;
}

/* ---- threads and positions ---- */

static size_t thread_number(struct trace_record *r, const struct trace_event *ev)
{
	for (size_t i = 0; i < r->n_threads; i++) {
		if (r->threads[i].tid == ev->tid && r->threads[i].pid == ev->pid)
			return i;
	}
	r->threads = grown(r->threads, r->n_threads, sizeof(*r->threads));
	r->threads[r->n_threads] = (struct thread){ ev->pid, ev->tid, ev->start_ns };
	if (!r->start_ns)
		r->start_ns = ev->start_ns;
	fprintf(r->to, "T %zu %u %llu\n", r->n_threads, ev->pid,
		(unsigned long long)(ev->start_ns > r->start_ns
					     ? (ev->start_ns - r->start_ns) / 1000
					     : 0));
	return r->n_threads++;
}

static uint64_t *position(struct trace_record *r, uint32_t pid, int64_t fd)
{
	for (size_t i = r->n_places; i-- > 0;) {
		if (r->places[i].fd == fd && r->places[i].pid == pid)
			return &r->places[i].pos;
	}
	r->places = grown(r->places, r->n_places, sizeof(*r->places));
	r->places[r->n_places] = (struct place){ pid, (int32_t)fd, 0 };
	return &r->places[r->n_places++].pos;
}

/* ---- events ---- */

/* What a call is for a replay; 0: nothing. */
static char op_of(const struct trace_event *ev)
{
	static const struct {
		const char *name;
		char op;
	} ops[] = { { "openat", 'o' },	{ "creat", 'o' },      { "close", 'c' },
		    { "read", 'r' },	{ "pread64", 'r' },    { "readv", 'r' },
		    { "preadv", 'r' },	{ "preadv2", 'r' },    { "sendfile", 'r' },
		    { "mmap", 'm' },	{ "newfstatat", 's' }, { "statx", 's' },
		    { "access", 's' },	{ "faccessat", 's' },  { "readlink", 's' },
		    { "opendir", 'l' }, { "getdents64", 'l' }, { "scandirat", 'l' } };
	const char *symbol = trace_call_info(ev->call)->symbol;
	/* These are shown as strace shows them, openat and close. */
	bool is_stream = strcmp(symbol, "opendir") == 0 || strcmp(symbol, "closedir") == 0;
	const char *name = is_stream ? symbol : trace_call_info(ev->call)->name;

	for (size_t i = 0; i < DZ_ARRAY_LEN(ops); i++) {
		if (strcmp(ops[i].name, name) == 0)
			return ops[i].op;
	}
	return 0;
}

static const char *path_of(const struct trace_event *ev)
{
	if (strcmp(trace_call_info(ev->call)->name, "sendfile") == 0)
		return trace_path_of(ev->pid, (int64_t)ev->args[1]);
	if (strcmp(trace_call_info(ev->call)->name, "mmap") == 0)
		return trace_path_of(ev->pid, (int64_t)ev->args[4]);
	for (uint32_t i = 0; i < 6; i++) {
		if (ev->strings[i] && ev->strings[i][0] == '/')
			return ev->strings[i];
	}
	return ev->fd_path;
}

/* Where a read began; keeps the positions of descriptors. */
static uint64_t offset_of(struct trace_record *r, const struct trace_event *ev)
{
	const char *name = trace_call_info(ev->call)->name;
	uint64_t n = ev->result > 0 ? (uint64_t)ev->result : 0, at, *pos;

	if (strcmp(name, "mmap") == 0)
		return ev->args[5];
	if (name[0] == 'p')
		return ev->args[3];
	pos = position(r, ev->pid, (int64_t)ev->args[strcmp(name, "sendfile") == 0]);
	at = *pos;
	*pos += n;
	return at;
}

static void keep_position(struct trace_record *r, const struct trace_event *ev)
{
	if (trace_gives_fd(ev))
		*position(r, ev->pid, ev->result) = 0;
	else if (strcmp(trace_call_info(ev->call)->name, "lseek") == 0 && ev->result >= 0)
		*position(r, ev->pid, (int64_t)ev->args[0]) = (uint64_t)ev->result;
}

void trace_record_event(struct trace_record *r, const struct trace_event *ev)
{
	const char *path = below_mount(r, path_of(ev));
	uint64_t off = 0, len = 0, gap, end = ev->start_ns + ev->ns;
	char op = op_of(ev);
	size_t thread, n;

	keep_position(r, ev);
	if (op == 'r') {
		off = offset_of(r, ev);
		len = ev->result > 0 ? (uint64_t)ev->result : 0;
	} else if (op == 'm') {
		off = offset_of(r, ev);
		len = ev->args[1];
	}
	if (!op || !path || ev->is_bypass)
		return;
	n = path_number(r, path);
	thread = thread_number(r, ev);
	gap = ev->start_ns > r->threads[thread].end_ns ? ev->start_ns - r->threads[thread].end_ns
						       : 0;
	r->threads[thread].end_ns = end;
	r->n_calls++;
	r->bytes += ev->result < 0 && ev->result > -4096 ? 0 : len;
	fprintf(r->to, "%zu %llu %c %zu %llu %llu %llu\n", thread, (unsigned long long)gap / 1000,
		ev->result < 0 && ev->result > -4096 ? op - 'a' + 'A' : op, n,
		(unsigned long long)off, (unsigned long long)len,
		(unsigned long long)ev->ns / 1000);
}

struct trace_record *trace_record_new(FILE *to, const struct dz_config *cfg)
{
	struct trace_record *r = calloc(1, sizeof(*r));

	if (!r)
		abort();
	r->to = to;
	r->cfg = cfg;
	fputs("dz-record 1\n", to);
	return r;
}

void trace_record_json(FILE *to, const struct trace_record *r, const char *file, uint64_t missed)
{
	fputs("{\"file\": ", to);
	dz_json_string(to, file);
	fprintf(to,
		", \"threads\": %zu, \"paths\": %zu, \"calls\": %" PRIu64 ", \"bytes\": %" PRIu64
		", \"missed\": %" PRIu64 "}\n",
		r->n_threads, r->n_paths, r->n_calls, r->bytes, missed);
}
