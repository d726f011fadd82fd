/*
 * The whole platform's safe mode. The flag and its event are one transaction, so that tasks holds changes
 * back at once; the agents' statuses follow in the sweep, batch by batch, each with its own event.
 */
#include "alerts.h"
#include "audit.h"
#include "base/id.h"
#include "db/outbox.h"
#include "safemode/safemode.h"
#include "store.h"

#define ENTITY "platform"

enum code platform_get(struct db *db, struct arena *arena, struct platform *ret, struct status *st)
{
    return store_platform_get(db, arena, ret, st);
}

static enum code tell(struct db *tx, const struct cause *cause, const struct platform *platform,
                      struct arena *arena, struct status *st)
{
    char event_id[UUID_TEXT_SIZE];
    struct bytes body;
    uuid_v7(event_id);
    platform_event_encode(platform, cause, event_id, arena, &body);
    TRY(outbox_add(tx, event_id, SUBJECT_PLATFORM_CHANGED, body.data, body.len, st));
    const struct audit_record record = {
        .event_id = event_id,
        .action = "platform.changed",
        .origin = "registry",
        .entity_id = ENTITY,
        .actor = cause->actor,
        .occurred_at_ms = cause->now_ms,
        .outcome = platform->safe_mode ? "SAFE_MODE" : "ONLINE",
        .detail = platform->reason,
        .traceparent = cause->traceparent,
    };
    TRY(audit_note(tx, &record, 1, arena, st));
    const struct activity activity = {
        .occurred_at_ms = cause->now_ms,
        .event = "platform.changed",
        .actor = cause->actor,
        .message =
            arena_printf(arena, "%s%s%s", record.outcome, *platform->reason ? ": " : "", platform->reason),
    };
    return store_activity_add(tx, &activity, 1, arena, st);
}

enum code platform_set_safe_mode(struct db *db, const struct cause *cause, bool on, const char *reason,
                                 struct arena *arena, struct platform *ret, struct status *st)
{
    CLEANUP(db_scope_end) struct db *tx = db;
    bool changed;
    TRY(db_begin(tx, st));
    TRY(store_platform_safe_mode(tx, on, reason, cause->actor, cause->now_ms, arena, ret, &changed, st));
    if (!changed)
        return CODE_OK;
    TRY(tell(tx, cause, ret, arena, st));
    const struct alert_change alert = {
        .kind = ALERT_SAFE_MODE,
        .entity = ENTITY,
        .message =
            arena_printf(arena, "the whole platform is in safe mode%s%s", *reason ? ": " : "", reason)};
    TRY(on ? alerts_raise(tx, &alert, 1, cause->now_ms, arena, st)
           : alerts_resolve(tx, &alert, 1, cause->now_ms, arena, st));
    return db_commit(tx, st);
}
