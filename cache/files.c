// SPDX-License-Identifier: MIT
/*
 * See files.h.  The life of a description:
 *
 *     free -> opening -> open -> free        (generation + 1 at the last arrow)
 *
 * The last arrow, when it was shared: state freeing, then a look at every
 * member's bitmap, then free or back to open.  A process that finds the marker
 * sets its bit first and looks at the state afterwards, so one of the two sees
 * the other.
 *
 * In opening and freeing, and in open while it is not shared, the word names the
 * member at work: only when that one is gone does anybody else touch it.  Killed
 * anywhere, it is found by the sweeper from the word alone, bit or no bit.
 */
#include "cache/files.h"

#include "cache/marker.h"
#include "cache/member.h"
#include "cache/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define ARRIVE_MS    5000
#define LOCK_EXEC_MS 1000 /* an exec takes no longer, for who waits for a lock */
#define FILE_SHARED  0x100u
#define FILE_FREEING 3u /* beyond enum dz_file_state: private to this file */

static uint64_t file_ctl(uint32_t gen, uint32_t owner, uint32_t shared, uint32_t state)
{
	return (uint64_t)gen << 32 | (uint64_t)(owner & 0xffff) << 16 | shared | state;
}

static uint32_t file_owner(uint64_t ctl)
{
	return (uint32_t)(ctl >> 16) & 0xffff;
}

/* Its opener alone may hold it. */
static bool file_is_private(uint64_t ctl)
{
	return dz_file_state(ctl) == DZ_FILE_OPENING ||
	       (dz_file_state(ctl) == DZ_FILE_OPEN && !(ctl & FILE_SHARED));
}

static uint64_t file_freed(uint64_t ctl)
{
	return file_ctl(dz_file_gen(ctl) + 1, 0, 0, DZ_FILE_FREE);
}

static _Atomic uint64_t *file_held_word(const struct dz_seg *seg, uint32_t member, uint32_t n)
{
	return &seg->held[(size_t)member * seg->held_words + n / 64];
}

static void file_hold(struct dz_seg *seg, uint32_t member, uint32_t n)
{
	if (member < seg->n_members)
		atomic_fetch_or_explicit(file_held_word(seg, member, n), 1ull << (n % 64),
					 memory_order_seq_cst);
}

static void file_unhold(struct dz_seg *seg, uint32_t member, uint32_t n)
{
	if (member < seg->n_members)
		atomic_fetch_and_explicit(file_held_word(seg, member, n), ~(1ull << (n % 64)),
					  memory_order_seq_cst);
}

static bool file_is_held(const struct dz_seg *seg, uint32_t n)
{
	for (uint32_t m = 0; m < dz_members_high(seg); m++) {
		if (atomic_load_explicit(file_held_word(seg, m, n), memory_order_seq_cst) &
		    (1ull << (n % 64)))
			return true;
	}
	return false;
}

static uint32_t file_try_alloc(struct dz_seg *seg)
{
	uint64_t hint = atomic_fetch_add_explicit(&seg->hdr->file_hint, 1, memory_order_relaxed);

	for (uint32_t i = 0; i < seg->n_files; i++) {
		uint32_t n = (uint32_t)((hint + i) % seg->n_files);
		_Atomic uint64_t *ctl = &seg->files[n].ctl;
		uint64_t old = atomic_load_explicit(ctl, memory_order_relaxed);

		if (dz_file_state(old) != DZ_FILE_FREE)
			continue;
		if (atomic_compare_exchange_strong(
			    ctl, &old,
			    file_ctl(dz_file_gen(old), seg->member, 0, DZ_FILE_OPENING))) {
			if (i > 0)
				atomic_store_explicit(&seg->hdr->file_hint, hint + i + 1,
						      memory_order_relaxed);
			/* Without a directory the inode of its former marker is not its own. */
			if (seg->dir_fd < 0)
				atomic_store_explicit(&seg->files[n].marker_ino, 0,
						      memory_order_relaxed);
			file_hold(seg, seg->member, n);
			return n;
		}
	}
	return DZ_NONE;
}

uint32_t dz_file_alloc(struct dz_seg *seg)
{
	uint32_t n = file_try_alloc(seg);

	if (n == DZ_NONE) {
		dz_member_sweep(seg, true);
		n = file_try_alloc(seg);
	}
	return n;
}

