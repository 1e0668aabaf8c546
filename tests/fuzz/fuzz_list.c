/* SPDX-License-Identifier: MIT */
/* List XML, in pieces whose size is the first byte of the input. */
#include "cache/blob/list.h"

#include <stdlib.h>
#include <string.h>

static int look(void *arg, const struct dz_blob_entry *e)
{
	size_t *sum = arg;

	if (strlen(e->name) != e->name_len)
		abort();
	*sum += e->name_len + strlen(e->etag);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct dz_list *list = dz_list_new();
	size_t step = size ? data[0] + 1u : 1, sum = 0;
	int ret = 0;

	for (size_t at = 1; at < size && ret == 0; at += step)
		ret = dz_list_feed(list, data + at, step < size - at ? step : size - at, false);
	if (ret == 0)
		ret = dz_list_feed(list, "", 0, true);
	if (ret == 0) {
		dz_list_each(list, look, &sum);
		sum += strlen(dz_list_next_marker(list));
	}
	dz_list_free(list);
	return sum == SIZE_MAX;
}
