/*
 * The registry's own structs and use cases. Nothing here knows the bus or a generated contract: rpc.c and
 * events.c are the border. Use cases run on a worker thread with its database session; strings and rows live
 * in the caller's arena.
 */
#ifndef CLM_REGISTRY_H
#define CLM_REGISTRY_H

#include "base/arena.h"
#include "base/status.h"
#include "db/db.h"
#include "pki/der.h"

/* Numbers as in proto/common.proto; the order is the precedence, strongest first. */
enum agent_status {
    AGENT_DISABLED = 1,
    AGENT_EXPIRED,
    AGENT_BOOTSTRAPPING,
    AGENT_OFFLINE,
    AGENT_SAFE_MODE,
    AGENT_ONLINE,
    AGENT_STATUS_END
};
const char *agent_status_name(enum agent_status status);

/* ---- the one rule (status.c)
 * ----------------------------------------------------------------------------------- */

struct status_facts {
    bool disabled;
    bool identity_ended; /* its certificate is past its end */
    bool heard;          /* at least once: it has an identity and uses it */
    bool silent;         /* no heartbeat for 3 intervals that count */
    bool safe_mode;
};
enum agent_status status_derive(const struct status_facts *facts);

/* ---- agents
 * ---------------------------------------------------------------------------------------------------- */

struct label {
    const char *name, *value;
};

struct agent {
    const char *id, *hostname;
    enum agent_status status;
    bool disabled, safe_mode;
    const char *disabled_reason, *safe_mode_reason; /* safe_mode: the agent's own word */
    const char *frozen_reason;                      /* FROZEN_…; "": not frozen */
    bool operator_safe_mode;
    int64_t token_generation; /* identities below are of former installations */
    struct label *labels;
    size_t n_labels;
    struct bytes scope, facts; /* encoded messages; facts.data NULL: not known */
    int64_t min_generation, generation, identity_generation;
    const char *identity_fingerprint; /* NULL: none */
    int64_t identity_not_after_ms;    /* -1: none */
    int64_t created_at_ms, bootstrapped_at_ms;
    const char *agent_version;
    int64_t version;
    int64_t last_heartbeat_at_ms; /* -1: never */
    int64_t clock_skew_ms;
    int64_t status_since_ms;
    int64_t offline_at_ms;   /* when its silence will have lasted; only in agents_change */
    bool platform_safe_mode; /* the whole platform is; only in agents_change */
};
#define FROZEN_CLONE      "CLONE"
#define FROZEN_SECOND_KEY "SECOND_KEY"
bool agent_frozen(const struct agent *agent);
/* By itself, by an operator, or because it is frozen; the platform's own safe mode comes on top. */
bool agent_in_safe_mode(const struct agent *agent);
/* What an agent or an operator asked for: a name of lib/safemode, or "". */
const char *agent_safe_mode_reason(const struct agent *agent);
const char *agent_reason(const struct agent *agent); /* of the status; "" if it has none */

/* When silence counts. */
struct timing {
    int64_t reattach_window_ms, gateway_silence_ms;
};
#define GATEWAY_SILENCE_MS  5000 /* gateways report every second */
#define OFFLINE_INTERVALS   3
#define INTERVAL_MIN_MS     5000
#define INTERVAL_MAX_MS     (3600 * 1000)
#define INTERVAL_DEFAULT_MS 30000

/* A request that may come again: of one actor, the same key has its effect once. */
struct once {
    const char *key;
    uint8_t request_sha256[32];
};

/* Who causes a change, for its event. */
struct cause {
    const char *actor, *traceparent;
    const struct once *once; /* NULL: each time counts */
    const char *what;        /* said of it in activity and audit; NULL: the status */
    int64_t if_version;      /* ABORTED when the one agent has another; 0: whatever it has */
    int64_t now_ms;
    const struct timing *timing;
};

/*
 * The one way to change agents: locks them in the order of ids, lets `mutate` (may be NULL) change each,
 * derives the status again, and stores those that changed with a raised version, their counts, their events
 * and their activity. Inside the caller's transaction. mutate says in *dirty that it changed something, in
 * *heard that the agent was heard just now. Unknown ids are left out of *ret (may be NULL), which is in the
 * order of ids.
 */
