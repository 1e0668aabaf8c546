/* SPDX-License-Identifier: MIT */
/*
 * A stub in front of each door of hooks.def, for a library that counts which of
 * them were called: one store to a byte of its own, then a jump to the very code
 * of the release build, whose symbol has been renamed to counted_NAME (hits.mk).
 * No frame: vfork, clone and variadic doors work behind it.  Byte n is that of
 * the n-th HOOK or ALIAS of hooks.def.
 */
	.section .hits, "aw", %nobits
	.p2align 12
	.globl	dz_hits
	.hidden	dz_hits
dz_hits:

	.macro	stub name
	.section .hits, "aw", %nobits
1:	.skip	1
	.text
	.globl	\name
	.type	\name, %function
\name:
#if defined(__x86_64__)
	movb	$1, 1b(%rip)
	jmp	counted_\name
#elif defined(__aarch64__)
	adrp	x16, 1b
	mov	w17, #1
	strb	w17, [x16, #:lo12:1b]
	b	counted_\name
#endif
	.size	\name, . - \name
	.endm

#define HOOK(name, family)	   stub name
#define ALIAS(alias, name, family) stub alias
#define SKIP(name, reason)
#include "shim/hooks.def"

	/* One page, which a file takes the place of. */
	.section .hits, "aw", %nobits
	.skip	4096 - (. - dz_hits)
	.section .note.GNU-stack, "", %progbits
