// SPDX-License-Identifier: MIT
#include "tools/price.h"

#include <stdlib.h>

double dz_price_parse(const char *text)
{
	char *end;
	double usd = strtod(text, &end);

	return end == text || *end != '\0' || !(usd >= 0 && usd < 1e6) ? -1 : usd;
}
