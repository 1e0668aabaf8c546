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
#include <sys/syscall.h>

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

/*
 * syscall(2).  clone and clone3 may return in a child on another stack, or on
 * ours like vfork: then libc's own must be jumped to.  dz_syscall_route() says
 * whom; all other numbers go to dz_syscall().
 */
	.globl	syscall
	.type	syscall, %function

#if defined(__x86_64__)

syscall:
	.cfi_startproc
	endbr64
	cmpq	$SYS_clone, %rdi
	je	1f
	cmpq	$SYS_clone3, %rdi
	jne	dz_syscall
1:	pushq	%rdi
	pushq	%rsi
	pushq	%rdx
	pushq	%rcx
	pushq	%r8
	pushq	%r9
	subq	$8, %rsp
	.cfi_adjust_cfa_offset 56
	call	dz_syscall_route
	addq	$8, %rsp
	popq	%r9
	popq	%r8
	popq	%rcx
	popq	%rdx
	popq	%rsi
	popq	%rdi
	.cfi_adjust_cfa_offset -56
	jmp	*%rax
	.cfi_endproc

#elif defined(__aarch64__)

syscall:
	.cfi_startproc
	hint	#34
	cmp	x0, #SYS_clone
	b.eq	1f
	cmp	x0, #SYS_clone3
	b.ne	dz_syscall
1:	stp	x29, x30, [sp, #-80]!
	.cfi_def_cfa_offset 80
	.cfi_offset x29, -80
	.cfi_offset x30, -72
	stp	x0, x1, [sp, #16]
	stp	x2, x3, [sp, #32]
	stp	x4, x5, [sp, #48]
	str	x6, [sp, #64]
	bl	dz_syscall_route
	mov	x16, x0
	ldp	x0, x1, [sp, #16]
	ldp	x2, x3, [sp, #32]
	ldp	x4, x5, [sp, #48]
	ldr	x6, [sp, #64]
	ldp	x29, x30, [sp], #80
	.cfi_restore x29
	.cfi_restore x30
	.cfi_def_cfa_offset 0
	br	x16
	.cfi_endproc

#endif
	.size	syscall, . - syscall
	.section .note.GNU-stack, "", %progbits
