// SPDX-License-Identifier: MIT
/* See bounce.h. */
#include "cache/bounce.h"

#include "cache/sys.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define BOUNCE_BYTES (DZ_BOUNCE_IOS * DZ_BOUNCE_ROOM)

int dz_bounce_new(struct dz_bounce **out)
{
	struct dz_bounce *b;
	void *map;
	int ret = dz_sys_mmap(&map, NULL, BOUNCE_BYTES + DZ_KIB * 4, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (ret < 0)
		return -ENOMEM;
	/* The record stays readable in a child; the buffers do not follow. */
	b = map;
	b->data = (uint8_t *)map + DZ_KIB * 4;
	dz_sys_3(SYS_madvise, b->data, BOUNCE_BYTES, MADV_DONTFORK);
	ret = dz_ring_new(&b->ring, DZ_BOUNCE_IOS, false);
	if (ret < 0) {
		dz_sys_munmap(map, BOUNCE_BYTES + DZ_KIB * 4);
		return -ENOMEM;
	}
	*out = b;
	return 0;
}

void dz_bounce_free(struct dz_bounce *b)
{
	dz_ring_free(b->ring);
	dz_sys_munmap(b, BOUNCE_BYTES + DZ_KIB * 4);
}

void dz_bounce_abandon(struct dz_bounce *b)
{
	dz_ring_abandon(b->ring);
	dz_sys_munmap(b, DZ_KIB * 4);
}
