/* SPDX-License-Identifier: MIT */
/* What vfork.S and the table share. */
#ifndef DZ_VFORK_H
#define DZ_VFORK_H

/* 1 after vfork() on this thread, in parent and child, until dz_in_vfork_child() has looked. */
extern __thread int dz_vforked __attribute__((tls_model("initial-exec"), visibility("hidden")));

/* Called by the stub before the child exists; returns libc's vfork. */
void *dz_vfork_prepare(void) __attribute__((visibility("hidden")));

#endif
