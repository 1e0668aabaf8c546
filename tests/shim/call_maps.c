/* SPDX-License-Identifier: MIT */
/* Mappings of a tree's files: argument 1 is its root. */
#include "say.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static sigjmp_buf back;

static void on_signal(int sig)
{
	siglongjmp(back, sig);
}

/* The byte, or -signal. */
static long touch(const char *at)
{
	int sig = sigsetjmp(back, 1);

	return sig ? -sig : *(const volatile unsigned char *)at;
}

static void whole(int fd, size_t len)
{
	char *m = SAY_PTR(mmap(NULL, len, PROT_READ, MAP_SHARED, fd, 0)), *part;
	unsigned char vec[1024];

	SAY(say_sum(m, (long long)len));
	SAY(touch(m + len)); /* zeros up to the end of the page */
	SAY(madvise(m, len, MADV_SEQUENTIAL));
	SAY(madvise(m, len, MADV_WILLNEED));
	SAY(posix_madvise(m, len, POSIX_MADV_RANDOM));
	SAY(mincore(m, 4096, vec));
	SAY(mprotect(m, len, PROT_READ | PROT_WRITE));
	SAY(msync(m, len, MS_SYNC));
	SAY(msync(m, len, MS_SYNC | MS_ASYNC));
	SAY(msync(m + 1, len, MS_SYNC));
	SAY(munmap(m + 8192, 4096));
	SAY(touch(m + 8192));
	SAY(touch(m + 12288));
	part = SAY_PTR(mmap(m + 8192, 4096, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 4096));
	SAY(part == m + 8192);
	SAY(memcmp(part, m + 4096, 4096));
	SAY(munmap(m, len));
	SAY(touch(m));
}

static void private_copy(int fd, size_t len)
{
	char *m = SAY_PTR(mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0)), byte;
	int status;

	m[5] ^= 0x55;
	SAY(pread(fd, &byte, 1, 5));
	SAY((byte ^ m[5]) & 0xff);
	if (fork() == 0) {
		m[6] = 1;
		_exit(say_sum(m, (long long)len) & 0x7f);
	}
	wait(&status);
	SAY(status);
	SAY(say_sum(m, (long long)len));
	SAY(mprotect(m, 4096, PROT_READ));
	SAY(munmap(m, len));
}

static void parts(int fd, size_t len)
{
	char *m = SAY_PTR(mmap(NULL, 65536, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 1 << 20));

	SAY(say_sum(m, 65536));
	SAY_PTR(mremap(m, 65536, 4096, 0));
	SAY(touch(m + 4096));
	SAY(munmap(m, 4096));
	/* One page of the file, three behind its end. */
	m = SAY_PTR(mmap(NULL, 4 * 4096, PROT_READ, MAP_PRIVATE, fd, (long)len & ~4095L));
	SAY(touch(m));
	SAY(touch(m + 4096));
	SAY(munmap(m, 4 * 4096));
	m = SAY_PTR(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0));
	SAY(munmap(m, 4096));
}

/* Growing where it is, or somewhere else; past the end; with a page of its own. */
static void grows(int fd, size_t len)
{
	size_t end = (len + 4095) & ~4095UL;
	char *m = SAY_PTR(mmap(NULL, 65536, PROT_READ, MAP_SHARED, fd, 1 << 20)), *to;

	m = SAY_PTR(mremap(m, 65536, 1 << 20, MREMAP_MAYMOVE));
	SAY(say_sum(m, 1 << 20));
	m = SAY_PTR(mremap(m, 1 << 20, end - (1 << 20) + 8192, MREMAP_MAYMOVE));
	SAY(say_sum(m, (long long)(len - (1 << 20))));
	SAY(touch(m + end - (1 << 20)));
	SAY(mprotect(m, 4096, PROT_READ | PROT_WRITE));
	SAY(munmap(m + 1, 4096));
	SAY(mprotect(m, 4096, PROT_READ | PROT_WRITE));
	SAY(munmap(m, end - (1 << 20) + 8192));
	SAY(touch(m));

	/* A neighbour of our own: what lies behind a mapping may be libc's. */
	to = mmap(NULL, 8192 + 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	m = SAY_PTR(mmap(to, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, 4096));
	to += 8192;
	m[100] ^= 0x33;
	SAY_PTR(mremap(m, 8192, 65536, 0)); /* no room there */
	SAY(say_sum(m, 8192));
	m = SAY_PTR(mremap(m, 8192, 65536, MREMAP_MAYMOVE));
	SAY(say_sum(m, 65536));
	SAY(touch(to - 8192));
	to = SAY_PTR(mmap(NULL, 65536, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	SAY(mremap(m, 65536, 32768, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
	SAY(say_sum(to, 32768));
	SAY(touch(to + 32768) == -SIGSEGV || touch(to + 32768) < 0);
	SAY_PTR(mremap(to + 4096, 65536, 131072, MREMAP_MAYMOVE));
	SAY_PTR(mremap(to, 4096, 0, MREMAP_MAYMOVE));
	SAY_PTR(mremap(to, 4096, 8192, 0x100));
	SAY(munmap(to, 65536));
}

static void closed(int fd)
{
	char *m = mmap(NULL, 100000, PROT_READ, MAP_SHARED, fd, 0);

	SAY(close(fd));
	SAY(say_sum(m, 100000));
	SAY(munmap(m, 100000));
}

static void errors(int fd)
{
	int dir = open("text", O_RDONLY), path = open("text/lines.txt", O_PATH);
	int empty = open("text/empty", O_RDONLY);
	char *m;

	SAY_PTR(mmap(NULL, 0, PROT_READ, MAP_SHARED, fd, 0));
	SAY_PTR(mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 100));
	SAY_PTR(mmap(NULL, 4096, PROT_READ, 0, fd, 0));
	SAY_PTR(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	SAY_PTR(mmap(NULL, 4096, PROT_READ, MAP_SHARED, dir, 0));
	SAY_PTR(mmap(NULL, 4096, PROT_READ, MAP_SHARED, path, 0));
	SAY_PTR(mmap(NULL, 4096, PROT_READ, MAP_SHARED_VALIDATE | MAP_SYNC, fd, 0));
	m = SAY_PTR(mmap(NULL, 4096, PROT_READ, MAP_SHARED, empty, 0));
	SAY(touch(m));
	SAY(munmap(m, 4096));
	SAY(munmap((void *)1, 4096));
}

int main(int argc, char **argv)
{
	size_t len;
	int fd;

	if (argc < 2 || chdir(argv[1]) != 0)
		return 2;
	signal(SIGBUS, on_signal);
	signal(SIGSEGV, on_signal);
	fd = open("data/large.bin", O_RDONLY);
	len = (size_t)lseek(fd, 0, SEEK_END);
	whole(fd, len);
	private_copy(fd, len);
	parts(fd, len);
	errors(fd);
	grows(fd, len);
	closed(fd);
	return 0;
}
