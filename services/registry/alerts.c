/* What becomes an alert, and an alert's life. Runs inside the transaction of what it is about. */
#include "store_alerts.h"

#include "audit.h"
#include "base/id.h"
#include "db/outbox.h"
#include "safemode/safemode.h"
#include "selector.h"

#include <string.h>

#define EXPIRING_MAX 10000 /* new ones in one round; the rest come with the next */
#define NOT_RESOLVED (1u << ALERT_OPEN | 1u << ALERT_ACKNOWLEDGED)
#define ALL_STATES   (NOT_RESOLVED | 1u << ALERT_RESOLVED)
#define SELF         "service:registry"

enum alert_state alert_state(const struct alert *alert)
{
    if (alert->resolved_at_ms >= 0)
        return ALERT_RESOLVED;
    return alert->acknowledged_at_ms >= 0 ? ALERT_ACKNOWLEDGED : ALERT_OPEN;
}

/* ---- telling: an event each, and a record of it ---- */

enum deed { RAISED, ACKNOWLEDGED, RESOLVED };
#define SUBJECT_PREFIX "clm.event.registry."
static const char *const deeds[] = {
    [RAISED] = "alert.raised",
    [ACKNOWLEDGED] = "alert.acknowledged",
    [RESOLVED] = "alert.resolved",
};

static struct audit_record record_of(const struct alert *alert, const struct cause *cause, enum deed deed,
                                     const char *event_id)
{
    return (struct audit_record){
        .event_id = event_id,
        .action = deeds[deed],
        .origin = "registry",
        .entity_id = alert->id,
        .agent_id = alert->agent_id,
        .actor = cause->actor,
        .occurred_at_ms = cause->now_ms,
        .outcome = "OK",
        .detail = alert->message,
        .traceparent = cause->traceparent,
    };
}

static enum code tell(struct db *tx, const struct cause *cause, enum deed deed, const struct alert *alerts,
                      size_t n, struct arena *arena, struct status *st)
{
    if (n == 0)
        return CODE_OK;
    const char *subject = arena_printf(arena, SUBJECT_PREFIX "%s", deeds[deed]);
    const char **ids = arena_array(arena, n, sizeof(*ids));
    const char **subjects = arena_array(arena, n, sizeof(*subjects));
    const void **bodies = arena_array(arena, n, sizeof(*bodies));
    size_t *lens = arena_array(arena, n, sizeof(*lens));
    struct audit_record *records = arena_array(arena, n, sizeof(*records));
    for (size_t i = 0; i < n; i++) {
        char id[UUID_TEXT_SIZE];
        struct bytes body;
        uuid_v7(id);
        ids[i] = arena_strdup(arena, id);
        subjects[i] = subject;
        alert_event_encode(&alerts[i], cause, ids[i], subject, arena, &body);
        bodies[i] = body.data;
        lens[i] = body.len;
        records[i] = record_of(&alerts[i], cause, deed, ids[i]);
    }
    TRY(outbox_add_many(tx, n, ids, subjects, bodies, lens, st));
    return audit_note(tx, records, n, arena, st);
}

static struct cause by_us(int64_t now_ms)
{
    return (struct cause){.actor = SELF, .now_ms = now_ms};
}

enum code alerts_tell_resolved(struct db *tx, const struct alert *alerts, size_t n, int64_t now_ms,
                               struct arena *arena, struct status *st)
{
    const struct cause cause = by_us(now_ms);
    return tell(tx, &cause, RESOLVED, alerts, n, arena, st);
}

/* ---- raising and resolving ---- */

enum code alerts_raise(struct db *tx, const struct alert_change *changes, size_t n, int64_t now_ms,
                       struct arena *arena, struct status *st)
{
    if (n == 0)
        return CODE_OK;
    const struct cause cause = by_us(now_ms);
    struct alert *raised;
    size_t n_raised;
    const char **ids = arena_array(arena, n, sizeof(*ids));
    for (size_t i = 0; i < n; i++) {
        char id[UUID_TEXT_SIZE];
        uuid_v7(id);
        ids[i] = arena_strdup(arena, id);
    }
    TRY(store_alerts_raise(tx, ids, changes, n, now_ms, arena, &raised, &n_raised, st));
    return tell(tx, &cause, RAISED, raised, n_raised, arena, st);
}

enum code alerts_raise_alone(struct db *db, const struct alert_change *changes, size_t n, int64_t now_ms,
                             struct arena *arena, struct status *st)
{
    if (n == 0)
        return CODE_OK;
    CLEANUP(db_scope_end) struct db *tx = db;
    TRY(db_begin(tx, st));
    TRY(alerts_raise(tx, changes, n, now_ms, arena, st));
    return db_commit(tx, st);
}

