/*
 * What stands against an agent whatever it says of itself: an operator's safe mode, a copy of its identity, a
 * second key for its token. And the ways out: each only the one that its reason names.
 */
#include <inttypes.h>
#include <string.h>

#include "base/id.h"
#include "base/log.h"
#include "safemode/safemode.h"
#include "store.h"
#include "store_idempotency.h"

#define DAY_MS (24LL * 3600 * 1000)

/* ---- an operator's safe mode
 * ----------------------------------------------------------------------------------------- */

static enum code set_safe_mode(struct agent *agent, bool *dirty, bool *heard, void *arg, struct status *st)
{
    (void)heard;
    const bool *on = arg;
    const char *reason =
        agent->status == AGENT_SAFE_MODE ? agent_reason(agent) : agent_safe_mode_reason(agent);
    const struct safe_reason_info *info = safe_reason_find(reason);
    if (!*on && !agent->operator_safe_mode && *reason)
        return status_set(st, CODE_FAILED_PRECONDITION, "agent %s is in safe mode by %s, which ends %s",
                          agent->id, reason, info ? info->ends : "on the host");
    *dirty = agent->operator_safe_mode != *on;
    agent->operator_safe_mode = *on;
    return CODE_OK;
}

enum code agent_set_safe_mode(struct db *db, const struct cause *cause, const char *selector, const char *id,
                              bool on, struct arena *arena, struct agent *ret, struct status *st)
{
    return agent_change_one(db, cause, selector, id, set_safe_mode, &on, arena, ret, st);
}

/* ---- frozen identities
 * ----------------------------------------------------------------------------------------------- */

static enum code set_frozen(struct agent *agent, bool *dirty, bool *heard, void *arg, struct status *st)
{
    (void)heard;
    (void)st;
    const char *reason = arg;
    if (strcmp(agent->frozen_reason, FROZEN_CLONE) == 0 || strcmp(agent->frozen_reason, reason) == 0)
        return CODE_OK;
    agent->frozen_reason = reason;
    *dirty = true;
    log_error("identity frozen", "agent", agent->id, "reason", reason, NULL);
    return CODE_OK;
}

enum code agent_freeze(struct db *tx, const struct cause *cause, const char *id, const char *reason,
                       struct arena *arena, struct status *st)
{
    return agents_change(tx, cause, &id, 1, set_frozen, (void *)(uintptr_t)reason, arena, NULL, NULL, st);
}

static enum code set_unfrozen(struct agent *agent, bool *dirty, bool *heard, void *arg, struct status *st)
{
    (void)heard;
    (void)arg;
    if (strcmp(agent->frozen_reason, FROZEN_CLONE) == 0)
        return status_set(st, CODE_FAILED_PRECONDITION,
                          "agent %s: its identity was copied; only a fresh token ends that", agent->id);
    *dirty = agent_frozen(agent);
    agent->frozen_reason = "";
    return CODE_OK;
}

enum code agent_unfreeze(struct db *db, const struct cause *cause, const char *selector, const char *id,
                         struct arena *arena, struct agent *ret, struct status *st)
{
    return agent_change_one(db, cause, selector, id, set_unfrozen, NULL, arena, ret, st);
}

static enum code set_superseded(struct agent *agent, bool *dirty, bool *heard, void *arg, struct status *st)
{
    const struct superseded *seen = arg;
    if (seen->generation >= agent->min_generation || seen->generation < agent->token_generation)
        return CODE_OK;
    return set_frozen(agent, dirty, heard, (void *)(uintptr_t)FROZEN_CLONE, st);
}

enum code agents_superseded(struct db *db, const struct cause *cause, const struct superseded *seen, size_t n,
                            struct arena *arena, struct status *st)
{
    for (size_t i = 0; i < n; i++) {
        struct superseded one = seen[i];
        CLEANUP(db_scope_end) struct db *tx = db;
        TRY(db_begin(tx, st));
        TRY(agents_change(tx, cause, &one.agent_id, 1, set_superseded, &one, arena, NULL, NULL, st));
        TRY(db_commit(tx, st));
    }
    return CODE_OK;
}

/* ---- fresh tokens
 * ---------------------------------------------------------------------------------------------------- */

enum code agent_may_have_token(const struct agent *agent, bool force, int64_t now_ms, struct status *st)
{
    if (agent->disabled && !agent_is_over(agent))
        return status_set(st, CODE_FAILED_PRECONDITION, "agent %s is disabled: enable it first", agent->id);
    bool alive = agent->last_heartbeat_at_ms >= 0 && now_ms - agent->last_heartbeat_at_ms < DAY_MS;
    if (alive && !force && !agent->disabled && !agent_frozen(agent) && agent->status != AGENT_EXPIRED)
        return status_set(st, CODE_FAILED_PRECONDITION,
                          "agent %s was online in the last day: a fresh token would replace it; say force to "
                          "mean it",
                          agent->id);
    return CODE_OK;
}

enum code agent_token_begin(struct db *db, const struct cause *cause, const char *selector,
                            const char *agent_id, bool force, struct arena *arena, struct agent *ret,
                            const char **ret_token_id, struct status *st)
{
    char *id = arena_alloc(arena, UUID_TEXT_SIZE);
    uuid_v7(id);
    CLEANUP(db_scope_end) struct db *tx = db;
    TRY(db_begin(tx, st));
    TRY(agent_get(tx, selector, agent_id, arena, ret, st));
    TRY(store_idempotency_claim(tx, cause, id, arena, ret_token_id, st));
    if (strcmp(*ret_token_id, id) == 0)
        TRY(agent_may_have_token(ret, force, cause->now_ms, st));
    return db_commit(tx, st);
}

static enum code set_readmitted(struct agent *agent, bool *dirty, bool *heard, void *arg, struct status *st)
{
    (void)heard;
    (void)st;
    const int64_t *next = arg;
    bool over = agent_is_over(agent), barred = over || agent_frozen(agent);
    *dirty = true;
    if (agent->token_generation < *next)
        agent->token_generation = *next;
    if (!barred)
        return CODE_OK;
    if (over) {
        agent->disabled = false;
        agent->disabled_reason = "";
    }
    agent->frozen_reason = "";
    if (agent->min_generation < *next)
        agent->min_generation = *next;
    return CODE_OK;
}

enum code agent_readmit(struct db *db, const struct cause *cause, const char *selector, const char *id,
                        int64_t next_generation, struct arena *arena, struct agent *ret, struct status *st)
{
    CLEANUP(db_scope_end) struct db *tx = db;
    struct agent seen, *agents;
    size_t n;
    TRY(db_begin(tx, st));
    TRY(agent_get(tx, selector, id, arena, &seen, st));
    TRY(agents_change(tx, cause, &id, 1, set_readmitted, &next_generation, arena, &agents, &n, st));
    if (n == 0)
        return status_set(st, CODE_NOT_FOUND, "agent %s: there is none", id);
    TRY(store_instances_forget(tx, id, arena, st));
    TRY(db_commit(tx, st));
    *ret = agents[0];
    return CODE_OK;
}
