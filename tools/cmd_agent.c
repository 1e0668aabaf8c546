// SPDX-License-Identifier: MIT
/*
 * dz agent: the node's fetcher.  The library starts it on the first miss; a
 * person has no reason to, except to look at it.
 */
#include <stdio.h>
#include <string.h>

#include "cache/agent.h"
#include "tools/dz.h"

static const char help[] =
	"Usage: dz agent [ARGUMENT]...\n"
	"Fetches from Blob for the processes of this node.  The library starts it at the\n"
	"first miss and it ends when nothing has asked for a while; there is no need to\n"
	"start it by hand.  Its arguments are between the library and it.\n"
	"\n"
	"  --help  this text";

int cmd_agent(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "--help") == 0) {
		puts(help);
		return dz_flushed("agent");
	}
	return dz_agent_main(argc, argv);
}
