/* The alerts' SQL. Blocking, on the session of the calling thread; rows are copied into the caller's arena.
 */
#include "store_alerts.h"
#include "store_rows.h"

/* What is read of "alerts a". */
#define COLUMNS                                                                                              \
    "a.id, a.kind, a.entity, a.agent_id, a.message, a.count, a.version, a.acknowledged_at, a.resolved_at"
#define COLUMN_COUNT 9
/* What a change of alerts says of them: of an UPDATE or INSERT of "alerts a". */
#define CHANGED "RETURNING " COLUMNS
#define RESOLVE(at, by)                                                                                      \
    "UPDATE alerts a SET version = a.version + 1, resolved_at = " at ", resolved_by = " by " "

static struct alert row_alert(const struct db_rows *rows, size_t i, struct arena *arena)
{
    return (struct alert){
        .id = row_text(rows, i, 0, arena),
        .kind = (enum alert_kind)db_int(rows, i, 1),
        .entity = row_text(rows, i, 2, arena),
        .agent_id = row_text(rows, i, 3, arena),
        .message = row_text(rows, i, 4, arena),
        .count = db_int(rows, i, 5),
        .version = db_int(rows, i, 6),
        .acknowledged_at_ms = db_time(rows, i, 7),
        .resolved_at_ms = db_time(rows, i, 8),
    };
}

static enum code changed(struct db *tx, const char *sql, const struct db_args *args, struct arena *arena,
                         struct alert **ret, size_t *ret_n, struct status *st)
{
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(tx, sql, args, &rows, st));
    *ret_n = db_rows_count(rows);
    *ret = arena_array(arena, *ret_n + 1, sizeof(**ret));
    for (size_t i = 0; i < *ret_n; i++)
        (*ret)[i] = row_alert(rows, i, arena);
    return CODE_OK;
}

static void arg_keys(struct db_args *args, const struct alert_change *changes, size_t n, struct arena *arena)
{
    int64_t *kind = arena_array(arena, n, sizeof(*kind));
    const char **entity = arena_array(arena, n, sizeof(*entity));
    for (size_t i = 0; i < n; i++) {
        kind[i] = changes[i].kind;
        entity[i] = changes[i].entity;
    }
    db_arg_int_array(args, kind, n);
    db_arg_text_array(args, entity, n);
}

enum code store_alerts_raise(struct db *tx, const char *const *ids, const struct alert_change *changes,
                             size_t n, int64_t now_ms, struct arena *arena, struct alert **ret, size_t *ret_n,
                             struct status *st)
{
    static const char sql[] =
        "WITH raised AS (INSERT INTO alerts AS a (kind, entity, id, agent_id, message, first_at, last_at) "
        "SELECT k, e, i::uuid, g::uuid, coalesce(m, ''), $6, $6 "
        "FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[]) AS x(k, e, i, g, m) "
        "ON CONFLICT (kind, entity) WHERE resolved_at IS NULL DO UPDATE SET count = a.count + 1, "
        "version = a.version + 1, last_at = GREATEST(a.last_at, EXCLUDED.last_at), "
        "message = EXCLUDED.message " CHANGED ") SELECT * FROM raised WHERE count = 1";
    const char **agent = arena_array(arena, n, sizeof(*agent));
    const char **message = arena_array(arena, n, sizeof(*message));
    for (size_t i = 0; i < n; i++) {
        agent[i] = changes[i].agent_id;
        message[i] = changes[i].message;
    }
    struct db_args *args = db_args_new(arena);
    arg_keys(args, changes, n, arena);
    db_arg_text_array(args, ids, n);
    db_arg_text_array(args, agent, n);
    db_arg_text_array(args, message, n);
    db_arg_time(args, now_ms);
    return changed(tx, sql, args, arena, ret, ret_n, st);
}

enum code store_alerts_resolve(struct db *tx, const struct alert_change *changes, size_t n, int64_t now_ms,
                               const char *by, struct arena *arena, struct alert **ret, size_t *ret_n,
                               struct status *st)
{
    static const char sql[] = RESOLVE("$3", "$4") "FROM unnest($1::bigint[], $2::text[]) AS x(k, e) WHERE "
                                                  "a.kind = x.k AND a.entity = x.e AND a.resolved_at IS "
                                                  "NULL " CHANGED;
    struct db_args *args = db_args_new(arena);
    arg_keys(args, changes, n, arena);
    db_arg_time(args, now_ms);
    db_arg_text(args, by);
    return changed(tx, sql, args, arena, ret, ret_n, st);
}

enum code store_alerts_resolve_of_agent(struct db *tx, const char *agent_id, enum alert_kind kind,
                                        int64_t now_ms, const char *by, struct arena *arena,
                                        struct alert **ret, size_t *ret_n, struct status *st)
{
    static const char sql[] = RESOLVE("$3", "$4") "WHERE a.agent_id = $1 AND ($2::bigint = 0 OR a.kind = $2) "
                                                  "AND a.resolved_at IS NULL " CHANGED;
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, agent_id);
    db_arg_int(args, kind);
    db_arg_time(args, now_ms);
    db_arg_text(args, by);
    return changed(tx, sql, args, arena, ret, ret_n, st);
}

