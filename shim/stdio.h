/* SPDX-License-Identifier: MIT */
/* Streams of libc over descriptors of ours. */
#ifndef DZ_STDIO_H
#define DZ_STDIO_H

#include "cache/base.h"

#include <stdio.h>

/* A stream over a descriptor of ours, which fclose closes; NULL when there is no memory, or when
 * `mode` asks for more than the descriptor can.  Allocates: not in a signal handler. */
FILE *dz_stdio_wrap(int fd, const char *mode);
/* Makes a stream of ours one that wide characters can be read from; -EINVAL when bytes were. */
int dz_stdio_widen(FILE *fp);
/* Is it a stream that fopen or fdopen made over a mount? */
bool dz_stdio_is_ours(FILE *fp);

#endif
