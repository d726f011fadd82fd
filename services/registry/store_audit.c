/* The audit log's SQL. Blocking, on the session of the calling thread; rows are copied into the caller's
 * arena. */
#include "store_audit.h"
#include "store_rows.h"

#include <string.h>

static struct bytes copy_bytes(const struct db_rows *rows, size_t row, int col, struct arena *arena)
{
    size_t len;
    const void *data = db_bytes(rows, row, col, &len);
    return (struct bytes){arena_dup(arena, len ? data : "", len ? len : 1), len};
}

/* ---- records ---- */

/* event_id, action, actor, agent_id, occurred_at, leaf */
static void arg_leaves(struct db_args *args, const struct audit_leaf *leaves, size_t n, struct arena *arena)
{
    const char **text = arena_array(arena, 4 * n, sizeof(*text));
    int64_t *times = arena_array(arena, n, sizeof(*times));
    const void **data = arena_array(arena, n, sizeof(*data));
    size_t *len = arena_array(arena, n, sizeof(*len));
    for (size_t i = 0; i < n; i++) {
        text[i] = leaves[i].event_id;
        text[n + i] = leaves[i].action;
        text[2 * n + i] = leaves[i].actor;
        text[3 * n + i] = leaves[i].agent_id;
        times[i] = leaves[i].occurred_at_ms;
        data[i] = leaves[i].leaf.data;
        len[i] = leaves[i].leaf.len;
    }
    for (size_t i = 0; i < 4; i++)
        db_arg_text_array(args, text + i * n, n);
    db_arg_time_array(args, times, n);
    db_arg_bytes_array(args, data, len, n);
}

enum code store_audit_put_down(struct db *tx, const struct audit_leaf *leaves, size_t n, struct arena *arena,
                               struct status *st)
{
    static const char sql[] =
        "INSERT INTO audit_pending (event_id, action, actor, agent_id, occurred_at, leaf) "
        "SELECT e::uuid, a, w, g::uuid, t, l FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], "
        "$5::timestamptz[], $6::bytea[]) AS x(e, a, w, g, t, l) ON CONFLICT DO NOTHING";
    struct db_args *args = db_args_new(arena);
    arg_leaves(args, leaves, n, arena);
    return db_query(tx, sql, args, NULL, st);
}

enum code store_audit_pending(struct db *tx, size_t max, struct arena *arena, struct audit_leaf **ret,
                              size_t *ret_n, struct status *st)
{
    static const char sql[] =
        "SELECT event_id, action, actor, agent_id, occurred_at, leaf FROM audit_pending "
        "ORDER BY event_id LIMIT $1";
    struct db_args *args = db_args_new(arena);
    db_arg_int(args, (int64_t)max);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(tx, sql, args, &rows, st));
    *ret_n = db_rows_count(rows);
    *ret = arena_array(arena, *ret_n + 1, sizeof(**ret));
    for (size_t i = 0; i < *ret_n; i++)
        (*ret)[i] = (struct audit_leaf){.event_id = row_text(rows, i, 0, arena),
                                        .action = row_text(rows, i, 1, arena),
                                        .actor = row_text(rows, i, 2, arena),
                                        .agent_id = row_text(rows, i, 3, arena),
                                        .occurred_at_ms = db_time(rows, i, 4),
                                        .leaf = copy_bytes(rows, i, 5, arena)};
    return CODE_OK;
}

static void arg_event_ids(struct db_args *args, const struct audit_leaf *leaves, size_t n,
                          struct arena *arena)
{
    const char **ids = arena_array(arena, n, sizeof(*ids));
    for (size_t i = 0; i < n; i++)
        ids[i] = leaves[i].event_id;
    db_arg_text_array(args, ids, n);
}

enum code store_audit_pending_done(struct db *tx, const struct audit_leaf *leaves, size_t n,
                                   struct arena *arena, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    arg_event_ids(args, leaves, n, arena);
    return db_query(tx, "DELETE FROM audit_pending WHERE event_id = ANY ($1::text[]::uuid[])", args, NULL,
                    st);
}

#define TREE_COLUMNS                                                                                         \
    "tree_id, size, frontier, number, base, coalesce((SELECT max(h.size) FROM audit_heads h WHERE "          \
    "h.tree = number), 0)"

