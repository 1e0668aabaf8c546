/* SPDX-License-Identifier: MIT */
/*
 * Keys by XXH3 and checksums by CRC-32C; the same answer on every machine, with
 * or without the CPU's own instruction.  Nothing here can fail.
 *
 * The CRC instruction takes 3 cycles but can start one each cycle, so long
 * inputs run as three lanes side by side.  A lane that stands n bytes before
 * the end is moved there by multiplying it, modulo the polynomial, by x^(8n).
 */
#include "cache/hash.h"

#include <string.h>

#if defined(__aarch64__)
#include <arm_acle.h>
#include <sys/auxv.h>
#endif

#define XXH_INLINE_ALL
#include <xxhash.h>

/* CRC-32C, reflected: the coefficient of x^0 is the highest bit. */
#define CRC_POLY 0x82F63B78u

uint64_t dz_hash64(const void *data, size_t len, uint64_t seed)
{
	return XXH3_64bits_withSeed(data, len, seed);
}

struct dz_key dz_hash128(const void *data, size_t len, uint64_t seed)
{
	XXH128_hash_t h = XXH3_128bits_withSeed(data, len, seed);

	return (struct dz_key){ .lo = h.low64, .hi = h.high64 };
}

static uint32_t crc_by_table(uint32_t crc, const uint8_t *p, size_t len)
{
	static const uint32_t nibble[16] = {
		0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3,
		0x61c69362, 0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
		0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
	};

	for (; len > 0; p++, len--) {
		crc ^= *p;
		crc = crc >> 4 ^ nibble[crc & 15];
		crc = crc >> 4 ^ nibble[crc & 15];
	}
	return crc;
}

#if defined(__x86_64__)

#define CRC_TARGET	    __attribute__((target("sse4.2")))
#define crc_word(crc, word) ((uint32_t)__builtin_ia32_crc32di(crc, word))
#define crc_byte(crc, byte) __builtin_ia32_crc32qi(crc, byte)

static bool crc_is_in_hardware(void)
{
	return __builtin_cpu_supports("sse4.2");
}

#elif defined(__aarch64__)

#define CRC_TARGET	    __attribute__((target("+crc")))
#define crc_word(crc, word) __crc32cd(crc, word)
#define crc_byte(crc, byte) __crc32cb(crc, byte)

static bool crc_is_in_hardware(void)
{
	return getauxval(AT_HWCAP) & HWCAP_CRC32;
}

#endif

static inline uint64_t load_word(const uint8_t *p)
{
	uint64_t word;

	memcpy(&word, p, sizeof(word));
	return word;
}

/* a * b modulo the polynomial. */
static uint32_t crc_multiply(uint32_t a, uint32_t b)
{
	uint32_t product = 0;
	uint32_t bit;

	for (bit = 1u << 31; bit; bit >>= 1) {
		product ^= a & bit ? b : 0;
		b = b >> 1 ^ (b & 1 ? CRC_POLY : 0);
	}
	return product;
}

/* One step: 3 * lane bytes.  x1 and x2 are x^(8 lane) and x^(16 lane). */
CRC_TARGET static uint32_t crc_lanes(uint32_t crc, const uint8_t *p, size_t lane, uint32_t x1,
				     uint32_t x2)
{
	uint32_t a = crc;
	uint32_t b = 0;
	uint32_t c = 0;
	size_t i;

	for (i = 0; i < lane; i += 8) {
		a = crc_word(a, load_word(p + i));
		b = crc_word(b, load_word(p + lane + i));
		c = crc_word(c, load_word(p + 2 * lane + i));
	}
	return crc_multiply(x2, a) ^ crc_multiply(x1, b) ^ c;
}

CRC_TARGET static uint32_t crc_by_instruction(uint32_t crc, const uint8_t *p, size_t len)
{
	for (; len >= 3 * 16384; p += 3 * 16384, len -= 3 * 16384)
		crc = crc_lanes(crc, p, 16384, 0xbf455269u, 0xe2ea32dcu);
	for (; len >= 3 * 1024; p += 3 * 1024, len -= 3 * 1024)
		crc = crc_lanes(crc, p, 1024, 0xe4172b16u, 0x0d65762au);
	for (; len >= 8; p += 8, len -= 8)
		crc = crc_word(crc, load_word(p));
	for (; len > 0; p++, len--)
		crc = crc_byte(crc, *p);
	return crc;
}

uint32_t dz_crc32c(uint32_t crc, const void *data, size_t len)
{
	if (crc_is_in_hardware())
		return ~crc_by_instruction(~crc, data, len);
	return ~crc_by_table(~crc, data, len);
}

uint32_t dz_crc32c_portable(uint32_t crc, const void *data, size_t len)
{
	return ~crc_by_table(~crc, data, len);
}
