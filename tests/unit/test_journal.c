/* SPDX-License-Identifier: MIT */
/* The journals: order, damage, compaction, size. */
#include "tests/unit/disk_fixture.h"

#include <dirent.h>

#define MIB ((uint32_t)DZ_MIB)

/* ---- the journal alone, in a directory ---- */

static int set_up_dir(void **state)
{
	char name[] = "./dz-journal-XXXXXX";

	*state = mkdtemp(name) ? strdup(name) : NULL;
	return *state ? 0 : -1;
}

static int tear_down_dir(void **state)
{
	char cmd[128];

	snprintf(cmd, sizeof(cmd), "rm -rf %.100s", (char *)*state);
	free(*state);
	return system(cmd);
}

static int64_t append(const char *dir, uint32_t member, uint64_t seq, uint32_t page)
{
	struct dz_jrec rec = { .seq = seq, .key_lo = seq, .key_hi = 9, .page = page, .len = 1 };

	dz_jrec_seal(&rec);
	return dz_journal_append(dir, member, &rec, 1);
}

struct seen {
	uint64_t seq[64];
	uint32_t n;
	uint64_t unwanted; /* seq below this */
};

static bool see(void *ctx, const struct dz_jrec *rec)
{
	struct seen *s = ctx;

	if (s->n < 64)
		s->seq[s->n] = rec->seq;
	s->n++;
	return rec->seq >= s->unwanted;
}

static uint64_t bytes_in(const char *dir, uint32_t *n_files)
{
	DIR *d = opendir(dir);
	uint64_t sum = 0;
	struct dirent *e;

	*n_files = 0;
	while ((e = readdir(d))) {
		struct stat st;

		if (fstatat(dirfd(d), e->d_name, &st, 0) == 0 && S_ISREG(st.st_mode)) {
			sum += (uint64_t)st.st_size;
			++*n_files;
		}
	}
	closedir(d);
	return sum;
}

static void an_empty_directory_replays_nothing(void **state)
{
	struct seen s = { 0 };
	uint64_t last = 1;

	assert_int_equal(dz_journal_replay(*state, see, NULL, &s, &last), 0);
	assert_int_equal(s.n, 0);
	assert_int_equal(last, 0);
	assert_int_equal(dz_journal_replay("./not-there", see, NULL, &s, &last), -ENOENT);
}

static void records_of_all_members_come_newest_first(void **state)
{
	static const uint64_t order[] = { 5, 70000, 3, 1, 9, 256, 65536, 2, 7, 4 };
	struct seen s = { 0 };
	uint64_t last;

	for (uint32_t i = 0; i < 10; i++)
		assert_int_equal(append(*state, i % 3, order[i], i), 64 * (i / 3));
	assert_int_equal(dz_journal_replay(*state, see, NULL, &s, &last), 0);
	assert_int_equal(s.n, 10);
	assert_int_equal(last, 70000);
	for (uint32_t i = 1; i < 10; i++)
		assert_true(s.seq[i - 1] > s.seq[i]);
}

static void replay_leaves_one_file_with_what_was_wanted(void **state)
{
	struct seen s = { .unwanted = 6 };
	uint32_t n_files;
	uint64_t last;

	for (uint64_t i = 1; i <= 10; i++)
		append(*state, (uint32_t)i, i, 0);
	assert_int_equal(dz_journal_replay(*state, see, NULL, &s, &last), 0);
	assert_int_equal(bytes_in(*state, &n_files), 5 * 64);
	assert_int_equal(n_files, 1);
	s = (struct seen){ 0 };
	assert_int_equal(dz_journal_replay(*state, see, NULL, &s, &last), 0);
	assert_int_equal(s.n, 5);
	assert_int_equal(s.seq[0], 10);
	assert_int_equal(s.seq[4], 6);
}

static void a_torn_record_is_ignored_and_the_next_append_is_whole(void **state)
{
	char path[256];
	struct seen s = { 0 };
	uint64_t last;
	int fd;

	append(*state, 0, 1, 0);
	append(*state, 0, 2, 0);
	snprintf(path, sizeof(path), "%s/journal.0", (char *)*state);
	assert_int_equal(truncate(path, 100), 0);
	append(*state, 0, 3, 0);
	fd = open(path, O_WRONLY | O_APPEND);
	assert_int_equal(write(fd, "torn", 4), 4);
	close(fd);
	assert_int_equal(dz_journal_replay(*state, see, NULL, &s, &last), 0);
	assert_int_equal(s.n, 2);
	assert_int_equal(s.seq[0], 3);
	assert_int_equal(s.seq[1], 1);
}

