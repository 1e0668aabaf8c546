/* SPDX-License-Identifier: MIT */
/* Copying by the processor's own string instruction, where it is made for that. */
#ifndef DZ_COPY_H
#define DZ_COPY_H

#include "cache/base.h"

#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>

/* "Enhanced REP MOVSB": leaf 7, EBX bit 9.  Under a hypervisor a microsecond or two. */
static inline bool dz_has_string_copy(void)
{
	unsigned int a, b, c, d;

	return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b >> 9 & 1);
}

static inline void dz_copy_string(void *dst, const void *src, size_t n)
{
	__asm__ volatile("rep movsb" : "+D"(dst), "+S"(src), "+c"(n) : : "memory");
}

#else

static inline bool dz_has_string_copy(void)
{
	return false;
}

static inline void dz_copy_string(void *dst, const void *src, size_t n)
{
	memcpy(dst, src, n);
}

#endif

#endif