typedef enum code agent_mutate(struct agent *agent, bool *dirty, bool *heard, void *arg, struct status *st);
enum code agents_change(struct db *tx, const struct cause *cause, const char *const *ids, size_t n,
                        agent_mutate *mutate, void *arg, struct arena *arena, struct agent **ret,
                        size_t *ret_n, struct status *st) MUST_CHECK;
/* One agent in a transaction of its own; NOT_FOUND if it is not there or outside the selector. */
enum code agent_change_one(struct db *db, const struct cause *cause, const char *selector, const char *id,
                           agent_mutate *mutate, void *arg, struct arena *arena, struct agent *ret,
                           struct status *st) MUST_CHECK;
/* The same inside the caller's transaction. */
enum code agent_change_in(struct db *tx, const struct cause *cause, const char *selector, const char *id,
                          agent_mutate *mutate, void *arg, struct arena *arena, struct agent *ret,
                          struct status *st) MUST_CHECK;
/* ABORTED: it is not the version that the cause is about. */
enum code agent_check_version(const struct agent *agent, const struct cause *cause,
                              struct status *st) MUST_CHECK;
/* For ever: a host comes back as a new agent only. */
enum code agent_delete(struct db *db, const struct cause *cause, const char *selector, const char *id,
                       struct arena *arena, struct agent *ret, struct status *st) MUST_CHECK;
/* The same inside the caller's transaction, whatever its labels. */
enum code agent_delete_in(struct db *tx, const struct cause *cause, const char *id, struct arena *arena,
                          struct agent *ret, struct status *st) MUST_CHECK;
enum code agent_disable(struct db *db, const struct cause *cause, const char *selector, const char *id,
                        const char *reason, struct arena *arena, struct agent *ret,
                        struct status *st) MUST_CHECK;
enum code agent_enable(struct db *db, const struct cause *cause, const char *selector, const char *id,
                       struct arena *arena, struct agent *ret, struct status *st) MUST_CHECK;

/* ---- the platform as a whole (platform.c)
 * ---------------------------------------------------------------------------- */

struct platform {
    bool safe_mode;
    const char *reason, *by; /* of the last change */
    int64_t since_ms;        /* -1: never changed */
    int64_t version;
};
enum code platform_get(struct db *db, struct arena *arena, struct platform *ret,
                       struct status *st) MUST_CHECK;
/* Setting what is set changes nothing. */
enum code platform_set_safe_mode(struct db *db, const struct cause *cause, bool on, const char *reason,
                                 struct arena *arena, struct platform *ret, struct status *st) MUST_CHECK;
/* Labels and scope (configure.c). Labels that the selector would not cover any more are PERMISSION_DENIED. */
enum code agent_set_labels(struct db *db, const struct cause *cause, const char *selector, const char *id,
                           struct label *labels, size_t n, struct arena *arena, struct agent *ret,
                           struct status *st) MUST_CHECK;
/* `derive` makes the new encoded scope out of the present one, or refuses; under the agent's lock. */
struct scope_change {
    enum code (*derive)(struct bytes now, void *arg, struct arena *arena, struct bytes *ret,
                        struct status *st);
    void *arg;
};
enum code agent_set_scope(struct db *db, const struct cause *cause, const char *selector, const char *id,
                          const struct scope_change *change, struct arena *arena, struct agent *ret,
                          struct status *st) MUST_CHECK;
/* Each name once, well formed. */
enum code labels_check(const struct label *labels, size_t n, struct status *st) MUST_CHECK;

/* ---- what stands against an agent (freeze.c)
 * ---------------------------------------------------------------------------- */

/* Leaving: FAILED_PRECONDITION, naming the exit, when another reason than an operator's holds. */
enum code agent_set_safe_mode(struct db *db, const struct cause *cause, const char *selector, const char *id,
                              bool on, struct arena *arena, struct agent *ret, struct status *st) MUST_CHECK;
/* Renewal, certificates and work are refused from now on. A clone stays one, whatever else is found. Inside
 * the caller's transaction. */
enum code agent_freeze(struct db *tx, const struct cause *cause, const char *id, const char *reason,
                       struct arena *arena, struct status *st) MUST_CHECK;
/* By an operator's decision. FAILED_PRECONDITION for a clone: only a fresh token ends that. */
enum code agent_unfreeze(struct db *db, const struct cause *cause, const char *selector, const char *id,
                         struct arena *arena, struct agent *ret, struct status *st) MUST_CHECK;
