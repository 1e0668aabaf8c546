// SPDX-License-Identifier: MIT
/*
 * The tracer's side of a session: makes the file, tells members to look there,
 * reads the rings, and takes all of it back.
 *
 * A lock on the file says that its tracer is alive.  What one that was killed has
 * left is removed by the next: its file, and its word in the members.  Members of
 * a session end by themselves; what they wrote stays in the file until it is read.
 */
#include "tools/trace.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cache/member.h"
#include "cache/sys.h"

#define FIRST_RINGS 4
#define RING_BYTES  ((off_t)DZ_TRACE_CELLS * DZ_TRACE_CELL)
#define HOLD_NS	    1000000	  /* two rings may be this far apart */
#define STUCK_NS    5000000000ull /* a writer that has not finished by then is gone */

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* ---- time ---- */

static void learn_clock(struct trace_session *s)
{
	uint64_t ticks = dz_ticks() - s->base_ticks;

	if (ticks)
		s->ns_a_tick = (double)(clock_ns(CLOCK_MONOTONIC) - s->base_ns) / (double)ticks;
}

static void start_clock(struct trace_session *s)
{
	struct timespec ts = { 0, 10000000 };

	s->base_ns = clock_ns(CLOCK_MONOTONIC);
	s->wall_ns = clock_ns(CLOCK_REALTIME);
	s->base_ticks = dz_ticks();
	nanosleep(&ts, NULL);
	learn_clock(s);
}

uint64_t trace_ns(const struct trace_session *s, uint64_t ticks)
{
	return (uint64_t)((double)ticks * s->ns_a_tick);
}

static uint64_t wall_of(const struct trace_session *s, uint64_t ticks)
{
	int64_t since = (int64_t)(ticks - s->base_ticks);

	return s->wall_ns + (uint64_t)(int64_t)((double)since * s->ns_a_tick);
}

/* ---- what others have left ---- */

static void forget_session(struct trace_session *s, uint32_t session, uint64_t to)
{
	for (uint32_t i = 0; i < s->seg.n_members; i++) {
		_Atomic uint64_t *word = &s->seg.members[i].trace;
		uint64_t old = atomic_load_explicit(word, memory_order_relaxed);

		if (old && dz_trace_session(old) == session && !(old & DZ_TRACE_CLOSE))
			atomic_compare_exchange_strong(word, &old, to);
	}
}

