#!/bin/sh
# SPDX-License-Identifier: MIT
# The client's protocol tests (tests/unit/test_blob.c) against Azurite, which
# judges signing, SAS, ranges, conditions and listings.
# timeout: 300
set -eu

top=${DZ_TOP:-$(cd "$(dirname "$0")/../.." && pwd)}
build=${DZ_BUILD:-$top/build}
dir=$(mktemp -d)
trap '"$top/tests/azurite/start.sh" --stop "$dir" 2>/dev/null || true; rm -rf "$dir"' EXIT

url=$("$top/tests/azurite/start.sh" "$dir") || exit $?
DZ_TEST_AZURITE=$url CMOCKA_MESSAGE_OUTPUT=TAP "$build/tests/unit/test_blob"
