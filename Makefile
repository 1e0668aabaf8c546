# SPDX-License-Identifier: MIT
# DeltaZero.  `make help` lists what there is.
ifeq ($(origin CC),default)
CC = gcc
endif
ifeq ($(origin CXX),default)
CXX = g++
endif
B ?= build
V ?= 0
PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
BINDIR ?= $(PREFIX)/bin
INCLUDEDIR ?= $(PREFIX)/include
MANDIR ?= $(PREFIX)/share/man
BASHCOMPDIR ?= $(PREFIX)/share/bash-completion/completions

Q = $(if $(filter 1,$(V)),,@)
say = $(if $(filter 1,$(V)),,@printf '  %-5s %s\n' $(1) $(2);)
MAKEFLAGS += --no-print-directory

WARN = -Wall -Wextra -Wshadow -Wconversion -Werror $(if $(SAN),-Wno-error -Werror=implicit-function-declaration)
CFLAGS ?= -O2 -g
# Functions begin with a line of the processor's cache: stat of a managed file took 98 or
# 127 ns after changes to other functions, by where they had moved it.
ALIGN = -falign-functions=64
DZ_CFLAGS = -std=gnu11 -I. -D_GNU_SOURCE -fPIC -fvisibility=hidden -pthread $(ALIGN) $(WARN) $(CFLAGS) $(SAN)
DZ_LDFLAGS = -Wl,-z,defs,-z,now,-z,relro,--exclude-libs,ALL

