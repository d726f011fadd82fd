/* What the use cases need of other parties' messages: an agent's signed request, and the word of the tasks
 * service and of the registry. */
#ifndef CLM_BOOTSTRAP_PEERS_H
#define CLM_BOOTSTRAP_PEERS_H

#include "bootstrap.h"

enum signed_purpose { SIGNED_OTHER, SIGNED_CONFIRM, SIGNED_SIGN, SIGNED_RENEW, SIGNED_FAREWELL };

struct signed_request { /* envelope.proto SignedRequest */
    enum signed_purpose purpose;
    const char *agent_id, *task_id; /* "" if absent */
    uint32_t generation, attempt;
    struct bytes csr, identity_csr, task_csr;
    struct bytes *identity_chain; /* of CONFIRM, leaf first */
    size_t n_identity_chain;
};

/* Decodes the content of a CMS that has been verified. */
enum code signed_request_read(struct bytes content, struct arena *arena, struct signed_request *ret,
                              struct status *st) MUST_CHECK;

/* Asks tasks whether the agent may have a certificate for these names under this attempt; its refusal is
 * returned as it is. *ret_life_sec 0: no wish. */
enum code tasks_authorize_certificate(struct request *req, const struct signed_request *signed_request,
                                      char *const *names, size_t n_names, uint32_t *ret_life_sec,
                                      struct status *st) MUST_CHECK;

/* The version of the agent's row in the registry, to tell whether a projection is behind. Its answer is not
 * signed as its events are: it may delay, never allow. NOT_FOUND: no such agent. */
enum code registry_agent_version(struct request *req, const char *agent_id, uint64_t *ret,
                                 struct status *st) MUST_CHECK;

#endif
