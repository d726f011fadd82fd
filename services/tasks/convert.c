/* See convert.h. */
#include "convert.h"

#include <assert.h>
#include <string.h>

#include "proto/envelope.pb-c.h"
#include "proto/event.pb-c.h"
#include "proto/tasks.pb-c.h"
#include "wire/wire.h"

_Static_assert((int)STATE_EXPIRED == CLM__TASK__STATE__EXPIRED &&
                   (int)STATE_READY == CLM__TASK__STATE__READY &&
                   (int)STATE_RUNNING == CLM__TASK__STATE__RUNNING,
               "state.h has the numbers of Task.State");
_Static_assert((int)KIND_DEPLOY == CLM__TASK__KIND__DEPLOY && (int)KIND_DISCOVER == CLM__TASK__KIND__DISCOVER,
               "state.h has the numbers of Task.Kind");
_Static_assert((int)OUTCOME_SUCCEEDED == CLM__RECEIPT__OUTCOME__SUCCEEDED &&
                   (int)OUTCOME_NOT_GENUINE == CLM__RECEIPT__OUTCOME__NOT_GENUINE,
               "tasks.h has the numbers of Receipt.Outcome");

static char *const *one(struct arena *arena, char *text)
{
    char **list = arena_array(arena, 1, sizeof(*list));
    list[0] = text;
    return list;
}

static const char *target_of(const Clm__TaskSpec *spec)
{
    const Clm__ValidateSpec *validate = spec->validate;
    if (validate)
        return validate->target             ? validate->target
               : validate->certificate_path ? validate->certificate_path
                                            : validate->endpoint;
    return spec->deploy ? spec->deploy->target : spec->renew ? spec->renew->target : NULL;
}

enum code spec_read(struct bytes encoded, struct arena *arena, struct spec_facts *ret, struct status *st)
{
    ProtobufCMessage *msg;
    TRY(wire_unpack(&clm__task_spec__descriptor, encoded.data, encoded.len, arena, &msg, st));
    const Clm__TaskSpec *spec = (const Clm__TaskSpec *)msg;
    const void *const bodies[] = {spec->deploy, spec->renew, spec->validate, spec->discover};
    for (int kind = KIND_DEPLOY; kind <= KIND_DISCOVER; kind++) {
        bool wanted = kind == (int)spec->kind;
        if (bodies[kind - 1] && !wanted)
            return status_set(st, CODE_INVALID_ARGUMENT, "spec: kind is %s, but the body is another's",
                              task_kind_name((enum task_kind)spec->kind));
        if (wanted && !bodies[kind - 1] && kind != KIND_DISCOVER)
            return status_set(st, CODE_INVALID_ARGUMENT, "spec: kind is %s, but its body is missing",
                              task_kind_name((enum task_kind)spec->kind));
    }
    *ret = (struct spec_facts){.kind = (enum task_kind)spec->kind, .target = target_of(spec)};
    if (spec->deploy && spec->deploy->key_path) {
        ret->paths = one(arena, spec->deploy->key_path);
        ret->n_paths = 1;
    }
    if (spec->renew) {
        ret->dns_names = spec->renew->dns_names;
        ret->n_dns_names = spec->renew->n_dns_names;
        ret->life_sec = spec->renew->life_sec;
    }
    if (spec->validate) {
        if (!spec->validate->target && !spec->validate->certificate_path && !spec->validate->endpoint)
            return status_set(st, CODE_INVALID_ARGUMENT,
                              "spec.validate: give a target, a certificatePath or an endpoint");
        if (spec->validate->certificate_path) {
            ret->paths = one(arena, spec->validate->certificate_path);
            ret->n_paths = 1;
        }
    }
    if (spec->discover) {
        ret->roots = spec->discover->roots;
        ret->n_roots = spec->discover->n_roots;
    }
    return CODE_OK;
}

static enum code scope_unpack(struct bytes encoded, struct arena *arena, Clm__Scope **ret, struct status *st)
{
    ProtobufCMessage *msg;
    TRY(wire_unpack(&clm__scope__descriptor, encoded.data, encoded.len, arena, &msg, st));
    *ret = (Clm__Scope *)msg;
    return CODE_OK;
}

enum code scope_read(struct bytes encoded, struct arena *arena, struct scope *ret, struct status *st)
{
    Clm__Scope *scope;
    TRY(scope_unpack(encoded, arena, &scope, st));
    *ret = (struct scope){
        .paths = scope->paths,
        .n_paths = scope->n_paths,
        .dns_names = scope->dns_names,
        .n_dns_names = scope->n_dns_names,
    };
    for (size_t i = 0; i < scope->n_operations; i++)
        ret->operations |= SCOPE_OPERATION(scope->operations[i]);
    return CODE_OK;
}

