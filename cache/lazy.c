// SPDX-License-Identifier: MIT
/*
 * The program's side of lazy mappings: see lazy.h.
 *
 * The happy path of one: the pager is told the range and gets the userfaultfd
 * (SCM_RIGHTS); only after its answer is the range registered, so that whatever it
 * was still filling at that address is over.  Then the pages may be touched.
 *
 * No pager: one is started and asked again, for three seconds; then mappings are
 * filled at once, as where the system has no userfaultfd for us.
 *
 * After fork the kernel gives the child's mappings to the pager by itself (that is
 * UFFD_FEATURE_EVENT_FORK), so they are right in the child from its first
 * instruction.  But the child holds no descriptor of them: were the pager killed
 * with its keeper, they would read as zeros.  So the child's first act moves them
 * away and back, which takes them out of their registration, and registers them
 * anew with a descriptor of its own.  No thread of its runs meanwhile.
 */
#include "cache/lazy.h"

#include "cache/fd.h"
#include "cache/sys.h"
#include "cache/uffd.h"
#include "cache/vmas.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#define AGAIN_MS 60000
#define SPAWN_MS 500

static bool lazy_try_lock(struct dz_engine *e)
{
	for (int i = 0; i < 100000; i++) {
		uint32_t none = 0;

		if (atomic_compare_exchange_weak(&e->lazy.lock, &none, 1))
			return true;
		dz_sys_0(SYS_sched_yield);
	}
	return false;
}

static void lazy_unlock(struct dz_engine *e)
{
	atomic_store_explicit(&e->lazy.lock, 0, memory_order_release);
}

/* ---- the descriptor ---- */

