// SPDX-License-Identifier: MIT
/*
 * A program's calls are seen when its loader is glibc's, the library may be
 * loaded into it, and it reaches files through libc's names.  Each way to fail
 * is one finding; the heaviest is the verdict.
 */
#include "tools/check.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tools/elf_file.h"
#include "tools/hooked.h"

#define SCRIPTS_MAX 5
#define OBJECTS_MAX 512

#ifdef __x86_64__
#define OUR_MACHINE EM_X86_64
#else
#define OUR_MACHINE EM_AARCH64
#endif

__attribute__((format(printf, 4, 5))) static void
find(struct dz_check *c, enum dz_check_weight weight, const char *object, const char *fmt, ...)
{
	struct dz_check_finding *more = realloc(c->findings, (c->n + 1) * sizeof(*more));
	struct dz_check_finding f = { .weight = weight, .object = strdup(object) };
	va_list ap;

	if (!more)
		abort();
	va_start(ap, fmt);
	if (!f.object || vasprintf(&f.text, fmt, ap) < 0)
		abort();
	va_end(ap);
	c->findings = more;
	c->findings[c->n++] = f;
	c->verdict = weight > c->verdict ? weight : c->verdict;
}

/* ---- may the library be loaded into it? ---- */

/* The kernel sets AT_SECURE, and the loader then ignores LD_PRELOAD. */
static void check_privileges(struct dz_check *c, const char *path, const struct stat *st)
{
	char caps[64];

	if (((st->st_mode & S_ISUID) && st->st_uid != geteuid()) ||
	    ((st->st_mode & S_ISGID) && st->st_gid != getegid()))
		find(c, DZ_CHECK_NOT, path,
		     "is set%cid: the loader ignores LD_PRELOAD for it; run the program that it "
		     "starts under `dz run` instead",
		     st->st_mode & S_ISUID ? 'u' : 'g');
	if (getxattr(path, "security.capability", caps, sizeof(caps)) > 0)
		find(c, geteuid() == 0 ? DZ_CHECK_NOTE : DZ_CHECK_NOT, path,
		     "has file capabilities (getcap shows them): for other users than root the "
		     "loader ignores LD_PRELOAD");
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static void check_interpreter(struct dz_check *c, const char *path, const struct dz_elf *elf)
{
	const char *base = elf->interp ? base_name(elf->interp) : "";
	uint64_t flags;

	if (elf->is_go)
		find(c, DZ_CHECK_NOT, path,
		     "is a Go program: its runtime makes its system calls itself; mount the "
		     "container with blobfuse2 for it");
	if (!elf->interp && elf->head.e_type == ET_DYN &&
	    (dz_elf_dynamic(elf, DT_SONAME, 0, &flags) ||
	     !(dz_elf_dynamic(elf, DT_FLAGS_1, 0, &flags) && (flags & DF_1_PIE)))) {
		find(c, DZ_CHECK_NOTE, path, "is a library: judged by its own calls");
		return;
	}
	if (!elf->interp)
		find(c, DZ_CHECK_NOT, path,
		     "is statically linked: no loader brings the library in; use a dynamically "
		     "linked build");
	else if (strncmp(base, "ld-musl", 7) == 0)
		find(c, DZ_CHECK_NOT, path,
		     "is linked to musl (%s) and the library to glibc: use an image with glibc, "
		     "such as Debian's instead of Alpine's",
		     elf->interp);
	else if (strncmp(base, "ld-linux", 8) != 0 && strncmp(base, "ld-2.", 5) != 0)
		find(c, DZ_CHECK_NOT, path, "asks for the loader %s, which is not glibc's",
		     elf->interp);
}

/* ---- does it reach files through libc? ---- */

/* The C library itself, and the loader: their system calls are what is meant. */
static bool is_libc(const char *path)
{
	static const char *const prefixes[] = { "libc.so.",	"libc-2.",    "ld-linux",
						"ld-2.",	"libpthread", "libdl.so.",
						"librt.so",	"libanl.",    "libresolv.",
						"libdeltazero", "libnss_",    "linux-vdso" };

	for (size_t i = 0; i < DZ_ARRAY_LEN(prefixes); i++) {
		if (strncmp(base_name(path), prefixes[i], strlen(prefixes[i])) == 0)
			return true;
	}
	return false;
}

static void check_raw_calls(struct dz_check *c, const char *path, const struct dz_elf *elf)
{
	struct dz_raw_syscalls raw;

	/* A Go program is nothing but these. */
	if (elf->is_go)
		return;
	dz_elf_raw_syscalls(elf, &raw);
	if (raw.uring)
		find(c, DZ_CHECK_PARTLY, path,
		     "brings its own io_uring: on a file of a mount the kernel answers EBADF; "
		     "switch the program to another way of reading");
	if (raw.files > raw.uring)
		find(c, DZ_CHECK_PARTLY, path,
		     "has %u system call instructions of its own on files (%s): they are not seen",
		     raw.files - raw.uring, raw.names);
	/* Of one whose other calls are futexes, this one is a futex too, in all likelihood. */
	if (raw.unknown)
		find(c, !raw.files && raw.others ? DZ_CHECK_NOTE : DZ_CHECK_PARTLY, path,
		     "has %u system call instructions whose number is not known before it runs",
		     raw.unknown);
	if (raw.others)
		find(c, DZ_CHECK_NOTE, path,
		     "has %u system call instructions of its own that touch no file", raw.others);
}

struct names {
	char text[400];
	size_t len;
	uint32_t n;
};

static void add_name(struct names *names, const char *name)
{
	int n = snprintf(names->text + names->len, sizeof(names->text) - names->len, "%s%s",
			 names->n ? ", " : "", name);

	if (n > 0 && names->len + (size_t)n < sizeof(names->text))
		names->len += (size_t)n;
	else
		names->text[names->len] = '\0';
	names->n++;
}

/* Without these there is no reading of a mount. */
static bool is_basic(const char *name)
{
	static const char *const names[] = { "open",	"open64",  "openat",  "openat64", "read",
					     "pread",	"pread64", "readv",   "close",	  "lseek",
					     "lseek64", "mmap",	   "mmap64",  "fopen",	  "fopen64",
					     "stat",	"fstat",   "opendir", "readdir" };

	for (size_t i = 0; i < DZ_ARRAY_LEN(names); i++) {
		if (strcmp(names[i], name) == 0)
			return true;
	}
	return false;
}

/* In C the mode is a number, in a language above it a word. */
static void check_deepbind(struct dz_check *c, const char *path, const struct dz_elf *elf)
{
	uint32_t n = dz_elf_deep_dlopens(elf);

	if (n)
		find(c, DZ_CHECK_NOTE, path,
		     "has %u calls of dlopen with RTLD_DEEPBIND: what they load does not see the "
		     "library",
		     n);
	else if (dz_elf_has_text(elf, "RTLD_DEEPBIND"))
		find(c, DZ_CHECK_NOTE, path,
		     "knows RTLD_DEEPBIND: what it loads that way does not see the library");
}

/* What it imports, and what it defines in the library's stead. */
static void check_symbols(struct dz_check *c, const char *path, const struct dz_elf *elf,
			  bool is_program)
{
	struct names uring = { "", 0, 0 }, own = uring;
	bool has_dlopen = false, is_asan = false, is_heavy = false;
	uint64_t value;
	bool is_symbolic = dz_elf_dynamic(elf, DT_SYMBOLIC, 0, &value) ||
			   (dz_elf_dynamic(elf, DT_FLAGS, 0, &value) && (value & DF_SYMBOLIC));
	Elf64_Sym sym;

	for (size_t i = 0; i < elf->n_syms; i++) {
		const char *name = dz_elf_symbol(elf, i, &sym);

		if (!name || ELF64_ST_TYPE(sym.st_info) == STT_OBJECT)
			continue;
		is_asan |= strcmp(name, "__asan_init") == 0;
		if (sym.st_shndx != SHN_UNDEF) {
			if ((is_program || is_symbolic) && dz_hooked(name) == DZ_HOOKED_YES)
				add_name(&own, name), is_heavy |= is_basic(name);
			continue;
		}
		has_dlopen |= strcmp(name, "dlopen") == 0;
		if (strncmp(name, "io_uring_", 9) == 0)
			add_name(&uring, name);
	}
	if (uring.n)
		find(c, DZ_CHECK_PARTLY, path,
		     "uses io_uring (%s): on a file of a mount the kernel answers EBADF; switch "
		     "the program to another way of reading",
		     uring.text);
	if (own.n && !is_asan)
		find(c, is_heavy ? DZ_CHECK_PARTLY : DZ_CHECK_NOTE, path,
		     "defines %s itself: its calls of these names go there first", own.text);
	if (has_dlopen)
		check_deepbind(c, path, elf);
}

/* Names of libc that the list does not have, and that sound like files. */
static void check_new_names(struct dz_check *c, const char *path, const struct dz_elf *elf)
{
	void *libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
	struct names unknown = { "", 0, 0 };
	Elf64_Sym sym;

	for (size_t i = 0; libc && i < elf->n_syms; i++) {
		const char *name = dz_elf_symbol(elf, i, &sym);

		if (name && sym.st_shndx == SHN_UNDEF && dz_hooked(name) == DZ_HOOKED_UNKNOWN &&
		    dz_sounds_like_file(name) && dlsym(libc, name))
			add_name(&unknown, name);
	}
	if (libc)
		dlclose(libc);
	if (unknown.n)
		find(c, DZ_CHECK_NOTE, path,
		     "imports names of libc that the library does not know: %s", unknown.text);
}

/* ---- the objects ---- */

struct queue {
	char *path[OBJECTS_MAX];
	dev_t dev[OBJECTS_MAX];
	ino_t ino[OBJECTS_MAX];
	uint32_t n, next;
};

static void queue_add(struct queue *q, const char *path)
{
	struct stat st;

	if (q->n == OBJECTS_MAX || stat(path, &st) < 0)
		return;
	for (uint32_t i = 0; i < q->n; i++) {
		if (q->dev[i] == st.st_dev && q->ino[i] == st.st_ino)
			return;
	}
	q->dev[q->n] = st.st_dev;
	q->ino[q->n] = st.st_ino;
	q->path[q->n] = strdup(path);
	if (!q->path[q->n])
		abort();
	q->n++;
}

static void add_libraries(struct dz_check *c, struct queue *q, const char *path,
			  const struct dz_elf *elf)
{
	char found[4096];
	const char *soname;

	for (uint32_t i = 0; (soname = dz_elf_dynamic_text(elf, DT_NEEDED, i)); i++) {
		if (dz_elf_find_library(elf, path, soname, found) == 0)
			queue_add(q, found);
		else
			find(c, DZ_CHECK_NOTE, path, "needs %s, which is not there: not looked at",
			     soname);
	}
}

static int check_object(struct dz_check *c, struct queue *q, const char *path, bool is_program)
{
	struct dz_elf elf;
	int ret = dz_elf_open(&elf, path);

	if (ret == -EPROTO && is_program) {
		find(c, DZ_CHECK_NOT, path, "is not a 64-bit program of this kind of machine");
		return 0;
	}
	if (ret < 0)
		return ret;
	c->objects++;
	if (is_program && elf.head.e_machine != OUR_MACHINE) {
		find(c, DZ_CHECK_NOT, path, "is a program of another kind of machine");
	} else if (!is_libc(path)) {
		if (is_program)
			check_interpreter(c, path, &elf);
		check_raw_calls(c, path, &elf);
		check_symbols(c, path, &elf, is_program && elf.interp);
		check_new_names(c, path, &elf);
		add_libraries(c, q, path, &elf);
	}
	dz_elf_close(&elf);
	return 0;
}

static int check_elf(struct dz_check *c, const char *path)
{
	static struct queue q;
	int ret;

	q.n = 0;
	queue_add(&q, path);
	ret = q.n ? check_object(c, &q, path, true) : -ENOENT;
	for (q.next = 1; ret == 0 && q.next < q.n; q.next++) {
		/* A library that is no ELF file is a linker script: nothing is lost. */
		int one = check_object(c, &q, q.path[q.next], false);

		ret = one == -ENOMEM ? one : 0;
	}
	for (uint32_t i = 0; i < q.n; i++)
		free(q.path[i]);
	return ret;
}

/* ---- finding the program ---- */

static bool is_program_file(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, R_OK) == 0;
}

