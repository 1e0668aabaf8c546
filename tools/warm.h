/* SPDX-License-Identifier: MIT */
/* What dz warm has to do and has done; cmd_warm.c is its command line. */
#ifndef DZ_WARM_H
#define DZ_WARM_H

#include "cache/engine_priv.h"
#include "tools/place.h"
#include "tools/progress.h"

#include <pthread.h>

#define DZ_WARM_JOBS_MAX 256

struct dz_warm_file {
	char *name; /* below its mount */
	uint64_t size;
	uint32_t mount;
};

struct dz_warm {
	struct dz_engine *engine;
	struct dz_place prefix[DZ_MOUNTS_MAX];
	struct dz_warm_file *files;
	size_t n_files, cap_files;
	uint64_t directories; /* listed */
	uint64_t bytes;	      /* of all files */
	uint32_t jobs;
	double price; /* USD for 10,000 reads */
	bool json;
	atomic_bool *interrupted;

	/* While it fetches: under the lock. */
	pthread_mutex_t lock;
	size_t next;
	uint64_t fetched_bytes, cached_bytes, missing_bytes, missing_blocks, failed_files;
	struct dz_progress progress;
};

/* Each adds files.  0, or an exit status after a message. */
int dz_warm_below(struct dz_warm *w, const struct dz_place *place);
int dz_warm_list(struct dz_warm *w, struct dz_config *cfg, const char *list,
		 const struct dz_place *below);
/* Each does it and says so; the exit status. */
int dz_warm_plan(struct dz_warm *w);
int dz_warm_fetch(struct dz_warm *w, bool verify);
void dz_warm_free(struct dz_warm *w);

#endif