struct superseded { /* a handshake that a gateway refused for its generation */
    const char *agent_id;
    int64_t generation;
};
/* Whoever still has an identity below the confirmed one holds a copy; former installations do not count. */
enum code agents_superseded(struct db *db, const struct cause *cause, const struct superseded *seen, size_t n,
                            struct arena *arena, struct status *st) MUST_CHECK;
/* Whether a fresh token may be made for it. FAILED_PRECONDITION: it was heard in the last day and `force` is
 * not said; or an operator disabled it. */
enum code agent_may_have_token(const struct agent *agent, bool force, int64_t now_ms,
                               struct status *st) MUST_CHECK;
/* What the token is to be called. A request that comes again is not asked once more: what it made may have
 * brought the agent online meanwhile. */
enum code agent_token_begin(struct db *db, const struct cause *cause, const char *selector,
                            const char *agent_id, bool force, struct arena *arena, struct agent *ret,
                            const char **ret_token_id, struct status *st) MUST_CHECK;
/* After a fresh token was made: what was revoked or frozen may come back, with it alone; identities below
 * next_generation are of former installations. */
enum code agent_readmit(struct db *db, const struct cause *cause, const char *selector, const char *id,
                        int64_t next_generation, struct arena *arena, struct agent *ret,
                        struct status *st) MUST_CHECK;

/* From the CA: a certificate was issued, a generation confirmed. In any order, any number of times. What an
 * agent has for an identity is the confirmed one, or the first that there is. */
enum code agent_identity_issued(struct db *tx, const struct cause *cause, const char *id, int64_t generation,
                                const char *fingerprint, int64_t not_after_ms, struct arena *arena,
                                struct status *st) MUST_CHECK;
/* A token made this generation: those below are of former installations. */
enum code agent_installed_anew(struct db *tx, const struct cause *cause, const char *id, int64_t generation,
                               struct arena *arena, struct status *st) MUST_CHECK;
enum code agent_identity_confirmed(struct db *tx, const struct cause *cause, const char *id,
                                   int64_t generation, struct arena *arena, struct status *st) MUST_CHECK;

/* The agent was removed from its host: DISABLED with reason DISABLED_FAREWELL, left only by a fresh token. Of
 * a generation that a later installation has replaced, it means nothing. */
enum code agent_farewell(struct db *tx, const struct cause *cause, const char *id, int64_t generation,
                         struct arena *arena, struct status *st) MUST_CHECK;
/* INVALID_ARGUMENT: what an operator gives as the reason would mean DISABLED_REVOKED, _FAREWELL or _DELETED.
 */
enum code disabled_reason_check(const char *reason, struct status *st) MUST_CHECK;
/* Its identity is over: only a fresh token brings it back. */
bool agent_is_over(const struct agent *agent);

/* ---- registration (register.c)
 * ------------------------------------------------------------------------------------ */

struct registration {
    const char *hostname;
    const struct label *labels;
    size_t n_labels;
    struct bytes scope;          /* encoded, version 1 */
    const char *idempotency_key; /* NULL: none */
};
/* *ret_needs_token is false when an earlier request with this key registered an agent that has its identity
 * already. */
enum code agent_register(struct db *db, const struct cause *cause, const char *selector,
                         const struct registration *in, struct arena *arena, struct agent *ret,
                         bool *ret_needs_token, struct status *st) MUST_CHECK;

/* ---- queries (query.c, dashboard.c, states.c)
 * ---------------------------------------------------------------------- */

struct agent_filter {
    const char *selector;      /* the operator's own: "env=prod,team"; "" for the whole fleet */
    const char *search;        /* "" for all */
    unsigned status_bits;      /* 1 << status; 0 for all */
    const char *const *labels; /* "name=value" or "name" */
    size_t n_labels;
    const char *version;       /* of the program, may end in '*'; NULL: any */
    int64_t expires_before_ms; /* 0: any */
    enum agent_sort { AGENTS_BY_ID, AGENTS_BY_HOSTNAME, AGENTS_BY_EXPIRY, AGENTS_BY_HEARTBEAT } sort;
    bool descending;
};
/* Where a page ended: the key of its order (NULL: by id alone) and the id. */
struct agent_place {
    const char *key, *id;
};
/* Of the last agent of a page. */
struct agent_place agent_place_of(const struct agent *agent, enum agent_sort sort, struct arena *arena);
enum code agent_get(struct db *db, const char *selector, const char *id, struct arena *arena,
                    struct agent *ret, struct status *st) MUST_CHECK;
