/*
 * Border of restores: the copy outside the database (lines of JSON, replaced as a whole every 10 s by the one
 * replica that holds the lock), what agents report of heads that we do not have, and the operation itself.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "alerts.h"
#include "audit/head.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "border.h"
#include "lost.h"
#include "proto/audit.pb-c.h"
#include "proto/bootstrap.pb-c.h"
#include "proto/registry.pb-c.h"
#include "proto/tasks.pb-c.h"
#include "restore.h"
#include "wire/wire.h"

#define COPY_MAX     (256 * 1024 * 1024)
#define LINE_MAX_LEN (8 * 1024)
#define CALL_MS      10000
#define REST_MS      5000 /* of a declaration's time, for what comes after reading */

/* The configured one, or in the service's state directory; NULL: there is neither. */
static const char *copy_path(const struct worker *worker, struct arena *arena)
{
    const struct registry_config *config = service_get_config(worker->service);
    if (config->copy_file && *config->copy_file)
        return config->copy_file;
    if (!config->base.state_dir || !*config->base.state_dir)
        return NULL;
    return arena_printf(arena, "%s/platform-copy", config->base.state_dir);
}

/* ---- writing the copy ---- */

static enum code add_line(const ProtobufCMessage *message, struct buf *out, struct status *st)
{
    AUTO_BUF struct buf line = {0};
    TRY(json_write(message, &line, st));
    if (!buf_append(out, line.data, line.len) || !buf_puts(out, "\n"))
        return status_set(st, CODE_RESOURCE_EXHAUSTED, "more than %d bytes", COPY_MAX);
    return CODE_OK;
}

static enum code write_copy(const char *path, const struct platform_copy *copy, struct status *st)
{
    AUTO_BUF struct buf out = {0};
    Clm__PlatformCopy head = CLM__PLATFORM_COPY__INIT;
    buf_init(&out, COPY_MAX);
    head.has_epoch = head.has_made_at_ms = head.has_tree_size = head.has_root_sha256 = head.has_agents = true;
    head.epoch = (uint64_t)copy->epoch;
    head.made_at_ms = copy->made_at_ms;
    head.tree_id = text(copy->tree.tree_id);
    head.tree_size = copy->tree.size;
    head.root_sha256 = (ProtobufCBinaryData){SHA256_SIZE, (uint8_t *)(uintptr_t)copy->tree.root.byte};
    head.agents = copy->n_held;
    TRY(add_line(&head.base, &out, st));
    for (size_t i = 0; i < copy->n_held; i++) {
        const struct held_back *held = &copy->held[i];
        Clm__HeldBackAgent agent = CLM__HELD_BACK_AGENT__INIT;
        agent.agent_id = text(held->agent_id);
        agent.has_disabled = agent.has_min_generation = agent.has_token_generation = agent.has_version = true;
        agent.disabled = held->disabled_reason != NULL;
        agent.disabled_reason = text(held->disabled_reason);
        agent.frozen_reason = text(held->frozen_reason);
        agent.min_generation = (uint64_t)held->min_generation;
        agent.token_generation = (uint64_t)held->token_generation;
        agent.version = (uint64_t)held->version;
        TRY(add_line(&agent.base, &out, st));
    }
    return file_write_atomic(path, out.data, out.len, 0600, st);
}

/* ---- reading it ---- */

static enum code read_line(FILE *in, const ProtobufCMessageDescriptor *desc, char **line, size_t *cap,
                           struct arena *arena, ProtobufCMessage **ret, struct status *st)
{
    ssize_t len = getline(line, cap, in);
    if (len <= 0 || len > LINE_MAX_LEN)
        return status_set(st, CODE_INVALID_ARGUMENT, "a line is missing or too long");
    if ((*line)[len - 1] == '\n')
        len--;
    return json_read(desc, *line, (size_t)len, arena, ret, st);
}

static struct held_back held_of(const Clm__HeldBackAgent *in)
{
    return (struct held_back){
        .agent_id = in->agent_id,
        .disabled_reason = !in->disabled         ? NULL
                           : in->disabled_reason ? in->disabled_reason
                                                 : "",
        .frozen_reason = in->frozen_reason ? in->frozen_reason : "",
        .min_generation = (int64_t)(in->min_generation & INT32_MAX),
        .token_generation = (int64_t)(in->token_generation & INT32_MAX),
        .version = (int64_t)(in->version & INT64_MAX),
    };
}

static enum code read_lines(FILE *in, char **line, size_t *cap, struct arena *arena,
                            struct platform_copy *ret, struct status *st)
{
    ProtobufCMessage *message;
    TRY(read_line(in, &clm__platform_copy__descriptor, line, cap, arena, &message, st));
    const Clm__PlatformCopy *head = (const Clm__PlatformCopy *)message;
    if (head->agents > COPY_MAX / 64)
        return status_set(st, CODE_INVALID_ARGUMENT, "it cannot have that many agents");
    *ret = (struct platform_copy){.epoch = (int64_t)(head->epoch & INT64_MAX),
                                  .made_at_ms = head->made_at_ms,
                                  .tree = {.tree_id = head->tree_id, .size = head->tree_size},
                                  .n_held = (size_t)head->agents};
    memcpy(ret->tree.root.byte, head->root_sha256.data, SHA256_SIZE);
    ret->held = arena_array(arena, ret->n_held + 1, sizeof(*ret->held));
    for (size_t i = 0; i < ret->n_held; i++) {
        TRY(read_line(in, &clm__held_back_agent__descriptor, line, cap, arena, &message, st));
        ret->held[i] = held_of((const Clm__HeldBackAgent *)message);
    }
    return CODE_OK;
}

