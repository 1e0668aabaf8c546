/* SPDX-License-Identifier: MIT */
/*
 * lazy_reader make PATH NAME SIZE [OFF LEN]...   writes a file (those parts of it)
 * lazy_reader read PATH NAME STEP...             maps it and does the steps
 *
 * Every byte is a function of NAME and its offset.  A step is WORD[:NUMBER]...; the
 * status is 1, with a line that says where, when a byte is not what it has to be.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/io_uring.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHUNK 65536ull

static uint64_t seed;
static const char *path;
static int fd;
static unsigned char *map; /* shows `size` bytes from `base` of the file on */
static uint64_t size, base;
static int prot = PROT_READ, flags = MAP_PRIVATE;

static uint64_t word_at(uint64_t off)
{
	uint64_t x = (off / 8 + seed) * 0x9E3779B97F4A7C15ull;

	return (x ^ x >> 29) | 1;
}

static unsigned char byte_at(uint64_t off)
{
	return (unsigned char)(word_at(off) >> off % 8 * 8);
}

static void seed_from(const char *name)
{
	for (seed = 1469598103934665603ull; *name; name++)
		seed = (seed ^ (unsigned char)*name) * 1099511628211ull;
}

static void check(const unsigned char *at, uint64_t off, uint64_t len, const char *what)
{
	for (uint64_t i = 0; i < len; i++) {
		if (at[i] != byte_at(off + i))
			errx(1, "%s: byte %llu is %02x, not %02x", what,
			     (unsigned long long)(off + i), at[i], byte_at(off + i));
	}
}

static void put(int to, uint64_t off, uint64_t len)
{
	static uint64_t buf[CHUNK / 8];

	for (uint64_t end = off + len; off < end; off += CHUNK) {
		uint64_t n = end - off < CHUNK ? end - off : CHUNK;

		for (uint64_t i = 0; i < CHUNK / 8; i++)
			buf[i] = word_at(off + 8 * i);
		if (pwrite(to, buf, n, (off_t)off) != (ssize_t)n)
			err(1, "write %s", path);
	}
}

static int make(int argc, char **argv)
{
	uint64_t len = strtoull(argv[0], NULL, 0);
	int to = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	if (to < 0 || ftruncate(to, (off_t)len) < 0)
		err(1, "%s", path);
	if (argc == 1)
		put(to, 0, len);
	for (int i = 1; i + 1 < argc; i += 2)
		put(to, strtoull(argv[i], NULL, 0), strtoull(argv[i + 1], NULL, 0));
	return close(to);
}

/* ---- steps ---- */

static void step_map(const uint64_t *n)
{
	struct stat st;

	fd = open(path, O_RDONLY);
	if (fd < 0 || fstat(fd, &st) < 0)
		err(1, "%s", path);
	base = n[0];
	size = n[1] ? n[1] : (uint64_t)st.st_size - base;
	map = mmap(NULL, size, prot, flags, fd, (off_t)base);
	if (map == MAP_FAILED)
		err(1, "mmap");
	close(fd);
}

static void step_read(const uint64_t *n)
{
	check(map + n[0], base + n[0], n[1], "read");
}

static void wait_child(pid_t pid, const char *what)
{
	int status;

	if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
		errx(1, "%s: the child failed", what);
}

static void step_fork(const uint64_t *n)
{
	pid_t pid = fork();

	if (pid == 0) {
		step_read(n);
		_exit(0);
	}
	wait_child(pid, "fork");
}

/* As nobody can hook it. */
static void step_rawfork(const uint64_t *n)
{
	long pid;

#if defined(__x86_64__)
	__asm__ volatile("syscall" : "=a"(pid) : "a"(SYS_fork) : "rcx", "r11", "memory");
#else
	pid = fork();
#endif
	if (pid == 0) {
		for (uint64_t i = 0; i < n[1]; i++) {
			if (map[n[0] + i] != byte_at(base + n[0] + i))
				_exit(1);
		}
		_exit(0);
	}
	wait_child((pid_t)pid, "raw fork");
}

static void *thread_main(void *arg)
{
	step_read(arg);
	return NULL;
}

/* n[2] threads, each with the same range. */
static void step_threads(const uint64_t *n)
{
	pthread_t t[64];

	for (uint64_t i = 0; i < n[2]; i++)
		pthread_create(&t[i], NULL, thread_main, (void *)(uintptr_t)n);
	for (uint64_t i = 0; i < n[2]; i++)
		pthread_join(t[i], NULL);
}