/* Behind `after` (id NULL: from the first). */
enum code agents_list(struct db *db, const struct agent_filter *filter, const struct agent_place *after,
                      size_t max, struct arena *arena, struct agent **ret, size_t *ret_n,
                      struct status *st) MUST_CHECK;
/* Those of the ids that the selector covers. */
enum code agents_seen(struct db *db, const char *selector, const char *const *ids, size_t n,
                      struct arena *arena, const char ***ret, size_t *ret_n, struct status *st) MUST_CHECK;
enum code agents_page(struct db *db, const char *after, size_t max, struct arena *arena, struct agent **ret,
                      size_t *ret_n, struct status *st) MUST_CHECK;

struct activity {
    int64_t id, occurred_at_ms;                     /* id: of a stored one */
    const char *event, *agent_id, *actor, *message; /* agent_id may be NULL */
};
#define DASHBOARD_ENDS     6
#define DASHBOARD_VERSIONS 20
struct alert; /* alerts.h */
struct dashboard {
    int64_t count[AGENT_STATUS_END], total, identities_expiring, open_alerts;
    struct activity *recent;
    size_t n_recent;
    struct alert *alerts; /* open ones, newest first */
    size_t n_alerts;
    int64_t in_safe_mode;
    int64_t ends[DASHBOARD_ENDS]; /* identities: see dashboard_end_sec */
    struct certificate_ends {
        int64_t n, served; /* each certificate once; places that serve one */
    } certificates[DASHBOARD_ENDS];
    struct version_count *versions;
    size_t n_versions;
    int64_t open_by_kind[64]; /* alerts, by enum alert_kind */
};
/* ends[i] counts identities, and certificates[i] what the inventory has, that end within that many seconds,
 * and not within those before; -1: later. */
extern const int64_t dashboard_end_sec[DASHBOARD_ENDS];
struct version_count {
    const char *version;
    int64_t n;
};
#define DASHBOARD_ALERTS      10
#define DASHBOARD_RECENT      20
#define DASHBOARD_EXPIRING_MS (7LL * 24 * 3600 * 1000)
enum code dashboard_get(struct db *db, const char *selector, int64_t now_ms, struct arena *arena,
                        struct dashboard *ret, struct status *st) MUST_CHECK;

/* ---- heartbeats (heartbeat.c) and the sweep (sweep.c)
 * ---------------------------------------------------------------- */

struct metrics_sample; /* metrics.h */
struct heartbeat {
    const char *agent_id;
    int64_t generation, received_at_ms, clock_skew_ms, interval_ms;
    const char *instance_id, *boot_id, *safe_mode_reason;
    const char *audit_problem; /* NULL: the audit log's heads held */
    bool safe_mode;
    struct bytes facts;                   /* data NULL: not sent */
    const char *agent_version;            /* of the facts */
    const struct metrics_sample *metrics; /* NULL: not sent */
};
/* Sorts and thins `beats` in place. One statement for all of them, and a few more for those whose state
 * changes. */
enum code heartbeats_report(struct db *db, const struct timing *timing, int64_t now_ms,
                            const char *gateway_id, const char *epoch, struct heartbeat *beats, size_t n,
                            struct arena *arena, struct status *st) MUST_CHECK;

/* Finds who fell silent or whose certificate ended. Once a second, on one replica. */
enum code sweep(struct db *db, const struct timing *timing, int64_t now_ms, struct status *st) MUST_CHECK;
/* Folds the counts and bounds the activity. Once a minute. */
enum code sweep_house(struct db *db, struct status *st) MUST_CHECK;
#define ACTIVITY_MAX 10000

struct activity_filter; /* store.h */
/* Newest first, within the selector. */
enum code activity_list(struct db *db, const char *selector, const struct activity_filter *filter, size_t max,
                        struct arena *arena, struct activity **ret, size_t *ret_n,
                        struct status *st) MUST_CHECK;
enum code activity_add(struct db *tx, const struct activity *rows, size_t n, struct arena *arena,
                       struct status *st) MUST_CHECK;

/* ---- API keys (apikey.c)
 * -------------------------------------------------------------------------------------------- */

