/* SPDX-License-Identifier: MIT */
/* The engine's own state and the calls between its files; engine.h is the door. */
#ifndef DZ_ENGINE_PRIV_H
#define DZ_ENGINE_PRIV_H

#include "cache/bounce.h"
#include "cache/disk.h"
#include "cache/engine.h"
#include "cache/files.h"
#include "cache/lease.h"
#include "cache/member.h"
#include "cache/names.h"
#include "cache/segment.h"

#define DZ_ENGINE_BOUNCES 64
#define DZ_ENGINE_HINTS	  16384 /* a power of two: 64 KiB for 16 GiB in whole blocks */

/* A thread's disk buffers; found by thread id, taken over when that thread is gone. */
struct dz_engine_bounce {
	_Atomic uint32_t tid; /* 0: free */
	_Atomic bool is_busy;
	struct dz_bounce *bounce;
	/* While busy: `turn` stands there, on the user's stack.  NULL: about to be known. */
	_Atomic(_Atomic uint64_t *) mark;
	uint64_t turn;
};

struct dz_maps; /* what is mapped in this process: maps.c */

/* Of lazy mappings: lazy.c. */
struct dz_lazy {
	_Atomic uint32_t lock;
	bool is_open;
	int fd;		  /* when open: our userfaultfd; high, O_CLOEXEC */
	uint32_t agent;	  /* whose files it serves */
	uint64_t session; /* the pager's name for us; 0: none */
	uint64_t ids;	  /* given to mappings so far */
	uint64_t off_until_ms;
};

struct dz_engine {
	struct dz_engine_front front;
	struct dz_config cfg;
	struct dz_log log;
	struct dz_seg seg;
	struct dz_seg shared;	       /* read only, where ours had to be private; hdr NULL: none */
	struct dz_disk *disk;	       /* NULL: no disk tier */
	char lib_dir[DZ_PATH_MAX];     /* where our shared object lies */
	uint32_t rec[DZ_MOUNTS_MAX];   /* mount of the config -> mount record */
	uint32_t agent[DZ_MOUNTS_MAX]; /* -> agent record of its credentials */
	uint32_t home_agent;	       /* of files of no mount of ours: the pager's */
	char *const *envp;
	_Atomic uint32_t is_inline;   /* no agent: this process fetches itself */
	_Atomic uint32_t inline_lock; /* one thread pumps at a time */
	dz_lookup_fn *lookup;	      /* dlsym, or what stands for it */
	dz_guard_fn *guard;	      /* or NULL */
	struct dz_inline *inl;	      /* the fetch module's state, made on first use */
	_Atomic uint32_t pid;
	_Atomic bool has_locked;      /* flock was called: a close may be waited for */
	struct dz_maps *_Atomic maps; /* made by the first mmap of a managed file */
	struct dz_lazy lazy;
	_Atomic uint64_t agent_seen_ms; /* an agent was alive then */
	struct dz_engine_bounce bounces[DZ_ENGINE_BOUNCES];
	_Atomic uint64_t bounce_turn;
	_Atomic uintptr_t stripe_owner[DZ_STAT_STRIPES - 1]; /* thread pointers */
	_Atomic uint64_t no_trace; /* 0; what front.trace shows when we are no member */
	_Atomic uint32_t trace_lock;
	_Atomic uint32_t trace_session;		    /* of the file that is mapped; 0 none */
	_Atomic(struct dz_trace_file *) trace_file; /* stays reserved once it was mapped */
	ptrdiff_t trace_self;		/* from the thread pointer to its dz_trace_self; 0 none */
	_Atomic uint64_t said[16];	/* failures of late: see miss.c */
	struct dz_engine *_Atomic past; /* made when DRAM is held by others: past.h */
	_Atomic uint64_t past_until_ms;
	_Atomic uint64_t logged; /* bits: messages that are said once a process */
	/*
	 * Where blocks were last, those of a file side by side: 16 of them in a line that
	 * stays near, where the index has a line for each, and memory between it and
	 * the bytes.  Any thread stores any slot there; a slot's record has the last word.
	 */
	_Atomic uint32_t hints[DZ_ENGINE_HINTS];
};

/*
 * A seqlock copy out of DRAM: n on success, 0 when those bytes are not there.
 * *slot says where the block is, DZ_NONE when it is not in DRAM.
 */
