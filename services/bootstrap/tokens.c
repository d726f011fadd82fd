/* Tokens. The secret exists in one struct token, is wiped with it, and only its hash goes further. */
#include "tokens.h"

#include <string.h>

#include "base/cidr.h"
#include "base/clock.h"
#include "events.h"
#include "pki/token.h"
#include "scope/scope.h"

static void token_scope_end(struct token *token)
{
    token_wipe(token);
}

/* A pattern that can never match is a mistake of the operator's, better told now than found at the first
 * renewal. */
static enum code check_scope(const struct scope_row *scope, struct status *st)
{
    for (size_t i = 0; i < scope->n_paths; i++) {
        if (!path_pattern_valid(scope->paths[i]))
            return status_set(st, CODE_INVALID_ARGUMENT,
                              "scope.paths[%zu]: \"%.80s\" is no absolute path without empty, . or .. parts",
                              i, scope->paths[i]);
    }
    for (size_t i = 0; i < scope->n_dns_names; i++) {
        if (!dns_pattern_valid(scope->dns_names[i]))
            return status_set(st, CODE_INVALID_ARGUMENT,
                              "scope.dnsNames[%zu]: \"%.80s\" is no DNS name, *.name or address", i,
                              scope->dns_names[i]);
    }
    return CODE_OK;
}

static enum code check_bounds(const struct token_order *order, struct status *st)
{
    struct cidr cidr;
    if (order->hostname_pattern && !hostname_pattern_valid(order->hostname_pattern))
        return status_set(st, CODE_INVALID_ARGUMENT, "hostnamePattern: \"%.80s\" can match no host's name",
                          order->hostname_pattern);
    if (order->source_cidr && !cidr_parse(order->source_cidr, &cidr))
        return status_set(st, CODE_INVALID_ARGUMENT,
                          "sourceCidr: \"%.60s\" is no range of addresses such as 10.1.0.0/16",
                          order->source_cidr);
    return CODE_OK;
}

static enum code store(struct request *req, const struct new_token *token, const struct scope_row *scope,
                       bool *ret_good, struct status *st)
{
    bool added;
    TRY(db_begin(req->db, st));
    CLEANUP(db_scope_end) struct db *tx = req->db;
    TRY(store_scope_seed(tx, scope, st));
    TRY(store_token_add(tx, token, &added, st));
    *ret_good = true;
    if (!added) {
        TRY(store_token_renew(tx, token, ret_good, st));
        return db_commit(tx, st);
    }
    TRY(event_token(req, TOKEN_EVENT_CREATED, token->id, 1, token->agent_id, NULL, NULL, st));
    return db_commit(tx, st);
}

enum code token_create(struct request *req, const struct token_order *order, struct token_made *ret,
                       struct status *st)
{
    CLEANUP(token_scope_end) struct token token = {0};
    uint8_t hash[SHA256_SIZE];
    int64_t now_ms = clock_wall_ms();
    uint32_t ttl_sec = order->ttl_sec > 0 ? order->ttl_sec : TOKEN_TTL_DEFAULT_SEC;
    struct scope_row scope = order->scope;

    if (ttl_sec > TOKEN_TTL_MAX_SEC)
        return status_set(st, CODE_INVALID_ARGUMENT, "a token lives at most %u s; %u were asked for",
                          TOKEN_TTL_MAX_SEC, ttl_sec);
    TRY(check_scope(&scope, st));
    TRY(check_bounds(order, st));
    scope.agent_id = order->agent_id;

    TRY(token_make(req->settings->root_pin, req->settings->gateway_address, &token, st));
    sha256((struct bytes){token.secret, sizeof(token.secret)}, hash);
    char *id = arena_alloc(req->arena, UUID_TEXT_SIZE);
    if (order->id)
        (void)snprintf(id, UUID_TEXT_SIZE, "%s", order->id);
    else
        uuid_v7(id);
    struct new_token row = {
        .id = id,
        .agent_id = order->agent_id,
        .hostname = order->hostname,
        .created_by = req->actor,
        .hostname_pattern = order->hostname_pattern,
        .source_cidr = order->source_cidr,
        .secret_sha256 = hash,
        .now_ms = now_ms,
        .not_after_ms = now_ms + (int64_t)ttl_sec * 1000,
    };
    uint32_t next;
    bool good;
    TRY(store(req, &row, &scope, &good, st));
    TRY(store_identity_next(req->db, order->agent_id, &next, st));
    *ret = (struct token_made){.next_generation = next,
                               .text = good ? token_print(&token) : NULL,
                               .id = id,
                               .not_after_ms = row.not_after_ms};
    return CODE_OK;
}

#define LIST_MAX 100

enum code token_list(struct request *req, const char *agent_id, struct token_view **ret, size_t *ret_n,
                     struct status *st)
{
    return store_token_list(req->db, req->arena, agent_id, clock_wall_ms(), LIST_MAX, ret, ret_n, st);
}

static enum code why_not_revoked(struct request *req, const char *agent_id, const char *token_id,
                                 struct status *st)
{
    struct token_view *tokens;
    size_t n;
    TRY(token_list(req, agent_id, &tokens, &n, st));
    for (size_t i = 0; i < n; i++) {
        if (strcmp(tokens[i].id, token_id) != 0)
            continue;
        return tokens[i].state == TOKEN_REVOKED
                   ? CODE_OK
                   : status_set(st, CODE_FAILED_PRECONDITION,
                                "token %s has become an identity; revoke the agent instead", token_id);
    }
    return status_set(st, CODE_NOT_FOUND, "agent %s has no token %s", agent_id, token_id);
}

enum code token_revoke(struct request *req, const char *agent_id, const char *token_id, struct status *st)
{
    uint64_t version;
    TRY(db_begin(req->db, st));
    CLEANUP(db_scope_end) struct db *tx = req->db;
    TRY(store_token_revoke(tx, agent_id, token_id, clock_wall_ms(), &version, st));
    if (version == 0)
        return why_not_revoked(req, agent_id, token_id, st);
    TRY(event_token(req, TOKEN_EVENT_REVOKED, token_id, version, agent_id, NULL, NULL, st));
    return db_commit(tx, st);
}
