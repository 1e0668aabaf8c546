/* SPDX-License-Identifier: MIT */
/* The ring: every test runs once over io_uring and once over pread/pwrite. */
#include "cache/ring.h"
#include "cache/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define PAGES 64
#define PAGE  4096

struct fixture {
	struct dz_ring *ring;
	int fd;
	uint8_t *buf;
	bool no_uring;
};

static uint8_t byte_at(uint64_t off)
{
	return (uint8_t)(off * 31 + (off >> 12) * 7 + 1);
}

static int set_up(struct fixture *f, bool no_uring)
{
	char path[] = "./dz-ring-XXXXXX";
	int low;

	f->no_uring = no_uring;
	f->buf =
		mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (f->buf == MAP_FAILED)
		return -1;
	low = mkstemp(path);
	if (low < 0)
		return -1;
	unlink(path);
	f->fd = fcntl(low, F_DUPFD, 700);
	if (f->fd < 0)
		f->fd = dup(low);
	close(low);
	for (uint64_t i = 0; i < PAGES * PAGE; i++)
		f->buf[i] = byte_at(i);
	if (pwrite(f->fd, f->buf, PAGES * PAGE, 0) != PAGES * PAGE)
		return -1;
	memset(f->buf, 0, PAGES * PAGE);
	return dz_ring_new(&f->ring, 8, no_uring);
}

static int set_up_uring(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	*state = f;
	return f ? set_up(f, false) : -1;
}

static int set_up_sync(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	*state = f;
	return f ? set_up(f, true) : -1;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	dz_ring_free(f->ring);
	munmap(f->buf, PAGES * PAGE);
	close(f->fd);
	free(f);
	return 0;
}

static struct dz_io page_read(struct fixture *f, uint32_t page)
{
	return (struct dz_io){
		.fd = f->fd,
		.buf = f->buf + page * PAGE,
		.len = PAGE,
		.off = (uint64_t)page * PAGE,
	};
}

static bool page_is_right(const struct fixture *f, uint32_t page)
{
	for (uint64_t i = 0; i < PAGE; i++) {
		if (f->buf[page * PAGE + i] != byte_at(page * PAGE + i))
			return false;
	}
	return true;
}

static void wait_all(struct dz_ring *ring)
{
	while (dz_ring_in_flight(ring) > 0)
		assert_true(dz_ring_wait(ring) > 0);
}

/* Reads every page with up to 8 in flight, and checks the bytes. */
static void read_everything(struct fixture *f)
{
	struct dz_io io[8];

	memset(f->buf, 0, PAGES * PAGE);
	for (uint32_t base = 0; base < PAGES; base += 8) {
		for (uint32_t i = 0; i < 8; i++) {
			io[i] = page_read(f, base + i);
			assert_int_equal(dz_ring_start(f->ring, &io[i]), 0);
		}
		wait_all(f->ring);
		for (uint32_t i = 0; i < 8; i++) {
			assert_true(io[i].is_done);
			assert_int_equal(io[i].res, PAGE);
			assert_true(page_is_right(f, base + i));
		}
	}
}

static void reads_in_flight_together_give_the_files_bytes(void **state)
{
	struct fixture *f = *state;

	assert_true(f->no_uring ? !dz_ring_is_uring(f->ring) : true);
	read_everything(f);
	read_everything(f);
}

static void a_write_is_what_a_later_read_sees(void **state)
{
	struct fixture *f = *state;
	struct dz_io io = page_read(f, 3);

	memset(f->buf + 3 * PAGE, 0x5a, PAGE);
	io.is_write = true;
	assert_int_equal(dz_ring_start(f->ring, &io), 0);
	wait_all(f->ring);
	assert_int_equal(io.res, PAGE);
	memset(f->buf + 3 * PAGE, 0, PAGE);
	io.is_write = false;
	assert_int_equal(dz_ring_start(f->ring, &io), 0);
	wait_all(f->ring);
	assert_int_equal(io.res, PAGE);
	assert_int_equal(f->buf[3 * PAGE + 99], 0x5a);
}

static void the_ninth_in_flight_is_refused(void **state)
{
	struct fixture *f = *state;
	struct dz_io io[9];

	for (uint32_t i = 0; i < 9; i++) {
		io[i] = page_read(f, i);
		assert_int_equal(dz_ring_start(f->ring, &io[i]), i < 8 ? 0 : -EBUSY);
	}
	wait_all(f->ring);
	assert_int_equal(dz_ring_wait(f->ring), 0);
}

static void a_read_over_the_end_is_short_not_an_error(void **state)
{
	struct fixture *f = *state;
	struct dz_io io = page_read(f, PAGES - 1);

	assert_int_equal(ftruncate(f->fd, PAGES * PAGE - 100), 0);
	assert_int_equal(dz_ring_start(f->ring, &io), 0);
	wait_all(f->ring);
	assert_int_equal(io.res, PAGE - 100);
}

static void an_error_is_the_result_of_its_io_alone(void **state)
{
	struct fixture *f = *state;
	struct dz_io bad = page_read(f, 0);
	struct dz_io good = page_read(f, 1);

	bad.fd = -1;
	assert_int_equal(dz_ring_start(f->ring, &bad), 0);
	assert_int_equal(dz_ring_start(f->ring, &good), 0);
	wait_all(f->ring);
	assert_int_equal(bad.res, -EBADF);
	assert_int_equal(good.res, PAGE);
}

