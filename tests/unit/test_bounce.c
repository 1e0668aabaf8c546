/* SPDX-License-Identifier: MIT */
/* Whose buffers are whose: after fork, in vfork, when a thread is gone. */
#include "cache/engine_priv.h"
#include "cache/sys.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define ALL_BYTES (DZ_BOUNCE_IOS * DZ_BOUNCE_UNIT)

static void buffers_are_aligned_and_in_a_row(void **state)
{
	struct dz_bounce *b;

	(void)state;
	assert_int_equal(dz_bounce_new(&b), 0);
	assert_int_equal((uintptr_t)b->data % 4096, 0);
	for (uint32_t i = 0; i < DZ_BOUNCE_IOS; i++)
		assert_ptr_equal(dz_bounce_buf(b, i), b->data + i * DZ_BOUNCE_UNIT);
	memset(b->data, 1, ALL_BYTES);
	dz_bounce_free(b);
	dz_bounce_free(NULL);
}

static void a_forked_child_drops_the_parents_and_makes_its_own(void **state)
{
	struct dz_bounce *b, *own;
	pid_t pid;
	int status;

	(void)state;
	assert_int_equal(dz_bounce_new(&b), 0);
	memset(b->data, 1, ALL_BYTES);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		dz_bounce_abandon(b);
		if (dz_bounce_new(&own) < 0 || !dz_ring_is_ours(own->ring))
			_exit(1);
		memset(own->data, 2, ALL_BYTES);
		dz_bounce_free(own);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	for (size_t i = 0; i < ALL_BYTES; i++)
		assert_int_equal(b->data[i], 1);
	dz_bounce_free(b);
}

/* Its memory is its parent's, and so are the parent's other threads. */
static void a_vforked_child_cannot_free_what_its_parent_uses(void **state)
{
	struct dz_bounce *b;
	pid_t pid;
	int status;

	(void)state;
	assert_int_equal(dz_bounce_new(&b), 0);
	memset(b->data, 1, ALL_BYTES);
	pid = vfork();
	if (pid == 0) {
		dz_bounce_free(b);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(b->data[ALL_BYTES - 1], 1);
	assert_true(dz_ring_is_ours(b->ring));
	dz_bounce_free(b);
}

static void *make_one(void *out)
{
	return dz_bounce_new(out) < 0 ? out : NULL;
}

static void what_a_thread_left_can_be_freed_by_another(void **state)
{
	(void)state;
	for (int i = 0; i < 100; i++) {
		struct dz_bounce *b;
		pthread_t t;
		void *failed;

		assert_int_equal(pthread_create(&t, NULL, make_one, &b), 0);
		assert_int_equal(pthread_join(t, &failed), 0);
		assert_null(failed);
		assert_false(dz_ring_is_ours(b->ring));
		dz_bounce_free(b);
	}
}

static unsigned long resident_pages(void)
{
	unsigned long size, pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%lu %lu", &size, &pages), 2);
	fclose(f);
	return pages;
}

/* Promised: 4 MiB a process beyond the shared segment. */
static void all_of_it_is_below_two_and_a_half_mib(void **state)
{
	unsigned long before = resident_pages(), page = (unsigned long)sysconf(_SC_PAGESIZE);
	struct dz_bounce *b;

	(void)state;
	assert_int_equal(dz_bounce_new(&b), 0);
	memset(b->data, 3, ALL_BYTES);
	assert_true((resident_pages() - before) * page < 5 * DZ_MIB / 2);
	dz_bounce_free(b);
}

/* ---- which of an engine's are this thread's ---- */

static uint32_t places_in_use(const struct dz_engine *e)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < DZ_ENGINE_BOUNCES; i++)
		n += e->bounces[i].bounce != NULL;
	return n;
}

static uint32_t open_descriptors(void)
{
	uint32_t n = 0;

	for (int fd = 0; fd < 4096; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static sigjmp_buf away;

/* A read that a signal handler jumps out of. */
__attribute__((noinline)) static void read_and_leave(struct dz_engine *e)
{
	_Atomic uint64_t mark;

	if (dz_engine_bounce_lock(e, &mark))
		siglongjmp(away, 1);
}

__attribute__((noinline)) static bool read_to_the_end(struct dz_engine *e)
{
	_Atomic uint64_t mark;
	struct dz_bounce *b = dz_engine_bounce_lock(e, &mark);

	if (b)
		dz_engine_bounce_unlock(e, b);
	return b != NULL;
}

static void what_a_jump_leaves_is_used_again(void **state)
{
	struct dz_engine *e = calloc(1, sizeof(*e));
	volatile uint32_t descriptors = 0;

	(void)state;
	for (volatile int i = 0; i < 200; i++) {
		if (sigsetjmp(away, 1) == 0)
			read_and_leave(e);
		assert_true(read_to_the_end(e));
		if (i == 10)
			descriptors = open_descriptors();
	}
	assert_in_range(places_in_use(e), 1, 2);
	assert_int_equal(open_descriptors(), descriptors);
	dz_engine_forget_bounces(e);
	free(e);
}

static void a_handler_s_read_leaves_alone_what_it_interrupted(void **state)
{
	struct dz_engine *e = calloc(1, sizeof(*e));
	_Atomic uint64_t mark;
	struct dz_bounce *b = dz_engine_bounce_lock(e, &mark);

	(void)state;
	assert_non_null(b);
	memset(b->data, 7, ALL_BYTES);
	for (int i = 0; i < 50; i++) {
		_Atomic uint64_t inner;
		struct dz_bounce *other = dz_engine_bounce_lock(e, &inner);

		assert_non_null(other);
		assert_ptr_not_equal(other, b);
		memset(other->data, 8, DZ_BOUNCE_UNIT);
		dz_engine_bounce_unlock(e, other);
	}
	assert_int_equal(b->data[0], 7);
	assert_int_equal(places_in_use(e), 2);
	dz_engine_bounce_unlock(e, b);
	dz_engine_forget_bounces(e);
	free(e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(buffers_are_aligned_and_in_a_row),
		cmocka_unit_test(a_forked_child_drops_the_parents_and_makes_its_own),
		cmocka_unit_test(a_vforked_child_cannot_free_what_its_parent_uses),
		cmocka_unit_test(what_a_thread_left_can_be_freed_by_another),
		cmocka_unit_test(all_of_it_is_below_two_and_a_half_mib),
		cmocka_unit_test(what_a_jump_leaves_is_used_again),
		cmocka_unit_test(a_handler_s_read_leaves_alone_what_it_interrupted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
