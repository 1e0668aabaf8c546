/* SPDX-License-Identifier: MIT */
#ifndef DZ_TOOLS_JSON_H
#define DZ_TOOLS_JSON_H

#include <stdio.h>

/* A string of JSON, quotes included. */
void dz_json_string(FILE *to, const char *s);

#endif