uint64_t dz_file_ready(struct dz_seg *seg, uint32_t n)
{
	uint64_t ctl = atomic_load_explicit(&seg->files[n].ctl, memory_order_relaxed);

	/*
	 * A child that is forked just now may hold it already, and have made it shared.
	 * Release: pairs with the acquire in dz_file_get().
	 */
	while (!atomic_compare_exchange_weak_explicit(
		&seg->files[n].ctl, &ctl,
		file_ctl(dz_file_gen(ctl), seg->member, ctl & FILE_SHARED, DZ_FILE_OPEN),
		memory_order_release, memory_order_relaxed))
		;
	return dz_fh_make(n, dz_file_gen(ctl));
}

/*
 * Shared and open, or in freeing by one who is gone: free, if nobody holds it.
 * `ctl` is its word as seen.
 */
static void file_try_free_shared(struct dz_seg *seg, uint32_t n, uint64_t ctl)
{
	struct dz_ofile *f = &seg->files[n];
	uint64_t freeing = file_ctl(dz_file_gen(ctl), seg->member, FILE_SHARED, FILE_FREEING);
	uint64_t open = file_ctl(dz_file_gen(ctl), 0, FILE_SHARED, DZ_FILE_OPEN);

	if (dz_file_state(ctl) == FILE_FREEING && dz_member_is_alive(seg, file_owner(ctl)))
		return;
	if (dz_file_state(ctl) == DZ_FILE_OPEN &&
	    (atomic_load_explicit(&f->handover_ms, memory_order_seq_cst) > dz_now_ms() ||
	     file_is_held(seg, n)))
		return;
	if (!atomic_compare_exchange_strong(&f->ctl, &ctl, freeing))
		return;
	atomic_thread_fence(memory_order_seq_cst);
	if (file_is_held(seg, n) ||
	    atomic_load_explicit(&f->handover_ms, memory_order_seq_cst) > dz_now_ms()) {
		atomic_compare_exchange_strong(&f->ctl, &freeing, open);
		return;
	}
	dz_marker_forget_own(seg, n, dz_file_gen(freeing));
	atomic_compare_exchange_strong(&f->ctl, &freeing, file_freed(freeing));
}

void dz_file_drop(struct dz_seg *seg, uint64_t fh)
{
	struct dz_ofile *f = dz_file_get(seg, fh);
	uint32_t n = (uint32_t)fh - 1;
	uint64_t ctl;

	if (!f)
		return;
	/* First, so that the bit never names another's; once, for the same reason. */
	file_unhold(seg, seg->member, n);
	ctl = atomic_load_explicit(&f->ctl, memory_order_acquire);
	if (dz_file_gen(ctl) != (uint32_t)(fh >> 32))
		return;
	/*
	 * Another's: a thread of our parent opened it between the copy of the descriptors
	 * and that of the memory, and the number in our table is not ours.
	 */
	if (file_is_private(ctl) && file_owner(ctl) != (seg->member & 0xffff))
		return;
	if (file_is_private(ctl) && atomic_compare_exchange_strong(&f->ctl, &ctl, file_freed(ctl)))
		return;
	if (dz_file_gen(ctl) == (uint32_t)(fh >> 32) && dz_file_state(ctl) == DZ_FILE_OPEN)
		file_try_free_shared(seg, n, ctl);
}

void dz_file_share(struct dz_seg *seg, uint64_t fh, uint64_t handover_ms)
{
	struct dz_ofile *f = dz_file_get(seg, fh);

	if (!f)
		return;
	if (handover_ms)
		atomic_store_explicit(&f->handover_ms, dz_now_ms() + handover_ms,
				      memory_order_seq_cst);
	atomic_fetch_or_explicit(&f->ctl, FILE_SHARED, memory_order_seq_cst);
}

