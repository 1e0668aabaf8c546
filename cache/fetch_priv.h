/* SPDX-License-Identifier: MIT */
/* Between fetch.c (taking and ending), fetch_data.c (blocks) and fetch_names.c (listings). */
#ifndef DZ_FETCH_PRIV_H
#define DZ_FETCH_PRIV_H

#include "cache/fetch.h"
#include "cache/lease.h"
#include "cache/names.h"

struct fetch_names; /* a listing that is being collected */

struct fetch_job {
	struct dz_blob_req http;
	struct dz_fetcher *f;
	struct dz_request req; /* private copy */
	struct dz_mount mount;
	char name[2 * DZ_NAME_MAX + 16]; /* as Blob knows it: with the mount's prefix */
	uint64_t word;			 /* of the lease */
	uint32_t lease;			 /* DZ_NONE: no lease any more (background) */
	/* blocks */
	struct dz_key key;
	uint32_t slot;
	uint64_t ctl;
	uint32_t block_len;
	uint64_t next; /* bytes of the block that have arrived, from its front of this range */
	/* names */
	struct fetch_names *names;
	bool is_alone_after;		 /* the listing was cut: the one name is asked for itself */
	struct fetch_job *after, **link; /* in the fetcher's list */
};

#define FETCH_BATCH 256
/* A rung lease, and the block that is asked for with it. */
struct fetch_rung {
	uint64_t blk;
	uint32_t idx;
};

struct fetch_write; /* one block on its way to the disk */

struct dz_fetcher {
	struct dz_fetch_options opt;
	struct dz_seg *seg;
	struct dz_blob *blob;
	struct fetch_writer *writer; /* the agent's disk thread; NULL inline */
	struct fetch_ahead *ahead;   /* of the agent; NULL inline */
	struct fetch_job *jobs;
	uint32_t n_jobs;
	struct fetch_rung rung[FETCH_BATCH];
	uint32_t n_rung;
	uint64_t renewed_ms;	   /* when the deadlines of their leases were last pushed back */
	struct dz_blob_stats last; /* what has been added to the counters already */
};

/* The lease's end with its message; the job is freed. */
void dz_fetch_end(struct fetch_job *job, int err);
/* The message that the waiters will log. */
void dz_fetch_why(struct fetch_job *job, int err, const char *action);
int dz_fetch_submit(struct fetch_job *job);

void dz_fetch_data_start(struct fetch_job *job);
void dz_fetch_names_start(struct fetch_job *job);

/* small blobs before they are asked for (fetch_ahead.c) */
int dz_fetch_ahead_open(struct dz_fetcher *f);
void dz_fetch_ahead_close(struct dz_fetcher *f);
/* A program waited for this small blob. */
void dz_fetch_ahead_demand(struct fetch_job *job);
/* One of ours has ended. */
void dz_fetch_ahead_ended(struct dz_fetcher *f);
/* Asks for more, as far as what was waited for justifies it. */
void dz_fetch_ahead_run(struct dz_fetcher *f);

/* disk writes (fetch_write.c) */
int dz_fetch_writer_open(struct dz_fetcher *f);
void dz_fetch_writer_close(struct dz_fetcher *f);
/* Room for another block? */
bool dz_fetch_writer_has_room(const struct dz_fetcher *f);
bool dz_fetch_writer_is_idle(const struct dz_fetcher *f);
/* A complete block lies in DRAM `slot`: write it to the disk tier, now or soon. */
void dz_fetch_write(struct dz_fetcher *f, uint32_t slot, uint64_t ctl);

#endif
