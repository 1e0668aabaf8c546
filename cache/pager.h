/* SPDX-License-Identifier: MIT */
/*
 * The pager: a process that fills lazy mappings (lazy.h) of other processes, and its
 * keeper, a process that has a copy of every descriptor and starts the next pager
 * when one is killed.  `dz agent N pager LIBDIR`; the library starts it.
 */
#ifndef DZ_PAGER_H
#define DZ_PAGER_H

/*
 * Serves the files of agent record N (argv: "agent" N "pager" LIBDIR) of the cache
 * that the environment names, until no process has had a lazy mapping for ten
 * seconds.  Returns an exit status: 0, or 1 when the cache cannot be used.
 */
int dz_pager_main(int argc, char **argv);
/* Has a pager of this record died, and its keeper with it, while processes need it?  Any fd. */
int dz_pager_is_missed(int dir_fd, unsigned int agent);

#endif
