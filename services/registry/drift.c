/* See drift.h. */
#include "drift.h"

#include <string.h>

#include "audit.h"
#include "base/id.h"
#include "db/outbox.h"
#include "store_alerts.h"

static enum code tell(struct db *tx, const struct cause *cause, const struct drift_change *changes, size_t n,
                      struct arena *arena, struct status *st)
{
    const char **ids = arena_array(arena, n + 1, sizeof(*ids));
    const char **subjects = arena_array(arena, n + 1, sizeof(*subjects));
    const void **bodies = arena_array(arena, n + 1, sizeof(*bodies));
    size_t *lens = arena_array(arena, n + 1, sizeof(*lens));
    struct activity *activity = arena_array(arena, n + 1, sizeof(*activity));
    struct audit_record *records = arena_array(arena, n + 1, sizeof(*records));
    for (size_t i = 0; i < n; i++) {
        char id[UUID_TEXT_SIZE];
        struct bytes body;
        const char *action = changes[i].mended ? "certificate.mended" : "certificate.drifted";
        const char *actor = arena_printf(arena, "agent:%s", changes[i].agent_id);
        uuid_v7(id);
        ids[i] = arena_strdup(arena, id);
        subjects[i] = changes[i].mended ? SUBJECT_MENDED : SUBJECT_DRIFTED;
        drift_event_encode(&changes[i], cause, ids[i], arena, &body);
        bodies[i] = body.data;
        lens[i] = body.len;
        activity[i] = (struct activity){.occurred_at_ms = cause->now_ms,
                                        .event = action,
                                        .agent_id = changes[i].agent_id,
                                        .actor = actor,
                                        .message = changes[i].message};
        records[i] = (struct audit_record){.event_id = ids[i],
                                           .action = action,
                                           .origin = "registry",
                                           .entity_id = changes[i].entity,
                                           .agent_id = changes[i].agent_id,
                                           .actor = actor,
                                           .occurred_at_ms = cause->now_ms,
                                           .outcome = changes[i].mended ? "OK" : "DIFFERS",
                                           .detail = changes[i].message};
    }
    TRY(outbox_add_many(tx, n, ids, subjects, bodies, lens, st));
    TRY(audit_note(tx, records, n, arena, st));
    return activity_add(tx, activity, n, arena, st);
}

/* An agent's drifts stand together. One that it names twice would fail everybody's: the first says it. */
static bool said_before(const struct drift *drifts, size_t index)
{
    for (size_t i = index; i > 0 && strcmp(drifts[i - 1].agent_id, drifts[index].agent_id) == 0; i--) {
        if (strcmp(drifts[i - 1].target, drifts[index].target) == 0)
            return true;
    }
    return false;
}

static size_t wanted_alerts(const struct drift *drifts, size_t n, struct arena *arena,
                            struct alert_change **ret)
{
    size_t n_wanted = 0;
    *ret = arena_array(arena, n + 1, sizeof(**ret));
    for (size_t i = 0; i < n; i++) {
        if (said_before(drifts, i))
            continue;
        (*ret)[n_wanted++] = (struct alert_change){
            .kind = ALERT_SERVED_DIFFERS,
            .entity = arena_printf(arena, "%s/%s", drifts[i].agent_id, drifts[i].target),
            .agent_id = drifts[i].agent_id,
            .message = arena_printf(arena, "%s: %s", drifts[i].target, drifts[i].reason)};
    }
    return n_wanted;
}

enum code drifts_report(struct db *db, const struct cause *cause, const char *const *agents, size_t n_agents,
                        const struct drift *drifts, size_t n_drifts, struct arena *arena, struct status *st)
{
    struct alert_change *wanted, *raise;
    struct alert *mended;
    size_t n_raise, n_mended;
    if (n_agents == 0)
        return CODE_OK;
    size_t n_wanted = wanted_alerts(drifts, n_drifts, arena, &wanted);
    CLEANUP(db_scope_end) struct db *tx = db;
    TRY(db_begin(tx, st));
    TRY(store_alerts_mended(tx, ALERT_SERVED_DIFFERS, agents, n_agents, wanted, n_wanted, cause->now_ms,
                            "service:registry", arena, &mended, &n_mended, st));
    TRY(store_alerts_unknown(tx, wanted, n_wanted, arena, &raise, &n_raise, st));
    if (n_mended + n_raise == 0)
        return CODE_OK;
    TRY(alerts_tell_resolved(tx, mended, n_mended, cause->now_ms, arena, st));
    TRY(alerts_raise(tx, raise, n_raise, cause->now_ms, arena, st));
    struct drift_change *changes = arena_array(arena, n_mended + n_raise, sizeof(*changes));
    for (size_t i = 0; i < n_mended; i++)
        changes[i] = (struct drift_change){.agent_id = mended[i].agent_id,
                                           .entity = mended[i].entity,
                                           .message = mended[i].message,
                                           .mended = true};
    for (size_t i = 0; i < n_raise; i++)
        changes[n_mended + i] = (struct drift_change){
            .agent_id = raise[i].agent_id, .entity = raise[i].entity, .message = raise[i].message};
    TRY(tell(tx, cause, changes, n_mended + n_raise, arena, st));
    return db_commit(tx, st);
}
