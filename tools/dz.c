/* SPDX-License-Identifier: MIT */
/*
 * dz: the command line.  It looks the first word up in the table of
 * tools/commands.def and hands the rest to that command; options in front of the
 * first word are dz's own.  Nothing else is decided here.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "tools/dz.h"

struct command {
	const char *name;
	int (*main)(int argc, char **argv);
	const char *help; /* one line */
};

static const struct command commands[] = {
#define DZ_COMMAND(name, help) { #name, cmd_##name, help },
#include "tools/commands.def"
#undef DZ_COMMAND
};

static void complain(const char *command, const char *fmt, va_list ap)
{
	fprintf(stderr, "dz%s%s: ", command ? " " : "", command ? command : "");
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
}

int dz_usage(const char *command, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	complain(command, fmt, ap);
	va_end(ap);
	fprintf(stderr, "Try 'dz %s%s--help'.\n", command ? command : "", command ? " " : "");
	return DZ_EXIT_OURS;
}

int dz_fail(const char *command, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	complain(command, fmt, ap);
	va_end(ap);
	return DZ_EXIT_OURS;
}

/* Output that nobody could receive is a failure: `dz --help > /dev/full`. */
int dz_flushed(const char *command)
{
	if (fflush(stdout) != 0 || ferror(stdout))
		return dz_fail(command, "standard output: %m");
	return DZ_EXIT_OK;
}

static int print_help(void)
{
	puts("Usage: dz COMMAND [OPTION]... [ARGUMENT]...\n"
	     "A node cache for Azure Blob Storage that needs no mount and no change to a\n"
	     "program.\n"
	     "\n"
	     "Commands:");
	for (size_t i = 0; i < DZ_ARRAY_LEN(commands); i++)
		printf("  %-8s %s\n", commands[i].name, commands[i].help);
	puts("\n"
	     "  --help           this text; `dz COMMAND --help` describes a command\n"
	     "  --version        the version\n"
	     "  --list-commands  the names of the commands, one a line\n"
	     "\n"
	     "Exit status: that of the command that dz runs; 1 when the answer to a question\n"
	     "is no; 125 for a failure of dz itself; 126 and 127 when the program to run\n"
	     "cannot be executed or is not there.");
	return dz_flushed(NULL);
}

static int print_commands(void)
{
	for (size_t i = 0; i < DZ_ARRAY_LEN(commands); i++)
		puts(commands[i].name);
	return dz_flushed(NULL);
}

static int run_command(int argc, char **argv)
{
	for (size_t i = 0; i < DZ_ARRAY_LEN(commands); i++) {
		if (strcmp(argv[0], commands[i].name) == 0)
			return commands[i].main(argc, argv);
	}
	return dz_usage(NULL, "%s: no such command", argv[0]);
}

/* `dz help COMMAND` is `dz COMMAND --help`. */
static int help_on(const char *name)
{
	char *argv[] = { (char *)name, (char *)"--help", NULL };

	return run_command(2, argv);
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return dz_usage(NULL, "which command?");
	if (strcmp(argv[1], "help") == 0 && argc > 2)
		return help_on(argv[2]);
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
	    strcmp(argv[1], "help") == 0)
		return print_help();
	if (strcmp(argv[1], "--version") == 0) {
		puts("dz " DZ_VERSION);
		return dz_flushed(NULL);
	}
	if (strcmp(argv[1], "--list-commands") == 0)
		return print_commands();
	if (argv[1][0] == '-')
		return dz_usage(NULL, "%s: no such option", argv[1]);
	return run_command(argc - 1, argv + 1);
}
