/* Events of clm-bootstrap, written to the outbox inside the caller's transaction. No key and no token is in
 * any. */
#ifndef CLM_BOOTSTRAP_EVENTS_H
#define CLM_BOOTSTRAP_EVENTS_H

#include "bootstrap.h"
#include "store.h"

enum token_event { TOKEN_EVENT_CREATED, TOKEN_EVENT_USED, TOKEN_EVENT_REFUSED, TOKEN_EVENT_REVOKED };
/* token_id NULL: a token that nobody made. reason and source may be NULL. */
enum code event_token(struct request *req, enum token_event what, const char *token_id, uint64_t version,
                      const char *agent_id, const char *reason, const char *source,
                      struct status *st) MUST_CHECK;
enum code event_identity_issued(struct request *req, const struct identity_row *row,
                                struct status *st) MUST_CHECK;
/* For the record: beside the two that consumers act on. */
enum code event_identity_adopted(struct request *req, const struct identity_row *row, uint64_t version,
                                 struct status *st) MUST_CHECK;
enum code event_identity_confirmed(struct request *req, const char *agent_id, uint32_t generation,
                                   uint64_t version, struct status *st) MUST_CHECK;
enum code event_identity_farewell(struct request *req, const struct identity_row *row,
                                  struct status *st) MUST_CHECK;
/* agent_id and task_id NULL: a service's own certificate. */
enum code event_certificate_issued(struct request *req, const char *agent_id, const char *task_id,
                                   struct bytes certificate, struct status *st) MUST_CHECK;

enum crl_event { CRL_EVENT_ISSUED, CRL_EVENT_LATE };
/* The entity is the CA's name. */
enum code event_crl(struct request *req, enum crl_event what, const struct crl_row *crl,
                    struct status *st) MUST_CHECK;

#endif
