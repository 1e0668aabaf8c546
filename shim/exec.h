/* SPDX-License-Identifier: MIT */
#ifndef DZ_EXEC_H
#define DZ_EXEC_H

/* execveat(2): does not return, or -errno.  Safe in a vfork child. */
int dz_exec(int dir_fd, const char *path, char *const argv[], char *const envp[], int flags);
/* Looks `file` up as execvp(3) does, in $PATH: its path in buf; 0 or -errno. */
int dz_exec_find(const char *file, char *buf, unsigned long len);

#endif
