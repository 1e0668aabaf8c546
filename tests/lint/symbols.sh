#!/bin/sh
# SPDX-License-Identifier: MIT
# What happens to each name that reaches a file: hooked, alias, or why not.
cd "${DZ_TOP:-.}" || exit 1
sed -n \
	-e 's/^HOOK(\([^,]*\), \([^)]*\))$/\1\thooked\tshim\/\2.c/p' \
	-e 's/^ALIAS(\([^,]*\), \([^,]*\), .*/\1\talias\t\2/p' \
	-e 's/^SKIP(\([^,]*\), "\(.*\)")$/\1\tskipped\t\2/p' shim/hooks.def
