// SPDX-License-Identifier: MIT
/*
 * dz check: will the library see a program's calls?  It looks at the program's
 * file and its libraries, and runs nothing.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "cache/log.h"
#include "tools/check.h"
#include "tools/dz.h"
#include "tools/totals.h"

static const char help[] =
	"Usage: dz check [--json] PROGRAM...\n"
	"Predicts whether `dz run PROGRAM` sees PROGRAM's calls on files: whether a glibc\n"
	"loader brings the library in, and whether the program reaches files through\n"
	"libc.  A script is followed to its interpreter, a program to its libraries; what\n"
	"it loads or starts while it runs is not known here.\n"
	"\n"
	"      --json  an array of objects: program, path, verdict, findings\n"
	"      --help  this text\n"
	"\n"
	"Exit status: 0 seen, 1 not seen, 2 partly; of several programs the worst; 125\n"
	"when a program cannot be looked at.";

/* In the order of enum dz_check_weight. */
static const char *const verdicts[] = { "seen", "partly", "not" };

static void print_text(const char *program, const struct dz_check *c)
{
	static const char *const titles[] = { "seen", "partly seen", "not seen" };
	static const char *const marks[] = { "note  ", "partly", "not   " };

	printf("%s: %s (%s, %u files looked at)\n", program, titles[c->verdict], c->path,
	       c->objects);
	for (int weight = DZ_CHECK_NOT; weight >= DZ_CHECK_NOTE; weight--) {
		for (size_t i = 0; i < c->n; i++) {
			if ((int)c->findings[i].weight == weight)
				printf("  %s  %s %s\n", marks[weight], c->findings[i].object,
				       c->findings[i].text);
		}
	}
}

static void print_json(const char *program, const struct dz_check *c, bool is_first)
{
	fputs(is_first ? "\n  {\"program\": " : ",\n  {\"program\": ", stdout);
	dz_json_string(stdout, program);
	fputs(", \"path\": ", stdout);
	dz_json_string(stdout, c->path);
	printf(", \"verdict\": \"%s\", \"objects\": %u, \"findings\": [", verdicts[c->verdict],
	       c->objects);
	for (size_t i = 0; i < c->n; i++) {
		printf("%s\n    {\"weight\": \"%s\", \"object\": ", i ? "," : "",
		       c->findings[i].weight == DZ_CHECK_NOTE ? "note"
							      : verdicts[c->findings[i].weight]);
		dz_json_string(stdout, c->findings[i].object);
		fputs(", \"text\": ", stdout);
		dz_json_string(stdout, c->findings[i].text);
		putchar('}');
	}
	fputs("]}", stdout);
}

/* The verdict, or -errno after a message. */
static int check_one(const char *program, bool json, bool is_first)
{
	struct dz_check check;
	int ret = dz_check_program(&check, program);

	if (ret == 0 && json)
		print_json(program, &check, is_first);
	else if (ret == 0)
		print_text(program, &check);
	else
		dz_fail("check", "%s: %s", program,
			ret == -ENOEXEC ? "neither a program nor a script" : dz_strerror(ret));
	dz_check_free(&check);
	return ret < 0 ? ret : (int)check.verdict;
}

static int check_all(char **programs, int n, bool json)
{
	static const int status[] = { DZ_EXIT_OK, 2, DZ_EXIT_NO };
	int worst = DZ_CHECK_NOTE;
	bool failed = false;

	if (json)
		putchar('[');
	for (int i = 0; i < n; i++) {
		int ret = check_one(programs[i], json, i == 0);

		failed |= ret < 0;
		worst = ret > worst ? ret : worst;
	}
	if (json)
		puts("\n]");
	return failed ? DZ_EXIT_OURS : status[worst];
}

int cmd_check(int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	bool json = false;
	int opt, ret, flushed;

	while ((opt = getopt_long(argc, argv, "+h", options, NULL)) != -1) {
		if (opt == 'h') {
			puts(help);
			return dz_flushed("check");
		}
		if (opt == '?')
			return dz_usage("check", "wrong option");
		json = true;
	}
	if (optind == argc)
		return dz_usage("check", "which PROGRAM?");
	ret = check_all(argv + optind, argc - optind, json);
	flushed = dz_flushed("check");
	return flushed ? flushed : ret;
}
