/* The SQL of restores. Blocking, on the session of the calling thread; rows are copied into the caller's
 * arena. */
#include "store_restore.h"
#include "store_rows.h"

#include <string.h>

static struct audit_former read_former(const struct db_rows *rows, size_t row, struct arena *arena)
{
    struct audit_former out = {.tree_id = row_text(rows, row, 0, arena),
                               .size = (uint64_t)db_int(rows, row, 1)};
    size_t len;
    const void *root = db_bytes(rows, row, 2, &len);
    if (len == SHA256_SIZE)
        memcpy(out.root.byte, root, SHA256_SIZE);
    return out;
}

enum code store_one_snapshot(struct db *tx, struct status *st)
{
    return db_query(tx, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", NULL, NULL, st);
}

/* ---- epoch ---- */

static void read_epoch(const struct db_rows *rows, struct platform_epoch *ret)
{
    *ret = (struct platform_epoch){
        .epoch = db_int(rows, 0, 0), .restored_at_ms = db_time(rows, 0, 1), .told = db_bool(rows, 0, 2)};
}

enum code store_epoch(struct db *db, struct arena *arena, struct platform_epoch *ret, struct status *st)
{
    (void)arena;
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query_one(db, "SELECT epoch, restored_at, told FROM platform", NULL, &rows, st));
    read_epoch(rows, ret);
    return CODE_OK;
}

enum code store_epoch_raise(struct db *tx, int64_t now_ms, struct arena *arena, struct platform_epoch *ret,
                            struct status *st)
{
    static const char sql[] = "UPDATE platform SET epoch = epoch + 1, restored_at = $1, told = false "
                              "RETURNING epoch, restored_at, told";
    struct db_args *args = db_args_new(arena);
    db_arg_time(args, now_ms);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query_one(tx, sql, args, &rows, st));
    read_epoch(rows, ret);
    return CODE_OK;
}

enum code store_epoch_told(struct db *db, struct status *st)
{
    return db_query(db, "UPDATE platform SET told = true", NULL, NULL, st);
}

enum code store_epoch_agents(struct db *tx, struct arena *arena, struct status *st)
{
    (void)arena;
    /* The whole fleet at once, however long it takes. 2^32: no agent changes that often between two restores.
     */
    TRY(db_query(tx, "SET LOCAL statement_timeout = 0", NULL, NULL, st));
    TRY(db_query(tx, "UPDATE agents SET version = version + 4294967296", NULL, NULL, st));
    return db_query(tx,
                    "UPDATE heartbeats SET instance_id = NULL, former_instance_id = NULL, returns = 0, "
                    "returns_since = NULL WHERE instance_id IS NOT NULL",
                    NULL, NULL, st);
}

/* ---- who may not work ---- */

enum code store_held_back(struct db *db, struct arena *arena, struct held_back **ret, size_t *ret_n,
                          struct status *st)
{
    static const char sql[] =
        "SELECT id, CASE WHEN disabled THEN disabled_reason END, frozen_reason, min_generation, "
        "token_generation, version FROM agents WHERE disabled OR frozen_reason <> '' ORDER BY id";
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(db, sql, NULL, &rows, st));
    *ret_n = db_rows_count(rows);
    *ret = arena_array(arena, *ret_n + 1, sizeof(**ret));
    for (size_t i = 0; i < *ret_n; i++)
        (*ret)[i] = (struct held_back){.agent_id = row_text(rows, i, 0, arena),
                                       .disabled_reason = row_text(rows, i, 1, arena),
                                       .frozen_reason = row_text(rows, i, 2, arena),
                                       .min_generation = db_int(rows, i, 3),
                                       .token_generation = db_int(rows, i, 4),
                                       .version = db_int(rows, i, 5)};
    return CODE_OK;
}

enum code store_held_back_newer(struct db *db, const struct held_back *held, size_t n, struct arena *arena,
                                bool *ret_newer, struct status *st)
{
    static const char sql[] = "SELECT EXISTS (SELECT FROM unnest($1::text[], $2::bigint[]) AS h(id, version) "
                              "JOIN agents a ON a.id = h.id::uuid WHERE a.version < h.version)";
    const char **ids = arena_array(arena, n + 1, sizeof(*ids));
    int64_t *versions = arena_array(arena, n + 1, sizeof(*versions));
    for (size_t i = 0; i < n; i++) {
        ids[i] = held[i].agent_id;
        versions[i] = held[i].version;
    }
    struct db_args *args = db_args_new(arena);
    db_arg_text_array(args, ids, n);
    db_arg_int_array(args, versions, n);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query_one(db, sql, args, &rows, st));
    *ret_newer = db_bool(rows, 0, 0);
    return CODE_OK;
}

/* ---- trees of the audit log ---- */

enum code store_tree_end(struct db *tx, const struct audit_former *last, int64_t now_ms, struct arena *arena,
                         struct status *st)
{
    static const char sql[] =
        "WITH ended AS (INSERT INTO audit_trees_former (number, tree_id, base, size, last_size, last_root, "
        "  ended_at) SELECT number, tree_id, base, size, $1, $2, $3 FROM audit_tree), "
        "forgotten AS (DELETE FROM audit_reported) "
        "UPDATE audit_tree SET tree_id = gen_random_uuid(), number = number + 1, base = base + size, "
        "size = 0, frontier = ''";
    struct db_args *args = db_args_new(arena);
    db_arg_int(args, (int64_t)last->size);
    db_arg_bytes(args, last->root.byte, SHA256_SIZE);
    db_arg_time(args, now_ms);
    return db_query(tx, sql, args, NULL, st);
}

enum code store_trees_former(struct db *db, struct arena *arena, struct audit_former **ret, size_t *ret_n,
                             struct status *st)
{
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(db, "SELECT tree_id, last_size, last_root FROM audit_trees_former ORDER BY number", NULL,
                 &rows, st));
    *ret_n = db_rows_count(rows);
    *ret = arena_array(arena, *ret_n + 1, sizeof(**ret));
    for (size_t i = 0; i < *ret_n; i++)
        (*ret)[i] = read_former(rows, i, arena);
    return CODE_OK;
}

enum code store_reported(struct db *db, const char *tree_id, struct arena *arena, struct audit_former *ret,
                         bool *ret_found, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, tree_id);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(db, "SELECT tree_id, size, root FROM audit_reported WHERE tree_id = $1", args, &rows, st));
    *ret_found = db_rows_count(rows) > 0;
    if (*ret_found)
        *ret = read_former(rows, 0, arena);
    return CODE_OK;
}

enum code store_reported_put(struct db *db, const struct audit_report *in, struct arena *arena,
                             struct status *st)
{
    static const char sql[] =
        "INSERT INTO audit_reported (tree_id, size, root, agent_id, reported_at) VALUES ($1, $2, $3, $4, $5) "
        "ON CONFLICT (singleton) DO UPDATE SET tree_id = $1, size = $2, root = $3, agent_id = $4, "
        "reported_at = $5 WHERE audit_reported.tree_id <> $1 OR audit_reported.size < $2";
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, in->tree_id);
    db_arg_int(args, (int64_t)in->size);
    db_arg_bytes(args, in->root.byte, SHA256_SIZE);
    db_arg_text(args, in->agent_id);
    db_arg_time(args, in->at_ms);
    return db_query(db, sql, args, NULL, st);
}
