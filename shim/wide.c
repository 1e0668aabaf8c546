/* SPDX-License-Identifier: MIT */
/*
 * Wide characters: a stream over a mount is a cookie stream, and libc crashes when
 * one is read wide.  At the first such call it becomes an ordinary stream.
 */
#define DZ_IN_wide 1
#include <stdarg.h>
#include <stdio.h>
#include <wchar.h>

#include "shim/hooks.h"
#include "shim/real.h"
#include "shim/stdio.h"

/* False when that is not possible: libc fails then too, for a stream of bytes. */
static bool is_wide(FILE *fp)
{
	return !dz_stdio_is_ours(fp) || dz_stdio_widen(fp) == 0;
}

DZ_DOOR(wint_t, fgetwc, FILE *fp)
{
	wint_t (*libc_fgetwc)(FILE *) = DZ_REAL(fgetwc);

	return is_wide(fp) ? libc_fgetwc(fp) : WEOF;
}

DZ_DOOR(wint_t, getwchar, void)
{
	return door_fgetwc(stdin);
}

DZ_DOOR(wint_t, ungetwc, wint_t c, FILE *fp)
{
	wint_t (*libc_ungetwc)(wint_t, FILE *) = DZ_REAL(ungetwc);

	return is_wide(fp) ? libc_ungetwc(c, fp) : WEOF;
}

DZ_DOOR(wchar_t *, fgetws, wchar_t *to, int n, FILE *fp)
{
	wchar_t *(*libc_fgetws)(wchar_t *, int, FILE *) = DZ_REAL(fgetws);

	return is_wide(fp) ? libc_fgetws(to, n, fp) : NULL;
}

DZ_DOOR(wchar_t *, __fgetws_chk, wchar_t *to, size_t room, int n, FILE *fp)
{
	wchar_t *(*libc_fgetws)(wchar_t *, size_t, int, FILE *) = DZ_REAL(__fgetws_chk);

	return is_wide(fp) ? libc_fgetws(to, room, n, fp) : NULL;
}

DZ_DOOR(int, fwide, FILE *fp, int mode)
{
	int (*libc_fwide)(FILE *, int) = DZ_REAL(fwide);

	if (mode > 0)
		is_wide(fp);
	return libc_fwide(fp, mode);
}

typedef int vfwscanf_fn(FILE *, const wchar_t *, va_list);

DZ_DOOR(int, vfwscanf, FILE *fp, const wchar_t *format, va_list args)
{
	vfwscanf_fn *libc_vfwscanf = DZ_REAL(vfwscanf);

	return is_wide(fp) ? libc_vfwscanf(fp, format, args) : EOF;
}

DZ_DOOR(int, __isoc99_vfwscanf, FILE *fp, const wchar_t *format, va_list args)
{
	vfwscanf_fn *libc_vfwscanf = DZ_REAL(__isoc99_vfwscanf);

	return is_wide(fp) ? libc_vfwscanf(fp, format, args) : EOF;
}

/* Since 2.38 what C23 calls scanf; with an older libc nobody can call it but by dlsym. */
DZ_DOOR(int, __isoc23_vfwscanf, FILE *fp, const wchar_t *format, va_list args)
{
	vfwscanf_fn *libc_vfwscanf = DZ_REAL(__isoc23_vfwscanf);

	if (!libc_vfwscanf)
		libc_vfwscanf = DZ_REAL(__isoc99_vfwscanf);
	return is_wide(fp) ? libc_vfwscanf(fp, format, args) : EOF;
}

DZ_DOOR(int, fwscanf, FILE *fp, const wchar_t *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = door_vfwscanf(fp, format, args);
	va_end(args);
	return n;
}

DZ_DOOR(int, __isoc99_fwscanf, FILE *fp, const wchar_t *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = door___isoc99_vfwscanf(fp, format, args);
	va_end(args);
	return n;
}

DZ_DOOR(int, __isoc23_fwscanf, FILE *fp, const wchar_t *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = door___isoc23_vfwscanf(fp, format, args);
	va_end(args);
	return n;
}

/* --- of standard input, which may be a stream of ours --- */

DZ_DOOR(int, vwscanf, const wchar_t *format, va_list args)
{
	return door_vfwscanf(stdin, format, args);
}

DZ_DOOR(int, __isoc99_vwscanf, const wchar_t *format, va_list args)
{
	return door___isoc99_vfwscanf(stdin, format, args);
}

DZ_DOOR(int, __isoc23_vwscanf, const wchar_t *format, va_list args)
{
	return door___isoc23_vfwscanf(stdin, format, args);
}

DZ_DOOR(int, wscanf, const wchar_t *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = door_vfwscanf(stdin, format, args);
	va_end(args);
	return n;
}

DZ_DOOR(int, __isoc99_wscanf, const wchar_t *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = door___isoc99_vfwscanf(stdin, format, args);
	va_end(args);
	return n;
}

DZ_DOOR(int, __isoc23_wscanf, const wchar_t *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = door___isoc23_vfwscanf(stdin, format, args);
	va_end(args);
	return n;
}

#include "shim/aliases.h"