/* Of a tracer that is gone?  Then it is removed. */
static bool is_left_over(struct trace_session *s, const char *name)
{
	int fd = openat(s->seg.dir_fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	bool is_left = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0;
	uint32_t session = (uint32_t)strtoul(name + 6, NULL, 16);

	if (is_left) {
		forget_session(s, session, (uint64_t)session << 32 | DZ_TRACE_CLOSE);
		unlinkat(s->seg.dir_fd, name, 0);
	}
	if (fd >= 0)
		close(fd);
	return is_left;
}

/* Removes what is left over; returns how many sessions go on. */
static int count_sessions(struct trace_session *s)
{
	int fd = openat(s->seg.dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), n = 0;
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *d;

	while (dir && (d = readdir(dir)) != NULL) {
		if (strncmp(d->d_name, "trace.", 6) == 0 && !is_left_over(s, d->d_name))
			n++;
	}
	if (dir)
		closedir(dir);
	return n;
}

/* ---- beginning ---- */

static int grow_rings(struct trace_session *s, uint32_t n)
{
	uint64_t at = DZ_TRACE_DATA + (uint64_t)s->n_rings * (uint64_t)RING_BYTES;

	if (n > DZ_TRACE_RINGS)
		n = DZ_TRACE_RINGS;
	if (n <= s->n_rings)
		return 0;
	if (fallocate(s->fd, 0, (off_t)at, (off_t)(n - s->n_rings) * RING_BYTES) < 0)
		return -errno;
	s->n_rings = n;
	/* Release: a thread that sees the number finds memory there. */
	atomic_store_explicit(&s->file->n_rings, n, memory_order_release);
	return 0;
}

static int make_file(struct trace_session *s, uint32_t session, bool lines)
{
	int ret;

	dz_trace_file_name(session, s->name);
	s->fd = openat(s->seg.dir_fd, s->name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (s->fd < 0)
		return -errno;
	if (flock(s->fd, LOCK_EX | LOCK_NB) < 0 || ftruncate(s->fd, (off_t)DZ_TRACE_BYTES) < 0 ||
	    fallocate(s->fd, 0, 0, (off_t)DZ_TRACE_DATA) < 0)
		return -errno;
	s->file = mmap(NULL, DZ_TRACE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, s->fd, 0);
	if (s->file == MAP_FAILED) {
		s->file = NULL;
		return -errno;
	}
	s->file->session = session;
	s->file->pid = (uint32_t)getpid();
	s->file->bytes = DZ_TRACE_BYTES;
	atomic_store(&s->file->alive_ms, dz_wall_ms());
	ret = lines ? grow_rings(s, FIRST_RINGS) : 0;
	if (lines && ret < 0)
		ret = grow_rings(s, 1);
	s->file->magic = DZ_TRACE_MAGIC;
	return ret;
}

int trace_open(struct trace_session *s, const struct dz_config *cfg, uint32_t want)
{
	uint32_t session = 0;
	int ret, fd;

	memset(s, 0, sizeof(*s));
	s->fd = -1;
	s->log = (struct dz_log){ .level = DZ_LOG_ERROR, .path = "", .who = "dz" };
	ret = dz_seg_open(&s->seg, cfg, &s->log);
	if (ret < 0)
		return ret;
	s->pids = calloc(s->seg.n_members, sizeof(*s->pids));
	if (!s->pids)
		return -ENOMEM;
	count_sessions(s);
	if (getrandom(&session, sizeof(session), 0) < 0)
		return -errno;
	session |= 1; /* 0 is none */
	ret = make_file(s, session, want & DZ_TRACE_LINES);
	if (ret < 0)
		return ret;
	fd = openat(s->seg.dir_fd, DZ_TRACING, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	if (fd >= 0)
		close(fd);
	s->word = (uint64_t)session << 32 | want;
	start_clock(s);
	s->file->ticks_a_s = (uint64_t)(1e9 / s->ns_a_tick);
	return 0;
}

/* ---- whom ---- */

static bool is_live(const struct dz_member *m)
{
	return atomic_load_explicit(&m->state, memory_order_acquire) == DZ_MEMBER_LIVE;
}

static uint32_t pid_of(const struct dz_member *m)
{
	return atomic_load_explicit(&m->pid, memory_order_relaxed);
}

static int attach_member(struct trace_session *s, uint32_t i)
{
	struct dz_member *m = &s->seg.members[i];
	uint64_t old = atomic_load(&m->trace);

	/* Told to let go by another, and has made no call since. */
	if (old & DZ_TRACE_CLOSE)
		old = atomic_compare_exchange_strong(&m->trace, &old, 0) ? 0 : old;
	if (old == s->word)
		return 0;
	if (old || !atomic_compare_exchange_strong(&m->trace, &old, s->word))
		return -EBUSY;
	s->pids[i] = pid_of(m);
	return 0;
}

int trace_attach(struct trace_session *s, uint32_t pid)
{
	int ret = kill((pid_t)pid, 0) < 0 && errno == ESRCH ? -ESRCH : -EAGAIN;

	for (uint32_t i = 1; ret == -EAGAIN && i < s->seg.n_members; i++) {
		if (is_live(&s->seg.members[i]) && pid_of(&s->seg.members[i]) == pid)
			ret = attach_member(s, i);
	}
	return ret;
}

static bool is_below(uint32_t pid, uint32_t ancestor)
{
	for (int i = 0; i < 32 && pid > 1 && pid != ancestor; i++)
		pid = dz_trace_parent_of(pid);
	return pid == ancestor;
}

uint32_t trace_attach_family(struct trace_session *s, uint32_t pid)
{
	uint32_t n = 0;
	int fd = openat(s->seg.dir_fd, DZ_TRACING, O_WRONLY | O_APPEND | O_CLOEXEC);

	if (fd >= 0) {
		dprintf(fd, "%llx %u %llu\n", (unsigned long long)s->word, pid,
			(unsigned long long)dz_trace_pid_ns());
		close(fd);
	}
	for (uint32_t i = 1; i < s->seg.n_members; i++) {
		struct dz_member *m = &s->seg.members[i];

		if (is_live(m) && !atomic_load_explicit(&m->is_agent, memory_order_relaxed) &&
		    pid_of(m) != pid && is_below(pid_of(m), pid))
			n += attach_member(s, i) == 0;
	}
	return n;
}

static bool is_ours(const struct trace_session *s, uint32_t pid)
{
	for (uint32_t i = 1; i < s->seg.n_members; i++) {
		if (s->pids[i] == pid)
			return true;
	}
	return false;
}

void trace_watch(struct trace_session *s)
{
	s->n_live = 0;
	for (uint32_t i = 1; i < s->seg.n_members; i++) {
		struct dz_member *m = &s->seg.members[i];
		uint64_t word = atomic_load_explicit(&m->trace, memory_order_relaxed);
		uint32_t parent = atomic_load_explicit(&m->parent, memory_order_relaxed);

		if (!is_live(m)) {
			s->pids[i] = 0;
			continue;
		}
		if (dz_trace_session(word) == dz_trace_session(s->word) && !(word & DZ_TRACE_CLOSE))
			s->pids[i] = pid_of(m);
		else if (!word && (s->word & DZ_TRACE_FOLLOW) && parent &&
			 parent < s->seg.n_members && s->pids[parent])
			attach_member(s, i);
		else if (!word && s->pids[i] != pid_of(m) && is_ours(s, pid_of(m)))
			attach_member(s, i);
		if (!s->pids[i])
			continue;
		if (kill((pid_t)s->pids[i], 0) < 0 && errno == ESRCH)
			s->pids[i] = 0;
		else
			s->n_live++;
	}
	atomic_store(&s->file->alive_ms, dz_wall_ms());
	if ((s->word & DZ_TRACE_LINES) && atomic_load(&s->file->next_ring) > s->n_rings)
		grow_rings(s, atomic_load(&s->file->next_ring) + 4);
}

/* ---- reading ---- */

static struct trace_event *add_event(struct trace_events *list)
{
	if (list->n == list->cap) {
		size_t cap = list->cap ? 2 * list->cap : 1024;
		void *at = reallocarray(list->at, cap, sizeof(*list->at));

		if (!at)
			abort();
		list->at = at;
		list->cap = cap;
	}
	memset(&list->at[list->n], 0, sizeof(*list->at));
	return &list->at[list->n++];
}

/* The next string of the text, NULL when it has no end. */
static const char *take_string(char **at, const char *end)
{
	char *nul = memchr(*at, '\0', (size_t)(end - *at));
	const char *s = *at;

	if (!nul)
		return NULL;
	*at = nul + 1;
	return s;
}

static void read_text(struct trace_session *s, uint32_t ring, uint64_t pos, uint32_t cells,
		      uint8_t strings, bool has_fd_path, struct trace_event *ev)
{
	const size_t room = DZ_TRACE_CELL - 8, len = (cells - 2) * room;
	char *at, *end;

	if (!len)
		return;
	at = ev->text = malloc(len);
	if (!at)
		abort();
	for (uint32_t i = 0; i < cells - 2; i++)
		memcpy(at + i * room, dz_trace_cell(s->file, ring, pos + 2 + i) + 8, room);
	end = at + len;
	if (has_fd_path)
		ev->fd_path = take_string(&at, end);
	for (uint32_t i = 0; i < 6; i++) {
		if (strings >> i & 1)
			ev->strings[i] = take_string(&at, end);
	}
	if (ev->data_len > (size_t)(end - at))
		ev->data_len = 0;
	ev->data = ev->data_len ? at : NULL;
}

static void read_event(struct trace_session *s, uint32_t ring, uint64_t pos, uint32_t cells,
		       const struct dz_trace_event *raw, struct trace_event *ev)
{
	*ev = (struct trace_event){ .start = raw->start,
				    .end = raw->start + raw->ticks,
				    .start_ns = wall_of(s, raw->start),
				    .ns = trace_ns(s, raw->ticks),
				    .result = raw->result,
				    .pid = raw->pid,
				    .tid = raw->tid,
				    .call = raw->call,
				    .n_args = raw->n_args,
				    .data_len = raw->data_len,
				    .tier = raw->tier % DZ_TIERS,
				    .gets = raw->gets,
				    .disk_us = raw->disk_us,
				    .queue_us = raw->queue_us,
				    .net_us = raw->net_us,
				    .is_bypass = raw->flags & DZ_TRACE_IS_BYPASS,
				    .has_stat = raw->flags & DZ_TRACE_HAS_STAT,
				    .mode = raw->mode,
				    .size = raw->size };
	for (uint32_t i = 0; i < 6; i++)
		ev->args[i] = i < 2 ? raw->args01[i] : raw->args25[i - 2];
	read_text(s, ring, pos, cells, raw->strings, raw->flags & DZ_TRACE_HAS_FD_PATH, ev);
}

/* The first word of a cell: it is zero until an event that begins there is whole. */
static uint64_t first_word(struct trace_session *s, uint32_t ring, uint64_t pos)
{
	return atomic_load_explicit((_Atomic uint64_t *)(void *)dz_trace_cell(s->file, ring, pos),
				    memory_order_acquire);
}

static void free_cells(struct trace_session *s, uint32_t ring, uint64_t pos, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		memset(dz_trace_cell(s->file, ring, pos + i), 0, 8);
	/* Release: pairs with the writer's acquire in ring_claim(). */
	atomic_store_explicit(&s->file->rings[ring].tail, pos + n, memory_order_release);
}

/* Past a writer that died in the middle: where the next event begins, or the head. */
static uint64_t next_event(struct trace_session *s, uint32_t ring, uint64_t pos, uint64_t head)
{
	while (pos < head && first_word(s, ring, pos) != pos + 1)
		pos++;
	return pos;
}

static void drain_ring(struct trace_session *s, uint32_t ring, bool all)
{
	struct dz_trace_ring *r = &s->file->rings[ring];
	uint64_t pos = atomic_load_explicit(&r->tail, memory_order_relaxed);
	uint64_t head = atomic_load_explicit(&r->head, memory_order_acquire);
	uint64_t now = clock_ns(CLOCK_MONOTONIC);

	if (head - pos > DZ_TRACE_CELLS)
		head = pos + DZ_TRACE_CELLS;
	while (pos < head) {
		struct dz_trace_event raw;
		uint64_t next = pos;

		if (first_word(s, ring, pos) == pos + 1) {
			memcpy(&raw, dz_trace_cell(s->file, ring, pos), DZ_TRACE_CELL);
			memcpy((char *)&raw + DZ_TRACE_CELL, dz_trace_cell(s->file, ring, pos + 1),
			       DZ_TRACE_CELL);
			if (raw.n_cells >= 2 && raw.n_cells <= head - pos)
				next = pos + raw.n_cells;
		}
		if (next != pos) {
			read_event(s, ring, pos, raw.n_cells, &raw, add_event(&s->held));
			s->stuck[ring] = 0;
		} else if (all || (s->stuck[ring] && now - s->stuck[ring] > STUCK_NS)) {
			next = next_event(s, ring, pos + 1, head);
			s->stuck[ring] = 0;
		} else {
			s->stuck[ring] = s->stuck[ring] ? s->stuck[ring] : now;
			return;
		}
		free_cells(s, ring, pos, next - pos);
		pos = next;
	}
}

static int by_end(const void *a, const void *b)
{
	const struct trace_event *x = a, *y = b;

	if (x->end != y->end)
		return x->end < y->end ? -1 : 1;
	return x->start < y->start ? -1 : x->start > y->start;
}

void trace_drain(struct trace_session *s, struct trace_events *out, bool all)
{
	uint64_t until = dz_ticks() - (uint64_t)(HOLD_NS / s->ns_a_tick);
	size_t n = 0;

	learn_clock(s);
	for (uint32_t i = 0; i < s->n_rings; i++)
		drain_ring(s, i, all);
	if (s->held.n > 1)
		qsort(s->held.at, s->held.n, sizeof(*s->held.at), by_end);
	while (n < s->held.n && (all || s->held.at[n].end <= until))
		*add_event(out) = s->held.at[n++];
	if (n)
		memmove(s->held.at, s->held.at + n, (s->held.n - n) * sizeof(*s->held.at));
	s->held.n -= n;
}

uint64_t trace_dropped(const struct trace_session *s)
{
	uint64_t n = 0;

	for (uint32_t i = 0; s->file && i < DZ_TRACE_RINGS; i++)
		n += atomic_load_explicit(&s->file->rings[i].dropped, memory_order_relaxed);
	return n;
}

/* ---- the end ---- */

/* Members let go at their next call. */
static bool all_let_go(const struct trace_session *s)
{
	for (uint32_t i = 1; i < s->seg.n_members; i++) {
		uint64_t word = atomic_load(&s->seg.members[i].trace);

		if (dz_trace_session(word) == dz_trace_session(s->word) &&
		    is_live(&s->seg.members[i]))
			return false;
	}
	return true;
}

void trace_close(struct trace_session *s)
{
	if (s->file) {
		struct timespec ts = { 0, 20000000 };

		forget_session(s, dz_trace_session(s->word),
			       (s->word & ~(uint64_t)0xffffffff) | DZ_TRACE_CLOSE);
		unlinkat(s->seg.dir_fd, s->name, 0);
		for (int i = 0; i < 10 && !all_let_go(s); i++)
			nanosleep(&ts, NULL);
		/* Who makes no call keeps the mapping, and no memory behind it. */
		fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
			  (off_t)DZ_TRACE_BYTES);
		munmap(s->file, DZ_TRACE_BYTES);
	}
	if (s->fd >= 0)
		close(s->fd);
	if (s->seg.hdr && count_sessions(s) == 0)
		unlinkat(s->seg.dir_fd, DZ_TRACING, 0);
	free(s->held.at);
	free(s->pids);
	if (s->seg.hdr)
		dz_seg_close(&s->seg);
}
