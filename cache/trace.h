/* SPDX-License-Identifier: MIT */
/*
 * What a process under `dz trace` leaves for the tracer, in shared memory.
 *
 * A tracer makes one file a session, `trace.SESSION` in the cache's directory,
 * and writes the session's number and what it wants into the `trace` word of the
 * members it looks at.  Their threads find the word at their next call, map the
 * file, and from then on
 *
 *     lines   put an event a call into a ring,
 *     counts  add each call to a histogram: call, tier, duration,
 *
 * and never wait: a full ring counts what it drops.  What was written survives the
 * writer's death.  With the word at DZ_TRACE_CLOSE the next call gives the file
 * back; nothing but an empty piece of address space stays, because a thread may
 * still be on its way out of it.
 *
 * A ring has any number of writers and one reader.  Its cells are 64 bytes; an
 * event takes two and those of its text.
 *
 *     claim   CAS head from h to h + n, only if h + n - tail <= cells
 *     write   all but the first word of the first cell, then that: h + 1 (release)
 *     read    the first word is h + 1 (acquire): copy, zero the first words, tail += n
 *
 * A writer that dies in between leaves a zero where its event would begin; when
 * nobody is left who could write it, the reader goes on at the next cell p whose
 * first word is p + 1.
 */
#ifndef DZ_TRACE_H
#define DZ_TRACE_H

#include "cache/engine.h"
#include "cache/stats.h"

#define DZ_TRACE_MAGIC	   0x31454341525a4c44ull /* "DLZRACE1" */
#define DZ_TRACE_RINGS	   32
#define DZ_TRACE_CELLS	   16384u /* of a ring: 1 MiB */
#define DZ_TRACE_CELL	   64u
#define DZ_TRACE_TABLES	   32 /* the last one is shared by all threads beyond */
#define DZ_TRACE_ROWS	   40
#define DZ_TRACE_MISSED	   64	/* distinct bypasses that are kept apart */
#define DZ_TRACE_DEAD_S	   15	/* a tracer that was not heard of for so long is gone */
#define DZ_TRACE_TEXT	   1088 /* of one string of an event, its NUL included */
#define DZ_TRACE_CELLS_MAX 96u	/* of one event */

/* member->trace: session:32 | bytes of content:16 | what is wanted */
enum dz_trace_want {
	DZ_TRACE_LINES = 1,
	DZ_TRACE_COUNTS = 2,
	DZ_TRACE_PATHS = 4,  /* the path of a call's descriptor */
	DZ_TRACE_FOLLOW = 8, /* children too */
	DZ_TRACE_CLOSE = 16,
};

static inline uint32_t dz_trace_session(uint64_t word)
{
	return (uint32_t)(word >> 32);
}

/*
 * Four buckets an octave of clock ticks, from 16 ticks on; those below are the
 * first, those above 2^41 the last.
 */
#define DZ_TRACE_BUCKETS 152
static inline uint32_t dz_trace_bucket(uint64_t ticks)
{
	uint32_t msb, n;

	if (ticks < 16)
		return 0;
	msb = 63 - (uint32_t)__builtin_clzll(ticks);
	n = (msb - 4) * 4 + (uint32_t)(ticks >> (msb - 2) & 3);
	return n < DZ_TRACE_BUCKETS ? n : DZ_TRACE_BUCKETS - 1;
}

/* One more than the largest number of ticks in a bucket. */
static inline uint64_t dz_trace_bucket_end(uint32_t bucket)
{
	return (uint64_t)(5 + bucket % 4) << (bucket / 4 + 2);
}

/*
 * Counts of one call by one thread and tier.  Tier 0: nothing slower than memory
 * was needed; of these a timed one stands for others, and `timed` is their sum.
 */
struct dz_trace_row {
	struct dz_trace_counts {
		_Atomic uint64_t calls;
		_Atomic uint64_t bytes; /* sum of the results above 0 */
		_Atomic uint64_t errors;
		_Atomic uint64_t timed;
		_Atomic uint64_t ticks;
		_Atomic uint64_t max;
		_Atomic uint64_t queue_ns, net_ns, disk_ns;
		_Atomic uint32_t buckets[DZ_TRACE_BUCKETS];
	} tiers[DZ_TIERS];
};
struct dz_trace_table {
	_Atomic uint64_t owner;	      /* pid:32 | tid:32, 0 free */
	_Atomic uint64_t lost;	      /* calls for which there was no row */
	uint16_t call[DZ_TRACE_ROWS]; /* + 1; 0: free */
	uint8_t row[DZ_STAT_CALLS];   /* + 1; 0: none yet */
	struct dz_trace_row rows[DZ_TRACE_ROWS];
};

