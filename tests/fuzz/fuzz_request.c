/* SPDX-License-Identifier: MIT */
/* A request as it comes to the stand-in. */
#include "tools/serve.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct serve_req req = { 0 };
	char *text = malloc(size + 1);

	memcpy(text, data, size);
	text[size] = '\0';
	if (serve_http_parse(&req, text, size) > 0) {
		serve_header(&req, "x-ms-range");
		serve_query(&req, "comp");
	}
	serve_http_free(&req);
	free(text);
	return 0;
}
