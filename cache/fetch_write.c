// SPDX-License-Identifier: MIT
/*
 * Blocks on their way from DRAM to the disk tier.
 *
 * In the agent one thread of ours takes them from a queue, as many at once as are there
 * (up to a batch), and writes them together.  Blocks wait in DRAM, so the network runs
 * ahead of the disk by up to half of DRAM; then the fetcher takes no further requests,
 * lest blocks be evicted before they are written.  It does not wait for a disk that hangs:
 * then some blocks are not written.  Inline there is no thread: the write happens before
 * the read returns, one block at a time.
 */
#include "cache/fetch_priv.h"

#include "cache/index.h"
#include "cache/sys.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define QUEUE	 65536u
#define STUCK_MS 2000 /* in one batch: the disk hangs */
/* Less than this is worth a moment's waiting for more: a job's small blobs come in bursts. */
#define GATHER_BYTES (128 * DZ_KIB)
#define GATHER_MS    5

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
	struct dz_disk_writer *disk; /* the thread's */
	struct dz_disk_put put[DZ_DISK_BATCH];
	_Atomic uint64_t since_ms; /* when it began to write, 0: it does not */
};

/* What the DRAM slot holds, as it is now: written only if it is still that after the copy. */
static bool write_describe(const struct dz_seg *seg, const struct fetch_write *w,
			   struct dz_disk_put *put)
{
	struct dz_slot *s = dz_dram_slot(seg, w->slot);
	uint32_t len = atomic_load_explicit(&s->len, memory_order_relaxed);

	*put = (struct dz_disk_put){
		.key = { atomic_load_explicit(&s->key_lo, memory_order_relaxed),
			 atomic_load_explicit(&s->key_hi, memory_order_relaxed) },
		.data = dz_seg_page(seg, w->slot),
		.len = len,
		.group = atomic_load_explicit(&s->group, memory_order_relaxed),
		.kind = DZ_KIND_DATA,
		.dram = w->slot,
		.dram_ctl = w->ctl,
	};
	/* acquire: len is used before the copy proves it */
	atomic_thread_fence(memory_order_acquire);
	return dz_ctl_gen(atomic_load_explicit(&s->ctl, memory_order_relaxed)) ==
		       dz_ctl_gen(w->ctl) &&
	       len > 0 && w->slot % DZ_SLAB_PAGES * (uint64_t)DZ_PAGE + len <= DZ_MIB;
}

static void write_count(const struct dz_seg *seg, uint32_t len)
{
	struct dz_stats *st = &seg->stats[(size_t)seg->member * DZ_STAT_STRIPES];

	dz_stat_add(&st->disk_writes, 1);
	dz_stat_add(&st->disk_write_bytes, len);
}

/* Inline: one block, held by a hazard record (so the evictor leaves it alone). */
static void write_block(struct dz_fetcher *f, const struct fetch_write *w)
{
	struct dz_seg *seg = f->seg;
	_Atomic uint64_t *hazard = &seg->members[seg->member].hazard[0];
	struct dz_disk_put put;

	atomic_store_explicit(hazard, (uint64_t)dz_ctl_gen(w->ctl) << 32 | w->slot,
			      memory_order_relaxed);
	/* Announce before the look; the evictor takes the slot before it looks at hazards. */
	atomic_thread_fence(memory_order_seq_cst);
	if (write_describe(seg, w, &put) &&
	    dz_disk_write(f->opt.disk, put.key, put.data, put.len, put.group, put.kind) == 0)
		write_count(seg, put.len);
	atomic_store_explicit(hazard, 0, memory_order_release);
}

/* The agent's: none is held, a block that goes while it is copied is not written. */
static void write_batch(struct fetch_writer *w, const struct fetch_write *batch, uint32_t n)
{
	struct dz_seg *seg = w->f->seg;
	uint32_t m = 0;

	/* without memory for a writer: one by one */
	if (!w->disk) {
		for (uint32_t i = 0; i < n; i++)
			write_block(w->f, &batch[i]);
		return;
	}
	for (uint32_t i = 0; i < n; i++)
		m += write_describe(seg, &batch[i], &w->put[m]);
	dz_disk_write_batch(w->f->opt.disk, w->disk, w->put, m);
	for (uint32_t i = 0; i < m; i++) {
		if (w->put[i].ret == 0)
			write_count(seg, w->put[i].len);
	}
}

/* Takes what makes a batch off the queue; under the lock. */
static uint32_t writer_take(struct fetch_writer *w, struct fetch_write *batch)
{
	uint64_t bytes = 0;
	uint32_t n = 0;

	while (n < DZ_DISK_BATCH && w->len > 0) {
		const struct fetch_write *one = &w->queue[w->head];

		bytes += dz_disk_put_bytes(one->len);
		if (n > 0 && bytes > DZ_DISK_BATCH_BYTES)
			break;
		batch[n++] = *one;
		w->head = (w->head + 1) % QUEUE;
		w->len--;
		w->bytes -= one->len;
	}
	return n;
}

/* Sleeps until there is something, and a moment longer when it is little; under the lock. */
static void writer_wait(struct fetch_writer *w)
{
	struct timespec until;

	while (!w->len && !w->is_ending)
		pthread_cond_wait(&w->more, &w->lock);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += GATHER_MS * 1000000;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	while (!w->is_ending && w->bytes < GATHER_BYTES && w->len < DZ_DISK_BATCH &&
	       pthread_cond_timedwait(&w->more, &w->lock, &until) == 0)
		;
}

static void *writer_main(void *arg)
{
	struct fetch_writer *w = arg;
	struct fetch_write batch[DZ_DISK_BATCH];

	if (dz_disk_writer_new(&w->disk, false) < 0)
		w->disk = NULL;
	pthread_mutex_lock(&w->lock);
	for (;;) {
		uint32_t n;

		writer_wait(w);
		if (!w->len)
			break;
		n = writer_take(w, batch);
		w->is_writing = true;
		pthread_mutex_unlock(&w->lock);
		atomic_store_explicit(&w->since_ms, dz_now_ms(), memory_order_relaxed);
		write_batch(w, batch, n);
		atomic_store_explicit(&w->since_ms, 0, memory_order_relaxed);
		pthread_mutex_lock(&w->lock);
		w->is_writing = false;
	}
	pthread_mutex_unlock(&w->lock);
	dz_disk_writer_free(w->disk);
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
