// SPDX-License-Identifier: MIT
/*
 * System call instructions in a program's own code: calls that no library sees.
 *
 * The bytes 0f 05 also stand inside other instructions, most often as the low half
 * of an offset, so one counts only when its surroundings fit: what follows can be
 * an instruction, and the number is loaded into eax shortly before, or the result
 * is tested as a system call's is.  What the number says decides whether it
 * matters: a futex does not, an openat does.
 */
#include "tools/elf_file.h"

#include <string.h>
#include <sys/syscall.h>

#define LOOK_NEAR 24u
#define LOOK_FAR  96u /* for one that is a system call by what follows */

static const struct {
	uint32_t nr;
	const char *name;
} file_calls[] = {
#define CALL(name) { SYS_##name, #name },
#ifdef __x86_64__
	CALL(open) CALL(stat) CALL(lstat) CALL(access) CALL(getdents) CALL(readlink) CALL(creat)
#endif
		CALL(read) CALL(write) CALL(fstat) CALL(lseek) CALL(mmap) CALL(pread64)
			CALL(pwrite64) CALL(readv) CALL(writev) CALL(sendfile) CALL(openat)
				CALL(newfstatat) CALL(statx) CALL(getdents64) CALL(readlinkat)
					CALL(faccessat) CALL(faccessat2) CALL(preadv) CALL(preadv2)
						CALL(openat2) CALL(splice) CALL(copy_file_range)
							CALL(io_submit) CALL(io_uring_setup)
								CALL(io_uring_enter) CALL(dup)
									CALL(dup3) CALL(execve)
#undef CALL
};

static const char *file_call_name(uint32_t nr)
{
	for (size_t i = 0; i < DZ_ARRAY_LEN(file_calls); i++) {
		if (file_calls[i].nr == nr)
			return file_calls[i].name;
	}
	return NULL;
}

/* The nearest load of a small constant into eax before `at`; -1: none. */
static int64_t number_before(const uint8_t *code, size_t at, size_t back)
{
	size_t from = at > back ? at - back : 0;
	uint32_t nr;

	for (size_t i = at; i-- > from;) {
		if (at - i >= 2 && (code[i] == 0x31 || code[i] == 0x33) && code[i + 1] == 0xc0)
			return 0;
		if (at - i >= 5 && code[i] == 0xb8) {
			memcpy(&nr, code + i + 1, 4);
			if (nr < 512)
				return nr;
		}
		if (at - i >= 7 && memcmp(code + i, "\x48\xc7\xc0", 3) == 0) {
			memcpy(&nr, code + i + 3, 4);
			if (nr < 512)
				return nr;
		}
	}
	return -1;
}

/* Is the result compared with -4095, or returned at once? */
static bool is_tested_after(const uint8_t *code, size_t len, size_t at)
{
	size_t left = len - at;

	return (left >= 6 && (memcmp(code + at, "\x48\x3d\x00\xf0\xff\xff", 6) == 0 ||
			      memcmp(code + at, "\x48\x3d\x01\xf0\xff\xff", 6) == 0)) ||
	       (left >= 1 && code[at] == 0xc3);
}

/*
 * Part of an offset or a constant: 0f 05 00 00, 0f 05 12 ff, 80 0f 05 00, and that
 * of a call or jump.
 */
static bool is_offset(const uint8_t *code, size_t len, size_t at)
{
	const uint8_t *next = code + at + 2;

	if (len - at < 4 || (at > 0 && (code[at - 1] == 0xe8 || code[at - 1] == 0xe9)))
		return true;
	return next[0] == 0x00 || next[0] == 0xff ||
	       ((next[1] == 0x00 || next[1] == 0xff) && next[0] != 0x3d);
}

static void count(struct dz_raw_syscalls *out, int64_t nr)
{
	const char *name = nr >= 0 ? file_call_name((uint32_t)nr) : NULL;
	size_t used = strlen(out->names);

	if (nr < 0) {
		out->unknown++;
		return;
	}
	if (!name) {
		out->others++;
		return;
	}
	out->files++;
	out->uring += strncmp(name, "io_uring", 8) == 0;
	if (strstr(out->names, name) || used + strlen(name) + 3 > sizeof(out->names))
		return;
	if (used)
		memcpy(out->names + used, ", ", 3);
	memcpy(out->names + used + (used ? 2 : 0), name, strlen(name) + 1);
}

static void scan_x86(const uint8_t *code, size_t len, struct dz_raw_syscalls *out)
{
	const uint8_t *p = code;

	while ((p = memmem(p, len - (size_t)(p - code), "\x0f\x05", 2))) {
		size_t at = (size_t)(p - code);
		bool is_tested = is_tested_after(code, len, at + 2);
		int64_t nr = number_before(code, at, LOOK_NEAR);

		p += 2;
		if (is_offset(code, len, at))
			continue;
		if (nr < 0 && is_tested)
			nr = number_before(code, at, LOOK_FAR);
		/* xor eax,eax stands before most calls of C functions: alone it says little. */
		if (nr > 0 || is_tested)
			count(out, nr);
	}
}

/* mov w8 or x8, #nr within the four instructions before svc #0. */
static void scan_arm(const uint8_t *code, size_t len, struct dz_raw_syscalls *out)
{
	uint32_t insn, before;

	for (size_t at = 0; at + 4 <= len; at += 4) {
		int64_t nr = -1;

		memcpy(&insn, code + at, 4);
		if (insn != 0xd4000001u)
			continue;
		for (size_t i = 4; i <= 16 && i <= at && nr < 0; i += 4) {
			memcpy(&before, code + at - i, 4);
			if ((before & 0x7fe0001fu) == 0x52800008u)
				nr = before >> 5 & 0xffff;
		}
		count(out, nr);
	}
}

void dz_elf_raw_syscalls(const struct dz_elf *e, struct dz_raw_syscalls *out)
{
	memset(out, 0, sizeof(*out));
	for (uint32_t i = 0; i < e->n_ph; i++) {
		size_t len;
		const uint8_t *code = dz_elf_segment(e, i, &len);

		if (e->ph[i].p_type != PT_LOAD || !(e->ph[i].p_flags & PF_X) || !code)
			continue;
		if (e->head.e_machine == EM_X86_64)
			scan_x86(code, len, out);
		else if (e->head.e_machine == EM_AARCH64)
			scan_arm(code, len, out);
	}
}