/* Without a directory: the inode of a socket that is closed again. */
static int file_anonymous_marker(int flags)
{
	char path[40];
	long sock = dz_sys_3(SYS_socket, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int fd;

	if (sock < 0)
		return (int)sock;
	snprintf(path, sizeof(path), "/proc/self/fd/%ld", sock);
	fd = dz_sys_open(path, flags & ~O_NOFOLLOW, 0);
	dz_sys_close((int)sock);
	return fd;
}

int dz_file_marker(struct dz_seg *seg, uint64_t fh, bool cloexec)
{
	int flags = O_PATH | O_NOFOLLOW | (cloexec ? O_CLOEXEC : 0);
	struct dz_ofile *f = dz_file_get(seg, fh);
	struct stat st;
	int fd, ret;

	if (!f)
		return -EBADF;
	fd = seg->dir_fd < 0 ? file_anonymous_marker(flags)
			     : dz_marker_open(seg, (uint32_t)fh - 1, flags);
	if (fd < 0)
		return fd;
	if (seg->dir_fd >= 0 && atomic_load_explicit(&f->marker_ino, memory_order_relaxed))
		return fd;
	ret = dz_sys_fstat(fd, &st);
	if (ret < 0) {
		dz_sys_close(fd);
		return ret;
	}
	atomic_store_explicit(&f->marker_ino, (uint64_t)st.st_ino, memory_order_release);
	return fd;
}

/* The descriptor of one that may be used by another program from now on. */
static int file_put_own_marker(struct dz_seg *seg, uint32_t n, uint32_t gen, int fd)
{
	long flags = dz_sys_2(SYS_fcntl, fd, F_GETFD), ret;
	int own;

	if (flags < 0)
		return (int)flags;
	own = dz_marker_open_own(seg, n, gen, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (own < 0)
		return own;
	ret = dz_sys_3(SYS_dup3, own, fd, flags & FD_CLOEXEC ? O_CLOEXEC : 0);
	dz_sys_close(own);
	return ret < 0 ? (int)ret : 0;
}

int dz_file_hand_over(struct dz_seg *seg, uint64_t fh, int fd, uint64_t ms)
{
	uint32_t n = (uint32_t)fh - 1, gen = (uint32_t)(fh >> 32);
	struct dz_marker m;

	if (!dz_file_get(seg, fh))
		return -EBADF;
	dz_file_share(seg, fh, ms);
	if (seg->dir_fd < 0)
		return 0;
	/* What the table says of a child's descriptor may be its parent's. */
	if (!dz_marker_of_fd(seg, fd, &m) || m.n != n || (m.is_own && m.gen != gen))
		return -EBADF;
	return m.is_own ? 0 : file_put_own_marker(seg, n, gen, fd);
}

/* Without a directory each open has an inode of its own. */
static bool file_by_inode(const struct dz_seg *seg, uint64_t ino, struct dz_marker *m)
{
	for (uint32_t n = 0; n < seg->n_files; n++) {
		if (atomic_load_explicit(&seg->files[n].marker_ino, memory_order_relaxed) != ino)
			continue;
		m->n = n;
		m->gen =
			dz_file_gen(atomic_load_explicit(&seg->files[n].ctl, memory_order_acquire));
		m->is_own = true;
		/* The inode again: it belongs to this generation, not to the one before. */
		return atomic_load_explicit(&seg->files[n].marker_ino, memory_order_relaxed) == ino;
	}
	return false;
}

/* The description that a marker names, if it is one that may be found by it. */
static bool file_of_marker(const struct dz_seg *seg, int fd, struct dz_marker *m)
{
	struct stat st;

	if (dz_sys_fstat(fd, &st) < 0 || !S_ISSOCK(st.st_mode))
		return false;
	if (seg->dir_fd < 0)
		return file_by_inode(seg, (uint64_t)st.st_ino, m);
	return dz_marker_of_fd(seg, fd, m) && m->is_own;
}

/* After exec the new image holds it.  Others may be on their way yet, but not for long. */
static void file_arrive(struct dz_ofile *f)
{
	uint64_t soon = dz_now_ms() + ARRIVE_MS;

	if (atomic_load_explicit(&f->handover_ms, memory_order_relaxed) > soon)
		atomic_store_explicit(&f->handover_ms, soon, memory_order_seq_cst);
}

/* Its word once nobody is about to free it: we hold it. */
static uint64_t file_settled(struct dz_seg *seg, uint32_t n)
{
	_Atomic uint64_t *word = &seg->files[n].ctl;
	uint64_t ctl = atomic_load_explicit(word, memory_order_seq_cst);

	/* The freer looks again at the bits: it puts the file back to open, soon. */
	for (int i = 0; i < 1000 && dz_file_state(ctl) == FILE_FREEING; i++)
		ctl = atomic_load_explicit(word, memory_order_seq_cst);
	if (dz_file_state(ctl) == FILE_FREEING) { /* killed there: we hold it, so it opens again */
		file_try_free_shared(seg, n, ctl);
		ctl = atomic_load_explicit(word, memory_order_seq_cst);
	}
	return ctl;
}

int dz_file_resolve(struct dz_seg *seg, int fd, uint64_t *fh)
{
	struct dz_marker m;
	uint64_t ctl;
	bool was_held;

	if (seg->member >= seg->n_members || !file_of_marker(seg, fd, &m))
		return -EBADF;
	was_held =
		atomic_load_explicit(file_held_word(seg, seg->member, m.n), memory_order_relaxed) &
		(1ull << (m.n % 64));
	file_hold(seg, seg->member, m.n);
	atomic_thread_fence(memory_order_seq_cst);
	ctl = file_settled(seg, m.n);
	*fh = dz_fh_make(m.n, m.gen);
	if (dz_file_state(ctl) == DZ_FILE_OPEN && dz_file_gen(ctl) == m.gen) {
		dz_file_share(seg, *fh, 0);
		file_arrive(&seg->files[m.n]);
		/* It was not shared before: its only holder may have freed it just then. */
		if (dz_file_get(seg, *fh))
			return 0;
	}
	if (!was_held)
		file_unhold(seg, seg->member, m.n);
	return -EBADF;
}

void dz_files_inherit(struct dz_seg *seg, uint32_t from, uint32_t to)
{
	for (uint32_t w = 0; w < seg->held_words; w++) {
		uint64_t bits = atomic_load_explicit(&seg->held[(size_t)from * seg->held_words + w],
						     memory_order_relaxed);
		_Atomic uint64_t *copy = &seg->held[(size_t)to * seg->held_words + w];

		/* Most are empty, and a store that orders is what takes the time. */
		if (atomic_load_explicit(copy, memory_order_relaxed) != bits)
			atomic_store_explicit(copy, bits, memory_order_seq_cst);
		for (; bits; bits &= bits - 1) {
			uint32_t n = w * 64 + (uint32_t)__builtin_ctzll(bits);

			if (n < seg->n_files)
				atomic_fetch_or_explicit(&seg->files[n].ctl, FILE_SHARED,
							 memory_order_seq_cst);
		}
	}
}

/* One description that a departing member held. */
static void file_drop_of(struct dz_seg *seg, uint32_t member, uint32_t n)
{
	struct dz_ofile *f = &seg->files[n];
	uint64_t ctl = atomic_load_explicit(&f->ctl, memory_order_acquire);

	file_unhold(seg, member, n);
	if (file_is_private(ctl)) {
		if (file_owner(ctl) == member)
			atomic_compare_exchange_strong(&f->ctl, &ctl, file_freed(ctl));
	} else if (dz_file_state(ctl) != DZ_FILE_FREE) {
		file_try_free_shared(seg, n, ctl);
	}
}

void dz_files_drop_all(struct dz_seg *seg, uint32_t member)
{
	for (uint32_t w = 0; w < seg->held_words; w++) {
		uint64_t bits = atomic_load_explicit(
			&seg->held[(size_t)member * seg->held_words + w], memory_order_relaxed);

		for (; bits; bits &= bits - 1) {
			uint32_t n = w * 64 + (uint32_t)__builtin_ctzll(bits);

			if (n < seg->n_files)
				file_drop_of(seg, member, n);
		}
	}
}

/* Has the owner of a private one left without it?  A number that is not in use does not lie. */
static bool file_is_orphan(const struct dz_seg *seg, uint64_t ctl)
{
	uint32_t owner = file_owner(ctl);

	return owner < seg->n_members &&
	       atomic_load_explicit(&seg->members[owner].state, memory_order_acquire) ==
		       DZ_MEMBER_FREE;
}

bool dz_file_lives(const struct dz_seg *seg, uint64_t fh)
{
	const struct dz_ofile *f = dz_file_get(seg, fh);
	uint64_t until, now = dz_now_ms();
	uint64_t age;

	if (!f)
		return false;
	until = atomic_load_explicit(&f->handover_ms, memory_order_seq_cst);
	if (file_is_held(seg, (uint32_t)fh - 1))
		return true;
	/* When it was given away, or when somebody took it, is told by how long is left. */
	age = until - now > ARRIVE_MS ? DZ_HANDOVER_MS - (until - now) : ARRIVE_MS - (until - now);
	return until > now && age < LOCK_EXEC_MS;
}

void dz_files_sweep(struct dz_seg *seg)
{
	for (uint32_t n = 0; n < seg->n_files; n++) {
		_Atomic uint64_t *word = &seg->files[n].ctl;
		uint64_t ctl = atomic_load_explicit(word, memory_order_acquire);

		if (file_is_private(ctl)) {
			if (file_is_orphan(seg, ctl))
				atomic_compare_exchange_strong(word, &ctl, file_freed(ctl));
		} else if (dz_file_state(ctl) != DZ_FILE_FREE) {
			file_try_free_shared(seg, n, ctl);
		}
	}
}
