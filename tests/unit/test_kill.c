/* SPDX-License-Identifier: MIT */
// timeout: 200
/*
 * SIGKILL at every point of each operation on a real segment with a disk tier: before
 * each of its stores to shared memory, which is every state that it passes through.
 * KILL_STRIDE=N kills after each N-th instruction instead; KILL_OPERATION=NAME does one.  After
 * each kill a survivor does what agents do; everything must be as if the dead had never been, or
 * had come to its end, and each byte that can be read must be right.
 */
#include "cache/engine_priv.h"
#include "cache/evict.h"
#include "cache/files.h"
#include "cache/names.h"
#include "tests/kill/invariants.h"
#include "tests/unit/disk_fixture.h"

#include <limits.h>
#include <ucontext.h>

#define SMALL 1500u /* bytes of a block: more would be copied in more steps */
#define NAMES 12

/* A child's work. */
struct operation {
	const char *name;
	long coarse; /* of strides of instructions: they mostly copy, or look at long tables */
	long sparse; /* of strides of stores: the same */
	int (*run)(struct fixture *f, uint64_t n);
	/* What the survivor prepares. */
	void (*prepare)(struct fixture *f, uint64_t n);
};

static void content(uint8_t *to, uint64_t n)
{
	for (uint32_t i = 0; i < SMALL; i++)
		to[i] = (uint8_t)(n * 31 + i * 7 + (i >> 8));
}

static bool content_is(const uint8_t *p, uint64_t n)
{
	uint8_t want[SMALL];

	content(want, n);
	return memcmp(p, want, SMALL) == 0;
}

/* ---- what is done until the kill ---- */

static uint32_t take_slot(struct dz_seg *seg, uint64_t n, uint64_t *ctl)
{
	uint32_t slot = dz_slot_alloc(seg, DZ_TIER_DRAM, SMALL, seg->member, ctl);
	struct dz_slot *s;

	if (slot == DZ_NONE)
		return slot;
	s = dz_slot_of(seg, DZ_TIER_DRAM, slot);
	atomic_store_explicit(&s->key_lo, key_of(n).lo, memory_order_relaxed);
	atomic_store_explicit(&s->key_hi, key_of(n).hi, memory_order_relaxed);
	atomic_store_explicit(&s->len, SMALL, memory_order_relaxed);
	atomic_store_explicit(&s->kind, DZ_KIND_DATA, memory_order_relaxed);
	atomic_store_explicit(&s->valid, 0, memory_order_relaxed);
	if (dz_index_insert(seg, key_of(n), DZ_TIER_DRAM, slot, DZ_NONE) < 0) {
		dz_slot_discard(seg, DZ_TIER_DRAM, slot, *ctl);
		return DZ_NONE;
	}
	return slot;
}

/* The bytes lie ready in f->buf. */
static void end_slot(struct fixture *f, uint32_t slot, uint64_t ctl)
{
	struct dz_seg *seg = &f->seg;
	uint64_t ready;

	memcpy(dz_seg_page(seg, slot), f->buf, SMALL);
	atomic_store_explicit(&dz_slot_of(seg, DZ_TIER_DRAM, slot)->valid, 1, memory_order_release);
	if (dz_slot_publish(seg, DZ_TIER_DRAM, slot, ctl, &ready))
		dz_evict_filled(seg, DZ_TIER_DRAM, slot);
}

/* As fetch_data.c does it, without the network. */
static int fetch(struct fixture *f, uint64_t n)
{
	struct dz_request req = { .kind = DZ_KIND_DATA, .blk = n };
	struct dz_seg *seg = &f->seg;
	_Atomic uint32_t *filling = &seg->members[seg->member].filling;
	struct dz_lease_ref ref;
	uint64_t word, ctl;
	uint32_t slot, mine;

	if (dz_lease_ask(seg, key_of(n), &req, 0, 1, &ref) < 0 ||
	    !dz_lease_claim(seg, ref.idx, &word))
		return 1;
	atomic_fetch_add(filling, 1);
	slot = mine = take_slot(seg, n, &ctl);
	if (slot != DZ_NONE) {
		atomic_store(&seg->leases[ref.idx].slot, slot);
		end_slot(f, slot, ctl);
		atomic_compare_exchange_strong(&seg->leases[ref.idx].slot, &mine, DZ_NONE);
	}
	atomic_fetch_sub(filling, 1);
	dz_lease_finish(seg, ref.idx, word, 0);
	return slot == DZ_NONE;
}

