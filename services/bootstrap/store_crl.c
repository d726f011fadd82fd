/* SQL of revocation and of the history that shows it. See store.c. */
#include <string.h>

#include "base/id.h"
#include "store.h"

static const char *copy_text(struct arena *arena, const struct db_rows *rows, size_t row, int col)
{
    return arena_strdup(arena, db_text(rows, row, col));
}

enum code store_revoked_add(struct db *db, const struct revoked_row *row, struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, row->issuer);
    db_arg_text(args, row->serial);
    db_arg_text(args, row->agent_id);
    db_arg_int(args, row->reason);
    db_arg_time(args, row->revoked_at_ms);
    db_arg_time(args, row->not_after_ms);
    return db_query(db,
                    "INSERT INTO revoked (issuer, serial, agent_id, reason, revoked_at, not_after) "
                    "VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (issuer, serial) DO NOTHING",
                    args, NULL, st);
}

static enum code read_entry(const struct db_rows *rows, size_t row, struct crl_entry *ret, struct status *st)
{
    const char *serial = db_text(rows, row, 0);
    ret->serial_len = strlen(serial) / 2;
    if (ret->serial_len > CRL_SERIAL_MAX || !hex_decode(serial, ret->serial, ret->serial_len))
        return status_set(st, CODE_DATA_LOSS, "serial %.60s of a revoked certificate cannot be read", serial);
    ret->reason = (enum crl_reason)db_int(rows, row, 1);
    ret->revoked_at_ms = db_time(rows, row, 2);
    return CODE_OK;
}

enum code store_revoked_list(struct db *db, struct arena *arena, const char *issuer, uint64_t number,
                             int64_t ended_before_ms, struct crl_entry **ret, size_t *ret_n,
                             struct status *st)
{
    AUTO_ROWS struct db_rows *rows = NULL;
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, issuer);
    db_arg_time(args, ended_before_ms);
    TRY(db_query(db, "DELETE FROM revoked WHERE issuer = $1 AND not_after <= $2", args, NULL, st));
    args = db_args_new(arena);
    db_arg_text(args, issuer);
    db_arg_int(args, (int64_t)number);
    /* What the statement sees is what it marks: a row that comes meanwhile waits for the next list. */
    TRY(db_query(db,
                 "UPDATE revoked SET listed_in = coalesce(listed_in, $2) WHERE issuer = $1 "
                 "RETURNING serial, reason, revoked_at",
                 args, &rows, st));
    *ret_n = db_rows_count(rows);
    *ret = arena_array(arena, *ret_n + 1, sizeof(**ret));
    for (size_t i = 0; i < *ret_n; i++)
        TRY(read_entry(rows, i, &(*ret)[i], st));
    return CODE_OK;
}

enum code store_crl_put(struct db *db, const struct crl_row *row, struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, row->issuer);
    db_arg_int(args, (int64_t)row->number);
    db_arg_time(args, row->this_update_ms);
    db_arg_time(args, row->next_update_ms);
    db_arg_bytes(args, row->der.data, row->der.len);
    return db_query(db,
                    "INSERT INTO crl AS c (issuer, number, this_update, next_update, der) "
                    "VALUES ($1, $2, $3, $4, $5) ON CONFLICT (issuer) DO UPDATE SET number = $2, "
                    "this_update = $3, next_update = $4, der = $5, late_told = false WHERE c.number < $2",
                    args, NULL, st);
}

enum code store_crl_get(struct db *db, struct arena *arena, const char *issuer, struct crl_row *ret,
                        struct status *st)
{
    AUTO_ROWS struct db_rows *rows = NULL;
    struct db_args *args = db_args_new(arena);
    size_t len;
    db_arg_text(args, issuer);
    TRY(db_query_one(db,
                     "SELECT issuer, number, this_update, next_update, der, late_told, EXISTS "
                     "(SELECT FROM revoked r WHERE r.issuer = c.issuer AND r.listed_in IS NULL) "
                     "FROM crl c WHERE issuer = $1",
                     args, &rows, st));
    *ret = (struct crl_row){
        .issuer = copy_text(arena, rows, 0, 0),
        .number = (uint64_t)db_int(rows, 0, 1),
        .this_update_ms = db_time(rows, 0, 2),
        .next_update_ms = db_time(rows, 0, 3),
        .late_told = db_bool(rows, 0, 5),
        .unlisted = db_bool(rows, 0, 6),
    };
    const void *der = db_bytes(rows, 0, 4, &len);
    ret->der = (struct bytes){arena_dup(arena, der, len), len};
    return CODE_OK;
}

enum code store_crl_late(struct db *db, const char *issuer, bool *ret_first, struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    AUTO_ROWS struct db_rows *rows = NULL;
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, issuer);
    TRY(db_query(db, "UPDATE crl SET late_told = true WHERE issuer = $1 AND NOT late_told RETURNING issuer",
                 args, &rows, st));
    *ret_first = db_rows_count(rows) == 1;
    return CODE_OK;
}

enum code store_identity_views(struct db *db, struct arena *arena, const char *agent_id, size_t max,
                               struct identity_view **ret, size_t *ret_n, struct status *st)
{
    AUTO_ROWS struct db_rows *rows = NULL;
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, agent_id);
    db_arg_int(args, (int64_t)max);
    TRY(db_query(db,
                 "SELECT i.generation, i.serial, i.fingerprint_sha256, i.issued_at, i.not_after, "
                 "i.confirmed_at, r.revoked_at, i.token_id, i.generation = h.confirmed_generation, "
                 "i.generation > coalesce(h.confirmed_generation, -1) "
                 "FROM identity i JOIN agent_identity h USING (agent_id) "
                 "LEFT JOIN revoked r ON r.issuer = 'agents' AND r.serial = i.serial "
                 "WHERE i.agent_id = $1 ORDER BY i.generation DESC LIMIT $2",
                 args, &rows, st));
    *ret_n = db_rows_count(rows);
    *ret = arena_array(arena, *ret_n + 1, sizeof(**ret));
    for (size_t i = 0; i < *ret_n; i++) {
        (*ret)[i] = (struct identity_view){
            .generation = (uint32_t)db_int(rows, i, 0),
            .serial = copy_text(arena, rows, i, 1),
            .fingerprint = copy_text(arena, rows, i, 2),
            .issued_at_ms = db_time(rows, i, 3),
            .not_after_ms = db_time(rows, i, 4),
            .confirmed_at_ms = db_time(rows, i, 5),
            .revoked_at_ms = db_time(rows, i, 6),
            .token_id = copy_text(arena, rows, i, 7),
            .current = db_bool(rows, i, 8),
            .pending = db_bool(rows, i, 9),
        };
    }
    return CODE_OK;
}
