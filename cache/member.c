// SPDX-License-Identifier: MIT
/*
 * Attaching, leaving, and putting right what the dead left behind.
 *
 * Joining: claim a free record, take the byte lock at its number, fill it in,
 * go live.  Record 0 is nobody's: it keeps the counters of the departed.
 *
 * A member that was killed is noticed by its lock.  Whoever notices takes that
 * lock, so one recovers, and walks what it owned: leases become requests again,
 * slots that it was filling are published as far as they came (their bytes were
 * stored before their bits, and a dead process stores no more: nobody fills DRAM
 * by device I/O), evictions are finished, disk slots are quarantined until their
 * writes have landed, descriptions are dropped, counters are added to record 0.
 * Killed while recovering: the lock is free again and the next one starts over;
 * every step may run twice.  Stopped: the record waits.
 */
#include "cache/member.h"

#include "cache/fd.h"
#include "cache/files.h"
#include "cache/index.h"
#include "cache/lease.h"
#include "cache/slabs.h"
#include "cache/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#define SECOND	 65536 /* where the second locks begin */
#define CLAIM_MS 5000
#define FORK_MS	 30000
#define SWEEP_MS 1000

static int member_set_lock(const struct dz_seg *seg, uint32_t member, int cmd, short type)
{
	off_t at = (off_t)member + (cmd == F_OFD_SETLK ? SECOND : 0);
	struct flock fl = { .l_type = type, .l_whence = SEEK_SET, .l_start = at, .l_len = 1 };

	if (seg->lock_fd < 0)
		return 0;
	if (!dz_seg_has_fd(seg, seg->lock_fd))
		return -EBADF;
	return (int)dz_sys_3(SYS_fcntl, seg->lock_fd, cmd, &fl);
}

static int member_lock(const struct dz_seg *seg, uint32_t member)
{
	return member_set_lock(seg, member, F_SETLK, F_WRLCK);
}

static void member_unlock(const struct dz_seg *seg, uint32_t member)
{
	member_set_lock(seg, member, F_OFD_SETLK, F_UNLCK);
	member_set_lock(seg, member, F_SETLK, F_UNLCK);
}

/* Alive by both locks from now on; the second may fail, it is only the second. */
static void member_lock_second(const struct dz_seg *seg, uint32_t member)
{
	member_set_lock(seg, member, F_OFD_SETLK, F_RDLCK);
}

/*
 * A child has its parent's description, whose locks must end with the parent: from now on
 * one of its own, for the record that was prepared for it too.  The old one is closed
 * before there is a first lock to lose by that.
 */
static void member_own_description(struct dz_seg *seg, uint32_t member)
{
	struct dz_seg was = *seg;
	struct stat st;
	int fd;

	if (seg->lock_fd < 0 || !dz_seg_has_fd(seg, seg->lock_fd))
		return;
	fd = dz_fd_raise(dz_sys_openat(seg->dir_fd, "members", O_RDWR | O_CLOEXEC, 0));
	if (fd < 0)
		return;
	if (dz_sys_fstat(fd, &st) < 0 || st.st_ino != seg->lock_ino) { /* purged meanwhile */
		dz_sys_close(fd);
		return;
	}
	dz_seg_note_fd(seg, fd);
	seg->lock_fd = fd;
	if (member < seg->n_members) {
		member_lock_second(seg, member);
		member_set_lock(&was, member, F_OFD_SETLK, F_UNLCK);
	}
	dz_sys_close(was.lock_fd);
}

static bool member_is_locked(const struct dz_seg *seg, uint32_t member)
{
	struct flock fl = {
		.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)member, .l_len = 1
	};
	struct flock second = fl;

	second.l_start += SECOND;
	if (seg->lock_fd < 0) {
		uint32_t pid =
			atomic_load_explicit(&seg->members[member].pid, memory_order_relaxed);

		return pid && dz_sys_kill((int)pid, 0) != -ESRCH;
	}
	/* A lock that cannot be read proves nothing: alive. */
	if (!dz_seg_has_fd(seg, seg->lock_fd) ||
	    dz_sys_3(SYS_fcntl, seg->lock_fd, F_GETLK, &fl) < 0)
		return true;
	if (fl.l_type != F_UNLCK)
		return true;
	/* Lost, when the program itself has opened and closed that file: look twice. */
	return dz_sys_3(SYS_fcntl, seg->lock_fd, F_GETLK, &second) < 0 || second.l_type != F_UNLCK;
}

