/* Statements about operators, their links and API keys, as administrators handle them. */
#include "grants.h"
#include "store.h"

static const char *text_of(const struct db_rows *rows, size_t row, int col, struct arena *arena)
{
    return arena_strdup(arena, db_text(rows, row, col));
}

/* ---- operators ---- */

enum code store_operators_select(struct db *db, const char *id, const char *after_id, size_t max,
                                 int64_t now_ms, struct arena *arena, struct operator_entry **ret,
                                 size_t *ret_n, struct status *st)
{
    static const char sql[] =
        "SELECT o.id, o.name, o.label_selector, o.roles, o.created_at, o.last_login_at, o.disabled_at, "
        "  o.password IS NULL, (SELECT max(l.expires_at) FROM operator_links l WHERE l.operator_id = o.id "
        "    AND l.used_at IS NULL AND l.expires_at > $4) "
        "FROM operators o WHERE ($1::uuid IS NULL OR o.id = $1) AND ($2::uuid IS NULL OR o.id > $2) "
        "ORDER BY o.id LIMIT $3";
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, id);
    db_arg_text(args, after_id);
    db_arg_int(args, (int64_t)max);
    db_arg_time(args, now_ms);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(db, sql, args, &rows, st));
    *ret_n = db_rows_count(rows);
    *ret = arena_array(arena, *ret_n + 1, sizeof(**ret));
    for (size_t i = 0; i < *ret_n; i++) {
        bool disabled = !db_is_null(rows, i, 6), invited = db_bool(rows, i, 7);
        (*ret)[i] = (struct operator_entry){
            .id = text_of(rows, i, 0, arena),
            .who = {.name = text_of(rows, i, 1, arena),
                    .label_selector = text_of(rows, i, 2, arena),
                    .roles = (unsigned)db_int(rows, i, 3)},
            .state = disabled  ? OPERATOR_DISABLED
                     : invited ? OPERATOR_INVITED
                               : OPERATOR_ACTIVE,
            .created_at_ms = db_time(rows, i, 4),
            .last_login_at_ms = db_time(rows, i, 5),
            .disabled_at_ms = db_time(rows, i, 6),
            .link_not_after_ms = db_time(rows, i, 8),
        };
    }
    return CODE_OK;
}

enum code store_operators_lock(struct db *tx, struct status *st)
{
    return db_query(tx, "LOCK TABLE operators IN SHARE ROW EXCLUSIVE MODE", NULL, NULL, st);
}

enum code store_operators_admins(struct db *tx, struct arena *arena, int64_t *ret_n, struct status *st)
{
    static const char sql[] = "SELECT count(*) FROM operators WHERE roles & $1 <> 0 AND label_selector = '' "
                              "AND disabled_at IS NULL AND password IS NOT NULL";
    struct db_args *args = db_args_new(arena);
    db_arg_int(args, 1 << 3);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query_one(tx, sql, args, &rows, st));
    *ret_n = db_int(rows, 0, 0);
    return CODE_OK;
}

enum code store_operator_grant(struct db *tx, const char *id, const struct grant *grant, struct arena *arena,
                               struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, id);
    db_arg_int(args, grant->roles);
    db_arg_text(args, grant->selector);
    return db_query(tx, "UPDATE operators SET roles = $2, label_selector = $3 WHERE id = $1", args, NULL, st);
}

enum code store_operator_disable(struct db *tx, const char *id, int64_t disabled_at_ms, struct arena *arena,
                                 struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, id);
    db_arg_time(args, disabled_at_ms);
    return db_query(tx, "UPDATE operators SET disabled_at = $2 WHERE id = $1", args, NULL, st);
}

enum code store_operator_invite(struct db *tx, const char *id, const char *name, const struct grant *grant,
                                int64_t now_ms, struct arena *arena, struct status *st)
{
    static const char sql[] =
        "INSERT INTO operators (id, name, roles, label_selector, created_at) VALUES ($1, $2, $3, $4, $5)";
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, id);
    db_arg_text(args, name);
    db_arg_int(args, grant->roles);
    db_arg_text(args, grant->selector);
    db_arg_time(args, now_ms);
    return db_query(tx, sql, args, NULL, st);
}

enum code store_operator_link(struct db *tx, const char *id, const uint8_t hash[32], const char *operator_id,
                              int64_t now_ms, int64_t expires_at_ms, struct arena *arena, struct status *st)
{
    static const char sql[] =
        "WITH former AS (DELETE FROM operator_links WHERE operator_id = $2) "
        "INSERT INTO operator_links (hash, operator_id, roles, created_at, expires_at, id) "
        "VALUES ($1, $2, 0, $3, $4, $5)";
    struct db_args *args = db_args_new(arena);
    db_arg_bytes(args, hash, 32);
    db_arg_text(args, operator_id);
    db_arg_time(args, now_ms);
    db_arg_time(args, expires_at_ms);
    db_arg_text(args, id);
    return db_query(tx, sql, args, NULL, st);
}