static void put_block(struct fixture *f, uint64_t n)
{
	uint64_t ctl;
	uint32_t slot = take_slot(&f->seg, n, &ctl);

	content(f->buf, n);
	if (slot != DZ_NONE)
		end_slot(f, slot, ctl);
}

/* In the program an eviction is a part of an allocation. */
static int evict(struct fixture *f, uint64_t n)
{
	struct dz_seg *seg = &f->seg;
	uint64_t ctl;
	uint32_t slot = dz_index_find(seg, key_of(n), DZ_TIER_DRAM, &ctl);

	if (slot == DZ_NONE)
		return 1;
	atomic_fetch_add(&seg->members[seg->member].filling, 1);
	dz_slot_evict(seg, DZ_TIER_DRAM, slot);
	atomic_fetch_sub(&seg->members[seg->member].filling, 1);
	return 0;
}

/* A fetcher that died before: its lease, and a slot with what had come. */
static void leave_a_lease(struct fixture *f, uint64_t n)
{
	pid_t pid = fork();

	if (pid == 0) {
		struct dz_request req = { .kind = DZ_KIND_DATA, .blk = n };
		struct dz_lease_ref ref;
		uint64_t word, ctl;
		uint32_t slot;

		memset(&f->seg, 0, sizeof(f->seg));
		if (dz_seg_open(&f->seg, &f->cfg, &f->log) < 0 || dz_member_join(&f->seg) < 0)
			_exit(1);
		atomic_store(&f->seg.members[f->seg.member].filling, 1);
		if (dz_lease_ask(&f->seg, key_of(n), &req, 0, 1, &ref) < 0 ||
		    !dz_lease_claim(&f->seg, ref.idx, &word))
			_exit(2);
		slot = take_slot(&f->seg, n, &ctl);
		if (slot == DZ_NONE)
			_exit(3);
		atomic_store(&f->seg.leases[ref.idx].slot, slot);
		if (n % 2) {
			content(dz_seg_page(&f->seg, slot), n);
			atomic_store(&dz_slot_of(&f->seg, DZ_TIER_DRAM, slot)->valid, 1);
		}
		kill(getpid(), SIGKILL);
	}
	waitpid(pid, NULL, 0);
}

static int take_over(struct fixture *f, uint64_t n)
{
	struct dz_seg *seg = &f->seg;

	(void)n;
	for (uint32_t i = 0; i < seg->n_leases; i++) {
		uint64_t word = atomic_load(&seg->leases[i].word);

		if (dz_lease_state(word) == DZ_LEASE_ACTIVE && dz_lease_owner(word) != seg->member)
			return !dz_lease_take_over(seg, i, word, true);
	}
	return 1;
}

static int recover(struct fixture *f, uint64_t n)
{
	(void)n;
	/* two tables are long: those loops have no state */
	f->seg.n_files = 64;
	f->seg.n_disk_slots = 0;
	dz_member_sweep(&f->seg, true);
	return 0;
}

static int write_disk(struct fixture *f, uint64_t n)
{
	return dz_disk_write(f->disk, key_of(n), f->buf, SMALL, 7, DZ_KIND_DATA);
}

/* A file of one block whose number is not that of any other operation. */
static struct dz_key file_of(uint64_t n)
{
	return (struct dz_key){ n, 0xf11e };
}

static void put_file_on_disk(struct fixture *f, uint64_t n)
{
	struct dz_key key = dz_block_key(file_of(n), 0);
	uint64_t ctl;

	/* The policy wants what has been asked for before. */
	for (int i = 0; i < 50 && dz_index_find(&f->seg, key, DZ_TIER_DISK, &ctl) == DZ_NONE; i++) {
		content(f->buf, n);
		dz_evict_admits(&f->seg, DZ_TIER_DISK, key, 7);
		dz_disk_write(f->disk, key, f->buf, SMALL, 7, DZ_KIND_DATA);
	}
}

