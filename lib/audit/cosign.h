/* Co-signatures (proto/audit.proto): once in its day each agent signs the head that it has verified. */
#ifndef CLM_AUDIT_COSIGN_H
#define CLM_AUDIT_COSIGN_H

#include "audit/head.h"
#include "base/id.h"

struct Clm__SignedCosignature;

/* Days begin at another moment for each agent, so that a fleet's co-signatures are spread. Two times within
 * one day of this agent have the same number. */
#define COSIGN_DAY_MS (24LL * 3600 * 1000)
int64_t cosign_day(const char *agent_id, int64_t at_ms);

struct cosignature {
    char agent_id[UUID_TEXT_SIZE];
    uint32_t generation;
    struct head head; /* made_at_ms: of the co-signature */
    char signer[65];  /* fingerprint of the task certificate, lower-case hex */
};
/* Verifies the signature, that it is the named agent's task key's, of the generation that it says, and that
 * what stands beside it says the same. The chain is checked at the time that it names. UNAUTHENTICATED when
 * it does not hold. */
enum code cosignature_open(const struct Clm__SignedCosignature *in, const struct der_list *roots,
                           struct cosignature *ret, struct status *st) MUST_CHECK;

#endif