static enum code read_tree(const struct db_rows *rows, struct arena *arena, struct audit_tree *ret,
                           struct status *st)
{
    *ret = (struct audit_tree){.tree_id = row_text(rows, 0, 0, arena),
                               .number = db_int(rows, 0, 3),
                               .base = db_int(rows, 0, 4),
                               .head_size = (uint64_t)db_int(rows, 0, 5)};
    return merkle_frontier_read((uint64_t)db_int(rows, 0, 1), copy_bytes(rows, 0, 2, arena), &ret->frontier,
                                st);
}

enum code store_audit_lock(struct db *tx, struct arena *arena, struct audit_tree *ret, struct status *st)
{
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query_one(tx, "SELECT " TREE_COLUMNS " FROM audit_tree FOR UPDATE", NULL, &rows, st));
    return read_tree(rows, arena, ret, st);
}

enum code store_audit_known(struct db *tx, const struct audit_leaf *leaves, size_t n, struct arena *arena,
                            const char ***ret, size_t *ret_n, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    arg_event_ids(args, leaves, n, arena);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(tx, "SELECT event_id FROM audit_records WHERE event_id = ANY ($1::text[]::uuid[])", args,
                 &rows, st));
    *ret_n = db_rows_count(rows);
    *ret = arena_array(arena, *ret_n + 1, sizeof(**ret));
    for (size_t i = 0; i < *ret_n; i++)
        (*ret)[i] = row_text(rows, i, 0, arena);
    return CODE_OK;
}

enum code store_audit_insert(struct db *tx, const struct audit_leaf *leaves, size_t n, struct arena *arena,
                             struct status *st)
{
    static const char sql[] =
        "INSERT INTO audit_records (index, event_id, action, actor, agent_id, occurred_at, leaf, leaf_hash) "
        "SELECT i, e::uuid, a, w, g::uuid, t, l, h FROM unnest($1::text[], $2::text[], $3::text[], "
        "$4::text[], "
        "$5::timestamptz[], $6::bytea[], $7::bigint[], $8::bytea[]) AS x(e, a, w, g, t, l, i, h)";
    int64_t *index = arena_array(arena, n, sizeof(*index));
    const void **hash = arena_array(arena, n, sizeof(*hash));
    size_t *hash_len = arena_array(arena, n, sizeof(*hash_len));
    for (size_t i = 0; i < n; i++) {
        index[i] = leaves[i].index;
        hash[i] = leaves[i].hash.byte;
        hash_len[i] = SHA256_SIZE;
    }
    struct db_args *args = db_args_new(arena);
    arg_leaves(args, leaves, n, arena);
    db_arg_int_array(args, index, n);
    db_arg_bytes_array(args, hash, hash_len, n);
    return db_query(tx, sql, args, NULL, st);
}

enum code store_audit_tree(struct db *tx, const struct audit_tree *tree, const struct stored_node *nodes,
                           size_t n, struct arena *arena, struct status *st)
{
    static const char sql[] =
        "WITH added AS (INSERT INTO audit_nodes (tree, level, index, hash) "
        "  SELECT $6::bigint, l, i, h FROM unnest($3::bigint[], $4::bigint[], $5::bytea[]) AS x(l, i, h)) "
        "UPDATE audit_tree SET size = $1, frontier = $2";
    const struct merkle_frontier *frontier = &tree->frontier;
    int64_t *level = arena_array(arena, n + 1, sizeof(*level));
    int64_t *index = arena_array(arena, n + 1, sizeof(*index));
    const void **hash = arena_array(arena, n + 1, sizeof(*hash));
    size_t *hash_len = arena_array(arena, n + 1, sizeof(*hash_len));
    for (size_t i = 0; i < n; i++) {
        level[i] = nodes[i].level;
        index[i] = (int64_t)nodes[i].index;
        hash[i] = nodes[i].hash.byte;
        hash_len[i] = SHA256_SIZE;
    }
    struct db_args *args = db_args_new(arena);
    db_arg_int(args, (int64_t)frontier->size);
    db_arg_bytes(args, frontier->hash, frontier->n * sizeof(frontier->hash[0]));
    db_arg_int_array(args, level, n);
    db_arg_int_array(args, index, n);
    db_arg_bytes_array(args, hash, hash_len, n);
    db_arg_int(args, tree->number);
    return db_query(tx, sql, args, NULL, st);
}

