// SPDX-License-Identifier: MIT
/*
 * Starting the agent out of somebody else's program, unseen.
 *
 * The happy path: a first child (sharing our memory like vfork, with a stack of
 * its own and an exit that raises no SIGCHLD) makes a session of its own and a
 * second child, and ends; the second closes every descriptor, opens /dev/null
 * for 0 to 2, and becomes `dz agent N`.  So the agent is nobody's child here,
 * holds nothing of the program and is in no process group of it.
 *
 * No malloc, no atfork handlers, signals blocked throughout.  When anything
 * fails the agent is not there and the caller fetches inline.
 */
#include "cache/engine_priv.h"
#include "cache/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define STACK_BYTES 65536
#define ENV_MAX	    4096

struct spawn {
	char path[DZ_PATH_MAX];
	char number[16];
	char *argv[6];
	char *envp[ENV_MAX];
	uint8_t *stacks; /* two */
	uint64_t old_mask;
	int err;
};

#if defined(__x86_64__)
/* Runs fn(arg) in a child on `stack` (its top); returns the child's pid or -errno. */
static long spawn_clone(int (*fn)(void *), void *stack, unsigned long flags, void *arg)
{
	register long r12 __asm__("r12") = (long)fn;
	register long r13 __asm__("r13") = (long)arg;
	register long r10 __asm__("r10") = 0;
	register long r8 __asm__("r8") = 0;
	long ret;

	__asm__ volatile("syscall\n\t"
			 "test %%rax, %%rax\n\t"
			 "jnz 1f\n\t"
			 "xor %%ebp, %%ebp\n\t"
			 "mov %%r13, %%rdi\n\t"
			 "call *%%r12\n\t"
			 "mov %%eax, %%edi\n\t"
			 "mov $60, %%eax\n\t"
			 "syscall\n\t"
			 "hlt\n"
			 "1:"
			 : "=a"(ret)
			 : "a"(SYS_clone), "D"(flags), "S"(stack), "d"(0L), "r"(r10), "r"(r8),
			   "r"(r12), "r"(r13)
			 : "rcx", "r11", "memory");
	return ret;
}
#else
static long spawn_clone(int (*fn)(void *), void *stack, unsigned long flags, void *arg)
{
	int pid = clone(fn, stack, (int)flags, arg);

	return pid < 0 ? -EAGAIN : pid;
}
#endif

#define SPAWN_FLAGS (CLONE_VM | CLONE_VFORK)

static void *spawn_stack(const struct spawn *s, int n)
{
	return s->stacks + (size_t)STACK_BYTES * (size_t)(n + 1) - 64;
}

/* The agent-to-be. */
static int spawn_second(void *arg)
{
	struct spawn *s = arg;
	long fd;

	dz_sys_3(SYS_close_range, 0, ~0u, 0);
	fd = dz_sys_open("/dev/null", O_RDWR, 0);
	if (fd != 0 || dz_sys_1(SYS_dup, 0) != 1 || dz_sys_1(SYS_dup, 0) != 2) {
		s->err = -EMFILE;
		return 127;
	}
	s->err = (int)dz_sys_3(SYS_execve, s->path, s->argv, s->envp);
	return 127;
}

static int spawn_first(void *arg)
{
	struct spawn *s = arg;
	long pid;

	dz_sys_0(SYS_setsid);
	pid = spawn_clone(spawn_second, spawn_stack(s, 1), SPAWN_FLAGS, s);
	if (pid < 0)
		s->err = (int)pid;
	return 0;
}

static bool spawn_keeps(const char *var)
{
	return strncmp(var, "LD_PRELOAD=", 11) != 0 && strncmp(var, "LD_AUDIT=", 9) != 0;
}

/* Of the start, as the identity is: the program may have cleared its own, or put in others'. */
static void spawn_env(const struct dz_engine *e, struct spawn *s)
{
	size_t n = 0;

	for (char *const *p = e->envp; p && *p && n < ENV_MAX - 1; p++) {
		if (spawn_keeps(*p))
			s->envp[n++] = *p;
	}
	s->envp[n] = NULL;
}

/* `dz` beside the library, or in the bin of its prefix. */
static int spawn_find(const struct dz_engine *e, struct spawn *s)
{
	static const char *const places[] = { "dz", "../bin/dz", "../../bin/dz",
					      "../../../bin/dz" };

	for (size_t i = 0; i < DZ_ARRAY_LEN(places); i++) {
		int n = snprintf(s->path, sizeof(s->path), "%s/%s", e->lib_dir, places[i]);

		if (n > 0 && (size_t)n < sizeof(s->path) &&
		    dz_sys_3(SYS_faccessat, AT_FDCWD, s->path, 1) == 0)
			return 0;
	}
	return -ENOENT;
}

static int spawn_run(struct spawn *s)
{
	uint64_t all = ~0ull;
	int status = 0;
	long pid;

	dz_sys_4(SYS_rt_sigprocmask, SIG_SETMASK, &all, &s->old_mask, 8);
	pid = spawn_clone(spawn_first, spawn_stack(s, 0), SPAWN_FLAGS, s);
	if (pid > 0)
		dz_sys_4(SYS_wait4, pid, &status, __WALL, 0);
	dz_sys_4(SYS_rt_sigprocmask, SIG_SETMASK, &s->old_mask, 0, 8);
	return pid < 0 ? (int)pid : s->err;
}

/* `dz agent N`, or `dz agent N pager LIBDIR`. */
static int spawn(struct dz_engine *e, uint32_t agent, bool is_pager)
{
	size_t bytes = dz_round_up(sizeof(struct spawn), DZ_PAGE) + 2 * STACK_BYTES;
	char pager[] = "pager";
	struct spawn *s;
	void *map;
	int ret = dz_sys_mmap(&map, NULL, bytes, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (ret < 0)
		return ret;
	s = map;
	s->stacks = (uint8_t *)map + dz_round_up(sizeof(*s), DZ_PAGE);
	ret = spawn_find(e, s);
	if (ret == 0) {
		snprintf(s->number, sizeof(s->number), "%u", agent);
		s->argv[0] = s->path;
		s->argv[1] = (char[]){ "agent" };
		s->argv[2] = s->number;
		s->argv[3] = is_pager ? pager : NULL;
		s->argv[4] = is_pager ? e->lib_dir : NULL;
		spawn_env(e, s);
		ret = spawn_run(s);
	}
	dz_sys_munmap(map, bytes);
	return ret;
}

int dz_spawn_agent(struct dz_engine *e, uint32_t agent)
{
	return spawn(e, agent, false);
}

int dz_spawn_pager(struct dz_engine *e, uint32_t agent)
{
	return spawn(e, agent, true);
}
