/* SPDX-License-Identifier: MIT */
/* Streams of libc over descriptors of ours. */
#ifndef DZ_STDIO_H
#define DZ_STDIO_H

#include "cache/base.h"

#include <stdio.h>

/* The program was born with, or has just put, an open file of ours on descriptor 0: `stdin` reads
 * it from now on.  Allocates; not for a vfork child or a signal handler. */
void dz_stdio_adopt_stdin(void);
/* Is it a stream that fopen or fdopen made over a mount? */
bool dz_stdio_is_ours(FILE *fp);

#endif
