/* SPDX-License-Identifier: MIT */
/*
 * call_names_more ROOT: as call_names, for directories, walkers, asynchronous I/O,
 * waiting, attributes and what goes to other processes.  call_names_more wide < FILE
 * reads wide characters from standard input.
 */
#include "say.h"

#include "by_name.h"

#include <aio.h>
#include <dirent.h>
#include <fcntl.h>
#include <fts.h>
#include <ftw.h>
#include <glob.h>
#include <linux/aio_abi.h>
#include <locale.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/fanotify.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <wchar.h>

#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif

static char buf[1 << 16];

static int like_readdir_r(DIR *dir, struct dirent *entry, struct dirent **result)
{
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
	return readdir_r(dir, entry, result);
}

static void directories(int dir)
{
	struct dirent entry, *e, **list;
	DIR *stream = opendir("many");
	off64_t base = 0;
	long n = 0;

	while (BY_NAME(readdir64_r, like_readdir_r)(stream, &entry, &e) == 0 && e)
		n++;
	SAY(n);
	SAY(closedir(stream));
	stream = opendir("many");
	for (n = 0; BY_NAME(readdir64, readdir)(stream); n++)
		;
	SAY(n);
	SAY(closedir(stream));
	SAY(BY_NAME(scandir64, scandir)("many", &list, NULL, alphasort));
	SAY(BY_NAME(scandir64, scandir)("text/lines.txt", &list, NULL, alphasort));
	SAY(BY_NAME(scandirat64, scandirat)(dir, ".", &list, NULL, alphasort));
	SAY(BY_NAME(scandirat64, scandirat)(dir, "none", &list, NULL, alphasort));
	SAY(getdirentries(dir, buf, sizeof(buf), &base) > 0);
	SAY(getdirentries(dir, buf, sizeof(buf), &base));
	SAY(lseek(dir, 0, SEEK_SET));
	SAY(BY_NAME(getdirentries64, getdirentries)(dir, buf, sizeof(buf), &base) > 0);
	SAY(base);
	SAY(BY_NAME(getdirentries64, getdirentries)(997, buf, sizeof(buf), &base));
}

static long visits;

static int visit(const char *path, const struct stat *st, int flag)
{
	(void)path;
	visits += flag == FTW_F ? 1000 + st->st_size : 1;
	return 0;
}

static int visit_new(const char *path, const struct stat *st, int flag, struct FTW *at)
{
	return visit(path, st, flag) + 0 * at->level;
}

static void walks(void)
{
	char *paths[] = { (char *)"tree", NULL };
	FTSENT *e;
	glob_t g;
	FTS *t;

	SAY(BY_NAME(ftw64, ftw)("tree", visit, 10));
	SAY(visits);
	SAY(BY_NAME(nftw64, nftw)("tree", visit_new, 10, FTW_DEPTH));
	SAY(visits);
	SAY(BY_NAME(nftw64, nftw)("none", visit_new, 10, 0));
	t = SAY_PTR(BY_NAME(fts64_open, fts_open)(paths, FTS_PHYSICAL | FTS_NOCHDIR, NULL));
	for (visits = 0; (e = BY_NAME(fts64_read, fts_read)(t)); visits++)
		if (strcmp(e->fts_name, "deep") == 0 && e->fts_info == FTS_D) {
			e = BY_NAME(fts64_children, fts_children)(t, 0);
			while (strcmp(e->fts_name, "er") != 0)
				e = e->fts_link;
			SAY(BY_NAME(fts64_set, fts_set)(t, e, FTS_SKIP));
		}
	SAY(visits);
	SAY(BY_NAME(fts64_close, fts_close)(t));
	SAY(BY_NAME(glob64, glob)("t*/*.txt", 0, NULL, &g));
	SAY(g.gl_pathc);
	SAY(BY_NAME(glob64, glob)("none/*.txt", 0, NULL, &g));
}

