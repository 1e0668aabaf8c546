/* SPDX-License-Identifier: MIT */
#include "shim/give.h"

#include <stdlib.h>
#include <string.h>

char *dz_give(const char *text, size_t room)
{
	size_t len = strlen(text) + 1;
	/* lint: malloc: the program frees it, with whatever its malloc is */
	char *copy = malloc(room > len ? room : len);

	return copy ? memcpy(copy, text, len) : NULL;
}
