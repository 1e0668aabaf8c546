/* SPDX-License-Identifier: MIT */
/* What libdeltazero-fetch.so shows: the fetcher, for processes without an agent. */
#ifndef DZ_INLINE_H
#define DZ_INLINE_H

#include "cache/fetch.h"

#define DZ_FETCH_OPS_VERSION 1

struct dz_fetch_ops {
	uint32_t version;
	int (*open)(struct dz_fetcher **out, const struct dz_fetch_options *opt);
	int (*pump)(struct dz_fetcher *f, int timeout_ms, int wake_fd, uint32_t only);
	void (*abandon)(struct dz_fetcher *f);
};

/* Exported by the module as `dz_fetch_module`. */
extern const struct dz_fetch_ops dz_fetch_module;

#endif
