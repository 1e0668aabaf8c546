/* SPDX-License-Identifier: MIT */
/*
 * Standard input that is a marker: libc's stdin reads by calls inside libc, which
 * no door sees.  The pointer `stdin` is set to a stream of ours over the same
 * descriptor, so `program < /mnt/blob/file` works through fgets too.  Libc's own
 * stream object stays as it is: whoever has copied its address gets EBADF.
 */
#ifndef DZ_STDIN_H
#define DZ_STDIN_H

/* Descriptor 0 has become a file of ours (at the start, or by dup2).  Allocates. */
void dz_stdin_adopt(void);

#endif
