/* Border of requests for the audit log, alerts and activity: protobuf ⇄ the registry's structs. Worker
 * threads. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "alerts.h"
#include "audit.h"
#include "audit/cosign.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "border.h"
#include "proto/registry.pb-c.h"
#include "store.h"
#include "wire/wire.h"

#define PAGE_DEFAULT   50
#define PAGE_MAX       500
#define HEADS_MAX      100
#define HEAD_BYTES_MAX (300 * 1024)

static const char *given(const char *s)
{
    return s && *s ? s : NULL;
}

static struct db *db_of(const struct rpc_ctx *ctx)
{
    return worker_of(ctx)->db;
}

static enum code page_size(bool has, uint32_t asked, size_t max, size_t *ret, struct status *st)
{
    *ret = has && asked > 0 ? asked : PAGE_DEFAULT;
    return *ret <= max ? CODE_OK : status_set(st, CODE_INVALID_ARGUMENT, "pageSize: at most %zu", max);
}

/* A page token that is a number. */
static enum code cursor(const char *token, int64_t *ret, struct status *st)
{
    *ret = -1;
    if (!given(token))
        return CODE_OK;
    char *end;
    if (strlen(token) > 18 || token[strspn(token, "0123456789")] != '\0')
        return status_set(st, CODE_INVALID_ARGUMENT, "pageToken: not one that a list gave");
    *ret = strtoll(token, &end, 10);
    return CODE_OK;
}

/* ---- audit ---- */

/* A tree cannot be shown in parts: a grant for some labels does not reach it. */
static enum code whole_fleet(const struct rpc_ctx *ctx, struct status *st)
{
    if (given(ctx->actor.label_selector))
        return status_set(st, CODE_PERMISSION_DENIED,
                          "your grant covers agents with \"%s\" only; the audit log is the whole fleet's",
                          ctx->actor.label_selector);
    return CODE_OK;
}

static Clm__AuditEntry *entry_of(const struct audit_leaf *leaf, struct arena *arena)
{
    Clm__AuditEntry *out = arena_alloc(arena, sizeof(*out));
    clm__audit_entry__init(out);
    out->has_index = out->has_leaf = true;
    out->index = (uint64_t)(leaf->index - leaf->base);
    out->has_tree = true;
    out->tree = (uint32_t)leaf->tree;
    out->leaf = (ProtobufCBinaryData){leaf->leaf.len, (uint8_t *)(uintptr_t)leaf->leaf.data};
    ProtobufCMessage *record = NULL;
    struct status st;
    /* A leaf that was tampered with may not decode: it is shown as it is. */
    if (wire_unpack(&clm__audit_record__descriptor, leaf->leaf.data, leaf->leaf.len, arena, &record, &st) ==
        CODE_OK)
        out->record = (Clm__AuditRecord *)record;
    return out;
}

enum code on_list_audit(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__ListAuditRequest *req = request;
    Clm__ListAuditResponse *res = response;
    struct audit_filter filter = {
        .actor = given(req->actor),
        .agent_id = given(req->agent_id),
        .action = given(req->action),
        .from_ms = req->has_from_at_ms ? req->from_at_ms : -1,
        .until_ms = req->has_until_at_ms ? req->until_at_ms : -1,
        .oldest_first = req->has_oldest_first && req->oldest_first,
    };
    size_t size, bytes = 0, n;
    struct audit_leaf *leaves;
    TRY(whole_fleet(ctx, st));
    TRY(page_size(req->has_page_size, req->page_size, PAGE_MAX, &size, st));
    TRY(cursor(req->page_token, &filter.after, st));
    TRY(audit_list(db_of(ctx), &filter, size + 1, ctx->arena, &leaves, &n, st));
    res->entries = arena_array(ctx->arena, n + 1, sizeof(*res->entries));
    while (res->n_entries < n && res->n_entries < size) {
        const struct audit_leaf *leaf = &leaves[res->n_entries];
        bytes += leaf->leaf.len + 64;
        if (res->n_entries > 0 && bytes > PAGE_BYTES_MAX)
            break;
        res->entries[res->n_entries++] = entry_of(leaf, ctx->arena);
    }
    if (res->n_entries < n)
        res->next_page_token = arena_printf(ctx->arena, "%" PRId64, leaves[res->n_entries - 1].index);
    return CODE_OK;
}

