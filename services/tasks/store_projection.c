/* What tasks knows of agents and their identities, and of the platform's safe mode. */
#include "store_parts.h"

enum code store_agent_put(struct db *db, struct arena *arena, const char *agent_id, uint64_t version,
                          const struct agent *agent, const char *agent_version, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, agent_id);
    db_arg_int(args, (int64_t)version);
    db_arg_int(args, agent->status);
    db_arg_bool(args, agent->safe_column >= SAFE_SAFE_MODE);
    db_arg_bool(args, agent->safe_column >= SAFE_CLONE);
    db_arg_bool(args, agent->deleted);
    db_arg_int(args, agent->min_generation);
    db_arg_bytes(args, agent->scope.data, agent->scope.len);
    db_arg_text(args, agent_version);
    db_arg_int(args, agent->safe_column);
    db_arg_text(args, agent->reason ? agent->reason : "");
    db_arg_text_array(args, agent->label_names, agent->n_labels);
    db_arg_text_array(args, agent->label_values, agent->n_labels);
    return db_query(
        db,
        "INSERT INTO agents AS a (agent_id, version, status, safe_mode, disabled, deleted, min_generation, "
        "  scope, agent_version, safe_column, reason, labels) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, "
        "$10, $11, "
        "  (SELECT coalesce(jsonb_object_agg(n, v), '{}') FROM unnest($12::text[], $13::text[]) l(n, v))) "
        "ON CONFLICT (agent_id) DO UPDATE SET version = excluded.version, status = excluded.status, "
        "  safe_mode = excluded.safe_mode, disabled = excluded.disabled, deleted = excluded.deleted, "
        "  min_generation = excluded.min_generation, scope = excluded.scope, "
        "  safe_column = excluded.safe_column, reason = excluded.reason, "
        "  agent_version = excluded.agent_version, labels = excluded.labels "
        "WHERE a.version < excluded.version",
        args, NULL, st);
}

enum code store_agent_covered(struct db *db, struct arena *arena, const struct label_terms *terms,
                              const char *agent_id, bool *ret, struct status *st)
{
    static const char sql[] =
        "SELECT EXISTS (SELECT FROM agents a WHERE " LABELS_HOLD_IN("a.labels") " AND a.agent_id = $4)";
    struct db_args *args = db_args_new(arena);
    store_arg_terms(args, terms);
    db_arg_text(args, agent_id);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query_one(db, sql, args, &rows, st));
    *ret = db_bool(rows, 0, 0);
    return CODE_OK;
}

enum code store_agent_get(struct db *db, struct arena *arena, const char *agent_id, struct agent *ret,
                          struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, agent_id);
    AUTO_ROWS struct db_rows *rows = NULL;
    if (db_query_one(db,
                     "SELECT a.status, greatest(a.safe_column, p.safe_mode::int), a.reason, a.deleted, "
                     "a.min_generation, a.scope, a.version FROM agents a, platform p WHERE agent_id = $1",
                     args, &rows, st) != CODE_OK)
        return st->code == CODE_NOT_FOUND ? status_set(st, CODE_NOT_FOUND, "no agent %s", agent_id)
                                          : st->code;
    *ret = (struct agent){
        .status = (unsigned)db_int(rows, 0, 0),
        .safe_column = (enum safe_column)db_int(rows, 0, 1),
        .reason = arena_strdup(arena, db_text(rows, 0, 2)),
        .deleted = db_bool(rows, 0, 3),
        .min_generation = (unsigned)db_int(rows, 0, 4),
        .scope = store_bytes(rows, 0, 5, arena),
        .version = (uint64_t)db_int(rows, 0, 6),
    };
    return CODE_OK;
}

enum code store_platform_put(struct db *db, struct arena *arena, bool safe_mode, uint64_t version,
                             struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_bool(args, safe_mode);
    db_arg_int(args, (int64_t)version);
    return db_query(db, "UPDATE platform SET safe_mode = $1, version = $2 WHERE version < $2", args, NULL,
                    st);
}

enum code store_epoch_put(struct db *db, struct arena *arena, uint64_t epoch, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_int(args, (int64_t)epoch);
    return db_query(db, "UPDATE platform SET epoch = $1 WHERE epoch < $1", args, NULL, st);
}

