// SPDX-License-Identifier: MIT
#include "tools/human.h"

#include <inttypes.h>
#include <stdio.h>

const char *dz_human(uint64_t bytes, char buf[DZ_HUMAN_BYTES])
{
	static const char units[] = "BKMGTP";
	double n = (double)bytes;
	int i = 0;

	while (n >= 1024 && units[i + 1]) {
		n /= 1024;
		i++;
	}
	if (i == 0)
		snprintf(buf, DZ_HUMAN_BYTES, "%" PRIu64 " B", bytes);
	else
		snprintf(buf, DZ_HUMAN_BYTES, "%.*f %ciB", n < 10 ? 1 : 0, n, units[i]);
	return buf;
}

const char *dz_human_time(double seconds, char buf[DZ_HUMAN_BYTES])
{
	uint64_t s = seconds > 0 && seconds < 1e9 ? (uint64_t)(seconds + 0.5) : 0;

	if (s >= 3600)
		snprintf(buf, DZ_HUMAN_BYTES, "%" PRIu64 ":%02u:%02u", s / 3600,
			 (unsigned int)(s / 60 % 60), (unsigned int)(s % 60));
	else
		snprintf(buf, DZ_HUMAN_BYTES, "%u:%02u", (unsigned int)(s / 60),
			 (unsigned int)(s % 60));
	return buf;
}

double dz_percent(double part, double whole)
{
	return whole > 0 ? 100.0 * part / whole : 0;
}
