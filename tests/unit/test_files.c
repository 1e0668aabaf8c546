/* SPDX-License-Identifier: MIT */
/* Open-file descriptions: shared over fork and exec, freed with their last holder. */
#include "cache/files.h"
#include "tests/unit/seg_fixture.h"

#include <dirent.h>
#include <liburing.h>
#include <linux/aio_abi.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>

static uint64_t open_file(struct dz_seg *seg, uint64_t size)
{
	uint32_t n = dz_file_alloc(seg);

	if (n == DZ_NONE)
		return 0;
	seg->files[n].size = size;
	atomic_store(&seg->files[n].pos, 0);
	atomic_store(&seg->files[n].handover_ms, 0);
	return dz_file_ready(seg, n);
}

static uint32_t files_in_use(const struct dz_seg *seg)
{
	uint32_t used = 0;

	for (uint32_t n = 0; n < seg->n_files; n++)
		used += (atomic_load(&seg->files[n].ctl) & 0xff) != DZ_FILE_FREE;
	return used;
}

static void an_opened_file_is_found_by_its_handle(void **state)
{
	struct seg_fixture *f = *state;
	uint64_t fh = open_file(&f->seg, 4711);
	struct dz_ofile *of = dz_file_get(&f->seg, fh);

	assert_non_null(of);
	assert_int_equal(of->size, 4711);
	dz_file_drop(&f->seg, fh);
	assert_int_equal(files_in_use(&f->seg), 0);
}

static void a_stale_or_wild_handle_finds_nothing(void **state)
{
	struct seg_fixture *f = *state;
	uint64_t fh = open_file(&f->seg, 1);

	dz_file_drop(&f->seg, fh);
	assert_null(dz_file_get(&f->seg, fh));
	dz_file_drop(&f->seg, fh); /* and harms nobody */
	assert_null(dz_file_get(&f->seg, 0));
	assert_null(dz_file_get(&f->seg, UINT64_MAX));
	assert_null(dz_file_get(&f->seg, dz_fh_make(f->seg.n_files, 0)));
	assert_null(dz_file_get(&f->seg, 1ull << 32));
}

static void a_file_that_is_being_opened_is_not_found(void **state)
{
	struct seg_fixture *f = *state;
	uint32_t n = dz_file_alloc(&f->seg);

	assert_null(dz_file_get(&f->seg, dz_fh_make(n, 0)));
	dz_file_drop(&f->seg, dz_file_ready(&f->seg, n));
	assert_int_equal(files_in_use(&f->seg), 0);
}

static void a_hundred_thousand_opens_and_closes_leave_nothing(void **state)
{
	struct seg_fixture *f = *state;

	for (int i = 0; i < 100000; i++) {
		uint64_t fh = open_file(&f->seg, (uint64_t)i);

		if (!fh || dz_file_get(&f->seg, fh)->size != (uint64_t)i)
			fail_msg("open %d", i);
		dz_file_drop(&f->seg, fh);
	}
	assert_int_equal(files_in_use(&f->seg), 0);
}

static void a_full_table_refuses_and_recovers(void **state)
{
	struct seg_fixture *f = *state;
	uint64_t *fh = calloc(f->seg.n_files, sizeof(*fh));

	for (uint32_t i = 0; i < f->seg.n_files; i++) {
		fh[i] = open_file(&f->seg, i);
		assert_true(fh[i] != 0);
	}
	assert_int_equal(open_file(&f->seg, 1), 0);
	for (uint32_t i = 0; i < f->seg.n_files; i++)
		assert_int_equal(dz_file_get(&f->seg, fh[i])->size, i);
	dz_file_drop(&f->seg, fh[3]);
	fh[3] = open_file(&f->seg, 3);
	assert_true(fh[3] != 0);
	for (uint32_t i = 0; i < f->seg.n_files; i++)
		dz_file_drop(&f->seg, fh[i]);
	assert_int_equal(files_in_use(&f->seg), 0);
	free(fh);
}