enum code store_audit_hashes(struct db *db, const struct audit_tree *tree, unsigned level, uint64_t begin,
                             uint64_t n, struct arena *arena, struct merkle_hash **ret, struct status *st)
{
    static const char leaves[] =
        "SELECT leaf_hash FROM audit_records WHERE index >= $1 AND index < $2 ORDER BY index";
    static const char nodes[] =
        "SELECT hash FROM audit_nodes WHERE index >= $1 AND index < $2 AND level = $3 AND tree = $4 "
        "ORDER BY index";
    uint64_t base = level > 0 ? 0 : (uint64_t)tree->base;
    struct db_args *args = db_args_new(arena);
    db_arg_int(args, (int64_t)(base + begin));
    db_arg_int(args, (int64_t)(base + begin + n));
    if (level > 0) {
        db_arg_int(args, level);
        db_arg_int(args, tree->number);
    }
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(level > 0 ? db_query(db, nodes, args, &rows, st) : db_query(db, leaves, args, &rows, st));
    if (db_rows_count(rows) != n)
        return status_set(st, CODE_INTERNAL, "the audit tree lacks nodes of level %u", level);
    *ret = arena_array(arena, (size_t)n, sizeof(**ret));
    for (size_t i = 0; i < n; i++) {
        size_t len;
        const void *hash = db_bytes(rows, i, 0, &len);
        if (len != SHA256_SIZE)
            return status_set(st, CODE_INTERNAL, "the audit tree has a damaged node of level %u", level);
        memcpy((*ret)[i].byte, hash, SHA256_SIZE);
    }
    return CODE_OK;
}

enum code store_audit_select(struct db *db, const struct audit_filter *filter, size_t max,
                             struct arena *arena, struct audit_leaf **ret, size_t *ret_n, struct status *st)
{
#define FILTER                                                                                               \
    "SELECT index, event_id, occurred_at, action, actor, agent_id, leaf, t.number, t.base "                  \
    "FROM audit_records r CROSS JOIN LATERAL (SELECT number, base FROM audit_trees WHERE base <= r.index "   \
    "ORDER BY base DESC, number DESC LIMIT 1) t WHERE ($1::text IS NULL OR actor = $1) AND ($2::uuid IS "    \
    "NULL OR agent_id = $2) "                                                                                \
    "AND ($3::text IS NULL OR action LIKE $3) AND ($4::timestamptz IS NULL OR occurred_at >= $4) "           \
    "AND ($5::timestamptz IS NULL OR occurred_at < $5) "
    static const char newest[] = FILTER "AND ($6::bigint < 0 OR index < $6) ORDER BY index DESC LIMIT $7";
    static const char oldest[] = FILTER "AND index > $6 ORDER BY index LIMIT $7";
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, filter->actor);
    db_arg_text(args, filter->agent_id);
    db_arg_text(args, filter->action ? store_pattern(filter->action, arena) : NULL);
    db_arg_time(args, filter->from_ms);
    db_arg_time(args, filter->until_ms);
    db_arg_int(args, filter->after);
    db_arg_int(args, (int64_t)max);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(filter->oldest_first ? db_query(db, oldest, args, &rows, st) : db_query(db, newest, args, &rows, st));
    *ret_n = db_rows_count(rows);
    *ret = arena_array(arena, *ret_n + 1, sizeof(**ret));
    for (size_t i = 0; i < *ret_n; i++)
        (*ret)[i] = (struct audit_leaf){.index = db_int(rows, i, 0),
                                        .event_id = row_text(rows, i, 1, arena),
                                        .occurred_at_ms = db_time(rows, i, 2),
                                        .action = row_text(rows, i, 3, arena),
                                        .actor = row_text(rows, i, 4, arena),
                                        .agent_id = row_text(rows, i, 5, arena),
                                        .leaf = copy_bytes(rows, i, 6, arena),
                                        .tree = db_int(rows, i, 7),
                                        .base = db_int(rows, i, 8)};
    return CODE_OK;
}

/* ---- heads ---- */

#define HEAD_COLUMNS "size, made_at, previous_size, head, consistency, tree, origin"
#define HEAD_SELECT                                                                                          \
    "SELECT h.size, h.made_at, h.previous_size, h.head, h.consistency, h.tree, h.origin, t.tree_id, "        \
    "CASE WHEN h.origin <> '' THEN (SELECT r.leaf FROM audit_records r WHERE r.index = t.base) END "         \
    "FROM audit_heads h JOIN audit_trees t ON t.number = h.tree "
#define THIS_TREE "h.tree = (SELECT number FROM audit_tree)"