static void every_flipped_bit_of_a_record_is_noticed(void **state)
{
	struct dz_jrec rec = { .seq = 1, .key_lo = 1, .key_hi = 2, .page = 3, .len = 4 };

	(void)state;
	dz_jrec_seal(&rec);
	assert_true(dz_jrec_is_valid(&rec));
	for (uint32_t bit = 0; bit < sizeof(rec) * 8; bit++) {
		uint8_t *byte = (uint8_t *)&rec + bit / 8;

		*byte ^= (uint8_t)(1u << bit % 8);
		assert_false(dz_jrec_is_valid(&rec));
		*byte ^= (uint8_t)(1u << bit % 8);
	}
	rec.seq = UINT64_MAX; /* would stop the counter for ever */
	dz_jrec_seal(&rec);
	assert_false(dz_jrec_is_valid(&rec));
}

static void compaction_keeps_what_is_wanted_and_what_comes_meanwhile(void **state)
{
	struct seen s = { .unwanted = 901 };
	uint32_t n_files;
	uint64_t last;

	for (uint64_t i = 1; i <= 1000; i++)
		append(*state, 4, i, 0);
	assert_int_equal(dz_journal_compact(*state, 4, 77, see, &s), 0);
	assert_int_equal(s.n, 1000);
	assert_int_equal(append(*state, 4, 1001, 0), 100 * 64);
	assert_int_equal(bytes_in(*state, &n_files), 101 * 64);
	assert_int_equal(n_files, 1);
	s = (struct seen){ 0 };
	assert_int_equal(dz_journal_replay(*state, see, NULL, &s, &last), 0);
	assert_int_equal(s.n, 101);
}

static void many_writers_of_one_journal_never_mix_records(void **state)
{
	struct seen s = { 0 };
	uint64_t last;

	for (uint32_t k = 0; k < 4; k++) {
		if (fork() == 0) {
			for (uint64_t i = 0; i < 500; i++) {
				if (append(*state, 1, 1 + k * 1000 + i, 0) < 0)
					_exit(1);
			}
			_exit(0);
		}
	}
	for (uint32_t k = 0; k < 4; k++) {
		int status;

		assert_true(wait(&status) > 0);
		assert_int_equal(status, 0);
	}
	assert_int_equal(dz_journal_replay(*state, see, NULL, &s, &last), 0);
	assert_int_equal(s.n, 2000);
}

/* Links, FIFOs and directories of the right name are not followed, waited for or read. */
static void what_is_no_file_is_passed_over(void **state)
{
	struct seen s = { 0 };
	char path[256];
	uint64_t last;

	append(*state, 0, 1, 0);
	snprintf(path, sizeof(path), "%s/journal.link", (char *)*state);
	assert_int_equal(symlink("/dev/zero", path), 0);
	snprintf(path, sizeof(path), "%s/journal.fifo", (char *)*state);
	assert_int_equal(mkfifo(path, 0600), 0);
	snprintf(path, sizeof(path), "%s/journal.dir", (char *)*state);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(dz_journal_replay(*state, see, NULL, &s, &last), 0);
	assert_int_equal(s.n, 1);
}

/* ---- with a segment and slab files behind it ---- */

static int set_up(void **state)
{
	struct fixture *f = fixture_new(NULL, 64 * DZ_MIB);

	*state = f;
	return f && f->disk ? 0 : -1;
}

static int tear_down(void **state)
{
	fixture_free(*state);
	return 0;
}

#define N_BLOCKS 40
static uint32_t len_of(uint64_t n)
{
	return n % 4 == 0 ? MIB : (uint32_t)(n * 3001 + 1);
}

static void fill(struct fixture *f)
{
	for (uint64_t i = 0; i < N_BLOCKS; i++)
		assert_int_equal(put(f, i, len_of(i)), 0);
}

/* Detached: the one journal file of this fixture, whole. */
static size_t load_journal(struct fixture *f, uint8_t *buf, size_t size)
{
	char path[DZ_PATH_MAX + 32];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "%s/journal.base", f->dir);
	fd = open(path, O_RDONLY);
	assert_true(fd >= 0);
	n = read(fd, buf, size);
	close(fd);
	assert_true(n > 0);
	return (size_t)n;
}

static void store_journal(struct fixture *f, const uint8_t *buf, size_t size)
{
	char path[DZ_PATH_MAX + 32];
	int fd;

	snprintf(path, sizeof(path), "%s/journal.base", f->dir);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_int_equal(write(fd, buf, size), size);
	close(fd);
}