static unsigned ring_size(const unsigned char *ring, unsigned at)
{
	return *(const volatile unsigned *)(ring + at);
}

/*
 * One write by io_uring, in a thread of the kernel's; without a library, which may not be
 * there.  -1 and errno, also where there is no io_uring.
 */
static ssize_t uring_write(int to, const void *from, size_t len)
{
	struct io_uring_params p = { 0 };
	int ring = (int)syscall(SYS_io_uring_setup, 4, &p), ret = -EIO;
	struct io_uring_sqe *sqe;
	struct io_uring_cqe *cqe;
	unsigned char *sq, *cq;

	if (ring < 0)
		return -1;
	sq = mmap(NULL, p.sq_off.array + p.sq_entries * 4, PROT_READ | PROT_WRITE,
		  MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_SQ_RING);
	cq = mmap(NULL, p.cq_off.cqes + p.cq_entries * sizeof(*cqe), PROT_READ | PROT_WRITE,
		  MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_CQ_RING);
	sqe = mmap(NULL, p.sq_entries * sizeof(*sqe), PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_SQES);
	*sqe = (struct io_uring_sqe){ .opcode = IORING_OP_WRITE,
				      .flags = IOSQE_ASYNC,
				      .fd = to,
				      .addr = (uintptr_t)from,
				      .len = (unsigned)len };
	*(unsigned *)(sq + p.sq_off.array) = 0;
	__atomic_store_n((unsigned *)(sq + p.sq_off.tail), 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) == 1 &&
	    ring_size(cq, p.cq_off.tail) == 1) {
		cqe = (struct io_uring_cqe *)(cq + p.cq_off.cqes);
		ret = cqe->res;
	}
	close(ring);
	errno = ret < 0 ? -ret : 0;
	return ret < 0 ? -1 : ret;
}

enum { BY_URING = 1 << 30 };

/* From the mapping to a file: the kernel touches it. */
static void write_out(const uint64_t *n, int how)
{
	char name[] = "lazy.XXXXXX";
	unsigned char *back = malloc(n[1]);
	int to = mkstemp(name), by_uring = how & BY_URING;
	ssize_t put;

	close(to);
	how &= ~BY_URING;
	to = open(name, O_RDWR | how);
	if (to < 0 && errno == EINVAL)
		to = open(name, O_RDWR); /* tmpfs, once */
	unlink(name);
	put = by_uring ? uring_write(to, map + n[0], n[1]) : write(to, map + n[0], n[1]);
	if (by_uring && put < 0 && (errno == ENOSYS || errno == EPERM || errno == ENOMEM)) {
		warn("no io_uring");
		put = write(to, map + n[0], n[1]);
	}
	if (to < 0 || put != (ssize_t)n[1])
		err(1, "write from the mapping");
	fcntl(to, F_SETFL, 0);
	if (pread(to, back, n[1], 0) != (ssize_t)n[1])
		err(1, "read back");
	check(back, base + n[0], n[1], "written");
	free(back);
	close(to);
}

static void step_write(const uint64_t *n)
{
	write_out(n, 0);
}

static void step_direct(const uint64_t *n)
{
	write_out(n, O_DIRECT);
}

static void step_uring(const uint64_t *n)
{
	write_out(n, BY_URING);
	write_out(n, BY_URING | O_DIRECT);
}

/* Changed bytes are this process's; given back, they are the file's again. */
static void step_poke(const uint64_t *n)
{
	map[n[0]] ^= 0xff;
	if ((map[n[0]] ^ byte_at(base + n[0])) != 0xff)
		errx(1, "poke: not what was written");
	check(map + n[0] + 1, base + n[0] + 1, 4000, "poke");
	if (madvise(map + n[0] / 4096 * 4096, 4096, MADV_DONTNEED) < 0)
		err(1, "madvise");
	check(map + n[0], base + n[0], 4000, "after DONTNEED");
}

static void step_prot(const uint64_t *n)
{
	prot = (int)n[0];
	flags = n[1] ? MAP_SHARED : MAP_PRIVATE;
}

static void step_populate(const uint64_t *n)
{
	flags = n[0] ? flags | MAP_POPULATE : flags & ~MAP_POPULATE;
}

static void step_willneed(const uint64_t *n)
{
	if (madvise(map + n[0], n[1], MADV_WILLNEED) < 0)
		err(1, "madvise");
}

