/* What enrolment and renewal share: an agent's two CSRs, and the pair of certificates for them. */
#ifndef CLM_BOOTSTRAP_ISSUE_PAIR_H
#define CLM_BOOTSTRAP_ISSUE_PAIR_H

#include "bootstrap.h"
#include "store.h"

struct csr_pair {
    struct bytes identity, task; /* DER */
};
struct csr_pair_keys {
    uint8_t identity_spki[SHA256_SIZE], task_spki[SHA256_SIZE];
};

/* INVALID_ARGUMENT: no CSR, another kind of key than EC P-256, or one key for both. Their signatures are
 * verified by issue_pair's signer. */
enum code csr_pair_read(const struct csr_pair *in, struct csr_pair_keys *ret, struct status *st) MUST_CHECK;
/* Has both issued for row->agent_id and row->generation, and fills in what the row says of them; keys are
 * borrowed by the row. */
enum code issue_pair(struct request *req, const struct csr_pair *in, const struct csr_pair_keys *keys,
                     struct identity_row *row, struct status *st) MUST_CHECK;

#endif
