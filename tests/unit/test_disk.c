/* SPDX-License-Identifier: MIT */
/* The disk tier: what was written is read, what cannot be right is a miss. */
#include "cache/disk_priv.h"
#include "tests/unit/disk_fixture.h"
#include "tests/unit/space_check.h"

#include <signal.h>
#include <sys/mount.h>
#include <sys/statfs.h>

#define MIB ((uint32_t)DZ_MIB)

static int set_up(void **state)
{
	struct fixture *f = fixture_new(NULL, 40 * DZ_MIB);

	*state = f;
	return f && f->disk ? 0 : -1;
}

static int tear_down(void **state)
{
	fixture_free(*state);
	return 0;
}

static void a_written_block_is_read_back(void **state)
{
	struct fixture *f = *state;
	static const uint32_t lens[] = { 1, 4095, 4096, 4097, 110250, 1048575, 1048576 };

	for (uint64_t i = 0; i < DZ_ARRAY_LEN(lens); i++)
		assert_int_equal(put(f, i, lens[i]), 0);
	for (uint64_t i = 0; i < DZ_ARRAY_LEN(lens); i++)
		assert_block(f, i, lens[i]);
	assert_int_equal(get(f, 99, 1), -ENOENT);
}

static void an_inner_range_is_read_with_its_skip(void **state)
{
	struct fixture *f = *state;
	uint8_t *want = malloc(MIB);
	struct dz_io io;
	uint64_t ctl;
	uint32_t slot, skip;

	assert_int_equal(put(f, 1, MIB), 0);
	memcpy(want, f->buf, MIB);
	slot = dz_index_find(&f->seg, key_of(1), DZ_TIER_DISK, &ctl);
	for (uint32_t off = 0; off < MIB - 70000; off += 33333) {
		memset(f->buf, 0, MIB);
		dz_disk_prep_read(f->disk, slot, off, 70000, f->buf, &io, &skip);
		assert_int_equal(io.off % DZ_PAGE, 0);
		assert_int_equal(io.len % DZ_PAGE, 0);
		assert_int_equal(dz_sys_pread(io.fd, io.buf, io.len, io.off), io.len);
		io.res = (int32_t)io.len;
		assert_int_equal(dz_disk_check_read(f->disk, slot, ctl, &io), 0);
		assert_memory_equal(f->buf + skip, want + off, 70000);
	}
	free(want);
}

static void a_second_write_of_a_block_is_refused(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(put(f, 1, 5000), 0);
	assert_int_equal(put(f, 1, 5000), -EEXIST);
	assert_block(f, 1, 5000);
}

static void blocks_survive_a_reboot(void **state)
{
	struct fixture *f = *state;

	for (uint64_t i = 0; i < 24; i++)
		assert_int_equal(put(f, i, i % 2 ? MIB : 12345), 0);
	reopen(f);
	assert_non_null(f->disk);
	for (uint64_t i = 0; i < 24; i++)
		assert_block(f, i, i % 2 ? MIB : 12345);
	assert_int_equal(f->seg.hdr->disk_used, 12 * DZ_MIB + 12 * 4 * DZ_PAGE);
}

static void a_replayed_block_is_unverified_until_its_first_use(void **state)
{
	struct fixture *f = *state;
	uint64_t ctl;
	uint32_t slot;

	assert_int_equal(put(f, 1, 5000), 0);
	slot = dz_index_find(&f->seg, key_of(1), DZ_TIER_DISK, &ctl);
	assert_false(dz_disk_is_unverified(f->disk, slot));
	reopen(f);
	slot = dz_index_find(&f->seg, key_of(1), DZ_TIER_DISK, &ctl);
	assert_true(dz_disk_is_unverified(f->disk, slot));
	assert_block(f, 1, 5000);
	assert_false(dz_disk_is_unverified(f->disk, slot));
	assert_int_equal(f->seg.disk_slots[slot].kind, DZ_KIND_DATA);
	assert_int_equal(f->seg.disk_slots[slot].group, 7);
}

