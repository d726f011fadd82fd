/* Use case: other services catch up on identities that they may have missed. */
#ifndef CLM_BOOTSTRAP_IDENTITIES_H
#define CLM_BOOTSTRAP_IDENTITIES_H

#include "bootstrap.h"
#include "store.h"

#define IDENTITIES_PAGE_MAX 200u /* two certificates each must fit into one reply */

struct identity_page {
    struct identity_row *rows; /* by agent id, then generation: the confirmed one and the latest */
    size_t n;
    bool last;
};
enum code identities_list(struct request *req, const char *after_agent_id, uint32_t page_size,
                          struct identity_page *ret, struct status *st) MUST_CHECK;

/* An agent's generations, newest first, with what became of them. */
enum code identities_of_agent(struct request *req, const char *agent_id, struct identity_view **ret,
                              size_t *ret_n, struct status *st) MUST_CHECK;

#endif
