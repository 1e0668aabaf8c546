/* SPDX-License-Identifier: MIT */
/* Whose buffers are whose: after fork, in vfork, in a signal handler. */
#include "cache/bounce.h"
#include "cache/sys.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static void the_same_thread_gets_the_same_buffers_again(void **state)
{
	struct dz_bounce *mine = NULL, *a, *b;

	(void)state;
	assert_int_equal(dz_bounce_get(&mine, &a, false), 0);
	assert_ptr_equal(a, mine);
	memset(a->mem, 1, DZ_BOUNCE_BUFS * DZ_BOUNCE_BYTES);
	dz_bounce_put(&mine, a);
	assert_int_equal(dz_bounce_get(&mine, &b, false), 0);
	assert_ptr_equal(a, b);
	dz_bounce_put(&mine, b);
	dz_bounce_free(mine);
}

static void a_read_within_a_read_gets_buffers_of_its_own(void **state)
{
	struct dz_bounce *mine = NULL, *outer, *inner;

	(void)state;
	assert_int_equal(dz_bounce_get(&mine, &outer, false), 0);
	assert_int_equal(dz_bounce_get(&mine, &inner, false), 0);
	assert_ptr_not_equal(inner, outer);
	assert_ptr_not_equal(inner->mem, outer->mem);
	dz_bounce_put(&mine, inner);
	assert_ptr_equal(mine, outer);
	dz_bounce_put(&mine, outer);
	dz_bounce_free(mine);
}

static void a_forked_child_makes_its_own(void **state)
{
	struct dz_bounce *mine = NULL, *b;
	pid_t pid;
	int status;

	(void)state;
	assert_int_equal(dz_bounce_get(&mine, &b, false), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct dz_bounce *old = mine;

		if (dz_bounce_get(&mine, &b, false) < 0 || !dz_ring_is_ours(b->ring))
			_exit(1);
		/* the parent was inside a read: that is not the child's affair */
		if (b != mine || (old == mine && !b->ring))
			_exit(2);
		memset(b->mem, 2, DZ_BOUNCE_BUFS * DZ_BOUNCE_BYTES);
		dz_bounce_put(&mine, b);
		dz_bounce_free(mine);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	dz_bounce_put(&mine, b);
	dz_bounce_free(mine);
}

static void a_vforked_child_leaves_the_parents_alone(void **state)
{
	static struct dz_bounce *mine, *b, *other;
	pid_t pid;
	int status;

	(void)state;
	assert_int_equal(dz_bounce_get(&mine, &b, false), 0);
	dz_bounce_put(&mine, b);
	pid = vfork();
	if (pid == 0) {
		int ret = dz_bounce_get(&mine, &other, false);

		if (ret == 0 && other != b)
			dz_bounce_put(&mine, other);
		_exit(ret != 0 || other == b || mine != b);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_true(dz_ring_is_ours(b->ring));
	dz_bounce_free(mine);
}

/* Promised: 4 MiB a process beyond the shared segment. */
static void all_of_it_is_below_two_and_a_half_mib(void **state)
{
	struct dz_bounce *mine = NULL, *b;
	unsigned long before, after, size;
	FILE *f;

	(void)state;
	f = fopen("/proc/self/statm", "r");
	assert_int_equal(fscanf(f, "%lu %lu", &size, &before), 2);
	fclose(f);
	assert_int_equal(dz_bounce_get(&mine, &b, false), 0);
	memset(b->mem, 3, DZ_BOUNCE_BUFS * DZ_BOUNCE_BYTES);
	f = fopen("/proc/self/statm", "r");
	assert_int_equal(fscanf(f, "%lu %lu", &size, &after), 2);
	fclose(f);
	assert_true((after - before) * (unsigned long)sysconf(_SC_PAGESIZE) < 5 * DZ_MIB / 2);
	dz_bounce_put(&mine, b);
	dz_bounce_free(mine);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_same_thread_gets_the_same_buffers_again),
		cmocka_unit_test(a_read_within_a_read_gets_buffers_of_its_own),
		cmocka_unit_test(a_forked_child_makes_its_own),
		cmocka_unit_test(a_vforked_child_leaves_the_parents_alone),
		cmocka_unit_test(all_of_it_is_below_two_and_a_half_mib),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