/* Changes one bit of the byte at `off` of the block in the slab files. */
static void flip(struct fixture *f, uint64_t n, uint32_t off)
{
	char path[DZ_PATH_MAX + 32];
	uint64_t ctl, at;
	uint32_t slot = dz_index_find(&f->seg, key_of(n), DZ_TIER_DISK, &ctl), page;
	uint8_t byte;
	int fd;

	page = f->seg.disk_slots[slot].page;
	snprintf(path, sizeof(path), "%s/slab.%u", f->dir, page / DZ_SLAB_PAGES % 16);
	at = page / DZ_SLAB_PAGES / 16 * DZ_MIB + page % DZ_SLAB_PAGES * DZ_PAGE + off;
	fd = open(path, O_RDWR);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
	byte ^= 0x10;
	assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
	assert_int_equal(fsync(fd), 0);
	close(fd);
}

static void a_flipped_bit_is_a_miss_after_a_reboot(void **state)
{
	struct fixture *f = *state;

	for (uint64_t i = 0; i < 8; i++)
		assert_int_equal(put(f, i, 100000), 0);
	flip(f, 3, 77777);
	reopen(f);
	assert_int_equal(get(f, 3, 100000), -ENOENT);
	/* dropped for good, and its place is free for another */
	assert_int_equal(get(f, 3, 100000), -ENOENT);
	assert_int_equal(put(f, 3, 100000), 0);
	for (uint64_t i = 0; i < 8; i++)
		assert_block(f, i, 100000);
}

/* Three times what fits: most went; what is found is right, then and after a reboot. */
static void overwritten_places_are_never_wrong(void **state)
{
	struct fixture *f = *state;
	uint32_t found = 0;

	for (uint64_t i = 0; i < 120; i++) {
		int ret = put(f, i, i % 3 ? MIB : 300000);

		assert_true(ret == 0 || ret == -EAGAIN);
		/* seen twice: the policy has a reason to let it in */
		if (ret == -EAGAIN)
			put(f, i, i % 3 ? MIB : 300000);
	}
	for (int round = 0; round < 2; round++) {
		for (uint64_t i = 0; i < 120; i++) {
			uint32_t len = i % 3 ? MIB : 300000;
			int ret = get(f, i, len);

			assert_true(ret == 0 || ret == -ENOENT);
			assert_true(ret < 0 || block_is(f->buf, i, len));
			found += ret == 0;
		}
		reopen(f);
	}
	assert_true(found >= 40);
}

/* The same place, written by block 1, evicted, written by block 2. */
static void the_newest_tenant_of_a_place_wins_at_replay(void **state)
{
	struct fixture *f = *state;
	uint64_t ctl;
	uint32_t first, second;

	assert_int_equal(put(f, 1, MIB), 0);
	first = dz_index_find(&f->seg, key_of(1), DZ_TIER_DISK, &ctl);
	first = f->seg.disk_slots[first].page;
	assert_true(dz_slot_evict(&f->seg, DZ_TIER_DISK,
				  dz_index_find(&f->seg, key_of(1), DZ_TIER_DISK, &ctl)));
	assert_int_equal(put(f, 2, MIB), 0);
	second = dz_index_find(&f->seg, key_of(2), DZ_TIER_DISK, &ctl);
	assert_int_equal(f->seg.disk_slots[second].page, first);
	reopen(f);
	assert_int_equal(get(f, 1, MIB), -ENOENT);
	assert_block(f, 2, MIB);
}

static void a_read_of_an_evicted_place_is_stale(void **state)
{
	struct fixture *f = *state;
	struct dz_io io;
	uint64_t ctl;
	uint32_t slot, skip;

	assert_int_equal(put(f, 1, MIB), 0);
	slot = dz_index_find(&f->seg, key_of(1), DZ_TIER_DISK, &ctl);
	dz_disk_prep_read(f->disk, slot, 0, MIB, f->buf, &io, &skip);
	assert_true(dz_slot_evict(&f->seg, DZ_TIER_DISK, slot));
	io.res = (int32_t)dz_sys_pread(io.fd, io.buf, io.len, io.off);
	assert_int_equal(dz_disk_check_read(f->disk, slot, ctl, &io), -ESTALE);
	assert_true(dz_disk_is_on(f->disk));
}