/* From the disk into DRAM, as a reader does it. */
static int bring(struct fixture *f, uint64_t n)
{
	static struct dz_engine e; /* large; the segment is read through a copy */
	struct dz_ofile file = {
		.key_lo = file_of(n).lo, .key_hi = file_of(n).hi, .size = SMALL, .mode = S_IFREG
	};
	int ret;

	e.seg = f->seg;
	e.disk = f->disk;
	e.log = f->log;
	ret = dz_disk_bring(&e, &file, 0);
	return ret;
}

/* Block n between two neighbours that nobody will look for. */
static int write_batch(struct fixture *f, uint64_t n)
{
	struct dz_disk_put put[3];
	struct dz_disk_writer *w;

	if (dz_disk_writer_new(&w, true) < 0)
		return 1;
	for (uint64_t i = 0; i < 3; i++)
		put[i] = (struct dz_disk_put){ .key = key_of(i == 1 ? n : n + (i + 1) * 1000000),
					       .data = f->buf,
					       .dram = DZ_NONE,
					       .len = SMALL,
					       .group = 7,
					       .kind = DZ_KIND_DATA };
	dz_disk_write_batch(f->disk, w, put, 3);
	dz_disk_writer_free(w);
	return put[1].ret;
}

static int open_and_close(struct fixture *f, uint64_t n)
{
	uint32_t file = dz_file_alloc(&f->seg);
	uint64_t fh, again;
	int fd;

	if (file == DZ_NONE)
		return 1;
	f->seg.files[file].size = n;
	fh = dz_file_ready(&f->seg, file);
	fd = dz_file_marker(&f->seg, fh, true);
	if (fd < 0 || dz_file_hand_over(&f->seg, fh, fd, 0) < 0 ||
	    dz_file_resolve(&f->seg, fd, &again) < 0 || again != fh)
		return 2;
	dz_file_drop(&f->seg, fh);
	fh = dz_file_ready(&f->seg, dz_file_alloc(&f->seg));
	dz_file_drop(&f->seg, fh);
	return dz_file_get(&f->seg, fh) != NULL;
}

static int publish_names(struct fixture *f, uint64_t n)
{
	struct dz_name_in in[NAMES];
	char text[NAMES][16];

	for (uint32_t i = 0; i < NAMES; i++) {
		snprintf(text[i], sizeof(text[i]), "n%u", i);
		in[i] = (struct dz_name_in){ .name = text[i],
					     .name_len = (uint32_t)strlen(text[i]),
					     .size = n * 100 + i,
					     .etag = "0x1" };
	}
	return dz_names_put_dir(&f->seg, 99, "d", 1, in, NAMES);
}

static int come_and_go(struct fixture *f, uint64_t n)
{
	uint32_t child;

	(void)n;
	dz_member_leave(&f->seg);
	if (dz_member_join(&f->seg) < 0)
		return 1;
	child = dz_member_prepare_child(&f->seg);
	dz_member_cancel_child(&f->seg, child);
	return child == DZ_NONE;
}

static const struct operation operations[] = {
	{ "fetch", 1, 1, fetch, NULL },
	{ "evict", 1, 1, evict, put_block },
	{ "take_over", 1, 1, take_over, leave_a_lease },
	{ "recover", 37, 1, recover, leave_a_lease },
	{ "write_disk", 1, 1, write_disk, NULL },
	{ "write_batch", 7, 1, write_batch, NULL },
	{ "bring", 1, 61, bring, put_file_on_disk },
	{ "open_and_close", 1, 1, open_and_close, NULL },
	{ "publish_names", 9973, 1, publish_names, NULL },
	{ "come_and_go", 1, 1, come_and_go, NULL },
};

/* ---- the kill ---- */

/*
 * The child counts, and kills, itself.  Either the processor traps after each
 * instruction; or shared memory is read-only, and each store to it faults, is counted,
 * and then made: its page is opened for the one instruction.
 */
