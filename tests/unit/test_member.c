/* SPDX-License-Identifier: MIT */
/* Members: who is there, who is dead, and what the dead leave to the others. */
#include "cache/files.h"
#include "cache/index.h"
#include "cache/lease.h"
#include "cache/slabs.h"
#include "tests/unit/seg_fixture.h"

#include <sys/mman.h>

static struct dz_key key_of(uint64_t n)
{
	return dz_block_key((struct dz_key){ 0x5eed, 0xabc }, n);
}

static uint32_t state_of(const struct dz_seg *seg, uint32_t member)
{
	return atomic_load(&seg->members[member].state);
}

/* Where the child that acts as the dead tells its number. */
static _Atomic uint64_t *told(struct seg_fixture *f)
{
	return &f->seg.hdr->disk_lock; /* there is no disk tier here */
}

static int tell_and_wait(struct seg_fixture *f)
{
	atomic_store(told(f), f->seg.member);
	while (pause() != 0)
		;
	return 0;
}

static uint32_t wait_told(struct seg_fixture *f)
{
	for (int i = 0; i < 5000; i++) {
		uint64_t n = atomic_exchange(told(f), 0);

		if (n)
			return (uint32_t)n;
		usleep(1000);
	}
	fail_msg("the child did not come");
	return 0;
}

/* A child that does `fn` and is then killed; its number. */
static uint32_t killed_after(struct seg_fixture *f, int (*fn)(struct seg_fixture *f))
{
	pid_t pid = seg_child(f, fn);
	uint32_t n = wait_told(f);

	kill(pid, SIGKILL);
	assert_int_equal(seg_reap(pid), 128 + SIGKILL);
	return n;
}

static void a_member_knows_its_number_and_is_alive(void **state)
{
	struct seg_fixture *f = *state;

	assert_in_range(f->seg.member, 1, f->seg.n_members - 1);
	assert_int_equal(state_of(&f->seg, f->seg.member), DZ_MEMBER_LIVE);
	assert_true(dz_member_is_alive(&f->seg, f->seg.member));
	assert_false(dz_member_is_alive(&f->seg, 0));
	assert_false(dz_member_is_alive(&f->seg, DZ_NONE));
	assert_false(dz_member_is_alive(&f->seg, f->seg.n_members));
}

static void another_is_alive_until_it_is_killed(void **state)
{
	struct seg_fixture *f = *state;
	pid_t pid = seg_child(f, tell_and_wait);
	uint32_t n = wait_told(f);

	assert_int_not_equal(n, f->seg.member);
	assert_true(dz_member_is_alive(&f->seg, n));
	kill(pid, SIGSTOP);
	assert_true(dz_member_is_alive(&f->seg, n));
	kill(pid, SIGKILL);
	seg_reap(pid);
	assert_false(dz_member_is_alive(&f->seg, n));
	dz_member_sweep(&f->seg, true);
	assert_int_equal(state_of(&f->seg, n), DZ_MEMBER_FREE);
}

static int exec_sleep(struct seg_fixture *f)
{
	atomic_store(told(f), f->seg.member);
	execlp("sleep", "sleep", "30", (char *)NULL);
	return 98;
}

static void an_exec_ends_a_membership(void **state)
{
	struct seg_fixture *f = *state;
	pid_t pid = seg_child(f, exec_sleep);
	uint32_t n = wait_told(f);

	for (int i = 0; i < 5000 && dz_member_is_alive(&f->seg, n); i++)
		usleep(1000);
	assert_false(dz_member_is_alive(&f->seg, n));
	kill(pid, SIGKILL);
	seg_reap(pid);
}

/* As a backup of /dev/shm does, in a process of ours. */
static int reads_the_locks(struct seg_fixture *f)
{
	char path[DZ_PATH_MAX], c;
	int fd = open(seg_path(f, "members", path), O_RDONLY);

	if (fd < 0 || read(fd, &c, 1) < 0)
		return 1;
	close(fd);
	return tell_and_wait(f);
}

static void one_who_reads_the_file_of_the_locks_is_not_dead(void **state)
{
	struct seg_fixture *f = *state;
	pid_t pid = seg_child(f, reads_the_locks);
	uint32_t n = wait_told(f);

	assert_true(dz_member_is_alive(&f->seg, n));
	dz_member_sweep(&f->seg, true);
	assert_int_equal(state_of(&f->seg, n), DZ_MEMBER_LIVE);
	kill(pid, SIGKILL);
	seg_reap(pid);
	assert_false(dz_member_is_alive(&f->seg, n));
}

