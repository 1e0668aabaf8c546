/* SPDX-License-Identifier: MIT */
/* The checksum by instruction is the checksum by table, at every length and offset. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cache/hash.h"

static unsigned char *random_bytes(size_t n)
{
	unsigned char *p = malloc(n);
	uint64_t x = 88172645463325252u;
	size_t i;

	assert_non_null(p);
	for (i = 0; i < n; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		p[i] = (unsigned char)x;
	}
	return p;
}

/* RFC 3720, B.4. */
static void the_published_checksums_come_out(void **state)
{
	unsigned char data[32];
	int i;

	(void)state;
	assert_int_equal(dz_crc32c(0, "123456789", 9), 0xE3069283u);
	memset(data, 0, 32);
	assert_int_equal(dz_crc32c(0, data, 32), 0x8A9136AAu);
	memset(data, 0xff, 32);
	assert_int_equal(dz_crc32c(0, data, 32), 0x62A8AB43u);
	for (i = 0; i < 32; i++)
		data[i] = (unsigned char)i;
	assert_int_equal(dz_crc32c(0, data, 32), 0x46DD794Eu);
	assert_int_equal(dz_crc32c(0, data, 0), 0);
}

static void both_ways_agree_at_every_length(void **state)
{
	static const size_t around[] = { 0, 3072, 6144, 49152, 52224, 98304, 1 << 20 };
	unsigned char *data = random_bytes((1 << 20) + 64);
	size_t i, n;

	(void)state;
	for (i = 0; i < DZ_ARRAY_LEN(around); i++)
		for (n = around[i]; n < around[i] + 40; n++)
			assert_int_equal(dz_crc32c(7, data + n % 8, n),
					 dz_crc32c_portable(7, data + n % 8, n));
	free(data);
}

static void a_whole_is_its_pieces_in_turn(void **state)
{
	enum { N = 200000 };
	unsigned char *data = random_bytes(N);
	uint32_t whole = dz_crc32c(0, data, N);
	uint32_t crc = 0;
	size_t at = 0;
	size_t step = 1;

	(void)state;
	for (; at + step < N; at += step, step = step * 2 + 1)
		crc = dz_crc32c(crc, data + at, step);
	assert_int_equal(dz_crc32c(crc, data + at, N - at), whole);
	free(data);
}

static void one_flipped_bit_is_seen(void **state)
{
	enum { N = 60000 };
	unsigned char *data = random_bytes(N);
	uint32_t crc = dz_crc32c(0, data, N);
	size_t i;

	(void)state;
	for (i = 0; i < N; i += 977) {
		data[i] ^= 16;
		assert_int_not_equal(dz_crc32c(0, data, N), crc);
		data[i] ^= 16;
	}
	free(data);
}

static void hashes_depend_on_data_length_and_seed(void **state)
{
	(void)state;
	assert_true(dz_hash64("a", 1, 0) == dz_hash64("a", 1, 0));
	assert_true(dz_hash64("a", 1, 0) != dz_hash64("b", 1, 0));
	assert_true(dz_hash64("a", 1, 0) != dz_hash64("a", 2, 0));
	assert_true(dz_hash64("a", 1, 0) != dz_hash64("a", 1, 1));
	assert_true(dz_key_eq(dz_hash128("a", 1, 5), dz_hash128("a", 1, 5)));
	assert_false(dz_key_eq(dz_hash128("a", 1, 5), dz_hash128("a", 1, 6)));
	/* The empty input of XXH3: keys on disk must mean the same in every build. */
	assert_true(dz_hash64("", 0, 0) == 0x2D06800538D394C2u);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_published_checksums_come_out),
		cmocka_unit_test(both_ways_agree_at_every_length),
		cmocka_unit_test(a_whole_is_its_pieces_in_turn),
		cmocka_unit_test(one_flipped_bit_is_seen),
		cmocka_unit_test(hashes_depend_on_data_length_and_seed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