/* fork as the shim does it: a record for the child beforehand. */
static pid_t fork_member(struct seg_fixture *f)
{
	uint32_t child = dz_member_prepare_child(&f->seg);
	pid_t pid = fork();

	if (pid == 0) {
		alarm(30);
		if (dz_member_adopt(&f->seg, child) < 0)
			_exit(90);
	}
	dz_member_child_is(&f->seg, child, (uint32_t)pid);
	return pid;
}

static void the_offset_is_shared_over_fork(void **state)
{
	struct seg_fixture *f = *state;
	uint64_t fh = open_file(&f->seg, 100);
	pid_t pid = fork_member(f);

	if (pid == 0) {
		struct dz_ofile *of = dz_file_get(&f->seg, fh);

		if (!of)
			_exit(1);
		atomic_store(&of->pos, 42);
		_exit(0);
	}
	assert_int_equal(seg_reap(pid), 0);
	assert_int_equal(atomic_load(&dz_file_get(&f->seg, fh)->pos), 42);
	dz_file_drop(&f->seg, fh);
	dz_member_sweep(&f->seg, true);
	assert_int_equal(files_in_use(&f->seg), 0);
}

static void it_lives_until_the_last_holder_has_closed_it(void **state)
{
	struct seg_fixture *f = *state;
	uint64_t fh = open_file(&f->seg, 100);
	int gate[2];
	pid_t pid;
	char c;

	assert_int_equal(pipe(gate), 0);
	pid = fork_member(f);
	if (pid == 0) {
		close(gate[1]);
		if (read(gate[0], &c, 1) != 0 || !dz_file_get(&f->seg, fh))
			_exit(1);
		dz_file_drop(&f->seg, fh);
		_exit(dz_file_get(&f->seg, fh) ? 2 : 0);
	}
	dz_file_drop(&f->seg, fh);
	assert_non_null(dz_file_get(&f->seg, fh));
	close(gate[1]);
	assert_int_equal(seg_reap(pid), 0);
	assert_null(dz_file_get(&f->seg, fh));
	close(gate[0]);
}

static void a_killed_last_holder_frees_it_too(void **state)
{
	struct seg_fixture *f = *state;
	uint64_t fh = open_file(&f->seg, 100);
	pid_t pid = fork_member(f);

	if (pid == 0) {
		pause();
		_exit(0);
	}
	dz_file_drop(&f->seg, fh);
	kill(pid, SIGKILL);
	seg_reap(pid);
	dz_member_sweep(&f->seg, true);
	/* a child killed before it has adopted its record holds on until the record's deadline */
	for (uint32_t m = 1; m < f->seg.n_members; m++)
		atomic_store(&f->seg.members[m].deadline_ms, 0);
	dz_member_sweep(&f->seg, true);
	assert_null(dz_file_get(&f->seg, fh));
	assert_int_equal(files_in_use(&f->seg), 0);
}

static void a_marker_is_a_descriptor_that_no_call_can_read(void **state)
{
	struct seg_fixture *f = *state;
	uint64_t fh = open_file(&f->seg, 100), again;
	int fd = dz_file_marker(&f->seg, fh, true);
	char c;

	assert_true(fd >= 0);
	assert_int_equal(read(fd, &c, 1), -1);
	assert_int_equal(errno, EBADF);
	assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	/* nor can another program, before it was handed over */
	assert_int_equal(dz_file_resolve(&f->seg, fd, &again), -EBADF);
	assert_int_equal(dz_file_hand_over(&f->seg, fh, fd, 0), 0);
	assert_int_equal(read(fd, &c, 1), -1);
	assert_int_equal(errno, EBADF);
	assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	assert_int_equal(dz_file_resolve(&f->seg, fd, &again), 0);
	assert_int_equal(again, fh);
	close(fd);
	dz_file_drop(&f->seg, fh);
	assert_int_equal(files_in_use(&f->seg), 0);
}

