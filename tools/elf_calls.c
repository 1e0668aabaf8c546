// SPDX-License-Identifier: MIT
/*
 * Calls of dlopen that ask for RTLD_DEEPBIND, told from the code.
 *
 * 1. Relocations name the slots that the loader fills with dlopen's address.
 * 2. A stub of the procedure linkage table jumps through such a slot; code that is
 *    built without that table calls through it.
 * 3. A constant is loaded into esi, the second argument, a few instructions before a
 *    call, or a jump at a function's end, to either.
 *
 * A mode that is computed, or comes from elsewhere, is not known here.  What is not
 * sure does not count: something that only looks like a mode, or another call or
 * another value for esi in between.  x86-64 only.
 */
#include "tools/elf_file.h"

#include <dlfcn.h>
#include <string.h>

#define LOOK_BACK 32u /* bytes */
#define DEEPBIND  0x8u
#define MODES	  (RTLD_LAZY | RTLD_NOW | RTLD_NOLOAD | DEEPBIND | RTLD_GLOBAL | RTLD_NODELETE)

struct places {
	uint64_t at[16];
	uint32_t n;
};

static void add(struct places *p, uint64_t addr)
{
	if (p->n < DZ_ARRAY_LEN(p->at))
		p->at[p->n++] = addr;
}

static bool has(const struct places *p, uint64_t addr)
{
	for (uint32_t i = 0; i < p->n; i++) {
		if (p->at[i] == addr)
			return true;
	}
	return false;
}

/* From the table of relocations at the address that `table` says. */
static void find_slots(const struct dz_elf *e, int64_t table, int64_t size, struct places *slots)
{
	const uint8_t *rows;
	uint64_t at, len;
	Elf64_Rela row;
	Elf64_Sym sym;

	if (!dz_elf_dynamic(e, table, 0, &at) || !dz_elf_dynamic(e, size, 0, &len))
		return;
	rows = dz_elf_at(e, at, len);
	for (uint64_t i = 0; rows && len - i >= sizeof(row); i += sizeof(row)) {
		const char *name;

		memcpy(&row, rows + i, sizeof(row));
		if (ELF64_R_TYPE(row.r_info) != R_X86_64_JUMP_SLOT &&
		    ELF64_R_TYPE(row.r_info) != R_X86_64_GLOB_DAT)
			continue;
		name = dz_elf_symbol(e, ELF64_R_SYM(row.r_info), &sym);
		if (name && strcmp(name, "dlopen") == 0)
			add(slots, row.r_offset);
	}
}

struct code {
	const uint8_t *bytes;
	size_t len;
	uint64_t addr;
};

/* Where the offset that ends an instruction of `n` bytes leads. */
static uint64_t target(const struct code *c, size_t at, size_t n)
{
	int32_t offset;

	memcpy(&offset, c->bytes + at + n - sizeof(offset), sizeof(offset));
	return c->addr + at + n + (uint64_t)(int64_t)offset;
}

/* jmp *slot(%rip), and what may stand before it in a stub: bnd, endbr64. */
static void find_stubs(const struct code *c, const struct places *slots, struct places *stubs)
{
	for (size_t at = 0; at + 6 <= c->len; at++) {
		size_t start = at;

		if (c->bytes[at] != 0xff || c->bytes[at + 1] != 0x25 ||
		    !has(slots, target(c, at, 6)))
			continue;
		add(stubs, c->addr + start);
		if (start >= 1 && c->bytes[start - 1] == 0xf2)
			add(stubs, c->addr + --start);
		if (start >= 4 && memcmp(c->bytes + start - 4, "\xf3\x0f\x1e\xfa", 4) == 0)
			add(stubs, c->addr + start - 4);
	}
}

static bool is_call(const struct code *c, size_t at, const struct places *slots,
		    const struct places *stubs)
{
	const uint8_t *p = c->bytes + at;

	if (at + 5 <= c->len && (p[0] == 0xe8 || p[0] == 0xe9))
		return has(stubs, target(c, at, 5));
	return at + 6 <= c->len && p[0] == 0xff && (p[1] == 0x15 || p[1] == 0x25) &&
	       has(slots, target(c, at, 6));
}

/* Does a call, or an instruction that gives esi another value, stand there? */
static bool spoils(const struct code *c, size_t at)
{
	const uint8_t *p = c->bytes + at;

	switch (p[0]) {
	case 0xe8:
		return at + 5 <= c->len && target(c, at, 5) - c->addr < c->len;
	case 0xff: /* call *... */
		return (p[1] & 0x38) == 0x10;
	case 0x31: /* xor, mov to esi */
	case 0x89:
		return (p[1] & 0xc7) == 0xc6;
	case 0x8b: /* mov from memory, lea */
	case 0x8d:
		return (p[1] & 0x38) == 0x30;
	default:
		return false;
	}
}

/* Is RTLD_DEEPBIND in what esi is given before `at`? */
static bool is_deep(const struct code *c, size_t at)
{
	const uint8_t *p = c->bytes;
	uint32_t mode;

	for (size_t i = at; i-- > 0 && at - i <= LOOK_BACK;) {
		bool is_r14 = i > 0 && (p[i - 1] == 0x41 || p[i - 1] == 0x49);

		if (at - i >= 3 && p[i] == 0x83 && p[i + 1] == 0xce && !is_r14) /* or $n,%esi */
			return p[i + 2] == DEEPBIND;
		if (at - i >= 5 && p[i] == 0xbe && !is_r14) { /* mov $n,%esi */
			memcpy(&mode, p + i + 1, sizeof(mode));
			if (mode & (RTLD_LAZY | RTLD_NOW) && !(mode & ~(uint32_t)MODES))
				return mode & DEEPBIND;
		}
		if (at - i >= 2 && spoils(c, i))
			return false;
	}
	return false;
}

uint32_t dz_elf_deep_dlopens(const struct dz_elf *e)
{
	struct places slots = { .n = 0 }, stubs = { .n = 0 };
	uint32_t n = 0;

	if (e->head.e_machine != EM_X86_64)
		return 0;
	find_slots(e, DT_JMPREL, DT_PLTRELSZ, &slots);
	find_slots(e, DT_RELA, DT_RELASZ, &slots);
	for (uint32_t pass = 0; slots.n && pass < 2; pass++) {
		for (uint32_t i = 0; i < e->n_ph; i++) {
			struct code c = { .addr = e->ph[i].p_vaddr };

			c.bytes = dz_elf_segment(e, i, &c.len);
			if (e->ph[i].p_type != PT_LOAD || !(e->ph[i].p_flags & PF_X) || !c.bytes)
				continue;
			if (pass == 0)
				find_stubs(&c, &slots, &stubs);
			for (size_t at = 0; pass == 1 && at < c.len; at++)
				n += is_call(&c, at, &slots, &stubs) && is_deep(&c, at);
		}
	}
	return n;
}
