/* SPDX-License-Identifier: MIT */
/* Records of mounts and agents: what nobody uses is given to others, nothing else is. */
#include "cache/engine_priv.h"
#include "tests/unit/seg_fixture.h"

/* A member with one mount, which has credentials of its own. */
static struct dz_engine *member_new(struct seg_fixture *f, uint64_t n)
{
	struct dz_engine *e = calloc(1, sizeof(*e));
	struct dz_mount *m = &e->cfg.mounts[0];

	assert_int_equal(dz_seg_open(&e->seg, &f->cfg, &f->log), 0);
	assert_int_equal(dz_member_join(&e->seg), 0);
	e->cfg.n_mounts = 1;
	m->identity = 1000 + n;
	m->data_id = 77 * n;
	m->id = dz_hash64(&n, sizeof(n), 1) | 1;
	snprintf(m->endpoint, sizeof(m->endpoint), "https://a%llu.example", (unsigned long long)n);
	return e;
}

static void member_end(struct dz_engine *e)
{
	dz_member_leave(&e->seg);
	dz_seg_close(&e->seg);
	free(e);
}

static void assert_is_bound(const struct dz_engine *e)
{
	const struct dz_mount_rec *r = &e->seg.mounts[e->rec[0]];

	assert_int_equal(atomic_load(&r->id), e->cfg.mounts[0].id);
	assert_int_equal(atomic_load(&r->ready), 1);
	assert_string_equal(r->endpoint, e->cfg.mounts[0].endpoint);
	assert_int_equal(atomic_load(&e->seg.agents[e->agent[0]].identity),
			 e->cfg.mounts[0].identity);
}

static void credentials_may_change_for_ever(void **state)
{
	struct seg_fixture *f = *state;
	struct dz_engine *stays = member_new(f, 0);

	assert_int_equal(dz_engine_bind_mounts(stays), 0);
	for (uint64_t n = 1; n <= 300; n++) {
		struct dz_engine *e = member_new(f, n);

		assert_int_equal(dz_engine_bind_mounts(e), 0);
		assert_is_bound(e);
		assert_int_not_equal(e->rec[0], stays->rec[0]);
		assert_int_not_equal(e->agent[0], stays->agent[0]);
		assert_is_bound(stays);
		member_end(e);
	}
	member_end(stays);
}

static void those_who_live_keep_theirs_and_one_too_many_is_told(void **state)
{
	struct seg_fixture *f = *state;
	struct dz_engine *e[9];

	for (uint64_t n = 0; n < 9; n++) {
		e[n] = member_new(f, n);
		assert_int_equal(dz_engine_bind_mounts(e[n]), n < 8 ? 0 : -EUSERS);
	}
	for (uint64_t n = 0; n < 8; n++)
		assert_is_bound(e[n]);
	member_end(e[3]);
	assert_int_equal(dz_engine_bind_mounts(e[8]), 0);
	for (uint64_t n = 0; n < 9; n++)
		if (n != 3)
			assert_is_bound(e[n]);
	for (uint64_t n = 0; n < 9; n++)
		if (n != 3)
			member_end(e[n]);
}

/* Its name and its agent's credentials are needed as long as somebody may read it. */
static void an_open_file_keeps_the_record_of_its_mount(void **state)
{
	struct seg_fixture *f = *state;
	struct dz_engine *e = member_new(f, 500);
	uint32_t file, rec;
	uint64_t fh, id;

	assert_int_equal(dz_engine_bind_mounts(e), 0);
	rec = e->rec[0];
	id = e->cfg.mounts[0].id;
	file = dz_file_alloc(&f->seg);
	f->seg.files[file].mount = rec;
	fh = dz_file_ready(&f->seg, file);
	member_end(e);
	for (uint64_t n = 501; n < 600; n++) {
		e = member_new(f, n);
		assert_int_equal(dz_engine_bind_mounts(e), 0);
		assert_int_equal(atomic_load(&f->seg.mounts[rec].id), id);
		member_end(e);
	}
	dz_file_drop(&f->seg, fh);
}

/* Killed while it retired a record, at each of the states that it passes through. */
static void what_was_left_on_its_way_out_is_used_again(void **state)
{
	struct seg_fixture *f = *state;
	struct dz_engine *e = member_new(f, 7);

	assert_int_equal(dz_engine_bind_mounts(e), 0);
	/* leaving, and wanted again: by the one whose it was */
	atomic_store(&f->seg.mounts[e->rec[0]].id, e->cfg.mounts[0].id & ~1ull);
	assert_int_equal(dz_engine_bind_mounts(e), 0);
	assert_is_bound(e);
	member_end(e);
	/* gone, all of them, but not yet free */
	for (uint32_t n = 0; n < f->seg.n_mounts; n++)
		atomic_store(&f->seg.mounts[n].id, 2);
	for (uint32_t n = 0; n < f->seg.n_agents; n++)
		atomic_store(&f->seg.agents[n].identity, 2);
	e = member_new(f, 8);
	assert_int_equal(dz_engine_bind_mounts(e), 0);
	assert_is_bound(e);
	member_end(e);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, seg_fixture_up, seg_fixture_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(credentials_may_change_for_ever),
		TEST(those_who_live_keep_theirs_and_one_too_many_is_told),
		TEST(an_open_file_keeps_the_record_of_its_mount),
		TEST(what_was_left_on_its_way_out_is_used_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
