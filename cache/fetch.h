/* SPDX-License-Identifier: MIT */
/*
 * The node's fetcher: takes requested leases, asks Blob, fills slots, publishes,
 * ends the leases.  One thread, any number of transfers.  It runs in the agent,
 * or (DELTAZERO_FETCH=inline) in a thread of the program that waits for it.
 */
#ifndef DZ_FETCH_H
#define DZ_FETCH_H

#include "cache/blob/blob.h"
#include "cache/disk.h"
#include "cache/segment.h"

struct dz_fetcher;

struct dz_fetch_options {
	struct dz_seg *seg;
	const struct dz_config *cfg; /* for the SAS of its mounts */
	struct dz_disk *disk;	     /* NULL: none */
	const struct dz_log *log;
	char *const *envp;
	uint32_t agent;		/* record whose requests are ours */
	uint64_t identity;	/* of those requests */
	bool has_writer_thread; /* the agent writes to the disk beside the network */
};

/* 0, -ENOMEM, or what dz_blob_open() says. */
int dz_fetcher_open(struct dz_fetcher **out, const struct dz_fetch_options *opt);
/* Leases that are under way become requests again for the next fetcher. */
void dz_fetcher_close(struct dz_fetcher *f);
/* After fork, in the child: the parent's connections and leases are not ours. */
void dz_fetcher_abandon(struct dz_fetcher *f);
/*
 * Takes requests (all that were rung for this agent, or only lease `only` when it
 * is not DZ_NONE), moves transfers on, waits up to timeout_ms for the network or
 * wake_fd.  Returns how many jobs are under way, or -errno.
 */
int dz_fetcher_pump(struct dz_fetcher *f, int timeout_ms, int wake_fd, uint32_t only);
/* Requests that were rung but not seen (their ringer or fetcher died): takes them all. */
void dz_fetcher_rescan(struct dz_fetcher *f);
/* Nothing under way and nothing to write. */
bool dz_fetcher_is_idle(const struct dz_fetcher *f);

#endif
