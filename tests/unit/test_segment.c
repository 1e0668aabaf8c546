/* SPDX-License-Identifier: MIT */
/* The segment: made once, joined by all, and never believed when it is damaged. */
#include "tests/unit/seg_fixture.h"

#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>

static int set_up(void **state)
{
	*state = seg_fixture_dirs();
	return *state ? 0 : -1;
}

static int open_seg(struct seg_fixture *f, struct dz_seg *seg)
{
	return dz_seg_open(seg, &f->cfg, &f->log);
}

static void the_first_creates_and_the_second_attaches(void **state)
{
	struct seg_fixture *f = *state;
	struct dz_seg a, b;

	assert_int_equal(open_seg(f, &a), 0);
	assert_true(a.is_new);
	assert_int_equal(open_seg(f, &b), 0);
	assert_false(b.is_new);
	assert_int_equal(a.hdr->id, b.hdr->id);
	a.dram[12345] = 77;
	assert_int_equal(b.dram[12345], 77);
	dz_seg_close(&b);
	dz_seg_close(&a);
}

static void meta_and_data_stay_within_the_size_that_was_asked_for(void **state)
{
	struct seg_fixture *f = *state;
	struct dz_seg a;

	assert_int_equal(open_seg(f, &a), 0);
	assert_true(a.meta_bytes + a.dram_bytes <= f->cfg.dram_bytes);
	assert_true(a.n_dram_slabs >= 8);
	dz_seg_close(&a);
}

static void every_page_is_allocated_at_creation(void **state)
{
	struct seg_fixture *f = *state;
	char path[DZ_PATH_MAX];
	struct dz_seg a;
	struct stat st;

	assert_int_equal(open_seg(f, &a), 0);
	assert_int_equal(stat(seg_path(f, "dram", path), &st), 0);
	assert_true((uint64_t)st.st_blocks * 512 >= a.dram_bytes);
	assert_int_equal(stat(seg_path(f, "meta", path), &st), 0);
	assert_true((uint64_t)st.st_blocks * 512 >= a.meta_bytes);
	dz_seg_close(&a);
}

