// SPDX-License-Identifier: MIT
/*
 * The pager's two processes.
 *
 * They share one table of descriptors (CLONE_FILES): a descriptor that the one got,
 * of a child of fork above all, which nobody else has, the other holds at the same
 * instant.  The keeper waits for the pager to die, and starts the next one, which
 * goes on with what the state file says and wakes everyone who waits for a page:
 * they fault again.  The pager watches its keeper; when that is killed it forks
 * itself into a new keeper, and ends, so that a new pager begins.
 *
 * Both killed at once: the programs' own descriptors keep their mappings as they
 * are.  The agent sees the state file without its lock, and starts a pager, which
 * takes the descriptors out of the programs (pidfd_getfd); where that is not
 * allowed, readers wait until the program maps or forks again.
 */
#include "cache/pager_priv.h"

#include "cache/agent.h"
#include "cache/sys.h"
#include "cache/uffd.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define TICK_MS	    1000
#define ALONE_MS    10000
#define STATE_MAGIC 0x32736170u

enum { WATCH_LISTEN = -1, WATCH_KEEPER = -2 };

/* Exit statuses of a pager: its keeper ends too, or starts the next, or is dead. */
enum pager_end { PAGER_UNUSED, PAGER_AGAIN, PAGER_ORPHAN };

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif

/* ---- descriptors ---- */

static bool fd_is_uffd(int fd)
{
	char path[40], to[32] = "";

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return dz_sys_4(SYS_readlinkat, AT_FDCWD, path, to, sizeof(to) - 1) > 0 &&
	       strcmp(to, "anon_inode:[userfaultfd]") == 0;
}

static bool fd_is_known(const struct pager *p, int fd)
{
	if (fd <= 2 || fd == p->dir_fd || fd == p->state_fd || fd == p->listen_fd)
		return true;
	for (uint32_t i = 0; i < atomic_load(&p->st->sessions); i++) {
		if (atomic_load(&p->st->session[i].use) != PAGER_FREE &&
		    p->st->session[i].uffd == fd)
			return true;
	}
	return false;
}

/*
 * What a pager that was killed had besides.  A userfaultfd that no session has came
 * with the event of a fork that it was reading.
 */
static void fds_settle(struct pager *p)
{
	int reading = atomic_load(&p->st->head.reading);
	DIR *d = opendir("/proc/self/fd");
	const struct dirent *ent;

	while (d && (ent = readdir(d))) {
		int n, fd = (int)strtol(ent->d_name, NULL, 10);

		if (ent->d_name[0] == '.' || fd == dirfd(d) || fd_is_known(p, fd))
			continue;
		n = reading >= 0 && fd_is_uffd(fd) ? pager_session_new(p, fd, PAGER_BUILDING) : -1;
		if (n < 0)
			dz_sys_close(fd);
		else
			p->st->session[n].parent = (uint32_t)reading;
	}
	if (d)
		closedir(d);
	atomic_store(&p->st->head.reading, -1);
}

/* ---- one request ---- */

/* The message and the descriptor that came with it, or -1.  0 or -errno. */
static int request_receive(int fd, struct dz_lazy_msg *msg, int *uffd)
{
	struct iovec iov = { msg, sizeof(*msg) };
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = &control,
			    .msg_controllen = sizeof(control) };
	ssize_t n = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);
	const struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&m) : NULL;

	*uffd = -1;
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
		memcpy(uffd, CMSG_DATA(c), sizeof(*uffd));
	if (n != (ssize_t)sizeof(*msg) || msg->magic != DZ_LAZY_MAGIC)
		return -EPROTO;
	if (msg->at % DZ_PAGE || msg->len % DZ_PAGE || msg->off % DZ_PAGE ||
	    msg->at + msg->len < msg->at)
		return -EINVAL;
	return 0;
}

static int session_watch(const struct pager *p, uint32_t session)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u64 = session };

	return epoll_ctl(p->epoll_fd, EPOLL_CTL_ADD, p->st->session[session].uffd, &ev) < 0 ? -errno
											    : 0;
}

/* The session that the request is of, made when it is not known; takes *uffd over then. */
static int request_session(struct pager *p, const struct dz_lazy_msg *msg, int *uffd, bool *is_new)
{
	int n = pager_session_find(p, msg->session);

	*is_new = n < 0;
	if (n >= 0 || *uffd < 0)
		return n;
	n = pager_session_new(p, *uffd, PAGER_USED);
	if (n < 0)
		return n;
	p->st->session[n].pid = msg->pid;
	p->st->session[n].fd = msg->fd;
	*uffd = -1;
	session_watch(p, (uint32_t)n);
	return n;
}

static int request_serve(struct pager *p, const struct dz_lazy_msg *msg, int *uffd,
			 struct dz_lazy_answer *answer)
{
	bool is_new;
	int n = request_session(p, msg, uffd, &is_new);

