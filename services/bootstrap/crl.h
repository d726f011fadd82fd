/* Use cases: an agent's certificates are revoked; the lists that say so are made, and made again in time. */
#ifndef CLM_BOOTSTRAP_CRL_H
#define CLM_BOOTSTRAP_CRL_H

#include "bootstrap.h"
#include "pki/crl.h"
#include "store.h"

/* Every certificate of the agent that was issued until then and has not ended: identity and task key. Twice
 * is once. In the caller's transaction. */
enum code agent_certificates_revoke(struct request *req, const char *agent_id, int64_t at_ms,
                                    enum crl_reason reason, struct status *st) MUST_CHECK;

/* Makes the lists that are due: none there, half of its life over, or something revoked since. What fails
 * leaves the old list standing; when less than a quarter of its life is left, that is told as an event, once.
 * For one replica at a time. ret: of each CA's newest list. */
struct crl_times {
    int64_t this_update_ms, next_update_ms; /* -1: there is none */
};
enum code crls_tend(struct request *req, int64_t life_sec, struct crl_times ret[ISSUING_CA_COUNT],
                    struct status *st) MUST_CHECK;

/* issuer: "agents"; NOT_FOUND for no such CA or no list yet. */
enum code crl_get(struct request *req, const char *issuer, struct crl_row *ret, struct status *st) MUST_CHECK;

#endif