/* The program believes that everything above 2 is its own to close. */
static void closing_every_descriptor_leaves_the_ring_alive(void **state)
{
	struct fixture *f = *state;
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		struct fixture g = *f;
		int again;

		if (dz_ring_new(&g.ring, 8, f->no_uring) < 0)
			_exit(2);
		again = dup2(g.fd, 2);
		syscall(SYS_close_range, 3, ~0U, 0);
		g.fd = again;
		for (int round = 0; round < 3; round++)
			read_everything(&g);
		dz_ring_free(g.ring);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void no_descriptor_is_taken_on_a_kernel_with_registered_rings(void **state)
{
	struct fixture *f = *state;
	int probe = open("/dev/null", O_RDONLY);
	struct dz_ring *ring;
	int next;

	assert_int_equal(dz_ring_new(&ring, 8, f->no_uring), 0);
	next = open("/dev/null", O_RDONLY);
	assert_int_equal(next, probe + 1);
	assert_true(dz_ring_fd(ring) == -1 || dz_ring_fd(ring) >= 32);
	dz_ring_free(ring);
	close(next);
	close(probe);
}

/* The registered table has 16 places a thread; freeing must give them back. */
static void a_thousand_rings_in_a_row_leave_nothing_behind(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; i < 1000; i++) {
		struct dz_ring *ring;

		assert_int_equal(dz_ring_new(&ring, 8, f->no_uring), 0);
		if (i == 0 || i == 999)
			assert_int_equal(dz_ring_is_uring(ring), dz_ring_is_uring(f->ring));
		dz_ring_free(ring);
	}
}

/* The child uses the inherited ring while the parent has I/O in flight. */
static void a_forked_child_does_not_disturb_the_parents_ring(void **state)
{
	struct fixture *f = *state;
	struct dz_io io[4];
	pid_t pid;
	int status;

	for (uint32_t i = 0; i < 4; i++) {
		io[i] = page_read(f, i);
		assert_int_equal(dz_ring_start(f->ring, &io[i]), 0);
	}
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct dz_io own = page_read(f, 9);
		struct dz_ring *fresh;
		bool is_right;

		is_right = !dz_ring_is_ours(f->ring) && dz_ring_start(f->ring, &own) == 0 &&
			   own.is_done && own.res == PAGE && page_is_right(f, 9);
		dz_ring_abandon(f->ring);
		is_right &= dz_ring_new(&fresh, 8, f->no_uring) == 0;
		f->ring = fresh;
		read_everything(f);
		dz_ring_free(fresh);
		_exit(is_right ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	wait_all(f->ring);
	for (uint32_t i = 0; i < 4; i++)
		assert_int_equal(io[i].res, PAGE);
	read_everything(f);
}

static void a_vforked_child_does_not_disturb_the_parents_ring(void **state)
{
	struct fixture *f = *state;
	static struct dz_io own;
	pid_t pid;
	int status;

	own = page_read(f, 9);
	pid = vfork();
	if (pid == 0) {
		bool is_right = dz_ring_start(f->ring, &own) == 0 && own.res == PAGE &&
				dz_ring_wait(f->ring) == 1;

		_exit(is_right ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	read_everything(f);
}

static void on_alarm(int sig)
{
	(void)sig;
}

static void signals_do_not_end_a_wait_early(void **state)
{
	struct fixture *f = *state;
	struct sigaction sa = { .sa_handler = on_alarm };
	struct itimerval every = { .it_interval.tv_usec = 200, .it_value.tv_usec = 200 };
	struct itimerval never = { 0 };

	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &every, NULL);
	for (int i = 0; i < 200; i++)
		read_everything(f);
	setitimer(ITIMER_REAL, &never, NULL);
}

static void errno_is_never_touched(void **state)
{
	struct fixture *f = *state;
	struct dz_io bad = page_read(f, 0);

	bad.fd = -1;
	errno = 4711;
	assert_int_equal(dz_ring_start(f->ring, &bad), 0);
	assert_int_equal(dz_ring_wait(f->ring), 1);
	assert_int_equal(errno, 4711);
}

#define BOTH(t)                                                                                    \
	{ #t " (io_uring)", t, set_up_uring, tear_down, NULL },                                    \
	{                                                                                          \
#t " (pread)", t, set_up_sync, tear_down, NULL                                     \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(reads_in_flight_together_give_the_files_bytes),
		BOTH(a_write_is_what_a_later_read_sees),
		BOTH(the_ninth_in_flight_is_refused),
		BOTH(a_read_over_the_end_is_short_not_an_error),
		BOTH(an_error_is_the_result_of_its_io_alone),
		BOTH(closing_every_descriptor_leaves_the_ring_alive),
		BOTH(no_descriptor_is_taken_on_a_kernel_with_registered_rings),
		BOTH(a_thousand_rings_in_a_row_leave_nothing_behind),
		BOTH(a_forked_child_does_not_disturb_the_parents_ring),
		BOTH(a_vforked_child_does_not_disturb_the_parents_ring),
		BOTH(signals_do_not_end_a_wait_early),
		BOTH(errno_is_never_touched),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
