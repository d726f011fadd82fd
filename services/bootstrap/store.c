/*
 * The only SQL of clm-bootstrap. What must hold under concurrent use is in the statements themselves: the
 * WHERE of an UPDATE decides, and its RETURNING says what was decided.
 */
#include "store.h"

#include <string.h>

static const char *copy_text(struct arena *arena, const struct db_rows *rows, size_t row, int col)
{
    return arena_strdup(arena, db_text(rows, row, col));
}

static struct bytes copy_bytes(struct arena *arena, const struct db_rows *rows, size_t row, int col)
{
    size_t len;
    const void *data = db_bytes(rows, row, col, &len);
    return (struct bytes){data ? arena_dup(arena, data, len) : NULL, len};
}

static void arg_bytes(struct db_args *args, struct bytes bytes)
{
    db_arg_bytes(args, bytes.data, bytes.len);
}

/* ---- whose CA this is -------------------------------------------------------------------------------------
 */

#define INIT_LOCK_KEY 0x636c6d2d696e6974 /* "clm-init" */

enum code store_init_lock(struct db *db, bool *ret_held, struct status *st)
{
    return db_try_lock(db, INIT_LOCK_KEY, ret_held, st);
}

enum code store_ca_read(struct db *db, struct arena *arena, struct ca_row *ret, struct status *st)
{
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query_one(db, "SELECT root_sha256, trust_domain FROM ca", NULL, &rows, st));
    ret->root_sha256 = copy_text(arena, rows, 0, 0);
    ret->trust_domain = copy_text(arena, rows, 0, 1);
    return CODE_OK;
}

enum code store_ca_write(struct db *db, const struct ca_row *row, struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, row->root_sha256);
    db_arg_text(args, row->trust_domain);
    return db_query(db, "INSERT INTO ca (root_sha256, trust_domain) VALUES ($1, $2)", args, NULL, st);
}

/* ---- tokens -----------------------------------------------------------------------------------------------
 */

/* The names are on the wire, in events: they never change. "open" is the order of states, too: see
 * store_token_find. */
static const char *const token_states[] = {
    [TOKEN_OPEN] = "open",       [TOKEN_BOUND] = "bound",     [TOKEN_USED] = "used",
    [TOKEN_EXPIRED] = "expired", [TOKEN_REVOKED] = "revoked", [TOKEN_DISABLED] = "disabled",
    [TOKEN_UNKNOWN] = "unknown",
};
_Static_assert(ARRAY_LEN(token_states) == TOKEN_STATE_COUNT, "a name for each state");

const char *token_state_name(enum token_state state)
{
    return token_states[state];
}

static enum code revoke_others(struct db *db, const struct new_token *token, struct arena *arena,
                               struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, token->agent_id);
    db_arg_time(args, token->now_ms);
    db_arg_text(args, token->id);
    return db_query(db,
                    "UPDATE token SET revoked_at = $2, version = version + 1 "
                    "WHERE agent_id = $1::uuid AND used_at IS NULL AND revoked_at IS NULL AND id <> $3::uuid",
                    args, NULL, st);
}

enum code store_token_add(struct db *db, const struct new_token *token, bool *ret_added, struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    AUTO_ROWS struct db_rows *rows = NULL;
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, token->id);
    db_arg_bytes(args, token->secret_sha256, SHA256_SIZE);
    db_arg_text(args, token->agent_id);
    db_arg_text(args, token->hostname);
    db_arg_text(args, token->created_by);
    db_arg_time(args, token->now_ms);
    db_arg_time(args, token->not_after_ms);
    db_arg_text(args, token->hostname_pattern);
    db_arg_text(args, token->source_cidr);
    TRY(db_query(db,
                 "INSERT INTO token (id, secret_sha256, agent_id, hostname, created_by, created_at, "
                 "not_after, hostname_pattern, source_cidr) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) "
                 "ON CONFLICT (id) DO NOTHING",
                 args, &rows, st));
    *ret_added = db_rows_affected(rows) == 1;
    return *ret_added ? revoke_others(db, token, arena, st) : CODE_OK;
}

