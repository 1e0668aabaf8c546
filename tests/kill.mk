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

-include $(addsuffix .d,$(KILL_PROGS))