size_t dz_dram_copy(const struct dz_seg *seg, struct dz_key key, uint32_t off, size_t n, void *dst,
		    uint32_t *slot);
/* The same without a search: true when `slot`, one of DRAM's, had them. */
bool dz_dram_copy_at(const struct dz_seg *seg, struct dz_key key, uint32_t slot, uint32_t off,
		     size_t n, void *dst);
/* Are pieces `mask` of the block in DRAM? */
bool dz_dram_has(const struct dz_seg *seg, struct dz_key key, uint32_t mask);
/* Bits of the pieces that [off, off + n) of a block touches. */
static inline uint32_t dz_pieces(uint32_t off, size_t n)
{
	uint32_t first = off / (uint32_t)DZ_PIECE_BYTES;
	uint32_t last = (uint32_t)((off + n - 1) / DZ_PIECE_BYTES);

	return (uint32_t)((2ull << last) - (1ull << first));
}

/* Where the engine's own descriptors stand, but for those of the disk tier; how many. */
#define DZ_ENGINE_FDS 5
uint32_t dz_engine_fd_places(struct dz_engine *e, int *places[DZ_ENGINE_FDS]);

ssize_t dz_read_at(struct dz_engine *e, struct dz_ofile *f, void *buf, size_t len, uint64_t off);
static inline struct dz_key dz_read_key(const struct dz_ofile *f, uint64_t blk)
{
	return dz_block_key((struct dz_key){ f->key_lo, f->key_hi }, blk);
}

/*
 * From the disk tier: as many of `len` bytes from `off` of block `blk` on as lie
 * there block after block (> 0), 0 the first block is not there, -errno.
 */
ssize_t dz_read_disk(struct dz_engine *e, struct dz_ofile *f, uint64_t blk, uint32_t off,
		     size_t len, void *dst);
/* From the disk tier into DRAM, whatever the policy says.  0, -ENOENT, -ENOSPC. */
int dz_disk_bring(struct dz_engine *e, const struct dz_ofile *f, uint64_t blk);
/* Block `blk`, checked, which these parts have one after the other, becomes a DRAM block. */
int dz_disk_promote(struct dz_engine *e, const struct dz_ofile *f, uint64_t blk,
		    const struct iovec *parts, uint32_t n_parts);

/*
 * What a thread reads of one file from the disk tier, in order (read_stream.c); `b` is
 * locked.  First the place: what is under way for somewhere else is waited for and
 * forgotten.  Then what is read from there, up to `len` bytes: how many, 0 the first is not
 * on the disk; or, read by other ways, how many those were.
 */
void dz_stream_place(const struct dz_ofile *f, struct dz_bounce *b, uint64_t pos);
ssize_t dz_stream_read(struct dz_engine *e, const struct dz_ofile *f, struct dz_bounce *b,
		       size_t len, void *dst);
void dz_stream_went(struct dz_stream *s, size_t n);
/* Nothing is under way; the buffers have that block, read whole and checked. */
void dz_stream_keep(struct dz_bounce *b, uint64_t blk, uint32_t slot, uint64_t ctl, uint32_t len);
/* Nothing is under way any more. */
void dz_stream_drop(struct dz_bounce *b);
/* Asks for blocks [first, last] unless some tier has them; does not wait. */
void dz_read_prefetch(struct dz_engine *e, const struct dz_ofile *f, uint64_t first, uint64_t last);

/*
 * Waits until pieces `mask` of block `blk` are in DRAM (0), or the block is on
 * disk (1; not with DZ_MISS_FETCH among the flags), or -errno with one log line.
 */
#define DZ_MISS_FETCH 0x80000000u /* the disk's copy cannot be had: ask Blob */
#define DZ_MISS_PAST  0x40000000u /* -ENOBUFS instead of -EIO: the caller can go past (past.h) */
int dz_miss_wait(struct dz_engine *e, const struct dz_ofile *f, uint64_t blk, uint32_t mask,
		 uint32_t want, uint32_t flags);
/* Starts fetching; nobody waits. */
void dz_miss_start(struct dz_engine *e, const struct dz_ofile *f, uint64_t blk, uint32_t want,
		   uint32_t flags);