struct api_key {
    const char *id, *name, *label_selector;
    unsigned roles;
    int64_t expires_at_ms; /* of one that was looked up; -1: never */
};
#define API_KEY_TEXT_MAX 128
#define API_KEY_ID_SIZE  17
/* A fresh key: its id, its text (the only copy of the secret) and what is stored of that. */
void api_key_random(char id[API_KEY_ID_SIZE], char text[API_KEY_TEXT_MAX], uint8_t hash[32]);
/* Another secret for the key of this id. */
void api_key_renew(const char *id, char text[API_KEY_TEXT_MAX], uint8_t hash[32]);
/* Makes and stores a key; text is the only copy of the secret: "clm_<id>_<secret>". */
enum code api_key_create(struct db *db, const char *name, unsigned roles, const char *selector,
                         int64_t expires_at_ms, int64_t now_ms, char text[API_KEY_TEXT_MAX],
                         struct arena *arena, struct status *st) MUST_CHECK;
/* UNAUTHENTICATED with one and the same message for malformed, unknown, wrong, expired and revoked keys. */
enum code api_key_check(struct db *db, const char *text, int64_t now_ms, struct arena *arena,
                        struct api_key *ret, struct status *st) MUST_CHECK;

/* ---- operators and their sessions (operator.c)
 * ---------------------------------------------------------------------- */

struct operator
{
    const char *name, *label_selector;
    unsigned roles;
};
struct session {
    const char *id;
    struct operator who;
    const char *source;
    int64_t created_at_ms, expires_at_ms, last_used_at_ms;
};
#define OPERATOR_SECRET_MAX   48 /* 256 bits, base64url, and its NUL */
#define OPERATOR_LINK_LIFE_MS (60LL * 60 * 1000)
#define SESSION_LIFE_MS       (12LL * 60 * 60 * 1000)

/* A link that makes one operator with these roles, once, within an hour. `link` is the only copy. */
enum code operator_link_create(struct db *db, unsigned roles, int64_t now_ms, char link[OPERATOR_SECRET_MAX],
                               struct arena *arena, struct status *st) MUST_CHECK;
/* Makes the operator, or sets the password of the one who was invited (name may be NULL then), and signs them
 * in. UNAUTHENTICATED for a link that is unknown, used or too old. */
enum code operator_link_redeem(struct db *db, const char *link, const char *name, const char *password,
                               const char *source, int64_t now_ms, char secret[OPERATOR_SECRET_MAX],
                               struct arena *arena, struct session *ret, struct status *st) MUST_CHECK;
/* UNAUTHENTICATED with one and the same message for unknown names, wrong passwords and disabled operators;
 * RESOURCE_EXHAUSTED after too many of them from one source. `secret` is the only copy of the session's. */
enum code operator_login(struct db *db, const char *name, const char *password, const char *source,
                         int64_t now_ms, char secret[OPERATOR_SECRET_MAX], struct arena *arena,
                         struct session *ret, struct status *st) MUST_CHECK;
enum code session_check(struct db *db, const char *secret, int64_t now_ms, struct arena *arena,
                        struct session *ret, struct status *st) MUST_CHECK;
/* Those of one operator, newest first; NOT_FOUND for another's. */
enum code session_list(struct db *db, const char *name, int64_t now_ms, struct arena *arena,
                       struct session **ret, size_t *ret_n, struct status *st) MUST_CHECK;
enum code session_get(struct db *db, const char *name, const char *id, int64_t now_ms, struct arena *arena,
                      struct session *ret, struct status *st) MUST_CHECK;
enum code session_end(struct db *db, const char *name, const char *id, int64_t now_ms, struct arena *arena,
                      struct session *ret, struct status *st) MUST_CHECK;

/* ---- what the border gives (events.c)
 * --------------------------------------------------------------------------------- */

/* The encoded event that says the whole of an agent's state. Memory from the arena. */
void agent_event_encode(const struct agent *agent, const struct cause *cause, const char *event_id,
                        const char *subject, struct arena *arena, struct bytes *ret);
#define SUBJECT_AGENT_REGISTERED "clm.event.registry.agent.registered"
#define SUBJECT_AGENT_CHANGED    "clm.event.registry.agent.changed"
#define SUBJECT_AGENT_DELETED    "clm.event.registry.agent.deleted"
void platform_event_encode(const struct platform *platform, const struct cause *cause, const char *event_id,
                           struct arena *arena, struct bytes *ret);
#define SUBJECT_PLATFORM_CHANGED "clm.event.registry.platform.changed"

#endif
