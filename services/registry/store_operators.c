/* The SQL of operators, their sessions and links, and of API keys. Blocking, on the session of the calling
 * thread; rows are copied into the caller's arena. */
#include "store_rows.h"

/* ---- API keys
 * --------------------------------------------------------------------------------------------------- */

enum code store_key_insert(struct db *db, const struct api_key *key, const char *created_by,
                           const uint8_t hash[32], int64_t expires_at_ms, int64_t now_ms, struct arena *arena,
                           struct status *st)
{
    static const char sql[] =
        "INSERT INTO api_keys (id, name, hash, roles, label_selector, created_at, expires_at, created_by) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, key->id);
    db_arg_text(args, key->name);
    db_arg_bytes(args, hash, 32);
    db_arg_int(args, key->roles);
    db_arg_text(args, key->label_selector);
    db_arg_time(args, now_ms);
    db_arg_time(args, expires_at_ms);
    db_arg_text(args, created_by);
    return db_query(db, sql, args, NULL, st);
}

enum code store_key_get(struct db *db, const char *id, struct arena *arena, struct stored_key *ret,
                        struct status *st)
{
    static const char sql[] =
        "SELECT id, name, label_selector, roles, hash, expires_at, revoked_at IS NOT NULL "
        "FROM api_keys WHERE id = $1";
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, id);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query_one(db, sql, args, &rows, st));
    *ret = (struct stored_key){
        .key = {.id = row_text(rows, 0, 0, arena),
                .name = row_text(rows, 0, 1, arena),
                .label_selector = row_text(rows, 0, 2, arena),
                .roles = (unsigned)db_int(rows, 0, 3)},
        .hash = row_bytes(rows, 0, 4, arena).data,
        .expires_at_ms = db_time(rows, 0, 5),
        .revoked = db_bool(rows, 0, 6),
    };
    return CODE_OK;
}

enum code store_key_used(struct db *db, const char *id, int64_t now_ms, struct arena *arena,
                         struct status *st)
{
    static const char sql[] = "UPDATE api_keys SET last_used_at = $2 WHERE id = $1 AND "
                              "(last_used_at IS NULL OR last_used_at < $2 - interval '1 minute')";
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, id);
    db_arg_time(args, now_ms);
    return db_query(db, sql, args, NULL, st);
}

/* ---- operators
 * --------------------------------------------------------------------------------------------------- */

enum code store_operator_insert(struct db *tx, const struct operator_row *row, int64_t now_ms,
                                struct arena *arena, struct status *st)
{
    static const char sql[] = "INSERT INTO operators (id, name, password, roles, label_selector, created_at) "
                              "VALUES ($1, $2, $3, $4, $5, $6)";
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, row->id);
    db_arg_text(args, row->operator.name);
    db_arg_text(args, row->password);
    db_arg_int(args, row->operator.roles);
    db_arg_text(args, row->operator.label_selector);
    db_arg_time(args, now_ms);
    return db_query(tx, sql, args, NULL, st);
}

enum code store_operator_get(struct db *db, const char *name, struct arena *arena, struct operator_row *ret,
                             struct status *st)
{
    static const char sql[] = "SELECT id, name, label_selector, roles, password, disabled_at IS NOT NULL "
                              "FROM operators WHERE name = $1";
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, name);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query_one(db, sql, args, &rows, st));
    *ret = (struct operator_row){
        .id = row_text(rows, 0, 0, arena),
        .operator= {.name = row_text(rows, 0, 1, arena),
                    .label_selector = row_text(rows, 0, 2, arena),
                    .roles = (unsigned)db_int(rows, 0, 3)},
        .password = row_text(rows, 0, 4, arena),
        .disabled = db_bool(rows, 0, 5),
    };
    return CODE_OK;
}

enum code store_operator_hold(struct db *tx, const struct operator_row *row, struct arena *arena,
                              bool *ret_still, struct status *st)
{
    static const char sql[] = "SELECT id FROM operators WHERE id = $1 AND password = $2 AND disabled_at IS "
                              "NULL FOR NO KEY UPDATE";
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, row->id);
    db_arg_text(args, row->password);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(tx, sql, args, &rows, st));
    *ret_still = db_rows_count(rows) == 1;
    return CODE_OK;
}

enum code store_link_insert(struct db *db, const uint8_t hash[32], unsigned roles, int64_t now_ms,
                            int64_t expires_at_ms, struct arena *arena, struct status *st)
{
    static const char sql[] =
        "INSERT INTO operator_links (hash, roles, created_at, expires_at) VALUES ($1, $2, $3, $4)";
    struct db_args *args = db_args_new(arena);
    db_arg_bytes(args, hash, 32);
    db_arg_int(args, roles);
    db_arg_time(args, now_ms);
    db_arg_time(args, expires_at_ms);
    return db_query(db, sql, args, NULL, st);
}

enum code store_link_use(struct db *tx, const uint8_t hash[32], int64_t now_ms, struct arena *arena,
                         unsigned *ret_roles, struct status *st)
{
    static const char sql[] = "UPDATE operator_links SET used_at = $2 "
                              "WHERE hash = $1 AND used_at IS NULL AND expires_at > $2 RETURNING roles";
    struct db_args *args = db_args_new(arena);
    db_arg_bytes(args, hash, 32);
    db_arg_time(args, now_ms);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query_one(tx, sql, args, &rows, st));
    *ret_roles = (unsigned)db_int(rows, 0, 0);
    return CODE_OK;
}

