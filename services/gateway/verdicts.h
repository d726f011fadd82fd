/* What the gateway found out about agents' certificates. Any thread. */
#ifndef CLM_GATEWAY_VERDICTS_H
#define CLM_GATEWAY_VERDICTS_H

#include "base/id.h"
#include "pki/cert.h"

struct verdicts;

/* `slots` certificates at most are remembered. */
struct verdicts *verdicts_new(size_t slots);
void verdicts_free(struct verdicts *verdicts);

/* Whom a certificate names whose chain, purpose and trust domain held. Whether that agent may speak is no
 * part of it and is asked each time. */
struct agent_identity {
    char agent_id[UUID_TEXT_SIZE];
    uint32_t generation;
};

/* False: not known, or no longer. */
bool verdicts_find(struct verdicts *verdicts, struct bytes leaf, int64_t at_ms, struct agent_identity *ret);
/* Kept for ten minutes and never outside the certificate's validity. */
void verdicts_keep(struct verdicts *verdicts, struct bytes leaf, const struct agent_identity *identity,
                   int64_t from_ms, int64_t until_ms, int64_t at_ms);

#endif