/* Names in the directory of the markers. */
static int markers(const struct seg_fixture *f)
{
	char dir[64], path[DZ_PATH_MAX];
	struct dirent *d;
	int n = 0;
	DIR *at;

	snprintf(dir, sizeof(dir), "files.%llx", (unsigned long long)f->seg.hdr->id);
	at = opendir(seg_path(f, dir, path));
	assert_non_null(at);
	while ((d = readdir(at)))
		n += d->d_name[0] != '.';
	closedir(at);
	return n;
}

/* 0, or the call that did not say EBADF, of those that need no second file. */
static int reads_of(int fd)
{
	char buf[16];
	struct iovec iov = { buf, sizeof(buf) };

	const long got[] = { pread(fd, buf, 1, 0),
			     readv(fd, &iov, 1),
			     preadv(fd, &iov, 1, 0),
			     preadv2(fd, &iov, 1, -1, 0),
			     write(fd, "x", 1),
			     lseek(fd, 0, SEEK_END),
			     ftruncate(fd, 0),
			     syscall(SYS_getdents64, fd, buf, sizeof(buf)),
			     (long)mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0),
			     flock(fd, LOCK_SH),
			     fchmod(fd, 0777),
			     readahead(fd, 0, 1) };

	for (size_t i = 0; i < DZ_ARRAY_LEN(got); i++)
		if (got[i] != -1)
			return (int)i + 1;
	return errno == EBADF ? 0 : 99;
}

static long aio_answer(int fd)
{
	char buf[16];
	struct iocb a = { .aio_lio_opcode = IOCB_CMD_PREAD,
			  .aio_fildes = (unsigned)fd,
			  .aio_buf = (uintptr_t)buf,
			  .aio_nbytes = 1 };
	struct iocb *list[] = { &a };
	aio_context_t context = 0;
	long r = syscall(SYS_io_setup, 1, &context);

	if (r == 0 && (r = syscall(SYS_io_submit, context, 1, list)) < 0)
		r = -errno;
	syscall(SYS_io_destroy, context);
	return r;
}

/* -ENOSYS where there is no io_uring. */
static int uring_answer(int fd)
{
	struct io_uring ring;
	struct io_uring_cqe *cqe;
	char buf[16];
	int r;

	if (io_uring_queue_init(2, &ring, 0) < 0)
		return -ENOSYS;
	io_uring_prep_read(io_uring_get_sqe(&ring), fd, buf, 1, 0);
	r = io_uring_submit_and_wait(&ring, 1) == 1 && io_uring_peek_cqe(&ring, &cqe) == 0
		    ? cqe->res
		    : 77;
	io_uring_queue_exit(&ring);
	return r;
}

/* A program without the library, or past it: EBADF, before and after a hand over. */
static void every_call_that_slips_past_says_EBADF(void **state)
{
	struct seg_fixture *f = *state;
	uint64_t fh = open_file(&f->seg, 100);
	int fd = dz_file_marker(&f->seg, fh, true), p[2];
	int null = open("/dev/null", O_WRONLY), epoll = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event ev = { .events = EPOLLIN };
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
	char link[40];

	assert_int_equal(pipe(p), 0);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	for (int i = 0; i < 2; i++) {
		int ring = uring_answer(fd);

		assert_int_equal(reads_of(fd), 0);
		assert_int_equal(aio_answer(fd), -EBADF);
		assert_true(ring == -EBADF || ring == -ENOSYS);
		assert_int_equal(sendfile(null, fd, NULL, 1), -1);
		assert_int_equal(errno, EBADF);
		assert_int_equal(splice(fd, NULL, p[1], NULL, 1, 0), -1);
		assert_int_equal(errno, EBADF);
		assert_int_equal(copy_file_range(fd, NULL, null, NULL, 1, 0), -1);
		assert_int_equal(errno, EBADF);
		assert_int_equal(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &ev), -1);
		assert_int_equal(errno, EBADF);
		assert_int_equal(poll(&poll_fd, 1, 0), 1);
		assert_int_equal(poll_fd.revents, POLLNVAL);
		assert_int_equal(open(link, O_RDONLY), -1);
		assert_int_equal(errno, ENXIO);
		assert_int_equal(dz_file_hand_over(&f->seg, fh, fd, 0), 0);
	}
	close(fd);
	close(null);
	close(epoll);
	close(p[0]);
	close(p[1]);
	dz_file_drop(&f->seg, fh);
}