enum code on_get_audit_head(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    (void)request;
    struct audit_head head;
    TRY(whole_fleet(ctx, st));
    TRY(audit_head_newest(db_of(ctx), ctx->arena, &head, st));
    audit_head_fill(&head, response, ctx->arena);
    return CODE_OK;
}

static Clm__SignedAuditHead *new_head(const struct audit_head *head, struct arena *arena)
{
    Clm__SignedAuditHead *out = arena_alloc(arena, sizeof(*out));
    clm__signed_audit_head__init(out);
    audit_head_fill(head, out, arena);
    return out;
}

/* A gateway may know heads that this database has forgotten: then it gets all of them anew. */
static enum code heads_from(const struct rpc_ctx *ctx, const Clm__ListAuditHeadsRequest *req,
                            uint64_t *ret_after, protobuf_c_boolean *ret_anew, struct status *st)
{
    struct audit_head head;
    *ret_after = req->has_after_size ? req->after_size : 0;
    *ret_anew = false;
    if (!given(req->after_tree_id) || *ret_after == 0)
        return CODE_OK;
    enum code code = audit_head_of_size(db_of(ctx), *ret_after, ctx->arena, &head, st);
    if (code != CODE_OK && code != CODE_NOT_FOUND)
        return code;
    *ret_anew = code == CODE_NOT_FOUND || strcmp(head.tree_id, req->after_tree_id) != 0;
    if (*ret_anew)
        *ret_after = 0;
    return CODE_OK;
}

enum code on_list_fleet_heads(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__ListAuditHeadsRequest *req = request;
    Clm__ListAuditHeadsResponse *res = response;
    size_t size, n, bytes = 0;
    uint64_t after;
    struct audit_head *heads;
    TRY(page_size(req->has_page_size, req->page_size, HEADS_MAX, &size, st));
    TRY(heads_from(ctx, req, &after, &res->anew, st));
    res->has_anew = given(req->after_tree_id) != NULL;
    TRY(audit_heads_list(db_of(ctx), req->has_tree ? req->tree : 0, after,
                         req->has_from_at_ms ? req->from_at_ms : -1, size + 1, ctx->arena, &heads, &n, st));
    res->heads = arena_array(ctx->arena, n + 1, sizeof(*res->heads));
    while (res->n_heads < n && res->n_heads < size) {
        bytes += heads[res->n_heads].head.len + heads[res->n_heads].consistency.len +
                 heads[res->n_heads].origin.len + heads[res->n_heads].origin_leaf.len + 256;
        if (res->n_heads > 0 && bytes > HEAD_BYTES_MAX)
            break;
        res->heads[res->n_heads] = new_head(&heads[res->n_heads], ctx->arena);
        res->n_heads++;
    }
    res->has_last = true;
    res->last = res->n_heads == n;
    return CODE_OK;
}

enum code on_list_audit_heads(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    TRY(whole_fleet(ctx, st));
    return on_list_fleet_heads(ctx, request, response, st);
}

enum code on_get_audit_proof(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__GetAuditProofRequest *req = request;
    Clm__AuditProof *res = response;
    struct merkle_proof proof;
    struct audit_leaf leaf;
    struct audit_head head;
    TRY(whole_fleet(ctx, st));
    TRY(audit_get(db_of(ctx), req->index, ctx->arena, &leaf, st));
    enum code code = req->has_tree_size
                         ? audit_head_of_size(db_of(ctx), req->tree_size, ctx->arena, &head, st)
                         : audit_head_newest(db_of(ctx), ctx->arena, &head, st);
    if (code != CODE_OK && (code != CODE_NOT_FOUND || !req->has_tree_size))
        return code;
    uint64_t size = req->has_tree_size ? req->tree_size : head.size;
    if (!req->has_tree_size && req->index >= size)
        return status_set(st, CODE_FAILED_PRECONDITION,
                          "no signed head covers this record yet; ask again in a minute");
    if (code == CODE_OK)
        res->head = new_head(&head, ctx->arena);
    TRY(audit_inclusion(db_of(ctx), req->index, size, &proof, st));
    res->entry = entry_of(&leaf, ctx->arena);
    res->has_tree_size = true;
    res->tree_size = size;
    res->inclusion = hashes_of(proof_bytes(&proof), ctx->arena, &res->n_inclusion);
    return CODE_OK;
}