static void reopens(void)
{
	FILE *f = fopen("text/lines.txt", "r");

	f = SAY_PTR(BY_NAME(freopen64, freopen)("text/other.txt", "r", f));
	SAY_PTR(fgets(buf, 100, f));
	dprintf(1, "   %s", buf);
	SAY(fclose(f));
	f = SAY_PTR(BY_NAME(fopen64, fopen)("text/other.txt", "r"));
	SAY_PTR(fgets(buf, 100, f));
	SAY(fclose(f));
	f = SAY_PTR(BY_NAME(_IO_fopen, fopen)("text/other.txt", "r"));
	SAY_PTR(fgets(buf, 100, f));
	SAY(fclose(f));
	SAY_PTR(BY_NAME(_IO_fopen, fopen)("text/none", "r"));
	f = SAY_PTR(BY_NAME(_IO_fdopen, fdopen)(open("text/other.txt", O_RDONLY), "r"));
	SAY_PTR(fgets(buf, 100, f));
	dprintf(1, "   %s", buf);
	SAY(fclose(f));
}

/* --- asynchronous --- */

static void wait_for(struct aiocb *a)
{
	const struct aiocb *const list[] = { a };

	while (aio_error(a) == EINPROGRESS)
		aio_suspend(list, 1, NULL);
}

static void posix_aio(int fd)
{
	struct aiocb a = { .aio_fildes = fd, .aio_buf = buf, .aio_nbytes = 5000, .aio_offset = 77 };
	struct aiocb b = a, *list[] = { &a };

	SAY(BY_NAME(aio_read64, aio_read)(&a));
	wait_for(&a);
	SAY(aio_return(&a));
	SAY(say_sum(buf, 5000));
	SAY(BY_NAME(aio_write64, aio_write)(&b));
	wait_for(&b);
	SAY(aio_error(&b));
	memset(buf, 0, sizeof(buf));
	a.aio_lio_opcode = LIO_READ;
	SAY(BY_NAME(lio_listio64, lio_listio)(LIO_WAIT, list, 1, NULL));
	SAY(say_sum(buf, 5000));
}

static int like_io_pgetevents(aio_context_t c, long least, long n, struct io_event *e,
			      struct timespec *t, const void *mask)
{
	return (int)syscall(SYS_io_pgetevents, c, least, n, e, t, mask);
}

static int like_io_submit(aio_context_t c, long n, struct iocb **list)
{
	return (int)syscall(SYS_io_submit, c, n, list);
}

static int like_io_destroy(aio_context_t c)
{
	return (int)syscall(SYS_io_destroy, c);
}

static void kernel_aio(int fd)
{
	struct iocb a = { .aio_lio_opcode = IOCB_CMD_PREAD, .aio_fildes = (unsigned)fd },
		    *list[] = { &a };
	struct timespec second = { 1, 0 };
	aio_context_t context = 0;
	struct io_event ev[2];

	a.aio_buf = (uintptr_t)buf, a.aio_nbytes = 4000, a.aio_offset = 12345;
	SAY(syscall(SYS_io_setup, 4, &context));
	SAY(BY_NAME(io_submit, like_io_submit)(context, 1, list));
	SAY(BY_NAME(io_pgetevents, like_io_pgetevents)(context, 1, 2, ev, &second, NULL));
	SAY(ev[0].res);
	SAY(say_sum(buf, 4000));
	/* What is still to be fetched goes with its context. */
	SAY(BY_NAME(io_submit, like_io_submit)(context, 1, list));
	SAY(BY_NAME(io_destroy, like_io_destroy)(context));
}

/* --- waiting --- */

typedef int poll_chk_fn(struct pollfd *, nfds_t, int, size_t);
typedef int ppoll_chk_fn(struct pollfd *, nfds_t, const struct timespec *, const sigset_t *,
			 size_t);

static void waits(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN | POLLOUT };
	struct timespec none = { 0, 0 };
	ppoll_chk_fn *ppoll_chk = NULL;
	poll_chk_fn *poll_chk = NULL;
	fd_set r, w;

	SAY(BY_NAME(__poll, poll)(&p, 1, -1));
	SAY(p.revents);
	SAY(BY_NAME(__poll_chk, poll_chk)(&p, 1, -1, sizeof(p)));
	SAY(p.revents);
	SAY(ppoll(&p, 1, &none, NULL));
	SAY(p.revents);
	SAY(BY_NAME(__ppoll_chk, ppoll_chk)(&p, 1, NULL, NULL, sizeof(p)));
	SAY(p.revents);
	FD_ZERO(&r);
	FD_ZERO(&w);
	FD_SET(fd, &r);
	SAY(BY_NAME(__select, select)(fd + 1, &r, NULL, NULL, NULL));
	SAY(FD_ISSET(fd, &r));
	FD_SET(fd, &w);
	SAY(pselect(fd + 1, &r, &w, NULL, &none, NULL));
	SAY(FD_ISSET(fd, &r) + FD_ISSET(fd, &w));
}

