/* SPDX-License-Identifier: MIT */
/*
 * All of DRAM is held by another member who lives: what is not in it comes straight from
 * Blob, is counted and said once; and when there is room again, through the cache.
 */
#include "cache/engine_priv.h"
#include "cache/slabs.h"
#include "tests/unit/blob_fixture.h"

#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define SLOTS_MAX 20000

struct fixture {
	struct service service;
	char text[8][512];
	char *env[9];
	char log[300];
	struct dz_config cfg;
	struct dz_engine *e;
	struct dz_seg other; /* the member that holds */
	struct dz_log quiet;
	uint32_t n;
	uint32_t slot[SLOTS_MAX];
	uint64_t ctl[SLOTS_MAX];
};

static int up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	const char *build = getenv("DZ_BUILD");
	char lib[512];

	*state = f;
	if (!f)
		return -1;
	service_prepare(&f->service);
	service_add(&f->service, "dir/one", 3000000);
	service_add(&f->service, "dir/two", 200000);
	service_add(&f->service, "other/three", 70000);
	service_start(&f->service, NULL);
	snprintf(f->log, sizeof(f->log), "%.250s/log", f->service.dir);
	snprintf(f->text[0], 512, "DELTAZERO_MOUNT=/mnt/past=%s/%s", f->service.url,
		 f->service.container);
	snprintf(f->text[1], 512, "DELTAZERO_SHM_DIR=%s/shm", f->service.dir);
	snprintf(f->text[2], 512, "DELTAZERO_CACHE_DIR=%s/cache", f->service.dir);
	snprintf(f->text[3], 512, "DELTAZERO_DRAM_SIZE=32M");
	snprintf(f->text[4], 512, "DELTAZERO_DISK_SIZE=0");
	snprintf(f->text[5], 512, "DELTAZERO_FETCH=inline");
	snprintf(f->text[6], 512, "DELTAZERO_LOG=warn:%s", f->log);
	snprintf(f->text[7], 512, "AZURE_STORAGE_KEY=%s", EMULATOR_KEY);
	for (int i = 0; i < 8; i++)
		f->env[i] = f->text[i];
	dz_config_read(&f->cfg, f->env);
	snprintf(lib, sizeof(lib), "%s/libdeltazero.so", build ? build : "build");
	if (f->cfg.n_mounts != 1 || dz_engine_open(&f->e, &f->cfg, f->env, lib) < 0)
		return -1;
	dz_engine_set_lookup(f->e, dlsym);
	return 0;
}

static int down(void **state)
{
	struct fixture *f = *state;

	if (f->e)
		dz_engine_close(f->e);
	dz_seg_purge(&f->cfg);
	service_stop(&f->service);
	free(f);
	return 0;
}

static void hold(struct fixture *f, uint64_t bytes)
{
	while (f->n < SLOTS_MAX) {
		uint32_t n = dz_slot_alloc(&f->other, DZ_TIER_DRAM, bytes, f->other.member,
					   &f->ctl[f->n]);

		if (n == DZ_NONE)
			return;
		f->slot[f->n++] = n;
	}
}

static void hold_all(struct fixture *f)
{
	assert_int_equal(dz_seg_open(&f->other, &f->cfg, &f->quiet), 0);
	assert_int_equal(dz_member_join(&f->other), 0);
	hold(f, DZ_BLOCK_BYTES);
	hold(f, DZ_PAGE);
	assert_in_range(f->n, 1, SLOTS_MAX - 1);
}

static void let_go(struct fixture *f)
{
	for (uint32_t i = 0; i < f->n; i++)
		dz_slot_discard(&f->other, DZ_TIER_DRAM, f->slot[i], f->ctl[i]);
	f->n = 0;
	dz_member_leave(&f->other);
	dz_seg_close(&f->other);
}

static dz_fh open_it(struct fixture *f, const char *name)
{
	dz_fh fh = 0;

	assert_int_equal(dz_engine_open_file(f->e, 0, name, strlen(name), 0, &fh), 0);
	return fh;
}

/* Bytes [off, off + n) of the file are the blob's: 0, else which is not. */
static uint64_t wrong_at(struct fixture *f, dz_fh fh, uint64_t off, size_t n)
{
	uint8_t *buf = malloc(n);
	uint64_t wrong = 0;

	memset(buf, 0xee, n);
	if (dz_engine_pread(f->e, fh, buf, n, off) != (ssize_t)n)
		wrong = UINT64_MAX;
	for (size_t i = 0; i < n && !wrong; i++)
		if (buf[i] != content_byte(off + i))
			wrong = off + i + 1;
	free(buf);
	return wrong;
}

static uint64_t uncached(const struct fixture *f)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < f->e->seg.n_members * DZ_STAT_STRIPES; i++)
		n += atomic_load(&f->e->seg.stats[i].uncached);
	return n;
}

static uint32_t times_said(const struct fixture *f)
{
	FILE *in = fopen(f->log, "r");
	char line[1024];
	uint32_t n = 0;

	while (in && fgets(line, sizeof(line), in))
		n += strstr(line, "straight from Blob") != NULL;
	if (in)
		fclose(in);
	return n;
}

static void a_read_goes_past_a_cache_that_others_hold(void **state)
{
	struct fixture *f = *state;
	dz_fh one, three;

	one = open_it(f, "dir/one");
	assert_int_equal(wrong_at(f, one, 0, 1000), 0);
	assert_int_equal(uncached(f), 0);
	hold_all(f);
	assert_int_equal(wrong_at(f, one, 1500000, 1400000), 0);
	assert_in_range(uncached(f), 1, 4);
	/* a name that is not known yet, too */
	three = open_it(f, "other/three");
	assert_int_equal(wrong_at(f, three, 0, 70000), 0);
	assert_int_equal(times_said(f), 1);
	let_go(f);
	/* there is room: what is read now stays */
	assert_int_equal(wrong_at(f, one, 2000000, 1000000), 0);
	assert_int_equal(dz_engine_is_cached(f->e, one, 2000000, 1000000), 0);
	dz_engine_close_file(f->e, one);
	dz_engine_close_file(f->e, three);
}

static void a_child_goes_past_it_by_itself(void **state)
{
	struct fixture *f = *state;
	dz_fh one = open_it(f, "dir/one");
	int status = -1;
	uint32_t cookie;
	pid_t pid;

	hold_all(f);
	assert_int_equal(wrong_at(f, one, 0, 100000), 0);
	cookie = dz_engine_fork_prepare(f->e);
	pid = fork();
	if (pid == 0) {
		alarm(60);
		dz_engine_fork_child(f->e, cookie);
		_exit(wrong_at(f, one, 1100000, 1000000) != 0);
	}
	dz_engine_fork_parent(f->e, cookie, pid);
	assert_int_equal(wrong_at(f, one, 2500000, 400000), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	let_go(f);
	dz_engine_close_file(f->e, one);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_read_goes_past_a_cache_that_others_hold, up,
						down),
		cmocka_unit_test_setup_teardown(a_child_goes_past_it_by_itself, up, down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