static ProtobufCBinaryData root_of(const struct merkle_hash *root, struct arena *arena)
{
    return (ProtobufCBinaryData){SHA256_SIZE, arena_dup(arena, root->byte, SHA256_SIZE)};
}

enum code on_get_fleet_consistency(struct rpc_ctx *ctx, const void *request, void *response,
                                   struct status *st)
{
    const Clm__GetAuditConsistencyRequest *req = request;
    Clm__AuditConsistency *res = response;
    struct merkle_proof proof;
    struct merkle_hash first, second;
    TRY(audit_consistency(db_of(ctx), req->first, req->second, &proof, st));
    TRY(audit_root_at(db_of(ctx), req->first, &first, st));
    TRY(audit_root_at(db_of(ctx), req->second, &second, st));
    res->has_first = res->has_second = res->has_first_root_sha256 = res->has_second_root_sha256 = true;
    res->first = req->first;
    res->second = req->second;
    res->consistency = hashes_of(proof_bytes(&proof), ctx->arena, &res->n_consistency);
    res->first_root_sha256 = root_of(&first, ctx->arena);
    res->second_root_sha256 = root_of(&second, ctx->arena);
    return CODE_OK;
}

enum code on_get_audit_consistency(struct rpc_ctx *ctx, const void *request, void *response,
                                   struct status *st)
{
    TRY(whole_fleet(ctx, st));
    return on_get_fleet_consistency(ctx, request, response, st);
}

/* ---- co-signatures ---- */

enum code on_cosign_head(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    (void)response;
    const Clm__CosignHeadRequest *req = request;
    struct cosignature said;
    TRY(cosignature_open(req->cosignature, service_roots(worker_of(ctx)->service), &said, st));
    if (strcmp(said.agent_id, req->agent_id) != 0)
        return status_set(st, CODE_PERMISSION_DENIED, "the co-signature is agent %s's, not agent %s's",
                          said.agent_id, req->agent_id);
    const struct audit_cosignature in = {
        .tree_id = said.head.tree_id,
        .agent_id = said.agent_id,
        .signer_sha256 = said.signer,
        .size = said.head.size,
        .root = said.head.root,
        .made_at_ms = said.head.made_at_ms,
        .cms = {req->cosignature->cosignature.data, req->cosignature->cosignature.len},
    };
    return audit_cosign(db_of(ctx), &in, cosign_day(in.agent_id, in.made_at_ms), clock_wall_ms(), ctx->arena,
                        st);
}

/* "size.agent" of the last one of the page before. */
static enum code cosign_cursor(const char *token, struct cosign_filter *filter, struct arena *arena,
                               struct status *st)
{
    const char *dot = given(token) ? strchr(token, '.') : NULL;
    if (!given(token))
        return CODE_OK;
    if (!dot || dot == token || !uuid_valid(dot + 1))
        return status_set(st, CODE_INVALID_ARGUMENT, "pageToken: not one that a list gave");
    TRY(cursor(arena_strndup(arena, token, (size_t)(dot - token)), &filter->after_size, st));
    filter->after_agent_id = dot + 1;
    return CODE_OK;
}