static void each_hand_over_leaves_nothing_in_the_directory(void **state)
{
	struct seg_fixture *f = *state;

	for (int i = 0; i < 100; i++) {
		uint64_t fh = open_file(&f->seg, 1), again;
		int fd = dz_file_marker(&f->seg, fh, true), two = dz_file_marker(&f->seg, fh, true);

		/* by two of its holders, and twice by one */
		assert_int_equal(dz_file_hand_over(&f->seg, fh, fd, 0), 0);
		assert_int_equal(dz_file_hand_over(&f->seg, fh, two, 0), 0);
		assert_int_equal(dz_file_hand_over(&f->seg, fh, fd, 0), 0);
		assert_int_equal(dz_file_resolve(&f->seg, fd, &again), 0);
		assert_int_equal(dz_file_resolve(&f->seg, two, &again), 0);
		assert_int_equal(again, fh);
		dz_file_drop(&f->seg, fh);
		assert_int_equal(dz_file_resolve(&f->seg, fd, &again), -EBADF);
		close(fd);
		close(two);
	}
	assert_true(markers(f) <= 100); /* of each number its own, for ever */
	assert_int_equal(files_in_use(&f->seg), 0);
}

static void what_is_no_marker_of_the_file_is_left_alone(void **state)
{
	struct seg_fixture *f = *state;
	uint64_t fh = open_file(&f->seg, 1), other = open_file(&f->seg, 2);
	int fd = dz_file_marker(&f->seg, other, true), null = open("/dev/null", O_RDONLY);
	char c;

	assert_int_equal(dz_file_hand_over(&f->seg, fh, fd, 0), -EBADF);
	assert_int_equal(dz_file_hand_over(&f->seg, fh, null, 0), -EBADF);
	assert_int_equal(read(null, &c, 1), 0);
	assert_int_equal(dz_file_hand_over(&f->seg, other, fd, 0), 0);
	dz_file_drop(&f->seg, other);
	dz_file_drop(&f->seg, fh);
	close(null);
	close(fd);
}

/* A duplicate that we do not know of, of a file that only its opener ever held. */
static void a_duplicate_that_outlived_its_file_never_finds_the_next(void **state)
{
	struct seg_fixture *f = *state;
	uint64_t fh = open_file(&f->seg, 1), again;
	uint32_t n = (uint32_t)fh;
	int stale = dz_file_marker(&f->seg, fh, true), fd;

	dz_file_drop(&f->seg, fh);
	do {
		fh = open_file(&f->seg, 2);
		if ((uint32_t)fh != n)
			dz_file_drop(&f->seg, fh);
	} while ((uint32_t)fh != n);
	fd = dz_file_marker(&f->seg, fh, true);
	assert_int_equal(dz_file_resolve(&f->seg, stale, &again), -EBADF);
	assert_int_equal(dz_file_hand_over(&f->seg, fh, fd, 0), 0);
	assert_int_equal(dz_file_resolve(&f->seg, stale, &again), -EBADF);
	assert_int_equal(dz_file_resolve(&f->seg, fd, &again), 0);
	assert_int_equal(again, fh);
	close(stale);
	close(fd);
	dz_file_drop(&f->seg, fh);
}

static int handed_fd;