enum code store_token_renew(struct db *db, const struct new_token *token, bool *ret_changed,
                            struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    AUTO_ROWS struct db_rows *rows = NULL;
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, token->id);
    db_arg_bytes(args, token->secret_sha256, SHA256_SIZE);
    db_arg_text(args, token->agent_id);
    db_arg_time(args, token->not_after_ms);
    TRY(db_query(db,
                 "UPDATE token SET secret_sha256 = $2, not_after = $4 WHERE id = $1 AND agent_id = $3 AND "
                 "bound_at IS NULL AND used_at IS NULL AND revoked_at IS NULL",
                 args, &rows, st));
    *ret_changed = db_rows_affected(rows) == 1;
    return CODE_OK;
}

enum code store_token_find(struct db *db, struct arena *arena, const uint8_t secret_sha256[SHA256_SIZE],
                           int64_t now_ms, struct token_row *ret, struct status *st)
{
    AUTO_ROWS struct db_rows *rows = NULL;
    struct db_args *args = db_args_new(arena);

    db_arg_bytes(args, secret_sha256, SHA256_SIZE);
    db_arg_time(args, now_ms);
    TRY(db_query(
        db,
        "SELECT t.id, t.agent_id, CASE WHEN t.revoked_at IS NOT NULL THEN 'revoked' "
        "WHEN t.used_at IS NOT NULL THEN 'used' WHEN s.disabled THEN 'disabled' "
        "WHEN t.bound_at IS NOT NULL THEN 'bound' WHEN t.not_after <= $2 THEN 'expired' ELSE 'open' END, "
        "t.hostname_pattern, t.source_cidr FROM token t LEFT JOIN agent_scope s USING (agent_id) WHERE "
        "t.secret_sha256 = $1",
        args, &rows, st));
    *ret = (struct token_row){.state = TOKEN_UNKNOWN};
    if (db_rows_count(rows) == 0)
        return CODE_OK;
    ret->id = copy_text(arena, rows, 0, 0);
    ret->agent_id = copy_text(arena, rows, 0, 1);
    ret->hostname_pattern = copy_text(arena, rows, 0, 3);
    ret->source_cidr = copy_text(arena, rows, 0, 4);
    const char *name = db_text(rows, 0, 2);
    for (size_t i = 0; i < TOKEN_STATE_COUNT; i++) {
        if (strcmp(token_states[i], name) == 0)
            ret->state = (enum token_state)i;
    }
    return CODE_OK;
}

enum code store_token_bind(struct db *db, const uint8_t secret_sha256[SHA256_SIZE],
                           const uint8_t identity_spki[SHA256_SIZE], const uint8_t task_spki[SHA256_SIZE],
                           int64_t now_ms, bool *ret_bound, struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    AUTO_ROWS struct db_rows *rows = NULL;
    struct db_args *args = db_args_new(arena);

    db_arg_bytes(args, secret_sha256, SHA256_SIZE);
    db_arg_bytes(args, identity_spki, SHA256_SIZE);
    db_arg_bytes(args, task_spki, SHA256_SIZE);
    db_arg_time(args, now_ms);
    /* The second of two concurrent uses waits for the first one's row lock and then sees it bound. The end of
     * its time stops a token from being bound, not the host that it is bound to from asking again. */
    TRY(db_query(
        db,
        "UPDATE token t SET identity_spki_sha256 = $2, task_spki_sha256 = $3, "
        "bound_at = coalesce(bound_at, $4) "
        "WHERE secret_sha256 = $1 AND used_at IS NULL AND revoked_at IS NULL AND "
        "(bound_at IS NULL AND not_after > $4 OR identity_spki_sha256 = $2 AND task_spki_sha256 = $3) AND "
        "NOT EXISTS (SELECT FROM agent_scope s WHERE s.agent_id = t.agent_id AND s.disabled) "
        "RETURNING id",
        args, &rows, st));
    *ret_bound = db_rows_count(rows) == 1;
    return CODE_OK;
}