enum code store_session_insert(struct db *tx, const struct session *session, const char *operator_id,
                               const uint8_t hash[32], struct arena *arena, struct status *st)
{
    static const char sql[] =
        "INSERT INTO sessions (id, hash, operator_id, source, created_at, expires_at, last_used_at) "
        "VALUES ($1, $2, $3, $4, $5, $6, $5)";
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, session->id);
    db_arg_bytes(args, hash, 32);
    db_arg_text(args, operator_id);
    db_arg_text(args, session->source);
    db_arg_time(args, session->created_at_ms);
    db_arg_time(args, session->expires_at_ms);
    return db_query(tx, sql, args, NULL, st);
}

#define SESSION_COLUMNS                                                                                      \
    "s.id, s.source, s.created_at, s.expires_at, s.last_used_at, o.name, o.label_selector, o.roles"
#define SESSION_FROM "sessions s JOIN operators o ON o.id = s.operator_id AND o.disabled_at IS NULL"

static struct session read_session(const struct db_rows *rows, size_t row, struct arena *arena)
{
    return (struct session){
        .id = row_text(rows, row, 0, arena),
        .source = row_text(rows, row, 1, arena),
        .created_at_ms = db_time(rows, row, 2),
        .expires_at_ms = db_time(rows, row, 3),
        .last_used_at_ms = db_time(rows, row, 4),
        .who = {.name = row_text(rows, row, 5, arena),
                .label_selector = row_text(rows, row, 6, arena),
                .roles = (unsigned)db_int(rows, row, 7)},
    };
}

enum code store_session_use(struct db *db, const uint8_t hash[32], int64_t now_ms, struct arena *arena,
                            struct session *ret, struct status *st)
{
    static const char get[] =
        "SELECT " SESSION_COLUMNS " FROM " SESSION_FROM " WHERE s.hash = $1 AND s.expires_at > $2";
    static const char touch[] = "UPDATE sessions SET last_used_at = $2 WHERE hash = $1 AND "
                                "last_used_at < $2 - interval '1 minute'";
    struct db_args *args = db_args_new(arena);
    db_arg_bytes(args, hash, 32);
    db_arg_time(args, now_ms);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query_one(db, get, args, &rows, st));
    *ret = read_session(rows, 0, arena);
    return db_query(db, touch, args, NULL, st);
}

enum code store_sessions_select(struct db *db, const char *name, const char *id, int64_t now_ms,
                                struct arena *arena, struct session **ret, size_t *ret_n, struct status *st)
{
    static const char sql[] =
        "SELECT " SESSION_COLUMNS " FROM " SESSION_FROM " WHERE o.name = $1 AND s.expires_at > $3 "
        "AND ($2::uuid IS NULL OR s.id = $2::uuid) ORDER BY s.id DESC LIMIT 200";
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, name);
    db_arg_text(args, id);
    db_arg_time(args, now_ms);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(db, sql, args, &rows, st));
    *ret_n = db_rows_count(rows);
    *ret = arena_array(arena, *ret_n + 1, sizeof(**ret));
    for (size_t i = 0; i < *ret_n; i++)
        (*ret)[i] = read_session(rows, i, arena);
    return CODE_OK;
}

enum code store_session_delete(struct db *db, const char *id, struct arena *arena, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, id);
    return db_query(db, "DELETE FROM sessions WHERE id = $1", args, NULL, st);
}

enum code store_attempt_add(struct db *db, const char *source, const char *name, int64_t now_ms,
                            int64_t ends_at_ms, struct arena *arena, int64_t *ret_of_name,
                            int64_t *ret_of_all, struct status *st)
{
    static const char sql[] =
        "INSERT INTO login_attempts (source, name, n, ends_at) VALUES ($1, '', 1, $4), ($1, $2, 1, $4) "
        "ON CONFLICT (source, name) DO UPDATE SET "
        "  n = CASE WHEN login_attempts.ends_at <= $3 THEN 1 ELSE login_attempts.n + 1 END, "
        "  ends_at = CASE WHEN login_attempts.ends_at <= $3 THEN $4 ELSE login_attempts.ends_at END "
        "RETURNING name = '', n";
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, source);
    db_arg_text(args, name);
    db_arg_time(args, now_ms);
    db_arg_time(args, ends_at_ms);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(db, sql, args, &rows, st));
    *ret_of_name = *ret_of_all = 0;
    for (size_t i = 0; i < db_rows_count(rows); i++)
        *(db_bool(rows, i, 0) ? ret_of_all : ret_of_name) = db_int(rows, i, 1);
    return CODE_OK;
}

enum code store_attempt_forgive(struct db *tx, const char *source, const char *name, struct arena *arena,
                                struct status *st)
{
    static const char sql[] = "UPDATE login_attempts SET n = CASE WHEN name = '' THEN n - 1 ELSE 0 END "
                              "WHERE source = $1 AND name IN ('', $2)";
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, source);
    db_arg_text(args, name);
    return db_query(tx, sql, args, NULL, st);
}

enum code store_operators_trim(struct db *db, int64_t now_ms, struct arena *arena, struct status *st)
{
    static const char sql[] = "WITH s AS (DELETE FROM sessions WHERE expires_at <= $1), "
                              "a AS (DELETE FROM login_attempts WHERE ends_at <= $1) "
                              "DELETE FROM operator_links WHERE expires_at <= $1";
    struct db_args *args = db_args_new(arena);
    db_arg_time(args, now_ms);
    return db_query(db, sql, args, NULL, st);
}