/* xorshift: the same mutations at each run. */
static uint64_t next(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

static void mutate(uint8_t *buf, size_t *size, uint64_t *x, bool may_seal)
{
	uint32_t n = 1 + (uint32_t)(next(x) % 8);

	for (uint32_t i = 0; i < n; i++) {
		size_t at = next(x) % *size;
		struct dz_jrec *rec = (void *)(buf + at / 64 * 64);

		switch (next(x) % 5) {
		case 0:
			buf[at] ^= (uint8_t)(1u << next(x) % 8);
			break;
		case 1:
			buf[at] = (uint8_t)next(x);
			break;
		case 2:
			*size = at > 64 ? at : *size;
			break;
		case 3:
			memmove(buf + at / 64 * 64, buf + next(x) % (*size / 64) * 64, 64);
			break;
		default:
			/* a valid sum over a lie: page, length, kind */
			if (may_seal && at / 64 * 64 + 64 <= *size) {
				(&rec->page)[next(x) % 2] = (uint32_t)next(x) >> next(x) % 32;
				rec->kind = (uint32_t)next(x) % 6;
				dz_jrec_seal(rec);
			}
		}
	}
}

/* A damaged journal: some blocks are gone, none is wrong, nothing crashes. */
static void random_damage_never_crashes_nor_gives_wrong_bytes(void **state)
{
	struct fixture *f = *state;
	static _Alignas(64) uint8_t clean[64 * 1024], bad[64 * 1024];
	uint64_t x = 88172645463325252ull;
	uint32_t found = 0, rounds = 60;
	size_t size;

	fill(f);
	reopen(f);
	size = load_journal(f, clean, sizeof(clean));
	assert_int_equal(size, N_BLOCKS * 64);
	for (uint32_t round = 0; round < rounds; round++) {
		size_t bad_size = size;

		memcpy(bad, clean, size);
		mutate(bad, &bad_size, &x, round % 2);
		detach(f);
		assert_int_equal(dz_seg_purge(&f->cfg), 0);
		store_journal(f, bad, bad_size);
		assert_int_equal(attach(f), 0);
		assert_non_null(f->disk);
		for (uint64_t i = 0; i < N_BLOCKS; i++) {
			int ret = get(f, i, len_of(i));

			assert_true(ret == 0 || ret == -ENOENT);
			assert_true(ret < 0 || block_is(f->buf, i, len_of(i)));
			found += ret == 0;
		}
	}
	/* most records of most rounds are not hit */
	assert_true(found > rounds * N_BLOCKS / 4);
}

static void a_journal_without_its_slab_files_gives_no_block(void **state)
{
	struct fixture *f = *state;
	char cmd[DZ_PATH_MAX + 32];

	fill(f);
	detach(f);
	assert_int_equal(dz_seg_purge(&f->cfg), 0);
	snprintf(cmd, sizeof(cmd), "rm %.4000s/slab.*", f->dir);
	assert_int_equal(system(cmd), 0);
	assert_int_equal(attach(f), 0);
	assert_non_null(f->disk);
	assert_int_equal(f->seg.hdr->disk_used, 0);
	for (uint64_t i = 0; i < N_BLOCKS; i++)
		assert_int_equal(get(f, i, len_of(i)), -ENOENT);
}

static void new_records_win_over_all_that_were_replayed(void **state)
{
	struct fixture *f = *state;
	uint64_t seq;

	fill(f);
	seq = f->seg.hdr->journal_seq;
	assert_int_equal(seq, N_BLOCKS);
	reopen(f);
	assert_int_equal(f->seg.hdr->journal_seq, seq);
	assert_int_equal(put(f, 1000, 5), 0);
	assert_int_equal(f->seg.hdr->journal_seq, seq + 1);
}

/* One million blocks of one page: well below a second. */
static void a_million_records_are_replayed(void **state)
{
	const uint32_t n = 1u << 20;
	struct dz_jrec *recs = calloc(n, sizeof(*recs));
	uint64_t begin_ns, last;
	struct seen s = { 0 };
	char path[256];
	FILE *file;

	assert_non_null(recs);
	for (uint32_t i = 0; i < n; i++) {
		recs[i] = (struct dz_jrec){ .seq = (i * 7919ull) % n + 1, .key_lo = i, .len = 1 };
		dz_jrec_seal(&recs[i]);
	}
	snprintf(path, sizeof(path), "%s/journal.3", (char *)*state);
	file = fopen(path, "w");
	assert_int_equal(fwrite(recs, sizeof(*recs), n, file), n);
	fclose(file);
	free(recs);
	begin_ns = dz_now_ns();
	assert_int_equal(dz_journal_replay(*state, see, NULL, &s, &last), 0);
	assert_int_equal(s.n, n);
	assert_int_equal(s.seq[0], n);
	print_message("# %u records in %u ms\n", n, (uint32_t)((dz_now_ns() - begin_ns) / 1000000));
}

#define ALONE(t)  cmocka_unit_test_setup_teardown(t, set_up_dir, tear_down_dir)
#define BEHIND(t) cmocka_unit_test_setup_teardown(t, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		ALONE(an_empty_directory_replays_nothing),
		ALONE(records_of_all_members_come_newest_first),
		ALONE(replay_leaves_one_file_with_what_was_wanted),
		ALONE(a_torn_record_is_ignored_and_the_next_append_is_whole),
		ALONE(every_flipped_bit_of_a_record_is_noticed),
		ALONE(compaction_keeps_what_is_wanted_and_what_comes_meanwhile),
		ALONE(many_writers_of_one_journal_never_mix_records),
		ALONE(what_is_no_file_is_passed_over),
		ALONE(a_million_records_are_replayed),
		BEHIND(random_damage_never_crashes_nor_gives_wrong_bytes),
		BEHIND(a_journal_without_its_slab_files_gives_no_block),
		BEHIND(new_records_win_over_all_that_were_replayed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