enum code store_token_list(struct db *db, struct arena *arena, const char *agent_id, int64_t now_ms,
                           size_t max, struct token_view **ret, size_t *ret_n, struct status *st)
{
    AUTO_ROWS struct db_rows *rows = NULL;
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, agent_id);
    db_arg_time(args, now_ms);
    db_arg_int(args, (int64_t)max);
    TRY(db_query(db,
                 "SELECT id, hostname, created_by, CASE WHEN revoked_at IS NOT NULL THEN 'revoked' "
                 "WHEN used_at IS NOT NULL THEN 'used' WHEN bound_at IS NOT NULL THEN 'bound' "
                 "WHEN not_after <= $2 THEN 'expired' ELSE 'open' END, created_at, not_after, bound_at, "
                 "used_at, revoked_at, hostname_pattern, source_cidr FROM token WHERE agent_id = $1 ORDER BY "
                 "created_at DESC, id DESC "
                 "LIMIT $3",
                 args, &rows, st));
    *ret_n = db_rows_count(rows);
    *ret = arena_array(arena, *ret_n + 1, sizeof(**ret));
    for (size_t i = 0; i < *ret_n; i++) {
        struct token_view *view = &(*ret)[i];
        *view = (struct token_view){
            .id = copy_text(arena, rows, i, 0),
            .hostname = copy_text(arena, rows, i, 1),
            .created_by = copy_text(arena, rows, i, 2),
            .created_at_ms = db_time(rows, i, 4),
            .not_after_ms = db_time(rows, i, 5),
            .bound_at_ms = db_time(rows, i, 6),
            .used_at_ms = db_time(rows, i, 7),
            .revoked_at_ms = db_time(rows, i, 8),
            .hostname_pattern = copy_text(arena, rows, i, 9),
            .source_cidr = copy_text(arena, rows, i, 10),
        };
        for (size_t k = 0; k < TOKEN_STATE_COUNT; k++) {
            if (strcmp(token_states[k], db_text(rows, i, 3)) == 0)
                view->state = (enum token_state)k;
        }
    }
    return CODE_OK;
}

enum code store_tokens_void_of_agent(struct db *db, const char *agent_id, int64_t now_ms, struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, agent_id);
    db_arg_time(args, now_ms);
    return db_query(db,
                    "UPDATE token SET revoked_at = $2, version = version + 1 "
                    "WHERE agent_id = $1::uuid AND used_at IS NULL AND revoked_at IS NULL",
                    args, NULL, st);
}

enum code store_token_revoke(struct db *db, const char *agent_id, const char *id, int64_t now_ms,
                             uint64_t *ret_version, struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    AUTO_ROWS struct db_rows *rows = NULL;
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, agent_id);
    db_arg_text(args, id);
    db_arg_time(args, now_ms);
    TRY(db_query(db,
                 "UPDATE token SET revoked_at = $3, version = version + 1 WHERE id = $2::uuid AND "
                 "agent_id = $1::uuid AND used_at IS NULL AND revoked_at IS NULL RETURNING version",
                 args, &rows, st));
    *ret_version = db_rows_count(rows) == 1 ? (uint64_t)db_int(rows, 0, 0) : 0;
    return CODE_OK;
}

enum code store_tokens_void(struct db *db, struct arena *arena, int64_t before_ms, int64_t now_ms, size_t max,
                            struct voided_token **ret, size_t *ret_n, struct status *st)
{
    AUTO_ROWS struct db_rows *rows = NULL;
    struct db_args *args = db_args_new(arena);
    db_arg_time(args, before_ms);
    db_arg_time(args, now_ms);
    db_arg_int(args, (int64_t)max);
    TRY(db_query(db,
                 "UPDATE token t SET revoked_at = $2, version = t.version + 1 FROM (SELECT id FROM token "
                 "WHERE used_at IS NULL AND revoked_at IS NULL AND created_at <= $1 ORDER BY id LIMIT $3 "
                 "FOR UPDATE) o WHERE t.id = o.id RETURNING t.id, t.agent_id, t.version",
                 args, &rows, st));
    *ret_n = db_rows_count(rows);
    *ret = arena_array(arena, *ret_n + 1, sizeof(**ret));
    for (size_t i = 0; i < *ret_n; i++)
        (*ret)[i] = (struct voided_token){.id = copy_text(arena, rows, i, 0),
                                          .agent_id = copy_text(arena, rows, i, 1),
                                          .version = (uint64_t)db_int(rows, i, 2)};
    return CODE_OK;
}

