// SPDX-License-Identifier: MIT
/*
 * The traced side of `dz trace`: finds the session in the member's word, maps its
 * file, and writes there what each call did.  See trace.h for the rules of the
 * ring; nothing here waits, allocates or touches errno, and a signal handler may
 * come in between at any point.
 *
 * No file, no memory, a file of another build: the word is taken back and the
 * program goes on unseen.  The file is the tracer's, but every size used here is
 * ours: whatever is in it cannot lead us out of it.
 */
#include "cache/trace.h"

#include "cache/engine_priv.h"
#include "cache/probe.h"
#include "cache/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define TIMED_FIRST 64 /* calls of a kind */
#define TIMED_EACH  32
#define LOCK_TRIES  20 /* of 10 ms, for the lock: then this call goes unseen */

void dz_trace_file_name(uint32_t session, char name[32])
{
	static const char hex[] = "0123456789abcdef";

	memcpy(name, "trace.", 6);
	for (int i = 0; i < 8; i++)
		name[6 + i] = hex[session >> (28 - 4 * i) & 15];
	name[14] = '\0';
}

void dz_engine_set_trace_self(struct dz_engine *e, struct dz_trace_self *self)
{
	e->trace_self = (char *)self - (char *)__builtin_thread_pointer();
}

static uint64_t trace_word(const struct dz_engine *e)
{
	return atomic_load_explicit(e->front.trace, memory_order_relaxed);
}

uint32_t dz_engine_trace_content(const struct dz_engine *e)
{
	return (uint32_t)(trace_word(e) >> 16) & 0xffff;
}

bool dz_engine_trace_wants_paths(const struct dz_engine *e)
{
	return trace_word(e) & DZ_TRACE_PATHS;
}

/* ---- what the engine says of a call ---- */

void dz_trace_forget_next(const struct dz_engine *e)
{
	struct dz_trace_self *self = (void *)((char *)__builtin_thread_pointer() + e->trace_self);

	if (e->trace_self)
		memset(self->next, 0, sizeof(self->next));
}

/* The record of the call under way; what it holds of another one is forgotten. */
static struct dz_call_info *trace_info(const struct dz_engine *e)
{
	struct dz_trace_self *self;

	if (!e->trace_self)
		return NULL;
	self = (void *)((char *)__builtin_thread_pointer() + e->trace_self);
	if (self->info.span != self->span)
		self->info = (struct dz_call_info){ .span = self->span };
	return &self->info;
}

void dz_call_needed(const struct dz_engine *e, enum dz_tier tier, uint64_t disk_ns)
{
	struct dz_call_info *info = trace_info(e);

	if (!info)
		return;
	if (!info->since_ns)
		info->since_ns = dz_now_ns() - disk_ns;
	info->tier = info->tier > tier ? info->tier : tier;
	info->disk_ns += disk_ns;
}

void dz_call_waited(const struct dz_engine *e, uint64_t since_ns, uint32_t active_us)
{
	struct dz_call_info *info = trace_info(e);
	uint64_t waited = dz_now_ns() - since_ns;
	int32_t queue_us = (int32_t)(active_us - (uint32_t)(since_ns / 1000));
	uint64_t queue = (uint64_t)queue_us * 1000;

	/* A request that was being worked on when we came was never in a queue for us. */
	if (queue_us < 0 || queue > waited)
		queue = 0;
	DZ_PROBE2(wait, queue, waited - queue);
	if (!info)
		return;
	if (!info->since_ns)
		info->since_ns = since_ns;
	info->queue_ns += queue;
	info->net_ns += waited - queue;
	info->tier = DZ_TIER_BLOB;
}

void dz_call_asked(const struct dz_engine *e)
{
	struct dz_call_info *info = trace_info(e);

	if (info)
		info->gets++;
}

/* ---- the session's file ---- */

static struct dz_member *trace_member(const struct dz_engine *e)
{
	return e->seg.member < e->seg.n_members ? &e->seg.members[e->seg.member] : NULL;
}

/*
 * The owner is mapping the file, once a session: who comes meanwhile waits, so that
 * its call is counted; but not for itself, interrupted by a signal in there.
 */
static bool trace_lock(struct dz_engine *e)
{
	uint32_t me = (uint32_t)dz_sys_gettid();

	for (int i = 0; i < LOCK_TRIES; i++) {
		uint32_t owner = 0;

		if (atomic_compare_exchange_strong(&e->trace_lock, &owner, me))
			return true;
		if (owner == me)
			return false;
		dz_sys_futex_wait(&e->trace_lock, owner, 10);
	}
	return false;
}