/* The program wanted the number for itself; the read was under way, or done and not looked at. */
static void a_read_by_a_descriptor_that_has_moved_is_stale(void **state)
{
	struct fixture *f = *state;
	struct dz_io io;
	uint64_t ctl;
	uint32_t slot, skip;
	int *place;

	assert_int_equal(put(f, 1, MIB), 0);
	slot = dz_index_find(&f->seg, key_of(1), DZ_TIER_DISK, &ctl);
	dz_disk_prep_read(f->disk, slot, 0, MIB, f->buf, &io, &skip);
	io.res = (int32_t)dz_sys_pread(io.fd, io.buf, io.len, io.off);
	place = dz_disk_fd_place(f->disk, io.fd);
	assert_non_null(place);
	*place = fcntl(io.fd, F_DUPFD_CLOEXEC, io.fd + 1);
	close(io.fd);
	assert_int_equal(dz_disk_check_read(f->disk, slot, ctl, &io), -ESTALE);
	assert_true(dz_disk_is_on(f->disk));
	assert_int_equal(get(f, 1, MIB), 0);
}

static void set_size(struct fixture *f, uint64_t bytes)
{
	detach(f);
	assert_int_equal(dz_seg_purge(&f->cfg), 0);
	f->cfg.disk_bytes = bytes;
	assert_int_equal(attach(f), 0);
	assert_non_null(f->disk);
}

static void another_size_keeps_what_still_fits(void **state)
{
	struct fixture *f = *state;
	uint32_t found = 0;

	for (uint64_t i = 0; i < 30; i++)
		assert_int_equal(put(f, i, MIB), 0);
	set_size(f, 20 * DZ_MIB);
	for (uint64_t i = 0; i < 30; i++) {
		int ret = get(f, i, MIB);

		assert_true(ret == -ENOENT || block_is(f->buf, i, MIB));
		found += ret == 0;
	}
	assert_int_equal(found, dz_disk_for_slabs(20 * DZ_MIB) / DZ_MIB);
	set_size(f, 60 * DZ_MIB);
	found = 0;
	for (uint64_t i = 0; i < 30; i++)
		found += get(f, i, MIB) == 0 && block_is(f->buf, i, MIB);
	assert_int_equal(found, dz_disk_for_slabs(20 * DZ_MIB) / DZ_MIB);
	for (uint64_t i = 100; i < 130; i++)
		assert_int_equal(put(f, i, MIB), 0);
	reopen(f);
	for (uint64_t i = 100; i < 130; i++)
		assert_block(f, i, MIB);
}

static void slab_files_are_allocated_at_creation(void **state)
{
	struct fixture *f = *state;
	uint64_t sum = 0;

	for (uint32_t i = 0; i < 16; i++) {
		char path[DZ_PATH_MAX + 32];
		struct stat st;

		snprintf(path, sizeof(path), "%s/slab.%u", f->dir, i);
		assert_int_equal(stat(path, &st), 0);
		assert_int_equal(st.st_size % MIB, DZ_PAGE);
		sum += (uint64_t)st.st_blocks * 512;
	}
	assert_true(sum >= dz_disk_for_slabs(40 * DZ_MIB) && sum <= 40 * DZ_MIB);
}

/* dz purge under a running job: the new segment must not touch the old one's files. */
static void two_living_segments_never_share_the_files(void **state)
{
	struct fixture *f = *state;
	struct fixture g = *f;

	assert_int_equal(put(f, 1, MIB), 0);
	assert_int_equal(dz_seg_purge(&f->cfg), 0);
	assert_int_equal(attach(&g), 0);
	assert_null(g.disk);
	assert_block(f, 1, MIB);
	dz_member_leave(&g.seg);
	dz_seg_close(&g.seg);
	reopen(f);
	assert_block(f, 1, MIB);
}

/*
 * The shared memory stays when its last member has gone; another segment has the files in
 * between.  What the first one's tables say of them is not so any more.
 */
