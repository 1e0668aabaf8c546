/* SPDX-License-Identifier: MIT */
/*
 * An ELF file, looked at without being believed: every offset and count that
 * comes from it is checked against the file's size, nothing is followed twice,
 * and a table that leads outside is as if it were not there.  64-bit, little
 * endian only.
 */
#ifndef DZ_ELF_FILE_H
#define DZ_ELF_FILE_H

#include "cache/base.h"

#include <elf.h>

#define DZ_ELF_PHDRS_MAX 256

struct dz_elf {
	const uint8_t *bytes;
	size_t size;
	Elf64_Ehdr head;
	Elf64_Phdr ph[DZ_ELF_PHDRS_MAX];
	uint32_t n_ph;
	const char *interp; /* NULL: none */
	size_t dyn_off, n_dyn;
	const char *strings; /* of the dynamic table, NUL at the end; NULL: none */
	size_t strings_len;
	size_t sym_off, n_syms;
	bool is_go;
};

/*
 * Maps the file.  0; -ENOEXEC not ELF; -EPROTO another class or byte order
 * (`head.e_machine` is set); -EBADMSG headers that lead outside the file; or the
 * -errno of opening it.
 */
int dz_elf_open(struct dz_elf *elf, const char *path);
void dz_elf_close(struct dz_elf *elf);

/* The n-th value of a tag of the dynamic table; false when there is none. */
bool dz_elf_dynamic(const struct dz_elf *elf, int64_t tag, uint32_t n, uint64_t *value);
/* The same as a string; NULL when there is none. */
const char *dz_elf_dynamic_text(const struct dz_elf *elf, int64_t tag, uint32_t n);
/* Name of symbol `i` of the dynamic table, NULL when it has none. */
const char *dz_elf_symbol(const struct dz_elf *elf, size_t i, Elf64_Sym *sym);
/* Does the file define the function for others? */
bool dz_elf_defines(const struct dz_elf *elf, const char *name);
/* The file's bytes of a segment. */
const uint8_t *dz_elf_segment(const struct dz_elf *elf, uint32_t i, size_t *len);
/* The file's `n` bytes of an address; NULL: nowhere. */
const uint8_t *dz_elf_at(const struct dz_elf *elf, uint64_t addr, uint64_t n);
/* Do the bytes stand in a segment that is not code? */
bool dz_elf_has_text(const struct dz_elf *elf, const char *text);

/* ---- elf_syscalls.c ---- */

struct dz_raw_syscalls {
	uint32_t files;	  /* instructions whose number is that of a call on files */
	uint32_t unknown; /* whose number could not be told */
	uint32_t others;  /* futex and the like: no matter */
	uint32_t uring;	  /* of `files`, io_uring's */
	char names[160];  /* of some of `files` */
};
/* System call instructions in the file's code. */
void dz_elf_raw_syscalls(const struct dz_elf *elf, struct dz_raw_syscalls *out);

/* ---- elf_calls.c ---- */

/* How many calls of dlopen in the file's code have RTLD_DEEPBIND written into them. */
uint32_t dz_elf_deep_dlopens(const struct dz_elf *elf);

/* ---- elf_search.c ---- */

/*
 * Where the loader would find `soname` for an object at `path`.  Returns 0 or
 * -ENOENT.
 */
int dz_elf_find_library(const struct dz_elf *elf, const char *path, const char *soname,
			char out[4096]);

#endif
