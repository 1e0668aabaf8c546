/* SPDX-License-Identifier: MIT */
/* Will the library see a program's calls?  The judgement behind dz check. */
#ifndef DZ_CHECK_H
#define DZ_CHECK_H

#include "cache/base.h"

enum dz_check_weight { DZ_CHECK_NOTE, DZ_CHECK_PARTLY, DZ_CHECK_NOT };

struct dz_check_finding {
	enum dz_check_weight weight;
	char *object; /* the file that it is about */
	char *text;
};

struct dz_check {
	char path[4096];
	struct dz_check_finding *findings;
	size_t n;
	uint32_t objects; /* looked at */
	enum dz_check_weight verdict;
};

/*
 * Looks a program up in PATH, follows a script to its interpreter and an object
 * to its libraries.  0; -ENOENT no such program; -ENOMEM; -errno of reading it.
 */
int dz_check_program(struct dz_check *c, const char *program);
void dz_check_free(struct dz_check *c);

#endif
