/* SPDX-License-Identifier: MIT */
/*
 * The table of descriptors, and how many of them stand for each open file.
 *
 * Setting an entry: count the new file up, exchange the word, count the old file
 * down; at zero the engine is told.  Each step is one atomic operation, so a
 * signal handler may come between any two; a lookup sees the old file or the new.
 * Two threads that close and reuse one number at the same time race as they do
 * in the kernel.
 *
 * Counts are indexed by the lower half of a handle, which is the number of the
 * open file plus one (cache/engine.h): two living files never share it.
 */
#include "shim/fdtab.h"

#include "shim/dir.h"
#include "shim/init.h"
#include "shim/opath.h"
#include "shim/vfork.h"

#include "cache/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define FDS_MAX	  (1u << 20)
#define FILES_MAX (1u << 20)

_Atomic uint32_t dz_fd_limit DZ_HOT_LINE;
_Atomic dz_fh *dz_fd_table DZ_HOT_LINE __attribute__((aligned(64)));

/* Static TLS throughout: no allocation at first touch, cheap from any context. */
__thread int dz_vforked __attribute__((tls_model("initial-exec")));

/* What a vfork child did to its descriptors; a child does this for its next program only. */
#define CHILD_FDS 16
static __thread struct {
	int fd;
	dz_fh fh;
} child_fds[CHILD_FDS] __attribute__((tls_model("initial-exec")));
static __thread uint32_t n_child_fds __attribute__((tls_model("initial-exec")));

bool dz_in_vfork_child(void)
{
	if (!dz_vforked)
		return false;
	if (dz_sys_getpid() != dz_pid)
		return true;
	dz_vforked = 0;
	n_child_fds = 0;
	return false;
}

void dz_fd_child_each(void (*cb)(int fd, dz_fh fh, void *arg), void *arg)
{
	uint32_t i;

	for (i = 0; i < n_child_fds; i++)
		if (child_fds[i].fh)
			cb(child_fds[i].fd, child_fds[i].fh, arg);
}

static void child_note(int fd, dz_fh fh)
{
	uint32_t i = 0;

	while (i < n_child_fds && child_fds[i].fd != fd)
		i++;
	if (i == CHILD_FDS)
		return;
	child_fds[i].fd = fd;
	child_fds[i].fh = fh;
	if (i == n_child_fds)
		n_child_fds++;
}

