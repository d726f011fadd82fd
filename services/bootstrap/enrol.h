/* Use case: a host with a token and two new keys becomes an agent. */
#ifndef CLM_BOOTSTRAP_ENROL_H
#define CLM_BOOTSTRAP_ENROL_H

#include "bootstrap.h"
#include "issue_pair.h"

struct enrolment {
    const char *token_secret; /* text */
    const char *source;       /* peer address as the gateway saw it; "" if unknown */
    bool source_proven;       /* a balancer that the gateway believes said so */
    const char *hostname;     /* what the host says of itself; "" if nothing */
    struct csr_pair csrs;
};
struct enrolled {
    const char *agent_id;
    uint32_t generation;
    struct bytes identity_chain[2], task_chain[2]; /* leaf, issuing CA */
    bool issued_now;                               /* false: the same pair asked again */
};

/* UNAUTHENTICATED with one and the same message for every token that is not valid, whatever the reason: the
 * reason is in *ret_refusal (for the log; NULL otherwise) and in the event token.refused. RESOURCE_EXHAUSTED
 * instead, and no event, when the source shows too many of them. However many hosts use one token at once,
 * one pair of keys wins. */
enum code enrol(struct request *req, const struct enrolment *in, struct enrolled *ret,
                const char **ret_refusal, struct status *st) MUST_CHECK;

#endif