/* The child of the one who is killed, told apart by the sign of its number. */
static int forks_and_waits(struct seg_fixture *f)
{
	uint32_t parent = f->seg.member, child = dz_member_prepare_child(&f->seg);
	pid_t pid = fork();

	if (pid == 0) {
		alarm(30);
		if (dz_member_adopt(&f->seg, child) < 0)
			return 1;
		atomic_store(told(f), (uint64_t)getpid() << 32 | parent << 16 | f->seg.member);
	}
	while (pause() != 0)
		;
	return 0;
}

static void a_parent_s_death_is_seen_while_its_child_lives(void **state)
{
	struct seg_fixture *f = *state;
	pid_t pid = seg_child(f, forks_and_waits);
	uint32_t parent, child;
	uint64_t said = 0;

	for (int i = 0; i < 5000 && !said; i++, usleep(1000))
		said = atomic_exchange(told(f), 0);
	parent = (uint32_t)(said >> 16) & 0xffff;
	child = (uint32_t)said & 0xffff;
	assert_true(dz_member_is_alive(&f->seg, parent));
	kill(pid, SIGKILL);
	seg_reap(pid);
	assert_false(dz_member_is_alive(&f->seg, parent));
	assert_true(dz_member_is_alive(&f->seg, child));
	kill((pid_t)(said >> 32), SIGKILL);
	for (int i = 0; i < 5000 && dz_member_is_alive(&f->seg, child); i++)
		usleep(1000);
	assert_false(dz_member_is_alive(&f->seg, child));
}

/* The deadline of a record that is being forked into is long over. */
static void let_time_pass(struct seg_fixture *f, uint32_t member)
{
	atomic_store(&f->seg.members[member].deadline_ms, 0);
}

