/* SPDX-License-Identifier: MIT */
/*
 * libaio: a read of a managed file is done when it is submitted, and its event
 * waits in a table of this process until it is asked for.  Everything else is the
 * kernel's system call, whose results libaio gives as they are: -errno.
 *
 * A thread may sleep in the kernel for an event while another submits a read of
 * ours.  Once a context has had one, waiting is done in slices of 10 ms.
 */
#define DZ_IN_libaio 1
#include <linux/aio_abi.h>
#include <string.h>
#include <time.h>

#include "shim/hooks.h"
#include "shim/opath.h"
#include "shim/real.h"

#define EVENTS	 1024
#define SLICE_NS 10000000L

enum { EVENT_FREE, EVENT_BUSY, EVENT_READY };

static struct event {
	_Atomic uint32_t state;
	aio_context_t context;
	struct io_event event;
} events[EVENTS];
static _Atomic uint32_t events_ready;
static _Atomic bool has_had_ours;

static bool event_claim(struct event *e, uint32_t from)
{
	return atomic_compare_exchange_strong(&e->state, &from, EVENT_BUSY);
}

static struct event *event_new(void)
{
	for (size_t i = 0; i < EVENTS; i++)
		if (events[i].state == EVENT_FREE && event_claim(&events[i], EVENT_FREE))
			return &events[i];
	return NULL;
}

static long read_now(dz_fh fh, const struct iocb *cb)
{
	const struct iovec *iov = (const void *)(uintptr_t)cb->aio_buf;
	uint64_t off = (uint64_t)cb->aio_offset;
	long r;

	if (dz_is_opath(fh))
		return -EBADF;
	if (cb->aio_lio_opcode == IOCB_CMD_PREAD)
		r = dz_engine_pread(dz_engine, fh, (void *)(uintptr_t)cb->aio_buf, cb->aio_nbytes,
				    off);
	else if (cb->aio_lio_opcode == IOCB_CMD_PREADV)
		r = dz_engine_preadv(dz_engine, fh, iov, (int)cb->aio_nbytes, off);
	else
		return -EINVAL;
	return r == -ESTALE ? -EIO : r;
}

/* 1 and an event to come, or -errno as io_submit(2) gives it for the first block. */
static long submit_ours(aio_context_t context, struct iocb *cb, dz_fh fh)
{
	uint16_t op = cb->aio_lio_opcode;
	uint64_t one = 1;
	struct event *e;

	if (op == IOCB_CMD_PWRITE || op == IOCB_CMD_PWRITEV)
		return -EBADF;
	if (cb->aio_offset < 0)
		return -EINVAL;
	e = event_new();
	if (!e)
		return -EAGAIN;
	e->context = context;
	e->event = (struct io_event){ .data = cb->aio_data, .obj = (uint64_t)(uintptr_t)cb };
	e->event.res = op == IOCB_CMD_FSYNC || op == IOCB_CMD_FDSYNC ? 0 : read_now(fh, cb);
	has_had_ours = true;
	atomic_store(&e->state, EVENT_READY);
	atomic_fetch_add(&events_ready, 1);
	if (cb->aio_flags & IOCB_FLAG_RESFD)
		dz_sys_write((int)cb->aio_resfd, &one, sizeof(one));
	dz_done(DZ_CALL_io_submit, e->event.res);
	return 1;
}

/* How many from the first on have nothing to do with us, at most n. */
static long count_kernel(struct iocb **list, long n)
{
	long k = 0;

	while (k < n && !dz_fd_get((int)list[k]->aio_fildes))
		k++;
	return k;
}

DZ_DOOR(int, io_submit, aio_context_t context, long n, struct iocb **list)
{
	long done = 0, r = 0;

	if (n <= 0 || dz_fd_limit == 0)
		return (int)dz_sys_3(SYS_io_submit, context, n, list);
	while (done < n) {
		long k = count_kernel(list + done, n - done);

		if (k > 0)
			r = dz_sys_3(SYS_io_submit, context, k, list + done);
		else
			r = submit_ours(context, list[done],
					dz_fd_get((int)list[done]->aio_fildes));
		if (r <= 0)
			break;
		done += r;
		if (k > 0 && r < k)
			break;
	}
	return (int)(done ? done : r);
}

static long take_ours(aio_context_t context, long most, struct io_event *out)
{
	long n = 0;

	for (size_t i = 0; i < EVENTS && n < most && events_ready > 0; i++) {
		struct event *e = &events[i];

		if (e->state != EVENT_READY || e->context != context ||
		    !event_claim(e, EVENT_READY))
			continue;
		out[n++] = e->event;
		atomic_fetch_sub(&events_ready, 1);
		atomic_store(&e->state, EVENT_FREE);
	}
	return n;
}

struct wait {
	aio_context_t context;
	long least, most;
	struct io_event *out;
	const void *mask; /* of io_pgetevents, or NULL */
};

static long kernel_events(const struct wait *w, long have, const struct timespec *timeout)
{
	long least = w->least > have ? w->least - have : 0;

	if (w->mask)
		return dz_sys_6(SYS_io_pgetevents, w->context, least, w->most - have, w->out + have,
				timeout, w->mask);
	return dz_sys_5(SYS_io_getevents, w->context, least, w->most - have, w->out + have,
			timeout);
}

/* The sooner of a slice and what is left of the time. */
static const struct timespec *slice_of(const struct timespec *timeout, uint64_t start_ns,
				       struct timespec *slice)
{
	uint64_t want = SLICE_NS, gone = dz_now_ns() - start_ns;

	if (timeout) {
		uint64_t all = (uint64_t)timeout->tv_sec * 1000000000 + (uint64_t)timeout->tv_nsec;

		want = dz_min_u64(want, all > gone ? all - gone : 0);
	}
	*slice = (struct timespec){ 0, (long)want };
	return slice;
}

static long wait_events(const struct wait *w, const struct timespec *timeout)
{
	uint64_t start = dz_now_ns();
	struct timespec slice;
	long have = 0, r;

	if (!has_had_ours)
		return kernel_events(w, 0, timeout);
	for (;;) {
		have += take_ours(w->context, w->most - have, w->out + have);
		slice_of(timeout, start, &slice);
		/* With enough in hand the kernel is only asked what it has. */
		r = have >= w->most ? 0 : kernel_events(w, have, &slice);
		if (r < 0)
			return have ? have : r;
		have += r;
		if (have >= w->least || slice.tv_nsec == 0)
			return have;
	}
}

DZ_DOOR(int, io_getevents, aio_context_t context, long least, long most, struct io_event *out,
	struct timespec *timeout)
{
	struct wait w = { context, least, most, out, NULL };

	return (int)wait_events(&w, timeout);
}

DZ_DOOR(int, io_pgetevents, aio_context_t context, long least, long most, struct io_event *out,
	struct timespec *timeout, void *mask)
{
	struct {
		void *mask;
		size_t bytes;
	} sixth = { mask, 8 };
	struct wait w = { context, least, most, out, mask ? &sixth : NULL };

	return (int)wait_events(&w, timeout);
}

DZ_DOOR(int, io_destroy, aio_context_t context)
{
	struct io_event dropped;

	while (take_ours(context, 1, &dropped) > 0)
		;
	return (int)dz_sys_1(SYS_io_destroy, context);
}

#include "shim/aliases.h"