enum code on_list_cosignatures(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__ListCosignaturesRequest *req = request;
    Clm__ListCosignaturesResponse *res = response;
    struct cosign_filter filter = {
        .size = req->has_tree_size ? (int64_t)(req->tree_size & INT64_MAX) : -1,
        .agent_id = given(req->agent_id),
        .tree_id = given(req->tree_id),
        .after_size = -1,
    };
    size_t size, n, bytes = 0;
    struct audit_cosignature *rows;
    TRY(whole_fleet(ctx, st));
    TRY(page_size(req->has_page_size, req->page_size, HEADS_MAX, &size, st));
    TRY(cosign_cursor(req->page_token, &filter, ctx->arena, st));
    TRY(audit_cosignatures(db_of(ctx), &filter, size + 1, ctx->arena, &rows, &n, st));
    res->cosignatures = arena_array(ctx->arena, n + 1, sizeof(*res->cosignatures));
    while (res->n_cosignatures < n && res->n_cosignatures < size) {
        const struct audit_cosignature *row = &rows[res->n_cosignatures];
        bytes += row->cms.len + 128;
        if (res->n_cosignatures > 0 && bytes > HEAD_BYTES_MAX)
            break;
        Clm__SignedCosignature *out = arena_alloc(ctx->arena, sizeof(*out));
        clm__signed_cosignature__init(out);
        out->has_cosignature = out->has_tree_size = out->has_made_at_ms = true;
        out->cosignature = (ProtobufCBinaryData){row->cms.len, (uint8_t *)(uintptr_t)row->cms.data};
        out->agent_id = text(row->agent_id);
        out->tree_id = text(row->tree_id);
        out->tree_size = row->size;
        out->made_at_ms = row->made_at_ms;
        res->cosignatures[res->n_cosignatures++] = out;
    }
    if (res->n_cosignatures < n) {
        const struct audit_cosignature *last = &rows[res->n_cosignatures - 1];
        res->next_page_token =
            arena_printf(ctx->arena, "%llu.%s", (unsigned long long)last->size, last->agent_id);
    }
    return CODE_OK;
}

/* ---- what gateways refused ---- */

enum code on_report_refusals(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    static const char *const actions[] = {
        [CLM__REFUSAL__KIND__HANDSHAKE] = "refusal.handshake",
        [CLM__REFUSAL__KIND__AGENT] = "refusal.agent",
        [CLM__REFUSAL__KIND__LOGIN] = "refusal.login",
        [CLM__REFUSAL__KIND__PERMISSION] = "refusal.permission",
    };
    (void)response;
    const Clm__ReportRefusalsRequest *req = request;
    struct audit_record *records = arena_array(ctx->arena, req->n_refusals + 1, sizeof(*records));
    size_t n = 0;
    for (size_t i = 0; i < req->n_refusals; i++) {
        const Clm__Refusal *r = req->refusals[i];
        if ((size_t)r->kind >= ARRAY_LEN(actions) || !actions[r->kind])
            continue; /* of a newer gateway */
        records[n++] = (struct audit_record){
            .event_id = r->id,
            .action = actions[r->kind],
            .origin = "gateway",
            .entity_id = req->gateway_id,
            .agent_id = r->kind == CLM__REFUSAL__KIND__AGENT && uuid_valid(r->claimed) ? r->claimed : NULL,
            .actor = r->claimed,
            .occurred_at_ms = r->has_first_at_ms ? r->first_at_ms : clock_wall_ms(),
            .source = r->source,
            .outcome = "REFUSED",
            .detail = r->reason,
            .count = r->count,
        };
    }
    if (req->has_lost && req->lost > 0)
        log_warn("a gateway's queue of refusals was full", "gateway", req->gateway_id, "lost",
                 LOG_NUM((int64_t)req->lost), NULL);
    return audit_note(db_of(ctx), records, n, ctx->arena, st);
}

/* ---- alerts ---- */

void alert_fill(Clm__Alert *out, const struct alert *alert)
{
    out->id = text(alert->id);
    out->has_kind = out->has_state = out->has_count = true;
    out->kind = (Clm__Alert__Kind)alert->kind;
    out->state = (Clm__Alert__State)alert_state(alert);
    out->entity_id = text(alert->entity);
    out->agent_id = text(alert->agent_id);
    out->hostname = text(alert->hostname);
    out->message = text(alert->message);
    out->count = alert->count < UINT32_MAX ? (uint32_t)alert->count : UINT32_MAX;
    set_time(&out->has_first_at_ms, &out->first_at_ms, alert->first_at_ms);
    set_time(&out->has_last_at_ms, &out->last_at_ms, alert->last_at_ms);
    set_time(&out->has_acknowledged_at_ms, &out->acknowledged_at_ms, alert->acknowledged_at_ms);
    out->acknowledged_by = text(alert->acknowledged_by);
    set_time(&out->has_resolved_at_ms, &out->resolved_at_ms, alert->resolved_at_ms);
    out->resolved_by = text(alert->resolved_by);
}

