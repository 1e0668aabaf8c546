/* SPDX-License-Identifier: MIT */
/*
 * Disk I/O of one thread.  dz_ring_start() queues; dz_ring_wait() hands
 * everything queued to the kernel and sleeps until something ended, one system
 * call for both.
 *
 * The ladder, from what we want to what always works:
 *   1. a ring that never had a descriptor (NO_MMAP | REGISTERED_FD_ONLY, 6.5):
 *      nothing that the program could close, no low number taken even briefly;
 *   2. a ring registered with the thread, its descriptor closed again (5.18);
 *   3. a ring with a high descriptor (5.6);
 *   4. pread and pwrite, at once, in dz_ring_start().
 *
 * Memory is three pieces: the struct, which a forked child inherits as a copy; a
 * page with the owner's thread id, which the kernel wipes in a child (so even a
 * raw clone, or a child with the same id in another PID namespace, knows that
 * the ring is not its own); and the queues, which a child does not get at all.
 * A ring in the wrong hands does its I/O synchronously and leaves the queues
 * alone.  If the kernel takes the ring away, so does the owner's.
 */
#include "cache/ring.h"

#include "cache/fd.h"
#include "cache/sys.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#include <liburing.h>

/* Newer than liburing 2.3, which Debian 12 has. */
#define RING_SETUP_NO_MMAP	      (1U << 14)
#define RING_SETUP_REGISTERED_FD_ONLY (1U << 15)
#define RING_REGISTER_BY_INDEX	      (1U << 31)
/* liburing's private mark for "enter_ring_fd is an index". */
#define RING_INT_REGISTERED 1

/* The pieces lie this far apart: a page of any size. */
#define RING_STRIDE 65536u
#define RING_BYTES  (4u * RING_STRIDE)
/* Entries: the submission queue (64 bytes each) fits a page, as NO_MMAP wants. */
#define RING_DEPTH_MAX 32u

struct dz_ring {
	struct io_uring uring;
	_Atomic uint32_t *owner_tid; /* in a page that fork wipes */
	uint32_t depth;
	uint32_t n_flying; /* given to io_uring, not reported; lost ones for ever */
	uint32_t n_ended;  /* done synchronously, not reported */
	int kept_fd;	   /* rung 3; else -1 */
	bool is_uring;
	bool is_mapped; /* liburing mapped the queues (rungs 2 and 3) */
};

static void *ring_piece(struct dz_ring *ring, unsigned int i)
{
	return (uint8_t *)ring + i * RING_STRIDE;
}

/* The address fields are the last of both structs; liburing 2.3 calls them resv2. */
static void ring_set_addr(void *offsets, size_t size, const void *addr)
{
	uint64_t value = (uintptr_t)addr;

	memcpy((uint8_t *)offsets + size - sizeof(value), &value, sizeof(value));
}

/* What io_uring_queue_mmap() does, on memory that is ours already. */
static void ring_lay_out(struct io_uring *u, const struct io_uring_params *p, void *sqes,
			 uint8_t *base)
{
	struct io_uring_sq *sq = &u->sq;
	struct io_uring_cq *cq = &u->cq;

	sq->khead = (unsigned int *)(void *)(base + p->sq_off.head);
	sq->ktail = (unsigned int *)(void *)(base + p->sq_off.tail);
	sq->kflags = (unsigned int *)(void *)(base + p->sq_off.flags);
	sq->kdropped = (unsigned int *)(void *)(base + p->sq_off.dropped);
	sq->array = (unsigned int *)(void *)(base + p->sq_off.array);
	sq->ring_mask = *(unsigned int *)(void *)(base + p->sq_off.ring_mask);
	sq->ring_entries = *(unsigned int *)(void *)(base + p->sq_off.ring_entries);
	sq->sqes = sqes;
	cq->khead = (unsigned int *)(void *)(base + p->cq_off.head);
	cq->ktail = (unsigned int *)(void *)(base + p->cq_off.tail);
	cq->koverflow = (unsigned int *)(void *)(base + p->cq_off.overflow);
	cq->cqes = (struct io_uring_cqe *)(void *)(base + p->cq_off.cqes);
	cq->ring_mask = *(unsigned int *)(void *)(base + p->cq_off.ring_mask);
	cq->ring_entries = *(unsigned int *)(void *)(base + p->cq_off.ring_entries);
	for (unsigned int i = 0; i < sq->ring_entries; i++)
		sq->array[i] = i;
	u->flags = p->flags;
	u->features = p->features;
}

/* Rung 1.  Returns 0 or -errno. */
static int ring_set_up_bare(struct dz_ring *ring)
{
	struct io_uring_params p = {
		.flags = RING_SETUP_NO_MMAP | RING_SETUP_REGISTERED_FD_ONLY |
			 IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
	};
	long index;

	ring_set_addr(&p.sq_off, sizeof(p.sq_off), ring_piece(ring, 2));
	ring_set_addr(&p.cq_off, sizeof(p.cq_off), ring_piece(ring, 3));
	index = dz_sys_2(SYS_io_uring_setup, ring->depth, &p);
	if (index < 0)
		return (int)index;
	ring_lay_out(&ring->uring, &p, ring_piece(ring, 2), ring_piece(ring, 3));
	ring->uring.ring_fd = -1;
	ring->uring.enter_ring_fd = (int)index;
	ring->uring.int_flags |= RING_INT_REGISTERED;
	return 0;
}

