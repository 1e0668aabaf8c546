# SPDX-License-Identifier: MIT
# DeltaZero.  `make help` lists what there is.
CC ?= gcc
B ?= build
V ?= 0
Q = $(if $(filter 1,$(V)),,@)
say = $(if $(filter 1,$(V)),,@printf '  %-5s %s\n' $(1) $(2);)

WARN = -Wall -Wextra -Wshadow -Wconversion -Werror
CFLAGS ?= -O2 -g
DZ_CFLAGS = -std=gnu11 -I. -D_GNU_SOURCE -fPIC -fvisibility=hidden -pthread $(WARN) $(SAN) $(CFLAGS)

# The engine and the shim need libc only; the fetching side needs curl, OpenSSL and expat.
FETCH_SRC = $(wildcard cache/fetch*.c cache/agent*.c cache/blob/*.c)
CORE_SRC = $(filter-out $(FETCH_SRC),$(wildcard cache/*.c))
SHIM_SRC = $(wildcard shim/*.c) $(wildcard shim/*.S)
TOOL_SRC = $(wildcard tools/*.c)

obj = $(patsubst %.c,$(B)/%.o,$(patsubst %.S,$(B)/%.o,$(1)))
CORE_OBJ = $(call obj,$(CORE_SRC))
FETCH_OBJ = $(call obj,$(FETCH_SRC))
SHIM_OBJ = $(call obj,$(SHIM_SRC))
TOOL_OBJ = $(call obj,$(TOOL_SRC))

URING = -l:liburing.a
FETCH_LIBS = -lcurl -lssl -lcrypto -lexpat -lcjson

.PHONY: all
all: $(B)/libdeltazero.so $(B)/libdeltazero-fetch.so $(B)/dz

$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(DZ_CFLAGS) -MMD -MP -c -o $@ $<

$(B)/%.o: %.S
	@mkdir -p $(@D)
	$(call say,AS,$<)$(CC) $(DZ_CFLAGS) -MMD -MP -c -o $@ $<

$(B)/libdeltazero.so: $(SHIM_OBJ) $(CORE_OBJ) $(B)/exports.map
	$(call say,LD,$@)$(CC) -shared $(SAN) -o $@ $(SHIM_OBJ) $(CORE_OBJ) $(URING) \
		-Wl,-z,defs,-z,now,-z,relro,--exclude-libs,ALL \
		-Wl,--version-script=$(B)/exports.map

$(B)/exports.map: shim/hooks.def shim/exports.map.in
	@mkdir -p $(@D)
	$(Q)$(CC) -E -P -x c -I. shim/exports.map.in > $@

$(B)/libdeltazero-fetch.so: $(FETCH_OBJ) $(CORE_OBJ)
	$(call say,LD,$@)$(CC) -shared $(SAN) -o $@ $^ $(URING) $(FETCH_LIBS) \
		-Wl,-z,defs,-z,now,-z,relro,--exclude-libs,ALL,-Bsymbolic

$(B)/dz: $(TOOL_OBJ) $(FETCH_OBJ) $(CORE_OBJ)
	$(call say,LD,$@)$(CC) $(SAN) -pthread -o $@ $^ $(URING) $(FETCH_LIBS)

.PHONY: clean
clean:
	$(Q)rm -rf build

-include $(shell find $(B) -name '*.d' 2>/dev/null)
