/* SPDX-License-Identifier: MIT */
/* Between pager.c (processes and events), pager_table.c (who has what mapped) and pager_fill.c. */
#ifndef DZ_PAGER_PRIV_H
#define DZ_PAGER_PRIV_H

#include "cache/lazy.h"
#include "cache/pager.h"

#include <pthread.h>

#define PAGER_SESSIONS 2048u
#define PAGER_RANGES   8192u
#define PAGER_QUEUE    4096u
#define PAGER_FILLERS  8u
#define PAGER_STREAMS  4u
#define PAGER_UNIT     ((uint64_t)DZ_MIB) /* most that is filled at once */

enum pager_use { PAGER_FREE, PAGER_BUILDING, PAGER_USED, PAGER_DYING };

/* One process's memory: its userfaultfd. */
struct pager_session {
	_Atomic uint32_t use;
	uint32_t parent; /* building: whose ranges are being copied */
	int32_t uffd;	 /* here */
	uint32_t pid;	 /* 0: a child of fork that has not come forward */
	int32_t fd;	 /* its number there */
	uint64_t id;
};

struct pager_range {
	_Atomic uint32_t use;
	uint32_t session;
	uint64_t at, end;
	uint64_t delta; /* of the file's offset to the address; constant, so a cut is one store */
	uint64_t id;
	uint64_t mount;
};

/*
 * In a file, mapped by pager and keeper: it outlives both.  Every change is finished
 * by one store, so a pager that is killed leaves a state that the next can go on with.
 */
struct pager_head {
	uint32_t magic, bytes;
	_Atomic uint64_t ids;
	_Atomic uint32_t live;	 /* sessions in use */
	_Atomic int32_t reading; /* the session whose events are being read, or -1 */
};

struct pager_state {
	struct pager_head head;
	_Atomic uint32_t sessions; /* no record from here on was ever used */
	_Atomic uint32_t ranges;
	struct pager_session session[PAGER_SESSIONS];
	struct pager_range range[PAGER_RANGES];
	struct dz_ofile file[PAGER_RANGES];
};

struct pager_fault {
	uint32_t session;
	uint64_t at;
};

struct pager;
struct pager_filler {
	struct pager *p;
	pthread_t thread;
	uint8_t *buf;
	/* what it fills, under p->lock */
	bool is_busy;
	uint32_t session, range;
	uint64_t at, end, fault;
	pthread_mutex_t copying; /* after p->lock */
	bool is_cancelled;	 /* under `copying` */
};

/* Where a sequential reader of a range would go on, and how much it gets then. */
struct pager_stream {
	uint64_t next, window;
};

struct pager {
	struct dz_config cfg;
	struct dz_log log;
	struct dz_engine *e; /* of the pager; NULL in the keeper */
	struct pager_state *st;
	const char *lib_dir;
	uint32_t agent;
	int dir_fd, state_fd, listen_fd, epoll_fd, keeper_fd;
	int keeper; /* its pid */
	uint64_t alone_since_ms;
	pthread_mutex_t lock; /* of st's sessions and ranges, and of all below */
	pthread_cond_t wanted;
	struct pager_fault queue[PAGER_QUEUE];
	uint32_t head, queued;
	bool has_overflow; /* faults were dropped: everyone is woken when there is room */
	uint32_t busy[PAGER_RANGES];
	struct pager_stream stream[PAGER_RANGES][PAGER_STREAMS];
	uint32_t oldest[PAGER_RANGES]; /* stream to be given up next */
	struct pager_filler filler[PAGER_FILLERS];
};

/* pager_table.c; all with the lock held, or alone */
int pager_session_new(struct pager *p, int uffd, enum pager_use use);
void pager_session_end(struct pager *p, uint32_t session);
int pager_session_find(const struct pager *p, uint64_t id);
/* -ENOSPC: the table is full. */
int pager_range_add(struct pager *p, uint32_t session, const struct dz_lazy_msg *msg);
/* [at, end) is in no range of the session (id 0: of any mapping) any more. */
void pager_ranges_cut(struct pager *p, uint32_t session, uint64_t at, uint64_t end, uint64_t id);
int pager_range_find(const struct pager *p, uint32_t session, uint64_t at);
/* A child of fork has what its parent has.  Afterwards it is in use. */
void pager_ranges_inherit(struct pager *p, uint32_t session, uint32_t parent);
void pager_range_release(struct pager *p, uint32_t range);
/* The range's file is of a mount of the segment that we are attached to. */
void pager_range_settle(struct pager *p, uint32_t range);
/* Does the process live? */
bool pager_session_is_dead(const struct pager *p, uint32_t session);
void pager_wake(const struct pager *p, uint32_t session);

/* pager_fill.c */
int pager_fillers_start(struct pager *p);
void pager_queue(struct pager *p, uint32_t session, uint64_t at);
/* What is being filled in [at, end), of whomever: not after the return.  With the lock held. */
void pager_cancel(struct pager *p, uint64_t at, uint64_t end);
void pager_cancel_session(struct pager *p, uint32_t session);

#endif
