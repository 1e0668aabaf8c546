/* SPDX-License-Identifier: MIT */
/*
 * How far a long command is: a bar with rate and time to go on a terminal, one
 * JSON object a second anywhere else.
 */
#ifndef DZ_PROGRESS_H
#define DZ_PROGRESS_H

#include "cache/base.h"

struct dz_progress {
	uint64_t total_bytes, total_files; /* 0: not known */
	uint64_t done_bytes, done_files;
	uint64_t moved_bytes; /* of done_bytes those that took time: the rate is theirs */
	bool is_bar;
	uint64_t start_ns, shown_ns;
};

/* `json`: lines even on a terminal. */
void dz_progress_start(struct dz_progress *p, bool json);
/* Shows it, when the last time is long enough ago. */
void dz_progress_show(struct dz_progress *p);
/* Takes the bar away; returns the seconds since the start. */
double dz_progress_end(struct dz_progress *p);

#endif
