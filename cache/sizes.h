/* SPDX-License-Identifier: MIT */
/* The sizes that are chosen when the user names none. */
#ifndef DZ_SIZES_H
#define DZ_SIZES_H

#include "cache/base.h"

/* A quarter of the memory that is free, within the cgroup's limit; bytes. */
uint64_t dz_default_dram(void);
/* Free bytes of the file system that holds `dir`, for us; 0 when it cannot be asked. */
uint64_t dz_free_bytes(const char *dir);

#endif