enum code alerts_resolve(struct db *tx, const struct alert_change *changes, size_t n, int64_t now_ms,
                         struct arena *arena, struct status *st)
{
    struct alert *resolved;
    size_t n_resolved;
    if (n == 0)
        return CODE_OK;
    TRY(store_alerts_resolve(tx, changes, n, now_ms, SELF, arena, &resolved, &n_resolved, st));
    return alerts_tell_resolved(tx, resolved, n_resolved, now_ms, arena, st);
}

enum code alerts_resolve_of_agent(struct db *tx, const char *agent_id, enum alert_kind kind, int64_t now_ms,
                                  struct arena *arena, struct status *st)
{
    struct alert *resolved;
    size_t n;
    TRY(store_alerts_resolve_of_agent(tx, agent_id, kind, now_ms, SELF, arena, &resolved, &n, st));
    return alerts_tell_resolved(tx, resolved, n, now_ms, arena, st);
}

enum code alerts_resolve_restored(struct db *tx, int64_t now_ms, struct arena *arena, struct status *st)
{
    struct alert *resolved;
    size_t n;
    TRY(store_alerts_resolve_restored(tx, now_ms, SELF, arena, &resolved, &n, st));
    return alerts_tell_resolved(tx, resolved, n, now_ms, arena, st);
}

enum code alerts_quiet(struct db *db, int64_t now_ms, struct arena *arena, struct status *st)
{
    struct alert *resolved;
    size_t n;
    CLEANUP(db_scope_end) struct db *tx = db;
    TRY(db_begin(tx, st));
    TRY(store_alerts_quiet(tx, now_ms - ALERTS_QUIET_MS, now_ms, SELF, arena, &resolved, &n, st));
    TRY(alerts_tell_resolved(tx, resolved, n, now_ms, arena, st));
    return db_commit(tx, st);
}

/* ---- agents ---- */

/* "CLOCK: the host's clock is …; it ends by itself, …" */
static const char *reason_text(const char *name, struct arena *arena)
{
    const struct safe_reason_info *info = safe_reason_find(name);
    return info ? arena_printf(arena, "%s: %s; it ends %s", name, info->means, info->ends) : name;
}

static struct alert_change of_agent(const struct agent *agent, enum alert_kind kind, const char *message)
{
    return (struct alert_change){
        .kind = kind, .entity = agent->id, .agent_id = agent->id, .message = message};
}

enum code alerts_of_agents(struct db *tx, struct agent *const *agents, const struct agent_before *before,
                           size_t n, int64_t now_ms, struct arena *arena, struct status *st)
{
    static const struct {
        enum agent_status status;
        enum alert_kind kind;
        const char *message;
    } rules[] = {
        {AGENT_OFFLINE, ALERT_AGENT_OFFLINE, "the agent has not been heard"},
        {AGENT_EXPIRED, ALERT_IDENTITY_EXPIRED,
         "the identity ended; only a fresh token brings the agent back"},
    };
    struct alert_change *raise = arena_array(arena, 4 * n + 1, sizeof(*raise));
    struct alert_change *resolve = arena_array(arena, 4 * n + 1, sizeof(*resolve));
    size_t n_raise = 0, n_resolve = 0;
    for (size_t i = 0; i < n; i++) {
        const struct agent *agent = agents[i];
        for (size_t k = 0; k < ARRAY_LEN(rules); k++) {
            bool is = agent->status == rules[k].status, was = before[i].status == rules[k].status;
            if (is && !was)
                raise[n_raise++] = of_agent(agent, rules[k].kind, rules[k].message);
            if (was && !is)
                resolve[n_resolve++] = of_agent(agent, rules[k].kind, NULL);
        }
        const struct {
            enum alert_kind kind;
            const char *was, *is;
        } held[] = {
            {ALERT_SAFE_MODE, before[i].safe_mode_reason, agent_safe_mode_reason(agent)},
            {ALERT_CLONE, before[i].frozen_reason, agent->frozen_reason ? agent->frozen_reason : ""},
        };
        for (size_t k = 0; k < ARRAY_LEN(held); k++) {
            if (strcmp(held[k].was, held[k].is) == 0)
                continue;
            if (*held[k].is)
                raise[n_raise++] = of_agent(agent, held[k].kind, reason_text(held[k].is, arena));
            else
                resolve[n_resolve++] = of_agent(agent, held[k].kind, NULL);
        }
    }
    TRY(alerts_raise(tx, raise, n_raise, now_ms, arena, st));
    return alerts_resolve(tx, resolve, n_resolve, now_ms, arena, st);
}

/* ---- tasks ---- */

