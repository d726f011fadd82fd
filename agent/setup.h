/*
 * `clm-agent setup`: finds the servers of this host, shows what the agent would be allowed to do for them,
 * asks, and writes that into the local policy. Run by the host's administrator at a terminal; never by the
 * agent itself.
 */
#ifndef CLM_AGENT_SETUP_H
#define CLM_AGENT_SETUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/status.h"

struct setup_server {
    const char *name; /* "apache": a row of presets/preset.c */
    const char *conf; /* its main file; NULL: where the distribution puts it */
};

#define SETUP_SERVERS_MAX 32

struct setup_options {
    const char *config; /* agent.conf; made if it is not there */
    struct setup_server manage[SETUP_SERVERS_MAX];
    size_t n_manage;            /* 0: every server that is found */
    const char *command, *test; /* instead of what the preset says; NULL: that */
    bool yes;                   /* do not ask */
};

/* Asks on `in` (a terminal, or it is refused unless yes), shows on `out`. OK with *ret_written false when
 * there was nothing to add or the answer was no. What stands in the file stays there. */
enum code setup_run(const struct setup_options *options, FILE *in, FILE *out, bool *ret_written,
                    struct status *st) MUST_CHECK;

/* The arguments of `clm-agent help`; argv[0] is "setup". Exit status: 0 done, 1 failed or refused, 2 wrong
 * arguments. */
int setup_main(int argc, char **argv);

#endif
