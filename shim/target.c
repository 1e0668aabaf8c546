/* SPDX-License-Identifier: MIT */
/*
 * Planning an exec:
 *  1. Not on a mount, and nobody asks for more: the kernel gets what was given.
 *  2. A program on a mount: a real descriptor with its bytes.
 *  3. A script on a mount, or one whose interpreter is there: what the kernel
 *     would do, the interpreter with the script's path behind it, is done here,
 *     and its answer planned in turn.
 */
#include "shim/target.h"

#include "shim/fdtab.h"
#include "shim/guard.h"
#include "shim/paths.h"

#include "cache/sys.h"

#include <elf.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#if defined(__x86_64__)
#define OWN_MACHINE EM_X86_64
#else
#define OWN_MACHINE EM_AARCH64
#endif

/* The front of a file, and where it lies. */
struct front {
	bool is_ours;
	uint32_t mode;
	ssize_t len;
	dz_fh fh; /* ours: open, to be closed */
	union {
		char text[4096];
		Elf64_Ehdr elf;
	};
};

static int read_ours(const struct dz_path *p, struct front *f)
{
	struct dz_attr attr;
	int r = dz_path_stat(p, &attr);

	if (r < 0)
		return r;
	if (!S_ISREG(attr.mode))
		return -EACCES;
	r = dz_engine_open_file(dz_engine, p->mount, p->name, p->len, O_RDONLY, &f->fh);
	if (r < 0)
		return r;
	f->is_ours = true;
	f->mode = attr.mode;
	f->len = dz_engine_pread(dz_engine, f->fh, f->text, sizeof(f->text), 0);
	if (f->len >= 0)
		return 0;
	dz_engine_close_file(dz_engine, f->fh);
	return -EIO;
}

/* A FIFO must not keep us waiting: it cannot be run anyway. */
#define READ_QUIETLY (O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)

static int read_real(int dir_fd, const char *path, int flags, struct front *f)
{
	bool by_fd = (flags & AT_EMPTY_PATH) && path && !*path;
	int fd = by_fd ? dir_fd : dz_sys_openat(dir_fd, path, READ_QUIETLY, 0);
	struct stat st;
	int r;

	f->is_ours = false;
	f->len = 0;
	if (fd < 0)
		return 0; /* the kernel will say what is wrong */
	r = dz_sys_fstat(fd, &st);
	f->mode = r < 0 ? 0 : st.st_mode;
	if (r == 0 && S_ISREG(st.st_mode))
		f->len = dz_sys_pread(fd, f->text, sizeof(f->text), 0);
	if (!by_fd)
		dz_sys_close(fd);
	return 0;
}

/* An ELF program that the loader starts, with us preloaded. */
static bool is_dynamic(const struct front *f)
{
	const Elf64_Ehdr *elf = &f->elf;
	const Elf64_Phdr *ph;
	uint32_t i;

	if (f->len < (ssize_t)sizeof(*elf) || memcmp(elf->e_ident, ELFMAG, SELFMAG) != 0 ||
	    elf->e_ident[EI_CLASS] != ELFCLASS64 || elf->e_machine != OWN_MACHINE ||
	    elf->e_phentsize != sizeof(*ph))
		return false;
	for (i = 0; i < elf->e_phnum; i++) {
		size_t at = elf->e_phoff + i * sizeof(*ph);

		if (at > sizeof(f->text) - sizeof(*ph) || at + sizeof(*ph) > (size_t)f->len)
			return false;
		ph = (const Elf64_Phdr *)(const void *)(f->text + at);
		if (ph->p_type == PT_INTERP)
			return true;
	}
	return false;
}