static uint64_t member_pid_ns(void)
{
	struct stat st;

	return dz_sys_stat("/proc/self/ns/pid", &st) < 0 ? 0 : (uint64_t)st.st_ino;
}

static void member_fill_in(struct dz_member *m, uint32_t parent)
{
	atomic_store_explicit(&m->pid, (uint32_t)dz_sys_getpid(), memory_order_relaxed);
	atomic_store_explicit(&m->pid_ns, member_pid_ns(), memory_order_relaxed);
	atomic_store_explicit(&m->joined_ms, dz_wall_ms(), memory_order_relaxed);
	atomic_store_explicit(&m->trace, 0, memory_order_relaxed);
	atomic_store_explicit(&m->is_agent, 0, memory_order_relaxed);
	atomic_store_explicit(&m->parent, parent, memory_order_relaxed);
	atomic_store_explicit(&m->filling, 0, memory_order_relaxed);
	if (!parent)
		atomic_store_explicit(&m->mounts, 0, memory_order_relaxed);
	for (int i = 0; i < DZ_HAZARDS; i++)
		atomic_store_explicit(&m->hazard[i], 0, memory_order_relaxed);
	dz_sys_2(SYS_prctl, PR_GET_NAME, m->comm);
}

/* Before anything is noted in record n: whoever walks the records walks it too. */
static void member_raise_high(struct dz_seg *seg, uint32_t n)
{
	uint32_t high = atomic_load(&seg->hdr->members_high);

	while (high < n + 1 && !atomic_compare_exchange_weak(&seg->hdr->members_high, &high, n + 1))
		;
}

/* A free record in `state`, until a deadline; DZ_NONE. */
static uint32_t member_claim(struct dz_seg *seg, enum dz_member_state state, uint64_t ms)
{
	uint64_t hint = atomic_fetch_add_explicit(&seg->hdr->member_hint, 1, memory_order_relaxed);

	for (uint32_t i = 0; i < seg->n_members; i++) {
		uint32_t n = (uint32_t)((hint + i) % seg->n_members);
		struct dz_member *m = &seg->members[n];
		uint32_t old = DZ_MEMBER_FREE;

		if (n == 0 || atomic_load_explicit(&m->state, memory_order_relaxed) != old)
			continue;
		atomic_store_explicit(&m->deadline_ms, dz_now_ms() + ms, memory_order_relaxed);
		if (!atomic_compare_exchange_strong(&m->state, &old, state))
			continue;
		member_raise_high(seg, n);
		/* Numbers go round: the sweeper comes by before one is used again. */
		if (i > 0)
			atomic_store_explicit(&seg->hdr->member_hint, hint + i + 1,
					      memory_order_relaxed);
		return n;
	}
	return DZ_NONE;
}

/* A record of our own with its lock; DZ_NONE: all are in use. */
static int member_claim_locked(struct dz_seg *seg, uint32_t *n)
{
	int ret = -EUSERS;

	for (int tries = 0; tries < 8; tries++) {
		*n = member_claim(seg, DZ_MEMBER_CLAIMED, CLAIM_MS);
		if (*n == DZ_NONE)
			return -EUSERS;
		ret = member_lock(seg, *n);
		if (ret == 0) {
			member_lock_second(seg, *n);
			return 0;
		}
		/* Its recoverer is not quite done.  The deadline frees what we claimed. */
		if (ret != -EAGAIN && ret != -EACCES)
			break;
	}
	return ret;
}

int dz_member_join(struct dz_seg *seg)
{
	uint32_t n;
	int ret = member_claim_locked(seg, &n);

	if (ret == -EUSERS) {
		dz_member_sweep(seg, true);
		ret = member_claim_locked(seg, &n);
	}
	if (ret < 0)
		return ret;
	member_fill_in(&seg->members[n], 0);
	seg->member = n;
	atomic_store_explicit(&seg->members[n].state, DZ_MEMBER_LIVE, memory_order_release);
	return 0;
}