static long *made; /* shared with the parent */
static long kill_at;
static bool by_step;

#define TRAP_FLAG 0x100

static void count_one(void)
{
	if (++*made > kill_at)
		dz_sys_kill(dz_sys_getpid(), SIGKILL);
}

static void protect(uint8_t *at, int prot)
{
	if (dz_sys_3(SYS_mprotect, at, DZ_PAGE, prot) < 0)
		_exit(98);
}

/* Pages that the instruction at work may write to. */
static uint8_t *opened[4];
static size_t n_opened;

static void on_step(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;

	(void)sig;
	(void)info;
	if (by_step) {
		count_one();
		uc->uc_mcontext.gregs[REG_EFL] |= TRAP_FLAG;
		return;
	}
	while (n_opened > 0)
		protect(opened[--n_opened], PROT_READ);
	uc->uc_mcontext.gregs[REG_EFL] &= ~(greg_t)TRAP_FLAG;
}

static void on_store(int sig, siginfo_t *info, void *context)
{
	uint8_t *page = (uint8_t *)((uintptr_t)info->si_addr & ~((uintptr_t)DZ_PAGE - 1));
	ucontext_t *uc = context;

	(void)sig;
	if (n_opened == DZ_ARRAY_LEN(opened))
		_exit(97);
	if (n_opened == 0)
		count_one();
	protect(page, PROT_READ | PROT_WRITE);
	opened[n_opened++] = page;
	uc->uc_mcontext.gregs[REG_EFL] |= TRAP_FLAG;
}

static void begin_counting(struct dz_seg *seg)
{
	struct sigaction step = { .sa_sigaction = on_step, .sa_flags = SA_SIGINFO };
	struct sigaction store = { .sa_sigaction = on_store, .sa_flags = SA_SIGINFO };

	sigaction(SIGTRAP, &step, NULL);
	*made = -by_step;
	if (by_step) {
		raise(SIGTRAP);
		return;
	}
	sigaction(SIGSEGV, &store, NULL);
	if (mprotect(seg->hdr, seg->meta_bytes, PROT_READ) < 0 ||
	    mprotect(seg->dram, seg->dram_bytes, PROT_READ) < 0)
		_exit(98);
}

static void child_work(struct fixture *f, const struct operation *op, uint64_t n)
{
	int ret;

	memset(&f->seg, 0, sizeof(f->seg));
	f->disk = NULL;
	if (attach(f) < 0)
		_exit(99);
	memset(f->buf, 0, DZ_PAGE);
	content(f->buf, n);
	begin_counting(&f->seg);
	ret = op->run(f, n);
	kill_at = LONG_MAX;
	_exit(ret);
}

/* Kills it after that many points; how many it passed, if fewer, to its end. */
static long kill_after(struct fixture *f, const struct operation *op, uint64_t n, long steps)
{
	int status = 0;
	pid_t pid;

	made = (long *)(f->buf + DZ_MIB);
	kill_at = steps;
	pid = fork();
	if (pid == 0)
		child_work(f, op, n);
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
		return steps;
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		fail_msg("%s of %llu ended with status %x", op->name, (unsigned long long)n,
			 (unsigned int)status);
	return *made;
}

/* ---- and after it ---- */

/* Leases that the dead had asked for or begun: each comes to an end. */
static void settle_leases(struct fixture *f)
{
	struct dz_seg *seg = &f->seg;

	for (uint32_t i = 0; i < seg->n_leases; i++) {
		struct dz_lease *l = &seg->leases[i];
		uint64_t word;

		if (dz_lease_state(atomic_load(&l->word)) == DZ_LEASE_CLAIMING)
			atomic_store(&l->deadline_ms, 0);
		if (dz_lease_claim(seg, i, &word))
			dz_lease_finish(seg, i, word, 0);
		assert_int_not_equal(dz_lease_state(atomic_load(&l->word)), DZ_LEASE_ACTIVE);
	}
}

