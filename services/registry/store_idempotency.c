/* See store_idempotency.h. */
#include "store_idempotency.h"

#include <string.h>

#include "store.h"

static enum code claim(struct db *tx, const struct cause *cause, const char *entity_id, struct arena *arena,
                       bool *ret_new, struct status *st)
{
    static const char sql[] = "INSERT INTO idempotency (actor, key, request_sha256, entity_id, created_at) "
                              "VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, cause->actor);
    db_arg_text(args, cause->once->key);
    db_arg_bytes(args, cause->once->request_sha256, sizeof(cause->once->request_sha256));
    db_arg_text(args, entity_id);
    db_arg_time(args, cause->now_ms);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(tx, sql, args, &rows, st));
    *ret_new = db_rows_affected(rows) == 1;
    return CODE_OK;
}

enum code store_idempotency_claim(struct db *tx, const struct cause *cause, const char *entity_id,
                                  struct arena *arena, const char **ret_entity_id, struct status *st)
{
    static const char sql[] =
        "SELECT entity_id, request_sha256 = $3 FROM idempotency WHERE actor = $1 AND key = $2";
    bool is_new = true;
    *ret_entity_id = entity_id;
    if (cause->once)
        TRY(claim(tx, cause, entity_id, arena, &is_new, st));
    if (is_new)
        return CODE_OK;
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, cause->actor);
    db_arg_text(args, cause->once->key);
    db_arg_bytes(args, cause->once->request_sha256, sizeof(cause->once->request_sha256));
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query_one(tx, sql, args, &rows, st));
    if (!db_bool(rows, 0, 1))
        return status_set(st, CODE_ALREADY_EXISTS,
                          "the idempotency key was used for another request: take a new key for a new one");
    *ret_entity_id = arena_strdup(arena, db_text(rows, 0, 0));
    return CODE_OK;
}

enum code store_idempotency_trim(struct db *db, int64_t before_ms, struct arena *arena, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_time(args, before_ms);
    return db_query(db, "DELETE FROM idempotency WHERE created_at < $1", args, NULL, st);
}
