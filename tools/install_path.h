/* SPDX-License-Identifier: MIT */
/* Where the library lies, seen from dz: beside it (a build) or in ../lib (installed). */
#ifndef DZ_INSTALL_PATH_H
#define DZ_INSTALL_PATH_H

#include "cache/config.h"

/* Absolute path of libdeltazero.so.  0, or -ENOENT. */
int dz_library_path(char path[DZ_PATH_MAX]);

#endif