static int uffd_new(void)
{
	int dev, fd = (int)dz_sys_1(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd >= 0)
		return fd;
	dev = dz_sys_open("/dev/userfaultfd", O_RDWR | O_CLOEXEC, 0);
	if (dev < 0)
		return dev;
	fd = (int)dz_sys_3(SYS_ioctl, dev, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
	dz_sys_close(dev);
	return fd;
}

static int uffd_open(void)
{
	struct uffdio_api api = { .api = UFFD_API, .features = DZ_UFFD_NEEDED };
	int fd = uffd_new(), ret;

	if (fd < 0)
		return fd;
	ret = (int)dz_sys_3(SYS_ioctl, fd, UFFDIO_API, &api);
	if (ret == 0)
		return dz_fd_raise(fd);
	dz_sys_close(fd);
	return ret;
}

/* ---- talking to the pager ---- */

static int pager_connect(const struct dz_engine *e, uint32_t agent)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	struct timeval limit = { .tv_sec = DZ_LAZY_TIMEOUT_MS / 1000 };
	int fd = (int)dz_sys_3(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), ret;

	if (fd < 0)
		return fd;
	/* By the descriptor: the directory's own path may be longer than an address. */
	snprintf(to.sun_path, sizeof(to.sun_path), "/proc/self/fd/%d/" DZ_LAZY_SOCKET,
		 e->seg.dir_fd, agent);
	dz_sys_5(SYS_setsockopt, fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	dz_sys_5(SYS_setsockopt, fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	ret = (int)dz_sys_3(SYS_connect, fd, &to, sizeof(to));
	if (ret == 0)
		return fd;
	dz_sys_close(fd);
	return ret;
}

static int pager_send(int to, const struct dz_lazy_msg *msg, int uffd)
{
	struct iovec iov = { (void *)(uintptr_t)msg, sizeof(*msg) };
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { .head = { .cmsg_len = CMSG_LEN(sizeof(int)),
				.cmsg_level = SOL_SOCKET,
				.cmsg_type = SCM_RIGHTS } };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	long ret;

	if (uffd >= 0) {
		memcpy(CMSG_DATA(&control.head), &uffd, sizeof(uffd));
		m.msg_control = &control;
		m.msg_controllen = sizeof(control);
	}
	ret = dz_sys_3(SYS_sendmsg, to, &m, MSG_NOSIGNAL);
	return ret < 0 ? (int)ret : 0;
}

/* One request, one answer. */
static int pager_call(const struct dz_engine *e, const struct dz_lazy_msg *msg, int uffd,
		      struct dz_lazy_answer *answer)
{
	int ret, fd = pager_connect(e, e->lazy.agent);

	if (fd < 0)
		return fd;
	ret = pager_send(fd, msg, uffd);
	if (ret == 0 && dz_sys_read(fd, answer, sizeof(*answer)) != (ssize_t)sizeof(*answer))
		ret = -ECONNRESET;
	dz_sys_close(fd);
	return ret < 0 ? ret : answer->err;
}

/* The same, starting a pager when there is none. */
static int pager_ask(struct dz_engine *e, const struct dz_lazy_msg *msg, int uffd,
		     struct dz_lazy_answer *answer)
{
	struct timespec pause = { .tv_nsec = 2000000 };
	uint64_t start = dz_now_ms(), spawned = 0, now;
	int ret;

	for (;;) {
		ret = pager_call(e, msg, uffd, answer);
		now = dz_now_ms();
		if (ret == 0 || (ret != -ECONNREFUSED && ret != -ENOENT && ret != -ECONNRESET) ||
		    now - start >= DZ_LAZY_TIMEOUT_MS)
			return ret;
		if (!spawned || now - spawned >= SPAWN_MS) {
			ret = dz_spawn_pager(e, e->lazy.agent);
			if (ret < 0)
				return ret;
			spawned = now;
		}
		dz_sys_2(SYS_nanosleep, &pause, NULL);
	}
}

static void lazy_msg(const struct dz_engine *e, struct dz_lazy_msg *msg, enum dz_lazy_op op)
{
	memset(msg, 0, offsetof(struct dz_lazy_msg, file));
	msg->magic = DZ_LAZY_MAGIC;
	msg->op = op;
	msg->session = e->lazy.session;
	msg->pid = (uint32_t)dz_sys_getpid();
	msg->fd = e->lazy.fd;
}

/* Behind the file's end nothing is filled. */
static size_t lazy_len(const struct dz_map *m, uintptr_t at)
{
	uint64_t file_end = dz_round_up(m->file->size, DZ_PAGE);

	return (size_t)dz_min_u64(m->end - at, file_end > m->off ? file_end - m->off : 0);
}

static int lazy_tell_one(struct dz_engine *e, const struct dz_map *m, uintptr_t at, bool *is_new)
{
	struct dz_lazy_answer answer;
	struct dz_lazy_msg msg;
	int ret;

	lazy_msg(e, &msg, DZ_LAZY_MAP);
	msg.at = at;
	msg.len = lazy_len(m, at);
	msg.off = m->off;
	msg.id = m->lazy_id;
	if (m->file->mount < e->seg.n_mounts)
		msg.mount = atomic_load_explicit(&e->seg.mounts[m->file->mount].id,
						 memory_order_relaxed);
	memcpy(&msg.file, m->file, sizeof(msg.file));
	ret = pager_ask(e, &msg, e->lazy.fd, &answer);
	if (ret < 0)
		return ret;
	*is_new = answer.is_new;
	e->lazy.session = answer.session;
	return 0;
}

/* All that we have: to a pager that knows nothing of us. */
static int lazy_tell_all(struct dz_engine *e)
{
	const struct dz_map *m;
	uint32_t i = 0;
	bool is_new;
	int ret = 0;

	while (ret == 0 && (m = dz_map_next(e, 0, UINTPTR_MAX, &i))) {
		if (m->kind == DZ_MAP_LAZY)
			ret = lazy_tell_one(e, m, m->at, &is_new);
	}
	return ret;
}

/* ---- the door of this file ---- */

bool dz_lazy_is_possible(struct dz_engine *e, uint32_t agent)
{
	bool is = false;
	int fd;

	if (e->cfg.fetch == DZ_FETCH_INLINE ||
	    atomic_load_explicit(&e->is_inline, memory_order_relaxed) || e->seg.is_private ||
	    !dz_agent_is_own(e, agent) || e->lazy.off_until_ms > dz_now_ms() ||
	    atomic_load_explicit(&e->pid, memory_order_relaxed) != (uint32_t)dz_sys_getpid() ||
	    !lazy_try_lock(e))
		return false;
	if (!e->lazy.is_open) {
		fd = uffd_open();
		e->lazy.is_open = fd >= 0;
		e->lazy.agent = agent;
		e->lazy.session = 0;
		dz_seg_note_fd(&e->seg, fd);
		__atomic_store_n(&e->lazy.fd, fd, __ATOMIC_RELAXED);
		if (fd < 0)
			e->lazy.off_until_ms = UINT64_MAX;
	}
	/* One descriptor, one pager: files of other credentials are filled at once. */
	is = e->lazy.is_open && e->lazy.agent == agent;
	lazy_unlock(e);
	return is;
}

int dz_lazy_tell(struct dz_engine *e, struct dz_map *m, uintptr_t at)
{
	bool is_new = false, had = e->lazy.session != 0;
	int ret;

	if (!lazy_try_lock(e))
		return -EAGAIN;
	m->lazy_id = ++e->lazy.ids;
	ret = lazy_tell_one(e, m, at, &is_new);
	if (ret == 0 && is_new && had)
		ret = lazy_tell_all(e);
	lazy_unlock(e);
	if (ret < 0)
		e->lazy.off_until_ms = dz_now_ms() + AGAIN_MS;
	return ret;
}

int dz_lazy_register(struct dz_engine *e, const struct dz_map *m, uintptr_t at)
{
	size_t len = lazy_len(m, at);

	return len ? dz_uffd_register(e->lazy.fd, at, len) : 0;
}

int dz_lazy_begin(struct dz_engine *e, struct dz_map *m, uintptr_t at)
{
	int ret = dz_lazy_tell(e, m, at);

	return ret < 0 ? ret : dz_lazy_register(e, m, at);
}

void dz_lazy_unmapped(struct dz_engine *e, const struct dz_map *m, uintptr_t at, uintptr_t end)
{
	struct dz_lazy_answer answer;
	struct dz_lazy_msg msg;

	if (!lazy_try_lock(e))
		return;
	lazy_msg(e, &msg, DZ_LAZY_UNMAP);
	msg.at = at > m->was_at ? at : m->was_at;
	msg.len = (end < m->end ? end : m->end) - msg.at;
	msg.id = m->lazy_id;
	pager_call(e, &msg, -1, &answer);
	lazy_unlock(e);
}

/* ---- fork ---- */

static bool lazy_has_maps(const struct dz_engine *e)
{
	const struct dz_map *m;
	uint32_t i = 0;

	if (!e->lazy.is_open)
		return false;
	while ((m = dz_map_next(e, 0, UINTPTR_MAX, &i))) {
		if (m->kind == DZ_MAP_LAZY)
			return true;
	}
	return false;
}

void dz_lazy_fork_prepare(struct dz_engine *e)
{
	struct dz_lazy_answer answer;
	struct dz_lazy_msg msg;

	/* The kernel holds the fork until the pager has looked: there must be one. */
	if (!lazy_has_maps(e) || !lazy_try_lock(e))
		return;
	lazy_msg(e, &msg, DZ_LAZY_PING);
	if (pager_ask(e, &msg, e->lazy.fd, &answer) == 0 && answer.is_new) {
		e->lazy.session = answer.session;
		lazy_tell_all(e);
	}
	lazy_unlock(e);
}

void dz_lazy_fork_child(struct dz_engine *e)
{
	int inherited = e->lazy.fd, fd;
	const struct dz_map *m;
	uint32_t i = 0;

	atomic_store_explicit(&e->lazy.lock, 0, memory_order_relaxed);
	if (!e->lazy.is_open)
		return;
	fd = lazy_has_maps(e) ? uffd_open() : -1;
	/* It is of the parent's memory. */
	dz_sys_close(inherited);
	dz_seg_note_fd(&e->seg, fd);
	__atomic_store_n(&e->lazy.fd, fd, __ATOMIC_RELAXED);
	e->lazy.is_open = fd >= 0;
	e->lazy.session = 0;
	if (fd < 0 || lazy_tell_all(e) < 0)
		return;
	while ((m = dz_map_next(e, 0, UINTPTR_MAX, &i))) {
		if (m->kind == DZ_MAP_LAZY)
			dz_vmas_register(fd, m->at, m->at + lazy_len(m, m->at));
	}
}