static void a_child_stopped_at_birth_keeps_what_it_inherits(void **state)
{
	struct seg_fixture *f = *state;
	uint64_t fh = dz_file_ready(&f->seg, dz_file_alloc(&f->seg));
	uint32_t child = dz_member_prepare_child(&f->seg), mine = f->seg.member;
	int gate[2], status;
	pid_t pid;
	char c;

	assert_int_equal(pipe(gate), 0);
	pid = fork();
	if (pid == 0) {
		alarm(60);
		close(gate[1]);
		if (read(gate[0], &c, 1) != 1 || dz_member_adopt(&f->seg, child) < 0)
			_exit(1);
		_exit(f->seg.member != child || !dz_file_get(&f->seg, fh));
	}
	dz_member_child_is(&f->seg, child, (uint32_t)pid);
	dz_file_drop(&f->seg, fh);
	let_time_pass(f, child);
	dz_member_sweep(&f->seg, true);
	assert_int_equal(state_of(&f->seg, child), DZ_MEMBER_FORKING);
	assert_int_equal(f->seg.member, mine);
	assert_int_equal(write(gate[1], "x", 1), 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	/* and gone, it is seen to be: our description holds nothing of it */
	assert_false(dz_member_is_alive(&f->seg, child));
	dz_member_sweep(&f->seg, true);
	assert_int_equal(state_of(&f->seg, child), DZ_MEMBER_FREE);
	assert_null(dz_file_get(&f->seg, fh));
	close(gate[0]);
	close(gate[1]);
}

static void a_child_killed_at_birth_leaves_nothing(void **state)
{
	struct seg_fixture *f = *state;
	uint32_t child = dz_member_prepare_child(&f->seg);
	pid_t pid = fork();

	if (pid == 0)
		for (;;)
			pause();
	dz_member_child_is(&f->seg, child, (uint32_t)pid);
	let_time_pass(f, child);
	dz_member_sweep(&f->seg, true);
	assert_int_equal(state_of(&f->seg, child), DZ_MEMBER_FORKING);
	kill(pid, SIGKILL);
	seg_reap(pid);
	dz_member_sweep(&f->seg, true);
	assert_int_equal(state_of(&f->seg, child), DZ_MEMBER_FREE);
}

static void leaving_keeps_the_counters(void **state)
{
	struct seg_fixture *f = *state;
	struct dz_stats *mine = &f->seg.stats[(size_t)f->seg.member * DZ_STAT_STRIPES + 2];
	uint32_t n = f->seg.member;

	dz_stat_add(&mine->calls, 11);
	dz_stat_add(&mine->hits[DZ_TIER_DRAM], 7);
	atomic_fetch_add(&mine->by_call[5], 3);
	dz_member_leave(&f->seg);
	assert_int_equal(state_of(&f->seg, n), DZ_MEMBER_FREE);
	assert_int_equal(atomic_load(&f->seg.stats[0].calls), 11);
	assert_int_equal(atomic_load(&f->seg.stats[0].hits[DZ_TIER_DRAM]), 7);
	assert_int_equal(atomic_load(&f->seg.stats[0].by_call[5]), 3);
	assert_int_equal(atomic_load(&mine->calls), 0);
}

static void one_who_leaves_in_the_middle_of_a_block_is_left_to_the_sweeper(void **state)
{
	struct seg_fixture *f = *state;
	uint32_t n = f->seg.member;

	atomic_store(&f->seg.members[n].filling, 1);
	dz_member_leave(&f->seg);
	assert_int_equal(state_of(&f->seg, n), DZ_MEMBER_LIVE);
	dz_seg_close(&f->seg);
	assert_int_equal(dz_seg_open(&f->seg, &f->cfg, &f->log), 0);
	assert_int_equal(dz_member_join(&f->seg), 0);
	dz_member_sweep(&f->seg, true);
	assert_int_equal(state_of(&f->seg, n), DZ_MEMBER_FREE);
	assert_int_equal(atomic_load(&f->seg.members[n].filling), 0);
}

static int join_and_die(struct seg_fixture *f)
{
	(void)f;
	kill(getpid(), SIGKILL);
	return 0;
}

static void a_table_full_of_the_dead_has_room(void **state)
{
	struct seg_fixture *f = *state;

	for (uint32_t i = 0; i < f->seg.n_members + 20; i++)
		assert_int_equal(seg_reap(seg_child(f, join_and_die)), 128 + SIGKILL);
}

static void a_table_full_of_the_living_refuses(void **state)
{
	struct seg_fixture *f = *state;
	struct dz_seg other = f->seg;

	for (uint32_t n = 1; n < f->seg.n_members; n++) {
		atomic_store(&f->seg.members[n].deadline_ms, dz_now_ms() + 60000);
		atomic_store(&f->seg.members[n].state, DZ_MEMBER_FORKING);
	}
	other.member = DZ_NONE;
	assert_int_equal(dz_member_join(&other), -EUSERS);
	assert_int_equal(other.member, DZ_NONE);
}

/* ---- the rows of the recovery table, by the state that the dead left ---- */

static uint32_t fill(struct dz_seg *seg, uint64_t n, uint32_t valid, uint64_t *ctl)
{
	uint32_t slot = dz_slot_alloc(seg, DZ_TIER_DRAM, 100000, seg->member, ctl);
	struct dz_slot *s = dz_slot_of(seg, DZ_TIER_DRAM, slot);

	atomic_store(&s->key_lo, key_of(n).lo);
	atomic_store(&s->key_hi, key_of(n).hi);
	atomic_store(&s->len, 100000);
	dz_index_insert(seg, key_of(n), DZ_TIER_DRAM, slot, DZ_NONE);
	memset(dz_seg_page(seg, slot), (int)n, 100000);
	atomic_store(&s->valid, valid);
	return slot;
}

static int dies_filling(struct seg_fixture *f)
{
	struct dz_seg *seg = &f->seg;
	uint64_t ctl;

	atomic_store(&seg->members[seg->member].filling, 1);
	fill(seg, 1, 1, &ctl);
	fill(seg, 2, 0, &ctl);
	dz_slot_alloc(seg, DZ_TIER_DRAM, 5000, seg->member, &ctl);
	return tell_and_wait(f);
}

static void a_block_being_filled_is_published_as_far_as_it_came(void **state)
{
	struct seg_fixture *f = *state;
	uint64_t ctl;
	uint32_t slot;

	killed_after(f, dies_filling);
	dz_member_sweep(&f->seg, true);
	slot = dz_index_find(&f->seg, key_of(1), DZ_TIER_DRAM, &ctl);
	assert_int_not_equal(slot, DZ_NONE);
	assert_int_equal(dz_ctl_state(ctl), DZ_SLOT_READY);
	assert_int_equal(dz_seg_page(&f->seg, slot)[99], 1);
	assert_int_equal(dz_index_find(&f->seg, key_of(2), DZ_TIER_DRAM, &ctl), DZ_NONE);
	assert_int_equal(atomic_load(&f->seg.hdr->chunks[DZ_TIER_DRAM]), 1);
}

static int dies_evicting(struct seg_fixture *f)
{
	struct dz_seg *seg = &f->seg;
	struct dz_slot *s;
	uint64_t ctl;

	atomic_store(&seg->members[seg->member].filling, 1);
	s = dz_slot_of(seg, DZ_TIER_DRAM, fill(seg, 3, 0xffff, &ctl));
	atomic_store(&s->ctl, dz_ctl(dz_ctl_gen(ctl) + 1, seg->member, DZ_SLOT_EVICTING));
	s = dz_slot_of(seg, DZ_TIER_DRAM, fill(seg, 4, 0xffff, &ctl));
	atomic_store(&s->ctl, dz_ctl(dz_ctl_gen(ctl) + 1, seg->member, DZ_SLOT_QUARANTINE));
	return tell_and_wait(f);
}

static void an_eviction_is_finished_and_a_quarantine_lifted(void **state)
{
	struct seg_fixture *f = *state;
	uint64_t ctl;

	killed_after(f, dies_evicting);
	dz_member_sweep(&f->seg, true);
	assert_int_equal(dz_index_find(&f->seg, key_of(3), DZ_TIER_DRAM, &ctl), DZ_NONE);
	assert_int_equal(atomic_load(&f->seg.hdr->chunks[DZ_TIER_DRAM]), 0);
	for (uint32_t n = 0; n < f->seg.n_dram_slots; n++)
		assert_int_equal(dz_ctl_state(atomic_load(&f->seg.dram_slots[n].ctl)),
				 DZ_SLOT_FREE);
}

static int dies_fetching(struct seg_fixture *f)
{
	struct dz_request req = { .kind = DZ_KIND_DATA };
	struct dz_lease_ref ref;
	uint64_t word;

	if (dz_lease_ask(&f->seg, key_of(9), &req, 0, 1, &ref) < 0 ||
	    !dz_lease_claim(&f->seg, ref.idx, &word))
		return 97;
	return tell_and_wait(f);
}

static void a_lease_is_a_request_again(void **state)
{
	struct seg_fixture *f = *state;
	struct dz_request req = { .kind = DZ_KIND_DATA };
	struct dz_lease_ref ref;
	uint64_t word;

	killed_after(f, dies_fetching);
	dz_member_sweep(&f->seg, true);
	assert_int_equal(dz_lease_ask(&f->seg, key_of(9), &req, 0, 1, &ref), 0);
	assert_false(ref.is_new);
	assert_true(dz_lease_claim(&f->seg, ref.idx, &word));
	assert_int_equal(dz_lease_token(word), ref.token);
}

static int dies_with_a_hazard(struct seg_fixture *f)
{
	uint64_t ctl;
	uint32_t slot = fill(&f->seg, 5, 0xffff, &ctl);

	dz_slot_publish(&f->seg, DZ_TIER_DRAM, slot, ctl, &ctl);
	if (dz_slot_pin(&f->seg, slot, ctl) < 0)
		return 97;
	return tell_and_wait(f);
}

static void its_pins_are_dropped(void **state)
{
	struct seg_fixture *f = *state;
	uint64_t ctl;
	uint32_t slot;

	killed_after(f, dies_with_a_hazard);
	slot = dz_index_find(&f->seg, key_of(5), DZ_TIER_DRAM, &ctl);
	assert_false(dz_slot_evict(&f->seg, DZ_TIER_DRAM, slot));
	dz_member_sweep(&f->seg, true);
	assert_true(dz_slot_evict(&f->seg, DZ_TIER_DRAM, slot));
}

/* A program closed our lock and opened a file of its own: nothing there is locked. */
static void nobody_is_dead_to_who_has_lost_the_lock(void **state)
{
	struct seg_fixture *f = *state;
	int lock_fd = f->seg.lock_fd, other = memfd_create("other", MFD_CLOEXEC);
	pid_t pid = seg_child(f, tell_and_wait);
	uint32_t n = wait_told(f);

	assert_true(other >= 0);
	f->seg.lock_fd = other;
	assert_true(dz_member_is_alive(&f->seg, n));
	dz_member_sweep(&f->seg, true);
	f->seg.lock_fd = lock_fd;
	assert_int_equal(state_of(&f->seg, n), DZ_MEMBER_LIVE);
	kill(pid, SIGKILL);
	seg_reap(pid);
	assert_false(dz_member_is_alive(&f->seg, n));
	close(other);
}

static int recovers_for_ever(struct seg_fixture *f)
{
	struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 100, .l_len = 1 };

	if (fcntl(f->seg.lock_fd, F_SETLK, &fl) < 0)
		return 97;
	atomic_store(&f->seg.hdr->members_high, 101);
	atomic_store(&f->seg.members[100].state, DZ_MEMBER_CLAIMED);
	atomic_store(&f->seg.members[100].deadline_ms, 1);
	return tell_and_wait(f);
}