enum code store_break_glass_open(struct db *db, struct arena *arena, const struct new_task *task,
                                 const char **ret_id, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, task->agent_id);
    db_arg_text(args, task->created_by);
    db_arg_text(args, task->idempotency_key);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(db,
                 "SELECT id FROM tasks WHERE agent_id = $1 AND break_glass AND finished_at IS NULL AND NOT "
                 "coalesce(created_by = $2 AND idempotency_key = $3, false)",
                 args, &rows, st));
    *ret_id = db_rows_count(rows) > 0 ? arena_strdup(arena, db_text(rows, 0, 0)) : NULL;
    return CODE_OK;
}

enum code store_order_report_due(struct db *db, struct arena *arena, const char *agent_id, int64_t now_ms,
                                 bool *ret_due, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, agent_id);
    db_arg_time(args, now_ms);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(
        db,
        "INSERT INTO order_reports AS o (agent_id, told_at) VALUES ($1, $2) ON CONFLICT (agent_id) DO "
        "UPDATE SET told_at = excluded.told_at WHERE o.told_at <= excluded.told_at - interval '1 minute' "
        "RETURNING 1",
        args, &rows, st));
    *ret_due = db_rows_count(rows) == 1;
    return CODE_OK;
}

enum code store_cancel_of_agent(struct db *db, struct arena *arena, const char *agent_id, int64_t now_ms,
                                const char *message, struct task **ret, size_t *ret_n, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, agent_id);
    db_arg_time(args, now_ms);
    db_arg_text(args, message);
    store_arg_sources(args, STATE_CANCELLED);
    return store_query_tasks(
        db, arena,
        "UPDATE tasks t SET state = 8, finished_at = $2, phase = NULL, message = $3, "
        "version = version + 1 WHERE agent_id = $1 AND finished_at IS NULL AND state = ANY ($4) "
        "RETURNING " T_TASK_COLUMNS,
        args, ret, ret_n, st);
}

enum code store_identity_put(struct db *db, struct arena *arena, const char *agent_id, unsigned generation,
                             struct bytes task_certificate, bool confirmed, uint64_t version,
                             struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, agent_id);
    db_arg_int(args, generation);
    db_arg_bytes(args, task_certificate.data, task_certificate.len);
    db_arg_bool(args, confirmed);
    db_arg_int(args, (int64_t)version);
    return db_query(
        db,
        "INSERT INTO identities AS i (agent_id, generation, task_certificate, confirmed, version) "
        "VALUES ($1, $2, $3, $4, $5) ON CONFLICT (agent_id, generation) DO UPDATE SET "
        "  task_certificate = excluded.task_certificate, confirmed = excluded.confirmed, "
        "  version = excluded.version WHERE i.version < excluded.version",
        args, NULL, st);
}

enum code store_identity_confirm(struct db *db, struct arena *arena, const char *agent_id,
                                 unsigned generation, uint64_t version, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, agent_id);
    db_arg_int(args, generation);
    db_arg_int(args, (int64_t)version);
    return db_query(db,
                    "UPDATE identities SET confirmed = true, version = $3 "
                    "WHERE agent_id = $1 AND generation = $2 AND version < $3",
                    args, NULL, st);
}

enum code store_identity_find(struct db *db, struct arena *arena, const char *agent_id,
                              struct bytes task_certificate, unsigned *ret_generation, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, agent_id);
    db_arg_bytes(args, task_certificate.data, task_certificate.len);
    AUTO_ROWS struct db_rows *rows = NULL;
    if (db_query_one(db,
                     "SELECT generation FROM identities WHERE agent_id = $1 AND task_certificate = $2 AND "
                     "generation + 1 >= "
                     "coalesce((SELECT generation FROM identities WHERE agent_id = $1 AND confirmed "
                     "ORDER BY version DESC, generation DESC LIMIT 1), 0)",
                     args, &rows, st) != CODE_OK)
        return st->code;
    *ret_generation = (unsigned)db_int(rows, 0, 0);
    return CODE_OK;
}

enum code store_identity_newest(struct db *db, struct arena *arena, const char *agent_id,
                                int64_t *ret_generation, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, agent_id);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query_one(db, "SELECT coalesce(max(generation), -1) FROM identities WHERE agent_id = $1", args,
                     &rows, st));
    *ret_generation = db_int(rows, 0, 0);
    return CODE_OK;
}
