/* SPDX-License-Identifier: MIT */
/*
 * Taking a lock:
 *  1. Map the table, and take its mutex.
 *  2. Give up the lock that we have, as the kernel does, also when the next step fails.
 *  3. Look for entries of the same file that are against it; those whose owner is gone
 *     are cleared.
 *  4. None: write ours.  One: wait for a change, for 50 ms at most, and begin again.
 *
 * The mutex names the member that has it, so that who finds a dead one there takes it
 * over.  That is safe at every store: an entry counts from its last word, `fh`, on,
 * which is also the first to go.  Signals are blocked meanwhile.
 */
#include "cache/filelock.h"

#include "cache/files.h"
#include "cache/member.h"
#include "cache/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define N_LOCKS	 1023
#define WAIT_MS	 50
#define STUCK_MS 20 /* before the owner of the mutex is looked at */

struct lock_entry {
	_Atomic uint64_t fh; /* owner; 0: free */
	uint64_t key;	     /* the file */
	uint32_t mode;	     /* LOCK_SH or LOCK_EX */
	uint32_t pad;
};

struct lock_table {
	_Atomic uint64_t mutex;	  /* when it joined:32 | member + 1:32; 0: free */
	_Atomic uint32_t changes; /* what waits is a futex on it */
	uint32_t pad[3];
	struct lock_entry entries[N_LOCKS];
};
_Static_assert(sizeof(struct lock_table) == 24 * 1024, "whole pages");

