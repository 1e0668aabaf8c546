/* SPDX-License-Identifier: MIT */
/*
 * Standard input that is a marker: libc's stdin reads by calls inside libc, which
 * no door sees.  The pointer `stdin` is set to a stream of ours over the same
 * descriptor, so `program < /mnt/blob/file` works through fgets too.
 */
#ifndef DZ_STDIN_H
#define DZ_STDIN_H

void dz_stdin_start(void);

#endif
