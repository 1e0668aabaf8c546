// SPDX-License-Identifier: MIT
/*
 * The record of a call that `dz trace` looks at: its strings are marked as such
 * when the call could read them, the path of its descriptor is looked up when the
 * tracer wants it, and of what it read as much content as wanted is shown.
 */
#include "shim/trace.h"

#include "shim/fdtab.h"
#include "shim/hooks.h"

#include <sys/stat.h>

__thread struct dz_trace_self dz_trace_self __attribute__((tls_model("initial-exec")));

static uint32_t kind_of(uint32_t kinds, uint32_t i)
{
	return kinds >> 2 * i & 3;
}

/* A call that failed on a wrong address is not followed to it. */
static bool is_readable(long result, const void *p)
{
	return result != -EFAULT && (uintptr_t)p >= 4096;
}

static void add_stat(struct dz_call_record *rec, const struct stat *st)
{
	rec->has_stat = true;
	rec->mode = (uint16_t)st->st_mode;
	rec->size = (uint64_t)st->st_size;
}

static void add_statx(struct dz_call_record *rec, const struct statx *stx)
{
	rec->has_stat = true;
	rec->mode = stx->stx_mode;
	rec->size = stx->stx_size;
}

static bool fills_buffer(uint32_t call)
{
	return call == DZ_CALL_read || call == DZ_CALL_pread || call == DZ_CALL_readlink ||
	       call == DZ_CALL_readlinkat;
}

static void add_content(struct dz_call_record *rec, const void *buf)
{
	uint32_t wanted = dz_engine_trace_content(dz_engine);

	if (!wanted || !fills_buffer(rec->call) || rec->result <= 0)
		return;
	rec->data = buf;
	rec->data_len = (uint16_t)dz_min_u64(dz_min_u64(wanted, 4096), (uint64_t)rec->result);
}

static bool gives_fd(const struct dz_call_record *rec)
{
	return rec->result >= 0 &&
	       (rec->call == DZ_CALL_open || rec->call == DZ_CALL_openat ||
		rec->call == DZ_CALL___open_2 || rec->call == DZ_CALL___openat_2 ||
		rec->call == DZ_CALL_fopen || rec->call == DZ_CALL_opendir);
}

/* That of the descriptor that the call gave, or of its first argument. */
static const char *fd_path(const struct dz_call_record *rec, uint32_t kinds, char *buf, size_t len)
{
	dz_fh fh = 0;

	if (!dz_engine_trace_wants_paths(dz_engine))
		return NULL;
	if (gives_fd(rec))
		fh = dz_fd_get((int)rec->result);
	else if (rec->n_args && kind_of(kinds, 0) == DZ_ARG_NUMBER && rec->args[0] >= 0)
		fh = dz_fd_get((int)rec->args[0]);
	return fh && dz_path_of_fh(fh, buf, len) > 0 ? buf : NULL;
}

void dz_traced(struct dz_call_span *span, uint32_t call, long result, bool is_bypass, uint32_t n,
	       uint32_t kinds, const long *args, void *caller)
{
	struct dz_call_record rec = { .call = call,
				      .n_args = n,
				      .result = result == -ESTALE ? -EIO : result,
				      .args = args,
				      .is_bypass = is_bypass,
				      .caller = (uintptr_t)caller };
	char path[DZ_NAME_MAX + 256];

	for (uint32_t i = 0; i < n; i++) {
		const void *p = (const void *)args[i];

		if (!is_readable(result, p))
			continue;
		if (kind_of(kinds, i) == DZ_ARG_STRING)
			rec.strings |= 1u << i;
		else if (kind_of(kinds, i) == DZ_ARG_STAT && result == 0)
			add_stat(&rec, p);
		else if (kind_of(kinds, i) == DZ_ARG_MEMORY)
			add_content(&rec, p);
	}
	if (call == DZ_CALL_statx && result == 0)
		add_statx(&rec, (const struct statx *)args[4]);
	rec.fd_path = fd_path(&rec, kinds, path, sizeof(path));
	dz_engine_span_end(dz_engine, &dz_trace_self, span, &rec);
}