enum code store_alerts_quiet(struct db *db, int64_t before_ms, int64_t now_ms, const char *by,
                             struct arena *arena, struct alert **ret, size_t *ret_n, struct status *st)
{
    static const char sql[] =
        RESOLVE("$2", "$3") "WHERE a.last_at <= $1 AND a.resolved_at IS NULL AND "
                            "(a.kind = $4 OR a.kind = $5 AND a.entity LIKE '%/order') " CHANGED;
    struct db_args *args = db_args_new(arena);
    db_arg_time(args, before_ms);
    db_arg_time(args, now_ms);
    db_arg_text(args, by);
    db_arg_int(args, ALERT_BOOTSTRAP_REFUSED);
    db_arg_int(args, ALERT_TASK_REFUSED);
    return changed(db, sql, args, arena, ret, ret_n, st);
}

enum code store_alerts_resolve_restored(struct db *tx, int64_t now_ms, const char *by, struct arena *arena,
                                        struct alert **ret, size_t *ret_n, struct status *st)
{
    static const char sql[] =
        RESOLVE("$1", "$2") "WHERE a.resolved_at IS NULL AND a.kind = $3 AND "
                            "(a.entity = 'platform' OR a.entity LIKE '%" ALERT_HELD "') " CHANGED;
    struct db_args *args = db_args_new(arena);
    db_arg_time(args, now_ms);
    db_arg_text(args, by);
    db_arg_int(args, ALERT_AUDIT_INCONSISTENT);
    return changed(tx, sql, args, arena, ret, ret_n, st);
}

enum code store_alerts_expiring(struct db *db, int64_t now_ms, int64_t until_ms, size_t max,
                                struct arena *arena, struct alert_change **ret, size_t *ret_n,
                                struct status *st)
{
    static const char sql[] =
        "SELECT a.id, to_char(a.identity_not_after AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') "
        "FROM agents a WHERE a.identity_not_after > $1 AND a.identity_not_after <= $2 AND NOT a.disabled "
        "AND NOT EXISTS (SELECT 1 FROM alerts x WHERE x.kind = $3 AND x.entity = a.id::text "
        "AND x.resolved_at IS NULL) LIMIT $4";
    struct db_args *args = db_args_new(arena);
    db_arg_time(args, now_ms);
    db_arg_time(args, until_ms);
    db_arg_int(args, ALERT_IDENTITY_EXPIRING);
    db_arg_int(args, (int64_t)max);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(db, sql, args, &rows, st));
    *ret_n = db_rows_count(rows);
    *ret = arena_array(arena, *ret_n + 1, sizeof(**ret));
    for (size_t i = 0; i < *ret_n; i++) {
        const char *id = row_text(rows, i, 0, arena);
        (*ret)[i] = (struct alert_change){
            .kind = ALERT_IDENTITY_EXPIRING,
            .entity = id,
            .agent_id = id,
            .message = arena_printf(arena, "the identity ends on %s", db_text(rows, i, 1)),
        };
    }
    return CODE_OK;
}

enum code store_alerts_renewed(struct db *db, int64_t now_ms, int64_t until_ms, const char *by,
                               struct arena *arena, struct alert **ret, size_t *ret_n, struct status *st)
{
    static const char sql[] =
        RESOLVE("$1", "$4") "WHERE a.kind = $3 AND a.resolved_at IS NULL AND NOT EXISTS "
                            "(SELECT 1 FROM agents g WHERE g.id = a.agent_id AND "
                            "g.identity_not_after > $1 AND g.identity_not_after <= $2 "
                            "AND NOT g.disabled) " CHANGED;
    struct db_args *args = db_args_new(arena);
    db_arg_time(args, now_ms);
    db_arg_time(args, until_ms);
    db_arg_int(args, ALERT_IDENTITY_EXPIRING);
    db_arg_text(args, by);
    return changed(db, sql, args, arena, ret, ret_n, st);
}

enum code store_alerts_mended(struct db *tx, enum alert_kind kind, const char *const *agents, size_t n_agents,
                              const struct alert_change *wanted, size_t n, int64_t now_ms, const char *by,
                              struct arena *arena, struct alert **ret, size_t *ret_n, struct status *st)
{
    static const char sql[] = RESOLVE("$4", "$5") "WHERE a.kind = $1 AND a.agent_id = ANY ($2::uuid[]) AND "
                                                  "a.resolved_at IS NULL AND NOT (a.entity = ANY "
                                                  "($3::text[])) " CHANGED;
    const char **entities = arena_array(arena, n + 1, sizeof(*entities));
    for (size_t i = 0; i < n; i++)
        entities[i] = wanted[i].entity;
    struct db_args *args = db_args_new(arena);
    db_arg_int(args, kind);
    db_arg_text_array(args, agents, n_agents);
    db_arg_text_array(args, entities, n);
    db_arg_time(args, now_ms);
    db_arg_text(args, by);
    return changed(tx, sql, args, arena, ret, ret_n, st);
}