enum code store_epoch_put(struct db *db, uint64_t epoch, int64_t restored_at_ms, struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    struct db_args *args = db_args_new(arena);
    db_arg_int(args, (int64_t)epoch);
    db_arg_time(args, restored_at_ms);
    return db_query(db,
                    "INSERT INTO epoch AS e (epoch, restored_at) VALUES ($1, $2) ON CONFLICT (only_row) "
                    "DO UPDATE SET epoch = $1, restored_at = $2 WHERE e.epoch < $1",
                    args, NULL, st);
}

enum code store_epoch_get(struct db *db, int64_t *ret_restored_at_ms, struct status *st)
{
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(db, "SELECT restored_at FROM epoch", NULL, &rows, st));
    *ret_restored_at_ms = db_rows_count(rows) > 0 ? db_time(rows, 0, 0) : -1;
    return CODE_OK;
}

enum code store_token_in_use(struct db *db, const char *id, int64_t now_ms, bool *ret_in_use,
                             bool *ret_in_time, struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    AUTO_ROWS struct db_rows *rows = NULL;
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, id);
    db_arg_time(args, now_ms);
    TRY(db_query(db,
                 "SELECT not_after > $2 FROM token WHERE id = $1::uuid AND bound_at IS NOT NULL AND "
                 "used_at IS NULL AND revoked_at IS NULL",
                 args, &rows, st));
    *ret_in_use = db_rows_count(rows) == 1;
    *ret_in_time = *ret_in_use && db_bool(rows, 0, 0);
    return CODE_OK;
}

enum code store_token_touch(struct db *db, const char *id, uint64_t *ret_version, struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    AUTO_ROWS struct db_rows *rows = NULL;
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, id);
    TRY(db_query_one(db, "UPDATE token SET version = version + 1 WHERE id = $1::uuid RETURNING version", args,
                     &rows, st));
    *ret_version = (uint64_t)db_int(rows, 0, 0);
    return CODE_OK;
}

/* ---- identities -------------------------------------------------------------------------------------------
 */

#define IDENTITY_COLUMNS                                                                                     \
    "i.agent_id, i.generation, i.token_id, i.identity_certificate, i.task_certificate, "                     \
    "i.issuer_certificate, "                                                                                 \
    "i.serial, i.fingerprint_sha256, i.not_after, i.issued_at, i.confirmed_at IS NOT NULL, h.version, "      \
    "i.identity_spki_sha256, i.task_spki_sha256 "
#define IDENTITY_FROM "FROM identity i JOIN agent_identity h USING (agent_id) "

static void read_identity(struct arena *arena, const struct db_rows *rows, size_t row,
                          struct identity_row *ret)
{
    *ret = (struct identity_row){
        .agent_id = copy_text(arena, rows, row, 0),
        .generation = (uint32_t)db_int(rows, row, 1),
        .token_id = copy_text(arena, rows, row, 2),
        .identity_certificate = copy_bytes(arena, rows, row, 3),
        .task_certificate = copy_bytes(arena, rows, row, 4),
        .issuer_certificate = copy_bytes(arena, rows, row, 5),
        .serial = copy_text(arena, rows, row, 6),
        .fingerprint = copy_text(arena, rows, row, 7),
        .not_after_ms = db_time(rows, row, 8),
        .issued_at_ms = db_time(rows, row, 9),
        .confirmed = db_bool(rows, row, 10),
        .version = (uint64_t)db_int(rows, row, 11),
        .identity_spki = copy_bytes(arena, rows, row, 12).data,
        .task_spki = copy_bytes(arena, rows, row, 13).data,
    };
}

