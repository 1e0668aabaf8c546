/* SPDX-License-Identifier: MIT */
/* `dz agent`: the node's fetcher, started by the shim on the first miss. */
#ifndef DZ_AGENT_H
#define DZ_AGENT_H

/*
 * Serves the requests of agent record N (argv: "agent" N) of the cache that the
 * environment names, until nobody has been attached for the keep time (10
 * minutes; the DRAM tier is then freed) or the segment is purged.  Returns an
 * exit status: 0, or 1 when another agent serves N or the cache cannot be used.
 */
int dz_agent_main(int argc, char **argv);
/* Nothing of whoever started us any more: signals, working directory, name. */
void dz_agent_detach(const char *name);

#endif