static void a_segment_that_comes_back_to_the_files_believes_their_journals_alone(void **state)
{
	struct fixture *f = *state;
	struct fixture g = *f;

	snprintf(g.cfg.shm_dir, sizeof(g.cfg.shm_dir), "%.4000s/other", f->cfg.shm_dir);
	assert_int_equal(mkdir(g.cfg.shm_dir, 0700), 0);
	for (uint64_t i = 0; i < 30; i++)
		assert_int_equal(put(f, i, MIB), 0);
	detach(f);
	assert_int_equal(attach(&g), 0);
	assert_non_null(g.disk);
	for (uint64_t i = 0; i < 10; i++)
		dz_slot_evict(&g.seg, DZ_TIER_DISK, g.seg.disk_map[i * DZ_SLAB_PAGES] - 1);
	for (uint64_t i = 100; i < 110; i++)
		assert_int_equal(put(&g, i, MIB), 0);
	detach(&g);
	assert_int_equal(attach(f), 0);
	assert_non_null(f->disk);
	for (uint64_t i = 0; i < 110; i++) {
		int ret = get(f, i, MIB);

		assert_true(ret == -ENOENT || block_is(f->buf, i, MIB));
		if (i >= 100)
			assert_int_equal(ret, 0);
	}
	assert_null(space_complaint(&f->seg, DZ_TIER_DISK));
}

static void a_second_process_joins_and_sees_the_blocks(void **state)
{
	struct fixture *f = *state;
	struct fixture g = *f;

	assert_int_equal(put(f, 1, MIB), 0);
	assert_int_equal(attach(&g), 0);
	assert_non_null(g.disk);
	assert_block(&g, 1, MIB);
	assert_int_equal(put(&g, 2, MIB), 0);
	detach(&g);
	assert_block(f, 2, MIB);
	reopen(f);
	assert_block(f, 1, MIB);
	assert_block(f, 2, MIB);
}

/* Another container: the shared memory is the same, the path leads elsewhere. */
static void another_directory_under_the_same_segment_is_refused(void **state)
{
	struct fixture *f = *state;
	struct fixture g = *f;

	assert_int_equal(put(f, 1, MIB), 0);
	strcat(g.cfg.cache_dir, "-elsewhere");
	assert_int_equal(attach(&g), 0);
	assert_null(g.disk);
	assert_true(dz_disk_is_on(f->disk));
	assert_block(f, 1, MIB);
	dz_member_leave(&g.seg);
	dz_seg_close(&g.seg);
}

static uint32_t slot_of_owner(struct fixture *f, uint32_t owner)
{
	for (uint32_t slot = 0; slot < f->seg.n_disk_slots; slot++) {
		uint64_t ctl = f->seg.disk_slots[slot].ctl;

		if (dz_ctl_owner(ctl) == owner && dz_ctl_state(ctl) == DZ_SLOT_FILLING)
			return slot;
	}
	return DZ_NONE;
}

static void a_member_killed_while_writing_loses_its_slot_after_a_barrier(void **state)
{
	struct fixture *f = *state;
	uint64_t ctl, used = f->seg.hdr->disk_used;
	uint32_t slot = dz_slot_alloc(&f->seg, DZ_TIER_DISK, MIB, 99, &ctl);

	assert_int_equal(f->seg.hdr->disk_used, used + DZ_MIB);
	assert_int_equal(slot_of_owner(f, 99), slot);
	assert_int_equal(dz_disk_barrier(f->disk, slot), 0);
	assert_int_equal(dz_disk_recover(f->disk, 98), 0);
	assert_int_equal(dz_disk_recover(f->disk, 99), 1);
	assert_int_equal(dz_disk_recover(f->disk, 99), 0);
	assert_int_equal(f->seg.hdr->disk_used, used);
	/* it may not write on: its word has changed */
	assert_false(dz_slot_publish(&f->seg, DZ_TIER_DISK, slot, ctl, &ctl));
}

