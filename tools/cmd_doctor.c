// SPDX-License-Identifier: MIT
/* dz doctor: is this node fit, and what did the cache choose? */
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tools/doctor.h"
#include "tools/dz.h"
#include "tools/totals.h"

static const char help[] =
	"Usage: dz doctor [--json]\n"
	"Examines what the cache needs on this node: the installation, the kernel and\n"
	"io_uring, limits, container, libraries that are preloaded too, shared memory,\n"
	"the disk and its speed; the sizes that are chosen and why; and for each mount\n"
	"of DELTAZERO_MOUNT the address, TLS, the clock, the credential and a List.\n"
	"Each finding says what to do.  Secrets are not printed.\n"
	"\n"
	"      --json  one JSON object: result, and findings with check, result, found,\n"
	"              advice\n"
	"      --help  this text\n"
	"\n"
	"Exit status: 0 nothing fails (there may be warnings), 1 something does.";

static const char *const names[] = { "ok", "warn", "fail" };

static void print_text(enum dz_health health, const char *what, const char *text,
		       const char *advice)
{
	static const char *const marks[] = { "OK  ", "WARN", "FAIL" };
	static const char *const colours[] = { "\033[32m", "\033[33m", "\033[31m" };
	bool is_terminal = isatty(STDOUT_FILENO);

	printf("%s%s%s  %-11s %s\n", is_terminal ? colours[health] : "", marks[health],
	       is_terminal ? "\033[0m" : "", what, text);
	if (advice)
		printf("                  -> %s\n", advice);
	fflush(stdout);
}

static void print_json(const struct dz_doctor *d, enum dz_health health, const char *what,
		       const char *text, const char *advice)
{
	printf("%s\n    {\"check\": ", d->is_first ? "" : ",");
	dz_json_string(stdout, what);
	printf(", \"result\": \"%s\", \"found\": ", names[health]);
	dz_json_string(stdout, text);
	fputs(", \"advice\": ", stdout);
	if (advice)
		dz_json_string(stdout, advice);
	else
		fputs("null", stdout);
	putchar('}');
}

void dz_found(struct dz_doctor *d, enum dz_health health, const char *what, const char *advice,
	      const char *fmt, ...)
{
	char text[2 * DZ_PATH_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (d->json)
		print_json(d, health, what, text, advice);
	else
		print_text(health, what, text, advice);
	d->is_first = false;
	d->n[health]++;
	d->worst = health > d->worst ? health : d->worst;
}

static int examine(struct dz_doctor *d)
{
	if (d->json)
		fputs("{\n  \"findings\": [", stdout);
	dz_doctor_node(d);
	dz_doctor_cache(d);
	dz_doctor_mounts(d);
	if (d->json)
		printf("\n  ],\n  \"result\": \"%s\"\n}\n", names[d->worst]);
	else
		printf("%u well, %u to look at, %u to be mended\n", d->n[DZ_HEALTH_OK],
		       d->n[DZ_HEALTH_WARN], d->n[DZ_HEALTH_FAIL]);
	return d->worst == DZ_HEALTH_FAIL ? DZ_EXIT_NO : DZ_EXIT_OK;
}

int cmd_doctor(int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	static struct dz_config cfg;
	struct dz_doctor doctor = { .cfg = &cfg, .is_first = true };
	int opt, ret, flushed;

	while ((opt = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (opt == 'h') {
			puts(help);
			return dz_flushed("doctor");
		}
		if (opt == '?')
			return dz_usage("doctor", "wrong option");
		doctor.json = true;
	}
	if (optind < argc)
		return dz_usage("doctor", "%s: no argument is expected", argv[optind]);
	dz_config_read(&cfg, environ);
	ret = examine(&doctor);
	flushed = dz_flushed("doctor");
	return flushed ? flushed : ret;
}
