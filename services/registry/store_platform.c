/* SQL of the platform's own row and of an agent's end. Blocking; rows are copied into the caller's arena. */
#include "store.h"

static void read_platform(const struct db_rows *rows, struct arena *arena, struct platform *ret)
{
    *ret = (struct platform){
        .safe_mode = db_bool(rows, 0, 0),
        .reason = arena_strdup(arena, db_text(rows, 0, 1)),
        .by = arena_strdup(arena, db_text(rows, 0, 2)),
        .since_ms = db_time(rows, 0, 3),
        .version = db_int(rows, 0, 4),
    };
}

#define PLATFORM_COLUMNS "safe_mode, safe_mode_reason, safe_mode_by, safe_mode_since, version"

enum code store_platform_get(struct db *db, struct arena *arena, struct platform *ret, struct status *st)
{
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query_one(db, "SELECT " PLATFORM_COLUMNS " FROM platform", NULL, &rows, st));
    read_platform(rows, arena, ret);
    return CODE_OK;
}

enum code store_platform_safe_mode(struct db *tx, bool on, const char *reason, const char *by, int64_t now_ms,
                                   struct arena *arena, struct platform *ret, bool *ret_changed,
                                   struct status *st)
{
    static const char sql[] =
        "UPDATE platform SET safe_mode = $1, safe_mode_reason = $2, safe_mode_by = $3, safe_mode_since = $4, "
        "version = version + 1 WHERE safe_mode <> $1 RETURNING " PLATFORM_COLUMNS;
    struct db_args *args = db_args_new(arena);
    db_arg_bool(args, on);
    db_arg_text(args, reason);
    db_arg_text(args, by);
    db_arg_time(args, now_ms);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(tx, sql, args, &rows, st));
    *ret_changed = db_rows_count(rows) == 1;
    if (!*ret_changed)
        return store_platform_get(tx, arena, ret, st);
    read_platform(rows, arena, ret);
    return CODE_OK;
}

enum code store_agent_delete(struct db *tx, const char *id, struct arena *arena, struct status *st)
{
    static const char sql[] = "WITH gone AS (DELETE FROM agents WHERE id = $1 RETURNING status) "
                              "INSERT INTO agent_counts (status, n) SELECT status, -1 FROM gone";
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, id);
    return db_query(tx, sql, args, NULL, st);
}
