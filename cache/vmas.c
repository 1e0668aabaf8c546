// SPDX-License-Identifier: MIT
/* See vmas.h.  The pieces are read from /proc/self/maps before anything is moved. */
#include "cache/vmas.h"

#include "cache/sys.h"
#include "cache/uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#define PIECES 64
#define ALIGN  (2 * DZ_MIB) /* page tables move whole where both ends are aligned alike */

struct piece {
	uintptr_t at, end;
};

struct reader {
	int fd;
	size_t n, pos;
	char buf[4096];
};

static int reader_byte(struct reader *r)
{
	if (r->pos == r->n) {
		ssize_t got = dz_sys_read(r->fd, r->buf, sizeof(r->buf));

		if (got <= 0)
			return -1;
		r->n = (size_t)got;
		r->pos = 0;
	}
	return (unsigned char)r->buf[r->pos++];
}

/* A number in hexadecimal, and the byte behind it. */
static int reader_number(struct reader *r, uintptr_t *out)
{
	int c;

	*out = 0;
	while ((c = reader_byte(r)) >= 0) {
		if (c >= '0' && c <= '9')
			*out = *out << 4 | (uintptr_t)(c - '0');
		else if (c >= 'a' && c <= 'f')
			*out = *out << 4 | (uintptr_t)(c - 'a' + 10);
		else
			break;
	}
	return c;
}

/* The pieces of [at, end), at most PIECES.  Their number or -errno. */
static int vmas_find(uintptr_t at, uintptr_t end, struct piece *out)
{
	struct reader r = { .fd = dz_sys_open("/proc/self/maps", O_RDONLY | O_CLOEXEC, 0) };
	struct piece p;
	int n = 0, c = 0;

	if (r.fd < 0)
		return r.fd;
	while (n >= 0 && reader_number(&r, &p.at) == '-' && reader_number(&r, &p.end) >= 0) {
		while ((c = reader_byte(&r)) >= 0 && c != '\n')
			;
		if (p.at >= end)
			break;
		if (p.end <= at)
			continue;
		if (n == PIECES) {
			n = -E2BIG;
			break;
		}
		out[n].at = p.at > at ? p.at : at;
		out[n++].end = p.end < end ? p.end : end;
	}
	dz_sys_close(r.fd);
	return n;
}

static int piece_move(uintptr_t from, size_t len, uintptr_t to)
{
	long ret = dz_sys_5(SYS_mremap, from, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, to);

	return ret < 0 && ret > -4096 ? (int)ret : 0;
}

/* All of them by `delta`; on failure those before are moved back. */
static int pieces_move(const struct piece *p, int n, uintptr_t delta)
{
	int i, ret = 0;

	for (i = 0; i < n && ret == 0; i++)
		ret = piece_move(p[i].at, p[i].end - p[i].at, p[i].at + delta);
	for (i = ret < 0 ? i - 2 : -1; i >= 0; i--)
		piece_move(p[i].at + delta, p[i].end - p[i].at, p[i].at);
	return ret;
}

int dz_vmas_move(uintptr_t from, uintptr_t end, uintptr_t to)
{
	struct piece p[PIECES];
	int n = vmas_find(from, end, p);

	return n < 0 ? n : pieces_move(p, n, to - from);
}

int dz_vmas_register(int uffd, uintptr_t at, uintptr_t end)
{
	struct piece p[PIECES];
	uintptr_t aside;
	void *room;
	int i, n = vmas_find(at, end, p), ret;

	if (n < 0)
		return n;
	ret = dz_sys_mmap(&room, NULL, end - at + ALIGN, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (ret < 0)
		return ret;
	aside = (uintptr_t)room + ((at - (uintptr_t)room) & (ALIGN - 1));
	ret = pieces_move(p, n, aside - at);
	/* What was moved is in no registration now, wherever it lies. */
	for (i = 0; i < n && ret == 0; i++)
		ret = piece_move(p[i].at + (aside - at), p[i].end - p[i].at, p[i].at);
	for (i = 0; i < n; i++)
		dz_uffd_register(uffd, p[i].at, p[i].end - p[i].at);
	dz_sys_munmap(room, end - at + ALIGN);
	return ret;
}