/* --- attributes, mappings, the loader --- */

static void attributes(int fd, int dir)
{
	void *at = mmap(NULL, 8192, PROT_READ, MAP_SHARED, fd, 4096);

	SAY(llistxattr("text/lines.txt", buf, 100));
	SAY(llistxattr("text/none", buf, 100));
	SAY(lsetxattr("text/none", "user.x", "1", 1, 0));
	SAY(lremovexattr("text/none", "user.x"));
	SAY(fremovexattr(997, "user.x"));
	SAY(lgetxattr("text/lines.txt", "user.none", buf, 10));
	SAY(fanotify_mark(997, FAN_MARK_ADD, FAN_OPEN, AT_FDCWD, "/etc"));
	SAY(fanotify_mark(997, FAN_MARK_ADD, FAN_OPEN, AT_FDCWD, "text/none") < 0);
	SAY_PTR(at);
	SAY(say_sum(at, 8192));
	/* Since 4.0 the kernel emulates it; what cannot be remapped must say so. */
	if (remap_file_pages(at, 4096, 0, 0, 0) == 0)
		SAY(say_sum(at, 4096) != 0);
	SAY(munmap(at, 8192));
	at = SAY_PTR(BY_NAME(mmap64, mmap)(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 1 << 20));
	SAY(say_sum(at, 4096));
	SAY(munmap(at, 4096));
	SAY_PTR(dlopen("text/lines.txt", RTLD_NOW));
	SAY_PTR(dlmopen(LM_ID_BASE, "none/libnone.so", RTLD_NOW));
	SAY_PTR(dlmopen(LM_ID_BASE, "text/lines.txt", RTLD_NOW));
	SAY(dir >= 0);
}

/* --- what the kernel takes for itself: of a path that is not there, nothing can come --- */

static int like_pivot_root(const char *root, const char *old)
{
	return (int)syscall(SYS_pivot_root, root, old);
}

static int like_quotactl(int command, const char *device, int id, char *at)
{
	return (int)syscall(SYS_quotactl, command, device, id, at);
}

static void administered(void)
{
	SAY(mount("text/lines.txt", "text/none", "none", MS_BIND, NULL));
	SAY(mount("none", "text/none", "tmpfs", 0, NULL));
	SAY(mount(NULL, NULL, NULL, 0, NULL));
	SAY(umount("text/none"));
	SAY(umount2("text/none", MNT_DETACH));
	SAY(BY_NAME(pivot_root, like_pivot_root)("text/none", "text/none"));
	SAY(swapon("text/none", 0));
	SAY(acct("text/none"));
	SAY(BY_NAME(quotactl, like_quotactl)(0, "text/none", 0, buf));
	SAY((int)syscall(SYS_umount2, "text/none", 0));
}

/* --- to other processes --- */

static int like_pidfd_getfd(int pidfd, int fd, unsigned int flags)
{
	return (int)syscall(SYS_pidfd_getfd, pidfd, fd, flags);
}

/* Takes a descriptor out of a message, and reads through it. */
static void taken(struct msghdr *m)
{
	int got;

	memcpy(&got, CMSG_DATA(CMSG_FIRSTHDR(m)), sizeof(got));
	SAY(read(got, buf, 100));
	SAY(say_sum(buf, 100));
	close(got);
}

static void sent(int fd)
{
	char room[CMSG_SPACE(sizeof(int))] = { 0 }, byte = 'x';
	struct iovec iov = { &byte, 1 };
	struct mmsghdr m = { .msg_hdr = { .msg_iov = &iov,
					  .msg_iovlen = 1,
					  .msg_control = room,
					  .msg_controllen = sizeof(room) } };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m.msg_hdr);
	int s[2];

	*c = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(int)),
			       .cmsg_level = SOL_SOCKET,
			       .cmsg_type = SCM_RIGHTS };
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	SAY(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	SAY(lseek(fd, 50, SEEK_SET));
	SAY(sendmmsg(s[0], &m, 1, 0));
	memset(room, 0, sizeof(room));
	SAY(recvmmsg(s[1], &m, 1, 0, NULL));
	taken(&m.msg_hdr);
	SAY(lseek(fd, 0, SEEK_CUR));
	close(s[0]);
	close(s[1]);
}