static int look_up(const char *program, char out[4096])
{
	const char *path = getenv("PATH");

	if (strchr(program, '/')) {
		snprintf(out, 4096, "%s", program);
		return is_program_file(out) ? 0 : -ENOENT;
	}
	for (const char *p = path ? path : "/usr/bin:/bin"; *p;
	     p += strcspn(p, ":"), p += *p == ':') {
		snprintf(out, 4096, "%.*s/%s", (int)strcspn(p, ":"), p, program);
		if (is_program_file(out) && access(out, X_OK) == 0)
			return 0;
	}
	return -ENOENT;
}

/* "#! interpreter [argument]": 1 and the words, 0 no script, -errno. */
static int read_script(const char *path, char line[512], char **words)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -errno : read(fd, line, 511);
	char *save = line + 2;

	if (fd >= 0)
		close(fd);
	if (n < 0)
		return (int)n;
	if (n < 3 || line[0] != '#' || line[1] != '!')
		return 0;
	line[n] = '\0';
	line[strcspn(line, "\r\n")] = '\0';
	words[0] = words[1] = words[2] = NULL;
	for (int i = 0; i < 3; i++) {
		save += strspn(save, " \t");
		if (!*save)
			break;
		words[i] = save;
		save += strcspn(save, " \t");
		if (*save)
			*save++ = '\0';
	}
	return words[0] ? 1 : 0;
}