static void read_heads(const struct db_rows *rows, struct arena *arena, struct audit_head **ret,
                       size_t *ret_n)
{
    *ret_n = db_rows_count(rows);
    *ret = arena_array(arena, *ret_n + 1, sizeof(**ret));
    for (size_t i = 0; i < *ret_n; i++)
        (*ret)[i] = (struct audit_head){.size = (uint64_t)db_int(rows, i, 0),
                                        .made_at_ms = db_time(rows, i, 1),
                                        .previous_size = (uint64_t)db_int(rows, i, 2),
                                        .head = copy_bytes(rows, i, 3, arena),
                                        .consistency = copy_bytes(rows, i, 4, arena),
                                        .tree = db_int(rows, i, 5),
                                        .origin = copy_bytes(rows, i, 6, arena),
                                        .tree_id = row_text(rows, i, 7, arena),
                                        .origin_leaf = copy_bytes(rows, i, 8, arena)};
}

enum code store_audit_oldest(struct db *db, struct arena *arena, const char **ret_event_id, struct status *st)
{
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(db, "SELECT event_id FROM audit_pending ORDER BY event_id LIMIT 1", NULL, &rows, st));
    *ret_event_id = db_rows_count(rows) > 0 ? row_text(rows, 0, 0, arena) : NULL;
    return CODE_OK;
}

enum code store_audit_state(struct db *db, struct arena *arena, struct audit_tree *ret, struct status *st)
{
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query_one(db, "SELECT " TREE_COLUMNS " FROM audit_tree", NULL, &rows, st));
    return read_tree(rows, arena, ret, st);
}

enum code store_audit_head_insert(struct db *db, const struct audit_head *head, struct arena *arena,
                                  struct status *st)
{
    static const char sql[] = "INSERT INTO audit_heads (" HEAD_COLUMNS ") VALUES ($1, $2, $3, $4, $5, "
                              "(SELECT number FROM audit_tree WHERE tree_id = $7::uuid), $6)";
    struct db_args *args = db_args_new(arena);
    db_arg_int(args, (int64_t)head->size);
    db_arg_time(args, head->made_at_ms);
    db_arg_int(args, (int64_t)head->previous_size);
    db_arg_bytes(args, head->head.data, head->head.len);
    db_arg_bytes(args, head->consistency.len ? (const void *)head->consistency.data : "",
                 head->consistency.len);
    db_arg_bytes(args, head->origin.len ? (const void *)head->origin.data : "", head->origin.len);
    db_arg_text(args, head->tree_id);
    return db_query(db, sql, args, NULL, st);
}

enum code store_audit_heads(struct db *db, int64_t tree, uint64_t after_size, int64_t from_ms, size_t max,
                            struct arena *arena, struct audit_head **ret, size_t *ret_n, struct status *st)
{
    static const char sql[] = HEAD_SELECT
        "WHERE h.tree = CASE WHEN $4::bigint > 0 THEN $4::bigint ELSE (SELECT number FROM audit_tree) "
        "END AND h.size > $1 AND ($2::timestamptz IS NULL OR h.made_at >= $2) "
        "ORDER BY h.size LIMIT $3";
    struct db_args *args = db_args_new(arena);
    db_arg_int(args, after_size < INT64_MAX ? (int64_t)after_size : INT64_MAX);
    db_arg_time(args, from_ms);
    db_arg_int(args, (int64_t)max);
    db_arg_int(args, tree);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(db, sql, args, &rows, st));
    read_heads(rows, arena, ret, ret_n);
    return CODE_OK;
}

enum code store_audit_head(struct db *db, int64_t size, struct arena *arena, struct audit_head *ret,
                           struct status *st)
{
    static const char sql[] =
        HEAD_SELECT "WHERE " THIS_TREE " AND ($1::bigint < 0 OR h.size = $1) ORDER BY h.size DESC LIMIT 1";
    struct db_args *args = db_args_new(arena);
    db_arg_int(args, size);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query_one(db, sql, args, &rows, st));
    struct audit_head *heads;
    size_t n;
    read_heads(rows, arena, &heads, &n);
    *ret = heads[0];
    return CODE_OK;
}

