/*
 * Whether a certificate was revoked: asks the OCSP responders and CRLs that it names, as far as the local
 * policy lists their hosts (fetch_hosts). Blocking; runs in a task's child.
 */
#ifndef CLM_AGENT_KINDS_REVOCATION_H
#define CLM_AGENT_KINDS_REVOCATION_H

#include "kinds/judge.h"
#include "kinds/kind.h"

struct revocation_answer {
    bool certificate; /* there is one to ask about */
    bool sources;     /* it names places to ask */
    Clm__Check *said; /* "revocation", PASS or FAIL; NULL: nobody said it */
    char why[256];    /* nobody did */
};
/* Adds a step to run->result for each place that was asked. */
enum code revocation_ask(struct task_run *run, const struct judge_sources *of, struct revocation_answer *ret,
                         struct status *st) MUST_CHECK;

#endif
