/*
 * Border of events: the registry's own, encoded out of struct agent, and those of other services, turned into
 * changes and rows of the activity. Handlers run on a consumer's thread, inside the transaction that claims
 * the event.
 */
#include <string.h>

#include "alerts.h"
#include "base/clock.h"
#include "border.h"
#include "drift.h"
#include "proto/event.pb-c.h"
#include "proto/registry.pb-c.h"
#include "wire/wire.h"

/* ---- parts of messages
 * ------------------------------------------------------------------------------------------------------ */

struct bytes scope_encode(const struct Clm__Scope *scope, struct arena *arena)
{
    struct bytes out;
    wire_pack(&scope->base, arena, &out.data, &out.len);
    return out;
}

Clm__Scope *scope_decode(struct bytes scope, struct arena *arena)
{
    ProtobufCMessage *msg = NULL;
    struct status st;
    if (wire_unpack(&clm__scope__descriptor, scope.data, scope.len, arena, &msg, &st) != CODE_OK) {
        /* What cannot be read allows nothing. */
        Clm__Scope *none = arena_alloc(arena, sizeof(*none));
        clm__scope__init(none);
        return none;
    }
    return (Clm__Scope *)msg;
}

Clm__Label **labels_of(const struct agent *agent, struct arena *arena)
{
    Clm__Label **out = arena_array(arena, agent->n_labels + 1, sizeof(*out));
    for (size_t i = 0; i < agent->n_labels; i++) {
        out[i] = arena_alloc(arena, sizeof(**out));
        clm__label__init(out[i]);
        out[i]->name = text(agent->labels[i].name);
        out[i]->value = text(agent->labels[i].value);
    }
    return out;
}

/* ---- own events
 * --------------------------------------------------------------------------------------------------- */

/* What every event of ours says of itself. */
static Clm__Event event_of(const struct cause *cause, const char *event_id, const char *subject,
                           const char *entity_id, int64_t version)
{
    Clm__Event event = CLM__EVENT__INIT;
    event.id = text(event_id);
    event.subject = text(subject);
    event.entity_id = text(entity_id);
    event.has_entity_version = event.has_occurred_at_ms = true;
    event.entity_version = (uint64_t)version;
    event.occurred_at_ms = cause->now_ms;
    event.actor = text(cause->actor);
    event.traceparent = text(cause->traceparent);
    return event;
}

void agent_event_encode(const struct agent *agent, const struct cause *cause, const char *event_id,
                        const char *subject, struct arena *arena, struct bytes *ret)
{
    Clm__AgentChanged changed = CLM__AGENT_CHANGED__INIT;
    changed.hostname = text(agent->hostname);
    changed.has_status = true;
    changed.status = (Clm__Agent__Status)agent->status;
    changed.has_safe_mode = true;
    changed.safe_mode = agent_in_safe_mode(agent) || agent->status == AGENT_SAFE_MODE;
    changed.has_deleted = changed.deleted = strcmp(subject, SUBJECT_AGENT_DELETED) == 0;
    changed.has_frozen = true;
    changed.frozen = agent_frozen(agent);
    changed.scope = scope_decode(agent->scope, arena);
    changed.has_min_generation = true;
    changed.min_generation = (uint32_t)agent->min_generation;
    changed.has_disabled = true;
    changed.disabled = agent->disabled;
    changed.reason = text(agent_reason(agent));
    if (changed.frozen)
        changed.frozen_reason = text(agent->frozen_reason);
    changed.agent_version = text(agent->agent_version);
    changed.n_labels = agent->n_labels;
    changed.labels = labels_of(agent, arena);
    Clm__Event event = event_of(cause, event_id, subject, agent->id, agent->version);
    if (!cause->actor || !*cause->actor)
        event.actor = text("service:registry");
    event.agent = &changed;
    wire_pack(&event.base, arena, &ret->data, &ret->len);
}

void platform_event_encode(const struct platform *platform, const struct cause *cause, const char *event_id,
                           struct arena *arena, struct bytes *ret)
{
    Clm__PlatformChanged changed = CLM__PLATFORM_CHANGED__INIT;
    changed.has_safe_mode = true;
    changed.safe_mode = platform->safe_mode;
    changed.reason = text(platform->reason);
    Clm__Event event = event_of(cause, event_id, SUBJECT_PLATFORM_CHANGED, "platform", platform->version);
    event.platform = &changed;
    wire_pack(&event.base, arena, &ret->data, &ret->len);
}