enum code audit_heads_unwitnessed(struct db *db, enum audit_witness witness, size_t max, struct arena *arena,
                                  struct audit_head **ret, size_t *ret_n, struct status *st)
{
    static const char sql[] =
        HEAD_SELECT "WHERE (NOT h.in_file OR NOT h.in_webhook) "
                    "AND NOT CASE WHEN $1::boolean THEN h.in_file ELSE h.in_webhook END "
                    "ORDER BY h.tree, h.size LIMIT $2";
    struct db_args *args = db_args_new(arena);
    db_arg_bool(args, witness == WITNESS_FILE);
    db_arg_int(args, (int64_t)max);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(db, sql, args, &rows, st));
    read_heads(rows, arena, ret, ret_n);
    return CODE_OK;
}

enum code audit_head_witnessed(struct db *db, enum audit_witness witness, const struct audit_head *head,
                               bool done, int64_t tries_max, struct arena *arena, bool *ret_given_up,
                               struct status *st)
{
    static const char in_file[] =
        "UPDATE audit_heads SET in_file = true WHERE tree = $1 AND size = $2 RETURNING true";
    static const char in_webhook[] = "UPDATE audit_heads SET in_webhook = $3 OR webhook_tries + 1 >= $4, "
                                     "webhook_tries = webhook_tries + 1 "
                                     "WHERE tree = $1 AND size = $2 RETURNING in_webhook";
    struct db_args *args = db_args_new(arena);
    db_arg_int(args, head->tree);
    db_arg_int(args, (int64_t)head->size);
    AUTO_ROWS struct db_rows *rows = NULL;
    if (witness == WITNESS_FILE) {
        TRY(db_query_one(db, in_file, args, &rows, st));
    } else {
        db_arg_bool(args, done);
        db_arg_int(args, tries_max);
        TRY(db_query_one(db, in_webhook, args, &rows, st));
    }
    *ret_given_up = !done && db_bool(rows, 0, 0);
    return CODE_OK;
}

/* ---- co-signatures ---- */

enum code store_cosignature_put(struct db *db, const struct audit_cosignature *in, int64_t day,
                                struct arena *arena, struct status *st)
{
    static const char sql[] =
        "INSERT INTO audit_cosignatures (tree_id, size, agent_id, day, made_at, signer, cms) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING";
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, in->tree_id);
    db_arg_int(args, (int64_t)in->size);
    db_arg_text(args, in->agent_id);
    db_arg_int(args, day);
    db_arg_time(args, in->made_at_ms);
    db_arg_text(args, in->signer_sha256);
    db_arg_bytes(args, in->cms.data, in->cms.len);
    return db_query(db, sql, args, NULL, st);
}

enum code store_cosignatures(struct db *db, const struct cosign_filter *filter, size_t max,
                             struct arena *arena, struct audit_cosignature **ret, size_t *ret_n,
                             struct status *st)
{
    static const char sql[] =
        "SELECT tree_id, size, agent_id, made_at, signer, cms FROM audit_cosignatures "
        "WHERE tree_id = coalesce($6::uuid, (SELECT tree_id FROM audit_tree)) AND ($1::bigint < 0 OR size = "
        "$1) "
        "AND ($2::uuid IS NULL OR agent_id = $2) AND ($3::bigint < 0 OR (size, agent_id) > ($3, $4::uuid)) "
        "ORDER BY size, agent_id LIMIT $5";
    struct db_args *args = db_args_new(arena);
    db_arg_int(args, filter->size);
    db_arg_text(args, filter->agent_id);
    db_arg_int(args, filter->after_size);
    db_arg_text(args, filter->after_agent_id);
    db_arg_int(args, (int64_t)max);
    db_arg_text(args, filter->tree_id);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(db, sql, args, &rows, st));
    *ret_n = db_rows_count(rows);
    *ret = arena_array(arena, *ret_n + 1, sizeof(**ret));
    for (size_t i = 0; i < *ret_n; i++)
        (*ret)[i] = (struct audit_cosignature){.tree_id = row_text(rows, i, 0, arena),
                                               .size = (uint64_t)db_int(rows, i, 1),
                                               .agent_id = row_text(rows, i, 2, arena),
                                               .made_at_ms = db_time(rows, i, 3),
                                               .signer_sha256 = row_text(rows, i, 4, arena),
                                               .cms = copy_bytes(rows, i, 5, arena)};
    return CODE_OK;
}

enum code store_cosignatures_trim(struct db *db, int64_t before_ms, struct arena *arena, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_time(args, before_ms);
    return db_query(db, "DELETE FROM audit_cosignatures WHERE made_at < $1", args, NULL, st);
}