static void check_dram(struct fixture *f, uint64_t n)
{
	uint64_t ctl;
	uint32_t slot = dz_index_find(&f->seg, key_of(n), DZ_TIER_DRAM, &ctl);

	if (slot != DZ_NONE && atomic_load(&dz_slot_of(&f->seg, DZ_TIER_DRAM, slot)->valid))
		if (!content_is(dz_seg_page(&f->seg, slot), n))
			fail_msg("block %llu in DRAM has wrong bytes", (unsigned long long)n);
}

static void check_brought(struct fixture *f, uint64_t n)
{
	uint64_t ctl;
	uint32_t slot = dz_index_find(&f->seg, dz_block_key(file_of(n), 0), DZ_TIER_DRAM, &ctl);

	if (slot != DZ_NONE && atomic_load(&dz_slot_of(&f->seg, DZ_TIER_DRAM, slot)->valid))
		if (!content_is(dz_seg_page(&f->seg, slot), n))
			fail_msg("block %llu of the disk has wrong bytes in DRAM",
				 (unsigned long long)n);
}

static void check_disk(struct fixture *f, uint64_t n)
{
	if (get(f, n, SMALL) == 0 && !content_is(f->buf, n))
		fail_msg("block %llu on disk has wrong bytes", (unsigned long long)n);
}

static void check_names(struct fixture *f, uint64_t up_to)
{
	for (uint32_t i = 0; i < NAMES; i++) {
		struct dz_name out;
		char path[32];

		snprintf(path, sizeof(path), "d/n%u", i);
		dz_names_find(&f->seg, 99, path, strlen(path), &out);
		assert_int_not_equal(out.state, DZ_NAME_ABSENT);
		if (out.state == DZ_NAME_FOUND) {
			assert_int_equal(out.attr.size % 100, i);
			assert_true(out.attr.size / 100 <= up_to);
		}
	}
}

static void survive(struct fixture *f, const struct operation *op, uint64_t n, long points)
{
	const char *complaint;

	invariants_repair(&f->seg, f->disk);
	settle_leases(f);
	complaint = invariants_complaint(&f->seg);
	if (complaint)
		fail_msg("%s killed after %ld points: %s", op->name, points, complaint);
	for (uint64_t i = n > 3 ? n - 3 : 0; i <= n; i++) {
		check_dram(f, i);
		check_brought(f, i);
		check_disk(f, i);
	}
	check_names(f, n);
	/* the same can be done now */
	if (op->prepare == leave_a_lease)
		return;
	if (op->prepare)
		put_block(f, n);
	if (op->run == fetch || op->run == evict) {
		content(f->buf, n + 1000000);
		assert_int_equal(fetch(f, n + 1000000), 0);
		check_dram(f, n + 1000000);
	}
}

static void kill_all_along(struct fixture *f, const struct operation *op)
{
	const char *s = getenv("KILL_STRIDE");
	long stride = s ? atol(s) * op->coarse : op->sparse, points, done;
	uint64_t n = 1, kills = 0;

	by_step = s != NULL;
	/* twice, so that each point meets odd and even blocks, and what the first round left */
	for (int round = 0; round < 2; round++) {
		for (points = 0;; points += stride, n++, kills++) {
			if (op->prepare)
				op->prepare(f, n);
			done = kill_after(f, op, n, points);
			survive(f, op, n, done);
			if (done < points)
				break;
		}
		n += 2 - n % 2; /* the other round began with 1 */
	}
	print_message("# %s: %llu kills, %ld points\n", op->name, (unsigned long long)kills, done);
	assert_true(kills > (by_step ? 1 : 10));
}

/* The tiers are full, so that there is always something to evict. */
static void fill_up(struct fixture *f)
{
	for (uint64_t n = 0; n < f->seg.n_dram_slabs; n++) {
		uint64_t ctl;
		uint32_t slot =
			dz_slot_alloc(&f->seg, DZ_TIER_DRAM, DZ_BLOCK_BYTES, f->seg.member, &ctl);
		struct dz_key key = key_of(n + 500000);

		atomic_store(&dz_slot_of(&f->seg, DZ_TIER_DRAM, slot)->key_lo, key.lo);
		atomic_store(&dz_slot_of(&f->seg, DZ_TIER_DRAM, slot)->key_hi, key.hi);
		dz_index_insert(&f->seg, key, DZ_TIER_DRAM, slot, DZ_NONE);
		dz_slot_publish(&f->seg, DZ_TIER_DRAM, slot, ctl, &ctl);
		dz_evict_filled(&f->seg, DZ_TIER_DRAM, slot);
	}
}

