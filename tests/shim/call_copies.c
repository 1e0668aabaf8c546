/* SPDX-License-Identifier: MIT */
/* Copies, hints, waiting, asynchronous reads, locks, attributes: argument 1 is a tree's root. */
#include "say.h"

#include <aio.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

/* As libaio.so would be called: what stands in front of it, else the kernel. */
static int io_submit(aio_context_t c, long n, struct iocb **list)
{
	int (*f)(aio_context_t, long, struct iocb **) = dlsym(RTLD_DEFAULT, "io_submit");

	return f ? f(c, n, list) : (int)syscall(SYS_io_submit, c, n, list);
}

static int io_getevents(aio_context_t c, long least, long n, struct io_event *e, struct timespec *t)
{
	int (*f)(aio_context_t, long, long, struct io_event *, struct timespec *) =
		dlsym(RTLD_DEFAULT, "io_getevents");

	return f ? f(c, least, n, e, t) : (int)syscall(SYS_io_getevents, c, least, n, e, t);
}

static char buf[4 << 20];

static long long sum_of(int fd)
{
	ssize_t n = pread(fd, buf, sizeof(buf), 0);

	return n < 0 ? -1 : say_sum(buf, n) ^ n;
}

static void copies(int fd, int out)
{
	off64_t off = 100, to = 7;
	int null = open("/dev/null", O_WRONLY), p[2], s[2];

	SAY(sendfile(out, fd, &off, 5000));
	SAY(off);
	SAY(lseek(fd, 0, SEEK_CUR));
	SAY(sendfile(out, fd, NULL, 100000));
	SAY(lseek(fd, 0, SEEK_CUR));
	SAY(sendfile(null, fd, NULL, 1 << 30));
	SAY(sendfile(null, fd, NULL, 10));
	SAY(sendfile(fd, fd, NULL, 10));
	off = -5;
	SAY(sendfile(null, fd, &off, 10));
	SAY(sum_of(out));
	SAY(lseek(fd, 0, SEEK_SET));
	SAY(copy_file_range(fd, NULL, out, &to, 3000, 0));
	SAY(to);
	SAY(lseek(fd, 0, SEEK_CUR));
	off = 1 << 20;
	SAY(copy_file_range(fd, &off, out, NULL, 3 << 20, 0));
	SAY(off);
	SAY(copy_file_range(fd, &off, out, NULL, 10, 0));
	SAY(copy_file_range(fd, &off, null, NULL, 10, 0));
	SAY(copy_file_range(fd, &off, out, NULL, 10, 1));
	SAY(sum_of(out));
	SAY(pipe(p));
	off = 17;
	SAY(splice(fd, &off, p[1], NULL, 1 << 20, SPLICE_F_NONBLOCK) > 4096);
	SAY(splice(fd, &off, p[1], NULL, 100, SPLICE_F_NONBLOCK));
	SAY(read(p[0], buf, 4096));
	SAY(say_sum(buf, 4096));
	SAY(splice(fd, NULL, null, NULL, 10, 0));
	SAY(tee(fd, p[1], 10, 0));
	SAY(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, s));
	off = 0;
	SAY(sendfile(s[0], fd, &off, 3 << 20) == off);
	SAY(read(s[1], buf, 100));
	SAY(say_sum(buf, 100));
}

static void hints(int fd)
{
	int dir = open("text", O_RDONLY);

	SAY(posix_fadvise(fd, 0, 0, POSIX_FADV_WILLNEED));
	SAY(posix_fadvise(fd, 0, 1000, POSIX_FADV_DONTNEED));
	SAY(posix_fadvise(fd, 0, 0, 77));
	SAY(posix_fadvise(fd, 0, -1, POSIX_FADV_NORMAL));
	SAY(readahead(fd, 0, 1 << 20));
	SAY(flock(fd, LOCK_SH));
	SAY(flock(fd, LOCK_EX | LOCK_NB));
	SAY(flock(fd, LOCK_UN));
	SAY(flock(fd, 77));
	SAY(lockf(fd, F_TLOCK, 10));
	SAY(lockf(fd, F_TEST, 10));
	SAY(fgetxattr(fd, "user.none", buf, 100));
	SAY(getxattr("text/lines.txt", "user.none", buf, 100));
	SAY(lgetxattr("none", "user.none", buf, 100));
	SAY(listxattr("text", buf, 100));
	SAY(flistxattr(dir, buf, 100));
	SAY(close(dir));
}

