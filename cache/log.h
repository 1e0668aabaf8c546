/* SPDX-License-Identifier: MIT */
/*
 * One line a message: action, object, cause, what to do.  Written with a single
 * raw write(2) to standard error or to the file of DELTAZERO_LOG, opened for
 * each line (nothing is kept open in the program).  No malloc, no stdio.
 * Async-signal-safe as far as vsnprintf with %s %d %u %llu %x is.
 */
#ifndef DZ_LOG_H
#define DZ_LOG_H

#include "cache/config.h"

struct dz_log {
	enum dz_log_level level;
	const char *path; /* "" is standard error; borrowed from dz_config */
	const char *who;  /* "deltazero" or "deltazero-agent" */
};

void dz_logf(const struct dz_log *log, enum dz_log_level level, const char *fmt, ...)
	DZ_PRINTF(3, 4);

#define dz_error(log, ...) dz_logf(log, DZ_LOG_ERROR, __VA_ARGS__)
#define dz_warn(log, ...)  dz_logf(log, DZ_LOG_WARN, __VA_ARGS__)
#define dz_info(log, ...)  dz_logf(log, DZ_LOG_INFO, __VA_ARGS__)
#define dz_debug(log, ...) dz_logf(log, DZ_LOG_DEBUG, __VA_ARGS__)

/* Text of -err for messages, never NULL; no locale, no allocation. */
const char *dz_strerror(int err);

#endif