static enum code identity_by(struct db *db, struct arena *arena, const char *sql, const struct db_args *args,
                             struct identity_row *ret, struct status *st)
{
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query_one(db, sql, args, &rows, st));
    read_identity(arena, rows, 0, ret);
    return CODE_OK;
}

enum code store_identity_of_token(struct db *db, struct arena *arena, const char *token_id,
                                  struct identity_row *ret, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, token_id);
    return identity_by(db, arena, "SELECT " IDENTITY_COLUMNS IDENTITY_FROM "WHERE i.token_id = $1::uuid",
                       args, ret, st);
}

enum code store_identity_get(struct db *db, struct arena *arena, const char *agent_id, uint32_t generation,
                             struct identity_row *ret, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, agent_id);
    db_arg_int(args, generation);
    return identity_by(db, arena,
                       "SELECT " IDENTITY_COLUMNS IDENTITY_FROM
                       "WHERE i.agent_id = $1::uuid AND i.generation = $2",
                       args, ret, st);
}

enum code store_identity_confirmed(struct db *db, struct arena *arena, const char *agent_id,
                                   struct identity_row *ret, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, agent_id);
    return identity_by(db, arena,
                       "SELECT " IDENTITY_COLUMNS IDENTITY_FROM
                       "WHERE i.agent_id = $1::uuid AND i.generation = h.confirmed_generation",
                       args, ret, st);
}

enum code store_identity_next(struct db *db, const char *agent_id, uint32_t *ret, struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    AUTO_ROWS struct db_rows *rows = NULL;
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, agent_id);
    TRY(db_query_one(db,
                     "SELECT coalesce(max(issued_generation) + 1, 0) FROM agent_identity WHERE agent_id = $1",
                     args, &rows, st));
    *ret = (uint32_t)db_int(rows, 0, 0);
    return CODE_OK;
}

enum code store_identity_lock(struct db *db, const char *agent_id, uint32_t *ret_next_generation,
                              struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    AUTO_ROWS struct db_rows *rows = NULL;
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, agent_id);
    /* The UPDATE of nothing locks the row that was there, or that another transaction has just made. */
    TRY(db_query_one(db,
                     "INSERT INTO agent_identity AS h (agent_id) VALUES ($1) "
                     "ON CONFLICT (agent_id) DO UPDATE SET version = h.version "
                     "RETURNING coalesce(issued_generation + 1, 0)",
                     args, &rows, st));
    *ret_next_generation = (uint32_t)db_int(rows, 0, 0);
    return CODE_OK;
}

enum code store_identity_add(struct db *db, const struct identity_row *row, uint64_t *ret_version,
                             struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    AUTO_ROWS struct db_rows *rows = NULL;
    struct db_args *args = db_args_new(arena);

    db_arg_text(args, row->agent_id);
    db_arg_int(args, row->generation);
    db_arg_text(args, row->token_id);
    db_arg_bytes(args, row->identity_spki, SHA256_SIZE);
    db_arg_bytes(args, row->task_spki, SHA256_SIZE);
    arg_bytes(args, row->identity_certificate);
    arg_bytes(args, row->task_certificate);
    arg_bytes(args, row->issuer_certificate);
    db_arg_text(args, row->serial);
    db_arg_text(args, row->fingerprint);
    db_arg_time(args, row->not_after_ms);
    db_arg_time(args, row->issued_at_ms);
    TRY(db_query_one(
        db,
        "WITH added AS (INSERT INTO identity (agent_id, generation, token_id, identity_spki_sha256, "
        "task_spki_sha256, identity_certificate, task_certificate, issuer_certificate, serial, "
        "fingerprint_sha256, not_after, issued_at) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)) "
        "UPDATE agent_identity SET version = version + 1, issued_generation = $2 WHERE agent_id = $1 "
        "RETURNING version",
        args, &rows, st));
    *ret_version = (uint64_t)db_int(rows, 0, 0);
    return CODE_OK;
}