enum code alerts_of_task(struct db *tx, const struct task_ended *task, int64_t now_ms, struct arena *arena,
                         struct status *st)
{
    const char *target = task->target ? task->target : "";
    const char *of_kind = arena_printf(arena, "%s/%s/%s", task->agent_id, task->kind, target);
    const char *of_target = arena_printf(arena, "%s/served/%s", task->agent_id, target);
    const char *message = arena_printf(arena, "%s%s%s: %s", task->kind, *target ? " of " : "", target,
                                       task->message ? task->message : "");
    struct alert_change raise[2], resolve[3];
    size_t n_raise = 0, n_resolve = 0;
    if (task->end == TASK_END_FAILED)
        raise[n_raise++] = (struct alert_change){task->refused ? ALERT_TASK_REFUSED : ALERT_TASK_FAILED,
                                                 of_kind, task->agent_id, message};
    if (task->end == TASK_END_SUCCEEDED || task->end == TASK_END_UNVERIFIED) {
        resolve[n_resolve++] = (struct alert_change){.kind = ALERT_TASK_FAILED, .entity = of_kind};
        resolve[n_resolve++] = (struct alert_change){.kind = ALERT_TASK_REFUSED, .entity = of_kind};
    }
    if (task->served_not_intended || task->end == TASK_END_UNVERIFIED)
        raise[n_raise++] =
            (struct alert_change){ALERT_SERVED_NOT_INTENDED, of_target, task->agent_id, message};
    else if (task->end == TASK_END_SUCCEEDED && (task->looked || task->changed))
        resolve[n_resolve++] = (struct alert_change){.kind = ALERT_SERVED_NOT_INTENDED, .entity = of_target};
    TRY(alerts_raise(tx, raise, n_raise, now_ms, arena, st));
    return alerts_resolve(tx, resolve, n_resolve, now_ms, arena, st);
}

enum code alerts_expiring(struct db *db, int64_t now_ms, struct arena *arena, struct status *st)
{
    struct alert_change *expiring;
    struct alert *renewed;
    size_t n, n_renewed;
    int64_t until_ms = now_ms + DASHBOARD_EXPIRING_MS;
    CLEANUP(db_scope_end) struct db *tx = db;
    TRY(db_begin(tx, st));
    TRY(store_alerts_expiring(tx, now_ms, until_ms, EXPIRING_MAX, arena, &expiring, &n, st));
    TRY(alerts_raise(tx, expiring, n, now_ms, arena, st));
    TRY(store_alerts_renewed(tx, now_ms, until_ms, SELF, arena, &renewed, &n_renewed, st));
    TRY(alerts_tell_resolved(tx, renewed, n_renewed, now_ms, arena, st));
    return db_commit(tx, st);
}

enum code alerts_trim(struct db *db, int64_t now_ms, struct arena *arena, struct status *st)
{
    return store_alerts_trim(db, now_ms - ALERTS_KEEP_MS, arena, st);
}

/* ---- operators ---- */

enum code alerts_list(struct db *db, const struct alert_filter *filter, size_t max, struct arena *arena,
                      struct alert **ret, size_t *ret_n, struct status *st)
{
    struct alert_filter full = *filter;
    struct label_terms terms;
    TRY(label_terms_read(filter->selector, NULL, 0, arena, &terms, st));
    if (full.state_bits == 0)
        full.state_bits = NOT_RESOLVED;
    return store_alerts_select(db, &terms, &full, max, arena, ret, ret_n, st);
}

static enum code get(struct db *db, const char *selector, const char *id, struct arena *arena,
                     struct alert *ret, struct status *st)
{
    const struct alert_filter one = {.selector = selector, .id = id, .state_bits = ALL_STATES};
    struct alert *alerts;
    size_t n;
    TRY(alerts_list(db, &one, 1, arena, &alerts, &n, st));
    if (n == 0)
        return status_set(st, CODE_NOT_FOUND, "alert %s: there is none", id);
    *ret = alerts[0];
    return CODE_OK;
}

static enum code close_one(struct db *db, const struct cause *cause, const char *selector, const char *id,
                           bool resolve, struct arena *arena, struct alert *ret, struct status *st)
{
    CLEANUP(db_scope_end) struct db *tx = db;
    enum deed deed = resolve ? RESOLVED : ACKNOWLEDGED;
    struct alert *closed;
    size_t n;
    TRY(db_begin(tx, st));
    TRY(get(tx, selector, id, arena, ret, st));
    TRY(store_alert_close(tx, id, resolve, cause->actor, cause->now_ms, arena, &closed, &n, st));
    if (n == 0)
        return CODE_OK;
    TRY(tell(tx, cause, deed, closed, n, arena, st));
    const struct activity activity = {
        .occurred_at_ms = cause->now_ms,
        .event = deeds[deed],
        .agent_id = ret->agent_id,
        .actor = cause->actor,
        .message = ret->message,
    };
    TRY(activity_add(tx, &activity, 1, arena, st));
    TRY(get(tx, selector, id, arena, ret, st));
    return db_commit(tx, st);
}

enum code alert_acknowledge(struct db *db, const struct cause *cause, const char *selector, const char *id,
                            struct arena *arena, struct alert *ret, struct status *st)
{
    return close_one(db, cause, selector, id, false, arena, ret, st);
}

enum code alert_resolve(struct db *db, const struct cause *cause, const char *selector, const char *id,
                        struct arena *arena, struct alert *ret, struct status *st)
{
    return close_one(db, cause, selector, id, true, arena, ret, st);
}