enum dz_trace_flag {
	DZ_TRACE_IS_BYPASS = 1,
	DZ_TRACE_HAS_FD_PATH = 2, /* the first string is the path of a descriptor */
	DZ_TRACE_HAS_STAT = 4,	  /* mode and size are those of a struct stat */
};

/* The two cells of an event; strings follow, each with its NUL, then the content. */
struct dz_trace_event {
	_Atomic uint64_t seq;
	uint64_t start; /* ticks */
	uint64_t ticks; /* taken */
	int64_t result;
	uint32_t pid, tid;
	uint16_t call;
	uint8_t n_args;
	uint8_t n_cells;
	uint8_t flags;
	uint8_t strings; /* bit i: argument i is a string of the text */
	uint8_t tier;
	uint8_t gets;
	uint64_t args01[2];
	uint64_t zero; /* first word of the second cell */
	uint64_t args25[4];
	uint32_t disk_us, queue_us, net_us;
	uint16_t mode;
	uint16_t data_len;
	uint64_t size; /* bypass: the caller's address */
};
_Static_assert(sizeof(struct dz_trace_event) == 2 * DZ_TRACE_CELL, "an event is two cells");

struct dz_trace_ring {
	_Alignas(64) _Atomic uint64_t head;
	_Atomic uint64_t dropped;
	_Alignas(64) _Atomic uint64_t tail;
};

/* A kind of bypass: pid:32 | call:16 | -result:16, and where it was called from. */
struct dz_trace_missed {
	_Atomic uint64_t what;
	_Atomic uint64_t caller;
	_Atomic uint64_t n;
	char library[40]; /* what is mapped there; filled in before n */
};

struct dz_trace_file {
	uint64_t magic;
	uint64_t bytes;
	uint32_t session;
	uint32_t pid;		   /* of the tracer */
	_Atomic uint64_t alive_ms; /* wall clock, of the tracer */
	_Atomic uint32_t n_rings;  /* that have memory */
	_Atomic uint32_t next_ring, next_table;
	_Atomic uint32_t members; /* that have mapped it so far */
	uint64_t ticks_a_s;	  /* as far as the tracer knew when it began */
	struct dz_trace_ring rings[DZ_TRACE_RINGS];
	struct dz_trace_missed missed[DZ_TRACE_MISSED];
	struct dz_trace_table tables[DZ_TRACE_TABLES];
};
#define DZ_TRACE_DATA  dz_round_up(sizeof(struct dz_trace_file), DZ_PAGE)
#define DZ_TRACE_BYTES (DZ_TRACE_DATA + (uint64_t)DZ_TRACE_RINGS * DZ_TRACE_CELLS * DZ_TRACE_CELL)

static inline uint8_t *dz_trace_cell(struct dz_trace_file *f, uint32_t ring, uint64_t pos)
{
	return (uint8_t *)f + DZ_TRACE_DATA +
	       ((size_t)ring * DZ_TRACE_CELLS + pos % DZ_TRACE_CELLS) * DZ_TRACE_CELL;
}

/* A clock that costs nothing to read; the tracer finds out how long a tick is. */
static inline uint64_t dz_ticks(void)
{
#if defined(__x86_64__)
	return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
	uint64_t t;

	__asm__ volatile("mrs %0, cntvct_el0" : "=r"(t));
	return t;
#else
#error "which counter?"
#endif
}

/* Name of a session's file in the cache's directory. */
void dz_trace_file_name(uint32_t session, char name[32]);

/* In the cache's directory while somebody traces; see trace_follow.c. */
#define DZ_TRACING "tracing"
/* By /proc; 0: not known. */
uint32_t dz_trace_parent_of(uint32_t pid);
/* Of which PID namespace our numbers are. */
uint64_t dz_trace_pid_ns(void);

struct dz_seg;
/* In dz_engine_open: is this process to be traced from its start?  Sets its word. */
void dz_trace_begin(struct dz_engine *e, char *const *envp);
/* In a forked child, whose parent's word was `word`. */
/* A copy of a thread: it has its own table to find. */
void dz_trace_forget_next(const struct dz_engine *e);
void dz_trace_fork_child(struct dz_engine *e, uint64_t word);
void dz_trace_end(struct dz_engine *e);

#endif
