/* SPDX-License-Identifier: MIT */
/* A job's calls as `dz record` writes and `dz replay` reads them; see the .c file. */
#ifndef DZ_TRACE_RECORD_H
#define DZ_TRACE_RECORD_H

#include "tools/trace.h"

struct trace_record;

/* Writes the first line; `cfg` tells which paths are mounts. */
struct trace_record *trace_record_new(FILE *to, const struct dz_config *cfg);
void trace_record_event(struct trace_record *r, const struct trace_event *ev);
/* What was written to `file`, as one JSON object; `missed`: calls that were not seen. */
void trace_record_json(FILE *to, const struct trace_record *r, const char *file, uint64_t missed);

#endif
