/* SPDX-License-Identifier: MIT */
/*
 * vfork(2).  The child runs on its parent's stack, below the frame of whoever
 * called vfork; a C function in between would have its own frame, and the return
 * address in it, overwritten before the parent returns through it.  So the door
 * leaves none: it calls dz_vfork_prepare() (done before the child exists), sets
 * this thread's dz_vforked and jumps to libc's vfork.
 *
 * Parent and child both find the flag set; the first change that either makes to
 * its descriptors asks which of the two it is (dz_in_vfork_child).
 */
	.text
	.globl	vfork
	.globl	__vfork
	.type	vfork, %function
	.type	__vfork, %function

#if defined(__x86_64__)

vfork:
__vfork:
	.cfi_startproc
	endbr64
	subq	$8, %rsp
	.cfi_adjust_cfa_offset 8
	call	dz_vfork_prepare
	addq	$8, %rsp
	.cfi_adjust_cfa_offset -8
	movq	dz_vforked@gottpoff(%rip), %rcx
	movl	$1, %fs:(%rcx)
	jmp	*%rax
	.cfi_endproc

#elif defined(__aarch64__)

vfork:
__vfork:
	.cfi_startproc
	hint	#34			/* bti c */
	stp	x29, x30, [sp, #-16]!
	.cfi_def_cfa_offset 16
	.cfi_offset x29, -16
	.cfi_offset x30, -8
	bl	dz_vfork_prepare
	ldp	x29, x30, [sp], #16
	.cfi_restore x29
	.cfi_restore x30
	.cfi_def_cfa_offset 0
	mrs	x1, tpidr_el0
	adrp	x2, :gottprel:dz_vforked
	ldr	x2, [x2, #:gottprel_lo12:dz_vforked]
	mov	w3, #1
	str	w3, [x1, x2]
	mov	x16, x0
	br	x16
	.cfi_endproc

#endif
	.size	vfork, . - vfork
	.size	__vfork, . - __vfork
	.section .note.GNU-stack, "", %progbits
