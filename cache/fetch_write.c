// SPDX-License-Identifier: MIT
/*
 * Blocks on their way from DRAM to the disk tier.
 *
 * In the agent one thread of ours takes them from a queue, holds each by a hazard
 * record (so the evictor leaves it alone), and writes it.  Blocks wait in DRAM, so
 * the network runs ahead of the disk by up to half of DRAM; then the fetcher takes
 * no further requests, lest blocks be evicted before they are written.  It does
 * not wait for a disk that hangs: then some blocks are not written.  Inline
 * there is no thread: the write happens before the read returns.
 */
#include "cache/fetch_priv.h"

#include "cache/index.h"
#include "cache/sys.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define QUEUE	 65536u
#define STUCK_MS 2000 /* in one block: the disk hangs */

struct fetch_write {
	uint32_t slot;
	uint64_t ctl;
	uint32_t len;
};

struct fetch_writer {
	struct dz_fetcher *f;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct fetch_write queue[QUEUE];
	uint32_t head, len;
	uint64_t bytes, max_bytes; /* waiting in DRAM */
	bool is_writing, is_ending;
	_Atomic uint64_t since_ms; /* when it began to write, 0: it does not */
};

static void write_block(struct dz_fetcher *f, const struct fetch_write *w)
{
	struct dz_seg *seg = f->seg;
	struct dz_slot *s = dz_dram_slot(seg, w->slot);
	_Atomic uint64_t *hazard = &seg->members[seg->member].hazard[0];
	struct dz_stats *st = &seg->stats[(size_t)seg->member * DZ_STAT_STRIPES];
	uint32_t len;
	int ret;

	atomic_store_explicit(hazard, (uint64_t)dz_ctl_gen(w->ctl) << 32 | w->slot,
			      memory_order_relaxed);
	/* Announce before the look; the evictor takes the slot before it looks at hazards. */
	atomic_thread_fence(memory_order_seq_cst);
	len = atomic_load_explicit(&s->len, memory_order_relaxed);
	if (dz_ctl_gen(atomic_load_explicit(&s->ctl, memory_order_acquire)) == dz_ctl_gen(w->ctl) &&
	    len <= DZ_BLOCK_BYTES) {
		struct dz_key key = { atomic_load_explicit(&s->key_lo, memory_order_relaxed),
				      atomic_load_explicit(&s->key_hi, memory_order_relaxed) };

		/* A hint for whoever recovers us: look at the disk's slots too. */
		atomic_fetch_add_explicit(&seg->members[seg->member].filling, 1,
					  memory_order_relaxed);
		ret = dz_disk_write(f->opt.disk, key, dz_seg_page(seg, w->slot), len,
				    atomic_load_explicit(&s->group, memory_order_relaxed),
				    DZ_KIND_DATA);
		atomic_fetch_sub_explicit(&seg->members[seg->member].filling, 1,
					  memory_order_relaxed);
		if (ret == 0) {
			dz_stat_add(&st->disk_writes, 1);
			dz_stat_add(&st->disk_write_bytes, len);
		}
	}
	atomic_store_explicit(hazard, 0, memory_order_release);
}

static void *writer_main(void *arg)
{
	struct fetch_writer *w = arg;

	pthread_mutex_lock(&w->lock);
	for (;;) {
		struct fetch_write one;

		while (!w->len && !w->is_ending)
			pthread_cond_wait(&w->more, &w->lock);
		if (!w->len)
			break;
		one = w->queue[w->head];
		w->head = (w->head + 1) % QUEUE;
		w->len--;
		w->bytes -= one.len;
		w->is_writing = true;
		pthread_mutex_unlock(&w->lock);
		atomic_store_explicit(&w->since_ms, dz_now_ms(), memory_order_relaxed);
		write_block(w->f, &one);
		atomic_store_explicit(&w->since_ms, 0, memory_order_relaxed);
		pthread_mutex_lock(&w->lock);
		w->is_writing = false;
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

int dz_fetch_writer_open(struct dz_fetcher *f)
{
	struct fetch_writer *w = calloc(1, sizeof(*w));

	if (!w)
		return -ENOMEM;
	w->f = f;
	w->max_bytes = f->seg->dram_bytes / 2;
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->more, NULL);
	if (pthread_create(&w->thread, NULL, writer_main, w) != 0) {
		free(w);
		return -EAGAIN;
	}
	f->writer = w;
	return 0;
}

void dz_fetch_writer_close(struct dz_fetcher *f)
{
	struct fetch_writer *w = f->writer;

	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	w->is_ending = true;
	pthread_cond_signal(&w->more);
	pthread_mutex_unlock(&w->lock);
	pthread_join(w->thread, NULL);
	pthread_mutex_destroy(&w->lock);
	pthread_cond_destroy(&w->more);
	free(w);
	f->writer = NULL;
}

static bool writer_is_stuck(const struct fetch_writer *w)
{
	uint64_t since = atomic_load_explicit(&w->since_ms, memory_order_relaxed);

	return since && dz_now_ms() > since + STUCK_MS;
}

bool dz_fetch_writer_has_room(const struct dz_fetcher *f)
{
	/* A look without the lock: a block more or less does not matter. */
	return !f->writer || writer_is_stuck(f->writer) ||
	       (__atomic_load_n(&f->writer->len, __ATOMIC_RELAXED) < QUEUE - 1024 &&
		__atomic_load_n(&f->writer->bytes, __ATOMIC_RELAXED) < f->writer->max_bytes);
}

bool dz_fetch_writer_is_idle(const struct dz_fetcher *f)
{
	bool idle;

	if (!f->writer)
		return true;
	pthread_mutex_lock(&f->writer->lock);
	idle = !f->writer->len && !f->writer->is_writing;
	pthread_mutex_unlock(&f->writer->lock);
	return idle;
}

void dz_fetch_write(struct dz_fetcher *f, uint32_t slot, uint64_t ctl)
{
	struct fetch_writer *w = f->writer;
	struct fetch_write one = { slot, ctl,
				   atomic_load_explicit(&dz_dram_slot(f->seg, slot)->len,
							memory_order_relaxed) };

	if (!w) {
		write_block(f, &one);
		return;
	}
	pthread_mutex_lock(&w->lock);
	if (w->len < QUEUE) {
		w->queue[(w->head + w->len) % QUEUE] = one;
		w->len++;
		w->bytes += one.len;
		pthread_cond_signal(&w->more);
	}
	pthread_mutex_unlock(&w->lock);
}
