/*
 * Every change of an agent goes through agents_change: lock, mutate, derive the status, store with a raised
 * version, count, and tell it in an event and in the activity, in one transaction. A handful of statements
 * whatever the number of agents.
 */
#include <string.h>

#include "alerts.h"
#include "audit.h"
#include "base/id.h"
#include "db/outbox.h"
#include "safemode/safemode.h"
#include "selector.h"
#include "store.h"

static enum agent_status derive(const struct agent *agent, bool heard_now, int64_t now_ms)
{
    /* Who was offline stays so until it is heard, even while a new window runs. */
    bool silent = !heard_now && (agent->status == AGENT_OFFLINE || now_ms >= agent->offline_at_ms);
    const struct status_facts facts = {
        .disabled = agent->disabled,
        .identity_ended = agent->identity_not_after_ms >= 0 && agent->identity_not_after_ms <= now_ms,
        .heard = agent->last_heartbeat_at_ms >= 0,
        .silent = silent,
        .safe_mode = agent_in_safe_mode(agent) || agent->platform_safe_mode,
    };
    return status_derive(&facts);
}

static enum code tell(struct db *tx, const struct cause *cause, struct agent *const *changed, size_t n,
                      const char *subject, struct arena *arena, struct status *st)
{
    struct audit_record *records = arena_array(arena, n, sizeof(*records));
    const char **ids = arena_array(arena, n, sizeof(*ids));
    const char **subjects = arena_array(arena, n, sizeof(*subjects));
    const void **bodies = arena_array(arena, n, sizeof(*bodies));
    size_t *lens = arena_array(arena, n, sizeof(*lens));
    struct activity *activity = arena_array(arena, n, sizeof(*activity));
    for (size_t i = 0; i < n; i++) {
        char id[UUID_TEXT_SIZE];
        uuid_v7(id);
        ids[i] = arena_strdup(arena, id);
        subjects[i] = subject;
        struct bytes body;
        agent_event_encode(changed[i], cause, ids[i], subject, arena, &body);
        bodies[i] = body.data;
        lens[i] = body.len;
        const char *reason = cause->what ? cause->what : agent_reason(changed[i]);
        activity[i] = (struct activity){
            .occurred_at_ms = cause->now_ms,
            .event = "agent.changed",
            .agent_id = changed[i]->id,
            .actor = cause->actor,
            .message = arena_printf(arena, "%s%s%s", agent_status_name(changed[i]->status),
                                    *reason ? ": " : "", reason),
        };
        records[i] = (struct audit_record){
            .event_id = ids[i],
            .action = "agent.changed",
            .origin = "registry",
            .entity_id = changed[i]->id,
            .agent_id = changed[i]->id,
            .actor = cause->actor && *cause->actor ? cause->actor : "service:registry",
            .occurred_at_ms = cause->now_ms,
            .outcome = agent_status_name(changed[i]->status),
            .detail = reason,
            .traceparent = cause->traceparent,
            .certificate_sha256 = changed[i]->identity_fingerprint,
        };
    }
    TRY(outbox_add_many(tx, n, ids, subjects, bodies, lens, st));
    TRY(audit_note(tx, records, n, arena, st));
    return store_activity_add(tx, activity, n, arena, st);
}

enum code agents_change(struct db *tx, const struct cause *cause, const char *const *ids, size_t n,
                        agent_mutate *mutate, void *arg, struct arena *arena, struct agent **ret,
                        size_t *ret_n, struct status *st)
{
    struct agent *agents;
    size_t n_agents;
    TRY(store_agents_lock(tx, ids, n, cause->timing, cause->now_ms, arena, &agents, &n_agents, st));
    struct agent **changed = arena_array(arena, n_agents + 1, sizeof(struct agent *));
    enum agent_status *before = arena_array(arena, n_agents + 1, sizeof(*before));
    struct agent_before *was_so = arena_array(arena, n_agents + 1, sizeof(*was_so));
    size_t n_changed = 0;
    for (size_t i = 0; i < n_agents; i++) {
        struct agent *agent = &agents[i];
        bool dirty = false, heard = false;
        const struct agent_before was_so_far = {agent->status, agent_safe_mode_reason(agent),
                                                agent->frozen_reason ? agent->frozen_reason : ""};
        if (mutate)
            TRY(mutate(agent, &dirty, &heard, arg, st));
        enum agent_status was = agent->status;
        agent->status = derive(agent, heard, cause->now_ms);
        if (agent->status == was && !dirty)
            continue;
        agent->version++;
        if (agent->status != was)
            agent->status_since_ms = cause->now_ms;
        before[n_changed] = was;
        was_so[n_changed] = was_so_far;
        changed[n_changed++] = agent;
    }
    if (n_changed > 0) {
        TRY(store_agents_save(tx, changed, before, n_changed, arena, st));
        TRY(tell(tx, cause, changed, n_changed, SUBJECT_AGENT_CHANGED, arena, st));
        TRY(alerts_of_agents(tx, changed, was_so, n_changed, cause->now_ms, arena, st));
    }
    if (ret) {
        *ret = agents;
        *ret_n = n_agents;
    }
    return CODE_OK;
}