/* "#! /bin/sh -e\n": `line` becomes "/bin/sh\0-e\0"; the argument or NULL.  0 or -ENOEXEC. */
static int parse_script(const struct front *f, char *line, const char **arg)
{
	size_t len = dz_min_u64((uint64_t)f->len, DZ_SCRIPT_BYTES);
	char *end;
	char *at;

	if (len < 2 || memcmp(f->text, "#!", 2) != 0)
		return -ENOEXEC;
	memcpy(line, f->text, len);
	line[len] = '\0';
	end = strchr(line, '\n');
	end = end ? end : line + len;
	while (end > line + 2 && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	*end = '\0';
	at = line + 2 + strspn(line + 2, " \t");
	memmove(line, at, strlen(at) + 1);
	at = line + strcspn(line, " \t");
	*arg = NULL;
	if (*at) {
		*at++ = '\0';
		*arg = at + strspn(at, " \t");
	}
	return *line ? 0 : -ENOEXEC;
}

/* Room for n pointers: the caller's stack, else a mapping. */
static char **make_vec(struct dz_target *t, size_t n)
{
	void *at;

	if (n <= DZ_TARGET_ARGS && t->argv != t->vec)
		return t->vec;
	if (t->mapped || dz_sys_mmap(&at, NULL, n * sizeof(char *), PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) < 0)
		return NULL;
	t->mapped = at;
	t->mapped_bytes = n * sizeof(char *);
	return at;
}

/* argv becomes INTERPRETER [ARGUMENT] SCRIPT argv[1]... */
static int set_script(struct dz_target *t, char *interp, const char *arg, const char *script)
{
	size_t extra = arg ? 3 : 2;
	size_t n = 0;
	char **vec;

	while (t->argv && t->argv[n])
		n++;
	if (t->argv == t->vec && n + extra < DZ_TARGET_ARGS)
		vec = t->vec; /* a second "#!" line: in place, memmove below */
	else
		vec = make_vec(t, n + extra + 1);
	if (!vec)
		return -E2BIG;
	if (n > 0)
		memmove(vec + extra, t->argv + 1, n * sizeof(*vec));
	else
		vec[extra] = NULL;
	vec[0] = interp;
	if (arg)
		vec[1] = (char *)(uintptr_t)arg;
	vec[extra - 1] = (char *)(uintptr_t)script;
	t->argv = vec;
	t->changed = true;
	return 0;
}

/* A program of ours: the kernel runs a descriptor that holds its bytes. */
static int set_program(struct dz_target *t, const struct front *f)
{
	if (f->len < 4 || memcmp(f->text, ELFMAG, SELFMAG) != 0)
		return -ENOEXEC;
	t->fd = dz_engine_real_fd(dz_engine, f->fh, true);
	if (t->fd < 0)
		return t->fd;
	t->dir_fd = t->fd;
	t->path = "";
	t->flags = AT_EMPTY_PATH;
	t->is_blind = !is_dynamic(f);
	t->changed = true;
	return 0;
}

/* Is the interpreter of a script outside on a mount?  Else the kernel does the script itself. */
static bool interp_is_ours(const char *interp, struct dz_path *p)
{
	return dz_path_at(AT_FDCWD, interp, p) == 1;
}

/* Looks at one file.  1: it was a script, t->path is its interpreter; 0: done; -errno. */
static int plan_step(struct dz_target *t, int depth, bool deep)
{
	struct dz_path p;
	struct front f;
	const char *arg;
	const char *script = t->path;
	int r = dz_path_at(t->dir_fd, t->path, &p);

	if (r == 0 && !deep)
		return 0;
	if (r >= 0)
		r = r > 0 ? read_ours(&p, &f) : read_real(t->dir_fd, t->path, t->flags, &f);
	if (r < 0)
		return r;
	if (parse_script(&f, t->lines[depth], &arg) < 0) {
		if (f.is_ours)
			r = set_program(t, &f);
		else
			t->is_blind =
				f.len > 0 && (!is_dynamic(&f) || (f.mode & (S_ISUID | S_ISGID)));
		goto out;
	}
	if (!f.is_ours && !interp_is_ours(t->lines[depth], &p)) {
		t->is_blind = false; /* an interpreter that is blind is rare: not looked for */
		goto out;
	}
	if (f.is_ours && depth == 0) {
		r = dz_path_local(p.mount, p.name, t->local, sizeof(t->local));
		script = t->local;
	}
	r = r < 0 ? r : set_script(t, t->lines[depth], arg, script);
	t->dir_fd = AT_FDCWD;
	t->path = t->lines[depth];
	t->flags = 0;
	r = r < 0 ? r : 1;
out:
	if (f.is_ours)
		dz_engine_close_file(dz_engine, f.fh);
	return r;
}

int dz_target_plan(struct dz_target *t, int dir_fd, const char *path, char *const argv[], int flags,
		   bool deep)
{
	int depth;
	int r = 1;

	t->dir_fd = dir_fd;
	t->path = path;
	t->argv = argv;
	t->flags = flags;
	t->fd = -1;
	t->is_blind = false;
	t->changed = false;
	t->mapped = NULL;
	if (!dz_is_on())
		return 0;
	for (depth = 0; r > 0 && depth < DZ_SCRIPTS_MAX; depth++)
		r = plan_step(t, depth, deep);
	if (r > 0)
		r = -ELOOP;
	if (r < 0)
		dz_target_done(t);
	return r;
}

void dz_target_done(struct dz_target *t)
{
	if (t->fd >= 0)
		dz_sys_close(t->fd);
	if (t->mapped)
		dz_sys_munmap(t->mapped, t->mapped_bytes);
	t->fd = -1;
	t->mapped = NULL;
}
