/*
 * After a restore from a backup: tokens that were open then are void, and identities that were issued after
 * the backup and before the restore are adopted, on the strength of their chain and of the agent's signature.
 */
#ifndef CLM_BOOTSTRAP_EPOCH_H
#define CLM_BOOTSTRAP_EPOCH_H

#include "bootstrap.h"

/* Any number of times for one epoch. */
enum code epoch_begin(struct request *req, uint64_t epoch, int64_t restored_at_ms, uint32_t *ret_voided,
                      struct status *st) MUST_CHECK;
/* Confirms a generation that this database does not know, or knows otherwise. PERMISSION_DENIED with the
 * reason when it may not be. */
enum code identity_adopt(struct request *req, const char *agent_id, uint32_t generation,
                         struct bytes confirmation, struct status *st) MUST_CHECK;
/* Whether the platform was ever restored. */
enum code epoch_exists(struct request *req, bool *ret, struct status *st) MUST_CHECK;

#endif