# The engine and the shim need libc only; the fetching side needs curl, OpenSSL and expat.
FETCH_SRC = $(wildcard cache/fetch*.c cache/agent.c cache/pager*.c cache/blob/*.c)
CORE_SRC = $(filter-out $(FETCH_SRC),$(wildcard cache/*.c))
SHIM_SRC = $(wildcard shim/*.c) $(wildcard shim/*.S)
TOOL_SRC = $(wildcard tools/*.c)
# Everything in tests/unit that is not a test is linked into each of them.
UNIT_SRC = $(wildcard tests/unit/test_*.c)
UNIT_LIB_SRC = $(filter-out $(UNIT_SRC),$(wildcard tests/unit/*.c))
# Programs that tests run: they know nothing of us and link nothing of ours.
PROG_C = $(wildcard $(foreach d,shim cli apps apps-more azurite crash bench,tests/$(d)/*.c))
PROG_CXX = $(wildcard $(foreach d,shim cli apps azurite crash,tests/$(d)/*.cpp))
# These run the engine's own code, so they link the parts.
SIM_SRC = $(wildcard tests/bench/*_sim.c) tests/bench/scale.c

obj = $(patsubst %.c,$(B)/%.o,$(patsubst %.S,$(B)/%.o,$(1)))
CORE_OBJ = $(call obj,$(CORE_SRC))
FETCH_OBJ = $(call obj,$(FETCH_SRC))
SHIM_OBJ = $(call obj,$(SHIM_SRC))
TOOL_OBJ = $(call obj,$(TOOL_SRC))
UNIT_LIB_OBJ = $(call obj,$(UNIT_LIB_SRC))
UNIT = $(patsubst %.c,$(B)/%,$(UNIT_SRC))
SIM = $(patsubst %.c,$(B)/%,$(SIM_SRC))
PROGS = $(patsubst %.c,$(B)/%,$(filter-out $(SIM_SRC),$(PROG_C))) $(patsubst %.cpp,$(B)/%,$(PROG_CXX))

URING = -l:liburing.a
FETCH_LIBS = -lcurl -lssl -lcrypto -lexpat -lcjson
# The libraries that we were built with, whatever LD_LIBRARY_PATH says: conda and modules
# name others there, and only an old-style RPATH comes first.
FETCH_DIR = $(patsubst %/,%,$(dir $(abspath $(filter /%,$(shell $(CC) -print-file-name=libcurl.so)))))
FETCH_RPATH = $(FETCH_DIR:%=-Wl,--disable-new-dtags,-rpath,%)
VERSION = $(shell sed -n 's/^.define DELTAZERO_VERSION "\(.*\)"/\1/p' include/deltazero.h)

.PHONY: all
all: $(B)/libdeltazero.so $(B)/libdeltazero-fetch.so $(B)/dz $(B)/deltazero.pc ## the library and dz, in build/

$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(DZ_CFLAGS) -MMD -MP -c -o $@ $<

$(B)/%.o: %.S
	@mkdir -p $(@D)
	$(call say,AS,$<)$(CC) $(DZ_CFLAGS) -MMD -MP -c -o $@ $<

# One door calls another as it is here: tcmalloc, before us, has an mmap that calls syscall.
$(B)/libdeltazero.so: $(SHIM_OBJ) $(CORE_OBJ) $(B)/exports.map
	$(call say,LD,$@)$(CC) -shared $(SAN) -o $@ $(SHIM_OBJ) $(CORE_OBJ) $(URING) \
		$(DZ_LDFLAGS) -Wl,-Bsymbolic-functions,--version-script=$(B)/exports.map

$(B)/exports.map: shim/hooks.def shim/exports.map.in
	@mkdir -p $(@D)
	$(call say,GEN,$@)$(CC) -E -P -x c -I. shim/exports.map.in > $@.tmp && mv $@.tmp $@

$(B)/libdeltazero-fetch.so: $(FETCH_OBJ) $(CORE_OBJ)
	$(call say,LD,$@)$(CC) -shared $(SAN) -o $@ $^ $(URING) $(FETCH_LIBS) \
		$(FETCH_RPATH) $(DZ_LDFLAGS) -Wl,-Bsymbolic

$(B)/dz: $(TOOL_OBJ) $(FETCH_OBJ) $(CORE_OBJ)
	$(call say,LD,$@)$(CC) $(SAN) -pthread -o $@ $^ $(URING) $(FETCH_LIBS) \
		$(FETCH_RPATH)

# Written anew whenever a path changes; see the rule for FORCE.
$(B)/deltazero.pc: tools/deltazero.pc.in include/deltazero.h FORCE
	@mkdir -p $(@D)
	@sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' \
		-e 's|@INCLUDEDIR@|$(INCLUDEDIR)|' -e 's|@VERSION@|$(VERSION)|' $< > $@.tmp
	@cmp -s $@.tmp $@ && rm $@.tmp || mv $@.tmp $@
.PHONY: FORCE
FORCE:

# ---- tests ----

# The parts in one archive: a test program links those that it names.
$(B)/tests/libparts.a: $(CORE_OBJ) $(FETCH_OBJ) $(filter-out $(B)/tools/dz.o,$(TOOL_OBJ))
	@mkdir -p $(@D)
	$(call say,AR,$@)rm -f $@ && ar rcs $@ $^

$(UNIT): %: %.o $(UNIT_LIB_OBJ) $(B)/tests/libparts.a
	$(call say,LD,$@)$(CC) $(SAN) -pthread -o $@ $^ $(URING) $(FETCH_LIBS) -lcmocka

$(SIM): %: %.o $(B)/tests/libparts.a
	$(call say,LD,$@)$(CC) $(SAN) -pthread -o $@ $^ $(URING) $(FETCH_LIBS) -lm

# They pass wrong arguments on purpose.
PROG_WARN = -Wall -Wextra -Wno-nonnull -Wno-stringop-overflow -Wno-stringop-overread -Wno-clobbered
$(B)/tests/%: tests/%.c
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) -std=gnu11 -O2 -g -D_GNU_SOURCE $(PROG_WARN) -pthread -MMD -MP -o $@ $< -ldl $(PROG_LIBS)

$(B)/tests/bench/cold_client: PROG_LIBS = -lcurl

$(B)/tests/%: tests/%.cpp
	@mkdir -p $(@D)
	$(call say,CXX,$<)$(CXX) -O2 -g -Wall -Wextra -pthread -MMD -MP -o $@ $<

.PHONY: tests
tests: all $(UNIT) $(PROGS) $(SIM) hits ## the programs that the tests run

.PHONY: check check-apps
check: ## every test; ends with the line "N passed, N failed, N skipped"
	@tests/deps.sh build check
	@$(MAKE) tests
	@DZ_BUILD=$(abspath $(B)) tests/run.sh unit lint shim cli apps azurite kill model

check-apps: ## more programs against a local copy of the same tree: those that take longer
	@tests/deps.sh build check apps
	@$(MAKE) tests
	@DZ_BUILD=$(abspath $(B)) tests/run.sh apps-more

check-%: ## one group of tests: unit, lint, shim, cli, apps, azurite, kill
	@$(MAKE) tests
	@DZ_BUILD=$(abspath $(B)) tests/run.sh $*

.PHONY: lint
lint: ## layers, exports, banned calls, sizes, headers, shellcheck, format
	@$(MAKE) all
	@DZ_BUILD=$(abspath $(B)) tests/run.sh lint

.PHONY: symbols
symbols: ## each libc name that reaches a file: hooked, alias, or why not
	@sh tests/lint/symbols.sh

FORMATTED = $(shell git ls-files '*.c' '*.h')
CLANG_FORMAT = $(shell command -v clang-format-14 || command -v clang-format)
.PHONY: fmt fmt-check
fmt: ## clang-format, in place
	$(Q)$(CLANG_FORMAT) -i $(FORMATTED)

fmt-check: ## what clang-format would change
	$(Q)$(CLANG_FORMAT) --dry-run -Werror $(FORMATTED)

# The tests under a sanitizer, in a build folder of its own.  Left out: what clears
# the environment, where ASan's options are, or execs out of a vfork child, whose frames
# stay marked on its parent's stack; and for TSan, which cannot follow memory
# that processes share, what forks and kills or counts pages.
.PHONY: asan ubsan tsan
asan: ## the unit and shim tests under AddressSanitizer
ubsan: ## the same under UndefinedBehaviorSanitizer
tsan: ## the unit tests that use threads under ThreadSanitizer
asan: SANITIZE = -fsanitize=address
asan: LEFT_OUT = shim/(files|harmless|hooks|mounts)
ubsan: SANITIZE = -fsanitize=undefined -fno-sanitize-recover=all
ubsan: LEFT_OUT = ^$$
tsan: SANITIZE = -fsanitize=thread
tsan: LEFT_OUT = test_(kill|space_kill|bounce|disk|member)
asan ubsan: SANITIZED_TESTS = unit shim
tsan: SANITIZED_TESTS = unit
asan ubsan tsan:
	@$(MAKE) B=build/$@ CFLAGS='-O1 -g -fno-omit-frame-pointer' SAN='$(SANITIZE)' tests
	@DZ_BUILD=$(abspath build/$@) DZ_SAN=$@ NOT_TESTS='$(LEFT_OUT)' tests/run.sh $(SANITIZED_TESTS)

include tests/hits.mk
.PHONY: check-san
check-san: ## all three, one after the other (6 minutes on two quiet cores)
	@tests/deps.sh build check
	@failed=0; for s in asan ubsan tsan; do $(MAKE) $$s || failed=1; done; exit $$failed

include tests/kill.mk

# ---- trying it ----

.PHONY: demo
demo: ## a PyTorch job that reads its dataset from Blob; URL=https://... for your account
	@tests/deps.sh build demo
	@$(MAKE) all
	@DZ_BUILD=$(abspath $(B)) /usr/bin/python3 tests/demo/demo.py $(URL)

.PHONY: bench bench-save bench-eviction bench-scale
bench: ## the budget table: us, ext4, fio, libcurl, rclone mount; also in build/bench.txt
	@tests/deps.sh build bench
	@$(MAKE) tests
	@DZ_BUILD=$(abspath $(B)) tests/bench/bench.py

bench-save: bench ## the same, kept in tests/bench/RESULTS.txt
	cp $(B)/bench.txt tests/bench/RESULTS.txt

bench-eviction: $(SIM) ## hit shares of the eviction policy beside LRU, S3-FIFO, the optimum; RECORDING=FILE: of a job
	@$(B)/tests/bench/evict_sim $(RECORDING)

bench-scale: $(SIM) ## 10 million names, a million blobs: bytes each; seconds to replay a million
	@mkdir -p $(B)/scale && cd $(B)/scale && for mode in names replay blobs writes; do \
		$(abspath $(B))/tests/bench/scale $$mode || exit 1; done

.PHONY: deps
deps: ## install what building, testing and the demo need (apt); says what it does first
	@tests/deps.sh build check demo bench

# ---- installing ----

MAN = $(wildcard tools/man/*.1 tools/man/*.7)
.PHONY: install uninstall
install: all ## into PREFIX=/usr/local; DESTDIR, LIBDIR, MANDIR, BASHCOMPDIR
	install -d $(DESTDIR)$(BINDIR) $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(INCLUDEDIR) \
		$(DESTDIR)$(BASHCOMPDIR)
	install -m 755 $(B)/dz $(DESTDIR)$(BINDIR)/dz
	install -m 755 $(B)/libdeltazero.so $(B)/libdeltazero-fetch.so $(DESTDIR)$(LIBDIR)/
	install -m 644 $(B)/deltazero.pc $(DESTDIR)$(LIBDIR)/pkgconfig/deltazero.pc
	install -m 644 include/deltazero.h $(DESTDIR)$(INCLUDEDIR)/deltazero.h
	install -m 644 tools/completion/dz.bash $(DESTDIR)$(BASHCOMPDIR)/dz
	for page in $(MAN); do \
		install -D -m 644 $$page $(DESTDIR)$(MANDIR)/man$${page##*.}/$${page##*/} || exit 1; \
	done

uninstall: ## removes what install wrote, and nothing else
	rm -f $(DESTDIR)$(BINDIR)/dz $(DESTDIR)$(LIBDIR)/libdeltazero.so \
		$(DESTDIR)$(LIBDIR)/libdeltazero-fetch.so \
		$(DESTDIR)$(LIBDIR)/pkgconfig/deltazero.pc \
		$(DESTDIR)$(INCLUDEDIR)/deltazero.h $(DESTDIR)$(BASHCOMPDIR)/dz
	for page in $(MAN); do \
		rm -f $(DESTDIR)$(MANDIR)/man$${page##*.}/$${page##*/} || exit 1; \
	done

.PHONY: clean
clean: ## remove build/
	$(Q)rm -rf build

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z%-]+:.*## /{ printf "  %-15s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST)) tests/kill.mk
	@echo
	@echo '  V=1 shows the commands; B=DIR builds elsewhere; CC=clang, CFLAGS, SAN as usual.'

-include $(patsubst %.o,%.d,$(CORE_OBJ) $(FETCH_OBJ) $(SHIM_OBJ) $(TOOL_OBJ) $(UNIT_LIB_OBJ))
-include $(addsuffix .d,$(UNIT) $(SIM) $(PROGS))
