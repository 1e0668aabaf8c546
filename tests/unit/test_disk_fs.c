/* SPDX-License-Identifier: MIT */
/*
 * The disk tier on other file systems than the tests' own: what is written is read, after a
 * reboot too, and a killed writer costs no place.  As root; a file system that the machine
 * cannot make or mount is skipped.
 */
#include "tests/unit/disk_batch.h"
#include "tests/unit/space_check.h"

#include <sys/mount.h>

#define TIER (40 * DZ_MIB)

struct place {
	char dir[64]; /* of the mount, in which things lie */
	char at[80];  /* the cache directory */
	struct fixture *f;
};

static struct place place;

/* Runs a shell command with $D, the directory. */
static bool run(const char *command)
{
	setenv("D", place.dir, 1);
	return system(command) == 0;
}

static bool set_up_place(const char *command)
{
	snprintf(place.dir, sizeof(place.dir), "/tmp/dz-fs-XXXXXX");
	if (geteuid() != 0 || !mkdtemp(place.dir))
		return false;
	snprintf(place.at, sizeof(place.at), "%s/m", place.dir);
	if (mkdir(place.at, 0700) < 0 || !run(command))
		return false;
	place.f = fixture_new(place.at, TIER);
	return place.f != NULL;
}

static int tear_down_place(void **state)
{
	(void)state;
	if (place.f)
		fixture_free(place.f);
	umount2(place.at, MNT_DETACH);
	run("rm -rf \"$D\"");
	memset(&place, 0, sizeof(place));
	return 0;
}

/* As many members as died, and a tier that can prove that their writes have landed. */
static void assert_nothing_is_held(struct fixture *f)
{
	dz_member_sweep(&f->seg, true);
	dz_disk_recover(f->disk, DZ_NONE);
	dz_slabs_scrub(&f->seg, DZ_TIER_DISK, 0, f->seg.n_disk_slabs);
	assert_null(space_complaint(&f->seg, DZ_TIER_DISK));
}

/* A minute later, as far as slots in quarantine can tell. */
static void let_a_minute_pass(struct fixture *f)
{
	for (uint32_t i = 0; i < f->seg.n_disk_slots; i++) {
		if (dz_ctl_state(f->seg.disk_slots[i].ctl) == DZ_SLOT_QUARANTINE)
			f->seg.disk_slots[i].stamp_ms -= 61000;
	}
}

static void write_read_and_reboot(struct fixture *f)
{
	struct batch *b = batch_new(false);

	assert_non_null(f->disk);
	for (uint64_t i = 0; i < 20; i++)
		batch_add(b, i, (uint32_t)(i * 20000 + 1));
	batch_write(f, b);
	assert_int_equal(put(f, 20, 1048576), 0);
	for (int boots = 0; boots < 2; boots++) {
		for (uint64_t i = 0; i < 20; i++)
			assert_block(f, i, (uint32_t)(i * 20000 + 1));
		assert_block(f, 20, 1048576);
		assert_true(dz_disk_is_on(f->disk));
		reopen(f);
	}
	batch_free(b);
}

static void the_tier_works(const char *command, bool has_barrier)
{
	struct fixture *f;

	if (!set_up_place(command))
		skip();
	f = place.f;
	write_read_and_reboot(f);
	for (uint64_t round = 0; round < 4; round++) {
		kill_a_writer(f, round * 333, 30 + round * 20, round % 2);
		dz_member_sweep(&f->seg, true);
		if (!has_barrier)
			let_a_minute_pass(f);
		assert_nothing_is_held(f);
	}
	assert_true(assert_no_wrong_block(f) > 20);
}

static void on_xfs(void **state)
{
	(void)state;
	the_tier_works("truncate -s 400M $D/i && mkfs.xfs -q $D/i 2>/dev/null && "
		       "mount -o loop $D/i $D/m 2>/dev/null",
		       true);
}

static void on_ext4(void **state)
{
	(void)state;
	the_tier_works("truncate -s 128M $D/i && mkfs.ext4 -q $D/i 2>/dev/null && "
		       "mount -o loop $D/i $D/m 2>/dev/null",
		       true);
}

static void on_btrfs(void **state)
{
	(void)state;
	the_tier_works("truncate -s 400M $D/i && mkfs.btrfs -q $D/i 2>/dev/null && "
		       "mount -o loop $D/i $D/m 2>/dev/null",
		       true);
}

static void on_tmpfs(void **state)
{
	(void)state;
	the_tier_works("mount -t tmpfs none $D/m 2>/dev/null", true);
}

static void on_overlayfs(void **state)
{
	(void)state;
	the_tier_works("mkdir $D/l $D/u $D/w && mount -t overlay none -o "
		       "lowerdir=$D/l,upperdir=$D/u,workdir=$D/w $D/m 2>/dev/null",
		       true);
}

/* It has no O_DIRECT, no fallocate and no size. */
static void on_ramfs(void **state)
{
	(void)state;
	the_tier_works("mount -t ramfs none $D/m 2>/dev/null", false);
}

/* Without a barrier a slot stays where a late write can do no harm. */
static void without_a_barrier_a_slot_is_in_quarantine_for_a_minute(void **state)
{
	struct dz_slot *s;
	uint64_t ctl;
	uint32_t slot;

	(void)state;
	if (!set_up_place("mount -t ramfs none $D/m 2>/dev/null"))
		skip();
	slot = dz_slot_alloc(&place.f->seg, DZ_TIER_DISK, 5000, 99, &ctl);
	assert_int_not_equal(slot, DZ_NONE);
	s = &place.f->seg.disk_slots[slot];
	assert_int_equal(dz_disk_recover(place.f->disk, 99), 0);
	assert_int_equal(dz_disk_recover(place.f->disk, DZ_NONE), 0);
	assert_int_equal(dz_ctl_state(s->ctl), DZ_SLOT_QUARANTINE);
	let_a_minute_pass(place.f);
	assert_int_equal(dz_disk_recover(place.f->disk, DZ_NONE), 1);
	assert_int_equal(dz_ctl_state(s->ctl), DZ_SLOT_FREE);
}

#define ON(test) cmocka_unit_test_setup_teardown(test, NULL, tear_down_place)

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON(on_xfs),
		ON(on_ext4),
		ON(on_btrfs),
		ON(on_tmpfs),
		ON(on_overlayfs),
		ON(on_ramfs),
		ON(without_a_barrier_a_slot_is_in_quarantine_for_a_minute),
	};

	return cmocka_run_group_tests_name("the_disk_tier_works", tests, NULL, NULL);
}
