// SPDX-License-Identifier: MIT
/*
 * Attaches to the cache that the environment names, repairs what the dead have
 * left, as agents do, and says what is wrong afterwards.  For use when nobody else
 * is attached.  With the word dump: tells what there is, and repairs nothing.
 */
#include "cache/disk.h"
#include "cache/member.h"
#include "cache/pins.h"
#include "tests/kill/invariants.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct dz_config cfg;
static struct dz_seg seg;

/* As it is, with everybody at work. */
static void dump(void)
{
	static const char *const states[] = { "free", "filling", "ready", "evicting",
					      "quarantine" };

	for (uint32_t n = 1; n < seg.n_members; n++) {
		const struct dz_member *m = &seg.members[n];

		if (atomic_load(&m->state))
			printf("member %u: state %u pid %u %s filling %u agent %u\n", n,
			       atomic_load(&m->state), atomic_load(&m->pid),
			       dz_member_is_alive(&seg, n) ? "alive" : "dead",
			       atomic_load(&m->filling), atomic_load(&m->is_agent));
	}
	for (uint32_t slab = 0; slab < seg.n_dram_slabs; slab++) {
		uint32_t n[5] = { 0 };

		for (uint32_t i = 0; i < DZ_SLAB_PAGES; i++) {
			const struct dz_slot *s = dz_dram_slot(&seg, slab * DZ_SLAB_PAGES + i);
			uint64_t ctl = atomic_load(&s->ctl);

			n[dz_ctl_state(ctl) % 5]++;
			if (dz_ctl_state(ctl) != DZ_SLOT_FREE && dz_ctl_state(ctl) != DZ_SLOT_READY)
				printf("  slot %u.%u %s owner %u valid %x kind %u\n", slab, i,
				       states[dz_ctl_state(ctl) % 5], dz_ctl_owner(ctl),
				       atomic_load(&s->valid), atomic_load(&s->kind));
		}
		printf("slab %u: class %u taken %u ready %u mapped %u\n", slab,
		       dz_slabs_chunk_pages(&seg, DZ_TIER_DRAM, slab * DZ_SLAB_PAGES),
		       dz_slabs_count(&seg, DZ_TIER_DRAM, slab), n[DZ_SLOT_READY],
		       dz_slab_is_mapped(&seg, slab));
	}
	for (uint32_t i = 0; i < seg.n_leases; i++) {
		const struct dz_lease *l = &seg.leases[i];
		uint64_t word = atomic_load(&l->word);

		if (dz_lease_state(word) != DZ_LEASE_FREE)
			printf("lease %u: state %u owner %u late by %lld ms, slot %u: %.60s\n", i,
			       dz_lease_state(word), dz_lease_owner(word),
			       (long long)(dz_now_ms() - atomic_load(&l->deadline_ms)),
			       atomic_load(&l->slot), seg.requests[i].name);
	}
}

int main(int argc, char **argv)
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
	if (argc > 1 && strcmp(argv[1], "dump") == 0) {
		dump();
		dz_member_leave(&seg);
		return 0;
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
