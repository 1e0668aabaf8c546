/* SPDX-License-Identifier: MIT */
/*
 * The parts of `dz trace`.
 *
 *     cmd_trace      options, the command or the process, the loop, the end
 *     trace_session  the shared file, whose members look there, reading the rings
 *     trace_calls    names and arguments of the calls
 *     trace_names    the constants of flags
 *     trace_paths    descriptors that an event has no path for
 *     trace_line     a call as strace would show it
 *     trace_filter   which calls are wanted
 *     trace_sum      the table of -c
 *     trace_chrome   the JSON that Perfetto and DFTracer's tools open
 *     trace_record   what dz replay reads
 */
#ifndef DZ_TOOLS_TRACE_H
#define DZ_TOOLS_TRACE_H

#include "cache/segment.h"
#include "cache/trace.h"

#include <stdio.h>

/* ---- calls ---- */

enum trace_class {
	TRACE_FILE = 1,
	TRACE_DESC = 2,
	TRACE_MEMORY = 4,
	TRACE_PROCESS = 8,
	TRACE_DATA = 16, /* a result above 0 is bytes */
	TRACE_ADDR = 32, /* the result is an address */
};

struct trace_call_info {
	const char *symbol; /* of libc */
	const char *name;   /* as strace shows it */
	const char *args;   /* see trace_calls.def; NULL: as they look */
	uint32_t classes;
};

/* Of any number; never NULL. */
const struct trace_call_info *trace_call_info(uint32_t call);

/* One call, read from a ring.  Strings are the event's own (trace_event_free). */
struct trace_event {
	uint64_t start, end; /* ticks */
	uint64_t start_ns;   /* wall clock */
	uint64_t ns;	     /* taken */
	int64_t result;
	uint32_t pid, tid, call;
	uint32_t n_args;
	uint64_t args[6];
	const char *strings[6];
	const char *fd_path; /* of the first argument, or of the descriptor that it gave */
	const char *data;
	uint32_t data_len;
	uint32_t tier, gets, disk_us, queue_us, net_us;
	bool is_bypass, has_stat;
	uint32_t mode;
	uint64_t size; /* bypass: the caller's address */
	char *text;
};
void trace_event_free(struct trace_event *ev);
/* Is its first argument a descriptor? */
bool trace_has_fd(const struct trace_event *ev);
/* Is its result a descriptor of the path that it was given? */
bool trace_gives_fd(const struct trace_event *ev);
/* The name of its tier; NULL: it needed none. */
const char *trace_tier(const struct trace_event *ev);

/* Remembers the paths of descriptors, and fills in what an event lacks. */
void trace_path_learn(struct trace_event *ev);
/* What is known of a descriptor; NULL. */
const char *trace_path_of(uint32_t pid, int64_t fd);

/* ---- the session ---- */

struct trace_events {
	struct trace_event *at;
	size_t n, cap;
};

struct trace_session {
	struct dz_seg seg;
	struct dz_log log;
	struct dz_trace_file *file;
	int fd;
	char name[32];
	uint64_t word;
	uint32_t *pids; /* of the members that are ours, 0: none; n_members of them */
	uint32_t n_live;
	uint32_t n_rings;
	uint64_t base_ticks, base_ns, wall_ns;
	double ns_a_tick;
	struct trace_events held;	/* may still be overtaken by an earlier one */
	uint64_t stuck[DZ_TRACE_RINGS]; /* since when nothing moves, ns */
};

/* `want`: enum dz_trace_want, and bytes of content in the upper half.  0 or -errno. */
int trace_open(struct trace_session *s, const struct dz_config *cfg, uint32_t want);
/*
 * Begins to look at a process.  0, -ESRCH there is none with that number, -EAGAIN
 * it has not touched a mount yet, -EBUSY somebody else looks at it.
 */
int trace_attach(struct trace_session *s, uint32_t pid);
/*
 * What this process has started so far, and, by the list that a process reads when it
 * begins, what it will start: returns how many there are.  strace does the latter
 * only; but whose number one knows is the process whose workers do the reading.
 */
uint32_t trace_attach_family(struct trace_session *s, uint32_t pid);
/* Children and successors of what we look at; counts the living. */
void trace_watch(struct trace_session *s);
/*
 * What has come since, in the order in which the calls ended.  `all`: nobody will
 * write any more.
 */
