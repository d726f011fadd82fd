/* Use case: an operator registers a host and gets the token that will make it an agent. */
#ifndef CLM_BOOTSTRAP_TOKENS_H
#define CLM_BOOTSTRAP_TOKENS_H

#include "base/secret.h"
#include "bootstrap.h"
#include "store.h"

#define TOKEN_TTL_DEFAULT_SEC 3600u
#define TOKEN_TTL_MAX_SEC     (7u * 24 * 3600)

struct token_order {
    const char *agent_id, *hostname;
    const char *hostname_pattern, *source_cidr; /* NULL: for any host, from anywhere */
    uint32_t ttl_sec;                           /* 0: the default */
    const char *id;         /* NULL: a new one; the same again: a fresh secret, until the first was used */
    struct scope_row scope; /* agent_id is filled in here */
};
struct token_made {
    struct secret *text; /* owned: shown once, never stored; NULL: this id was used, or revoked */
    const char *id;
    int64_t not_after_ms;
    uint32_t next_generation; /* of the identity that it will become */
};
/* Revokes what other open token the agent has: there is never more than one. */
enum code token_create(struct request *req, const struct token_order *order, struct token_made *ret,
                       struct status *st) MUST_CHECK;

/* An agent's tokens, newest first, without their secrets. */
enum code token_list(struct request *req, const char *agent_id, struct token_view **ret, size_t *ret_n,
                     struct status *st) MUST_CHECK;
/* NOT_FOUND: it is not this agent's; FAILED_PRECONDITION: it is burnt. Twice is once. */
enum code token_revoke(struct request *req, const char *agent_id, const char *token_id,
                       struct status *st) MUST_CHECK;

#endif