/* Most counters of most members are 0: those are not written. */
static void member_move_u64(_Atomic uint64_t *to, _Atomic uint64_t *from)
{
	if (atomic_load_explicit(from, memory_order_relaxed))
		atomic_fetch_add_explicit(to,
					  atomic_exchange_explicit(from, 0, memory_order_relaxed),
					  memory_order_relaxed);
}

static void member_move_u32(_Atomic uint32_t *to, _Atomic uint32_t *from)
{
	if (atomic_load_explicit(from, memory_order_relaxed))
		atomic_fetch_add_explicit(to,
					  atomic_exchange_explicit(from, 0, memory_order_relaxed),
					  memory_order_relaxed);
}

/* The counters of one that goes are kept in record 0. */
static void member_fold_stats(struct dz_seg *seg, uint32_t member)
{
	const size_t words = offsetof(struct dz_stats, by_call) / 8;
	struct dz_stats *to = &seg->stats[0];

	for (uint32_t s = 0; s < DZ_STAT_STRIPES; s++) {
		struct dz_stats *from = &seg->stats[(size_t)member * DZ_STAT_STRIPES + s];
		_Atomic uint64_t *src = (void *)from, *dst = (void *)to;

		for (size_t i = 0; i < words; i++)
			member_move_u64(&dst[i], &src[i]);
		for (size_t i = 0; i < DZ_STAT_CALLS; i++) {
			member_move_u32(&to->by_call[i], &from->by_call[i]);
			member_move_u32(&to->bypass_by_call[i], &from->bypass_by_call[i]);
		}
	}
}

void dz_member_leave(struct dz_seg *seg)
{
	struct dz_member *m;

	if (seg->member >= seg->n_members)
		return;
	m = &seg->members[seg->member];
	/*
	 * Another thread of ours is in the middle of a block: it may still store.  The
	 * sweeper ends us when the kernel has let go of the lock, that is of the thread.
	 */
	if (atomic_load_explicit(&m->filling, memory_order_relaxed) && seg->lock_fd >= 0)
		return;
	dz_files_drop_all(seg, seg->member);
	member_fold_stats(seg, seg->member);
	for (int i = 0; i < DZ_HAZARDS; i++)
		atomic_store_explicit(&m->hazard[i], 0, memory_order_relaxed);
	atomic_store_explicit(&m->mounts, 0, memory_order_release);
	atomic_store_explicit(&m->state, DZ_MEMBER_FREE, memory_order_release);
	member_unlock(seg, seg->member);
	seg->member = DZ_NONE;
}

uint32_t dz_member_prepare_child(struct dz_seg *seg)
{
	uint32_t n = member_claim(seg, DZ_MEMBER_FORKING, FORK_MS);

	if (n == DZ_NONE) {
		dz_member_sweep(seg, true);
		n = member_claim(seg, DZ_MEMBER_FORKING, FORK_MS);
	}
	if (n == DZ_NONE || seg->member >= seg->n_members)
		return n;
	/* Of the description that the child will have: it may be stopped at birth for long. */
	member_lock_second(seg, n);
	atomic_store_explicit(&seg->members[n].pid, 0, memory_order_relaxed);
	atomic_store_explicit(&seg->members[n].parent, seg->member, memory_order_relaxed);
	atomic_store(&seg->members[n].mounts, atomic_load(&seg->members[seg->member].mounts));
	dz_files_inherit(seg, seg->member, n);
	return n;
}

int dz_member_adopt(struct dz_seg *seg, uint32_t member)
{
	uint32_t parent = seg->member, forking = DZ_MEMBER_FORKING;
	int ret;

	seg->member = DZ_NONE;
	atomic_store_explicit(&seg->is_sweeping, 0, memory_order_relaxed);
	member_own_description(seg, member);
	if (member >= seg->n_members)
		return dz_member_join(seg);
	ret = member_lock(seg, member);
	/* Where there is no second lock: stopped for longer than its deadline. */
	if (ret == 0 && !atomic_compare_exchange_strong(&seg->members[member].state, &forking,
							DZ_MEMBER_CLAIMED)) {
		member_unlock(seg, member);
		ret = -EAGAIN;
	}
	if (ret < 0)
		return dz_member_join(seg);
	member_fill_in(&seg->members[member], parent);
	seg->member = member;
	atomic_store_explicit(&seg->members[member].state, DZ_MEMBER_LIVE, memory_order_release);
	return 0;
}