static void copied(int fd)
{
	int pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	int got = BY_NAME(pidfd_getfd, like_pidfd_getfd)(pidfd, fd, 0);

	SAY(got >= 0);
	SAY(read(got, buf, 100));
	SAY(say_sum(buf, 100));
	SAY(lseek(fd, 0, SEEK_CUR));
	SAY(BY_NAME(pidfd_getfd, like_pidfd_getfd)(pidfd, 997, 0));
}

/* --- wide characters of standard input --- */

typedef int vwscanf_fn(const wchar_t *, va_list);
typedef int vfwscanf_fn(FILE *, const wchar_t *, va_list);
typedef wchar_t *fgetws_chk_fn(wchar_t *, size_t, int, FILE *);

static int by_list(vwscanf_fn *scan, const wchar_t *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = scan(format, args);
	va_end(args);
	return n;
}

static int by_stream(vfwscanf_fn *scan, const wchar_t *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = scan(stdin, format, args);
	va_end(args);
	return n;
}

static void said_line(int n)
{
	dprintf(1, "   line %d\n", n);
}

/* Each takes the number of a line "line N of the file", and the rest of it is read away. */
static void scans(void)
{
	wchar_t rest[100];
	int n = -1;

#define NEXT (fgetws(rest, 100, stdin), said_line(n))
	SAY(BY_NAME(wscanf, wscanf)(L"line %d", &n)), NEXT;
	SAY(BY_NAME(fwscanf, fwscanf)(stdin, L"line %d", &n)), NEXT;
	SAY(BY_NAME(__isoc99_wscanf, wscanf)(L"line %d", &n)), NEXT;
	SAY(BY_NAME(__isoc99_fwscanf, fwscanf)(stdin, L"line %d", &n)), NEXT;
	SAY(BY_NAME(__isoc23_wscanf, wscanf)(L"line %d", &n)), NEXT;
	SAY(BY_NAME(__isoc23_fwscanf, fwscanf)(stdin, L"line %d", &n)), NEXT;
	SAY(by_list(BY_NAME(vwscanf, vwscanf), L"line %d", &n)), NEXT;
	SAY(by_list(BY_NAME(__isoc99_vwscanf, vwscanf), L"line %d", &n)), NEXT;
	SAY(by_list(BY_NAME(__isoc23_vwscanf, vwscanf), L"line %d", &n)), NEXT;
	SAY(by_stream(BY_NAME(vfwscanf, vfwscanf), L"line %d", &n)), NEXT;
	SAY(by_stream(BY_NAME(__isoc99_vfwscanf, vfwscanf), L"line %d", &n)), NEXT;
	SAY(by_stream(BY_NAME(__isoc23_vfwscanf, vfwscanf), L"line %d", &n)), NEXT;
#undef NEXT
}

static int wide(void)
{
	fgetws_chk_fn *chk = NULL;
	wchar_t line[100];

	SAY(BY_NAME(getwchar, getwchar)());
	SAY(BY_NAME(getwchar_unlocked, getwchar_unlocked)());
	SAY(BY_NAME(fgetwc_unlocked, fgetwc_unlocked)(stdin));
	SAY(BY_NAME(getwc_unlocked, getwc_unlocked)(stdin));
	SAY_PTR(BY_NAME(fgetws_unlocked, fgetws_unlocked)(line, 100, stdin));
	SAY(say_sum(line, (long long)(wcslen(line) * sizeof(*line))));
	SAY_PTR(BY_NAME(__fgetws_chk, chk)(line, 100, 100, stdin));
	SAY(say_sum(line, (long long)(wcslen(line) * sizeof(*line))));
	SAY_PTR(BY_NAME(__fgetws_unlocked_chk, chk)(line, 100, 100, stdin));
	SAY(say_sum(line, (long long)(wcslen(line) * sizeof(*line))));
	scans();
	return 0;
}

int main(int argc, char **argv)
{
	int fd, dir;

	setlocale(LC_ALL, "C.UTF-8");
	if (argc == 2 && strcmp(argv[1], "wide") == 0)
		return wide();
	if (argc < 2 || chdir(argv[1]) != 0)
		return 2;
	fd = open("data/large.bin", O_RDONLY);
	dir = open("text", O_RDONLY | O_DIRECTORY);
	directories(dir);
	walks();
	reopens();
	posix_aio(fd);
	kernel_aio(fd);
	waits(fd);
	attributes(fd, dir);
	administered();
	sent(fd);
	copied(fd);
	return 0;
}
