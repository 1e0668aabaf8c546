/* SPDX-License-Identifier: MIT */
/* Batches of blocks whose content is a function of their numbers; and a writer to be killed. */
#ifndef DISK_BATCH_H
#define DISK_BATCH_H

#include "tests/unit/disk_fixture.h"

#include <signal.h>

struct batch {
	struct dz_disk_writer *writer;
	struct dz_disk_put put[DZ_DISK_BATCH + 1];
	uint8_t *data[DZ_DISK_BATCH + 1];
	uint32_t n;
};

static inline struct batch *batch_new(bool no_uring)
{
	struct batch *b = calloc(1, sizeof(*b));

	assert_non_null(b);
	assert_int_equal(dz_disk_writer_new(&b->writer, no_uring), 0);
	return b;
}

static inline void batch_add(struct batch *b, uint64_t n, uint32_t len)
{
	uint8_t *data = aligned_alloc(DZ_PAGE, dz_round_up(len, DZ_PAGE));

	assert_non_null(data);
	fill_block(data, n, len);
	b->data[b->n] = data;
	b->put[b->n++] = (struct dz_disk_put){ .key = key_of(n),
					       .data = data,
					       .dram = DZ_NONE,
					       .len = len,
					       .group = 7,
					       .kind = DZ_KIND_DATA };
}

static inline uint32_t batch_write(struct fixture *f, struct batch *b)
{
	return dz_disk_write_batch(f->disk, b->writer, b->put, b->n);
}

static inline void batch_free(struct batch *b)
{
	dz_disk_writer_free(b->writer);
	for (uint32_t i = 0; i < b->n; i++)
		free(b->data[i]);
	free(b);
}

/* Writes until it is killed. */
static inline void write_for_ever(struct fixture *f, uint64_t seed, bool no_uring)
{
	struct batch *b;

	f->disk = NULL;
	alarm(60);
	if (dz_seg_open(&f->seg, &f->cfg, &f->log) < 0 || dz_member_join(&f->seg) < 0 ||
	    dz_disk_open(&f->disk, &f->seg, &f->cfg, &f->log) < 0 || !f->disk)
		_exit(1);
	b = batch_new(no_uring);
	for (uint64_t n = seed;; n += 20) {
		for (uint64_t i = 0; i < 20; i++)
			batch_add(b, (n + i) % 2000, (uint32_t)((n + i) % 2000 % 7 * 50000 + 1));
		batch_write(f, b);
		for (; b->n > 0; b->n--)
			free(b->data[b->n - 1]);
	}
}

/* Kills one after `ms`, and waits for its end. */
static inline void kill_a_writer(struct fixture *f, uint64_t seed, uint64_t ms, bool no_uring)
{
	const struct timespec at = { .tv_nsec = (long)ms * 1000000 };
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0)
		write_for_ever(f, seed, no_uring);
	nanosleep(&at, NULL);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
}

/* Of what such writers wrote: no wrong byte, now or after a reboot.  How many were there. */
static inline uint32_t assert_no_wrong_block(struct fixture *f)
{
	uint32_t found = 0;

	for (int boots = 0; boots < 2; boots++) {
		for (uint64_t i = 0; i < 2000; i++) {
			uint32_t len = (uint32_t)(i % 7 * 50000 + 1);
			int ret = get(f, i, len);

			assert_true(ret == 0 || ret == -ENOENT);
			assert_true(ret < 0 || block_is(f->buf, i, len));
			found += ret == 0;
		}
		reopen(f);
	}
	return found;
}

#endif
