/* SPDX-License-Identifier: MIT */
/* A message is one line, in one write, whatever is in it. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "cache/log.h"
#include "cache/sys.h"

static char path[64];
static struct dz_log to_file = { DZ_LOG_INFO, path, "deltazero" };

static int make_file(void **state)
{
	(void)state;
	strcpy(path, "/tmp/dz-log-XXXXXX");
	close(mkstemp(path));
	return 0;
}

static int remove_file(void **state)
{
	(void)state;
	return unlink(path);
}

static const char *content(void)
{
	static char text[8192];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = read(fd, text, sizeof(text) - 1);

	close(fd);
	assert_true(n >= 0);
	text[n] = '\0';
	return text;
}

static void a_line_in_a_file_has_time_process_and_level(void **state)
{
	char head[64], pid[32];
	time_t now = time(NULL);
	struct tm tm;

	(void)state;
	dz_warn(&to_file, "read `%s`: %s", "/mnt/x", dz_strerror(-EIO));
	gmtime_r(&now, &tm);
	strftime(head, sizeof(head), "%Y-%m-%dT%H:", &tm);
	assert_memory_equal(content(), head, strlen(head));
	snprintf(pid, sizeof(pid), "Z deltazero[%d]: ", (int)getpid());
	assert_non_null(strstr(content(), pid));
	assert_non_null(strstr(content(), "warning: read `/mnt/x`: input/output error\n"));
}

static void what_is_below_the_level_is_not_written(void **state)
{
	(void)state;
	dz_debug(&to_file, "quiet");
	assert_string_equal(content(), "");
	dz_info(&to_file, "loud");
	assert_non_null(strstr(content(), "info: loud\n"));
}

static void lines_are_appended(void **state)
{
	(void)state;
	dz_error(&to_file, "one");
	dz_error(&to_file, "two");
	assert_non_null(strstr(content(), "error: one\n2"));
	assert_non_null(strstr(content(), "error: two\n"));
}

static void a_newline_in_a_name_does_not_make_a_line(void **state)
{
	(void)state;
	dz_error(&to_file, "open `%s`", "a\nb\033[2J\177");
	assert_non_null(strstr(content(), "open `a?b?[2J?`\n"));
}

static void a_long_message_ends_in_dots_and_a_newline(void **state)
{
	char text[3000];
	size_t len;

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	dz_error(&to_file, "%s", text);
	len = strlen(content());
	assert_true(len > 1000 && len <= 1024);
	assert_string_equal(content() + len - 5, "x...\n");
}

static void a_file_that_cannot_be_opened_is_standard_error(void **state)
{
	struct dz_log log = { DZ_LOG_INFO, "/no/such/directory/log", "deltazero" };
	int saved = dup(2);
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	(void)state;
	dup2(fd, 2);
	dz_error(&log, "here");
	dup2(saved, 2);
	close(fd);
	close(saved);
	assert_string_equal(content(), "deltazero: error: here\n");
}

static volatile int n_signals;

static void count_signal(int sig)
{
	(void)sig;
	n_signals++;
}

/* The reader of a pipe has gone: the agent's, or who reads the program's standard error. */
static void a_write_into_a_closed_pipe_raises_no_signal(void **state)
{
	struct sigaction count = { .sa_handler = count_signal }, was;
	sigset_t pipe_set, pending;
	int fds[2];

	(void)state;
	sigaction(SIGPIPE, &count, &was);
	assert_int_equal(pipe(fds), 0);
	close(fds[0]);
	assert_int_equal(dz_sys_write_quiet(fds[1], "x", 1), -EPIPE);
	assert_int_equal(n_signals, 0);
	/* one that the program holds back stays: its own, not ours */
	sigemptyset(&pipe_set);
	sigaddset(&pipe_set, SIGPIPE);
	sigprocmask(SIG_BLOCK, &pipe_set, NULL);
	assert_int_equal(write(fds[1], "x", 1), -1);
	assert_int_equal(dz_sys_write_quiet(fds[1], "x", 1), -EPIPE);
	sigpending(&pending);
	assert_true(sigismember(&pending, SIGPIPE));
	sigprocmask(SIG_UNBLOCK, &pipe_set, NULL);
	assert_int_equal(n_signals, 1);
	close(fds[1]);
	sigaction(SIGPIPE, &was, NULL);
}

static void errno_is_left_alone(void **state)
{
	struct dz_log log = { DZ_LOG_INFO, "/no/such/directory/log", "deltazero" };
	int saved = dup(2);
	int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);

	(void)state;
	dup2(fd, 2);
	errno = 12345;
	dz_error(&log, "%s %d", "x", 1);
	dz_sys_close(-1);
	assert_int_equal(errno, 12345);
	dup2(saved, 2);
	close(fd);
	close(saved);
}

static void every_error_has_words(void **state)
{
	(void)state;
	assert_string_equal(dz_strerror(-ENOENT), "no such file or directory");
	assert_string_equal(dz_strerror(ENOENT), "no such file or directory");
	assert_string_equal(dz_strerror(-99999), "unknown error");
}

static void raw_calls_return_minus_errno(void **state)
{
	void *p = NULL;

	(void)state;
	assert_int_equal(dz_sys_open("/no/such/file", O_RDONLY, 0), -ENOENT);
	assert_int_equal(dz_sys_close(-1), -EBADF);
	assert_int_equal(dz_sys_mmap(&p, NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
			 -EINVAL);
	assert_int_equal(dz_sys_getpid(), getpid());
}

static void a_futex_wait_sees_another_value_or_times_out(void **state)
{
	_Atomic uint32_t word = 5;
	uint64_t begin = dz_now_ns();

	(void)state;
	assert_int_equal(dz_sys_futex_wait(&word, 4, 1000), -EAGAIN);
	assert_int_equal(dz_sys_futex_wait(&word, 5, 30), -ETIMEDOUT);
	assert_true(dz_now_ns() - begin >= 30000000);
	assert_int_equal(dz_sys_futex_wake(&word, 1), 0);
}

#define ON_A_FILE(test) cmocka_unit_test_setup_teardown(test, make_file, remove_file)

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_A_FILE(a_line_in_a_file_has_time_process_and_level),
		ON_A_FILE(what_is_below_the_level_is_not_written),
		ON_A_FILE(lines_are_appended),
		ON_A_FILE(a_newline_in_a_name_does_not_make_a_line),
		ON_A_FILE(a_long_message_ends_in_dots_and_a_newline),
		ON_A_FILE(a_file_that_cannot_be_opened_is_standard_error),
		cmocka_unit_test(a_write_into_a_closed_pipe_raises_no_signal),
		cmocka_unit_test(errno_is_left_alone),
		cmocka_unit_test(every_error_has_words),
		cmocka_unit_test(raw_calls_return_minus_errno),
		cmocka_unit_test(a_futex_wait_sees_another_value_or_times_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
