// SPDX-License-Identifier: MIT
/* Which files dz warm is about. */
#include "tools/warm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tools/dz.h"

static int add_file(struct dz_warm *w, uint32_t mount, const char *name, uint64_t size)
{
	if (w->n_files == w->cap_files) {
		size_t cap = w->cap_files ? w->cap_files * 2 : 1024;
		struct dz_warm_file *more = realloc(w->files, cap * sizeof(*more));

		if (!more)
			return -ENOMEM;
		w->files = more;
		w->cap_files = cap;
	}
	w->files[w->n_files] =
		(struct dz_warm_file){ .name = strdup(name), .size = size, .mount = mount };
	if (!w->files[w->n_files].name)
		return -ENOMEM;
	w->n_files++;
	w->bytes += size;
	return 0;
}

static int add_below(struct dz_warm *w, uint32_t mount, const char *dir);

static int add_entry(struct dz_warm *w, uint32_t mount, const char *dir,
		     const struct dz_list_entry *e)
{
	char name[DZ_NAME_MAX + 1];
	int n = snprintf(name, sizeof(name), "%s%s%s", dir, *dir ? "/" : "", e->name);

	if (n < 0 || (size_t)n >= sizeof(name))
		return 0; /* no blob has a longer name */
	return S_ISDIR(e->mode) ? add_below(w, mount, name) : add_file(w, mount, name, e->size);
}

static int add_below(struct dz_warm *w, uint32_t mount, const char *dir)
{
	struct dz_listing list;
	int ret = dz_engine_list(w->engine, mount, dir, strlen(dir), &list);

	if (ret < 0)
		return ret;
	w->directories++;
	for (uint64_t i = 0; i < list.n && ret == 0; i++) {
		if (atomic_load_explicit(w->interrupted, memory_order_relaxed))
			ret = -EINTR;
		else
			ret = add_entry(w, mount, dir, (const void *)(list.data + list.offset[i]));
	}
	dz_engine_unlist(&list);
	return ret;
}

static int add_name(struct dz_warm *w, uint32_t mount, const char *name)
{
	struct dz_attr attr;
	int ret = dz_engine_stat(w->engine, mount, name, strlen(name), &attr);

	if (ret < 0)
		return ret;
	return S_ISDIR(attr.mode) ? add_below(w, mount, name) : add_file(w, mount, name, attr.size);
}

static int status_of(struct dz_warm *w, const struct dz_place *p, int err)
{
	const struct dz_mount *m = &w->engine->cfg.mounts[p->mount];

	if (err == 0)
		return 0;
	if (err == -EINTR)
		return 130;
	dz_fail("warm", "%s/%s: %s", m->local, p->name, dz_strerror(err));
	return err == -ENOENT ? DZ_EXIT_NO : DZ_EXIT_OURS;
}

int dz_warm_below(struct dz_warm *w, const struct dz_place *place)
{
	return status_of(w, place, add_name(w, place->mount, place->name));
}

/* One line of a list. */
static int add_line(struct dz_warm *w, struct dz_config *cfg, const char *line,
		    const struct dz_place *below)
{
	struct dz_place place;
	int ret;

	if (line[0] == '/') {
		ret = dz_place_find("warm", cfg, line, &place);
	} else if (!below) {
		ret = dz_fail("warm", "%s: begins without a /, and no PREFIX says below what",
			      line);
	} else {
		int n = snprintf(place.name, sizeof(place.name), "%s%s%s", below->name,
				 below->name[0] ? "/" : "", line);

		place.mount = below->mount;
		ret = n < 0 || (size_t)n >= sizeof(place.name)
			      ? dz_fail("warm", "%.60s...: too long", line)
			      : 0;
	}
	return ret ? ret : status_of(w, &place, add_name(w, place.mount, place.name));
}

int dz_warm_list(struct dz_warm *w, struct dz_config *cfg, const char *list,
		 const struct dz_place *below)
{
	FILE *from = strcmp(list, "-") == 0 ? stdin : fopen(list, "re");
	char *line = NULL;
	size_t size = 0;
	ssize_t n;
	int ret = 0;

	if (!from)
		return dz_fail("warm", "%s: %m", list);
	while (ret != DZ_EXIT_OURS && ret != 130 && (n = getline(&line, &size, from)) > 0) {
		if (line[n - 1] == '\n')
			line[--n] = '\0';
		if (n == 0)
			continue;
		ret = add_line(w, cfg, line, below);
		/* A name that is not there fails, and does not keep the others. */
		w->failed_files += ret == DZ_EXIT_NO;
	}
	if (ret == 0 && ferror(from))
		ret = dz_fail("warm", "%s: %m", list);
	free(line);
	if (from != stdin)
		fclose(from);
	return ret == DZ_EXIT_NO ? 0 : ret;
}

void dz_warm_free(struct dz_warm *w)
{
	for (size_t i = 0; i < w->n_files; i++)
		free(w->files[i].name);
	free(w->files);
}
