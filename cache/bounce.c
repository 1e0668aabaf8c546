/* SPDX-License-Identifier: MIT */
#include "cache/bounce.h"

#include "cache/sys.h"

#include <errno.h>
#include <sys/mman.h>

/* The struct, a page of any size; after it the buffers, which fork leaves out. */
#define BOUNCE_HEAD  65536u
#define BOUNCE_BYTES (BOUNCE_HEAD + DZ_BOUNCE_IOS * DZ_BOUNCE_UNIT)

int dz_bounce_new(struct dz_bounce **out)
{
	struct dz_bounce *b;
	void *mem;
	int ret;

	if (dz_sys_mmap(&mem, NULL, BOUNCE_BYTES, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) < 0)
		return -ENOMEM;
	b = mem;
	b->data = (uint8_t *)mem + BOUNCE_HEAD;
	b->pid = (uint32_t)dz_sys_getpid();
	b->tid = (uint32_t)dz_sys_gettid();
	dz_sys_3(SYS_madvise, b->data, BOUNCE_BYTES - BOUNCE_HEAD, MADV_DONTFORK);
	dz_sys_3(SYS_madvise, b->data, BOUNCE_BYTES - BOUNCE_HEAD, MADV_DONTDUMP);
	ret = dz_ring_new(&b->ring, DZ_BOUNCE_IOS, false);
	if (ret < 0) {
		dz_sys_munmap(mem, BOUNCE_BYTES);
		return ret;
	}
	*out = b;
	return 0;
}

bool dz_bounce_wait(struct dz_bounce *b, const struct dz_io *io)
{
	while (!io->is_done && dz_ring_wait(b->ring) >= 0)
		;
	/* Where I/O is done at once, what ended counts until it is asked for. */
	if (!dz_ring_is_uring(b->ring))
		dz_ring_wait(b->ring);
	if (!io->is_done)
		b->is_broken = true;
	return io->is_done;
}

void dz_bounce_free(struct dz_bounce *b)
{
	bool is_inherited;

	if (!b)
		return;
	is_inherited = dz_ring_is_inherited(b->ring);
	if (!is_inherited && !dz_ring_is_ours(b->ring) &&
	    dz_sys_3(SYS_tgkill, b->pid, b->tid, 0) == 0)
		return;
	/* I/O that is lost writes to pages that the kernel holds, not to these addresses. */
	dz_ring_free(b->ring);
	/* In a child something else may lie where the buffers were. */
	dz_sys_munmap(b, is_inherited ? BOUNCE_HEAD : BOUNCE_BYTES);
}

void dz_bounce_abandon(struct dz_bounce *b)
{
	dz_bounce_free(b);
}
