# SPDX-License-Identifier: MIT
# The library that counts which doors were called, for tests/shim/hooks.py.
# Nothing is compiled anew: the release build's own objects, their doors renamed,
# behind the stubs of tests/hits.  It lies in a folder of its own with all that a
# test looks for in $DZ_BUILD.
H = $(B)/hits
HITS_OBJ = $(B)/tests/hits/doors.o $(B)/tests/hits/hits.o
$(HITS_OBJ): DZ_CFLAGS += -MMD -MP

$(H)/doors.o: $(SHIM_OBJ) $(CORE_OBJ) shim/hooks.def
	@mkdir -p $(@D)
	@sed -n 's/^\(HOOK\|ALIAS\)(\([A-Za-z0-9_]*\),.*/\2 counted_\2/p' shim/hooks.def > $(H)/names
	$(call say,LD,$@)$(LD) -r -o $@.tmp $(SHIM_OBJ) $(CORE_OBJ) && \
		objcopy --redefine-syms=$(H)/names $@.tmp && mv $@.tmp $@

$(H)/libdeltazero.so: $(H)/doors.o $(HITS_OBJ) $(B)/exports.map
	$(call say,LD,$@)$(CC) -shared $(SAN) -o $@ $(H)/doors.o $(HITS_OBJ) $(URING) \
		$(DZ_LDFLAGS) -Wl,-Bsymbolic-functions,--version-script=$(B)/exports.map

# dz looks beside itself for its libraries, so these are no symbolic links.
$(H)/dz $(H)/libdeltazero-fetch.so: $(H)/%: $(B)/%
	@mkdir -p $(@D)
	@ln -f $< $@

.PHONY: hits
hits: $(H)/libdeltazero.so $(H)/libdeltazero-fetch.so $(H)/dz
	@ln -sfn ../tests $(H)/tests

-include $(HITS_OBJ:.o=.d)