	if (n < 0)
		return n;
	answer->is_new = is_new;
	answer->session = p->st->session[n].id;
	switch (msg->op) {
	case DZ_LAZY_MAP:
		/* The answer says that nothing else will be copied there: now it is so. */
		pager_cancel(p, msg->at, msg->at + msg->len);
		pager_ranges_cut(p, (uint32_t)n, msg->at, msg->at + msg->len, 0);
		return pager_range_add(p, (uint32_t)n, msg);
	case DZ_LAZY_UNMAP:
		pager_ranges_cut(p, (uint32_t)n, msg->at, msg->at + msg->len, msg->id);
		return 0;
	case DZ_LAZY_PING:
		return 0;
	default:
		return -EPROTO;
	}
}

static void pager_accept(struct pager *p)
{
	struct timeval limit = { .tv_usec = 200000 };
	struct dz_lazy_answer answer = { .err = 0 };
	struct dz_lazy_msg msg;
	int uffd, fd = accept4(p->listen_fd, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0)
		return;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	answer.err = request_receive(fd, &msg, &uffd);
	if (answer.err == 0) {
		pthread_mutex_lock(&p->lock);
		answer.err = request_serve(p, &msg, &uffd, &answer);
		pthread_mutex_unlock(&p->lock);
	}
	if (uffd >= 0)
		dz_sys_close(uffd);
	send(fd, &answer, sizeof(answer), MSG_NOSIGNAL | MSG_DONTWAIT);
	dz_sys_close(fd);
}

/* ---- events ---- */

static void pager_forked(struct pager *p, uint32_t parent, int uffd)
{
	int n;

	pthread_mutex_lock(&p->lock);
	n = pager_session_new(p, uffd, PAGER_BUILDING);
	if (n >= 0) {
		p->st->session[n].parent = parent;
		pager_ranges_inherit(p, (uint32_t)n, parent);
		session_watch(p, (uint32_t)n);
	} else {
		/* Kept open: its pages are waited for, and never read as zeros. */
		dz_error(&p->log,
			 "lazy mappings: more than %u processes have them: a child of "
			 "fork waits for ever",
			 PAGER_SESSIONS);
	}
	pthread_mutex_unlock(&p->lock);
}

static void pager_events(struct pager *p, uint32_t session)
{
	struct uffd_msg msg;

	atomic_store(&p->st->head.reading, (int32_t)session);
	while (dz_sys_read(p->st->session[session].uffd, &msg, sizeof(msg)) ==
	       (ssize_t)sizeof(msg)) {
		if (msg.event == UFFD_EVENT_PAGEFAULT)
			pager_queue(p, session, msg.arg.pagefault.address);
		else if (msg.event == UFFD_EVENT_FORK)
			pager_forked(p, session, (int)msg.arg.fork.ufd);
	}
	atomic_store(&p->st->head.reading, -1);
}

/* Once a second: whose process has gone? */
static void pager_tick(struct pager *p)
{
	uint32_t n = atomic_load(&p->st->sessions);

	pthread_mutex_lock(&p->lock);
	for (uint32_t i = 0; i < n; i++) {
		if (atomic_load(&p->st->session[i].use) != PAGER_USED)
			continue;
		if (pager_session_is_dead(p, i))
			pager_session_end(p, i);
		else if (p->has_overflow && p->queued < PAGER_QUEUE / 2)
			pager_wake(p, i);
	}
	p->has_overflow = p->has_overflow && p->queued >= PAGER_QUEUE / 2;
	pthread_mutex_unlock(&p->lock);
}

/* Nobody needs us; or the cache has been purged, and the next pager is of the new one. */
static bool pager_is_done(struct pager *p, enum pager_end *end)
{
	uint64_t now = dz_now_ms();
	struct stat st;
	bool is_gone = dz_sys_fstat(p->e->seg.dram_fd, &st) == 0 && st.st_nlink == 0;

	*end = PAGER_AGAIN;
	if (atomic_load(&p->st->head.live)) {
		p->alone_since_ms = 0;
		return is_gone;
	}
	*end = PAGER_UNUSED;
	if (!p->alone_since_ms)
		p->alone_since_ms = now;
	return is_gone || now - p->alone_since_ms >= ALONE_MS;
}

/* ---- the pager ---- */

static void *pager_lookup(void *lib, const char *name)
{
	return dlsym(lib, name);
}

static int pager_watch(const struct pager *p, int fd, int what)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u64 = (uint64_t)(int64_t)what };

	return fd < 0 || epoll_ctl(p->epoll_fd, EPOLL_CTL_ADD, fd, &ev) == 0 ? 0 : -errno;
}

