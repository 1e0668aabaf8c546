/* SPDX-License-Identifier: MIT */
/*
 * longjmp: a handler that interrupts a read (alarm and siglongjmp are an old way to
 * have a time limit) leaves the engine with it, for good.  Without a word from here
 * this thread would count as inside for ever, and find no path of a mount.
 */
#define DZ_IN_jump 1
#include <setjmp.h>

#include "shim/hooks.h"
#include "shim/real.h"

typedef void jump_fn(struct __jmp_buf_tag *, int);

DZ_DOOR(void, siglongjmp, struct __jmp_buf_tag *env, int value)
{
	jump_fn *libc_siglongjmp = DZ_REAL(siglongjmp);

	dz_depth = 0;
	libc_siglongjmp(env, value);
}

/* The fortified one looks whether the jump goes up. */
DZ_DOOR(void, __longjmp_chk, struct __jmp_buf_tag *env, int value)
{
	jump_fn *libc_longjmp_chk = DZ_REAL(__longjmp_chk);

	dz_depth = 0;
	libc_longjmp_chk(env, value);
}

#include "shim/aliases.h"