/* Rungs 2 and 3: after each refusal with fewer wishes. */
static int ring_set_up_mapped(struct dz_ring *ring)
{
	static const unsigned int wishes[] = {
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN,
		IORING_SETUP_COOP_TASKRUN,
		0,
	};
	int ret = -EINVAL;

	for (size_t i = 0; ret == -EINVAL && i < DZ_ARRAY_LEN(wishes); i++) {
		struct io_uring_params p = { .flags = wishes[i] };

		ret = io_uring_queue_init_params(ring->depth, &ring->uring, &p);
	}
	if (ret < 0)
		return ret;
	ring->is_mapped = true;
	io_uring_ring_dontfork(&ring->uring);
	if (io_uring_register_ring_fd(&ring->uring) == 1) {
		dz_sys_close(ring->uring.ring_fd);
		ring->uring.ring_fd = -1;
		return 0;
	}
	ring->kept_fd = dz_fd_raise(ring->uring.ring_fd);
	ring->uring.ring_fd = ring->kept_fd;
	ring->uring.enter_ring_fd = ring->kept_fd;
	return 0;
}

int dz_ring_new(struct dz_ring **out, uint32_t depth, bool no_uring)
{
	struct dz_ring *ring;
	void *mem;

	if (dz_sys_mmap(&mem, NULL, RING_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			-1, 0) < 0)
		return -ENOMEM;
	ring = mem;
	ring->depth = depth == 0 ? 1 : (uint32_t)dz_min_u64(depth, RING_DEPTH_MAX);
	ring->kept_fd = -1;
	ring->owner_tid = ring_piece(ring, 1);
	/* Without the wipe (before 4.14) a child is known by its thread id alone. */
	dz_sys_3(SYS_madvise, ring->owner_tid, RING_STRIDE, MADV_WIPEONFORK);
	atomic_store_explicit(ring->owner_tid, (uint32_t)dz_sys_gettid(), memory_order_relaxed);
	dz_sys_3(SYS_madvise, ring_piece(ring, 2), 2 * RING_STRIDE, MADV_DONTFORK);
	if (!no_uring)
		ring->is_uring = ring_set_up_bare(ring) == 0 || ring_set_up_mapped(ring) == 0;
	*out = ring;
	return 0;
}

bool dz_ring_is_ours(const struct dz_ring *ring)
{
	return atomic_load_explicit(ring->owner_tid, memory_order_relaxed) ==
	       (uint32_t)dz_sys_gettid();
}

bool dz_ring_is_inherited(const struct dz_ring *ring)
{
	return atomic_load_explicit(ring->owner_tid, memory_order_relaxed) == 0;
}

bool dz_ring_is_uring(const struct dz_ring *ring)
{
	return ring->is_uring;
}

int dz_ring_fd(const struct dz_ring *ring)
{
	return ring->kept_fd;
}

uint32_t dz_ring_in_flight(const struct dz_ring *ring)
{
	return ring->n_flying + ring->n_ended;
}

static void ring_done(struct dz_io *io, int32_t res)
{
	io->res = res;
	io->took_ms = dz_now_ms() - io->took_ms;
	io->is_done = true;
}

/* Does what is left of `io` after its first `done` bytes, here and now. */
static void ring_do_now(struct dz_io *io, uint32_t done)
{
	ssize_t n = 1;

	while (done < io->len && n != 0) {
		uint8_t *buf = (uint8_t *)io->buf + done;

		if (io->is_write)
			n = dz_sys_pwrite(io->fd, buf, io->len - done, io->off + done);
		else
			n = dz_sys_pread(io->fd, buf, io->len - done, io->off + done);
		if (n == -EINTR || n == -EAGAIN)
			continue;
		if (n < 0) {
			ring_done(io, (int32_t)n);
			return;
		}
		done += (uint32_t)n;
	}
	ring_done(io, (int32_t)done);
}

int dz_ring_start(struct dz_ring *ring, struct dz_io *io)
{
	struct io_uring_sqe *sqe = NULL;

	if (!ring->is_uring && ring->n_flying > 0)
		return -EIO;
	if (dz_ring_in_flight(ring) >= ring->depth)
		return -EBUSY;
	io->is_done = false;
	io->res = 0;
	io->took_ms = dz_now_ms(); /* until it is done: when it began */
	if (ring->is_uring && dz_ring_is_ours(ring))
		sqe = io_uring_get_sqe(&ring->uring);
	if (!sqe) {
		ring_do_now(io, 0);
		ring->n_ended++;
		return 0;
	}
	if (io->is_write)
		io_uring_prep_write(sqe, io->fd, io->buf, io->len, io->off);
	else
		io_uring_prep_read(sqe, io->fd, io->buf, io->len, io->off);
	io_uring_sqe_set_data(sqe, io);
	ring->n_flying++;
	return 0;
}