/* NOT_FOUND: there is none. */
static enum code read_copy(const char *path, struct arena *arena, struct platform_copy *ret,
                           struct status *st)
{
    FILE *in = fopen(path, "re");
    char *line = NULL;
    size_t cap = 0;
    if (!in)
        return status_errno(st, errno == ENOENT ? CODE_NOT_FOUND : CODE_FAILED_PRECONDITION, errno,
                            "cannot open %s", path);
    enum code code = read_lines(in, &line, &cap, arena, ret, st);
    free(line);
    (void)fclose(in);
    if (code != CODE_OK)
        return status_wrap(st, "[platform] copy_file: %s is damaged; move it away", path);
    return CODE_OK;
}

/* ---- every 10 s ---- */

static enum code database_is_older(struct worker *worker, const char *path, int64_t now_ms,
                                   struct arena *arena, struct status *st)
{
    const struct alert_change change = {
        .kind = ALERT_AUDIT_INCONSISTENT,
        .entity = "platform",
        .message = arena_printf(arena,
                                "the database is older than its copy in %s says: if it was restored from a "
                                "backup, run `clmctl platform restored`",
                                path),
    };
    TRY(alerts_raise_alone(worker->db, &change, 1, now_ms, arena, st));
    return status_set(st, CODE_FAILED_PRECONDITION, "%s", change.message);
}

enum code platform_copy_work(struct worker *worker, struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    struct platform_copy there, now;
    struct lost_place place;
    int64_t now_ms = clock_wall_ms();
    bool fits = true;
    const char *path = copy_path(worker, arena);
    if (!path)
        return CODE_OK;
    TRY(lost_place_get(worker->db, &place, st));
    if (place.n_lost > 0)
        return CODE_OK; /* told already (lost_border.c); a copy of what is left says less than one there */
    enum code code = read_copy(path, arena, &there, st);
    if (code == CODE_OK)
        TRY(platform_copy_fits(worker->db, &there, arena, &fits, st));
    else if (code != CODE_NOT_FOUND)
        return code;
    /* What it knows and the database has forgotten must not be overwritten. */
    if (!fits)
        return database_is_older(worker, path, now_ms, arena, st);
    TRY(platform_copy_take(worker->db, now_ms, arena, &now, st));
    return write_copy(path, &now, st);
}

/* A head over a history that has lost its end would be another one of a size that was signed already. */
enum code platform_is_whole(struct worker *worker, struct arena *arena, bool *ret, struct status *st)
{
    struct platform_copy there;
    struct lost_place place;
    const char *path = copy_path(worker, arena);
    TRY(audit_is_whole(worker->db, arena, ret, st));
    TRY(lost_place_get(worker->db, &place, st));
    *ret = *ret && place.n_lost == 0;
    if (!*ret || !path || read_copy(path, arena, &there, st) != CODE_OK)
        return CODE_OK; /* what is wrong with the copy, its own work tells */
    return platform_copy_fits(worker->db, &there, arena, ret, st);
}

/* ---- what agents hold ---- */

/* Looks at a signature only if the head would be news: a fleet that noticed a restore reports the same one.
 */
static enum code take_report(struct worker *worker, const Clm__Heartbeat *beat, struct arena *arena,
                             struct status *st)
{
    const Clm__SignedAuditHead *held = beat->audit_held;
    struct head head;
    bool wanted;
    if (!held->tree_id || !held->has_tree_size || held->tree_size >= MERKLE_SIZE_MAX)
        return CODE_OK;
    TRY(audit_report_wanted(worker->db, held->tree_id, held->tree_size, arena, &wanted, st));
    if (!wanted)
        return CODE_OK;
    struct status why = {0};
    if (head_open(held, service_roots(worker->service), &head, &why) != CODE_OK) {
        log_warn("a head that an agent reports does not hold", "agent", beat->agent_id, "reason", why.msg,
                 NULL);
        return CODE_OK;
    }
    log_error("an agent holds a newer head of the audit log than this database: was it restored?", "agent",
              beat->agent_id, "records", LOG_NUM((int64_t)head.size), NULL);
    const struct audit_report report = {.tree_id = head.tree_id,
                                        .agent_id = beat->agent_id,
                                        .size = head.size,
                                        .root = head.root,
                                        .at_ms = clock_wall_ms()};
    const struct alert_change change = {
        .kind = ALERT_AUDIT_INCONSISTENT,
        .entity = arena_printf(arena, "%s" ALERT_HELD, beat->agent_id),
        .agent_id = beat->agent_id,
        .message =
            arena_printf(arena,
                         "this agent holds a signed head of %llu records, the database has fewer: if it "
                         "was restored from a backup, run `clmctl platform restored`",
                         (unsigned long long)head.size),
    };
    TRY(alerts_raise_alone(worker->db, &change, 1, report.at_ms, arena, st));
    return audit_reported(worker->db, &report, arena, st);
}