enum code agent_check_version(const struct agent *agent, const struct cause *cause, struct status *st)
{
    if (cause->if_version == 0 || agent->version == cause->if_version)
        return CODE_OK;
    return status_set(st, CODE_ABORTED,
                      "agent %s has changed since: it is version %lld, not %lld; read it again", agent->id,
                      (long long)agent->version, (long long)cause->if_version);
}

struct guarded {
    const struct cause *cause;
    const struct label_terms *terms;
    agent_mutate *mutate;
    void *arg;
};

/* What was true before the lock may not be so any more. */
static enum code mutate_guarded(struct agent *agent, bool *dirty, bool *heard, void *arg, struct status *st)
{
    const struct guarded *guarded = arg;
    if (!label_terms_hold(guarded->terms, agent))
        return status_set(st, CODE_NOT_FOUND, "agent %s: there is none", agent->id);
    TRY(agent_check_version(agent, guarded->cause, st));
    return guarded->mutate ? guarded->mutate(agent, dirty, heard, guarded->arg, st) : CODE_OK;
}

enum code agent_change_in(struct db *tx, const struct cause *cause, const char *selector, const char *id,
                          agent_mutate *mutate, void *arg, struct arena *arena, struct agent *ret,
                          struct status *st)
{
    struct label_terms terms;
    TRY(label_terms_read(selector, NULL, 0, arena, &terms, st));
    struct guarded guarded = {cause, &terms, mutate, arg};
    struct agent *agents;
    size_t n;
    TRY(agents_change(tx, cause, &id, 1, mutate_guarded, &guarded, arena, &agents, &n, st));
    if (n == 0)
        return status_set(st, CODE_NOT_FOUND, "agent %s: there is none", id);
    *ret = agents[0];
    return CODE_OK;
}

enum code agent_change_one(struct db *db, const struct cause *cause, const char *selector, const char *id,
                           agent_mutate *mutate, void *arg, struct arena *arena, struct agent *ret,
                           struct status *st)
{
    CLEANUP(db_scope_end) struct db *tx = db;
    TRY(db_begin(tx, st));
    TRY(agent_change_in(tx, cause, selector, id, mutate, arg, arena, ret, st));
    return db_commit(tx, st);
}

/* ---- disable, enable
 * ---------------------------------------------------------------------------------------------- */

static enum code set_disabled(struct agent *agent, bool *dirty, bool *heard, void *arg, struct status *st)
{
    (void)heard;
    (void)st;
    const char *reason = arg;
    if (agent->disabled && strcmp(agent->disabled_reason, reason) == 0)
        return CODE_OK;
    /* What is over stays so: only a fresh token leads out. But a farewell does not keep an identity off the
     * revocation list. */
    if (agent_is_over(agent) &&
        (strcmp(agent->disabled_reason, DISABLED_REVOKED) == 0 || strcmp(reason, DISABLED_REVOKED) != 0))
        return CODE_OK;
    agent->disabled = *dirty = true;
    agent->disabled_reason = reason;
    return CODE_OK;
}

enum code disabled_reason_check(const char *reason, struct status *st)
{
    static const char *const taken[] = {DISABLED_REVOKED, DISABLED_FAREWELL, DISABLED_DELETED};
    for (size_t i = 0; i < ARRAY_LEN(taken); i++)
        if (strcmp(reason, taken[i]) == 0)
            return status_set(st, CODE_INVALID_ARGUMENT,
                              "reason: \"%s\" has a meaning of its own; say it in other words, or revoke or "
                              "delete the agent",
                              reason);
    return CODE_OK;
}

enum code agent_disable(struct db *db, const struct cause *cause, const char *selector, const char *id,
                        const char *reason, struct arena *arena, struct agent *ret, struct status *st)
{
    return agent_change_one(db, cause, selector, id, set_disabled, (void *)(uintptr_t)reason, arena, ret, st);
}

static enum code set_enabled(struct agent *agent, bool *dirty, bool *heard, void *arg, struct status *st)
{
    (void)heard;
    (void)arg;
    if (!agent->disabled)
        return CODE_OK;
    if (agent_is_over(agent))
        return status_set(st, CODE_FAILED_PRECONDITION, "agent %s: %s; only a fresh token brings it back",
                          agent->id,
                          strcmp(agent->disabled_reason, DISABLED_FAREWELL) == 0
                              ? "it was removed from its host and said farewell"
                              : "its identity was revoked");
    agent->disabled = false;
    agent->disabled_reason = "";
    *dirty = true;
    return CODE_OK;
}