static void nobody_else_may_look_into_it(void **state)
{
	struct seg_fixture *f = *state;
	char path[DZ_PATH_MAX];
	struct dz_seg a;
	struct stat st;

	assert_int_equal(open_seg(f, &a), 0);
	assert_int_equal(stat(a.dir, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	assert_int_equal(stat(seg_path(f, "meta", path), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(stat(seg_path(f, "dram", path), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	dz_seg_close(&a);
}

static void a_directory_that_others_may_enter_is_refused(void **state)
{
	struct seg_fixture *f = *state;
	struct dz_seg a;

	assert_int_equal(open_seg(f, &a), 0);
	assert_int_equal(chmod(a.dir, 0755), 0);
	dz_seg_close(&a);
	/* the cache directory is private: the segment goes there */
	assert_int_equal(open_seg(f, &a), 0);
	assert_non_null(strstr(a.dir, "/cache/"));
	dz_seg_close(&a);
}

static void descriptors_are_high_and_close_on_exec(void **state)
{
	struct seg_fixture *f = *state;
	struct dz_seg a;

	assert_int_equal(open_seg(f, &a), 0);
	const int fds[] = { a.dir_fd, a.lock_fd, a.dram_fd };

	for (size_t i = 0; i < DZ_ARRAY_LEN(fds); i++) {
		assert_true(fds[i] >= 20);
		assert_int_equal(fcntl(fds[i], F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	}
	dz_seg_close(&a);
}

/* Writes at an offset of a file of the closed segment. */
static void poke(struct seg_fixture *f, const char *name, size_t off, const void *data, size_t n)
{
	char path[DZ_PATH_MAX];
	int fd = open(seg_path(f, name, path), O_RDWR);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, data, n, (off_t)off), n);
	close(fd);
}

static void make_and_leave(struct seg_fixture *f)
{
	struct dz_seg a;

	assert_int_equal(open_seg(f, &a), 0);
	dz_seg_close(&a);
}

static void expect_refusal(struct seg_fixture *f)
{
	struct dz_seg a;

	assert_int_equal(open_seg(f, &a), -EPROTO);
	assert_null(a.hdr);
	assert_int_equal(a.dir_fd, -1);
}

static void a_foreign_magic_is_refused(void **state)
{
	uint64_t magic = 1;

	make_and_leave(*state);
	poke(*state, "meta", 0, &magic, sizeof(magic));
	expect_refusal(*state);
}

static void another_major_version_is_refused(void **state)
{
	uint32_t major = DZ_LAYOUT_MAJOR + 1;

	make_and_leave(*state);
	poke(*state, "meta", offsetof(struct dz_seg_header, major), &major, sizeof(major));
	expect_refusal(*state);
}

static void another_build_s_layout_is_refused(void **state)
{
	uint64_t hash = 0x1234;

	make_and_leave(*state);
	poke(*state, "meta", offsetof(struct dz_seg_header, abi_hash), &hash, sizeof(hash));
	expect_refusal(*state);
}

/* Any one bit of what says where things lie: refused, or a spare one that changes nothing. */
static void a_flipped_bit_in_sizes_or_offsets_leads_nobody_astray(void **state)
{
	struct seg_fixture *f = *state;
	struct dz_seg_header h;
	char path[DZ_PATH_MAX];
	int fd;

	make_and_leave(f);
	fd = open(seg_path(f, "meta", path), O_RDONLY);
	assert_int_equal(pread(fd, &h, sizeof(h), 0), sizeof(h));
	close(fd);
	for (size_t bit = offsetof(struct dz_seg_header, meta_bytes) * 8;
	     bit < offsetof(struct dz_seg_header, tick) * 8; bit++) {
		uint8_t was = ((uint8_t *)&h)[bit / 8], is = (uint8_t)(was ^ 1u << bit % 8);
		struct dz_seg a;
		int ret;

		poke(f, "meta", bit / 8, &is, 1);
		ret = open_seg(f, &a);
		poke(f, "meta", bit / 8, &was, 1);
		if (ret == 0) {
			assert_int_equal(a.meta_bytes, h.meta_bytes);
			assert_int_equal(a.dram_bytes, h.dram_bytes);
			assert_int_equal((uint8_t *)a.files - (uint8_t *)a.hdr, h.off_files);
			assert_int_equal((uint8_t *)a.window - (uint8_t *)a.hdr, h.off_window);
			dz_seg_close(&a);
		} else {
			assert_int_equal(ret, -EPROTO);
		}
	}
}

static void a_file_of_the_wrong_size_is_refused(void **state)
{
	struct seg_fixture *f = *state;
	char path[DZ_PATH_MAX];
	struct stat st;

	make_and_leave(f);
	assert_int_equal(stat(seg_path(f, "meta", path), &st), 0);
	assert_int_equal(truncate(path, st.st_size - 4096), 0);
	expect_refusal(f);
	assert_int_equal(truncate(path, st.st_size), 0);
	make_and_leave(f);
	assert_int_equal(stat(seg_path(f, "dram", path), &st), 0);
	assert_int_equal(truncate(path, st.st_size - 4096), 0);
	expect_refusal(f);
	assert_int_equal(truncate(seg_path(f, "meta", path), 100), 0);
	expect_refusal(f);
}

static void the_segment_of_another_boot_is_replaced(void **state)
{
	struct seg_fixture *f = *state;
	uint8_t boot[16] = "another boot";
	struct dz_seg a, b;

	assert_int_equal(open_seg(f, &a), 0);
	memset(a.dram, 1, 4096);
	poke(f, "meta", offsetof(struct dz_seg_header, boot_id), boot, sizeof(boot));
	assert_int_equal(open_seg(f, &b), 0);
	assert_true(b.is_new);
	assert_int_not_equal(a.hdr->id, b.hdr->id);
	assert_int_equal(b.dram[0], 0);
	dz_seg_close(&b);
	dz_seg_close(&a);
}

static void what_a_killed_creator_left_is_overwritten(void **state)
{
	struct seg_fixture *f = *state;
	char path[DZ_PATH_MAX];
	struct dz_seg a;
	int fd;

	make_and_leave(f);
	unlink(seg_path(f, "meta", path));
	fd = open(seg_path(f, "meta.new", path), O_CREAT | O_WRONLY, 0600);
	assert_int_equal(write(fd, "half", 4), 4);
	close(fd);
	assert_int_equal(open_seg(f, &a), 0);
	assert_true(a.is_new);
	dz_seg_close(&a);
}

static void after_a_purge_a_new_one_is_made(void **state)
{
	struct seg_fixture *f = *state;
	struct dz_seg a, b;

	assert_int_equal(open_seg(f, &a), 0);
	assert_int_equal(dz_seg_purge(&f->cfg), 0);
	/* whoever had it goes on with it */
	a.dram[0] = 1;
	assert_int_equal(open_seg(f, &b), 0);
	assert_true(b.is_new);
	assert_int_not_equal(a.hdr->id, b.hdr->id);
	dz_seg_close(&a);
	dz_seg_close(&b);
}

static void a_purge_leaves_no_markers(void **state)
{
	struct seg_fixture *f = *state;
	char path[DZ_PATH_MAX];

	make_and_leave(f);
	assert_int_equal(mkdir(seg_path(f, "files.1", path), 0700), 0);
	assert_int_equal(mknod(seg_path(f, "files.1/7", path), S_IFSOCK | 0600, 0), 0);
	assert_int_equal(dz_seg_purge(&f->cfg), 0);
	assert_int_equal(access(seg_path(f, "files.1", path), F_OK), -1);
	assert_int_equal(access(seg_path(f, "members", path), F_OK), 0);
}

/* The old index over the new data would be wrong bytes. */
static void old_tables_never_meet_new_data(void **state)
{
	struct seg_fixture *f = *state;
	char meta[DZ_PATH_MAX], aside[DZ_PATH_MAX];
	struct dz_seg a;

	make_and_leave(f);
	/* `dram` is replaced between an attacher's opening of one and of the other */
	assert_int_equal(rename(seg_path(f, "dram", meta), seg_path(f, "aside", aside)), 0);
	unlink(seg_path(f, "meta", meta));
	make_and_leave(f);
	assert_int_equal(rename(aside, seg_path(f, "dram", meta)), 0);
	assert_int_equal(open_seg(f, &a), -EPROTO);
}

static int attach_and_report(const char *root)
{
	struct seg_fixture f = { 0 };
	uint64_t answer[2];
	char path[DZ_PATH_MAX];
	int fd;

	snprintf(f.root, sizeof(f.root), "%s", root);
	snprintf(f.cfg.shm_dir, sizeof(f.cfg.shm_dir), "%.4000s/shm", root);
	snprintf(f.cfg.cache_dir, sizeof(f.cfg.cache_dir), "%.4000s/cache", root);
	f.cfg.dram_bytes = SEG_TEST_DRAM;
	f.cfg.disk_bytes = DZ_SIZE_NONE;
	f.log = (struct dz_log){ .level = DZ_LOG_WARN, .path = "/dev/null", .who = "test" };
	if (dz_seg_open(&f.seg, &f.cfg, &f.log) < 0)
		return 1;
	answer[0] = f.seg.hdr->id;
	answer[1] = f.seg.is_new;
	snprintf(path, sizeof(path), "%.4000s/answers", root);
	fd = open(path, O_WRONLY | O_APPEND | O_CREAT, 0600);
	return write(fd, answer, sizeof(answer)) == (ssize_t)sizeof(answer) ? 0 : 2;
}

static void sixteen_that_come_at_once_make_one_segment(void **state)
{
	enum { N = 16 };
	struct seg_fixture *f = *state;
	uint64_t answer[N][2], made = 0;
	char path[DZ_PATH_MAX];
	pid_t pid[N];
	int fd, gate[2];

	assert_int_equal(pipe(gate), 0);
	for (int i = 0; i < N; i++) {
		pid[i] = fork();
		if (pid[i] == 0) {
			char c;

			close(gate[1]);
			if (read(gate[0], &c, 1) != 0)
				_exit(3);
			_exit(attach_and_report(f->root));
		}
	}
	close(gate[0]);
	close(gate[1]);
	for (int i = 0; i < N; i++)
		assert_int_equal(seg_reap(pid[i]), 0);
	snprintf(path, sizeof(path), "%.4000s/answers", f->root);
	fd = open(path, O_RDONLY);
	assert_int_equal(read(fd, answer, sizeof(answer)), sizeof(answer));
	close(fd);
	for (int i = 0; i < N; i++) {
		assert_int_equal(answer[i][0], answer[0][0]);
		made += answer[i][1];
	}
	assert_int_equal(made, 1);
}

/* A container's /dev/shm: fallocate beyond the limit fails as in a full tmpfs. */
static void where_shm_has_no_room_the_cache_directory_takes_it(void **state)
{
	struct seg_fixture *f = *state;
	struct dz_seg a;
	struct stat st;
	char text[512] = "";
	int fd;

	assert_int_equal(mkdir(f->cfg.shm_dir, 0700), 0);
	if (mount("tmpfs", f->cfg.shm_dir, "tmpfs", 0, "size=4m") < 0)
		skip(); /* no right to mount here */
	int ret = open_seg(f, &a);

	umount2(f->cfg.shm_dir, MNT_DETACH);
	assert_int_equal(ret, 0);
	assert_non_null(strstr(a.dir, "/cache/"));
	assert_int_equal(stat(f->cfg.log_path, &st), 0);
	fd = open(f->cfg.log_path, O_RDONLY);
	assert_true(read(fd, text, sizeof(text) - 1) > 0);
	close(fd);
	assert_non_null(strstr(text, "DELTAZERO_SHM_DIR"));
	dz_seg_close(&a);
}

static void a_small_shm_makes_a_small_segment(void **state)
{
	struct seg_fixture *f = *state;
	struct dz_seg a;

	assert_int_equal(mkdir(f->cfg.shm_dir, 0700), 0);
	if (mount("tmpfs", f->cfg.shm_dir, "tmpfs", 0, "size=64m") < 0)
		skip(); /* no right to mount here */
	f->cfg.dram_bytes = DZ_GIB;
	int ret = open_seg(f, &a);

	umount2(f->cfg.shm_dir, MNT_DETACH);
	assert_int_equal(ret, 0);
	assert_non_null(strstr(a.dir, "/shm/"));
	assert_true(a.meta_bytes + a.dram_bytes <= 64 * DZ_MIB);
	assert_true(a.dram_bytes >= 24 * DZ_MIB);
	dz_seg_close(&a);
}

static void without_any_room_there_is_a_private_one(void **state)
{
	struct seg_fixture *f = *state;
	struct dz_seg a;

	assert_int_equal(dz_seg_open_private(&a, &f->log, 64 * DZ_MIB), 0);
	assert_true(a.is_private);
	assert_true(a.n_dram_slabs > 16);
	assert_int_equal(dz_member_join(&a), 0);
	a.dram[a.dram_bytes - 1] = 1;
	dz_member_leave(&a);
	dz_seg_close(&a);
}

static void nothing_is_left_open_after_a_refusal(void **state)
{
	struct seg_fixture *f = *state;
	uint64_t magic = 1;
	int before, after;

	make_and_leave(f);
	poke(f, "meta", 0, &magic, sizeof(magic));
	before = dup(0);
	close(before);
	expect_refusal(f);
	after = dup(0);
	close(after);
	assert_int_equal(before, after);
	for (int fd = 900; fd < 910; fd++)
		assert_int_equal(fcntl(fd, F_GETFD), -1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, seg_fixture_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(the_first_creates_and_the_second_attaches),
		TEST(meta_and_data_stay_within_the_size_that_was_asked_for),
		TEST(every_page_is_allocated_at_creation),
		TEST(nobody_else_may_look_into_it),
		TEST(a_directory_that_others_may_enter_is_refused),
		TEST(descriptors_are_high_and_close_on_exec),
		TEST(a_foreign_magic_is_refused),
		TEST(another_major_version_is_refused),
		TEST(another_build_s_layout_is_refused),
		TEST(a_flipped_bit_in_sizes_or_offsets_leads_nobody_astray),
		TEST(a_file_of_the_wrong_size_is_refused),
		TEST(the_segment_of_another_boot_is_replaced),
		TEST(what_a_killed_creator_left_is_overwritten),
		TEST(after_a_purge_a_new_one_is_made),
		TEST(a_purge_leaves_no_markers),
		TEST(old_tables_never_meet_new_data),
		TEST(sixteen_that_come_at_once_make_one_segment),
		TEST(where_shm_has_no_room_the_cache_directory_takes_it),
		TEST(a_small_shm_makes_a_small_segment),
		TEST(without_any_room_there_is_a_private_one),
		TEST(nothing_is_left_open_after_a_refusal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