void drift_event_encode(const struct drift_change *change, const struct cause *cause, const char *event_id,
                        struct arena *arena, struct bytes *ret)
{
    Clm__CertificateDrift body = CLM__CERTIFICATE_DRIFT__INIT;
    body.agent_id = text(change->agent_id);
    body.reason = text(change->message);
    Clm__Event event = event_of(cause, event_id, change->mended ? SUBJECT_MENDED : SUBJECT_DRIFTED,
                                change->entity, cause->now_ms);
    event.actor = arena_printf(arena, "agent:%s", change->agent_id);
    event.drift = &body;
    wire_pack(&event.base, arena, &ret->data, &ret->len);
}

void alert_event_encode(const struct alert *alert, const struct cause *cause, const char *event_id,
                        const char *subject, struct arena *arena, struct bytes *ret)
{
    Clm__AlertChanged body = CLM__ALERT_CHANGED__INIT;
    body.has_kind = body.has_state = body.has_count = true;
    body.kind = (Clm__Alert__Kind)alert->kind;
    body.state = (Clm__Alert__State)alert_state(alert);
    body.count = (uint32_t)alert->count;
    body.agent_id = text(alert->agent_id);
    body.about = text(alert->entity);
    body.message = text(alert->message);
    Clm__Event event = event_of(cause, event_id, subject, alert->id, alert->version);
    event.alert = &body;
    wire_pack(&event.base, arena, &ret->data, &ret->len);
}

/* ---- events of others
 * ----------------------------------------------------------------------------------------------- */

/* "task.finished" of clm.event.tasks.task.finished */
static const char *short_name(const char *subject)
{
    for (int dots = 0; *subject; subject++)
        if (*subject == '.' && ++dots == 3)
            return subject + 1;
    return subject;
}

static enum code note(struct worker *worker, const Clm__Event *event, const char *agent_id,
                      const char *message, struct arena *arena, struct status *st)
{
    const struct activity activity = {
        .occurred_at_ms = event->has_occurred_at_ms ? event->occurred_at_ms : clock_wall_ms(),
        .event = short_name(event->subject),
        .agent_id = agent_id && *agent_id ? agent_id : NULL,
        .actor = event->actor,
        .message = message,
    };
    TRY(audit_note_event(worker, event, activity.event, agent_id, message, arena, st));
    return activity_add(worker->db, &activity, 1, arena, st);
}

static enum code raise(struct worker *worker, enum alert_kind kind, const char *entity, const char *agent_id,
                       const char *message, struct arena *arena, struct status *st)
{
    const struct alert_change change = {.kind = kind,
                                        .entity = entity,
                                        .agent_id = agent_id && *agent_id ? agent_id : NULL,
                                        .message = message};
    return alerts_raise(worker->db, &change, 1, clock_wall_ms(), arena, st);
}

static struct cause cause_of_event(const struct worker *worker, const Clm__Event *event)
{
    return (struct cause){
        .actor = event->actor ? event->actor : "service:bootstrap",
        .traceparent = event->traceparent,
        .now_ms = clock_wall_ms(),
        .timing = registry_timing(worker->service),
    };
}

static enum code on_identity_issued(struct worker *worker, struct arena *arena, const void *msg,
                                    struct status *st)
{
    const Clm__Event *event = msg;
    const Clm__IdentityIssued *issued = event->identity_issued;
    if (!event->entity_id || !issued || !issued->has_generation || !issued->fingerprint_sha256 ||
        !issued->has_not_after_at_ms)
        return status_set(st, CODE_INVALID_ARGUMENT, "identity.issued is not complete");
    const struct cause cause = cause_of_event(worker, event);
    TRY(agent_identity_issued(worker->db, &cause, event->entity_id, issued->generation,
                              issued->fingerprint_sha256, issued->not_after_at_ms, arena, st));
    if (issued->has_by_token && issued->by_token)
        TRY(agent_installed_anew(worker->db, &cause, event->entity_id, issued->generation, arena, st));
    return note(worker, event, event->entity_id, arena_printf(arena, "generation %u", issued->generation),
                arena, st);
}

