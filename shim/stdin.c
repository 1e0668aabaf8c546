/* SPDX-License-Identifier: MIT */
#include "shim/stdin.h"

#include "shim/stdio.h"

void dz_stdin_adopt(void)
{
	FILE *f;

	/* One stream of ours does for every file that comes to stand there. */
	if (dz_stdio_is_ours(stdin))
		return;
	f = dz_stdio_wrap(0, "r");
	if (f)
		stdin = f;
}