/* Otherwise it would go on with what has become another's. */
static void a_recoverer_that_is_stopped_is_not_overtaken(void **state)
{
	struct seg_fixture *f = *state;
	pid_t pid = seg_child(f, recovers_for_ever);

	wait_told(f);
	kill(pid, SIGSTOP);
	dz_member_sweep(&f->seg, true);
	assert_int_equal(state_of(&f->seg, 100), DZ_MEMBER_CLAIMED);
	/* killed: the next one starts over */
	kill(pid, SIGKILL);
	seg_reap(pid);
	dz_member_sweep(&f->seg, true);
	assert_int_equal(state_of(&f->seg, 100), DZ_MEMBER_FREE);
}

static int joins_a_lot(struct seg_fixture *f)
{
	for (int i = 0; i < 200; i++) {
		uint32_t n = f->seg.member;

		if (state_of(&f->seg, n) != DZ_MEMBER_LIVE)
			return 1;
		if (atomic_load(&f->seg.members[n].pid) != (uint32_t)getpid())
			return 2;
		dz_member_leave(&f->seg);
		if (i % 8 == 0)
			dz_member_sweep(&f->seg, true);
		if (dz_member_join(&f->seg) < 0)
			return 3;
	}
	return 0; /* without leaving: as good as killed */
}