static int resolve_handed(struct seg_fixture *f)
{
	uint64_t fh;

	if (dz_file_resolve(&f->seg, handed_fd, &fh) < 0)
		return 1;
	if (dz_file_get(&f->seg, fh)->size != 815)
		return 2;
	atomic_store(&dz_file_get(&f->seg, fh)->pos, 7);
	dz_file_drop(&f->seg, fh);
	return dz_file_get(&f->seg, fh) ? 3 : 0;
}

/* A new attachment in a child is what a program sees after exec. */
static void a_marker_is_resolved_after_exec(void **state)
{
	struct seg_fixture *f = *state;
	uint64_t fh = open_file(&f->seg, 815);

	handed_fd = dz_file_marker(&f->seg, fh, false);
	assert_true(handed_fd >= 0);
	assert_int_equal(dz_file_hand_over(&f->seg, fh, handed_fd, 60000), 0);
	dz_file_drop(&f->seg, fh); /* the old image is gone */
	assert_non_null(dz_file_get(&f->seg, fh));
	atomic_store(&dz_file_get(&f->seg, fh)->handover_ms, 0); /* the new one is in time */
	assert_int_equal(seg_reap(seg_child(f, resolve_handed)), 0);
	dz_member_sweep(&f->seg, true);
	assert_int_equal(files_in_use(&f->seg), 0);
	close(handed_fd);
}

/* Otherwise a thousand execs a minute fill the table. */
static void a_handover_ends_soon_after_the_new_image_has_come(void **state)
{
	struct seg_fixture *f = *state;
	uint64_t fh = open_file(&f->seg, 815);
	struct dz_ofile *of = dz_file_get(&f->seg, fh);

	handed_fd = dz_file_marker(&f->seg, fh, false);
	assert_int_equal(dz_file_hand_over(&f->seg, fh, handed_fd, 60000), 0);
	assert_true(atomic_load(&of->handover_ms) > dz_now_ms() + 50000);
	assert_int_equal(dz_file_resolve(&f->seg, handed_fd, &fh), 0);
	assert_true(atomic_load(&of->handover_ms) < dz_now_ms() + 10000);
	dz_file_drop(&f->seg, fh);
	close(handed_fd);
}

static void a_marker_of_a_freed_file_stays_dead(void **state)
{
	struct seg_fixture *f = *state;
	uint64_t fh = open_file(&f->seg, 1), other;
	int fd = dz_file_marker(&f->seg, fh, true);

	assert_int_equal(dz_file_hand_over(&f->seg, fh, fd, 0), 0);
	dz_file_drop(&f->seg, fh);
	assert_int_equal(dz_file_resolve(&f->seg, fd, &fh), -EBADF);
	/* also when the same description is another file by now */
	for (uint32_t i = 0; i < f->seg.n_files; i++) {
		int marker;

		other = open_file(&f->seg, 2);
		marker = dz_file_marker(&f->seg, other, true);
		assert_true(marker >= 0);
		assert_int_equal(dz_file_hand_over(&f->seg, other, marker, 0), 0);
		assert_int_equal(dz_file_resolve(&f->seg, fd, &fh), -EBADF);
		close(marker);
		dz_file_drop(&f->seg, other);
	}
	close(fd);
	assert_int_equal(files_in_use(&f->seg), 0);
}

static void other_descriptors_are_no_markers(void **state)
{
	struct seg_fixture *f = *state;
	int pair[2], pipes[2];
	uint64_t fh;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(dz_file_resolve(&f->seg, pair[0], &fh), -EBADF);
	assert_int_equal(dz_file_resolve(&f->seg, pipes[0], &fh), -EBADF);
	assert_int_equal(dz_file_resolve(&f->seg, 0, &fh), -EBADF);
	assert_int_equal(dz_file_resolve(&f->seg, -1, &fh), -EBADF);
	for (int i = 0; i < 2; i++) {
		close(pair[i]);
		close(pipes[i]);
	}
}

