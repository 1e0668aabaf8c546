// SPDX-License-Identifier: MIT
#include "tools/elf_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Copies n bytes out of the file; tables may lie at any alignment. */
static bool take(const struct dz_elf *e, uint64_t off, void *to, size_t n)
{
	if (off > e->size || n > e->size - off)
		return false;
	memcpy(to, e->bytes + off, n);
	return true;
}

/* Where in the file an address lies, with `n` bytes after it; 0 when nowhere. */
static uint64_t offset_of(const struct dz_elf *e, uint64_t addr, uint64_t n)
{
	for (uint32_t i = 0; i < e->n_ph; i++) {
		const Elf64_Phdr *p = &e->ph[i];
		uint64_t in = addr - p->p_vaddr;

		if (p->p_type == PT_LOAD && addr >= p->p_vaddr && in < p->p_filesz &&
		    n <= p->p_filesz - in && p->p_offset < e->size &&
		    p->p_filesz <= e->size - p->p_offset)
			return p->p_offset + in;
	}
	return 0;
}

const uint8_t *dz_elf_segment(const struct dz_elf *e, uint32_t i, size_t *len)
{
	const Elf64_Phdr *p = &e->ph[i];

	if (p->p_offset > e->size || p->p_filesz > e->size - p->p_offset)
		return NULL;
	*len = p->p_filesz;
	return e->bytes + p->p_offset;
}

const uint8_t *dz_elf_at(const struct dz_elf *e, uint64_t addr, uint64_t n)
{
	uint64_t off = offset_of(e, addr, n);

	return off ? e->bytes + off : NULL;
}

bool dz_elf_has_text(const struct dz_elf *e, const char *text)
{
	size_t len;

	for (uint32_t i = 0; i < e->n_ph; i++) {
		const uint8_t *bytes = dz_elf_segment(e, i, &len);

		if (e->ph[i].p_type == PT_LOAD && !(e->ph[i].p_flags & PF_X) && bytes &&
		    memmem(bytes, len, text, strlen(text)))
			return true;
	}
	return false;
}

/* ---- headers ---- */

static int read_headers(struct dz_elf *e)
{
	if (e->size < EI_NIDENT || memcmp(e->bytes, ELFMAG, SELFMAG) != 0)
		return -ENOEXEC;
	if (!take(e, 0, &e->head, sizeof(e->head)))
		return -EBADMSG;
	if (e->bytes[EI_CLASS] != ELFCLASS64 || e->bytes[EI_DATA] != ELFDATA2LSB)
		return -EPROTO;
	if (e->head.e_phentsize != sizeof(Elf64_Phdr) || e->head.e_phnum > DZ_ELF_PHDRS_MAX)
		return -EBADMSG;
	e->n_ph = e->head.e_phnum;
	return take(e, e->head.e_phoff, e->ph, e->n_ph * sizeof(Elf64_Phdr)) ? 0 : -EBADMSG;
}

/* A note of Go's linker: name "Go", type 4. */
static bool notes_say_go(const uint8_t *note, size_t len)
{
	Elf64_Nhdr n;

	for (size_t at = 0; len - at >= sizeof(n);) {
		uint64_t name, desc;

		memcpy(&n, note + at, sizeof(n));
		name = dz_round_up(n.n_namesz, 4);
		desc = dz_round_up(n.n_descsz, 4);
		at += sizeof(n);
		if (name > len - at || desc > len - at - name)
			return false;
		if (n.n_type == 4 && n.n_namesz == 3 && memcmp(note + at, "Go", 3) == 0)
			return true;
		at += name + desc;
	}
	return false;
}

static void read_segments(struct dz_elf *e)
{
	for (uint32_t i = 0; i < e->n_ph; i++) {
		size_t len;
		const uint8_t *bytes = dz_elf_segment(e, i, &len);

		if (!bytes || !len)
			continue;
		if (e->ph[i].p_type == PT_INTERP && bytes[len - 1] == '\0')
			e->interp = (const char *)bytes;
		if (e->ph[i].p_type == PT_NOTE && notes_say_go(bytes, len))
			e->is_go = true;
		if (e->ph[i].p_type == PT_DYNAMIC) {
			e->dyn_off = e->ph[i].p_offset;
			e->n_dyn = len / sizeof(Elf64_Dyn);
		}
	}
	/* A stripped note leaves the build information that `go version` reads. */
	if (!e->is_go)
		e->is_go = dz_elf_has_text(e, "\xff Go buildinf:");
}

