# SPDX-License-Identifier: MIT
# Programs of the kill tests, and the long runs: soak and fuzz.
KILL_PROGS = $(B)/tests/kill/reader $(B)/tests/kill/check_segment

$(B)/tests/kill/check_segment: tests/kill/check_segment.c tests/kill/invariants.h $(B)/tests/libparts.a
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(DZ_CFLAGS) -MMD -MP -o $@ $< $(B)/tests/libparts.a $(URING) $(FETCH_LIBS)

tests: $(KILL_PROGS)

.PHONY: soak fuzz
soak: ## 10,000 random kills, and one at every instruction: KILLS, KILL_SECONDS, KILL_SEED
	@$(MAKE) tests
	@KILLS=$${KILLS:-10000} KILL_SECONDS=$${KILL_SECONDS:-7200} KILL_STRIDE=$${KILL_STRIDE:-1} DZ_TIMEOUT=36000 \
		TESTS=kill DZ_BUILD=$(abspath $(B)) tests/run.sh kill unit
	@MODEL_FULL=1 DZ_TIMEOUT=36000 DZ_BUILD=$(abspath $(B)) tests/run.sh model

# libFuzzer wants clang, and objects of its own.
FUZZERS = $(patsubst tests/fuzz/%.c,build/fuzz/tests/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_SAN = -fsanitize=address,undefined -fno-sanitize-recover=undefined
fuzz: ## libFuzzer on what comes from outside, FUZZ_SECONDS=60 each
	@tests/deps.sh build check
	@$(MAKE) B=build/fuzz CC=clang CFLAGS='-O1 -g' SAN='$(FUZZ_SAN) -fsanitize=fuzzer-no-link' $(FUZZERS)
	@DZ_BUILD=$(abspath build/fuzz) DZ_TIMEOUT=$$((120 + 20 * $${FUZZ_SECONDS:-60})) tests/run.sh fuzz

build/fuzz/tests/fuzz/%: tests/fuzz/%.c build/fuzz/tests/libparts.a
	@mkdir -p $(@D)
	$(call say,CC,$<)clang -std=gnu11 -I. -D_GNU_SOURCE -O1 -g -pthread $(FUZZ_SAN) -fsanitize=fuzzer \
		-o $@ $< build/fuzz/tests/libparts.a $(URING) $(FETCH_LIBS)

-include $(addsuffix .d,$(KILL_PROGS))
