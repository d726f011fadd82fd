/*
 * What exec believes of certificates that came over the wire: only what chains to a root it already holds (or
 * has pinned), for a key it knows. Each runs in a confined child (sandbox_parse).
 */
#ifndef CLM_AGENT_EXEC_TRUST_H
#define CLM_AGENT_EXEC_TRUST_H

#include "agent/exec/state.h"
#include "pki/digest.h"
#include "proto/agent.pb-c.h"

struct trust_bootstrap {
    uint8_t pin[SHA256_SIZE]; /* of the root's SPKI, from the token */
    struct bytes identity_csr, task_csr;
    int64_t now_ms;
    uid_t parser_uid;
};
/* Both leaves are for our keys, this agent id, generation and trust domain, have their purposes, and chain to
 * the pinned root. *ret_root: its place in answer->roots. */
enum code trust_check_bootstrap(const struct trust_bootstrap *expected, const Clm__BootstrapResponse *answer,
                                size_t *ret_root, struct status *st) MUST_CHECK;

/* The leaf holds the CSR's key and chains to one of our roots as a TLS server certificate. *ret_root: its
 * place in state->roots. */
enum code trust_check_issued(const struct agent_state *state, struct bytes csr,
                             const Clm__SignResponse *answer, int64_t now_ms, uid_t parser_uid,
                             size_t *ret_root, struct status *st) MUST_CHECK;

#endif
