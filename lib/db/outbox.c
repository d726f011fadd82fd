/*
 * SQL of the outbox and the inbox; runs in the caller's transaction and thread. The notification carries
 * nothing: the relay reads the table.
 */
#include "db/outbox.h"

enum code outbox_add(struct db *db, const char *id, const char *subject, const void *body, size_t len,
                     struct status *st)
{
    return outbox_add_many(db, 1, &id, &subject, &body, &len, st);
}

enum code outbox_add_many(struct db *db, size_t n, const char *const *ids, const char *const *subjects,
                          const void *const *bodies, const size_t *lens, struct status *st)
{
    static const char sql[] = "WITH added AS (INSERT INTO outbox (id, subject, body) "
                              "  SELECT id::uuid, subject, body FROM unnest($1::text[], $2::text[], "
                              "$3::bytea[]) AS e(id, subject, body)) "
                              "SELECT pg_notify('clm_outbox_' || current_schema(), '')";
    if (n == 0)
        return CODE_OK;
    AUTO_ARENA struct arena *arena = arena_new();
    struct db_args *args = db_args_new(arena);
    db_arg_text_array(args, ids, n);
    db_arg_text_array(args, subjects, n);
    db_arg_bytes_array(args, bodies, lens, n);
    TRY(db_query(db, sql, args, NULL, st));
    return CODE_OK;
}

enum code inbox_claim(struct db *db, const char *event_id, bool *ret_fresh, struct status *st)
{
    static const char sql[] = "INSERT INTO inbox (event_id) VALUES ($1) ON CONFLICT DO NOTHING RETURNING 1";
    AUTO_ARENA struct arena *arena = arena_new();
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, event_id);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(db, sql, args, &rows, st));
    *ret_fresh = db_rows_count(rows) == 1;
    return CODE_OK;
}

enum code inbox_park(struct db *db, const char *event_id, const char *subject, const void *body, size_t len,
                     const char *reason, struct status *st)
{
    static const char sql[] = "INSERT INTO parked (event_id, subject, body, reason) VALUES ($1, $2, $3, $4)";
    AUTO_ARENA struct arena *arena = arena_new();
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, event_id);
    db_arg_text(args, subject);
    db_arg_bytes(args, body ? body : "", len);
    db_arg_text(args, reason);
    return db_query(db, sql, args, NULL, st);
}