enum code store_identity_drop(struct db *db, const char *agent_id, uint32_t generation, struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, agent_id);
    db_arg_int(args, generation);
    return db_query(db,
                    "DELETE FROM identity WHERE agent_id = $1 AND generation = $2 AND confirmed_at IS NULL",
                    args, NULL, st);
}

enum code store_identity_signer(struct db *db, struct arena *arena, const char *agent_id,
                                struct bytes task_certificate, struct identity_row *ret, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, agent_id);
    arg_bytes(args, task_certificate);
    return identity_by(db, arena,
                       "SELECT " IDENTITY_COLUMNS IDENTITY_FROM
                       "WHERE i.agent_id = $1::uuid AND i.task_certificate = $2 AND "
                       "i.generation >= h.confirmed_generation",
                       args, ret, st);
}

enum code store_identity_confirm(struct db *db, struct arena *arena, const char *agent_id,
                                 uint32_t generation, int64_t now_ms, struct confirmation *ret,
                                 struct status *st)
{
    AUTO_ROWS struct db_rows *rows = NULL;
    struct db_args *args = db_args_new(arena);

    db_arg_text(args, agent_id);
    db_arg_int(args, generation);
    db_arg_time(args, now_ms);
    TRY(db_query(
        db,
        "WITH head AS (UPDATE agent_identity h SET confirmed_generation = $2, version = h.version + 1 "
        "FROM identity i LEFT JOIN token t ON t.id = i.token_id "
        "WHERE h.agent_id = $1 AND i.agent_id = $1 AND i.generation = $2 AND t.revoked_at IS NULL AND "
        "coalesce(h.confirmed_generation, -1) < $2 RETURNING h.version), "
        "done AS (UPDATE identity SET confirmed_at = $3 FROM head WHERE agent_id = $1 AND generation = $2 "
        "RETURNING token_id), "
        "burnt AS (UPDATE token t SET used_at = $3, version = t.version + 1 FROM done "
        "WHERE t.id = done.token_id AND t.used_at IS NULL AND t.revoked_at IS NULL RETURNING t.id, "
        "t.version) "
        "SELECT head.version, burnt.id, burnt.version, done.token_id IS NOT NULL AND burnt.id IS NULL "
        "FROM head CROSS JOIN done LEFT JOIN burnt ON true",
        args, &rows, st));
    /* Who revokes a token does not hold the agent: it may have been revoked since the statement began. */
    *ret = (struct confirmation){.changed = db_rows_count(rows) == 1 && !db_bool(rows, 0, 3)};
    if (ret->changed) {
        ret->version = (uint64_t)db_int(rows, 0, 0);
        ret->token_id = copy_text(arena, rows, 0, 1);
        ret->token_version = (uint64_t)db_int(rows, 0, 2);
    }
    return CODE_OK;
}

/* Clocks of services may differ a little: the restore's own revocations come right after it. */
enum code store_identity_is_void(struct db *db, const struct identity_row *row, int64_t restored_at_ms,
                                 bool *ret, struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    AUTO_ROWS struct db_rows *rows = NULL;
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, row->agent_id);
    db_arg_int(args, row->generation);
    arg_bytes(args, row->task_certificate);
    db_arg_time(args, restored_at_ms);
    TRY(db_query_one(db,
                     "SELECT EXISTS (SELECT FROM identity i JOIN token t ON t.id = i.token_id "
                     "WHERE i.agent_id = $1 AND i.generation = $2 AND i.task_certificate = $3 AND "
                     "t.revoked_at IS NOT NULL AND "
                     "(t.created_at > $4 OR t.revoked_at < $4 - interval '1 minute'))",
                     args, &rows, st));
    *ret = db_bool(rows, 0, 0);
    return CODE_OK;
}