enum code on_list_alerts(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__ListAlertsRequest *req = request;
    Clm__ListAlertsResponse *res = response;
    struct alert_filter filter = {.selector = ctx->actor.label_selector,
                                  .agent_id = given(req->agent_id),
                                  .after = given(req->page_token)};
    size_t size, n;
    struct alert *alerts;
    TRY(page_size(req->has_page_size, req->page_size, PAGE_MAX, &size, st));
    if (filter.after && !uuid_valid(filter.after))
        return status_set(st, CODE_INVALID_ARGUMENT, "pageToken: not one that a list gave");
    for (size_t i = 0; i < req->n_state; i++)
        filter.state_bits |= 1u << (unsigned)req->state[i];
    for (size_t i = 0; i < req->n_kind; i++)
        filter.kind_bits |= 1u << (unsigned)req->kind[i];
    TRY(alerts_list(db_of(ctx), &filter, size + 1, ctx->arena, &alerts, &n, st));
    res->n_alerts = n > size ? size : n;
    res->alerts = arena_array(ctx->arena, res->n_alerts + 1, sizeof(*res->alerts));
    for (size_t i = 0; i < res->n_alerts; i++) {
        res->alerts[i] = arena_alloc(ctx->arena, sizeof(**res->alerts));
        clm__alert__init(res->alerts[i]);
        alert_fill(res->alerts[i], &alerts[i]);
    }
    if (n > size)
        res->next_page_token = text(alerts[size - 1].id);
    return CODE_OK;
}

enum code on_acknowledge_alert(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__AcknowledgeAlertRequest *req = request;
    const struct cause cause = cause_of(ctx);
    struct alert alert;
    TRY(alert_acknowledge(db_of(ctx), &cause, ctx->actor.label_selector, req->alert_id, ctx->arena, &alert,
                          st));
    alert_fill(response, &alert);
    return CODE_OK;
}

enum code on_resolve_alert(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__ResolveAlertRequest *req = request;
    const struct cause cause = cause_of(ctx);
    struct alert alert;
    TRY(alert_resolve(db_of(ctx), &cause, ctx->actor.label_selector, req->alert_id, ctx->arena, &alert, st));
    alert_fill(response, &alert);
    return CODE_OK;
}

/* ---- activity ---- */

void activity_fill(Clm__Activity *out, const struct activity *activity)
{
    set_time(&out->has_occurred_at_ms, &out->occurred_at_ms, activity->occurred_at_ms);
    out->event = text(activity->event);
    out->agent_id = text(activity->agent_id);
    out->actor = text(activity->actor);
    out->message = text(activity->message);
}

enum code on_list_activity(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__ListActivityRequest *req = request;
    Clm__ListActivityResponse *res = response;
    struct activity_filter filter = {
        .agent_id = given(req->agent_id), .actor = given(req->actor), .event = given(req->event)};
    size_t size, n;
    struct activity *rows;
    TRY(page_size(req->has_page_size, req->page_size, PAGE_MAX, &size, st));
    TRY(cursor(req->page_token, &filter.before_id, st));
    TRY(activity_list(db_of(ctx), ctx->actor.label_selector, &filter, size + 1, ctx->arena, &rows, &n, st));
    res->n_activity = n > size ? size : n;
    res->activity = arena_array(ctx->arena, res->n_activity + 1, sizeof(*res->activity));
    for (size_t i = 0; i < res->n_activity; i++) {
        res->activity[i] = arena_alloc(ctx->arena, sizeof(**res->activity));
        clm__activity__init(res->activity[i]);
        activity_fill(res->activity[i], &rows[i]);
    }
    if (n > size)
        res->next_page_token = arena_printf(ctx->arena, "%" PRId64, rows[size - 1].id);
    return CODE_OK;
}
