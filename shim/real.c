/* SPDX-License-Identifier: MIT */
/*
 * Finding libc's own functions, as RTLD_NEXT would, without the loader's help.
 *
 * The happy path: walk the loader's list of objects, skip all up to ourselves,
 * look in each one's GNU hash table for the default version of the name.  Why
 * not dlsym: it may call malloc (whose replacement may call us), takes the
 * loader's lock, and its symbol moved between libraries in glibc 2.34.
 *
 * It fails, with NULL, for a name that no object behind us has.  Nothing is
 * allocated; objects of the program's start are never unmapped.
 */
#include "shim/real.h"

#include "shim/init.h"

#include "cache/sys.h"

#include <link.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#define VERSION_IS_HIDDEN 0x8000 /* of versym: not the default version */

extern ElfW(Dyn) own_dynamic[] __asm__("_DYNAMIC") __attribute__((visibility("hidden")));

/* What a look-up needs of one object. */
struct object {
	const struct link_map *map;
	const ElfW(Sym) * symbols;
	const char *strings;
	const uint32_t *hash;
	const uint16_t *versions;
};

/* The loader relocates these words in place, except in the vDSO. */
static const void *object_at(const struct link_map *map, ElfW(Addr) ptr)
{
	return (const void *)(ptr < map->l_addr ? ptr + map->l_addr : ptr);
}

static bool object_read(struct object *o, const struct link_map *map)
{
	const ElfW(Dyn) * dyn;

	memset(o, 0, sizeof(*o));
	o->map = map;
	for (dyn = map->l_ld; dyn && dyn->d_tag != DT_NULL; dyn++) {
		const void *at = object_at(map, dyn->d_un.d_ptr);

		if (dyn->d_tag == DT_SYMTAB)
			o->symbols = at;
		else if (dyn->d_tag == DT_STRTAB)
			o->strings = at;
		else if (dyn->d_tag == DT_GNU_HASH)
			o->hash = at;
		else if (dyn->d_tag == DT_VERSYM)
			o->versions = at;
	}
	return o->symbols && o->strings && o->hash;
}

static uint32_t gnu_hash(const char *name)
{
	uint32_t h = 5381;

	for (; *name; name++)
		h = h * 33 + (uint8_t)*name;
	return h;
}

/* A function or a variable that is defined here and is what a new link would get. */
static bool symbol_fits(const struct object *o, uint32_t i, const char *name)
{
	const ElfW(Sym) *sym = &o->symbols[i];
	unsigned int type = ELF32_ST_TYPE(sym->st_info);

	if (sym->st_shndx == SHN_UNDEF || (type != STT_FUNC && type != STT_OBJECT))
		return false;
	if (o->versions && (o->versions[i] & VERSION_IS_HIDDEN))
		return false;
	return strcmp(o->strings + sym->st_name, name) == 0;
}

static void *object_find(const struct object *o, const char *name, uint32_t h)
{
	uint32_t n_buckets = o->hash[0];
	uint32_t first = o->hash[1];
	uint32_t n_bloom = o->hash[2];
	const uint32_t *buckets = o->hash + 4 + n_bloom * (sizeof(ElfW(Addr)) / 4);
	const uint32_t *chain = buckets + n_buckets;
	uint32_t i = n_buckets ? buckets[h % n_buckets] : 0;

	if (i < first)
		return NULL;
	do {
		if ((chain[i - first] | 1) == (h | 1) && symbol_fits(o, i, name))
			return (char *)o->map->l_addr + o->symbols[i].st_value;
	} while (!(chain[i++ - first] & 1));
	return NULL;
}

/* In the objects from `map` on, as far as ours or the end. */
static void *find_from(const struct link_map *map, const char *name)
{
	uint32_t h = gnu_hash(name);
	void *found = NULL;
	struct object o;

	for (; map && map->l_ld != own_dynamic && !found; map = map->l_next)
		found = object_read(&o, map) ? object_find(&o, name, h) : NULL;
	return found;
}

static void *find_behind_us(const char *name)
{
	const struct link_map *map = _r_debug.r_map;
	void *found;

	while (map && map->l_ld != own_dynamic)
		map = map->l_next;
	found = map ? find_from(map->l_next, name) : NULL;
	/* Loaded by dlopen, not before the program: libc stands before us. */
	return found ? found : find_from(_r_debug.r_map, name);
}

/* In a slot: looked for, and not there.  An older libc must not be searched at each call. */
static const char absent;

void *dz_real(void *_Atomic *slot, const char *name)
{
	void *found = atomic_load_explicit(slot, memory_order_relaxed);

	if (!found) {
		found = find_behind_us(name);
		/* Two threads may both look; they find the same. */
		atomic_store_explicit(slot, found ? found : (void *)(uintptr_t)&absent,
				      memory_order_relaxed);
	}
	return found == &absent ? NULL : found;
}

void *dz_real_in(void *handle, const char *name)
{
	struct object o;

	/* What dlopen and dlmopen return is the object's place in a list of the loader's. */
	return object_read(&o, handle) ? object_find(&o, name, gnu_hash(name)) : NULL;
}

const char *dz_lib_path(void)
{
	const struct link_map *map = _r_debug.r_map;

	while (map && map->l_ld != own_dynamic)
		map = map->l_next;
	return map ? map->l_name : "";
}

static const char unknown;
const char *_Atomic dz_single_threaded DZ_HOT_LINE = &unknown;

/* The slow side of dz_is_single_threaded(): looks for libc's word first. */
static bool is_single_threaded(void)
{
	const char *single = DZ_REAL(__libc_single_threaded);

	if (single)
		atomic_store_explicit(&dz_single_threaded, single, memory_order_relaxed);
	return single && *single;
}

long dz_sys_blocking(long nr, long a, long b, long c, long d, long e, long f)
{
	int (*set_type)(int, int *);
	int old;
	long r;

	if (is_single_threaded())
		return dz_sys6(nr, a, b, c, d, e, f);
	set_type = DZ_REAL(pthread_setcanceltype);
	if (!set_type)
		return dz_sys6(nr, a, b, c, d, e, f);
	/* As libc's own calls did it until 2.36: cancellable at once, for the call only. */
	set_type(PTHREAD_CANCEL_ASYNCHRONOUS, &old);
	r = dz_sys6(nr, a, b, c, d, e, f);
	set_type(old, &old);
	return r;
}

void dz_cancel_test(void)
{
	void (*test)(void);

	if (is_single_threaded())
		return;
	test = DZ_REAL(pthread_testcancel);
	if (test)
		test();
}
