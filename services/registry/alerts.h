/*
 * Alerts: what somebody should look at. Folded by (kind, entity) while not resolved; raised and resolved in
 * the transaction of what they are about, each with its event and its audit record; what only repeats an open
 * one is counted. entity: the agent's id, or whatever else repeats.
 */
#ifndef CLM_REGISTRY_ALERTS_H
#define CLM_REGISTRY_ALERTS_H

#include "registry.h"

/* Numbers as in proto/registry.proto. */
enum alert_kind {
    ALERT_AGENT_OFFLINE = 1,
    ALERT_IDENTITY_EXPIRING,
    ALERT_IDENTITY_EXPIRED,
    ALERT_BOOTSTRAP_REFUSED,
    ALERT_CLONE,
    ALERT_SAFE_MODE,
    ALERT_TASK_FAILED,
    ALERT_TASK_REFUSED,
    ALERT_SERVED_NOT_INTENDED,
    ALERT_AUDIT_INCONSISTENT,
    ALERT_CRL_LATE,
    ALERT_SERVED_DIFFERS = 20,
    ALERT_KIND_END
};
enum alert_state { ALERT_OPEN = 1, ALERT_ACKNOWLEDGED, ALERT_RESOLVED };

struct alert {
    const char *id, *entity, *agent_id, *hostname, *message; /* agent_id, hostname may be NULL */
    enum alert_kind kind;
    int64_t first_at_ms, last_at_ms, count, version;
    int64_t acknowledged_at_ms, resolved_at_ms; /* -1: not */
    const char *acknowledged_by, *resolved_by;
};
enum alert_state alert_state(const struct alert *alert);

struct alert_change { /* raise: entity, agent_id, message; resolve: entity */
    enum alert_kind kind;
    const char *entity, *agent_id, *message;
};
/* One statement however many; (kind, entity) must be unique among them. Inside the caller's transaction. */
enum code alerts_raise(struct db *tx, const struct alert_change *changes, size_t n, int64_t now_ms,
                       struct arena *arena, struct status *st) MUST_CHECK;
/* The same as a transaction of its own. */
enum code alerts_raise_alone(struct db *db, const struct alert_change *changes, size_t n, int64_t now_ms,
                             struct arena *arena, struct status *st) MUST_CHECK;
enum code alerts_resolve(struct db *tx, const struct alert_change *changes, size_t n, int64_t now_ms,
                         struct arena *arena, struct status *st) MUST_CHECK;
/* A restore answers everybody who noticed the older database: the platform itself ("platform"), and agents
 * that hold newer heads ("<agent>" ALERT_HELD). What agents say of a head that does not hold stays. */
#define ALERT_HELD "/held"
enum code alerts_resolve_restored(struct db *tx, int64_t now_ms, struct arena *arena,
                                  struct status *st) MUST_CHECK;
/* For who resolves in the store itself. */
enum code alerts_tell_resolved(struct db *tx, const struct alert *alerts, size_t n, int64_t now_ms,
                               struct arena *arena, struct status *st) MUST_CHECK;
/* Those of one agent and kind; 0: of every kind. */
enum code alerts_resolve_of_agent(struct db *tx, const char *agent_id, enum alert_kind kind, int64_t now_ms,
                                  struct arena *arena, struct status *st) MUST_CHECK;
/* Refused tokens and refused orders have no opposite that would end them: after ALERTS_QUIET_MS without
 * another one they are over. */
enum code alerts_quiet(struct db *db, int64_t now_ms, struct arena *arena, struct status *st) MUST_CHECK;
#define ALERTS_QUIET_MS (24LL * 3600 * 1000)
/* What a change of agents says: each with its state until now. */
struct agent_before {
    enum agent_status status;
    const char *safe_mode_reason, *frozen_reason; /* "": none */
};
enum code alerts_of_agents(struct db *tx, struct agent *const *agents, const struct agent_before *before,
                           size_t n, int64_t now_ms, struct arena *arena, struct status *st) MUST_CHECK;
/* What the end of a task says. Failures of one kind of task about one target on one agent are one alert,
 * which the next success of that kind ends; what is served there is one alert of its own, whoever looked. */
enum task_end { TASK_END_OTHER, TASK_END_SUCCEEDED, TASK_END_UNVERIFIED, TASK_END_FAILED };
struct task_ended {
    const char *agent_id, *kind, *target, *message; /* target, message may be NULL */
    enum task_end end;
    bool looked;              /* VALIDATE: it says what is served */
    bool changed;             /* DEPLOY, RENEW: its success has seen the new certificate served */
    bool refused;             /* FAILED because the host refused it */
    bool served_not_intended; /* the endpoint serves another certificate than it should */
};
enum code alerts_of_task(struct db *tx, const struct task_ended *task, int64_t now_ms, struct arena *arena,
                         struct status *st) MUST_CHECK;
/* Identities that end within DASHBOARD_EXPIRING_MS: raises new ones, resolves those that were renewed. */
enum code alerts_expiring(struct db *db, int64_t now_ms, struct arena *arena, struct status *st) MUST_CHECK;
/* Forgets what was resolved long ago. */
enum code alerts_trim(struct db *db, int64_t now_ms, struct arena *arena, struct status *st) MUST_CHECK;
#define ALERTS_KEEP_MS (90LL * 24 * 3600 * 1000)

struct alert_filter {
    const char *selector;
    unsigned state_bits, kind_bits; /* 1 << …; 0: not resolved · all */
    const char *agent_id, *id, *after;
};
/* Newest first. */
enum code alerts_list(struct db *db, const struct alert_filter *filter, size_t max, struct arena *arena,
                      struct alert **ret, size_t *ret_n, struct status *st) MUST_CHECK;
/* By an operator: NOT_FOUND outside the selector; doing it again changes nothing. Audited. */
enum code alert_acknowledge(struct db *db, const struct cause *cause, const char *selector, const char *id,
                            struct arena *arena, struct alert *ret, struct status *st) MUST_CHECK;
enum code alert_resolve(struct db *db, const struct cause *cause, const char *selector, const char *id,
                        struct arena *arena, struct alert *ret, struct status *st) MUST_CHECK;

/* Border (events.c): the event of a change. */
void alert_event_encode(const struct alert *alert, const struct cause *cause, const char *event_id,
                        const char *subject, struct arena *arena, struct bytes *ret);

#endif