static void without_a_directory_markers_work_in_the_family(void **state)
{
	struct seg_fixture *f = *state;
	struct dz_seg own;
	uint64_t fh, again;
	int fd;

	assert_int_equal(dz_seg_open_private(&own, &f->log, 32 * DZ_MIB), 0);
	assert_int_equal(dz_member_join(&own), 0);
	fh = open_file(&own, 5);
	fd = dz_file_marker(&own, fh, true);
	assert_true(fd >= 0);
	assert_int_equal(dz_file_resolve(&own, fd, &again), 0);
	assert_int_equal(again, fh);
	close(fd);
	dz_file_drop(&own, fh);
	dz_member_leave(&own);
	dz_seg_close(&own);
}

/* ---- where a kill leaves a description in the middle ---- */

static void a_kill_while_opening_is_swept(void **state)
{
	struct seg_fixture *f = *state;
	uint32_t n = dz_file_alloc(&f->seg), dead = f->seg.member;
	_Atomic uint64_t *held = &f->seg.held[(size_t)dead * f->seg.held_words + n / 64];

	/* before its bit was set */
	atomic_store(held, 0);
	dz_member_leave(&f->seg);
	assert_int_equal(dz_member_join(&f->seg), 0);
	dz_member_sweep(&f->seg, true);
	assert_int_equal(files_in_use(&f->seg), 0);
}

static void a_kill_between_bit_and_word_of_a_close_is_swept(void **state)
{
	struct seg_fixture *f = *state;
	uint64_t fh = open_file(&f->seg, 1);
	uint32_t n = (uint32_t)fh - 1, dead = f->seg.member;

	atomic_store(&f->seg.held[(size_t)dead * f->seg.held_words + n / 64], 0);
	dz_member_leave(&f->seg);
	assert_int_equal(dz_member_join(&f->seg), 0);
	dz_member_sweep(&f->seg, true);
	assert_int_equal(files_in_use(&f->seg), 0);
}

static void a_description_that_is_opened_at_this_moment_is_left_alone(void **state)
{
	struct seg_fixture *f = *state;
	uint32_t n = dz_file_alloc(&f->seg);
	uint64_t ctl = atomic_load(&f->seg.files[n].ctl);

	/* its bit is not set yet, and somebody who held an earlier tenant dies */
	atomic_store(&f->seg.held[(size_t)f->seg.member * f->seg.held_words + n / 64], 0);
	atomic_store(&f->seg.held[(size_t)77 * f->seg.held_words + n / 64], 1ull << (n % 64));
	dz_files_drop_all(&f->seg, 77);
	dz_files_sweep(&f->seg);
	assert_int_equal(atomic_load(&f->seg.files[n].ctl), ctl);
	dz_file_drop(&f->seg, dz_file_ready(&f->seg, n));
}

/* As a child of a fork does whose memory is younger than its descriptors. */
static void a_file_that_only_the_parent_holds_is_not_the_child_s_to_close(void **state)
{
	struct seg_fixture *f = *state;
	uint64_t fh = open_file(&f->seg, 1);
	uint32_t parent = f->seg.member;

	f->seg.member = parent + 1;
	dz_file_drop(&f->seg, fh);
	f->seg.member = parent;
	assert_non_null(dz_file_get(&f->seg, fh));
	dz_file_drop(&f->seg, fh);
	assert_int_equal(files_in_use(&f->seg), 0);
}

static void a_fork_in_the_middle_of_an_open_shares_the_file(void **state)
{
	struct seg_fixture *f = *state;
	uint32_t n = dz_file_alloc(&f->seg);
	uint32_t child = dz_member_prepare_child(&f->seg), parent = f->seg.member;
	uint64_t fh = dz_file_ready(&f->seg, n);

	assert_int_not_equal(child, DZ_NONE);
	dz_file_drop(&f->seg, fh);
	assert_non_null(dz_file_get(&f->seg, fh));
	f->seg.member = child;
	dz_file_drop(&f->seg, fh);
	f->seg.member = parent;
	assert_int_equal(files_in_use(&f->seg), 0);
	dz_member_cancel_child(&f->seg, child);
}