void dz_member_cancel_child(struct dz_seg *seg, uint32_t member)
{
	if (member >= seg->n_members)
		return;
	dz_files_drop_all(seg, member);
	atomic_store_explicit(&seg->members[member].mounts, 0, memory_order_release);
	member_set_lock(seg, member, F_OFD_SETLK, F_UNLCK);
	atomic_store_explicit(&seg->members[member].state, DZ_MEMBER_FREE, memory_order_release);
}

void dz_member_child_is(struct dz_seg *seg, uint32_t member, uint32_t pid)
{
	uint32_t none = 0;

	/* It may have filled that in itself. */
	if (member < seg->n_members)
		atomic_compare_exchange_strong(&seg->members[member].pid, &none, pid);
}

/* Our child was killed before it had adopted its record, which our description holds. */
static bool member_died_at_birth(const struct dz_seg *seg, uint32_t n)
{
	const struct dz_member *m = &seg->members[n];
	uint32_t pid = atomic_load_explicit(&m->pid, memory_order_relaxed);

	return atomic_load_explicit(&m->state, memory_order_acquire) == DZ_MEMBER_FORKING &&
	       atomic_load_explicit(&m->parent, memory_order_relaxed) == seg->member &&
	       atomic_load_explicit(&m->deadline_ms, memory_order_relaxed) <= dz_now_ms() && pid &&
	       dz_sys_kill((int)pid, 0) == -ESRCH;
}

bool dz_member_is_alive(const struct dz_seg *seg, uint32_t member)
{
	const struct dz_member *m;

	if (member == seg->member)
		return true;
	if (member == 0 || member >= seg->n_members)
		return false;
	m = &seg->members[member];
	switch (atomic_load_explicit(&m->state, memory_order_acquire)) {
	case DZ_MEMBER_FREE:
		return false;
	case DZ_MEMBER_CLAIMED:
	case DZ_MEMBER_FORKING:
		if (atomic_load_explicit(&m->deadline_ms, memory_order_relaxed) > dz_now_ms())
			return true;
		break;
	default:
		break;
	}
	return member_is_locked(seg, member);
}

void dz_member_settle_slot(struct dz_seg *seg, uint32_t n, uint64_t ctl)
{
	struct dz_slot *s = dz_dram_slot(seg, n);
	struct dz_key key = { atomic_load_explicit(&s->key_lo, memory_order_relaxed),
			      atomic_load_explicit(&s->key_hi, memory_order_relaxed) };
	uint64_t found_ctl;

	if (atomic_load_explicit(&s->valid, memory_order_acquire) &&
	    dz_index_find(seg, key, DZ_TIER_DRAM, &found_ctl) == n) {
		atomic_compare_exchange_strong(&s->ctl, &ctl,
					       dz_ctl(dz_ctl_gen(ctl), 0, DZ_SLOT_READY));
		return;
	}
	dz_index_remove(seg, key, DZ_TIER_DRAM, n);
	dz_slot_discard(seg, DZ_TIER_DRAM, n, ctl);
}

/* Its number may be another's soon, and a pin may keep the slot longer than that. */
static void member_settle_evicting(struct dz_seg *seg, enum dz_tier tier, uint32_t n, uint64_t ctl)
{
	uint64_t nobodys = dz_ctl(dz_ctl_gen(ctl), DZ_NONE, DZ_SLOT_EVICTING);

	if (atomic_compare_exchange_strong(&dz_slot_of(seg, tier, n)->ctl, &ctl, nobodys))
		dz_slot_reap(seg, tier, n, nobodys);
}

/* Its writes may still land: whoever has the disk open waits for them (on_dead), then frees. */
static void member_settle_disk_slots(struct dz_seg *seg, uint32_t dead)
{
	for (uint32_t n = 0; n < seg->n_disk_slots; n++) {
		_Atomic uint64_t *word = &seg->disk_slots[n].ctl;
		uint64_t ctl = atomic_load_explicit(word, memory_order_relaxed);

		if (dz_ctl_owner(ctl) != dead)
			continue;
		if (dz_ctl_state(ctl) == DZ_SLOT_FILLING)
			atomic_compare_exchange_strong(
				word, &ctl, dz_ctl(dz_ctl_gen(ctl), dead, DZ_SLOT_QUARANTINE));
		else if (dz_ctl_state(ctl) == DZ_SLOT_EVICTING)
			member_settle_evicting(seg, DZ_TIER_DISK, n, ctl);
	}
}

