/* SPDX-License-Identifier: MIT */
/*
 * realpath(3), written anew: libc's looks at the path by calls that no door sees.
 *
 * Component by component: append it to what is done; when that is a link, put
 * its target before what is left; when more follows, it must be a directory.
 * ENOENT, ENOTDIR, ELOOP (40 links), ENAMETOOLONG, EACCES as the kernel says.
 */
#define DZ_IN_realpath 1
#include "shim/give.h"
#include "shim/hooks.h"
#include "shim/link.h"
#include "shim/real.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#define LINKS_MAX 40

void __chk_fail(void) __attribute__((noreturn));

struct resolve {
	char done[PATH_MAX]; /* absolute, no slash at the end; "" is the root */
	size_t len;
	char left[PATH_MAX];
	int links;
};

static int put_before(struct resolve *w, const char *target, size_t len, const char *rest)
{
	size_t rest_len = strlen(rest);

	if (len + rest_len >= sizeof(w->left))
		return -ENAMETOOLONG;
	memmove(w->left + len, rest, rest_len + 1);
	memcpy(w->left, target, len);
	return 0;
}

static void go_up(struct resolve *w)
{
	while (w->len > 0 && w->done[w->len - 1] != '/')
		w->len--;
	w->len -= w->len > 0;
	w->done[w->len] = '\0';
}

static int must_be_dir(const char *path)
{
	struct dz_attr attr;
	struct dz_path p;
	struct stat st;
	int r = dz_path_at(AT_FDCWD, path, &p);

	if (r < 0)
		return r;
	p.wants_dir = true;
	if (r > 0)
		return dz_path_stat(&p, &attr);
	r = dz_sys_stat(path, &st);
	return r < 0 ? r : (S_ISDIR(st.st_mode) ? 0 : -ENOTDIR);
}

/* What is done now ends with a name that may be a link; `rest` is what follows it. */
static int follow(struct resolve *w, const char *rest)
{
	char target[PATH_MAX];
	ssize_t n = dz_link_read(w->done, target, sizeof(target) - 1);
	int r;

	/* A mount's parents need not exist outside. */
	if (n == -ENOENT && dz_path_is_above(w->done))
		return put_before(w, "", 0, rest);
	if (n == -EINVAL) {
		r = *rest == '/' ? must_be_dir(w->done) : 0;
		return r < 0 ? r : put_before(w, "", 0, rest);
	}
	if (n <= 0 || ++w->links > LINKS_MAX)
		return n < 0 ? (int)n : -ELOOP;
	if (target[0] == '/')
		w->len = 0;
	else
		go_up(w);
	w->done[w->len] = '\0';
	return put_before(w, target, (size_t)n, rest);
}

static int step(struct resolve *w)
{
	const char *name = w->left + strspn(w->left, "/");
	size_t len = strcspn(name, "/");
	const char *rest = name + len;

	if (len == 0 || (len == 1 && name[0] == '.'))
		return put_before(w, "", 0, rest);
	if (len == 2 && name[0] == '.' && name[1] == '.') {
		go_up(w);
		return put_before(w, "", 0, rest);
	}
	if (w->len + 1 + len + 1 > sizeof(w->done))
		return -ENAMETOOLONG;
	w->done[w->len++] = '/';
	memcpy(w->done + w->len, name, len);
	w->len += len;
	w->done[w->len] = '\0';
	return follow(w, rest);
}

static int begin(struct resolve *w, const char *path)
{
	long n = 1;

	if (!path)
		return -EINVAL;
	if (!*path)
		return -ENOENT;
	if (strlen(path) >= sizeof(w->left))
		return -ENAMETOOLONG;
	memcpy(w->left, path, strlen(path) + 1);
	if (path[0] != '/')
		n = dz_cwd_syscall(w->done, sizeof(w->done));
	if (n < 0)
		return (int)n;
	/* n counts the NUL; the root is "" here. */
	w->len = n <= 2 ? 0 : (size_t)n - 1;
	w->done[w->len] = '\0';
	w->links = 0;
	return 0;
}

static int resolve(struct resolve *w, const char *path)
{
	int r = begin(w, path);

	if (r < 0)
		w->done[0] = '\0';
	while (r == 0 && w->left[0])
		r = step(w);
	if (r == 0 && w->len == 0)
		memcpy(w->done, "/", 2);
	return r;
}

/* Of what does not exist libc shows the caller how far it came. */
static void show_part(const struct resolve *w, int error, char *buf)
{
	if (buf && w->done[0] && (error == -ENOENT || error == -EACCES))
		memcpy(buf, w->done, strlen(w->done) + 1);
}

DZ_DOOR(char *, realpath, const char *path, char *buf)
{
	char *(*real)(const char *, char *) = DZ_REAL(realpath);
	struct resolve w;
	int r;

	if (!dz_is_on())
		return real(path, buf);
	r = resolve(&w, path);
	if (r < 0) {
		show_part(&w, r, buf);
		dz_ret(r);
		return NULL;
	}
	return buf ? memcpy(buf, w.done, strlen(w.done) + 1) : dz_give(w.done, 0);
}

DZ_DOOR(char *, __realpath_chk, const char *path, char *buf, size_t room)
{
	if (buf && room < PATH_MAX)
		__chk_fail();
	return door_realpath(path, buf);
}

DZ_DOOR(char *, canonicalize_file_name, const char *path)
{
	return door_realpath(path, NULL);
}

#include "shim/aliases.h"