/* Reserves the table: 12 MiB of addresses, memory only where it is touched. */
static int table_make(void)
{
	size_t len = FDS_MAX * sizeof(dz_fh) + FILES_MAX * sizeof(uint32_t);
	_Atomic dz_fh *none = NULL;
	void *at;
	int r;

	if (__atomic_load_n(&dz_fd_table, __ATOMIC_ACQUIRE))
		return 0;
	r = dz_sys_mmap(&at, NULL, len, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (r < 0)
		return r;
	if (!__atomic_compare_exchange_n(&dz_fd_table, &none, (_Atomic dz_fh *)at, false,
					 __ATOMIC_RELEASE, __ATOMIC_ACQUIRE))
		dz_sys_munmap(at, len);
	return 0;
}

/* How many descriptors of this process stand for fh; behind the table, in the same mapping. */
static _Atomic uint32_t *holders_of(dz_fh fh)
{
	_Atomic uint32_t *holders = (_Atomic uint32_t *)(void *)(dz_fd_table + FDS_MAX);

	return &holders[(uint32_t)fh % FILES_MAX];
}

/* The limit only grows: one past the highest descriptor that ever was ours. */
static void limit_raise(uint32_t to)
{
	uint32_t now = dz_fd_limit;

	/* Release: pairs with the acquire in dz_fd_get(); the table comes first. */
	while (now < to &&
	       !atomic_compare_exchange_weak_explicit(&dz_fd_limit, &now, to, memory_order_release,
						      memory_order_relaxed))
		;
}

/* ---- one number is worked on at a time ---- */

#define PATIENCE 2000
static _Atomic int worked_on = -1;

/* Not for ever: a handler may have interrupted, or jumped out of, the code that is at it. */
static void number_wait(int fd)
{
	int i;

	for (i = 0; i < PATIENCE && atomic_load(&worked_on) == fd; i++)
		dz_sys_0(SYS_sched_yield);
}

void dz_fd_forget(int fd)
{
	dz_fd_set(fd, 0);
	number_wait(fd);
}

void dz_fd_begin(int fd)
{
	int none = -1;
	int i;

	for (i = 0; i < PATIENCE && !atomic_compare_exchange_strong(&worked_on, &none, fd); i++) {
		none = -1;
		dz_sys_0(SYS_sched_yield);
	}
	if (i == PATIENCE)
		atomic_store(&worked_on, fd);
}

void dz_fd_end(int fd)
{
	atomic_compare_exchange_strong(&worked_on, &fd, -1);
}

/*
 * The exchange must not hit a number that another thread has closed, and the kernel given
 * away, meanwhile.  A closer empties the entry, then looks at worked_on, then closes; we
 * set worked_on, then look at the entry: one of the two sees the other (all seq_cst).
 */
void dz_fd_hand_over(int fd, dz_fh fh)
{
	if (dz_in_vfork_child()) { /* the descriptors are its own, the words its parent's */
		dz_engine_handover(dz_engine, fh, fd);
		return;
	}
	dz_fd_begin(fd);
	if (atomic_load(&dz_fd_table[fd]) == fh)
		dz_engine_handover(dz_engine, fh, fd);
	dz_fd_end(fd);
}

void dz_fd_start_again(void)
{
	worked_on = -1;
}

static void file_drop(dz_fh fh)
{
	if (atomic_fetch_sub(holders_of(fh), 1) != 1)
		return;
	dz_dir_forget(fh);
	dz_engine_close_file(dz_engine, fh);
}

/*
 * The child of vfork: the table is its parent's.  A file that the child opened
 * itself is held by nobody in the parent: keep it for the program it will run.
 */
static int set_in_vfork_child(int fd, dz_fh fh)
{
	child_note(fd, fh);
	if (fh && (!dz_fd_table || *holders_of(fh) == 0)) {
		dz_engine_handover(dz_engine, fh, -1);
		dz_engine_close_file(dz_engine, fh);
	}
	return 0;
}

int dz_fd_set(int fd, dz_fh fh)
{
	dz_fh old;
	int r;

	if (dz_in_vfork_child())
		return set_in_vfork_child(fd, fh);
	if (!fh && !dz_fd_get(fd))
		return 0;
	if ((uint32_t)fd >= FDS_MAX)
		return -EMFILE;
	r = table_make();
	if (r < 0)
		return r;
	if (fh) {
		atomic_fetch_add(holders_of(fh), 1);
		limit_raise((uint32_t)fd + 1);
	}
	old = atomic_exchange(&dz_fd_table[fd], fh);
	if (old)
		file_drop(old);
	return 0;
}

void dz_fd_each(int first, int last, void (*cb)(int fd, dz_fh fh, void *arg), void *arg)
{
	uint32_t limit = dz_fd_limit;
	uint32_t fd = first < 0 ? 0 : (uint32_t)first;

	for (; fd < limit && (last < 0 || fd <= (uint32_t)last); fd++) {
		dz_fh fh = dz_fd_get((int)fd);

		if (fh)
			cb((int)fd, fh, arg);
	}
}

/* Only an O_PATH descriptor of a socket can be a marker: asked before anything is attached. */
static bool may_be_marker(int fd)
{
	long flags = dz_sys_2(SYS_fcntl, fd, F_GETFL);
	struct stat st;

	if (flags < 0 || !(flags & O_PATH))
		return false;
	return dz_sys_fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode);
}

void dz_fd_adopt(int fd)
{
	dz_fh fh;
	int flags;

	if (dz_fd_get(fd) || !may_be_marker(fd) || dz_attach() < 0)
		return;
	if (dz_engine_resolve(dz_engine, fd, &fh) < 0)
		return;
	if (dz_fd_set(fd, fh) < 0)
		dz_engine_close_file(dz_engine, fh);
	else if (dz_engine_fd_flags(dz_engine, fh, &flags) == 0 && (flags & O_PATH))
		dz_opath_seen = true;
}

struct entry64 {
	uint64_t ino;
	int64_t off;
	uint16_t len;
	uint8_t type;
	char name[];
};

static void adopt_listed(const char *buf, long len)
{
	const struct entry64 *e;
	const char *digit;
	long at;
	int fd;

	for (at = 0; at < len; at += e->len) {
		e = (const struct entry64 *)(const void *)(buf + at);
		fd = 0;
		for (digit = e->name; *digit >= '0' && *digit <= '9'; digit++)
			fd = fd * 10 + (*digit - '0');
		if (digit > e->name)
			dz_fd_adopt(fd);
	}
}

void dz_fd_adopt_all(void)
{
	int dir = dz_sys_open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	_Alignas(uint64_t) char buf[2048];
	long n;
	int fd;

	for (fd = 0; dir < 0 && fd < 256; fd++)
		dz_fd_adopt(fd);
	if (dir < 0)
		return;
	while ((n = dz_sys_3(SYS_getdents64, dir, buf, sizeof(buf))) > 0)
		adopt_listed(buf, n);
	dz_sys_close(dir);
}

int dz_fd_close(int fd)
{
	if (dz_engine && dz_engine_owns_fd(dz_engine, fd))
		return -EBADF;
	/* First forgotten, then closed: the number may be another's at once. */
	if (dz_fd_get(fd))
		dz_fd_forget(fd);
	return dz_sys_close(fd);
}
