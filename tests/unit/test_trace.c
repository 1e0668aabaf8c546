// SPDX-License-Identifier: MIT
/* timeout: 60 */
/* The rings of dz trace: writers in threads, a reader, and what may go wrong between them. */
#include "seg_fixture.h"

#include "cache/engine_priv.h"
#include "tools/trace.h"

#include <pthread.h>

#define THREADS	   8
#define EVENTS	   20000
#define CALL_PREAD 2 /* any number will do */

struct fixture {
	struct seg_fixture *seg;
	struct dz_engine *e;
	struct trace_session s;
	struct trace_events events;
};

static __thread struct dz_trace_self self __attribute__((tls_model("initial-exec")));
static struct fixture *now; /* of the writers */

static int setup_with(void **state, uint32_t want)
{
	static char *none[] = { NULL };
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f || !(f->seg = seg_fixture_dirs()) ||
	    dz_engine_open(&f->e, &f->seg->cfg, none, NULL) < 0 ||
	    trace_open(&f->s, &f->seg->cfg, want) < 0 ||
	    trace_attach(&f->s, (uint32_t)getpid()) < 0)
		return -1;
	memset(&self, 0, sizeof(self));
	dz_engine_set_trace_self(f->e, &self);
	*state = now = f;
	return 0;
}

static int setup_lines(void **state)
{
	return setup_with(state, DZ_TRACE_LINES);
}

static int setup_counts(void **state)
{
	return setup_with(state, DZ_TRACE_COUNTS);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	trace_close(&f->s);
	dz_engine_close(f->e);
	for (size_t i = 0; i < f->events.n; i++)
		trace_event_free(&f->events.at[i]);
	free(f->events.at);
	free(f->seg);
	free(f);
	return 0;
}

static void one_call(uint64_t number, const char *path)
{
	const long args[2] = { (long)path, (long)number };
	struct dz_call_record rec = { .call = CALL_PREAD,
				      .n_args = 2,
				      .result = (int64_t)number,
				      .args = args,
				      .strings = path ? 1 : 0 };
	struct dz_call_span span;

	dz_engine_span_begin(now->e, &self, &span, rec.call);
	dz_engine_span_end(now->e, &self, &span, &rec);
}

static void path_of(char path[200], uint64_t number)
{
	memset(path, 'a' + (int)(number % 26), 199);
	path[number % 199] = '\0';
}

static void *write_events(void *arg)
{
	char path[200];

	(void)arg;
	for (uint64_t i = 1; i <= EVENTS; i++) {
		path_of(path, i);
		one_call(i, path);
		if (i % 64 == 0)
			usleep(100);
	}
	return NULL;
}

/* Each thread's numbers grow, and the text is that of the number. */
static void assert_whole(const struct trace_events *events)
{
	uint64_t last[64] = { 0 };
	uint32_t tids[64] = { 0 };
	char path[200];

	for (size_t i = 0; i < events->n; i++) {
		const struct trace_event *ev = &events->at[i];
		uint32_t t = 0;

		while (tids[t] && tids[t] != ev->tid)
			t++;
		tids[t] = ev->tid;
		assert_true((uint64_t)ev->result > last[t]);
		last[t] = (uint64_t)ev->result;
		path_of(path, last[t]);
		assert_string_equal(ev->strings[0], path);
		assert_int_equal(ev->args[1], ev->result);
	}
}

static void every_event_of_many_threads_arrives_whole_or_is_counted(void **state)
{
	struct fixture *f = *state;
	pthread_t threads[THREADS];

	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, write_events, NULL), 0);
	for (int i = 0; i < 100; i++) {
		trace_drain(&f->s, &f->events, false);
		usleep(2000);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	trace_drain(&f->s, &f->events, true);
	assert_true(f->events.n > EVENTS);
	assert_int_equal(f->events.n + trace_dropped(&f->s), THREADS * EVENTS);
	assert_whole(&f->events);
}