enum code store_alerts_unknown(struct db *tx, const struct alert_change *wanted, size_t n,
                               struct arena *arena, struct alert_change **ret, size_t *ret_n,
                               struct status *st)
{
    static const char sql[] =
        "SELECT o FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[]) WITH ORDINALITY "
        "AS x(k, e, g, m, o) WHERE EXISTS (SELECT FROM agents WHERE id = g::uuid) AND NOT EXISTS "
        "(SELECT FROM alerts a WHERE a.kind = k AND a.entity = e AND a.resolved_at IS NULL AND a.message = "
        "m)";
    const char **agent = arena_array(arena, n + 1, sizeof(*agent));
    const char **message = arena_array(arena, n + 1, sizeof(*message));
    *ret_n = 0;
    *ret = arena_array(arena, n + 1, sizeof(**ret));
    if (n == 0)
        return CODE_OK;
    for (size_t i = 0; i < n; i++) {
        agent[i] = wanted[i].agent_id;
        message[i] = wanted[i].message;
    }
    struct db_args *args = db_args_new(arena);
    arg_keys(args, wanted, n, arena);
    db_arg_text_array(args, agent, n);
    db_arg_text_array(args, message, n);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(tx, sql, args, &rows, st));
    for (size_t i = 0; i < db_rows_count(rows); i++)
        (*ret)[(*ret_n)++] = wanted[db_int(rows, i, 0) - 1];
    return CODE_OK;
}

enum code store_alerts_trim(struct db *db, int64_t before_ms, struct arena *arena, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_time(args, before_ms);
    return db_query(db, "DELETE FROM alerts WHERE resolved_at < $1", args, NULL, st);
}

/* $1–$3: the selector. Alerts of no agent are for those who may see the whole fleet. */
#define WITHIN                                                                                               \
    "((cardinality($1::text[]) = 0 AND cardinality($3::text[]) = 0) OR (g.labels @> "                        \
    "(SELECT coalesce(jsonb_object_agg(n, v), '{}') FROM unnest($1::text[], $2::text[]) l(n, v)) "           \
    "AND g.labels ?& $3::text[]))"
/* As alert_state() says it. */
#define STATE                                                                                                \
    "CASE WHEN a.resolved_at IS NOT NULL THEN 3 WHEN a.acknowledged_at IS NOT NULL THEN 2 ELSE 1 END"

enum code store_alerts_select(struct db *db, const struct label_terms *terms,
                              const struct alert_filter *filter, size_t max, struct arena *arena,
                              struct alert **ret, size_t *ret_n, struct status *st)
{
    static const char sql[] =
        "SELECT " COLUMNS ", g.hostname, a.first_at, a.last_at, a.acknowledged_by, a.resolved_by "
        "FROM alerts a LEFT JOIN agents g ON g.id = a.agent_id WHERE " WITHIN " AND ((1 << " STATE
        ") & $4) <> 0 AND ($5::bigint = 0 OR (1 << a.kind) & $5 <> 0) "
        "AND ($6::uuid IS NULL OR a.agent_id = $6) AND ($7::uuid IS NULL OR a.id = $7) "
        "AND ($8::uuid IS NULL OR a.id < $8) ORDER BY a.id DESC LIMIT $9";
    struct db_args *args = db_args_new(arena);
    store_arg_terms(args, terms);
    db_arg_int(args, filter->state_bits);
    db_arg_int(args, filter->kind_bits);
    db_arg_text(args, filter->agent_id);
    db_arg_text(args, filter->id);
    db_arg_text(args, filter->after);
    db_arg_int(args, (int64_t)max);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(db, sql, args, &rows, st));
    *ret_n = db_rows_count(rows);
    *ret = arena_array(arena, *ret_n + 1, sizeof(**ret));
    for (size_t i = 0; i < *ret_n; i++) {
        struct alert *alert = &(*ret)[i];
        *alert = row_alert(rows, i, arena);
        alert->hostname = row_text(rows, i, COLUMN_COUNT, arena);
        alert->first_at_ms = db_time(rows, i, COLUMN_COUNT + 1);
        alert->last_at_ms = db_time(rows, i, COLUMN_COUNT + 2);
        alert->acknowledged_by = row_text(rows, i, COLUMN_COUNT + 3, arena);
        alert->resolved_by = row_text(rows, i, COLUMN_COUNT + 4, arena);
    }
    return CODE_OK;
}

enum code store_alert_close(struct db *tx, const char *id, bool resolve, const char *by, int64_t now_ms,
                            struct arena *arena, struct alert **ret, size_t *ret_n, struct status *st)
{
    static const char acknowledged[] =
        "UPDATE alerts a SET version = a.version + 1, acknowledged_at = $2, acknowledged_by = $3 "
        "WHERE a.id = $1 AND a.acknowledged_at IS NULL AND a.resolved_at IS NULL " CHANGED;
    static const char resolved[] = RESOLVE("$2", "$3") "WHERE a.id = $1 AND a.resolved_at IS NULL " CHANGED;
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, id);
    db_arg_time(args, now_ms);
    db_arg_text(args, by);
    return resolve ? changed(tx, resolved, args, arena, ret, ret_n, st)
                   : changed(tx, acknowledged, args, arena, ret, ret_n, st);
}