/* One agent more than the page, to know whether it is the last. */
static size_t cut_page(const struct db_rows *rows, uint32_t page_size)
{
    size_t n = db_rows_count(rows), agents = 0;
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || strcmp(db_text(rows, i, 0), db_text(rows, i - 1, 0)) != 0)
            agents++;
        if (agents > page_size)
            return i;
    }
    return n;
}

enum code store_identity_page(struct db *db, struct arena *arena, const char *after_agent_id,
                              uint32_t page_size, struct identity_row **ret, size_t *ret_n, bool *ret_last,
                              struct status *st)
{
    AUTO_ROWS struct db_rows *rows = NULL;
    struct db_args *args = db_args_new(arena);

    db_arg_text(args, after_agent_id[0] ? after_agent_id : NULL);
    db_arg_int(args, (int64_t)page_size + 1);
    TRY(db_query(
        db,
        "SELECT " IDENTITY_COLUMNS "FROM (SELECT * FROM agent_identity "
        "WHERE ($1::uuid IS NULL OR agent_id > $1::uuid) ORDER BY agent_id LIMIT $2) h "
        "JOIN identity i ON i.agent_id = h.agent_id AND "
        "i.generation IN (h.issued_generation, h.confirmed_generation) ORDER BY i.agent_id, i.generation",
        args, &rows, st));
    size_t n = cut_page(rows, page_size);
    struct identity_row *page = arena_array(arena, n > 0 ? n : 1, sizeof(*page));
    for (size_t i = 0; i < n; i++)
        read_identity(arena, rows, i, &page[i]);
    *ret = page;
    *ret_n = n;
    *ret_last = n == db_rows_count(rows);
    return CODE_OK;
}

enum code store_identity_history(struct db *db, struct arena *arena, const char *agent_id,
                                 struct identity_row **ret, size_t *ret_n, struct status *st)
{
    AUTO_ROWS struct db_rows *rows = NULL;
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, agent_id);
    TRY(db_query(db,
                 "SELECT " IDENTITY_COLUMNS IDENTITY_FROM "WHERE i.agent_id = $1::uuid ORDER BY i.generation",
                 args, &rows, st));
    *ret_n = db_rows_count(rows);
    *ret = arena_array(arena, *ret_n + 1, sizeof(**ret));
    for (size_t i = 0; i < *ret_n; i++)
        read_identity(arena, rows, i, &(*ret)[i]);
    return CODE_OK;
}

/* ---- the projection of agents -----------------------------------------------------------------------------
 */

static struct db_args *scope_args(struct arena *arena, const struct scope_row *row)
{
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, row->agent_id);
    db_arg_int(args, (int64_t)row->version);
    db_arg_int(args, (int64_t)row->scope_version);
    db_arg_int_array(args, row->operations, row->n_operations);
    db_arg_text_array(args, row->paths, row->n_paths);
    db_arg_text_array(args, row->dns_names, row->n_dns_names);
    return args;
}

enum code store_scope_seed(struct db *db, const struct scope_row *row, struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    return db_query(
        db,
        "INSERT INTO agent_scope AS s (agent_id, version, scope_version, operations, paths, dns_names, "
        "disabled) VALUES ($1, $2, $3, $4, $5, $6, false) "
        "ON CONFLICT (agent_id) DO UPDATE SET scope_version = $3, operations = $4, paths = $5, "
        "dns_names = $6 WHERE s.scope_version < $3",
        scope_args(arena, row), NULL, st);
}

enum code store_scope_apply(struct db *db, const struct scope_row *row, struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    struct db_args *args = scope_args(arena, row);
    db_arg_bool(args, row->disabled);
    db_arg_int(args, row->column);
    db_arg_int(args, row->min_generation);
    return db_query(
        db,
        "INSERT INTO agent_scope AS s (agent_id, version, scope_version, operations, paths, dns_names, "
        "disabled, safe_column, min_generation) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) "
        "ON CONFLICT (agent_id) DO UPDATE SET version = $2, scope_version = $3, operations = $4, "
        "paths = $5, dns_names = $6, disabled = $7, safe_column = $8, min_generation = $9 "
        "WHERE s.version < $2",
        args, NULL, st);
}