enum code store_operator_link_renew(struct db *tx, const char *id, const uint8_t hash[32],
                                    int64_t expires_at_ms, struct arena *arena, bool *ret_changed,
                                    struct status *st)
{
    static const char sql[] =
        "UPDATE operator_links SET hash = $2, expires_at = $3 WHERE id = $1 AND used_at IS NULL";
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, id);
    db_arg_bytes(args, hash, 32);
    db_arg_time(args, expires_at_ms);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(tx, sql, args, &rows, st));
    *ret_changed = db_rows_affected(rows) == 1;
    return CODE_OK;
}

enum code store_link_operator(struct db *tx, const uint8_t hash[32], struct arena *arena,
                              struct operator_row *ret, struct status *st)
{
    static const char sql[] =
        "SELECT o.id, o.name, o.label_selector, o.roles, o.disabled_at IS NOT NULL FROM operator_links l "
        "LEFT JOIN operators o ON o.id = l.operator_id WHERE l.hash = $1";
    struct db_args *args = db_args_new(arena);
    db_arg_bytes(args, hash, 32);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query_one(tx, sql, args, &rows, st));
    *ret = (struct operator_row){
        .id = text_of(rows, 0, 0, arena),
        .operator= {.name = text_of(rows, 0, 1, arena),
                    .label_selector = text_of(rows, 0, 2, arena),
                    .roles = (unsigned)db_int(rows, 0, 3)},
        .disabled = db_bool(rows, 0, 4),
    };
    return CODE_OK;
}

enum code store_operator_password(struct db *tx, const char *id, const char *password, struct arena *arena,
                                  struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, id);
    db_arg_text(args, password);
    return db_query(tx, "UPDATE operators SET password = $2 WHERE id = $1", args, NULL, st);
}

enum code store_operator_seen(struct db *tx, const char *id, int64_t now_ms, struct arena *arena,
                              struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, id);
    db_arg_time(args, now_ms);
    return db_query(tx, "UPDATE operators SET last_login_at = $2 WHERE id = $1", args, NULL, st);
}

enum code store_operator_sessions_delete(struct db *tx, const char *id, struct arena *arena, int64_t *ret_n,
                                         struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, id);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(tx, "DELETE FROM sessions WHERE operator_id = $1", args, &rows, st));
    *ret_n = db_rows_affected(rows);
    return CODE_OK;
}

/* ---- API keys ---- */

enum code store_keys_select(struct db *db, const char *id, bool ended, const char *after_id, size_t max,
                            int64_t now_ms, struct arena *arena, struct api_key_entry **ret, size_t *ret_n,
                            struct status *st)
{
    static const char sql[] =
        "SELECT id, name, label_selector, roles, created_by, created_at, expires_at, revoked_at, "
        "last_used_at "
        "FROM api_keys WHERE ($1::text IS NULL OR id = $1) AND ($2::text IS NULL OR id > $2) "
        "AND ($3 OR (revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $4))) ORDER BY id LIMIT $5";
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, id);
    db_arg_text(args, after_id);
    db_arg_bool(args, ended);
    db_arg_time(args, now_ms);
    db_arg_int(args, (int64_t)max);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(db, sql, args, &rows, st));
    *ret_n = db_rows_count(rows);
    *ret = arena_array(arena, *ret_n + 1, sizeof(**ret));
    for (size_t i = 0; i < *ret_n; i++)
        (*ret)[i] = (struct api_key_entry){
            .key = {.id = text_of(rows, i, 0, arena),
                    .name = text_of(rows, i, 1, arena),
                    .label_selector = text_of(rows, i, 2, arena),
                    .roles = (unsigned)db_int(rows, i, 3)},
            .created_by = text_of(rows, i, 4, arena),
            .created_at_ms = db_time(rows, i, 5),
            .expires_at_ms = db_time(rows, i, 6),
            .revoked_at_ms = db_time(rows, i, 7),
            .last_used_at_ms = db_time(rows, i, 8),
        };
    return CODE_OK;
}

enum code store_key_renew(struct db *tx, const char *id, const uint8_t hash[32], struct arena *arena,
                          bool *ret_changed, struct status *st)
{
    static const char sql[] =
        "UPDATE api_keys SET hash = $2 WHERE id = $1 AND revoked_at IS NULL AND last_used_at IS NULL";
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, id);
    db_arg_bytes(args, hash, 32);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(tx, sql, args, &rows, st));
    *ret_changed = db_rows_affected(rows) > 0;
    return CODE_OK;
}

enum code store_key_revoke(struct db *tx, const char *id, int64_t now_ms, struct arena *arena,
                           bool *ret_changed, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, id);
    db_arg_time(args, now_ms);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(tx, "UPDATE api_keys SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL", args, &rows,
                 st));
    *ret_changed = db_rows_affected(rows) > 0;
    return CODE_OK;
}
