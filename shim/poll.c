/* SPDX-License-Identifier: MIT */
/*
 * Waiting: a regular file is always ready to be read and written, and cannot be
 * in an epoll set.  The kernel would call a marker invalid, so the managed
 * descriptors are taken out of what it is asked, and added to what it says.
 */
#define DZ_IN_poll 1
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/select.h>

#include "shim/hooks.h"
#include "shim/real.h"

void __chk_fail(void) __attribute__((noreturn));

#define POLL_ALWAYS (POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM)
#define POLL_STACK  64

static bool poll_has_ours(const struct pollfd *fds, nfds_t n)
{
	if (atomic_load_explicit(&dz_fd_limit, memory_order_relaxed) == 0)
		return false;
	for (nfds_t i = 0; i < n; i++)
		if (dz_fd_get(fds[i].fd))
			return true;
	return false;
}

/* `asked` is a copy with our descriptors negative; which were, is still seen in `fds`. */
static long poll_copy(struct pollfd *fds, struct pollfd *asked, nfds_t n, struct timespec *timeout,
		      const sigset_t *mask)
{
	struct timespec now = { 0, 0 };
	long ready = 0, r;

	memcpy(asked, fds, n * sizeof(*fds));
	for (nfds_t i = 0; i < n; i++) {
		if (!dz_fd_get(fds[i].fd))
			continue;
		asked[i].fd = -1;
		ready += (fds[i].events & POLL_ALWAYS) != 0;
	}
	r = dz_block_5(SYS_ppoll, asked, n, ready ? &now : timeout, mask, 8);
	if (r < 0)
		return r;
	for (nfds_t i = 0; i < n; i++)
		fds[i].revents = dz_fd_get(fds[i].fd) ? (short)(fds[i].events & POLL_ALWAYS)
						      : asked[i].revents;
	return r + ready;
}

