/* SPDX-License-Identifier: MIT */
/*
 * The dynamic section of a library that the loader has not seen yet.  The file comes from
 * outside: every offset is checked against its length, every string against its end.
 */
#include "shim/needed.h"

#include "cache/sys.h"

#include <elf.h>
#include <errno.h>
#include <link.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

static const void *piece(const struct dz_needed *l, uint64_t off, uint64_t len)
{
	if (off > l->len || len > l->len - off)
		return NULL;
	return (const uint8_t *)l->image + off;
}

/* Where in the file an address is; 0: nowhere, which the header's place can stand for. */
static uint64_t offset_of(const struct dz_needed *l, const ElfW(Ehdr) * eh, uint64_t addr)
{
	const ElfW(Phdr) *ph = piece(l, eh->e_phoff, (uint64_t)eh->e_phnum * sizeof(*ph));

	for (int i = 0; ph && i < eh->e_phnum; i++)
		if (ph[i].p_type == PT_LOAD && addr >= ph[i].p_vaddr &&
		    addr - ph[i].p_vaddr < ph[i].p_filesz)
			return addr - ph[i].p_vaddr + ph[i].p_offset;
	return 0;
}

static const char *string_at(const struct dz_needed *l, uint64_t table, uint64_t off)
{
	const char *s = off < l->len ? piece(l, table + off, 1) : NULL;

	return s && memchr(s, '\0', l->len - (size_t)(s - (const char *)l->image)) ? s : NULL;
}

static void read_dynamic(struct dz_needed *l, const ElfW(Dyn) * dyn, uint64_t n, uint64_t strings)
{
	for (uint64_t i = 0; i < n && dyn[i].d_tag != DT_NULL; i++) {
		const char *s = string_at(l, strings, dyn[i].d_un.d_val);

		if (dyn[i].d_tag == DT_NEEDED && s && l->n < DZ_NEEDED_MAX)
			l->names[l->n++] = s;
		/* Where both are, RUNPATH counts. */
		else if (dyn[i].d_tag == DT_RUNPATH || (dyn[i].d_tag == DT_RPATH && !l->path))
			l->path = s;
	}
}

static bool read_image(struct dz_needed *l)
{
	const ElfW(Ehdr) *eh = piece(l, 0, sizeof(*eh));
	const ElfW(Phdr) * ph;
	const ElfW(Dyn) *dyn = NULL;
	uint64_t n = 0, strings = 0;

	if (!eh || memcmp(eh->e_ident, ELFMAG, SELFMAG) != 0 ||
	    eh->e_ident[EI_CLASS] != (sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32) ||
	    eh->e_phentsize != sizeof(*ph))
		return false;
	ph = piece(l, eh->e_phoff, (uint64_t)eh->e_phnum * sizeof(*ph));
	for (int i = 0; ph && i < eh->e_phnum; i++)
		if (ph[i].p_type == PT_DYNAMIC) {
			n = ph[i].p_filesz / sizeof(*dyn);
			dyn = piece(l, ph[i].p_offset, n * sizeof(*dyn));
		}
	/* As the loader: a dynamic section stands at a multiple of its word. */
	if (!dyn || (uintptr_t)dyn % sizeof(uint64_t) != 0)
		return false;
	for (uint64_t i = 0; i < n; i++)
		if (dyn[i].d_tag == DT_STRTAB)
			strings = offset_of(l, eh, dyn[i].d_un.d_ptr);
	if (strings)
		read_dynamic(l, dyn, n, strings);
	return true;
}

bool dz_needed_open(int fd, struct dz_needed *out)
{
	struct stat st;

	memset(out, 0, sizeof(*out));
	if (dz_sys_fstat(fd, &st) < 0 || st.st_size <= 0)
		return false;
	out->len = (size_t)st.st_size;
	if (dz_sys_mmap(&out->image, NULL, out->len, PROT_READ, MAP_PRIVATE, fd, 0) < 0)
		return false;
	if (read_image(out))
		return true;
	dz_needed_close(out);
	return false;
}

void dz_needed_close(struct dz_needed *needed)
{
	dz_sys_munmap(needed->image, needed->len);
}

/* "$ORIGIN/../x" or "${ORIGIN}": what it stands for, and *dir behind it. */
static const char *put_origin(const char **dir, size_t *len, const char *origin)
{
	static const char *const tokens[] = { "$ORIGIN", "${ORIGIN}" };

	for (size_t i = 0; i < DZ_ARRAY_LEN(tokens); i++) {
		size_t n = strlen(tokens[i]);

		if (*len >= n && memcmp(*dir, tokens[i], n) == 0) {
			*dir += n;
			*len -= n;
			return origin;
		}
	}
	return "";
}

int dz_needed_candidate(const char *path, uint32_t i, const char *origin, const char *name,
			char *out, size_t len)
{
	size_t dir_len;
	const char *base;
	int n;

	for (; i > 0; i--) {
		path = strchr(path, ':');
		if (!path)
			return -ENOENT;
		path++;
	}
	dir_len = strcspn(path, ":");
	base = put_origin(&path, &dir_len, origin);
	if ((!*base && dir_len == 0) || memchr(path, '$', dir_len))
		return -EINVAL;
	n = snprintf(out, len, "%s%.*s/%s", base, (int)dir_len, path, name);
	return n < 0 || (size_t)n >= len ? -EINVAL : 0;
}