/* What an earlier pager has left: goes on. */
static void pager_take_over(struct pager *p)
{
	for (uint32_t i = 0; i < atomic_load(&p->st->ranges); i++) {
		uint32_t dying = PAGER_DYING;

		atomic_compare_exchange_strong(&p->st->range[i].use, &dying, PAGER_FREE);
		if (atomic_load(&p->st->range[i].use) == PAGER_USED)
			pager_range_settle(p, i);
	}
	for (uint32_t i = 0; i < atomic_load(&p->st->sessions); i++) {
		struct pager_session *s = &p->st->session[i];

		if (atomic_load(&s->use) == PAGER_BUILDING)
			pager_ranges_inherit(p, i, s->parent);
		if (atomic_load(&s->use) != PAGER_USED)
			continue;
		session_watch(p, i);
		pager_wake(p, i);
	}
}

static int pager_open(struct pager *p)
{
	char lib[DZ_PATH_MAX + 32];
	int ret;

	fds_settle(p);
	p->head = p->queued = 0;
	p->has_overflow = false;
	p->alone_since_ms = 0;
	memset(p->busy, 0, sizeof(p->busy));
	p->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	p->keeper_fd = (int)dz_sys_2(SYS_pidfd_open, p->keeper, 0);
	snprintf(lib, sizeof(lib), "%s/libdeltazero.so", p->lib_dir);
	ret = dz_engine_open(&p->e, &p->cfg, environ, lib);
	if (ret < 0)
		return ret;
	p->e->home_agent = p->agent;
	dz_engine_set_lookup(p->e, pager_lookup);
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->wanted, NULL);
	ret = pager_fillers_start(p);
	if (ret == 0)
		ret = pager_watch(p, p->listen_fd, WATCH_LISTEN);
	if (ret == 0)
		ret = pager_watch(p, p->keeper_fd, WATCH_KEEPER);
	if (ret == 0)
		pager_take_over(p);
	return ret;
}

static bool pager_lost_keeper(const struct pager *p)
{
	return getppid() != p->keeper;
}

static enum pager_end pager_run(struct pager *p)
{
	enum pager_end end;
	uint64_t next = 0;

	for (;;) {
		struct epoll_event ev[64];
		int n = epoll_wait(p->epoll_fd, ev, DZ_ARRAY_LEN(ev), TICK_MS);

		for (int i = 0; i < n; i++) {
			int64_t what = (int64_t)ev[i].data.u64;

			if (what == WATCH_LISTEN)
				pager_accept(p);
			else if (what >= 0)
				pager_events(p, (uint32_t)what);
		}
		if (pager_lost_keeper(p))
			return PAGER_ORPHAN;
		if (dz_now_ms() < next)
			continue;
		next = dz_now_ms() + TICK_MS;
		pager_tick(p);
		if (pager_is_done(p, &end))
			return end;
	}
}

/* In the process that the keeper has made; returns its exit status, or -1: see below. */
static int pager_main(struct pager *p)
{
	int ret = pager_open(p);

	if (ret < 0) {
		dz_error(&p->log, "lazy mappings: %s: nobody fills them", dz_strerror(-ret));
		return PAGER_AGAIN;
	}
	for (;;) {
		enum pager_end end = pager_run(p);
		pid_t pid;

		if (end != PAGER_ORPHAN)
			return (int)end;
		/* Fork, and not clone: the child needs malloc and threads as they ought to be. */
		pid = fork();
		if (pid == 0)
			return -1;
		if (pid > 0)
			_exit(PAGER_ORPHAN);
		poll(NULL, 0, 100);
	}
}

/* ---- the keeper ---- */

/* Starts a pager and waits for its end; true: it is not needed any more. */
static bool keeper_round(struct pager *p)
{
	uint64_t start = dz_now_ms();
	int status = 0, ret;
	long pid;

	p->keeper = (int)getpid();
	pid = syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);
	if (pid == 0) {
		ret = pager_main(p);
		/* Below zero: we are a keeper now, in a process of our own. */
		if (ret >= 0)
			_exit(ret);
		fds_settle(p);
		return false;
	}
	if (pid > 0 && waitpid((pid_t)pid, &status, 0) == (pid_t)pid && WIFEXITED(status) &&
	    (WEXITSTATUS(status) == PAGER_UNUSED || !atomic_load(&p->st->head.live)))
		return true;
	/* One that dies at once, time and again, must not keep the node busy with it. */
	if (dz_now_ms() - start < 1000)
		poll(NULL, 0, 50);
	return false;
}

/* Out of the program whose pager has died with its keeper. */
static int session_recover(const struct pager_session *s)
{
	int fd, pidfd = s->pid ? (int)dz_sys_2(SYS_pidfd_open, s->pid, 0) : -ESRCH;

	if (pidfd < 0)
		return pidfd;
	fd = (int)dz_sys_3(SYS_pidfd_getfd, pidfd, s->fd, 0);
	dz_sys_close(pidfd);
	if (fd >= 0 && fd_is_uffd(fd))
		return fd;
	if (fd >= 0)
		dz_sys_close(fd);
	return -EBADF;
}