static void member_settle_slots(struct dz_seg *seg, uint32_t dead)
{
	for (uint32_t n = 0; n < seg->n_dram_slots; n++) {
		uint64_t ctl =
			atomic_load_explicit(&dz_dram_slot(seg, n)->ctl, memory_order_relaxed);

		if (dz_ctl_owner(ctl) != dead)
			continue;
		if (dz_ctl_state(ctl) == DZ_SLOT_FILLING)
			dz_member_settle_slot(seg, n, ctl);
		else if (dz_ctl_state(ctl) == DZ_SLOT_QUARANTINE)
			dz_slot_discard(seg, DZ_TIER_DRAM, n, ctl);
		else if (dz_ctl_state(ctl) == DZ_SLOT_EVICTING)
			member_settle_evicting(seg, DZ_TIER_DRAM, n, ctl);
	}
	member_settle_disk_slots(seg, dead);
}

static void member_settle_leases(struct dz_seg *seg, uint32_t dead)
{
	for (uint32_t i = 0; i < seg->n_leases; i++) {
		uint64_t word = atomic_load_explicit(&seg->leases[i].word, memory_order_acquire);

		if (dz_lease_state(word) == DZ_LEASE_ACTIVE && dz_lease_owner(word) == dead)
			dz_lease_take_over(seg, i, word, true);
	}
}

static void member_recover(struct dz_seg *seg, uint32_t n, uint32_t state)
{
	struct dz_member *m = &seg->members[n];
	bool had_slots;

	/* The dead one's lock keeps others off, also while we are stopped, not when we are killed.
	 */
	if (member_lock(seg, n) < 0)
		return;
	atomic_store_explicit(&m->deadline_ms, dz_now_ms() + CLAIM_MS, memory_order_relaxed);
	if (!atomic_compare_exchange_strong(&m->state, &state, DZ_MEMBER_CLAIMED)) {
		member_unlock(seg, n);
		return;
	}
	had_slots = atomic_load_explicit(&m->filling, memory_order_relaxed) ||
		    atomic_load_explicit(&m->is_agent, memory_order_relaxed);
	member_settle_leases(seg, n);
	if (had_slots) {
		member_settle_slots(seg, n);
		if (seg->on_dead)
			seg->on_dead(seg, n);
	}
	for (int i = 0; i < DZ_HAZARDS; i++)
		atomic_store_explicit(&m->hazard[i], 0, memory_order_relaxed);
	dz_files_drop_all(seg, n);
	member_fold_stats(seg, n);
	atomic_store_explicit(&m->filling, 0, memory_order_relaxed);
	atomic_store_explicit(&m->mounts, 0, memory_order_release);
	atomic_store_explicit(&m->is_agent, 0, memory_order_relaxed);
	atomic_store_explicit(&m->state, DZ_MEMBER_FREE, memory_order_release);
	member_unlock(seg, n);
}

void dz_member_sweep(struct dz_seg *seg, bool now)
{
	uint64_t last = atomic_load_explicit(&seg->hdr->last_sweep_ms, memory_order_relaxed);
	uint64_t t = dz_now_ms();
	uint32_t idle = 0;

	if (!now && t < last + SWEEP_MS)
		return;
	if (!atomic_compare_exchange_strong(&seg->hdr->last_sweep_ms, &last, t) && !now)
		return;
	/* A byte lock does not keep our own threads apart. */
	if (!atomic_compare_exchange_strong(&seg->is_sweeping, &idle, 1))
		return;
	for (uint32_t n = 1; n < seg->n_members; n++) {
		uint32_t state = atomic_load_explicit(&seg->members[n].state, memory_order_acquire);

		if (member_died_at_birth(seg, n))
			member_set_lock(seg, n, F_OFD_SETLK, F_UNLCK);
		if (state != DZ_MEMBER_FREE && n != seg->member && !dz_member_is_alive(seg, n))
			member_recover(seg, n, state);
	}
	dz_files_sweep(seg);
	atomic_store_explicit(&seg->is_sweeping, 0, memory_order_release);
}