static enum code on_identity_confirmed(struct worker *worker, struct arena *arena, const void *msg,
                                       struct status *st)
{
    const Clm__Event *event = msg;
    if (!event->entity_id || !event->identity_confirmed || !event->identity_confirmed->has_generation)
        return status_set(st, CODE_INVALID_ARGUMENT, "identity.confirmed is not complete");
    const struct cause cause = cause_of_event(worker, event);
    uint32_t generation = event->identity_confirmed->generation;
    TRY(agent_identity_confirmed(worker->db, &cause, event->entity_id, generation, arena, st));
    return note(worker, event, event->entity_id, arena_printf(arena, "generation %u", generation), arena, st);
}

static enum code on_identity_farewell(struct worker *worker, struct arena *arena, const void *msg,
                                      struct status *st)
{
    const Clm__Event *event = msg;
    if (!event->entity_id || !event->identity_farewell || !event->identity_farewell->has_generation)
        return status_set(st, CODE_INVALID_ARGUMENT, "identity.farewell is not complete");
    const struct cause cause = cause_of_event(worker, event);
    TRY(agent_farewell(worker->db, &cause, event->entity_id, event->identity_farewell->generation, arena,
                       st));
    return note(worker, event, event->entity_id, "the agent was removed from its host", arena, st);
}

static enum code on_token(struct worker *worker, struct arena *arena, const void *msg, struct status *st)
{
    const Clm__Event *event = msg;
    const Clm__TokenEvent *token = event->token;
    bool refused = token && strcmp(short_name(event->subject), "token.refused") == 0;
    bool known = token && token->agent_id && *token->agent_id;
    bool second_key = refused && known && token->reason && strcmp(token->reason, "second_key") == 0;
    /* A second key for a bound token is somebody else: the identity freezes until an operator decides, and
     * the alert is about the agent. Other refusals are about the token or, of tokens that nobody made, the
     * source. */
    if (second_key) {
        const struct cause cause = cause_of_event(worker, event);
        TRY(agent_freeze(worker->db, &cause, token->agent_id, FROZEN_SECOND_KEY, arena, st));
    } else if (refused) {
        const char *entity = known ? event->entity_id : token->source;
        TRY(raise(worker, ALERT_BOOTSTRAP_REFUSED, entity && *entity ? entity : event->entity_id,
                  token->agent_id,
                  arena_printf(arena, "a bootstrap token was refused: %s, from %s",
                               token->reason ? token->reason : "",
                               token->source ? token->source : "an unknown address"),
                  arena, st));
    }
    return note(worker, event, token ? token->agent_id : NULL, token ? token->reason : NULL, arena, st);
}

static enum code on_certificate(struct worker *worker, struct arena *arena, const void *msg,
                                struct status *st)
{
    const Clm__Event *event = msg;
    const Clm__CertificateIssued *issued = event->certificate_issued;
    const char *subject = issued && issued->certificate ? issued->certificate->subject : NULL;
    return note(worker, event, issued ? issued->agent_id : NULL, subject, arena, st);
}

static enum code alert_of_task(struct worker *worker, const Clm__TaskChanged *task, const char *kind,
                               struct arena *arena, struct status *st)
{
    static const enum task_end ends[] = {
        [CLM__TASK__STATE__SUCCEEDED] = TASK_END_SUCCEEDED,
        [CLM__TASK__STATE__INSTALLED_UNVERIFIED] = TASK_END_UNVERIFIED,
        [CLM__TASK__STATE__FAILED] = TASK_END_FAILED,
        [CLM__TASK__STATE__EXPIRED] = TASK_END_FAILED, /* nobody did it */
    };
    const struct task_ended ended = {
        .agent_id = task->agent_id,
        .kind = kind,
        .target = task->target,
        .message = task->message,
        .end = (size_t)task->state < ARRAY_LEN(ends) ? ends[task->state] : TASK_END_OTHER,
        .looked = task->kind == CLM__TASK__KIND__VALIDATE,
        .changed = task->kind == CLM__TASK__KIND__DEPLOY || task->kind == CLM__TASK__KIND__RENEW,
        .refused = task->refused != 0,
        .served_not_intended = task->served_not_intended != 0,
    };
    return alerts_of_task(worker->db, &ended, clock_wall_ms(), arena, st);
}

