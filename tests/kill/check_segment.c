// SPDX-License-Identifier: MIT
/*
 * Attaches to the cache that the environment names, repairs what the dead have
 * left, as agents do, and says what is wrong afterwards.  For use when nobody else
 * is attached.
 */
#include "cache/disk.h"
#include "cache/member.h"
#include "tests/kill/invariants.h"

#include <stdio.h>
#include <unistd.h>

static struct dz_config cfg;
static struct dz_seg seg;

int main(void)
{
	struct dz_log log = { .level = DZ_LOG_WARN, .path = "", .who = "check" };
	struct dz_disk *disk = NULL;
	const char *complaint;

	dz_config_read(&cfg, environ);
	if (dz_seg_open(&seg, &cfg, &log) < 0 || dz_member_join(&seg) < 0 ||
	    dz_disk_open(&disk, &seg, &cfg, &log) < 0) {
		puts("cannot attach");
		return 2;
	}
	if (seg.is_new)
		puts("(a new segment: nothing to check)");
	invariants_repair(&seg, disk);
	complaint = invariants_complaint(&seg);
	printf("%u blocks in DRAM, %u on disk, %u members, %u files\n",
	       atomic_load(&seg.hdr->chunks[0]), atomic_load(&seg.hdr->chunks[1]),
	       invariants_members(&seg), invariants_files(&seg));
	if (complaint)
		printf("WRONG: %s\n", complaint);
	if (disk)
		dz_disk_close(disk);
	dz_member_leave(&seg);
	dz_seg_close(&seg);
	return complaint != NULL;
}
