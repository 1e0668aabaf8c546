/* SPDX-License-Identifier: MIT */
/*
 * HTTP dates to Unix time and back.  The weekday is written but not checked on
 * reading; anything else out of place makes the date -1.
 */
#include "cache/blob/date.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static const char months[12][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun",
				    "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
static const char weekdays[7][4] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };

/* `digits` characters as a number, or -1. */
static int number_at(const char *text, int digits)
{
	int n = 0;
	int i;

	for (i = 0; i < digits; i++) {
		if (text[i] < '0' || text[i] > '9')
			return -1;
		n = n * 10 + (text[i] - '0');
	}
	return n;
}

static int month_at(const char *text)
{
	int i;

	for (i = 0; i < 12; i++)
		if (memcmp(text, months[i], 3) == 0)
			return i;
	return -1;
}

int64_t dz_date_parse(const char *text, size_t len)
{
	struct tm tm = { 0 };

	/* "Sun, 06 Nov 1994 08:49:37 GMT" */
	if (len != 29 || text[3] != ',' || text[19] != ':' || text[22] != ':' ||
	    memcmp(text + 25, " GMT", 4) != 0)
		return -1;
	tm.tm_mday = number_at(text + 5, 2);
	tm.tm_mon = month_at(text + 8);
	tm.tm_year = number_at(text + 12, 4) - 1900;
	tm.tm_hour = number_at(text + 17, 2);
	tm.tm_min = number_at(text + 20, 2);
	tm.tm_sec = number_at(text + 23, 2);
	if (tm.tm_mday < 1 || tm.tm_mon < 0 || tm.tm_year < 70 || tm.tm_hour < 0 || tm.tm_min < 0 ||
	    tm.tm_sec < 0)
		return -1;
	return timegm(&tm);
}

void dz_date_format(char out[DZ_DATE_BYTES], int64_t unix_s)
{
	time_t t = (time_t)unix_s;
	struct tm tm;

	gmtime_r(&t, &tm);
	snprintf(out, DZ_DATE_BYTES, "%s, %02u %s %04u %02u:%02u:%02u GMT",
		 weekdays[tm.tm_wday % 7], (unsigned int)tm.tm_mday % 100u, months[tm.tm_mon % 12],
		 (unsigned int)(tm.tm_year + 1900) % 10000u, (unsigned int)tm.tm_hour % 100u,
		 (unsigned int)tm.tm_min % 100u, (unsigned int)tm.tm_sec % 100u);
}