enum code order_write(const struct order *order, struct arena *arena, struct bytes *ret, struct status *st)
{
    Clm__Scope *scope;
    TRY(scope_unpack(order->scope, arena, &scope, st));
    const struct task *task = order->task;
    Clm__TaskOrder message = CLM__TASK_ORDER__INIT;
    message.task_id = arena_strdup(arena, task->id);
    message.has_attempt = 1;
    message.attempt = task->attempt;
    message.agent_id = arena_strdup(arena, task->agent_id);
    message.has_generation = 1;
    message.generation = order->generation;
    message.has_not_before_at_ms = 1;
    message.not_before_at_ms = order->not_before_ms;
    message.has_not_after_at_ms = 1;
    message.not_after_at_ms = order->not_after_ms;
    message.has_lease = 1;
    message.lease = order->lease;
    message.has_spec = 1;
    message.spec = (ProtobufCBinaryData){.len = task->spec.len,
                                         .data = arena_dup(arena, task->spec.data, task->spec.len)};
    message.scope = scope;
    message.has_platform_epoch = 1;
    message.platform_epoch = order->epoch;
    message.has_deadline_at_ms = 1;
    message.deadline_at_ms = task->deadline_at_ms;
    message.has_safe_mode = order->safe_mode;
    message.safe_mode = order->safe_mode;
    message.has_break_glass = task->break_glass;
    message.break_glass = task->break_glass;
    message.traceparent = arena_strdup(arena, task->traceparent);
    wire_pack(&message.base, arena, &ret->data, &ret->len);
    return CODE_OK;
}

enum code receipt_read(struct bytes encoded, struct arena *arena, struct receipt *ret, struct status *st)
{
    ProtobufCMessage *msg;
    TRY(wire_unpack(&clm__receipt__descriptor, encoded.data, encoded.len, arena, &msg, st));
    const Clm__Receipt *receipt = (const Clm__Receipt *)msg;
    *ret = (struct receipt){
        .agent_id = receipt->agent_id,
        .task_id = receipt->task_id,
        .message = receipt->message,
        .attempt = receipt->attempt,
        .generation = receipt->generation,
        .pages = receipt->pages,
        .outcome = (enum outcome)receipt->outcome,
        .retryable = receipt->retryable != 0,
        .started_at_ms = receipt->has_started_at_ms ? receipt->started_at_ms : -1,
        .result_sha256 = {receipt->result_sha256.data, receipt->result_sha256.len},
    };
    return CODE_OK;
}

enum code result_check(struct bytes encoded, struct result_facts *ret, struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    ProtobufCMessage *msg;
    *ret = (struct result_facts){0};
    TRY(wire_unpack(&clm__task_result__descriptor, encoded.data, encoded.len, arena, &msg, st));
    const Clm__TaskResult *result = (const Clm__TaskResult *)msg;
    for (size_t i = 0; i < result->n_checks; i++) {
        const Clm__Check *check = result->checks[i];
        int outcome = check->has_outcome ? (int)check->outcome : 0;
        if (outcome > ret->worst)
            ret->worst = outcome;
        if (check->id && strcmp(check->id, "served") == 0 && outcome == CLM__CHECK__OUTCOME__FAIL)
            ret->served_not_intended = true;
    }
    return CODE_OK;
}

struct packed_event event_write(const struct change *change, int64_t now_ms, struct arena *arena)
{
    char id[UUID_TEXT_SIZE];
    uuid_v7(id);
    Clm__TaskChanged body = CLM__TASK_CHANGED__INIT;
    body.agent_id = arena_strdup(arena, change->agent_id);
    body.has_kind = change->kind != 0;
    body.kind = (Clm__Task__Kind)change->kind;
    body.has_state = change->state != 0;
    body.state = (Clm__Task__State)change->state;
    body.has_attempt = 1;
    body.attempt = change->attempt;
    body.message = arena_strdup(arena, change->message);
    body.has_receipt_sha256 = change->receipt_sha256.len > 0;
    body.receipt_sha256.len = change->receipt_sha256.len;
    body.receipt_sha256.data = arena_dup(arena, change->receipt_sha256.data, change->receipt_sha256.len);
    body.signer_sha256 = arena_strdup(arena, change->signer_sha256);
    body.has_refused = change->refused;
    body.refused = change->refused;
    body.has_break_glass = change->break_glass;
    body.break_glass = change->break_glass;
    body.has_served_not_intended = change->served_not_intended;
    body.served_not_intended = change->served_not_intended;
    body.target = arena_strdup(arena, change->target);
    Clm__Event event = CLM__EVENT__INIT;
    event.id = arena_strdup(arena, id);
    event.subject = arena_printf(arena, "clm.event.tasks.task.%s", change->subject);
    event.entity_id = arena_strdup(arena, change->task_id);
    event.has_entity_version = 1;
    event.entity_version = change->version;
    event.has_occurred_at_ms = 1;
    event.occurred_at_ms = now_ms;
    event.actor = arena_strdup(arena, change->actor);
    event.traceparent = arena_strdup(arena, change->traceparent);
    event.task = &body;
    struct packed_event packed = {.id = event.id, .subject = event.subject};
    wire_pack(&event.base, arena, &packed.body.data, &packed.body.len);
    return packed;
}

