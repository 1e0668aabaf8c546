/* SPDX-License-Identifier: MIT */
/* Numbers as people read them. */
#ifndef DZ_HUMAN_H
#define DZ_HUMAN_H

#include "cache/base.h"

#define DZ_HUMAN_BYTES 24

/* "1.5 GiB"; returns buf. */
const char *dz_human(uint64_t bytes, char buf[DZ_HUMAN_BYTES]);
/* "0:07", "12:30", "2:00:00"; returns buf. */
const char *dz_human_time(double seconds, char buf[DZ_HUMAN_BYTES]);
/* 0 for a part of nothing. */
double dz_percent(double part, double whole);

#endif
