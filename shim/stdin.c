/* SPDX-License-Identifier: MIT */
#include "shim/stdin.h"

#include "shim/fdtab.h"
#include "shim/stdio.h"

#include <stdio.h>

void dz_stdin_start(void)
{
	FILE *f;

	if (!dz_fd_get(0))
		return;
	f = dz_stdio_wrap(0, "r");
	if (f)
		stdin = f;
}