static void a_full_ring_drops_and_counts(void **state)
{
	struct fixture *f = *state;

	for (uint64_t i = 1; i <= EVENTS; i++)
		one_call(i, NULL);
	trace_drain(&f->s, &f->events, true);
	assert_int_equal(f->events.n, DZ_TRACE_CELLS / 2);
	assert_int_equal(trace_dropped(&f->s), EVENTS - DZ_TRACE_CELLS / 2);
	/* There is room again. */
	one_call(EVENTS + 1, NULL);
	trace_drain(&f->s, &f->events, true);
	assert_int_equal(f->events.at[f->events.n - 1].result, EVENTS + 1);
}

static void a_writer_that_died_on_the_way_is_passed_over(void **state)
{
	struct fixture *f = *state;
	struct dz_trace_ring *r;

	one_call(1, NULL);
	r = &f->s.file->rings[self.ring % f->s.n_rings];
	atomic_fetch_add(&r->head, 3); /* claimed, never written */
	one_call(2, "after");
	usleep(5000);
	trace_drain(&f->s, &f->events, false);
	assert_int_equal(f->events.n, 1);
	trace_drain(&f->s, &f->events, true);
	assert_int_equal(f->events.n, 2);
	assert_string_equal(f->events.at[1].strings[0], "after");
}

static void garbage_in_a_ring_is_no_event_and_no_crash(void **state)
{
	struct fixture *f = *state;
	uint32_t ring;

	one_call(1, NULL);
	ring = self.ring % f->s.n_rings;
	for (uint64_t i = 0; i < 400; i++) {
		uint8_t *cell = dz_trace_cell(f->s.file, ring, 2 + i);

		for (uint64_t k = 0; k < DZ_TRACE_CELL; k++)
			cell[k] = (uint8_t)(i * 131 + k * 7 + (i >> 3));
		if (i % 3 == 0)
			*(uint64_t *)(void *)cell = 2 + i + 1;
	}
	atomic_store(&f->s.file->rings[ring].head, 402);
	trace_drain(&f->s, &f->events, true);
	assert_int_equal(atomic_load(&f->s.file->rings[ring].tail), 402);
}

static void who_was_let_go_takes_its_word_back(void **state)
{
	struct fixture *f = *state;
	_Atomic uint64_t *word = &f->s.seg.members[1].trace;

	one_call(1, NULL);
	for (uint32_t i = 1; i < f->s.seg.n_members && !atomic_load(word); i++)
		word = &f->s.seg.members[i].trace;
	assert_true(dz_engine_is_traced(f->e));
	atomic_store(word, (f->s.word & ~0xffffffffull) | DZ_TRACE_CLOSE);
	one_call(2, NULL);
	assert_false(dz_engine_is_traced(f->e));
	trace_drain(&f->s, &f->events, true);
	assert_int_equal(f->events.n, 1);
}

/* `n` calls with this result. */
static void make_calls(struct fixture *f, uint32_t call, int64_t result, int n)
{
	for (int i = 0; i < n; i++) {
		struct dz_call_span span;

		dz_engine_span_begin(f->e, &self, &span, call);
		assert_true(dz_engine_span_count(f->e, &self, &span, call, result));
	}
}

static uint64_t timed_of(const struct trace_sum *sum, uint32_t call)
{
	uint64_t timed = 0;

	for (int t = 0; t < DZ_TIERS; t++) {
		for (int b = 0; b < DZ_TRACE_BUCKETS; b++)
			timed += sum->rows[call].buckets[t][b];
	}
	return timed;
}

static void counts_are_exact_and_times_are_of_all_that_wait(void **state)
{
	struct fixture *f = *state;
	static struct trace_sum sum;

	memset(&sum, 0, sizeof(sum));
	make_calls(f, CALL_PREAD, 10, 1003);
	trace_sum_tables(&sum, &f->s, true);
	assert_int_equal(sum.rows[CALL_PREAD].calls[0], 1003);
	assert_int_equal(sum.rows[CALL_PREAD].bytes, 10030);
	assert_in_range(timed_of(&sum, CALL_PREAD), 1003 - 32, 1003 + 32);
}

static void calls_that_fail_each_time_are_timed_like_others(void **state)
{
	struct fixture *f = *state;
	static struct trace_sum sum;

	memset(&sum, 0, sizeof(sum));
	make_calls(f, CALL_PREAD, -ENOENT, 1003);
	trace_sum_tables(&sum, &f->s, true);
	assert_int_equal(sum.rows[CALL_PREAD].errors, 1003);
	assert_in_range(timed_of(&sum, CALL_PREAD), 1003 - 32, 1003 + 32);
}