#define INVENTORY_PAGE_BYTES (128u * 1024)
#define INVENTORY_PAGE_MAX   500u

static struct packed_event inventory_page(const struct task *task, Clm__InventoryReported *body,
                                          int64_t now_ms, struct arena *arena)
{
    char id[UUID_TEXT_SIZE];
    uuid_v7(id);
    Clm__Event event = CLM__EVENT__INIT;
    event.id = arena_strdup(arena, id);
    event.subject = arena_strdup(arena, "clm.event.tasks.inventory.reported");
    event.entity_id = arena_strdup(arena, task->id);
    event.has_entity_version = 1;
    event.entity_version = task->version;
    event.has_occurred_at_ms = 1;
    event.occurred_at_ms = now_ms;
    event.actor = arena_printf(arena, "agent:%s", task->agent_id);
    event.traceparent = arena_strdup(arena, task->traceparent);
    event.inventory = body;
    struct packed_event packed = {.id = event.id, .subject = event.subject};
    wire_pack(&event.base, arena, &packed.body.data, &packed.body.len);
    return packed;
}

/* How many of the certificates from here on fit on one page. */
static size_t page_size(Clm__FoundCertificate *const *found, size_t n)
{
    size_t fit = 0;
    for (size_t bytes = 0; fit < n && fit < INVENTORY_PAGE_MAX; fit++) {
        bytes += clm__found_certificate__get_packed_size(found[fit]) + 8;
        if (fit > 0 && bytes > INVENTORY_PAGE_BYTES)
            break;
    }
    return fit;
}

/* What a scan covered; a deployment only knows better of the places that it names. */
static void cover(Clm__InventoryReported *body, enum task_kind kind, const Clm__DiscoverSpec *spec,
                  bool complete)
{
    body->has_last = body->has_complete = 1;
    if (kind != KIND_DISCOVER) {
        body->has_supersedes = body->supersedes = 1;
        return;
    }
    body->complete = complete;
    body->has_files = body->has_configurations = body->has_listening = 1;
    body->files = !spec || !spec->has_files || spec->files;
    body->configurations = !spec || !spec->has_configurations || spec->configurations;
    body->listening = !spec || !spec->has_listening || spec->listening;
    body->n_roots = spec ? spec->n_roots : 0;
    body->roots = spec ? spec->roots : NULL;
}

enum code inventory_write(const struct task *task, struct bytes result, bool ended, int64_t now_ms,
                          struct arena *arena, struct packed_event **ret, size_t *ret_n, struct status *st)
{
    ProtobufCMessage *msg, *spec_msg;
    TRY(wire_unpack(&clm__task_result__descriptor, result.data, result.len, arena, &msg, st));
    TRY(wire_unpack(&clm__task_spec__descriptor, task->spec.data, task->spec.len, arena, &spec_msg, st));
    const Clm__TaskResult *found = (const Clm__TaskResult *)msg;
    const Clm__DiscoverSpec *spec = ((const Clm__TaskSpec *)spec_msg)->discover;
    *ret = arena_array(arena, found->n_certificates + 1, sizeof(**ret));
    *ret_n = 0;
    if (task->kind != KIND_DISCOVER && found->n_certificates == 0)
        return CODE_OK; /* an older agent's */
    for (size_t at = 0; at < found->n_certificates || *ret_n == 0;) {
        Clm__InventoryReported body = CLM__INVENTORY_REPORTED__INIT;
        body.agent_id = arena_strdup(arena, task->agent_id);
        body.certificates = found->certificates + at;
        body.n_certificates = page_size(body.certificates, found->n_certificates - at);
        at += body.n_certificates;
        cover(&body, task->kind, spec, ended && !(found->has_truncated && found->truncated));
        body.last = at >= found->n_certificates;
        (*ret)[(*ret_n)++] = inventory_page(task, &body, now_ms, arena);
    }
    return CODE_OK;
}
