/* SPDX-License-Identifier: MIT */
/*
 * POSIX aio: libc reads in a thread of its own, by calls that no door sees.  A
 * read of a managed file is done at once instead, and its control block is filled
 * as if a thread had: libc's aio_error, aio_return, aio_suspend and aio_cancel
 * only look there.
 */
#define DZ_IN_aio 1
#include <aio.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shim/hooks.h"
#include "shim/opath.h"
#include "shim/real.h"

/* SIGEV_THREAD: the program asked for a thread, so it gets one. */
struct notice {
	void (*function)(union sigval);
	union sigval value;
};

static void *notice_run(void *arg)
{
	struct notice n = *(struct notice *)arg;

	dz_sys_munmap(arg, sizeof(n));
	n.function(n.value);
	return NULL;
}

typedef int create_fn(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

static void notify_thread(const struct sigevent *ev)
{
	/* By hand: a plain call would need a glibc not older than 2.34. */
	create_fn *create = DZ_REAL(pthread_create);
	int (*detach)(pthread_t) = DZ_REAL(pthread_detach);
	pthread_t thread;
	void *at;

	if (!create || !detach ||
	    dz_sys_mmap(&at, NULL, sizeof(struct notice), PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) < 0)
		return;
	*(struct notice *)at = (struct notice){ ev->sigev_notify_function, ev->sigev_value };
	if (create(&thread, ev->sigev_notify_attributes, notice_run, at) == 0)
		detach(thread);
	else
		dz_sys_munmap(at, sizeof(struct notice));
}

static void notify_signal(const struct sigevent *ev)
{
	siginfo_t info = { .si_signo = ev->sigev_signo, .si_code = SI_ASYNCIO };

	info.si_pid = dz_sys_getpid();
	info.si_uid = getuid();
	info.si_value = ev->sigev_value;
	dz_sys_3(SYS_rt_sigqueueinfo, info.si_pid, ev->sigev_signo, &info);
}

static void notify(const struct sigevent *ev)
{
	if (ev->sigev_notify == SIGEV_SIGNAL)
		notify_signal(ev);
	else if (ev->sigev_notify == SIGEV_THREAD)
		notify_thread(ev);
}

/* Fills the block and returns what the call does: 0, the rest is in the block. */
static int complete(struct aiocb *cb, ssize_t r)
{
	cb->__return_value = r < 0 ? -1 : r;
	__atomic_store_n(&cb->__error_code, r < 0 ? (int)-r : 0, __ATOMIC_RELEASE);
	return 0;
}

static int aio_read_now(struct aiocb *cb, dz_fh fh)
{
	ssize_t r;

	if (cb->aio_offset < 0 || cb->aio_reqprio < 0)
		return complete(cb, -EINVAL);
	if (dz_is_opath(fh))
		return complete(cb, -EBADF);
	r = dz_engine_pread(dz_engine, fh, (void *)cb->aio_buf, cb->aio_nbytes,
			    (uint64_t)cb->aio_offset);
	return complete(cb, r == -ESTALE ? -EIO : r);
}

DZ_DOOR(int, aio_read, struct aiocb *cb)
{
	int (*libc_aio_read)(struct aiocb *) = DZ_REAL(aio_read64);
	dz_fh fh = dz_fd_get(cb->aio_fildes);

	if (!fh)
		return libc_aio_read(cb);
	dz_done(DZ_CALL_aio_read, (aio_read_now(cb, fh), 0), cb);
	notify(&cb->aio_sigevent);
	return 0;
}

DZ_DOOR(int, aio_write, struct aiocb *cb)
{
	int (*libc_aio_write)(struct aiocb *) = DZ_REAL(aio_write64);

	if (!dz_fd_get(cb->aio_fildes))
		return libc_aio_write(cb);
	complete(cb, -EBADF);
	notify(&cb->aio_sigevent);
	return (int)dz_done(DZ_CALL_aio_write, 0, cb);
}

/* One entry of a list that is ours: done; whether it succeeded. */
static bool list_entry(struct aiocb *cb, dz_fh fh)
{
	if (cb->aio_lio_opcode == LIO_READ)
		aio_read_now(cb, fh);
	else
		complete(cb, -EBADF);
	notify(&cb->aio_sigevent);
	return cb->__error_code == 0;
}

static bool is_ours(const struct aiocb *cb)
{
	return cb && cb->aio_lio_opcode != LIO_NOP && dz_fd_get(cb->aio_fildes);
}

typedef int lio_fn(int, struct aiocb *const *, int, struct sigevent *);

/* Ours are done first; libc gets the list with holes in their places. */
static int list_run(int mode, struct aiocb *const *list, int n, struct sigevent *ev)
{
	lio_fn *libc_lio = DZ_REAL(lio_listio64);
	size_t bytes = (size_t)n * sizeof(*list);
	bool all_well = true, has_others = false;
	struct aiocb **rest;
	void *at;
	int ret = dz_sys_mmap(&at, NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			      -1, 0);

	if (ret < 0)
		return -EAGAIN;
	rest = at;
	for (int i = 0; i < n; i++) {
		if (is_ours(list[i]))
			all_well &= list_entry(list[i], dz_fd_get(list[i]->aio_fildes));
		else
			rest[i] = list[i];
		has_others |= rest[i] != NULL;
	}
	if (has_others)
		ret = libc_lio(mode, rest, n, ev) < 0 ? -errno : 0;
	else if (mode == LIO_NOWAIT && ev)
		notify(ev);
	dz_sys_munmap(at, bytes);
	return ret < 0 ? ret : all_well ? 0 : -EIO;
}

DZ_DOOR(int, lio_listio, int mode, struct aiocb *const *list, int n, struct sigevent *ev)
{
	lio_fn *libc_lio = DZ_REAL(lio_listio64);
	bool has_ours = false;

	for (int i = 0; i < n; i++)
		has_ours |= is_ours(list[i]);
	if (!has_ours || (mode != LIO_WAIT && mode != LIO_NOWAIT))
		return libc_lio(mode, list, n, ev);
	return (int)dz_done(DZ_CALL_lio_listio, list_run(mode, list, n, ev), mode, list, n, ev);
}

#include "shim/aliases.h"