/* A signal, or the device's queue was full: not the last word. */
static bool ring_is_passing(int32_t res)
{
	return res == -EINTR || res == -EAGAIN;
}

static void ring_finish(struct dz_io *io, int32_t res)
{
	if (res > 0 && (uint32_t)res < io->len) {
		ring_do_now(io, (uint32_t)res);
	} else if (ring_is_passing(res)) {
		ring_do_now(io, 0);
	} else {
		ring_done(io, res);
	}
}

/* Takes what has ended off the completion queue; returns how many. */
static uint32_t ring_reap(struct dz_ring *ring)
{
	struct io_uring_cqe *cqes[RING_DEPTH_MAX];
	uint32_t n = io_uring_peek_batch_cqe(&ring->uring, cqes, RING_DEPTH_MAX);

	for (uint32_t i = 0; i < n; i++)
		ring_finish(io_uring_cqe_get_data(cqes[i]), cqes[i]->res);
	io_uring_cq_advance(&ring->uring, n);
	ring->n_flying -= n;
	return n;
}

/*
 * The kernel took the ring away: does what it had not fetched from the queue
 * yet.  Returns how many ended.
 */
static uint32_t ring_give_up(struct dz_ring *ring)
{
	const struct io_uring_sq *sq = &ring->uring.sq;
	uint32_t n = 0;

	ring->is_uring = false;
	/* Pairs with the kernel's store of the head after it copied an entry. */
	for (unsigned int i = io_uring_smp_load_acquire(sq->khead); i != sq->sqe_tail; i++) {
		ring_do_now((struct dz_io *)(uintptr_t)sq->sqes[i & sq->ring_mask].user_data, 0);
		n++;
	}
	ring->n_flying -= n;
	return n;
}

int dz_ring_wait(struct dz_ring *ring)
{
	uint32_t n = ring->n_ended;

	ring->n_ended = 0;
	if (n > 0 || ring->n_flying == 0 || !dz_ring_is_ours(ring))
		return (int)n;
	for (;;) {
		int ret;

		n = ring_reap(ring);
		if (n > 0)
			return (int)n;
		if (!ring->is_uring)
			return -EBADF;
		ret = io_uring_submit_and_wait(&ring->uring, 1);
		if (ret < 0 && ret != -EBUSY && !ring_is_passing(ret)) {
			n = ring_give_up(ring);
			return n > 0 ? (int)n : ret;
		}
	}
}

void dz_ring_kick(struct dz_ring *ring)
{
	/* An error shows at the wait. */
	if (ring->is_uring && ring->n_flying > 0 && dz_ring_is_ours(ring))
		io_uring_submit(&ring->uring);
}

/* Takes the ring out of the thread's table; its last reference goes with it. */
static void ring_unregister(struct dz_ring *ring)
{
	struct io_uring_rsrc_update up = { .offset = (uint32_t)ring->uring.enter_ring_fd };
	struct io_uring_params p = { 0 };
	int fd;

	if (dz_sys_4(SYS_io_uring_register, ring->uring.enter_ring_fd,
		     IORING_UNREGISTER_RING_FDS | RING_REGISTER_BY_INDEX, &up, 1) == 1)
		return;
	/* Before 6.3 that call wants a descriptor, of any ring. */
	fd = (int)dz_sys_2(SYS_io_uring_setup, 1, &p);
	if (fd < 0)
		return;
	dz_sys_4(SYS_io_uring_register, fd, IORING_UNREGISTER_RING_FDS, &up, 1);
	dz_sys_close(fd);
}

static void ring_unmap_queues(struct dz_ring *ring)
{
	struct io_uring *u = &ring->uring;

	dz_sys_munmap(u->sq.sqes, u->sq.ring_entries * sizeof(struct io_uring_sqe));
	if (u->cq.ring_ptr != u->sq.ring_ptr)
		dz_sys_munmap(u->cq.ring_ptr, u->cq.ring_sz);
	dz_sys_munmap(u->sq.ring_ptr, u->sq.ring_sz);
}

/*
 * A forked child has the struct and the wiped page only: what lies at the
 * addresses of the queues, if anything, is the child's own by now.
 */
void dz_ring_abandon(struct dz_ring *ring)
{
	bool is_child;

	if (!ring)
		return;
	is_child = dz_ring_is_inherited(ring);
	if (ring->is_mapped && !is_child)
		ring_unmap_queues(ring);
	if (ring->kept_fd >= 0)
		dz_sys_close(ring->kept_fd);
	dz_sys_munmap(ring, is_child ? RING_STRIDE * 2 : RING_BYTES);
}

void dz_ring_free(struct dz_ring *ring)
{
	if (ring && dz_ring_is_ours(ring)) {
		while (dz_ring_in_flight(ring) > 0 && dz_ring_wait(ring) > 0)
			;
		if (ring->uring.int_flags & RING_INT_REGISTERED)
			ring_unregister(ring);
	}
	dz_ring_abandon(ring);
}
