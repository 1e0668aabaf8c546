/* SPDX-License-Identifier: MIT */
/* Whose buffers are whose: after fork, in vfork, when a thread is gone. */
#include "cache/bounce.h"
#include "cache/sys.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(buffers_are_aligned_and_in_a_row),
		cmocka_unit_test(a_forked_child_drops_the_parents_and_makes_its_own),
		cmocka_unit_test(a_vforked_child_cannot_free_what_its_parent_uses),
		cmocka_unit_test(what_a_thread_left_can_be_freed_by_another),
		cmocka_unit_test(all_of_it_is_below_two_and_a_half_mib),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
