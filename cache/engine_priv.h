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

/* A thread's disk buffers; found by thread id, taken over when that thread is gone. */
struct dz_engine_bounce {
	_Atomic uint32_t tid; /* 0: free */
	struct dz_bounce *bounce;
};

/* One mapping handed to the program: what it pins. */
struct dz_pins;

struct dz_engine {
	struct dz_config cfg;
	struct dz_log log;
	struct dz_seg seg;
	struct dz_disk *disk; /* NULL: no disk tier */
	char *const *envp;
	char lib_dir[DZ_PATH_MAX]; /* where our shared object lies */
	uint32_t rec[DZ_MOUNTS_MAX];   /* mount of the config -> mount record */
	uint32_t agent[DZ_MOUNTS_MAX]; /* -> agent record of its credentials */
	_Atomic uint32_t is_inline;    /* no agent: this process fetches itself */
	_Atomic uint32_t inline_lock;  /* one thread pumps at a time */
	struct dz_inline *inl;	       /* the fetch module's state, made on first use */
	_Atomic uint32_t pid;
	_Atomic uint64_t agent_seen_ms; /* an agent was alive then */
	struct dz_engine_bounce bounces[DZ_ENGINE_BOUNCES];
	_Atomic uint64_t logged; /* bits: messages that are said once a process */
};

/* A seqlock copy out of DRAM: n on success, 0 when those bytes are not there. */
size_t dz_dram_copy(const struct dz_seg *seg, struct dz_key key, uint32_t off, size_t n,
		    void *dst);
/* Are pieces `mask` of the block in DRAM? */
bool dz_dram_has(const struct dz_seg *seg, struct dz_key key, uint32_t mask);
/* Bits of the pieces that [off, off + n) of a block touches. */
uint32_t dz_pieces(uint32_t off, size_t n);

ssize_t dz_read_at(struct dz_engine *e, struct dz_ofile *f, void *buf, size_t len, uint64_t off);
/* Asks for blocks [first, last] unless some tier has them; does not wait. */
void dz_read_prefetch(struct dz_engine *e, const struct dz_ofile *f, uint64_t first,
		      uint64_t last);

/*
 * Waits until pieces `mask` of block `blk` are in DRAM (0), or the block is on
 * disk (1), or -errno with one log line.
 */
int dz_miss_wait(struct dz_engine *e, const struct dz_ofile *f, uint64_t blk, uint32_t mask,
		 uint32_t want, uint32_t flags);
/* Starts fetching; nobody waits. */
void dz_miss_start(struct dz_engine *e, const struct dz_ofile *f, uint64_t blk, uint32_t want,
		   uint32_t flags);
/* Asks for a listing (kind DIR) or a name (ATTR) and waits for the answer. */
int dz_miss_name(struct dz_engine *e, uint32_t mount, enum dz_kind kind, const char *name,
		 size_t len, uint32_t flags, bool wait);

/* Someone fetches for this agent record: wakes or starts the agent.  -errno: nobody can. */
int dz_agent_call(struct dz_engine *e, uint32_t agent);
/* Is there one, as far as its lock tells? */
bool dz_agent_is_alive(struct dz_engine *e, uint32_t agent);
int dz_spawn_agent(struct dz_engine *e, uint32_t agent);

/* Fetches in this thread until the lease has ended: the fetch module, loaded on first use. */
int dz_inline_pump(struct dz_engine *e, const struct dz_lease_ref *ref);
void dz_inline_abandon(struct dz_engine *e);

struct dz_stats *dz_engine_stats(struct dz_engine *e);
/* True the first time in this process that bit is asked for. */
bool dz_engine_once(struct dz_engine *e, uint32_t bit);
struct dz_bounce *dz_engine_bounce(struct dz_engine *e);

#endif