static void no_number_is_given_to_two(void **state)
{
	struct seg_fixture *f = *state;
	pid_t pid[8];

	for (int i = 0; i < 8; i++)
		pid[i] = seg_child(f, joins_a_lot);
	for (int i = 0; i < 8; i++)
		assert_int_equal(seg_reap(pid[i]), 0);
	dz_member_sweep(&f->seg, true);
	for (uint32_t n = 1; n < f->seg.n_members; n++)
		if (n != f->seg.member && state_of(&f->seg, n) != DZ_MEMBER_FREE)
			assert_int_equal(state_of(&f->seg, n), DZ_MEMBER_CLAIMED);
}

static void a_fork_that_failed_leaves_no_record(void **state)
{
	struct seg_fixture *f = *state;
	uint32_t n = dz_member_prepare_child(&f->seg);

	assert_int_equal(state_of(&f->seg, n), DZ_MEMBER_FORKING);
	assert_true(dz_member_is_alive(&f->seg, n));
	dz_member_cancel_child(&f->seg, n);
	assert_int_equal(state_of(&f->seg, n), DZ_MEMBER_FREE);
}

static void a_child_has_a_number_of_its_own(void **state)
{
	struct seg_fixture *f = *state;
	uint32_t cookie = dz_member_prepare_child(&f->seg), mine = f->seg.member;
	pid_t pid = fork();

	if (pid == 0) {
		if (dz_member_adopt(&f->seg, cookie) < 0 || f->seg.member != cookie)
			_exit(1);
		dz_member_sweep(&f->seg, true);
		_exit(state_of(&f->seg, mine) == DZ_MEMBER_LIVE ? 0 : 2);
	}
	assert_int_equal(seg_reap(pid), 0);
	assert_int_equal(state_of(&f->seg, mine), DZ_MEMBER_LIVE);
	dz_member_sweep(&f->seg, true);
	assert_int_equal(state_of(&f->seg, cookie), DZ_MEMBER_FREE);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, seg_fixture_up, seg_fixture_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_member_knows_its_number_and_is_alive),
		TEST(another_is_alive_until_it_is_killed),
		TEST(an_exec_ends_a_membership),
		TEST(one_who_reads_the_file_of_the_locks_is_not_dead),
		TEST(a_parent_s_death_is_seen_while_its_child_lives),
		TEST(a_child_stopped_at_birth_keeps_what_it_inherits),
		TEST(a_child_killed_at_birth_leaves_nothing),
		TEST(leaving_keeps_the_counters),
		TEST(one_who_leaves_in_the_middle_of_a_block_is_left_to_the_sweeper),
		TEST(a_table_full_of_the_dead_has_room),
		TEST(a_table_full_of_the_living_refuses),
		TEST(a_block_being_filled_is_published_as_far_as_it_came),
		TEST(an_eviction_is_finished_and_a_quarantine_lifted),
		TEST(a_lease_is_a_request_again),
		TEST(its_pins_are_dropped),
		TEST(nobody_is_dead_to_who_has_lost_the_lock),
		TEST(a_recoverer_that_is_stopped_is_not_overtaken),
		TEST(no_number_is_given_to_two),
		TEST(a_fork_that_failed_leaves_no_record),
		TEST(a_child_has_a_number_of_its_own),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
