/*
 * `clm-agent setup`: finds the servers of this host, shows what the agent would be allowed to do for them,
 * asks, and writes that into the local policy. Run by the host's administrator at a terminal; never by the
 * agent itself.
 */
#ifndef CLM_AGENT_SETUP_H
#define CLM_AGENT_SETUP_H

#include <stdbool.h>
#include <stdio.h>

#include "base/status.h"

struct setup_options {
    const char *config;     /* agent.conf; made if it is not there */
    const char *nginx_conf; /* of a private nginx; NULL: the distribution's */
    bool yes;               /* do not ask */
};

/* Asks on `in` (a terminal, or it is refused unless yes), shows on `out`. OK with *ret_written false when
 * there was nothing to add or the answer was no. What stands in the file stays there. */
enum code setup_run(const struct setup_options *options, FILE *in, FILE *out, bool *ret_written,
                    struct status *st) MUST_CHECK;

/* `setup [--config F] [--manage nginx] [--nginx-conf PATH] [--yes]`; argv[0] is "setup". Exit status: 0 done,
 * 1 failed or refused, 2 wrong arguments. */
int setup_main(int argc, char **argv);

#endif