/*
 * Asks for a listing (kind DIR) or a name (ATTR) and waits for the answer.  -ENOBUFS: no
 * room in DRAM for it, the caller goes past (past.h).
 */
int dz_miss_name(struct dz_engine *e, uint32_t mount, enum dz_kind kind, const char *name,
		 size_t len, uint32_t flags, bool wait);

/* Someone fetches for this agent record: wakes or starts the agent.  -errno: nobody can. */
int dz_agent_call(struct dz_engine *e, uint32_t agent);
/* Is there one, as far as its lock tells? */
/* Have we the credentials of its requests?  Else only an agent that runs already can fetch. */
bool dz_agent_is_own(const struct dz_engine *e, uint32_t agent);
bool dz_agent_is_alive(struct dz_engine *e, uint32_t agent);
int dz_spawn_agent(struct dz_engine *e, uint32_t agent);
int dz_spawn_pager(struct dz_engine *e, uint32_t agent);

/* Fetches in this thread until the lease has ended: the fetch module, loaded on first use. */
int dz_inline_pump(struct dz_engine *e, const struct dz_lease_ref *ref);
void dz_inline_fork_prepare(struct dz_engine *e);
void dz_inline_fork_parent(struct dz_engine *e);
void dz_inline_abandon(struct dz_engine *e);

/*
 * Where this thread counts.  The first threads of a process have a stripe of
 * their own and add with a plain store; all others share one and add atomically.
 */
struct dz_counter {
	struct dz_stats *stats;
	bool is_own;
};
/* Of a thread that is not the first: finds its stripe, or takes one. */
struct dz_counter dz_engine_counter_find(struct dz_engine *e, uint32_t member);

static inline struct dz_counter dz_engine_counter(struct dz_engine *e)
{
	uint32_t member = e->seg.member < e->seg.n_members ? e->seg.member : 0;

	if (atomic_load_explicit(&e->stripe_owner[0], memory_order_relaxed) !=
	    (uintptr_t)__builtin_thread_pointer())
		return dz_engine_counter_find(e, member);
	return (struct dz_counter){ &e->seg.stats[(size_t)member * DZ_STAT_STRIPES], true };
}

static inline void dz_count(struct dz_counter c, _Atomic uint64_t *counter, uint64_t n)
{
	if (c.is_own)
		atomic_store_explicit(counter,
				      atomic_load_explicit(counter, memory_order_relaxed) + n,
				      memory_order_relaxed);
	else
		atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

/* What the calling thread's call needed, for who looks at it. */
/* It was served from `tier` after waiting for `disk_ns` there. */
void dz_call_needed(const struct dz_engine *e, enum dz_tier tier, uint64_t disk_ns);
/* It waited for a fetcher from since_ns until now; the fetcher began at active_us. */
void dz_call_waited(const struct dz_engine *e, uint64_t since_ns, uint32_t active_us);
/* It caused a request. */
void dz_call_asked(const struct dz_engine *e);

/* True the first time in this process that bit is asked for. */
bool dz_engine_once(struct dz_engine *e, uint32_t bit);
/*
 * Disk buffers of this thread, made on first use; NULL when there is no memory.  *mark, in
 * the caller's frame, is written, and stays as it is until the unlock.
 */
struct dz_bounce *dz_engine_bounce_lock(struct dz_engine *e, _Atomic uint64_t *mark);
void dz_engine_bounce_unlock(struct dz_engine *e, struct dz_bounce *b);
/* In a forked child: the parent's. */
void dz_engine_forget_bounces(struct dz_engine *e);
/* The records of the mounts, and of the agents for them, in its segment. */
int dz_engine_bind_mounts(struct dz_engine *e);
/* After a fork whose child could not take over its record: it uses those of its parent. */
void dz_engine_hold_mounts(struct dz_engine *e);
/* A real descriptor of the file's bytes, or a mapping of such a one. */
int dz_real_fd(struct dz_engine *e, struct dz_ofile *f);

/*
 * A name's attributes.  `strict`: confirmed by Blob within the time to live
 * (open); otherwise an answer of up to twice that age will do.
 */
int dz_name_resolve(struct dz_engine *e, uint32_t mount, const char *name, size_t len, bool strict,
		    struct dz_attr *attr);

#endif