static void one_who_frees_at_this_moment_is_left_alone(void **state)
{
	struct seg_fixture *f = *state;
	uint64_t fh = open_file(&f->seg, 1);
	uint32_t n = (uint32_t)fh - 1;
	_Atomic uint64_t *ctl = &f->seg.files[n].ctl;
	uint64_t freeing = (fh >> 32) << 32 | (uint64_t)f->seg.member << 16 | 0x100 | 3;

	atomic_store(&f->seg.held[(size_t)f->seg.member * f->seg.held_words + n / 64], 0);
	atomic_store(ctl, freeing);
	dz_files_sweep(&f->seg);
	assert_int_equal(atomic_load(ctl), freeing);
	/* killed there: another goes on */
	atomic_store(ctl, (freeing & ~0xffff0000ull) | 99u << 16);
	dz_files_sweep(&f->seg);
	assert_int_equal(files_in_use(&f->seg), 0);
	assert_null(dz_file_get(&f->seg, fh));
}

static int open_close_storm(struct seg_fixture *f)
{
	for (uint32_t i = 0; i < 3000; i++) {
		uint64_t mine = (uint64_t)getpid() << 32 | i, fh = open_file(&f->seg, mine);

		if (!fh)
			return 1;
		if (i % 3 == 0)
			dz_file_share(&f->seg, fh, 0);
		if (i % 16 == 0)
			dz_files_sweep(&f->seg);
		if (!dz_file_get(&f->seg, fh) || dz_file_get(&f->seg, fh)->size != mine)
			return 2;
		dz_file_drop(&f->seg, fh);
	}
	dz_member_leave(&f->seg);
	return 0;
}

static void processes_that_open_and_sweep_at_once_keep_their_own(void **state)
{
	struct seg_fixture *f = *state;
	pid_t pid[6];

	for (int i = 0; i < 6; i++)
		pid[i] = seg_child(f, open_close_storm);
	for (int i = 0; i < 6; i++)
		assert_int_equal(seg_reap(pid[i]), 0);
	dz_member_sweep(&f->seg, true);
	assert_int_equal(files_in_use(&f->seg), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, seg_fixture_up, seg_fixture_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(an_opened_file_is_found_by_its_handle),
		TEST(a_stale_or_wild_handle_finds_nothing),
		TEST(a_file_that_is_being_opened_is_not_found),
		TEST(a_hundred_thousand_opens_and_closes_leave_nothing),
		TEST(a_full_table_refuses_and_recovers),
		TEST(the_offset_is_shared_over_fork),
		TEST(it_lives_until_the_last_holder_has_closed_it),
		TEST(a_killed_last_holder_frees_it_too),
		TEST(a_marker_is_a_descriptor_that_no_call_can_read),
		TEST(every_call_that_slips_past_says_EBADF),
		TEST(each_hand_over_leaves_nothing_in_the_directory),
		TEST(what_is_no_marker_of_the_file_is_left_alone),
		TEST(a_duplicate_that_outlived_its_file_never_finds_the_next),
		TEST(a_marker_is_resolved_after_exec),
		TEST(a_handover_ends_soon_after_the_new_image_has_come),
		TEST(a_marker_of_a_freed_file_stays_dead),
		TEST(other_descriptors_are_no_markers),
		TEST(without_a_directory_markers_work_in_the_family),
		TEST(a_kill_while_opening_is_swept),
		TEST(a_kill_between_bit_and_word_of_a_close_is_swept),
		TEST(a_description_that_is_opened_at_this_moment_is_left_alone),
		TEST(a_file_that_only_the_parent_holds_is_not_the_child_s_to_close),
		TEST(a_fork_in_the_middle_of_an_open_shares_the_file),
		TEST(one_who_frees_at_this_moment_is_left_alone),
		TEST(processes_that_open_and_sweep_at_once_keep_their_own),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