static void waits(int fd)
{
	struct pollfd p[3] = { { .fd = fd, .events = POLLIN | POLLPRI },
			       { .fd = -1, .events = POLLIN },
			       { .fd = 0, .events = POLLIN } };
	struct epoll_event ev = { .events = EPOLLIN };
	struct timeval tv = { 0, 1000 };
	int pipes[2], e = epoll_create1(0);
	fd_set r, w, x;

	SAY(pipe(pipes));
	p[2].fd = pipes[0];
	SAY(poll(p, 3, -1));
	SAY(p[0].revents | p[1].revents << 8 | p[2].revents << 16);
	p[0].events = POLLOUT | POLLWRNORM;
	SAY(write(pipes[1], "x", 1));
	SAY(poll(p, 3, -1));
	SAY(p[0].revents | p[1].revents << 8 | p[2].revents << 16);
	p[0].events = POLLPRI;
	SAY(read(pipes[0], buf, 1));
	SAY(poll(p, 3, 20));
	SAY(p[0].revents | p[1].revents << 8 | p[2].revents << 16);
	FD_ZERO(&r);
	FD_ZERO(&w);
	FD_ZERO(&x);
	FD_SET(fd, &r);
	FD_SET(pipes[0], &r);
	FD_SET(fd, &w);
	FD_SET(fd, &x);
	SAY(select(100, &r, &w, &x, NULL));
	SAY(FD_ISSET(fd, &r) | FD_ISSET(pipes[0], &r) << 1 | FD_ISSET(fd, &w) << 2 |
	    FD_ISSET(fd, &x) << 3);
	FD_ZERO(&r);
	FD_ZERO(&x);
	FD_SET(pipes[0], &r);
	FD_SET(fd, &x);
	SAY(select(100, &r, NULL, &x, &tv));
	SAY(epoll_ctl(e, EPOLL_CTL_ADD, fd, &ev));
	SAY(epoll_ctl(e, EPOLL_CTL_DEL, fd, &ev));
	SAY(epoll_ctl(fd, EPOLL_CTL_ADD, e, &ev));
}

static volatile sig_atomic_t signalled;

static void on_signal(int sig, siginfo_t *info, void *context)
{
	(void)sig, (void)context;
	signalled += info->si_value.sival_int;
}

static volatile int threaded;

static void on_thread(union sigval v)
{
	__atomic_store_n(&threaded, v.sival_int, __ATOMIC_RELEASE);
}

static void posix_aio(int fd)
{
	struct aiocb a = { .aio_fildes = fd, .aio_buf = buf, .aio_nbytes = 5000, .aio_offset = 77 };
	struct aiocb b = a, *list[] = { &a, NULL, &b };
	struct sigaction act = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO };

	sigaction(SIGUSR1, &act, NULL);
	b.aio_buf = buf + 10000;
	b.aio_offset = 1 << 30;
	a.aio_sigevent.sigev_notify = SIGEV_SIGNAL;
	a.aio_sigevent.sigev_signo = SIGUSR1;
	a.aio_sigevent.sigev_value.sival_int = 21;
	SAY(aio_read(&a));
	while (!signalled)
		usleep(1000);
	SAY(aio_suspend((const struct aiocb *const *)list, 1, NULL));
	SAY(aio_error(&a));
	SAY(aio_return(&a));
	SAY(say_sum(buf, 5000));
	SAY(signalled);
	b.aio_sigevent.sigev_notify = SIGEV_THREAD;
	b.aio_sigevent.sigev_notify_function = on_thread;
	b.aio_sigevent.sigev_value.sival_int = 8;
	SAY(aio_read(&b));
	while (!__atomic_load_n(&threaded, __ATOMIC_ACQUIRE))
		usleep(1000);
	SAY(aio_error(&b));
	SAY(aio_return(&b));
	SAY(aio_cancel(fd, NULL));
	a.aio_sigevent.sigev_notify = b.aio_sigevent.sigev_notify = SIGEV_NONE;
	a.aio_lio_opcode = b.aio_lio_opcode = LIO_READ;
	SAY(lio_listio(LIO_WAIT, list, 3, NULL));
	SAY(aio_return(&a));
	SAY(aio_return(&b));
	SAY(aio_write(&a));
	while (aio_error(&a) == EINPROGRESS)
		usleep(1000);
	SAY(aio_error(&a));
}

