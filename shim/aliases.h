/* SPDX-License-Identifier: MIT */
/*
 * Included last by a file that defines DZ_IN_<family> as 1: the other names of
 * its doors, from hooks.def.  An alias must be defined where its door is, hence
 * not in one place for all.
 */
#define DZ_SECOND(first, second, ...) second
#define DZ_IF_1			      0,
#define DZ_IF_(junk, alias, name)     DZ_SECOND(junk DZ_DOOR_ALIAS, DZ_NO_ALIAS, )(alias, name)
#define DZ_IF(value, alias, name)     DZ_IF_(DZ_IF_##value, alias, name)
#define DZ_NO_ALIAS(alias, name)
#define HOOK(name, family)
#define SKIP(name, reason)
#define ALIAS(alias, name, family)	DZ_ALIAS_IN(DZ_IN_##family, alias, name)
#define DZ_ALIAS_IN(value, alias, name) DZ_IF(value, alias, name)
#include "shim/hooks.def"
#undef HOOK
#undef ALIAS
#undef SKIP