/* ---- the dynamic table ---- */

bool dz_elf_dynamic(const struct dz_elf *e, int64_t tag, uint32_t n, uint64_t *value)
{
	Elf64_Dyn dyn;

	for (size_t i = 0; i < e->n_dyn; i++) {
		if (!take(e, e->dyn_off + i * sizeof(dyn), &dyn, sizeof(dyn)) ||
		    dyn.d_tag == DT_NULL)
			return false;
		if (dyn.d_tag != tag || n-- > 0)
			continue;
		*value = dyn.d_un.d_val;
		return true;
	}
	return false;
}

const char *dz_elf_dynamic_text(const struct dz_elf *e, int64_t tag, uint32_t n)
{
	uint64_t at;

	if (!e->strings || !dz_elf_dynamic(e, tag, n, &at) || at >= e->strings_len)
		return NULL;
	return e->strings + at;
}

/* From the section that says so, or the hash table's chain length. */
static size_t count_symbols(const struct dz_elf *e)
{
	Elf64_Shdr s;
	uint64_t hash;
	uint32_t chain[2];

	for (uint32_t i = 0; i < e->head.e_shnum; i++) {
		if (take(e, e->head.e_shoff + i * sizeof(s), &s, sizeof(s)) &&
		    s.sh_type == SHT_DYNSYM && s.sh_offset == e->sym_off)
			return s.sh_size / sizeof(Elf64_Sym);
	}
	if (dz_elf_dynamic(e, DT_HASH, 0, &hash) && (hash = offset_of(e, hash, 8)) &&
	    take(e, hash, chain, sizeof(chain)))
		return chain[1];
	/* Neither: the string table follows the symbols in what linkers write. */
	return e->strings && (size_t)(e->strings - (const char *)e->bytes) > e->sym_off
		       ? ((size_t)(e->strings - (const char *)e->bytes) - e->sym_off) /
				 sizeof(Elf64_Sym)
		       : 0;
}

static void read_dynamic(struct dz_elf *e)
{
	uint64_t at, len, off;

	if (dz_elf_dynamic(e, DT_STRTAB, 0, &at) && dz_elf_dynamic(e, DT_STRSZ, 0, &len) && len &&
	    (off = offset_of(e, at, len)) && e->bytes[off + len - 1] == '\0') {
		e->strings = (const char *)e->bytes + off;
		e->strings_len = len;
	}
	if (!dz_elf_dynamic(e, DT_SYMTAB, 0, &at))
		return;
	e->sym_off = offset_of(e, at, sizeof(Elf64_Sym));
	if (e->sym_off)
		e->n_syms =
			dz_min_u64(count_symbols(e), (e->size - e->sym_off) / sizeof(Elf64_Sym));
}

const char *dz_elf_symbol(const struct dz_elf *e, size_t i, Elf64_Sym *sym)
{
	if (!e->strings || i >= e->n_syms ||
	    !take(e, e->sym_off + i * sizeof(*sym), sym, sizeof(*sym)) ||
	    sym->st_name >= e->strings_len || !e->strings[sym->st_name])
		return NULL;
	return e->strings + sym->st_name;
}

bool dz_elf_defines(const struct dz_elf *e, const char *name)
{
	Elf64_Sym sym;

	for (size_t i = 0; i < e->n_syms; i++) {
		const char *is = dz_elf_symbol(e, i, &sym);

		if (is && sym.st_shndx != SHN_UNDEF && ELF64_ST_TYPE(sym.st_info) == STT_FUNC &&
		    strcmp(is, name) == 0)
			return true;
	}
	return false;
}

int dz_elf_open(struct dz_elf *e, const char *path)
{
	struct stat st;
	void *map;
	int ret, fd = open(path, O_RDONLY | O_CLOEXEC);

	memset(e, 0, sizeof(*e));
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size == 0) {
		close(fd);
		return -ENOEXEC;
	}
	map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	ret = map == MAP_FAILED ? -errno : 0;
	close(fd);
	if (ret < 0)
		return ret;
	e->bytes = map;
	e->size = (size_t)st.st_size;
	ret = read_headers(e);
	if (ret < 0) {
		dz_elf_close(e);
		return ret;
	}
	read_segments(e);
	read_dynamic(e);
	return 0;
}

void dz_elf_close(struct dz_elf *e)
{
	if (e->bytes)
		munmap((void *)(uintptr_t)e->bytes, e->size);
	e->bytes = NULL;
}
