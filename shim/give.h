/* SPDX-License-Identifier: MIT */
/* Memory that a call gives to the program, which will free() it. */
#ifndef DZ_GIVE_H
#define DZ_GIVE_H

#include "cache/base.h"

/* A copy of a string in `room` bytes (more than it needs, or 0: just enough); NULL and ENOMEM. */
char *dz_give(const char *text, size_t room);

#endif
