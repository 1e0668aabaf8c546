/* SPDX-License-Identifier: MIT */
/*
 * What the commands of dz share: their declarations, the exit codes and the
 * wording of a usage error.
 *
 * A command is main() with another name: argv[0] is the command's own name
 * ("serve"), options are read with getopt_long, and the return value is the exit
 * status.  Each command answers `--help` itself, on standard output, in lines of
 * at most 80 columns; completion takes the options from there.
 */
#ifndef DZ_TOOLS_H
#define DZ_TOOLS_H

#include "cache/base.h"

#define DZ_VERSION "0.1.0"

enum dz_exit {
	DZ_EXIT_OK = 0,
	DZ_EXIT_NO = 1,		  /* the question was answered: no (check, verify, doctor) */
	DZ_EXIT_OURS = 125,	  /* our own failure, usage included */
	DZ_EXIT_CANNOT_RUN = 126, /* COMMAND is there and cannot be executed */
	DZ_EXIT_NOT_FOUND = 127,  /* COMMAND is not there */
};

#define DZ_COMMAND(name, help) int cmd_##name(int argc, char **argv);
#include "tools/commands.def"
#undef DZ_COMMAND

/*
 * Prints "dz COMMAND: MESSAGE" and where help is found to standard error.
 * Returns DZ_EXIT_OURS, so that a command can end with `return dz_usage(...)`.
 */
int dz_usage(const char *command, const char *fmt, ...) DZ_PRINTF(2, 3);

/* Prints "dz COMMAND: MESSAGE" to standard error; returns DZ_EXIT_OURS. */
int dz_fail(const char *command, const char *fmt, ...) DZ_PRINTF(2, 3);

/* The end of a command that printed: 0, or a complaint when nobody could receive it. */
int dz_flushed(const char *command);

#endif