/* CALL_PREAD + 4 has the same place among the calls that are prepared. */
static void counts_are_exact_when_calls_alternate_and_fail(void **state)
{
	struct fixture *f = *state;
	static struct trace_sum sum;
	const uint32_t other = CALL_PREAD + 4;

	memset(&sum, 0, sizeof(sum));
	for (int i = 0; i < 500; i++) {
		make_calls(f, CALL_PREAD, 10, 1 + i % 3);
		make_calls(f, other, i % 5 ? 0 : -EIO, 1);
		make_calls(f, CALL_PREAD + 1, 1, 1);
	}
	trace_sum_tables(&sum, &f->s, true);
	assert_int_equal(sum.rows[CALL_PREAD].calls[0], 999);
	assert_int_equal(sum.rows[CALL_PREAD].bytes, 9990);
	assert_int_equal(sum.rows[other].calls[0], 500);
	assert_int_equal(sum.rows[other].errors, 100);
	assert_int_equal(sum.rows[CALL_PREAD + 1].bytes, 500);
	assert_in_range(timed_of(&sum, CALL_PREAD), 999 - 32, 999 + 32);
	assert_in_range(timed_of(&sum, other), 500 - 32, 500 + 32);
}

static void a_call_that_waited_is_not_taken_for_one_from_memory(void **state)
{
	struct fixture *f = *state;
	static struct trace_sum sum;
	struct dz_call_span span;

	memset(&sum, 0, sizeof(sum));
	dz_engine_set_trace_self(f->e, &self);
	make_calls(f, CALL_PREAD, 10, 70);
	dz_engine_span_begin(f->e, &self, &span, CALL_PREAD);
	assert_int_equal(span.weight, 0);
	dz_call_needed(f->e, DZ_TIER_DISK, 5000);
	assert_true(dz_engine_span_count(f->e, &self, &span, CALL_PREAD, 10));
	make_calls(f, CALL_PREAD, 10, 70);
	trace_sum_tables(&sum, &f->s, true);
	assert_int_equal(sum.rows[CALL_PREAD].calls[0], 140);
	assert_int_equal(sum.rows[CALL_PREAD].calls[DZ_TIER_DISK], 1);
	assert_int_equal(sum.rows[CALL_PREAD].bytes, 1410);
}

static void a_bucket_holds_what_falls_into_it(void **state)
{
	(void)state;
	for (uint64_t ticks = 1; ticks < 1ull << 40; ticks = ticks * 9 / 8 + 1) {
		uint32_t b = dz_trace_bucket(ticks);

		assert_true(ticks < dz_trace_bucket_end(b));
		assert_true(b == 0 || ticks >= dz_trace_bucket_end(b - 1));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			every_event_of_many_threads_arrives_whole_or_is_counted, setup_lines,
			teardown),
		cmocka_unit_test_setup_teardown(a_full_ring_drops_and_counts, setup_lines,
						teardown),
		cmocka_unit_test_setup_teardown(a_writer_that_died_on_the_way_is_passed_over,
						setup_lines, teardown),
		cmocka_unit_test_setup_teardown(garbage_in_a_ring_is_no_event_and_no_crash,
						setup_lines, teardown),
		cmocka_unit_test_setup_teardown(who_was_let_go_takes_its_word_back, setup_lines,
						teardown),
		cmocka_unit_test_setup_teardown(counts_are_exact_and_times_are_of_all_that_wait,
						setup_counts, teardown),
		cmocka_unit_test_setup_teardown(calls_that_fail_each_time_are_timed_like_others,
						setup_counts, teardown),
		cmocka_unit_test_setup_teardown(counts_are_exact_when_calls_alternate_and_fail,
						setup_counts, teardown),
		cmocka_unit_test_setup_teardown(a_call_that_waited_is_not_taken_for_one_from_memory,
						setup_counts, teardown),
		cmocka_unit_test(a_bucket_holds_what_falls_into_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
