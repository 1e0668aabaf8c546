// SPDX-License-Identifier: MIT
#include "tools/disk_check.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

bool dz_slot_is_ready(const struct dz_slot *s, uint64_t *ctl, uint32_t *len)
{
	*ctl = atomic_load_explicit(&s->ctl, memory_order_acquire);
	*len = atomic_load_explicit(&s->len, memory_order_relaxed);
	return dz_ctl_state(*ctl) == DZ_SLOT_READY && *len > 0 && *len <= DZ_BLOCK_BYTES;
}

int dz_disk_check_open(struct dz_disk_check *c, struct dz_engine *e, struct dz_progress *progress)
{
	int ret;

	memset(c, 0, sizeof(*c));
	c->disk = e->disk;
	c->seg = &e->seg;
	c->progress = progress;
	ret = dz_ring_new(&c->ring, DZ_DISK_CHECK_DEPTH, false);
	for (uint32_t i = 0; ret == 0 && i < DZ_DISK_CHECK_DEPTH; i++) {
		c->read[i].buf = aligned_alloc(DZ_PAGE, DZ_BLOCK_BYTES);
		ret = c->read[i].buf ? 0 : -ENOMEM;
	}
	if (ret < 0)
		dz_disk_check_close(c);
	return ret;
}

/* The slot's word was the same before and after the read, so `crc` was this block's. */
static int check_crc(const struct dz_disk_check *c, const struct dz_disk_check_read *r)
{
	bool is_good = dz_crc32c(0, r->buf, r->len) == r->crc;

	if (is_good && !dz_disk_is_unverified(c->disk, r->slot))
		return 0;
	if (atomic_load_explicit(&c->seg->disk_slots[r->slot].ctl, memory_order_relaxed) != r->ctl)
		return -ESTALE;
	/* Marks it as good, or drops it. */
	return dz_disk_verify(c->disk, r->slot, r->ctl, r->buf) == 0 || is_good ? 0 : -EILSEQ;
}

static void check_finish(struct dz_disk_check *c)
{
	struct dz_disk_check_read *r = &c->read[c->head];
	int ret = -EIO;

	while (!r->io.is_done && dz_ring_wait(c->ring) >= 0)
		;
	if (r->io.is_done)
		ret = dz_disk_check_read(c->disk, r->slot, r->ctl, &r->io);
	if (ret == 0)
		ret = check_crc(c, r);
	c->good += ret == 0;
	c->bytes += ret == 0 ? r->len : 0;
	c->moved += ret == -ESTALE;
	c->bad += ret == -EILSEQ;
	c->failed += ret < 0 && ret != -ESTALE && ret != -EILSEQ;
	c->head = (c->head + 1) % DZ_DISK_CHECK_DEPTH;
	c->n--;
	if (!c->progress)
		return;
	c->progress->done_bytes += r->len;
	c->progress->moved_bytes = c->progress->done_bytes;
	dz_progress_show(c->progress);
}

void dz_disk_check_slot(struct dz_disk_check *c, uint32_t slot)
{
	struct dz_disk_check_read *r;
	uint32_t skip;

	if (c->n == DZ_DISK_CHECK_DEPTH)
		check_finish(c);
	r = &c->read[(c->head + c->n) % DZ_DISK_CHECK_DEPTH];
	if (!dz_slot_is_ready(&c->seg->disk_slots[slot], &r->ctl, &r->len))
		return;
	r->slot = slot;
	r->crc = atomic_load_explicit(&c->seg->disk_slots[slot].crc, memory_order_relaxed);
	dz_disk_prep_read(c->disk, slot, 0, r->len, r->buf, &r->io, &skip);
	if (dz_ring_start(c->ring, &r->io) < 0)
		c->failed++;
	else
		c->n++;
}

void dz_disk_check_close(struct dz_disk_check *c)
{
	while (c->n)
		check_finish(c);
	if (c->ring)
		dz_ring_free(c->ring);
	c->ring = NULL;
	for (uint32_t i = 0; i < DZ_DISK_CHECK_DEPTH; i++) {
		free(c->read[i].buf);
		c->read[i].buf = NULL;
	}
}