static void kernel_aio(int fd, int out)
{
	struct iovec iov = { buf + 9000, 100 };
	struct iocb a = { .aio_data = 1,
			  .aio_lio_opcode = IOCB_CMD_PREAD,
			  .aio_fildes = (unsigned)fd },
		    b = a, c = a, *list[] = { &a, &b, &c };
	struct io_event ev[8];
	aio_context_t context = 0;
	long long data = 0, res = 0;

	SAY(syscall(SYS_io_setup, 16, &context));
	a.aio_buf = (uintptr_t)buf, a.aio_nbytes = 5000, a.aio_offset = 3;
	b.aio_data = 2, b.aio_fildes = (unsigned)out, b.aio_buf = (uintptr_t)buf + 6000,
	b.aio_nbytes = 1000;
	c.aio_data = 4, c.aio_lio_opcode = IOCB_CMD_PREADV, c.aio_buf = (uintptr_t)&iov,
	c.aio_nbytes = 1, c.aio_offset = 70;
	SAY(io_submit(context, 3, list));
	for (int have = 0, n; have < 3; have += n) {
		n = io_getevents(context, 1, 8, ev, NULL);
		for (int i = 0; i < n; i++)
			data += (long long)ev[i].data, res += ev[i].res * (long long)ev[i].data;
		if (n < 1)
			break;
	}
	SAY(data);
	SAY(res);
	SAY(say_sum(buf, 5000));
	SAY(say_sum(buf + 9000, 100));
}

/* A descriptor that goes over a socket reads in the other process. */
static void sent(int fd)
{
	char room[CMSG_SPACE(sizeof(int))] = { 0 }, byte = 'x';
	struct iovec iov = { &byte, 1 };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = room,
			    .msg_controllen = sizeof(room) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	int s[2], got;

	*c = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(int)),
			       .cmsg_level = SOL_SOCKET,
			       .cmsg_type = SCM_RIGHTS };
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	socketpair(AF_UNIX, SOCK_STREAM, 0, s);
	SAY(lseek(fd, 50, SEEK_SET));
	SAY(sendmsg(s[0], &m, 0));
	if (fork() == 0) {
		close(fd);
		recvmsg(s[1], &m, 0);
		memcpy(&got, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(got));
		SAY(read(got, buf, 100));
		SAY(say_sum(buf, 100));
		SAY(lseek(got, 0, SEEK_CUR));
		_exit(0);
	}
	wait(NULL);
	SAY(lseek(fd, 0, SEEK_CUR));
}

int main(int argc, char **argv)
{
	char scratch[4096];
	int fd, out;

	snprintf(scratch, sizeof(scratch), "%s/copy", getenv("OUT"));
	out = open(scratch, O_RDWR | O_CREAT, 0600);
	if (argc < 2 || chdir(argv[1]) != 0 || out < 0)
		return 2;
	fd = open("data/large.bin", O_RDONLY);
	copies(fd, out);
	hints(fd);
	waits(fd);
	posix_aio(fd);
	kernel_aio(fd, out);
	sent(fd);
	int watch = inotify_init1(IN_NONBLOCK);
	SAY(inotify_add_watch(watch, "text", IN_ALL_EVENTS) > 0);
	SAY(inotify_add_watch(watch, "none", IN_ALL_EVENTS));
	SAY(read(watch, buf, 1000));
	return 0;
}