static int table_fd(const struct dz_seg *seg)
{
	char name[40];
	struct stat st;
	int ret, fd;

	/* Goes with the markers, when the segment is purged. */
	snprintf(name, sizeof(name), "files.%llx.locks", (unsigned long long)seg->hdr->id);
	fd = dz_sys_openat(seg->dir_fd, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return fd;
	ret = dz_sys_fstat(fd, &st);
	/* Real memory, not a hole: no SIGBUS when the file system is full. */
	if (ret == 0 && st.st_size < (off_t)sizeof(struct lock_table))
		ret = dz_sys_fallocate(fd, 0, 0, sizeof(struct lock_table));
	if (ret < 0) {
		dz_sys_close(fd);
		return ret;
	}
	return fd;
}

static int table_map(const struct dz_seg *seg, struct lock_table **out)
{
	int ret, fd = table_fd(seg);
	void *at;

	if (fd < 0)
		return fd;
	ret = dz_sys_mmap(&at, NULL, sizeof(**out), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	dz_sys_close(fd);
	if (ret == 0)
		*out = at;
	return ret;
}

/* Numbers of members are given again: the time tells them apart. */
static uint64_t mutex_word(const struct dz_seg *seg, uint32_t member)
{
	uint64_t joined = atomic_load(&seg->members[member].joined_ms);

	return joined << 32 | (member + 1);
}

static bool mutex_is_left(const struct dz_seg *seg, uint64_t word)
{
	uint32_t member = (uint32_t)word - 1;

	return member >= seg->n_members || mutex_word(seg, member) != word ||
	       !dz_member_is_alive(seg, member);
}

/* The half of it that a futex can be. */
static _Atomic uint32_t *mutex_futex(struct lock_table *t)
{
	return (_Atomic uint32_t *)(void *)&t->mutex;
}

static void table_lock(struct dz_seg *seg, struct lock_table *t)
{
	uint64_t mine = mutex_word(seg, seg->member);

	for (;;) {
		uint64_t old = 0;

		if (atomic_compare_exchange_strong(&t->mutex, &old, mine))
			return;
		/* Woken, or it has taken too long; a thread of ours, or one stopped, is waited for.
		 */
		dz_sys_futex_wait(mutex_futex(t), (uint32_t)old, STUCK_MS);
		if (old != mine && mutex_is_left(seg, old) &&
		    atomic_compare_exchange_strong(&t->mutex, &old, mine))
			return;
	}
}

static void table_unlock(struct lock_table *t)
{
	atomic_store(&t->mutex, 0);
	dz_sys_futex_wake(mutex_futex(t), 1);
}

static void table_changed(struct lock_table *t)
{
	atomic_fetch_add(&t->changes, 1);
	dz_sys_futex_wake(&t->changes, INT32_MAX);
}

/* What `fh` has: 0, LOCK_SH, LOCK_EX.  It loses it unless that is `but`. */
static uint32_t table_drop(struct lock_table *t, uint64_t fh, uint32_t but)
{
	for (uint32_t i = 0; i < N_LOCKS; i++) {
		struct lock_entry *l = &t->entries[i];

		if (atomic_load(&l->fh) != fh)
			continue;
		if (l->mode != but)
			atomic_store(&l->fh, 0);
		return l->mode;
	}
	return 0;
}

/* Is another's lock on `key` against `mode`?  The locks of who is gone go. */
static bool table_has_conflict(struct dz_seg *seg, struct lock_table *t, uint64_t key,
			       uint32_t mode)
{
	for (uint32_t i = 0; i < N_LOCKS; i++) {
		struct lock_entry *l = &t->entries[i];
		uint64_t fh = atomic_load(&l->fh);

		if (!fh || l->key != key || (mode == LOCK_SH && l->mode == LOCK_SH))
			continue;
		if (dz_file_lives(seg, fh))
			return true;
		atomic_store(&l->fh, 0);
	}
	return false;
}

static int table_put(struct dz_seg *seg, struct lock_table *t, uint64_t fh, uint64_t key,
		     uint32_t mode)
{
	for (uint32_t i = 0; i < N_LOCKS; i++) {
		struct lock_entry *l = &t->entries[i];
		uint64_t owner = atomic_load(&l->fh);

		if (owner && dz_file_lives(seg, owner))
			continue;
		atomic_store(&l->fh, 0);
		l->key = key;
		l->mode = mode;
		/* Last: the entry counts from here on. */
		atomic_store(&l->fh, fh);
		return 0;
	}
	return -ENOLCK;
}

/* One attempt, with the mutex. */
static int lock_try(struct dz_seg *seg, struct lock_table *t, uint64_t fh, uint32_t mode)
{
	const struct dz_ofile *f = dz_file_get(seg, fh);
	uint32_t had;

	if (!f)
		return -EBADF;
	had = table_drop(t, fh, mode);
	if (had == mode || mode == LOCK_UN) {
		if (had != mode && had)
			table_changed(t);
		return 0;
	}
	if (had)
		table_changed(t);
	if (table_has_conflict(seg, t, f->ino, mode))
		return -EWOULDBLOCK;
	return table_put(seg, t, fh, f->ino, mode);
}

static int lock_try_alone(struct dz_seg *seg, struct lock_table *t, uint64_t fh, uint32_t mode)
{
	uint64_t all = ~(uint64_t)0, old;
	int r;

	dz_sys_4(SYS_rt_sigprocmask, SIG_SETMASK, &all, &old, sizeof(all));
	table_lock(seg, t);
	r = lock_try(seg, t, fh, mode);
	table_unlock(t);
	dz_sys_4(SYS_rt_sigprocmask, SIG_SETMASK, &old, NULL, sizeof(old));
	return r;
}

static int lock_in(struct dz_seg *seg, struct lock_table *t, uint64_t fh, int op)
{
	uint32_t mode = (uint32_t)(op & ~LOCK_NB);
	uint32_t seen = atomic_load(&t->changes);
	int r = lock_try_alone(seg, t, fh, mode);

	/* Before anything is refused: has the one who has it been killed? */
	while (r == -EWOULDBLOCK) {
		dz_member_sweep(seg, true);
		seen = atomic_load(&t->changes);
		r = lock_try_alone(seg, t, fh, mode);
		if (r != -EWOULDBLOCK || (op & LOCK_NB))
			break;
		if (dz_sys_futex_wait(&t->changes, seen, WAIT_MS) == -EINTR)
			return -EINTR;
	}
	return r;
}

int dz_filelock(struct dz_seg *seg, uint64_t fh, int op)
{
	int mode = op & ~LOCK_NB;
	struct lock_table *t;
	int r;

	if (mode != LOCK_SH && mode != LOCK_EX && mode != LOCK_UN)
		return -EINVAL;
	if (seg->is_private || seg->is_read_only || seg->dir_fd < 0 ||
	    seg->member >= seg->n_members || table_map(seg, &t) < 0)
		return mode == LOCK_EX ? -ENOLCK : 0;
	r = lock_in(seg, t, fh, op);
	dz_sys_munmap(t, sizeof(*t));
	return r;
}

void dz_filelock_wake(struct dz_seg *seg)
{
	struct lock_table *t;

	if (seg->is_private || seg->is_read_only || seg->dir_fd < 0 || table_map(seg, &t) < 0)
		return;
	table_changed(t);
	dz_sys_munmap(t, sizeof(*t));
}
