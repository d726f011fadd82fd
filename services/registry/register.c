/* Registration: an agent comes into being, BOOTSTRAPPING, with its first event. The token is the bootstrap
 * service's. */
#include <string.h>

#include "audit.h"
#include "base/id.h"
#include "db/outbox.h"
#include "pki/digest.h"
#include "selector.h"

/* What the same idempotency key must say again. */
static void request_digest(const struct registration *in, uint8_t out[SHA256_SIZE])
{
    struct sha256_ctx *ctx = sha256_ctx_new();
    sha256_ctx_add(ctx, (struct bytes){(const uint8_t *)in->hostname, strlen(in->hostname) + 1});
    for (size_t i = 0; i < in->n_labels; i++) {
        sha256_ctx_add(ctx,
                       (struct bytes){(const uint8_t *)in->labels[i].name, strlen(in->labels[i].name) + 1});
        sha256_ctx_add(ctx,
                       (struct bytes){(const uint8_t *)in->labels[i].value, strlen(in->labels[i].value) + 1});
    }
    sha256_ctx_add(ctx, in->scope);
    sha256_ctx_free(ctx, out);
}

static enum code check(const struct registration *in, const struct agent *agent, const char *selector,
                       struct arena *arena, struct status *st)
{
    TRY(labels_check(in->labels, in->n_labels, st));
    struct label_terms terms;
    TRY(label_terms_read(selector, NULL, 0, arena, &terms, st));
    if (!label_terms_hold(&terms, agent))
        return status_set(st, CODE_PERMISSION_DENIED,
                          "your grant covers agents with \"%s\" only; add these labels", selector);
    return CODE_OK;
}

static enum code insert(struct db *db, const struct cause *cause, const struct registration *in,
                        const uint8_t digest[SHA256_SIZE], struct agent *agent, struct arena *arena,
                        struct status *st)
{
    CLEANUP(db_scope_end) struct db *tx = db;
    TRY(db_begin(tx, st));
    TRY(store_agent_insert(tx, agent, cause->actor, in->idempotency_key,
                           in->idempotency_key ? (struct bytes){digest, SHA256_SIZE} : (struct bytes){0},
                           arena, st));
    char event_id[UUID_TEXT_SIZE];
    uuid_v7(event_id);
    struct bytes body;
    agent_event_encode(agent, cause, event_id, SUBJECT_AGENT_REGISTERED, arena, &body);
    TRY(outbox_add(tx, event_id, SUBJECT_AGENT_REGISTERED, body.data, body.len, st));
    const struct audit_record record = {
        .event_id = event_id,
        .action = "agent.registered",
        .origin = "registry",
        .entity_id = agent->id,
        .agent_id = agent->id,
        .actor = cause->actor,
        .occurred_at_ms = cause->now_ms,
        .outcome = "OK",
        .detail = agent->hostname,
        .traceparent = cause->traceparent,
    };
    TRY(audit_note(tx, &record, 1, arena, st));
    const struct activity activity = {
        .occurred_at_ms = cause->now_ms,
        .event = "agent.registered",
        .agent_id = agent->id,
        .actor = cause->actor,
        .message = agent->hostname,
    };
    TRY(activity_add(tx, &activity, 1, arena, st));
    return db_commit(tx, st);
}

/* An earlier request with the same key. */
static enum code again(struct db *db, const struct cause *cause, const struct registration *in,
                       const uint8_t digest[SHA256_SIZE], struct arena *arena, struct agent *ret,
                       bool *ret_needs_token, struct status *st)
{
    struct bytes stored;
    TRY(store_agent_by_key(db, cause->actor, in->idempotency_key, arena, ret, &stored, st));
    if (stored.len != SHA256_SIZE || memcmp(stored.data, digest, SHA256_SIZE) != 0)
        return status_set(st, CODE_ALREADY_EXISTS, "idempotency key: it was used for another registration");
    *ret_needs_token = ret->status == AGENT_BOOTSTRAPPING;
    return CODE_OK;
}

enum code agent_register(struct db *db, const struct cause *cause, const char *selector,
                         const struct registration *in, struct arena *arena, struct agent *ret,
                         bool *ret_needs_token, struct status *st)
{
    char id[UUID_TEXT_SIZE];
    uuid_v7(id);
    char *hostname = arena_strdup(arena, in->hostname);
    for (char *c = hostname; *c; c++)
        if (*c >= 'A' && *c <= 'Z')
            *c = (char)(*c + 32);
    struct agent agent = {
        .id = arena_strdup(arena, id),
        .hostname = hostname,
        .status = AGENT_BOOTSTRAPPING,
        .disabled_reason = "",
        .safe_mode_reason = "",
        .frozen_reason = "",
        .labels = arena_dup(arena, in->n_labels ? (const void *)in->labels : "",
                            in->n_labels ? in->n_labels * sizeof(*in->labels) : 1),
        .n_labels = in->n_labels,
        .scope = in->scope,
        .identity_generation = -1,
        .identity_not_after_ms = -1,
        .created_at_ms = cause->now_ms,
        .bootstrapped_at_ms = -1,
        .last_heartbeat_at_ms = -1,
        .agent_version = "",
        .version = 1,
    };
    TRY(check(in, &agent, selector, arena, st));
    uint8_t digest[SHA256_SIZE];
    request_digest(in, digest);
    if (in->idempotency_key) {
        enum code code = again(db, cause, in, digest, arena, ret, ret_needs_token, st);
        if (code != CODE_NOT_FOUND)
            return code;
    }
    enum code code = insert(db, cause, in, digest, &agent, arena, st);
    if (code == CODE_ALREADY_EXISTS &&
        in->idempotency_key) /* a concurrent request with this key was faster */
        return again(db, cause, in, digest, arena, ret, ret_needs_token, st);
    TRY(code);
    *ret = agent;
    *ret_needs_token = true;
    return CODE_OK;
}