void trace_drain(struct trace_session *s, struct trace_events *out, bool all);
uint64_t trace_dropped(const struct trace_session *s);
uint64_t trace_ns(const struct trace_session *s, uint64_t ticks);
/* Lets go of the processes and removes the file. */
void trace_close(struct trace_session *s);

/* ---- which calls ---- */

#define TRACE_PATHS_MAX 32
struct trace_filter {
	bool calls[DZ_STAT_CALLS]; /* wanted */
	uint32_t tiers;		   /* bits; 0: all */
	uint64_t slower_ns;
	bool no_success, no_failure;
	const char *paths[TRACE_PATHS_MAX];
	uint32_t n_paths;
};
void trace_filter_all(struct trace_filter *f);
/* An argument of -e.  False, and the reason in `why`. */
bool trace_filter_add(struct trace_filter *f, const char *expr, char *why, size_t len);
bool trace_filter_wants(const struct trace_filter *f, const struct trace_event *ev);
/* Does it ask for more than which calls? */
bool trace_filter_needs_events(const struct trace_filter *f);

/* ---- lines ---- */

enum trace_stamp { TRACE_NO_STAMP, TRACE_SECONDS, TRACE_MICROSECONDS, TRACE_EPOCH };
struct trace_style {
	enum trace_stamp stamp;
	bool relative;	  /* -r */
	bool takes;	  /* -T */
	bool with_paths;  /* -y */
	bool is_file;	  /* -o: the thread's number in front of every line */
	uint32_t content; /* -s */
	uint32_t n_pids;  /* that have been seen */
	uint64_t last_ns;
};
void trace_line(FILE *to, struct trace_style *style, const struct trace_event *ev);
/* How a process ended, by its wait status, and when. */
void trace_end_line(FILE *to, struct trace_style *style, uint32_t pid, uint64_t ns, int status);

/* Constants of a family of flags (the letters of trace_calls.def), joined by '|'. */
void trace_flags(FILE *to, char family, uint64_t value);

/* ---- sums ---- */

struct trace_sum_row {
	uint64_t calls[DZ_TIERS];
	uint64_t ns[DZ_TIERS];
	uint64_t errors, bytes, max_ns;
	uint64_t queue_ns, net_ns, disk_ns;
	uint64_t buckets[DZ_TIERS][DZ_TRACE_BUCKETS];
};
#define TRACE_MISSED_MAX 256
struct trace_missed {
	uint32_t pid, call, err;
	uint64_t caller, n;
	char library[96];
};
struct trace_sum {
	struct trace_sum_row rows[DZ_STAT_CALLS];
	struct trace_missed missed[TRACE_MISSED_MAX];
	uint32_t n_missed;
	uint64_t lost;
};
void trace_sum_event(struct trace_sum *sum, const struct trace_event *ev);
/* The tables of threads that are gone (`all`: of every thread) are added and freed. */
void trace_sum_tables(struct trace_sum *sum, const struct trace_session *s, bool all);
void trace_sum_missed(struct trace_sum *sum, const struct trace_session *s);

enum trace_order {
	TRACE_BY_TIME,
	TRACE_BY_CALLS,
	TRACE_BY_ERRORS,
	TRACE_BY_BYTES,
	TRACE_BY_AVERAGE,
	TRACE_BY_MAX,
	TRACE_BY_NAME,
	TRACE_UNSORTED
};
/* An argument of -S; false: there is no such order. */
bool trace_order_named(const char *name, enum trace_order *order);
void trace_sum_print(FILE *to, const struct trace_sum *sum, const struct trace_session *s,
		     const struct trace_filter *f, enum trace_order order);
void trace_sum_json(FILE *to, const struct trace_sum *sum, const struct trace_session *s,
		    const struct trace_filter *f, enum trace_order order);

/* ---- JSON ---- */

/* wall_ns: when the trace began. */
void trace_chrome_begin(FILE *to, uint64_t wall_ns);
void trace_chrome_event(FILE *to, const struct trace_event *ev, bool is_first);
void trace_dftracer_event(FILE *to, const struct trace_event *ev, bool is_first);
void trace_chrome_end(FILE *to);

#endif
