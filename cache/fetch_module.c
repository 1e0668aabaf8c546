// SPDX-License-Identifier: MIT
/* The one symbol of libdeltazero-fetch.so: see inline.h. */
#include "cache/inline.h"

DZ_EXPORT const struct dz_fetch_ops dz_fetch_module = {
	.version = DZ_FETCH_OPS_VERSION,
	.open = dz_fetcher_open,
	.pump = dz_fetcher_pump,
	.abandon = dz_fetcher_abandon,
};