/* env's program is the interpreter that is meant; `env -S python3 -u` too. */
static const char *interpreter_of(char **words)
{
	if (strcmp(base_name(words[0]), "env") != 0 || !words[1])
		return words[0];
	return strcmp(words[1], "-S") == 0 && words[2] ? words[2] : words[1];
}

int dz_check_program(struct dz_check *c, const char *program)
{
	char line[512], *words[3];
	struct stat st;
	int ret;

	memset(c, 0, sizeof(*c));
	ret = look_up(program, c->path);
	for (int i = 0; ret == 0 && i < SCRIPTS_MAX; i++) {
		if (stat(c->path, &st) < 0)
			return -errno;
		ret = read_script(c->path, line, words);
		/* The kernel heeds set-user-ID of programs only. */
		if (ret <= 0)
			check_privileges(c, c->path, &st);
		if (ret <= 0)
			return ret < 0 ? ret : check_elf(c, c->path);
		find(c, DZ_CHECK_NOTE, c->path, "is a script of %s", interpreter_of(words));
		ret = look_up(interpreter_of(words), c->path);
	}
	return ret < 0 ? ret : -ELOOP;
}

void dz_check_free(struct dz_check *c)
{
	for (size_t i = 0; i < c->n; i++) {
		free(c->findings[i].object);
		free(c->findings[i].text);
	}
	free(c->findings);
}