static void state_recover(struct pager *p)
{
	atomic_store(&p->st->head.reading, -1);
	for (uint32_t i = 0; i < PAGER_SESSIONS; i++) {
		struct pager_session *s = &p->st->session[i];

		if (atomic_load(&s->use) == PAGER_FREE)
			continue;
		s->uffd = session_recover(s);
		if (s->uffd < 0)
			pager_session_end(p, i);
	}
}

/* Everything that says who is served, and the lock on it: one pager a record. */
static int state_open(struct pager *p)
{
	const uint32_t bytes = sizeof(struct pager_state);
	struct pager_head head;
	int ret = 0;
	char name[32];
	void *map;

	snprintf(name, sizeof(name), DZ_LAZY_STATE, p->agent);
	p->state_fd = dz_sys_openat(p->dir_fd, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (p->state_fd < 0)
		return p->state_fd;
	if (flock(p->state_fd, LOCK_EX | LOCK_NB) < 0)
		return -EEXIST;
	/* Another build's says nothing to us. */
	if (dz_sys_pread(p->state_fd, &head, sizeof(head), 0) != (ssize_t)sizeof(head) ||
	    head.magic != STATE_MAGIC || head.bytes != bytes)
		ret = ftruncate(p->state_fd, 0);
	if (ret < 0 || ftruncate(p->state_fd, bytes) < 0)
		return -errno;
	map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, p->state_fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	p->st = map;
	p->st->head.bytes = bytes;
	p->st->head.magic = STATE_MAGIC;
	state_recover(p);
	return 0;
}

static int listen_open(struct pager *p)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	char name[32];

	snprintf(name, sizeof(name), DZ_LAZY_SOCKET, p->agent);
	snprintf(at.sun_path, sizeof(at.sun_path), "/proc/self/fd/%d/%s", p->dir_fd, name);
	dz_sys_unlinkat(p->dir_fd, name, 0);
	p->listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (p->listen_fd < 0 || bind(p->listen_fd, (struct sockaddr *)&at, sizeof(at)) < 0 ||
	    listen(p->listen_fd, 128) < 0)
		return -errno;
	return 0;
}

/* The cache's directory, wherever it is. */
static int dir_open(struct pager *p)
{
	static struct dz_seg seg;
	int ret = dz_seg_open(&seg, &p->cfg, &p->log);

	if (ret < 0)
		return ret;
	p->dir_fd = (int)dz_sys_3(SYS_fcntl, seg.dir_fd, F_DUPFD_CLOEXEC, 3);
	dz_seg_close(&seg);
	return p->dir_fd < 0 ? p->dir_fd : 0;
}

/* One a process served. */
static void many_descriptors(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) == 0) {
		l.rlim_cur = l.rlim_max;
		setrlimit(RLIMIT_NOFILE, &l);
	}
}

int dz_pager_main(int argc, char **argv)
{
	static struct pager p; /* large; this process is ours */
	char name[32];
	int ret;

	if (argc != 4)
		return 1;
	/* Before the working directory changes: paths in it may be relative to the program's. */
	dz_config_read(&p.cfg, environ);
	dz_agent_detach("dz-pager");
	many_descriptors();
	p.epoll_fd = -1;
	p.agent = (uint32_t)strtoul(argv[1], NULL, 10);
	p.lib_dir = argv[3];
	p.log = (struct dz_log){ .level = p.cfg.log_level,
				 .path = p.cfg.log_path,
				 .who = "deltazero-pager" };
	ret = dir_open(&p);
	if (ret == 0)
		ret = state_open(&p);
	if (ret == 0)
		ret = listen_open(&p);
	if (ret < 0)
		return ret == -EEXIST ? 0 : 1;
	while (!keeper_round(&p))
		;
	snprintf(name, sizeof(name), DZ_LAZY_SOCKET, p.agent);
	dz_sys_unlinkat(p.dir_fd, name, 0);
	return 0;
}

int dz_pager_is_missed(int dir_fd, unsigned int agent)
{
	struct pager_head head;
	char name[32];
	bool is_missed;
	int fd;

	snprintf(name, sizeof(name), DZ_LAZY_STATE, agent);
	fd = dz_sys_openat(dir_fd, name, O_RDWR | O_CLOEXEC, 0);
	if (fd < 0)
		return 0;
	is_missed = dz_sys_pread(fd, &head, sizeof(head), 0) == (ssize_t)sizeof(head) &&
		    head.magic == STATE_MAGIC && atomic_load(&head.live) != 0 &&
		    flock(fd, LOCK_EX | LOCK_NB) == 0;
	dz_sys_close(fd);
	return is_missed;
}