enum code store_scope_get(struct db *db, struct arena *arena, const char *agent_id, struct agent_scope *ret,
                          struct status *st)
{
    AUTO_ROWS struct db_rows *rows = NULL;
    struct db_args *args = db_args_new(arena);

    db_arg_text(args, agent_id);
    TRY(db_query_one(
        db,
        "SELECT s.safe_column, (SELECT coalesce(bit_or(1::bigint << o::integer), 0) "
        "FROM unnest(s.operations) o WHERE o BETWEEN 0 AND 31), n.name, s.version, s.min_generation "
        "FROM agent_scope s LEFT JOIN LATERAL unnest(s.dns_names) n(name) ON true WHERE s.agent_id = $1",
        args, &rows, st));
    size_t n = db_rows_count(rows);
    ret->column = (enum safe_column)db_int(rows, 0, 0);
    ret->operations = (unsigned)db_int(rows, 0, 1);
    ret->version = (uint64_t)db_int(rows, 0, 3);
    ret->min_generation = (uint32_t)db_int(rows, 0, 4);
    ret->dns_names = arena_array(arena, n, sizeof(char *));
    ret->n_dns_names = 0;
    for (size_t i = 0; i < n; i++) {
        if (!db_is_null(rows, i, 2))
            ret->dns_names[ret->n_dns_names++] = arena_strdup(arena, db_text(rows, i, 2));
    }
    return CODE_OK;
}

/* ---- certificates -----------------------------------------------------------------------------------------
 */

enum code store_certificate_find(struct db *db, struct arena *arena, const char *task_id, uint32_t attempt,
                                 const uint8_t spki[SHA256_SIZE], struct certificate_row *ret,
                                 uint32_t *ret_others, struct status *st)
{
    AUTO_ROWS struct db_rows *rows = NULL;
    struct db_args *args = db_args_new(arena);

    db_arg_text(args, task_id);
    db_arg_int(args, attempt);
    db_arg_bytes(args, spki, SHA256_SIZE);
    TRY(db_query(
        db,
        "SELECT spki_sha256 = $3, agent_id, serial, certificate, issuer_certificate, not_after, issued_at "
        "FROM certificate WHERE task_id = $1 AND attempt = $2 ORDER BY 1 DESC",
        args, &rows, st));
    size_t n = db_rows_count(rows);
    bool found = n > 0 && db_bool(rows, 0, 0);
    *ret_others = (uint32_t)(found ? n - 1 : n);
    if (!found)
        return status_set(st, CODE_NOT_FOUND, "no certificate for this key under attempt %u of task %s",
                          attempt, task_id);
    *ret = (struct certificate_row){
        .task_id = task_id,
        .attempt = attempt,
        .spki = spki,
        .agent_id = copy_text(arena, rows, 0, 1),
        .serial = copy_text(arena, rows, 0, 2),
        .certificate = copy_bytes(arena, rows, 0, 3),
        .issuer_certificate = copy_bytes(arena, rows, 0, 4),
        .not_after_ms = db_time(rows, 0, 5),
        .issued_at_ms = db_time(rows, 0, 6),
    };
    return CODE_OK;
}

enum code store_certificate_add(struct db *db, const struct certificate_row *row, struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    struct db_args *args = db_args_new(arena);

    db_arg_text(args, row->task_id);
    db_arg_int(args, row->attempt);
    db_arg_bytes(args, row->spki, SHA256_SIZE);
    db_arg_text(args, row->agent_id);
    db_arg_text(args, row->serial);
    arg_bytes(args, row->certificate);
    arg_bytes(args, row->issuer_certificate);
    db_arg_time(args, row->not_after_ms);
    db_arg_time(args, row->issued_at_ms);
    return db_query(db,
                    "INSERT INTO certificate (task_id, attempt, spki_sha256, agent_id, serial, certificate, "
                    "issuer_certificate, not_after, issued_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
                    args, NULL, st);
}
