/* What idempotency keys were used for, for a day. */
#ifndef CLM_REGISTRY_STORE_IDEMPOTENCY_H
#define CLM_REGISTRY_STORE_IDEMPOTENCY_H

#include "registry.h"

#define IDEMPOTENCY_MS (24LL * 3600 * 1000)

/* In the transaction that makes entity_id. *ret_entity_id: what the key stands for, entity_id itself if it is
 * new; one that another transaction is using is waited for. ALREADY_EXISTS when it stood for another request.
 */
enum code store_idempotency_claim(struct db *tx, const struct cause *cause, const char *entity_id,
                                  struct arena *arena, const char **ret_entity_id,
                                  struct status *st) MUST_CHECK;
enum code store_idempotency_trim(struct db *db, int64_t before_ms, struct arena *arena,
                                 struct status *st) MUST_CHECK;

#endif