enum code take_reports(struct worker *worker, Clm__Heartbeat *const *beats, size_t n, struct arena *arena,
                       struct status *st)
{
    for (size_t i = 0; i < n; i++)
        if (beats[i]->audit_held)
            TRY(take_report(worker, beats[i], arena, st));
    return CODE_OK;
}

/* ---- the operation ---- */

static enum code tell(struct rpc_ctx *ctx, const char *service, const ProtobufCServiceDescriptor *descriptor,
                      const struct platform_epoch *epoch, uint32_t *ret_voided, struct status *st)
{
    Clm__BeginEpochRequest request = CLM__BEGIN_EPOCH_REQUEST__INIT;
    request.has_epoch = request.has_restored_at_ms = true;
    request.epoch = (uint64_t)epoch->epoch;
    request.restored_at_ms = epoch->restored_at_ms;
    const struct rpc_call call = {
        .service = service,
        .descriptor = descriptor,
        .method = "BeginEpoch",
        .request = &request.base,
        .timeout_ms = CALL_MS,
        .authority = true,
    };
    ProtobufCMessage *reply = NULL;
    if (worker_call(ctx->worker, ctx, &call, &reply, st) != CODE_OK)
        return status_wrap(st, "epoch %lld has begun, but %s does not know; repeat the command",
                           (long long)epoch->epoch, service);
    *ret_voided = ((const Clm__BeginEpochResponse *)reply)->voided;
    return CODE_OK;
}

/* Each call reads on where the one before had to stop. */
static enum code read_stream(struct rpc_ctx *ctx, struct status *st)
{
    bool ended;
    if (lost_look(ctx->worker, ctx->deadline_mono_ms - REST_MS, &ended, st) != CODE_OK)
        return status_wrap(st, "what the stream of events has from after the backup");
    return ended ? CODE_OK
                 : status_set(st, CODE_UNAVAILABLE,
                              "what the stream of events has from after the backup is still being read; "
                              "repeat the command");
}

static enum code begin(struct rpc_ctx *ctx, struct platform_epoch *epoch, Clm__PlatformRestored *res,
                       struct status *st)
{
    struct worker *worker = ctx->worker;
    const char *path = copy_path(worker, ctx->arena);
    const struct cause cause = {.actor = ctx->actor.id,
                                .traceparent = ctx->traceparent,
                                .now_ms = clock_wall_ms(),
                                .timing = registry_timing(worker->service)};
    struct platform_copy copy = {0};
    struct restored done;
    enum code code = CODE_NOT_FOUND;
    if (path)
        code = read_copy(path, ctx->arena, &copy, st);
    if (code != CODE_OK && code != CODE_NOT_FOUND)
        return code;
    if (code == CODE_NOT_FOUND)
        log_warn("there is no copy outside the database: who was disabled since the backup is known from the "
                 "stream of events alone",
                 NULL);
    TRY(read_stream(ctx, st));
    TRY(platform_restored(worker->db, &cause, copy.held, copy.n_held, ctx->arena, &done, st));
    log_warn("the database was restored from a backup: a new epoch begins", "epoch",
             LOG_NUM(done.epoch.epoch), "actor", cause.actor, NULL);
    *epoch = done.epoch;
    res->former_tree_id = text(done.former.tree_id);
    res->has_former_tree_size = res->has_agents_held_back = res->has_agents_deleted = true;
    res->former_tree_size = done.former.size;
    res->agents_held_back = (uint32_t)done.n_held;
    res->agents_deleted = (uint32_t)done.n_deleted;
    return CODE_OK;
}

enum code on_declare_restored(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    (void)request;
    struct worker *worker = ctx->worker;
    Clm__PlatformRestored *res = response;
    struct platform_epoch epoch;
    if (ctx->actor.label_selector && *ctx->actor.label_selector)
        return status_set(st, CODE_PERMISSION_DENIED,
                          "a grant limited to labels does not cover the platform");
    TRY(platform_epoch_get(worker->db, ctx->arena, &epoch, st));
    if (epoch.told) /* else one was begun, and somebody does not know yet */
        TRY(begin(ctx, &epoch, res, st));
    res->has_tokens_voided = res->has_leases_voided = true;
    TRY(tell(ctx, "bootstrap", &clm__bootstrap__descriptor, &epoch, &res->tokens_voided, st));
    TRY(tell(ctx, "tasks", &clm__tasks__descriptor, &epoch, &res->leases_voided, st));
    TRY(platform_epoch_told(worker->db, st));
    res->has_epoch = res->has_restored_at_ms = true;
    res->epoch = (uint64_t)epoch.epoch;
    res->restored_at_ms = epoch.restored_at_ms;
    return CODE_OK;
}
