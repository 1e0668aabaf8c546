/* SPDX-License-Identifier: MIT */
#include "cache/bounce.h"

#include "cache/sys.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/mman.h>

/* The struct, a page of any size; after it the buffers, which fork leaves out. */
#define BOUNCE_HEAD  65536u
#define BOUNCE_BYTES (BOUNCE_HEAD + DZ_BOUNCE_BUFS * DZ_BOUNCE_BYTES)

static int bounce_new(struct dz_bounce **out, bool no_uring)
{
	struct dz_bounce *b;
	void *mem;
	int ret;

	if (dz_sys_mmap(&mem, NULL, BOUNCE_BYTES, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) < 0)
		return -ENOMEM;
	b = mem;
	b->mem = (uint8_t *)mem + BOUNCE_HEAD;
	dz_sys_3(SYS_madvise, b->mem, BOUNCE_BYTES - BOUNCE_HEAD, MADV_DONTFORK);
	dz_sys_3(SYS_madvise, b->mem, BOUNCE_BYTES - BOUNCE_HEAD, MADV_DONTDUMP);
	ret = dz_ring_new(&b->ring, DZ_BOUNCE_BUFS, no_uring);
	if (ret < 0) {
		dz_sys_munmap(mem, BOUNCE_BYTES);
		return ret;
	}
	*out = b;
	return 0;
}

void dz_bounce_free(struct dz_bounce *b)
{
	bool is_inherited;

	if (!b)
		return;
	is_inherited = dz_ring_is_inherited(b->ring);
	dz_ring_free(b->ring);
	/* In a child something else may lie where the buffers were. */
	dz_sys_munmap(b, is_inherited ? BOUNCE_HEAD : BOUNCE_BYTES);
}

int dz_bounce_get(struct dz_bounce **mine, struct dz_bounce **out, bool no_uring)
{
	uint32_t is_idle = 0;
	int ret;

	if (*mine && dz_ring_is_inherited((*mine)->ring)) {
		dz_bounce_free(*mine);
		*mine = NULL;
	}
	if (!*mine) {
		struct dz_bounce *fresh;

		ret = bounce_new(&fresh, no_uring);
		if (ret < 0)
			return ret;
		/* A signal handler may have made one meanwhile. */
		if (*mine)
			dz_bounce_free(fresh);
		else
			*mine = fresh;
	}
	if (dz_ring_is_ours((*mine)->ring) &&
	    atomic_compare_exchange_strong(&(*mine)->is_busy, &is_idle, 1)) {
		*out = *mine;
		return 0;
	}
	return bounce_new(out, no_uring);
}

void dz_bounce_put(struct dz_bounce **mine, struct dz_bounce *b)
{
	bool is_lost;

	while (dz_ring_in_flight(b->ring) > 0 && dz_ring_wait(b->ring) > 0)
		;
	is_lost = dz_ring_in_flight(b->ring) > 0;
	if (b != *mine) {
		if (!is_lost)
			dz_bounce_free(b);
		return;
	}
	if (is_lost)
		*mine = NULL;
	else
		atomic_store_explicit(&b->is_busy, 0, memory_order_release);
}
