/*
 * The end of an agent. Its row goes, and with it whatever was only about it; its event, with the highest
 * version, tells gateways to cut it, bootstrap to void its tokens, tasks to cancel its work. What happened
 * stays in the audit log.
 */
#include "alerts.h"
#include "audit.h"
#include "base/id.h"
#include "db/outbox.h"
#include "safemode/safemode.h"
#include "store.h"

static enum code tell(struct db *tx, const struct cause *cause, const struct agent *agent,
                      struct arena *arena, struct status *st)
{
    char event_id[UUID_TEXT_SIZE];
    struct bytes body;
    uuid_v7(event_id);
    agent_event_encode(agent, cause, event_id, SUBJECT_AGENT_DELETED, arena, &body);
    TRY(outbox_add(tx, event_id, SUBJECT_AGENT_DELETED, body.data, body.len, st));
    const struct audit_record record = {
        .event_id = event_id,
        .action = "agent.deleted",
        .origin = "registry",
        .entity_id = agent->id,
        .agent_id = agent->id,
        .actor = cause->actor,
        .occurred_at_ms = cause->now_ms,
        .outcome = "DELETED",
        .detail = agent->hostname,
        .traceparent = cause->traceparent,
        .certificate_sha256 = agent->identity_fingerprint,
    };
    TRY(audit_note(tx, &record, 1, arena, st));
    const struct activity activity = {
        .occurred_at_ms = cause->now_ms,
        .event = "agent.deleted",
        .agent_id = agent->id,
        .actor = cause->actor,
        .message = agent->hostname,
    };
    return store_activity_add(tx, &activity, 1, arena, st);
}

enum code agent_delete_in(struct db *tx, const struct cause *cause, const char *id, struct arena *arena,
                          struct agent *ret, struct status *st)
{
    struct agent *agents;
    size_t n;
    TRY(store_agents_lock(tx, &id, 1, cause->timing, cause->now_ms, arena, &agents, &n, st));
    if (n == 0)
        return status_set(st, CODE_NOT_FOUND, "agent %s: there is none", id);
    TRY(agent_check_version(&agents[0], cause, st));
    *ret = agents[0];
    ret->version++;
    ret->disabled = true;
    ret->disabled_reason = DISABLED_DELETED;
    ret->status = AGENT_DISABLED;
    TRY(tell(tx, cause, ret, arena, st));
    TRY(alerts_resolve_of_agent(tx, id, 0, cause->now_ms, arena, st));
    return store_agent_delete(tx, id, arena, st);
}

enum code agent_delete(struct db *db, const struct cause *cause, const char *selector, const char *id,
                       struct arena *arena, struct agent *ret, struct status *st)
{
    CLEANUP(db_scope_end) struct db *tx = db;
    TRY(db_begin(tx, st));
    TRY(agent_get(tx, selector, id, arena, ret, st));
    TRY(agent_delete_in(tx, cause, id, arena, ret, st));
    return db_commit(tx, st);
}