/* The fixture's directory may be on a disk; thousands of attachments want memory. */
static void use_memory(struct fixture *f)
{
	static char shm[DZ_PATH_MAX];
	const char *base = getenv("DELTAZERO_SHM_DIR");

	detach(f);
	assert_int_equal(dz_seg_purge(&f->cfg), 0);
	snprintf(shm, sizeof(shm), "%.4000s/dz-kill-XXXXXX", base ? base : "/dev/shm");
	assert_non_null(mkdtemp(shm));
	snprintf(f->cfg.shm_dir, sizeof(f->cfg.shm_dir), "%.4000s", shm);
	assert_int_equal(attach(f), 0);
}

static void forget_memory(const struct fixture *f)
{
	char cmd[DZ_PATH_MAX + 16];

	snprintf(cmd, sizeof(cmd), "rm -rf '%.4000s'", f->cfg.shm_dir);
	if (system(cmd) != 0)
		fprintf(stderr, "%s stays\n", f->cfg.shm_dir);
}

static void run_operation(const char *name)
{
	const char *only = getenv("KILL_OPERATION");

	if (only && strcmp(only, name) != 0)
		skip();
	for (size_t i = 0; i < DZ_ARRAY_LEN(operations); i++) {
		struct fixture *f;

		if (strcmp(operations[i].name, name) != 0)
			continue;
		f = fixture_new(NULL, 16 * DZ_MIB);
		assert_non_null(f);
		use_memory(f);
		assert_non_null(f->disk);
		fill_up(f);
		kill_all_along(f, &operations[i]);
		reopen(f); /* a reboot: the journal is right as well */
		for (uint64_t n = 0; n < 300; n++)
			check_disk(f, n);
		forget_memory(f);
		fixture_free(f);
	}
}

#define OPERATION(op, claim)                                                                       \
	static void claim(void **state)                                                            \
	{                                                                                          \
		(void)state;                                                                       \
		run_operation(#op);                                                                \
	}

OPERATION(fetch, a_fetcher_can_be_killed_anywhere)
OPERATION(evict, an_eviction_can_be_killed_anywhere)
OPERATION(take_over, a_takeover_can_be_killed_anywhere)
OPERATION(recover, a_recovery_can_be_killed_anywhere)
OPERATION(write_disk, a_write_to_the_disk_tier_can_be_killed_anywhere)
OPERATION(write_batch, a_batch_for_the_disk_tier_can_be_killed_anywhere)
OPERATION(bring, a_block_on_its_way_from_the_disk_into_dram_can_be_killed_anywhere)
OPERATION(open_and_close, open_and_close_can_be_killed_anywhere)
OPERATION(publish_names, publishing_a_listing_can_be_killed_anywhere)
OPERATION(come_and_go, joining_and_leaving_can_be_killed_anywhere)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_fetcher_can_be_killed_anywhere),
		cmocka_unit_test(an_eviction_can_be_killed_anywhere),
		cmocka_unit_test(a_takeover_can_be_killed_anywhere),
		cmocka_unit_test(a_recovery_can_be_killed_anywhere),
		cmocka_unit_test(a_write_to_the_disk_tier_can_be_killed_anywhere),
		cmocka_unit_test(a_batch_for_the_disk_tier_can_be_killed_anywhere),
		cmocka_unit_test(a_block_on_its_way_from_the_disk_into_dram_can_be_killed_anywhere),
		cmocka_unit_test(open_and_close_can_be_killed_anywhere),
		cmocka_unit_test(publishing_a_listing_can_be_killed_anywhere),
		cmocka_unit_test(joining_and_leaving_can_be_killed_anywhere),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