static long poll_ours(struct pollfd *fds, nfds_t n, struct timespec *timeout, const sigset_t *mask)
{
	struct pollfd few[POLL_STACK];
	void *many;
	long r;

	if (n <= POLL_STACK)
		return poll_copy(fds, few, n, timeout, mask);
	r = dz_sys_mmap(&many, NULL, n * sizeof(*fds), PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (r < 0)
		return r;
	r = poll_copy(fds, many, n, timeout, mask);
	dz_sys_munmap(many, n * sizeof(*fds));
	return r;
}

DZ_DOOR(int, ppoll, struct pollfd *fds, nfds_t n, const struct timespec *timeout,
	const sigset_t *mask)
{
	struct timespec left; /* the kernel writes what is left of the time */

	if (timeout)
		left = *timeout;
	if (!poll_has_ours(fds, n))
		return (int)dz_ret(dz_block_5(SYS_ppoll, fds, n, timeout ? &left : NULL, mask, 8));
	return (int)dz_done(DZ_CALL_ppoll, poll_ours(fds, n, timeout ? &left : NULL, mask), fds, n,
			    timeout, mask);
}

/* By libc's own number where there is one: a seccomp filter may know no other. */
static long poll_kernel(struct pollfd *fds, nfds_t n, DZ_UNUSED int timeout_ms,
			DZ_UNUSED struct timespec *timeout)
{
#if defined(SYS_poll)
	return dz_block_3(SYS_poll, fds, n, timeout_ms);
#else
	return dz_block_5(SYS_ppoll, fds, n, timeout, NULL, 8);
#endif
}

DZ_DOOR(int, poll, struct pollfd *fds, nfds_t n, int timeout_ms)
{
	struct timespec t = { timeout_ms / 1000, timeout_ms % 1000 * 1000000L };
	struct timespec *timeout = timeout_ms < 0 ? NULL : &t;

	if (!poll_has_ours(fds, n))
		return (int)dz_ret(poll_kernel(fds, n, timeout_ms, timeout));
	return (int)dz_done(DZ_CALL_poll, poll_ours(fds, n, timeout, NULL), fds, n, timeout_ms);
}

DZ_DOOR(int, __poll_chk, struct pollfd *fds, nfds_t n, int timeout_ms, size_t bytes)
{
	if (bytes / sizeof(*fds) < n)
		__chk_fail();
	return door_poll(fds, n, timeout_ms);
}

DZ_DOOR(int, __ppoll_chk, struct pollfd *fds, nfds_t n, const struct timespec *timeout,
	const sigset_t *mask, size_t bytes)
{
	if (bytes / sizeof(*fds) < n)
		__chk_fail();
	return door_ppoll(fds, n, timeout, mask);
}

/* ---- select ---- */

#define SELECT_FDS  4096 /* more than that is given to the kernel as it is */
#define WORD_BITS   (8 * (int)sizeof(unsigned long))
#define WORDS(nfds) ((size_t)(((nfds) + WORD_BITS - 1) / WORD_BITS))

/* Read, write, exceptional: the caller's sets, which the kernel writes, and a copy of ours. */
struct select_sets {
	unsigned long *set[3];
	unsigned long ours[3][SELECT_FDS / WORD_BITS];
};

/* Moves our descriptors out of the sets; how many of them are ready, -1 when there are none. */
static int sets_take(struct select_sets *s, int nfds)
{
	bool has_ours = false;
	int ready = 0;

	for (int k = 0; k < 3; k++) {
		for (int fd = 0; s->set[k] && fd < nfds; fd++) {
			unsigned long bit = 1ul << fd % WORD_BITS;
			unsigned long *word = &s->set[k][fd / WORD_BITS];

			if (fd % WORD_BITS == 0) {
				s->ours[k][fd / WORD_BITS] = 0;
				if (*word == 0)
					fd += WORD_BITS - 1;
			}
			if (!(*word & bit) || !dz_fd_get(fd))
				continue;
			*word &= ~bit;
			s->ours[k][fd / WORD_BITS] |= bit;
			has_ours = true;
			ready += k < 2;
		}
	}
	return has_ours ? ready : -1;
}

static void sets_give(struct select_sets *s, int nfds, int sets)
{
	for (int k = 0; k < sets; k++)
		for (size_t w = 0; s->set[k] && w < WORDS(nfds); w++)
			s->set[k][w] |= s->ours[k][w];
}

static long select_ours(struct select_sets *s, int nfds, int ready, struct timespec *timeout,
			const void *mask)
{
	struct timespec now = { 0, 0 };
	long r = dz_block_6(SYS_pselect6, nfds, s->set[0], s->set[1], s->set[2],
			    ready ? &now : timeout, mask);

	/* After an error the sets are as they were; otherwise we are ready where asked for. */
	sets_give(s, nfds, r < 0 ? 3 : 2);
	return r < 0 ? r : r + ready;
}

static bool select_may_have_ours(int nfds)
{
	return nfds > 0 && nfds <= SELECT_FDS &&
	       atomic_load_explicit(&dz_fd_limit, memory_order_relaxed) != 0;
}

DZ_DOOR(int, pselect, int nfds, fd_set *r, fd_set *w, fd_set *x, const struct timespec *timeout,
	const sigset_t *mask)
{
	struct {
		const sigset_t *mask;
		size_t bytes;
	} sixth = { mask, 8 };
	struct select_sets s;
	struct timespec left;
	int ready = -1;

	if (timeout)
		left = *timeout;
	if (select_may_have_ours(nfds)) {
		s.set[0] = (unsigned long *)r;
		s.set[1] = (unsigned long *)w;
		s.set[2] = (unsigned long *)x;
		ready = sets_take(&s, nfds);
	}
	if (ready < 0)
		return (int)dz_ret(dz_block_6(SYS_pselect6, nfds, r, w, x, timeout ? &left : NULL,
					      mask ? &sixth : NULL));
	return (int)dz_done(
		DZ_CALL_pselect,
		select_ours(&s, nfds, ready, timeout ? &left : NULL, mask ? &sixth : NULL), nfds, r,
		w, x, timeout, mask);
}

/* As Linux has it, select writes back what is left of the time. */
static long select_timed(int nfds, fd_set *r, fd_set *w, fd_set *x, struct timespec *left)
{
	struct select_sets s = { .set = { (void *)r, (void *)w, (void *)x } };
	int ready = select_may_have_ours(nfds) ? sets_take(&s, nfds) : -1;

	if (ready < 0)
		return dz_ret(dz_block_6(SYS_pselect6, nfds, r, w, x, left, NULL));
	return dz_done(DZ_CALL_select, select_ours(&s, nfds, ready, left, NULL));
}

DZ_DOOR(int, select, int nfds, fd_set *r, fd_set *w, fd_set *x, struct timeval *timeout)
{
	struct timespec left;
	long ret;

	if (!timeout)
		return (int)select_timed(nfds, r, w, x, NULL);
	if (timeout->tv_sec < 0 || timeout->tv_usec < 0)
		return (int)dz_ret(-EINVAL);
	left.tv_sec = timeout->tv_sec + timeout->tv_usec / 1000000;
	left.tv_nsec = timeout->tv_usec % 1000000 * 1000;
	ret = select_timed(nfds, r, w, x, &left);
	timeout->tv_sec = left.tv_sec;
	timeout->tv_usec = left.tv_nsec / 1000;
	return (int)ret;
}

DZ_DOOR(int, epoll_ctl, int epoll_fd, int op, int fd, struct epoll_event *event)
{
	if (!dz_fd_get(fd) && !dz_fd_get(epoll_fd))
		return (int)dz_ret(dz_sys_4(SYS_epoll_ctl, epoll_fd, op, fd, event));
	return (int)dz_done(DZ_CALL_epoll_ctl, dz_fd_get(fd) ? -EPERM : -EINVAL, epoll_fd, op, fd,
			    event);
}

#include "shim/aliases.h"