/* The dead one holds no lock any more; who lives keeps its slot. */
static void only_the_dead_lose_their_slots(void **state)
{
	struct fixture *f = *state;
	uint64_t ctl;
	uint32_t mine = dz_slot_alloc(&f->seg, DZ_TIER_DISK, MIB, f->seg.member, &ctl);
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		if (dz_member_adopt(&f->seg, DZ_NONE) < 0 ||
		    dz_slot_alloc(&f->seg, DZ_TIER_DISK, MIB, f->seg.member, &ctl) == DZ_NONE)
			_exit(1);
		raise(SIGKILL);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(f->seg.hdr->disk_used, 2 * DZ_MIB);
	assert_int_equal(dz_disk_recover(f->disk, DZ_NONE), 1);
	assert_int_equal(f->seg.hdr->disk_used, DZ_MIB);
	assert_true(dz_slot_discard(&f->seg, DZ_TIER_DISK, mine, ctl));
}

/* Killed between quarantine and freeing, by whomever: the next one goes on. */
static void what_was_left_in_quarantine_is_freed(void **state)
{
	struct fixture *f = *state;
	uint64_t ctl;
	uint32_t slot = dz_slot_alloc(&f->seg, DZ_TIER_DISK, MIB, 99, &ctl);

	f->seg.disk_slots[slot].ctl = dz_ctl(dz_ctl_gen(ctl), 99, DZ_SLOT_QUARANTINE);
	assert_int_equal(dz_disk_recover(f->disk, DZ_NONE), 1);
	assert_int_equal(f->seg.hdr->disk_used, 0);
}

/* As the agent does it, a part of the slots a second. */
static void what_is_in_quarantine_is_freed_part_by_part(void **state)
{
	const uint32_t parts = 64;
	struct fixture *f = *state;
	uint64_t ctl[3], live;
	uint32_t mine = dz_slot_alloc(&f->seg, DZ_TIER_DISK, MIB, f->seg.member, &live), freed = 0;

	for (int i = 0; i < 3; i++) {
		uint32_t slot =
			dz_slot_alloc(&f->seg, DZ_TIER_DISK, MIB, 90 + (uint32_t)i, &ctl[i]);

		/* the first was never judged: its owner died with nobody there */
		if (i)
			f->seg.disk_slots[slot].ctl =
				dz_ctl(dz_ctl_gen(ctl[i]), 90 + (uint32_t)i, DZ_SLOT_QUARANTINE);
	}
	for (uint32_t part = 0; part < parts; part++)
		freed += dz_disk_recover_part(f->disk, part, parts);
	assert_int_equal(freed, 3);
	/* who lives goes on */
	assert_int_equal(f->seg.hdr->disk_used, DZ_MIB);
	assert_true(dz_slot_discard(&f->seg, DZ_TIER_DISK, mine, live));
}

/* Every descriptor closed and its number given to a file of the program. */
static void a_file_of_the_program_under_our_number_is_not_touched(void **state)
{
	struct fixture *f = *state;
	char path[] = "./dz-mine-XXXXXX";
	struct stat before, after;
	int fd = mkstemp(path);

	unlink(path);
	assert_int_equal(put(f, 1, 5000), 0);
	assert_int_equal(write(fd, "mine", 4), 4);
	assert_int_equal(fstat(fd, &before), 0);
	for (int i = fd + 1; i < 2000; i++) {
		if (dz_disk_next_fd(f->disk, i) == i)
			assert_int_equal(dup2(fd, i), i);
	}
	assert_true(put(f, 2, 5000) < 0);
	assert_true(get(f, 1, 5000) < 0);
	assert_false(dz_disk_is_on(f->disk));
	assert_int_equal(fstat(fd, &after), 0);
	assert_int_equal(after.st_size, 4);
	/* the other processes' tier is none the worse */
	assert_int_equal(f->seg.hdr->disk_off, 0);
}

/* Without the lock another segment may own the files by now. */
static void without_its_lock_a_process_opens_no_further_file(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(dz_disk_next_fd(f->disk, f->disk->lock_fd), f->disk->lock_fd);
	close(f->disk->lock_fd);
	assert_true(put(f, 1, MIB) < 0);
	assert_false(dz_disk_is_on(f->disk));
	assert_int_equal(f->seg.hdr->disk_off, 0);
}