static enum code on_task(struct worker *worker, struct arena *arena, const void *msg, struct status *st)
{
    static const char *const kinds[] = {"", "DEPLOY", "RENEW", "VALIDATE", "DISCOVER"};
    const Clm__Event *event = msg;
    const Clm__TaskChanged *task = event->task;
    if (!task)
        return status_set(st, CODE_INVALID_ARGUMENT, "task event without its task");
    const char *kind = task->has_kind && (size_t)task->kind < ARRAY_LEN(kinds) ? kinds[task->kind] : "";
    if (strcmp(short_name(event->subject), "task.finished") == 0 && task->agent_id && task->has_state)
        TRY(alert_of_task(worker, task, kind, arena, st));
    if (strcmp(short_name(event->subject), "task.order_rejected") == 0 && task->agent_id)
        TRY(raise(worker, ALERT_TASK_REFUSED, arena_printf(arena, "%s/order", task->agent_id), task->agent_id,
                  arena_printf(arena, "the host was given an order that it refused: %s",
                               task->message ? task->message : ""),
                  arena, st));
    bool more = task->message && *task->message;
    return note(worker, event, task->agent_id,
                arena_printf(arena, "%s%s%s%s", kind, task->break_glass ? " (break glass)" : "",
                             more ? ": " : "", more ? task->message : ""),
                arena, st);
}

/* What a scan found is the state of a host and no deed: that the task ended is what is written down. */
static enum code on_inventory(struct worker *worker, struct arena *arena, const void *msg, struct status *st)
{
    const Clm__Event *event = msg;
    if (!event->inventory || !event->has_occurred_at_ms)
        return status_set(st, CODE_INVALID_ARGUMENT, "inventory.reported is not complete");
    return inventory_take(worker->db, event->inventory, event->occurred_at_ms, arena, st);
}

/* A revocation list that is not renewed in time stops nobody, but somebody should look. */
static enum code on_crl(struct worker *worker, struct arena *arena, const void *msg, struct status *st)
{
    const Clm__Event *event = msg;
    bool late = strcmp(short_name(event->subject), "crl.late") == 0;
    const char *message = arena_printf(
        arena, "the revocation list of the CA \"%s\" cannot be renewed: see the log of clm-bootstrap",
        event->entity_id);
    const struct alert_change change = {
        .kind = ALERT_CRL_LATE, .entity = event->entity_id, .message = message};
    TRY(late ? alerts_raise(worker->db, &change, 1, clock_wall_ms(), arena, st)
             : alerts_resolve(worker->db, &change, 1, clock_wall_ms(), arena, st));
    return note(worker, event, NULL, event->entity_id, arena, st);
}

/* Whatever else services tell: it has happened, so it is written down. */
static enum code on_other(struct worker *worker, struct arena *arena, const void *msg, struct status *st)
{
    const Clm__Event *event = msg;
    return note(worker, event, NULL, NULL, arena, st);
}

/* Its two companions have changed the agent; this one is for the record. */
static enum code on_identity_adopted(struct worker *worker, struct arena *arena, const void *msg,
                                     struct status *st)
{
    const Clm__Event *event = msg;
    if (!event->entity_id || !event->identity_issued || !event->identity_issued->has_generation)
        return status_set(st, CODE_INVALID_ARGUMENT, "identity.adopted is not complete");
    return note(
        worker, event, event->entity_id,
        arena_printf(arena, "generation %u, issued after the backup", event->identity_issued->generation),
        arena, st);
}

const struct event_handler registry_events[] = {
    {"clm.event.bootstrap.identity.issued", true, on_identity_issued},
    {"clm.event.bootstrap.identity.confirmed", true, on_identity_confirmed},
    {"clm.event.bootstrap.identity.farewell", true, on_identity_farewell},
    {"clm.event.bootstrap.identity.adopted", true, on_identity_adopted},
    {"clm.event.bootstrap.token.>", true, on_token},
    {"clm.event.bootstrap.certificate.issued", false, on_certificate},
    {"clm.event.tasks.task.>", false, on_task},
    {"clm.event.tasks.inventory.reported", false, on_inventory},
    {"clm.event.bootstrap.identity.>", true, on_other},
    {"clm.event.bootstrap.crl.>", true, on_crl},
    {"clm.event.bootstrap.>", false, on_other},
    {"clm.event.tasks.>", false, on_other},
    {.subject = NULL},
};