static void trace_unlock(struct dz_engine *e)
{
	atomic_store_explicit(&e->trace_lock, 0, memory_order_release);
	dz_sys_futex_wake(&e->trace_lock, INT_MAX);
}

/* The file's pages at the place reserved for them, or a new place. */
static int trace_map(struct dz_engine *e, int fd, void **out)
{
	void *at = atomic_load_explicit(&e->trace_file, memory_order_relaxed);

	return dz_sys_mmap(out, at, DZ_TRACE_BYTES, PROT_READ | PROT_WRITE,
			   MAP_SHARED | (at ? MAP_FIXED : 0), fd, 0);
}

/* Something that can be written to, and is nobody's, in the place of the file. */
static void trace_unmap(struct dz_engine *e)
{
	void *at = atomic_load_explicit(&e->trace_file, memory_order_relaxed);

	atomic_store_explicit(&e->trace_session, 0, memory_order_relaxed);
	if (at)
		dz_sys_mmap(&at, at, DZ_TRACE_BYTES, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
}

static int trace_open(struct dz_engine *e, uint32_t session)
{
	struct dz_trace_file *f;
	struct stat st;
	char name[32];
	void *map;
	int fd, ret;

	dz_trace_file_name(session, name);
	fd = dz_sys_openat(e->seg.dir_fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0);
	if (fd < 0)
		return fd;
	ret = dz_sys_fstat(fd, &st);
	if (ret == 0 && (uint64_t)st.st_size != DZ_TRACE_BYTES)
		ret = -EPROTO;
	if (ret == 0)
		ret = trace_map(e, fd, &map);
	dz_sys_close(fd);
	if (ret < 0)
		return ret;
	f = map;
	atomic_store_explicit(&e->trace_file, f, memory_order_relaxed);
	if (f->magic != DZ_TRACE_MAGIC || f->bytes != DZ_TRACE_BYTES || f->session != session) {
		trace_unmap(e);
		return -EPROTO;
	}
	atomic_fetch_add_explicit(&f->members, 1, memory_order_relaxed);
	/* Release: pairs with the acquire in trace_file(). */
	atomic_store_explicit(&e->trace_session, session, memory_order_release);
	return 0;
}

/* Off, unless somebody else has begun meanwhile. */
static void trace_refuse(struct dz_engine *e, uint64_t word)
{
	struct dz_member *m = trace_member(e);

	if (m)
		atomic_compare_exchange_strong(&m->trace, &word, 0);
}

static void trace_change(struct dz_engine *e)
{
	uint64_t word;

	if (!trace_lock(e))
		return;
	word = trace_word(e);
	if (word & DZ_TRACE_CLOSE) {
		trace_unmap(e);
		trace_refuse(e, word);
	} else if (word && dz_trace_session(word) !=
				   atomic_load_explicit(&e->trace_session, memory_order_relaxed)) {
		if (trace_open(e, dz_trace_session(word)) < 0)
			trace_refuse(e, word);
	}
	trace_unlock(e);
}

/* The file of the session in *word; NULL: nobody looks any more. */
static struct dz_trace_file *trace_file(struct dz_engine *e, uint64_t *word)
{
	*word = trace_word(e);
	if (!*word)
		return NULL;
	if ((*word & DZ_TRACE_CLOSE) ||
	    atomic_load_explicit(&e->trace_session, memory_order_acquire) !=
		    dz_trace_session(*word)) {
		trace_change(e);
		*word = trace_word(e);
		if (!*word || (*word & DZ_TRACE_CLOSE) ||
		    atomic_load_explicit(&e->trace_session, memory_order_acquire) !=
			    dz_trace_session(*word))
			return NULL;
	}
	return atomic_load_explicit(&e->trace_file, memory_order_relaxed);
}

/* This thread's first call in the session: its ring, and its table of counts. */
static void trace_enter(struct dz_engine *e, struct dz_trace_file *f, uint64_t word,
			struct dz_trace_self *self)
{
	uint32_t table = DZ_TRACE_TABLES - 1;
	uint64_t owner;

	self->pid = atomic_load_explicit(&e->pid, memory_order_relaxed);
	self->tid = (uint32_t)dz_sys_gettid();
	owner = (uint64_t)self->pid << 32 | self->tid;
	self->ring = (uint16_t)(atomic_fetch_add_explicit(&f->next_ring, 1, memory_order_relaxed) %
				65521);
	for (uint32_t i = 0; (word & DZ_TRACE_COUNTS) && i < DZ_TRACE_TABLES - 1; i++) {
		uint64_t none = 0;

		if (atomic_compare_exchange_strong(&f->tables[i].owner, &none, owner)) {
			table = i;
			break;
		}
	}
	self->table = (uint16_t)table;
	self->session = dz_trace_session(word);
}

/* ---- counts ---- */

/* Only a table of our own is written without a lock. */
static void trace_add(bool is_own, _Atomic uint64_t *counter, uint64_t n)
{
	dz_count((struct dz_counter){ NULL, is_own }, counter, n);
}

static struct dz_trace_row *trace_row(struct dz_trace_table *t, uint32_t call)
{
	uint32_t row = t->row[call];

	if (row && row <= DZ_TRACE_ROWS)
		return &t->rows[row - 1];
	for (uint32_t i = 0; i < DZ_TRACE_ROWS; i++) {
		uint16_t none = 0;

		/* Two threads at the shared table may take two rows: the reader adds them up. */
		if (!__atomic_compare_exchange_n(&t->call[i], &none, (uint16_t)(call + 1), false,
						 __ATOMIC_RELAXED, __ATOMIC_RELAXED))
			continue;
		t->row[call] = (uint8_t)(i + 1);
		return &t->rows[i];
	}
	return NULL;
}

static void trace_time(struct dz_trace_counts *c, bool is_own, uint64_t ticks, uint32_t weight)
{
	_Atomic uint32_t *bucket = &c->buckets[dz_trace_bucket(ticks)];

	if (is_own)
		atomic_store_explicit(bucket,
				      atomic_load_explicit(bucket, memory_order_relaxed) + weight,
				      memory_order_relaxed);
	else
		atomic_fetch_add_explicit(bucket, weight, memory_order_relaxed);
	trace_add(is_own, &c->timed, weight);
	trace_add(is_own, &c->ticks, ticks * weight);
	if (ticks > atomic_load_explicit(&c->max, memory_order_relaxed))
		atomic_store_explicit(&c->max, ticks, memory_order_relaxed);
}

/* A call that was not timed, and then had to wait: from its first wait on. */
static uint64_t trace_waited(const struct dz_trace_file *f, const struct dz_call_info *info)
{
	double s = (double)(dz_now_ns() - info->since_ns) / 1e9;

	return (uint64_t)(s * (double)f->ticks_a_s);
}

/* Returns where the next calls like this one are counted; NULL: that is for each to find. */
static struct dz_trace_counts *trace_count(struct dz_trace_file *f, uint32_t table,
					   const struct dz_call_info *info,
					   const struct dz_call_span *span, uint64_t ticks,
					   uint32_t call, int64_t result)
{
	struct dz_trace_table *t = &f->tables[table % DZ_TRACE_TABLES];
	bool is_own = table < DZ_TRACE_TABLES - 1;
	uint32_t tier = info->tier < DZ_TIERS ? info->tier : 0;
	struct dz_trace_row *row = trace_row(t, call);
	struct dz_trace_counts *c;

	if (!row) {
		trace_add(false, &t->lost, 1);
		return NULL;
	}
	c = &row->tiers[tier];
	trace_add(is_own, &c->calls, 1);
	if (result > 0)
		trace_add(is_own, &c->bytes, (uint64_t)result);
	else if (result < 0)
		trace_add(is_own, &c->errors, 1);
	if (!tier) {
		if (span->weight)
			trace_time(c, is_own, ticks, span->weight);
		return is_own ? c : NULL;
	}
	if (!span->weight)
		ticks = trace_waited(f, info);
	trace_time(c, is_own, ticks, 1);
	trace_add(is_own, &c->queue_ns, info->queue_ns);
	trace_add(is_own, &c->net_ns, info->net_ns);
	trace_add(is_own, &c->disk_ns, info->disk_ns);
	return NULL;
}

/* "55d0-55d8 r-xp ... /usr/lib/libx.so": the name of the file when `at` is in there. */
static bool maps_line_has(const char *line, uint64_t at, char *out, size_t len)
{
	const char *slash = strrchr(line, '/');
	uint64_t bound[2] = { 0, 0 };

	for (int i = 0; i < 2; i++) {
		for (; *line && *line != '-' && *line != ' '; line++)
			bound[i] = bound[i] << 4 |
				   (uint64_t)(*line <= '9' ? *line - '0' : *line - 'a' + 10);
		line += *line != '\0';
	}
	if (at < bound[0] || at >= bound[1] || !slash)
		return false;
	memcpy(out, slash + 1, strnlen(slash + 1, len - 1));
	return true;
}

/* Not dladdr(): that takes the loader's lock. */
static void trace_library(uint64_t at, char *out, size_t len)
{
	char buf[1024];
	size_t have = 0;
	int fd = dz_sys_open("/proc/self/maps", O_RDONLY | O_CLOEXEC, 0);
	bool found = fd < 0;

	while (!found) {
		ssize_t n = dz_sys_read(fd, buf + have, sizeof(buf) - 1 - have);
		char *line = buf, *end;

		if (n <= 0)
			break;
		have += (size_t)n;
		buf[have] = '\0';
		while (!found && (end = strchr(line, '\n')) != NULL) {
			*end = '\0';
			found = maps_line_has(line, at, out, len);
			line = end + 1;
		}
		have -= (size_t)(line - buf);
		memmove(buf, line, have);
		if (have == sizeof(buf) - 1)
			have = 0; /* a name longer than that: the rest will look like no line */
	}
	if (fd >= 0)
		dz_sys_close(fd);
}

static void trace_count_bypass(struct dz_trace_file *f, const struct dz_trace_self *self,
			       const struct dz_call_record *rec)
{
	uint64_t what = (uint64_t)self->pid << 32 | (uint64_t)(rec->call & 0xffff) << 16 |
			(uint64_t)(-rec->result & 0xffff);

	for (int i = 0; i < DZ_TRACE_MISSED; i++) {
		struct dz_trace_missed *m = &f->missed[i];
		uint64_t none = 0;

		if (atomic_compare_exchange_strong(&m->what, &none, what)) {
			trace_library(rec->caller, m->library, sizeof(m->library));
			atomic_store_explicit(&m->caller, rec->caller, memory_order_release);
		} else if (none != what ||
			   atomic_load_explicit(&m->caller, memory_order_relaxed) != rec->caller) {
			continue;
		}
		atomic_fetch_add_explicit(&m->n, 1, memory_order_relaxed);
		return;
	}
}

/* ---- lines ---- */

/* Bytes that are put one after the other into the cells behind an event. */
struct text {
	struct dz_trace_file *f;
	uint32_t ring;
	uint64_t pos;	/* cell */
	uint32_t at;	/* in it */
	uint32_t cells; /* taken so far, or needed */
	bool is_dry;	/* only count */
};

static void text_put(struct text *t, const char *data, size_t n)
{
	while (n) {
		size_t room = DZ_TRACE_CELL - t->at, k;

		if (t->at == 0 || room == 0) {
			t->cells++;
			t->pos++;
			t->at = 8; /* its first word stays zero */
			continue;
		}
		k = n < room ? n : room;
		if (!t->is_dry)
			memcpy(dz_trace_cell(t->f, t->ring, t->pos) + t->at, data, k);
		t->at += (uint32_t)k;
		data += k;
		n -= k;
	}
}

static void text_string(struct text *t, const char *s)
{
	text_put(t, s, strnlen(s, DZ_TRACE_TEXT - 1));
	text_put(t, "", 1);
}

static void text_all(struct text *t, const struct dz_call_record *rec)
{
	if (rec->fd_path)
		text_string(t, rec->fd_path);
	for (uint32_t i = 0; i < 6 && i < rec->n_args; i++) {
		if (rec->strings >> i & 1)
			text_string(t, (const char *)rec->args[i]);
	}
	text_put(t, rec->data, rec->data_len);
}

/* Room for n cells: the first of them, or UINT64_MAX. */
static uint64_t ring_claim(struct dz_trace_ring *r, uint32_t n)
{
	uint64_t head = atomic_load_explicit(&r->head, memory_order_relaxed);

	do {
		/* Acquire: pairs with the reader's release; the cells were zeroed before. */
		uint64_t tail = atomic_load_explicit(&r->tail, memory_order_acquire);

		if (head + n - tail > DZ_TRACE_CELLS) {
			atomic_fetch_add_explicit(&r->dropped, 1, memory_order_relaxed);
			return UINT64_MAX;
		}
	} while (!atomic_compare_exchange_weak(&r->head, &head, head + n));
	return head;
}

static uint32_t us_of(uint64_t ns)
{
	return ns / 1000 > UINT32_MAX ? UINT32_MAX : (uint32_t)(ns / 1000);
}

static void event_fill(struct dz_trace_event *ev, const struct dz_trace_self *self,
		       const struct dz_call_info *info, const struct dz_call_record *rec)
{
	ev->result = rec->result;
	ev->pid = self->pid;
	ev->tid = self->tid;
	ev->call = (uint16_t)rec->call;
	ev->n_args = (uint8_t)rec->n_args;
	ev->flags = (uint8_t)((rec->is_bypass ? DZ_TRACE_IS_BYPASS : 0) |
			      (rec->fd_path ? DZ_TRACE_HAS_FD_PATH : 0) |
			      (rec->has_stat ? DZ_TRACE_HAS_STAT : 0));
	ev->strings = (uint8_t)rec->strings;
	ev->tier = (uint8_t)(info->tier < DZ_TIERS ? info->tier : 0);
	ev->gets = (uint8_t)(info->gets < 255 ? info->gets : 255);
	for (uint32_t i = 0; i < rec->n_args && i < 6; i++)
		*(i < 2 ? &ev->args01[i] : &ev->args25[i - 2]) = (uint64_t)rec->args[i];
	ev->disk_us = us_of(info->disk_ns);
	ev->queue_us = us_of(info->queue_ns);
	ev->net_us = us_of(info->net_ns);
	ev->mode = rec->mode;
	ev->data_len = rec->data_len;
	ev->size = rec->is_bypass ? rec->caller : rec->size;
}

static void trace_line(struct dz_trace_file *f, const struct dz_trace_self *self,
		       const struct dz_call_info *info, uint64_t start, uint64_t ticks,
		       const struct dz_call_record *rec)
{
	uint32_t n_rings = atomic_load_explicit(&f->n_rings, memory_order_relaxed);
	struct text t = { .f = f, .cells = 2, .is_dry = true };
	uint8_t *first, *second;
	struct dz_trace_event ev;
	uint64_t pos;

	if (n_rings == 0 || n_rings > DZ_TRACE_RINGS)
		return;
	t.ring = self->ring % n_rings;
	text_all(&t, rec);
	pos = ring_claim(&f->rings[t.ring], t.cells);
	if (pos == UINT64_MAX)
		return;
	ev = (struct dz_trace_event){ .start = start, .ticks = ticks, .n_cells = (uint8_t)t.cells };
	event_fill(&ev, self, info, rec);
	t = (struct text){ .f = f, .ring = t.ring, .pos = pos + 1, .cells = 2 };
	text_all(&t, rec);
	first = dz_trace_cell(f, t.ring, pos);
	second = dz_trace_cell(f, t.ring, pos + 1);
	memcpy(second + 8, (char *)&ev + DZ_TRACE_CELL + 8, DZ_TRACE_CELL - 8);
	memcpy(first + 8, (char *)&ev + 8, DZ_TRACE_CELL - 8);
	/* Release: pairs with the reader's acquire; the event is whole when it is seen. */
	atomic_store_explicit((_Atomic uint64_t *)(void *)first, pos + 1, memory_order_release);
}

/* ---- a call ---- */

/*
 * Most calls under -c: one kind over and over, from memory.  They touch one line of this
 * thread's and one of the table; 4 KiB that are copied in between leave no others near.
 */
static struct dz_trace_next *trace_next(const struct dz_engine *e, struct dz_trace_self *self,
					uint32_t call)
{
	struct dz_trace_next *next = &self->next[call % DZ_ARRAY_LEN(self->next)];

	return next->left && next->call == call && next->word == trace_word(e) ? next : NULL;
}

static bool trace_count_next(const struct dz_engine *e, struct dz_trace_self *self, uint32_t call,
			     int64_t result)
{
	struct dz_trace_next *next = trace_next(e, self, call);
	struct dz_trace_counts *counts;
	uint32_t left;

	if (!next)
		return false;
	/* A handler's calls, in between, may use up or change what is prepared. */
	counts = next->counts;
	left = next->left;
	atomic_signal_fence(memory_order_seq_cst);
	if (left == 0 || trace_next(e, self, call) != next)
		return false;
	next->left = left - 1;
	if (result < 0 || self->info.span == self->span)
		return false;
	trace_add(true, &counts->calls, 1);
	trace_add(true, &counts->bytes, (uint64_t)result);
	return true;
}

/* The calls of this kind up to the next that is timed are counted as above. */
static void trace_prepare_next(struct dz_trace_self *self, uint64_t word, uint32_t call,
			       struct dz_trace_counts *counts)
{
	struct dz_trace_next *next = &self->next[call % DZ_ARRAY_LEN(self->next)];
	uint32_t n = self->seen[call % 64], left = -n % TIMED_EACH;

	if (n < TIMED_FIRST || left == 0 || self->is_preparing)
		return;
	self->is_preparing = true;
	atomic_signal_fence(memory_order_seq_cst);
	/* What the one before has not used up. */
	self->seen[next->call % 64] = (uint16_t)(self->seen[next->call % 64] - next->left);
	next->left = 0;
	atomic_signal_fence(memory_order_seq_cst);
	next->word = word;
	next->counts = counts;
	next->call = call;
	self->seen[call % 64] = (uint16_t)(n + left);
	atomic_signal_fence(memory_order_seq_cst);
	next->left = left;
	self->is_preparing = false;
}

void dz_engine_span_begin(struct dz_engine *e, struct dz_trace_self *self,
			  struct dz_call_span *span, uint32_t call)
{
	uint16_t n;

	span->outer = self->span;
	self->span = ++self->spans;
	span->weight = 0;
	span->start = 0;
	if (trace_next(e, self, call))
		return;
	n = self->seen[call % 64]++;
	span->weight = n < TIMED_FIRST ? 1 : n % TIMED_EACH == 0 ? TIMED_EACH : 0;
	if (trace_word(e) & DZ_TRACE_LINES)
		span->weight = 1;
	span->start = span->weight ? dz_ticks() : 0;
}

/* Nobody empties the rings any more: the tracer was killed. */
static bool trace_is_left(const struct dz_trace_file *f)
{
	return dz_wall_ms() >
	       atomic_load_explicit(&f->alive_ms, memory_order_relaxed) + DZ_TRACE_DEAD_S * 1000;
}

/* The file that this thread writes to; NULL: nobody looks any more. */
static struct dz_trace_file *trace_mine(struct dz_engine *e, struct dz_trace_self *self,
					uint64_t *word)
{
	struct dz_trace_file *f = trace_file(e, word);

	if (!f || (self->session == dz_trace_session(*word) &&
		   self->pid == atomic_load_explicit(&e->pid, memory_order_relaxed)))
		return f;
	trace_enter(e, f, *word, self);
	if (!trace_is_left(f))
		return f;
	trace_refuse(e, *word);
	return NULL;
}

static const struct dz_call_info *trace_needs(const struct dz_trace_self *self)
{
	static const struct dz_call_info nothing;

	return self->info.span == self->span ? &self->info : &nothing;
}

bool dz_engine_span_count(struct dz_engine *e, struct dz_trace_self *self,
			  struct dz_call_span *span, uint32_t call, int64_t result)
{
	struct dz_trace_counts *counts = NULL;
	struct dz_trace_file *f;
	uint64_t ticks, word;

	if (!span->weight && trace_count_next(e, self, call, result)) {
		self->span = span->outer;
		return true;
	}
	ticks = span->weight ? dz_ticks() - span->start : 0;
	f = trace_mine(e, self, &word);
	if (f && (word & DZ_TRACE_LINES))
		return false;
	if (f && call < DZ_STAT_CALLS)
		counts = trace_count(f, self->table, trace_needs(self), span, ticks, call, result);
	if (counts)
		trace_prepare_next(self, word, call, counts);
	self->span = span->outer;
	return true;
}

void dz_engine_span_end(struct dz_engine *e, struct dz_trace_self *self, struct dz_call_span *span,
			const struct dz_call_record *rec)
{
	uint64_t ticks = span->weight ? dz_ticks() - span->start : 0, word;
	struct dz_trace_file *f = trace_mine(e, self, &word);
	const struct dz_call_info *info = trace_needs(self);

	if (f && rec->is_bypass)
		trace_count_bypass(f, self, rec);
	else if (f && (word & DZ_TRACE_COUNTS) && rec->call < DZ_STAT_CALLS)
		trace_count(f, self->table, info, span, ticks, rec->call, rec->result);
	if (f && (word & DZ_TRACE_LINES) && span->start)
		trace_line(f, self, info, span->start, ticks, rec);
	self->span = span->outer;
}