enum code agent_enable(struct db *db, const struct cause *cause, const char *selector, const char *id,
                       struct arena *arena, struct agent *ret, struct status *st)
{
    return agent_change_one(db, cause, selector, id, set_enabled, NULL, arena, ret, st);
}

bool agent_is_over(const struct agent *agent)
{
    return agent->disabled && (strcmp(agent->disabled_reason, DISABLED_REVOKED) == 0 ||
                               strcmp(agent->disabled_reason, DISABLED_FAREWELL) == 0);
}

static enum code set_farewell(struct agent *agent, bool *dirty, bool *heard, void *arg, struct status *st)
{
    const int64_t *generation = arg;
    if (*generation < agent->token_generation || *generation < agent->min_generation)
        return CODE_OK;
    return set_disabled(agent, dirty, heard, (void *)(uintptr_t)DISABLED_FAREWELL, st);
}

enum code agent_farewell(struct db *tx, const struct cause *cause, const char *id, int64_t generation,
                         struct arena *arena, struct status *st)
{
    return agents_change(tx, cause, &id, 1, set_farewell, &generation, arena, NULL, NULL, st);
}

/* ---- what the CA says
 * ---------------------------------------------------------------------------------------------- */

struct issued {
    struct pending_identity what;
    bool pending; /* out: the agent has another one, and it is not known that it uses this */
};

static bool is_pending(const struct agent *agent, const struct pending_identity *what)
{
    return what->generation > agent->min_generation && agent->identity_generation >= 0 &&
           what->generation > agent->identity_generation;
}

/* A pending certificate may have been replaced under the same generation; later events come later. */
static bool take_identity(struct agent *agent, const struct pending_identity *what)
{
    bool newer = what->generation > agent->identity_generation;
    bool replaced =
        what->generation == agent->identity_generation &&
        (!agent->identity_fingerprint || strcmp(agent->identity_fingerprint, what->fingerprint) != 0);
    if (!newer && !replaced)
        return false;
    agent->identity_generation = what->generation;
    agent->identity_fingerprint = what->fingerprint;
    agent->identity_not_after_ms = what->not_after_ms;
    return true;
}

static enum code set_issued(struct agent *agent, bool *dirty, bool *heard, void *arg, struct status *st)
{
    (void)heard;
    (void)st;
    struct issued *issued = arg;
    issued->pending = is_pending(agent, &issued->what);
    *dirty = !issued->pending && take_identity(agent, &issued->what);
    return CODE_OK;
}

enum code agent_identity_issued(struct db *tx, const struct cause *cause, const char *id, int64_t generation,
                                const char *fingerprint, int64_t not_after_ms, struct arena *arena,
                                struct status *st)
{
    struct issued issued = {.what = {generation, not_after_ms, fingerprint}};
    TRY(agents_change(tx, cause, &id, 1, set_issued, &issued, arena, NULL, NULL, st));
    return issued.pending ? store_identity_pending(tx, id, &issued.what, arena, st) : CODE_OK;
}

/* What was said when the token was made is too low if the agent renewed before somebody used it. */
static enum code set_installed_anew(struct agent *agent, bool *dirty, bool *heard, void *arg,
                                    struct status *st)
{
    (void)heard;
    (void)st;
    const int64_t *generation = arg;
    *dirty = agent->token_generation < *generation;
    if (*dirty)
        agent->token_generation = *generation;
    return CODE_OK;
}

enum code agent_installed_anew(struct db *tx, const struct cause *cause, const char *id, int64_t generation,
                               struct arena *arena, struct status *st)
{
    return agents_change(tx, cause, &id, 1, set_installed_anew, &generation, arena, NULL, NULL, st);
}

struct confirmed {
    int64_t generation, now_ms;
    struct pending_identity what; /* fingerprint NULL: it is not pending */
};

static enum code set_confirmed(struct agent *agent, bool *dirty, bool *heard, void *arg, struct status *st)
{
    (void)heard;
    (void)st;
    const struct confirmed *confirmed = arg;
    if (agent->bootstrapped_at_ms < 0) {
        agent->bootstrapped_at_ms = confirmed->now_ms;
        *dirty = true;
    }
    if (confirmed->generation > agent->min_generation) {
        agent->min_generation = confirmed->generation;
        *dirty = true;
    }
    if (confirmed->what.fingerprint && take_identity(agent, &confirmed->what))
        *dirty = true;
    return CODE_OK;
}

enum code agent_identity_confirmed(struct db *tx, const struct cause *cause, const char *id,
                                   int64_t generation, struct arena *arena, struct status *st)
{
    struct confirmed confirmed = {.generation = generation, .now_ms = cause->now_ms};
    TRY(store_identity_confirmed(tx, id, generation, arena, &confirmed.what, st));
    TRY(alerts_resolve_of_agent(tx, id, ALERT_BOOTSTRAP_REFUSED, cause->now_ms, arena, st));
    return agents_change(tx, cause, &id, 1, set_confirmed, &confirmed, arena, NULL, NULL, st);
}