static void a_read_only_directory_is_no_disk_tier(void **state)
{
	struct fixture *f = *state;
	pid_t pid;
	int status;

	assert_int_equal(put(f, 1, MIB), 0);
	detach(f);
	assert_int_equal(dz_seg_purge(&f->cfg), 0);
	assert_int_equal(chmod(f->dir, 0500), 0);
	assert_int_equal(chmod(f->root, 0755), 0);
	pid = fork();
	if (pid == 0) {
		/* root may write anywhere: leave it behind */
		char shm[] = "/tmp/dz-shm-XXXXXX";

		if (geteuid() == 0 && (chown(f->dir, 65534, 65534) || setegid(65534) ||
				       seteuid(65534) || !mkdtemp(shm)))
			_exit(77);
		if (geteuid() == 65534)
			snprintf(f->cfg.shm_dir, sizeof(f->cfg.shm_dir), "%s", shm);
		if (attach(f) < 0)
			_exit(2);
		_exit(f->disk ? 3 : f->seg.hdr->disk_off != 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(chmod(f->dir, 0700), 0);
	assert_int_equal(attach(f), 0);
	assert_true(status == 0 || status == 77 << 8);
}

static void a_failing_write_switches_the_tier_off_and_leaves_no_block(void **state)
{
	struct fixture *f = *state;
	char cmd[DZ_PATH_MAX + 64];

	assert_int_equal(put(f, 1, MIB), 0);
	/* the journal cannot be appended to */
	snprintf(cmd, sizeof(cmd), "cd %.4000s && rm -f journal.* && mkdir journal.%u", f->dir,
		 f->seg.member);
	assert_int_equal(system(cmd), 0);
	assert_true(put(f, 2, MIB) < 0);
	assert_false(dz_disk_is_on(f->disk));
	assert_int_equal(f->seg.hdr->disk_off, 1);
	assert_int_equal(put(f, 3, MIB), -ENODEV);
	/* off: every slot is a miss */
	assert_int_equal(get(f, 1, MIB), -ENOENT);
	assert_int_equal(f->seg.hdr->disk_used, DZ_MIB);
}

static void a_forked_child_reads_and_writes_under_its_own_number(void **state)
{
	struct fixture *f = *state;
	pid_t pid;
	int status;

	assert_int_equal(put(f, 1, MIB), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (dz_member_adopt(&f->seg, DZ_NONE) < 0)
			_exit(2);
		if (get(f, 1, MIB) != 0 || !block_is(f->buf, 1, MIB))
			_exit(3);
		_exit(put(f, 2, MIB) != 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_block(f, 2, MIB);
	reopen(f);
	assert_block(f, 1, MIB);
	assert_block(f, 2, MIB);
}

/* Old records, ten times what lives: the next write rewrites the journal, and loses nothing. */
static void a_journal_that_has_grown_too_long_is_rewritten(void **state)
{
	struct fixture *f = *state;
	struct dz_jrec old = { .seq = 1, .key_lo = 5, .key_hi = 5, .len = 9, .kind = DZ_KIND_DATA };
	char path[DZ_PATH_MAX + 32];
	struct stat st;
	FILE *file;

	for (uint64_t i = 0; i < 20; i++)
		assert_int_equal(put(f, i, 5000), 0);
	snprintf(path, sizeof(path), "%s/journal.%u", f->dir, f->seg.member);
	file = fopen(path, "a");
	assert_non_null(file);
	dz_jrec_seal(&old);
	for (uint32_t i = 0; i < 5 * MIB / sizeof(old); i++)
		assert_int_equal(fwrite(&old, sizeof(old), 1, file), 1);
	fclose(file);
	assert_int_equal(put(f, 20, 5000), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, 21 * sizeof(old));
	reopen(f);
	for (uint64_t i = 0; i < 21; i++)
		assert_block(f, i, 5000);
}

/* Writers die at any moment; what is found afterwards, and after a reboot, is right. */
static void writers_killed_at_random_leave_no_wrong_byte(void **state)
{
	struct fixture *f = *state;
	uint32_t found = 0;

	for (uint64_t round = 0; round < 20; round++) {
		pid_t pid = fork();

		assert_true(pid >= 0);
		if (pid == 0) {
			if (dz_member_adopt(&f->seg, DZ_NONE) < 0)
				_exit(1);
			for (uint64_t i = round * 100;; i++)
				put(f, i, (uint32_t)(i % 9 * 100000 + 1));
		}
		usleep((useconds_t)(1000 + round * 700));
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		dz_disk_recover(f->disk, DZ_NONE);
		dz_member_sweep(&f->seg, true);
	}
	for (int boots = 0; boots < 2; boots++) {
		for (uint64_t i = 0; i < 2500; i++) {
			uint32_t len = (uint32_t)(i % 9 * 100000 + 1);
			int ret = get(f, i, len);

			assert_true(ret == 0 || ret == -ENOENT);
			assert_true(ret < 0 || block_is(f->buf, i, len));
			found += ret == 0;
		}
		reopen(f);
	}
	assert_true(found > 20);
}

/* A mutated segment: numbers out of every range must not lead out of bounds. */
static void slots_with_wild_numbers_are_misses(void **state)
{
	struct fixture *f = *state;
	uint64_t ctl;
	uint32_t slot;

	assert_int_equal(put(f, 1, MIB), 0);
	slot = dz_index_find(&f->seg, key_of(1), DZ_TIER_DISK, &ctl);
	f->seg.disk_slots[slot].page = 0x7ffffffe;
	assert_int_equal(get(f, 1, MIB), -ENOENT);
	assert_int_equal(dz_disk_barrier(f->disk, slot), -EINVAL);
	f->seg.disk_slots[slot].page = 255;
	assert_int_equal(get(f, 1, MIB), -ENOENT);
	f->seg.disk_slots[slot].len = UINT32_MAX;
	assert_int_equal(dz_disk_verify(f->disk, slot, ctl, f->buf), -EILSEQ);
	assert_int_equal(dz_disk_verify(f->disk, UINT32_MAX, ctl, f->buf), -EILSEQ);
	assert_false(dz_disk_is_unverified(f->disk, UINT32_MAX));
	assert_int_equal(dz_disk_barrier(f->disk, UINT32_MAX), -EINVAL);
}

/* ---- on file systems of its own ---- */

static struct fixture *mounted(void **state, const char *options, uint64_t disk_bytes)
{
	char dir[] = "/tmp/dz-fs-XXXXXX";
	struct fixture *f;

	if (geteuid() != 0 || !mkdtemp(dir))
		return NULL;
	if (mount("none", dir, "tmpfs", 0, options) < 0) {
		rmdir(dir);
		return NULL;
	}
	f = fixture_new(dir, disk_bytes);
	*state = f;
	return f;
}

static int unmounted(void **state)
{
	struct fixture *f = *state;
	char dir[64];

	if (!f)
		return 0;
	snprintf(dir, sizeof(dir), "%.60s", f->cfg.cache_dir);
	fixture_free(f);
	umount2(dir, MNT_DETACH);
	rmdir(dir);
	return 0;
}

static void a_small_file_system_makes_the_tier_smaller(void **state)
{
	struct fixture *f = mounted(state, "size=16m", 64 * DZ_MIB);

	if (!f)
		skip();
	assert_non_null(f->disk);
	assert_in_range(f->seg.n_disk_slabs, 8, 15);
	for (uint64_t i = 0; i < f->seg.n_disk_slabs; i++)
		assert_int_equal(put(f, i, MIB), 0);
	reopen(f);
	for (uint64_t i = 0; i < f->seg.n_disk_slabs; i++)
		assert_block(f, i, MIB);
}

static void a_file_system_without_room_for_a_slab_is_no_tier(void **state)
{
	struct fixture *f = mounted(state, "size=700k", 64 * DZ_MIB);

	if (!f)
		skip();
	assert_null(f->disk);
	assert_int_equal(f->seg.hdr->disk_off, 1);
}

/* A full file system: no room for the journal, though the slabs are allocated. */
static void a_disk_filled_by_others_switches_the_tier_off(void **state)
{
	struct fixture *f = mounted(state, "size=16m", 8 * DZ_MIB);
	char cmd[DZ_PATH_MAX + 64];

	if (!f)
		skip();
	assert_int_equal(put(f, 1, MIB), 0);
	snprintf(cmd, sizeof(cmd), "cat /dev/zero > %.4000s/hog 2>/dev/null; true",
		 f->cfg.cache_dir);
	assert_int_equal(system(cmd), 0);
	for (uint64_t i = 2; i < 200 && dz_disk_is_on(f->disk); i++) {
		int ret = put(f, i, 1);

		assert_true(ret == 0 || ret == -EAGAIN || ret == -ENOSPC);
	}
	assert_false(dz_disk_is_on(f->disk));
	snprintf(cmd, sizeof(cmd), "rm %.4000s/hog", f->cfg.cache_dir);
	assert_int_equal(system(cmd), 0);
	reopen(f);
	assert_block(f, 1, MIB);
}

static void the_default_size_is_a_part_of_what_is_free(void **state)
{
	struct fixture *f = *state;
	struct dz_config cfg = f->cfg;
	struct statfs fs;
	uint64_t quarter, first;

	assert_int_equal(statfs(".", &fs), 0);
	quarter = (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize / 4;
	strcat(cfg.cache_dir, "/not/there/yet");
	cfg.disk_bytes = 0;
	first = dz_disk_budget(&cfg);
	assert_in_range(first, quarter / 2, quarter * 2);
	cfg.disk_bytes = 5 * DZ_MIB;
	assert_int_equal(dz_disk_budget(&cfg), 5 * DZ_MIB);
	cfg.disk_bytes = DZ_SIZE_NONE;
	assert_int_equal(dz_disk_budget(&cfg), 0);
}

#define ON_DISK(t)  cmocka_unit_test_setup_teardown(t, set_up, tear_down)
#define ON_TMPFS(t) cmocka_unit_test_teardown(t, unmounted)

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_DISK(a_written_block_is_read_back),
		ON_DISK(an_inner_range_is_read_with_its_skip),
		ON_DISK(a_second_write_of_a_block_is_refused),
		ON_DISK(blocks_survive_a_reboot),
		ON_DISK(a_replayed_block_is_unverified_until_its_first_use),
		ON_DISK(a_flipped_bit_is_a_miss_after_a_reboot),
		ON_DISK(overwritten_places_are_never_wrong),
		ON_DISK(the_newest_tenant_of_a_place_wins_at_replay),
		ON_DISK(a_read_of_an_evicted_place_is_stale),
		ON_DISK(a_read_by_a_descriptor_that_has_moved_is_stale),
		ON_DISK(another_size_keeps_what_still_fits),
		ON_DISK(slab_files_are_allocated_at_creation),
		ON_DISK(two_living_segments_never_share_the_files),
		ON_DISK(a_segment_that_comes_back_to_the_files_believes_their_journals_alone),
		ON_DISK(a_second_process_joins_and_sees_the_blocks),
		ON_DISK(another_directory_under_the_same_segment_is_refused),
		ON_DISK(a_member_killed_while_writing_loses_its_slot_after_a_barrier),
		ON_DISK(only_the_dead_lose_their_slots),
		ON_DISK(what_was_left_in_quarantine_is_freed),
		ON_DISK(what_is_in_quarantine_is_freed_part_by_part),
		ON_DISK(a_file_of_the_program_under_our_number_is_not_touched),
		ON_DISK(without_its_lock_a_process_opens_no_further_file),
		ON_DISK(a_read_only_directory_is_no_disk_tier),
		ON_DISK(a_failing_write_switches_the_tier_off_and_leaves_no_block),
		ON_DISK(a_forked_child_reads_and_writes_under_its_own_number),
		ON_DISK(a_journal_that_has_grown_too_long_is_rewritten),
		ON_DISK(writers_killed_at_random_leave_no_wrong_byte),
		ON_DISK(slots_with_wild_numbers_are_misses),
		ON_DISK(the_default_size_is_a_part_of_what_is_free),
		ON_TMPFS(a_small_file_system_makes_the_tier_smaller),
		ON_TMPFS(a_file_system_without_room_for_a_slab_is_no_tier),
		ON_TMPFS(a_disk_filled_by_others_switches_the_tier_off),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