static void step_unmap(const uint64_t *n)
{
	if (munmap(map + n[0], n[1]) < 0)
		err(1, "munmap");
}

/* To n[0] bytes; n[1]: it has to move, because what is behind it is taken. */
static void step_remap(const uint64_t *n)
{
	void *behind = n[1] ? mmap(map + (size + 4095) / 4096 * 4096, 4096, PROT_READ,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0)
			    : NULL;
	void *to = mremap(map, size, n[0], MREMAP_MAYMOVE);

	if (to == MAP_FAILED)
		err(1, "mremap");
	if (n[1] && to == map && behind != MAP_FAILED)
		errx(1, "mremap: it did not move");
	map = to;
	size = n[0];
}

/* A new mapping over a part of the old. */
static void step_over(const uint64_t *n)
{
	int again = open(path, O_RDONLY);

	if (mmap(map + n[0], n[1], prot, MAP_PRIVATE | MAP_FIXED, again, (off_t)(base + n[0])) ==
	    MAP_FAILED)
		err(1, "mmap over it");
	close(again);
}

static void step_closeall(const uint64_t *n)
{
	(void)n;
	syscall(SYS_close_range, 3, ~0u, 0);
}

static sigjmp_buf back;

static void on_bus(int sig)
{
	siglongjmp(back, sig);
}

static void step_bus(const uint64_t *n)
{
	signal(SIGBUS, on_bus);
	if (sigsetjmp(back, 1) == 0) {
		unsigned char c = *(const volatile unsigned char *)(map + n[0]);

		errx(1, "byte %llu is %02x, not SIGBUS", (unsigned long long)n[0], c);
	}
	signal(SIGBUS, SIG_DFL);
}

/* At most n[0] MiB of our own memory. */
static void step_rss(const uint64_t *n)
{
	char line[256];
	FILE *f = fopen("/proc/self/status", "r");
	unsigned long kb = 0;

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "VmRSS: %lu", &kb) == 1)
			break;
	}
	if (f)
		fclose(f);
	if (kb > n[0] * 1024)
		errx(1, "%lu KiB are resident", kb);
}

/* userfaultfd, and a new one out of its device, are refused from here on. */
static void step_deny(const uint64_t *n)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_userfaultfd, 4, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 2),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0xaa00, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
	};
	struct sock_fprog prog = { sizeof(code) / sizeof(*code), code };

	(void)n;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) < 0)
		err(1, "seccomp");
}

/* Says where we are, and goes on when told. */
static void step_sync(const uint64_t *n)
{
	printf("at %llu\n", (unsigned long long)n[0]);
	fflush(stdout);
	if (getchar() == EOF)
		errx(1, "nobody there");
}

static void step_say(const uint64_t *n)
{
	printf("at %llu\n", (unsigned long long)n[0]);
	fflush(stdout);
}

static const struct {
	const char *name;
	void (*step)(const uint64_t *n);
} steps[] = {
	{ "map", step_map },	       { "read", step_read },	      { "fork", step_fork },
	{ "rawfork", step_rawfork },   { "threads", step_threads },   { "write", step_write },
	{ "direct", step_direct },     { "poke", step_poke },	      { "prot", step_prot },
	{ "willneed", step_willneed }, { "unmap", step_unmap },	      { "remap", step_remap },
	{ "over", step_over },	       { "closeall", step_closeall }, { "bus", step_bus },
	{ "rss", step_rss },	       { "deny", step_deny },	      { "sync", step_sync },
	{ "say", step_say },	       { "populate", step_populate }, { "uring", step_uring },
};

static void run_step(char *text)
{
	uint64_t n[3] = { 0 };
	char *at = strchr(text, ':');

	if (at)
		*at++ = '\0';
	for (int i = 0; i < 3 && at; i++) {
		n[i] = strtoull(at, &at, 0);
		at = *at ? at + 1 : NULL;
	}
	for (size_t i = 0; i < sizeof(steps) / sizeof(*steps); i++) {
		if (strcmp(steps[i].name, text) == 0) {
			steps[i].step(n);
			return;
		}
	}
	errx(2, "no step %s", text);
}

int main(int argc, char **argv)
{
	if (argc < 5)
		return 2;
	path = argv[2];
	seed_from(argv[3]);
	if (strcmp(argv[1], "make") == 0)
		return make(argc - 4, argv + 4);
	for (int i = 4; i < argc; i++)
		run_step(argv[i]);
	return 0;
}
