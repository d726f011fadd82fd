/*
 * Appending to the audit tree and proving out of it. Whoever appends holds the frontier's row, so leaves are
 * numbered without gaps in the order of commits. Of the interior nodes every eighth level is stored: a proof
 * hashes at most 2^7 of them again for each of its steps.
 */
#include "store_restore.h"

#include <stdlib.h>
#include <string.h>

#include "base/id.h"

#define STORED_EVERY 8 /* levels */
#define ROUNDS_MAX   1000

enum code audit_note(struct db *tx, const struct audit_record *records, size_t n, struct arena *arena,
                     struct status *st)
{
    if (n == 0)
        return CODE_OK;
    struct audit_leaf *leaves = arena_array(arena, n, sizeof(*leaves));
    for (size_t i = 0; i < n; i++) {
        const struct audit_record *r = &records[i];
        leaves[i] = (struct audit_leaf){.event_id = r->event_id,
                                        .action = r->action,
                                        .actor = r->actor ? r->actor : "",
                                        .agent_id = r->agent_id && *r->agent_id ? r->agent_id : NULL,
                                        .occurred_at_ms = r->occurred_at_ms};
        audit_record_encode(r, arena, &leaves[i].leaf);
    }
    return store_audit_put_down(tx, leaves, n, arena, st);
}

/* ---- appending ---- */

struct nodes {
    struct stored_node *node;
    size_t n;
};

static void on_node(unsigned level, uint64_t index, const struct merkle_hash *hash, void *arg)
{
    struct nodes *nodes = arg;
    if (level % STORED_EVERY == 0)
        nodes->node[nodes->n++] = (struct stored_node){level, index, *hash};
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Leaves that have no record yet, in the order in which they came. */
static enum code survivors(struct db *tx, struct audit_leaf *leaves, size_t *n, struct arena *arena,
                           struct status *st)
{
    const char **known;
    size_t n_known, kept = 0;
    TRY(store_audit_known(tx, leaves, *n, arena, &known, &n_known, st));
    qsort(known, n_known, sizeof(*known), by_text);
    for (size_t i = 0; i < *n; i++)
        if (!bsearch(&leaves[i].event_id, known, n_known, sizeof(*known), by_text))
            leaves[kept++] = leaves[i];
    *n = kept;
    return CODE_OK;
}

/* ALREADY_EXISTS: one of them has its record; the transaction is lost. */
static enum code append(struct db *tx, struct audit_tree *tree, struct audit_leaf *leaves, size_t n,
                        struct arena *arena, struct status *st)
{
    struct nodes nodes = {.node = arena_array(arena, n / 128 + 8, sizeof(struct stored_node))};
    if (n == 0)
        return CODE_OK;
    for (size_t i = 0; i < n; i++) {
        leaves[i].index = tree->base + (int64_t)tree->frontier.size;
        merkle_leaf(leaves[i].leaf, &leaves[i].hash);
        TRY(merkle_append(&tree->frontier, &leaves[i].hash, on_node, &nodes, st));
    }
    TRY(store_audit_insert(tx, leaves, n, arena, st));
    return store_audit_tree(tx, tree, nodes.node, nodes.n, arena, st);
}

/* Clashes are rare, since events are applied once: they are looked for only when there was one. */
enum code audit_append(struct db *db, struct audit_leaf *leaves, size_t n, struct arena *arena,
                       struct status *st)
{
    for (int look = 0; look < 2; look++) {
        CLEANUP(db_scope_end) struct db *tx = db;
        struct audit_tree tree;
        TRY(db_begin(tx, st));
        TRY(store_audit_lock(tx, arena, &tree, st));
        if (look)
            TRY(survivors(tx, leaves, &n, arena, st));
        enum code code = append(tx, &tree, leaves, n, arena, st);
        if (code == CODE_OK)
            return db_commit(tx, st);
        if (code != CODE_ALREADY_EXISTS)
            return code;
    }
    return status_set(st, CODE_INTERNAL, "the audit tree and its records do not fit each other");
}

static enum code drain_batch(struct db *db, struct arena *arena, size_t *ret_n, struct status *st)
{
    for (int look = 0; look < 2; look++) {
        CLEANUP(db_scope_end) struct db *tx = db;
        struct audit_tree tree;
        struct audit_leaf *leaves;
        TRY(db_begin(tx, st));
        TRY(store_audit_lock(tx, arena, &tree, st));
        TRY(store_audit_pending(tx, AUDIT_BATCH, arena, &leaves, ret_n, st));
        if (*ret_n == 0)
            return CODE_OK;
        TRY(store_audit_pending_done(tx, leaves, *ret_n, arena, st));
        size_t n = *ret_n;
        if (look)
            TRY(survivors(tx, leaves, &n, arena, st));
        enum code code = append(tx, &tree, leaves, n, arena, st);
        if (code == CODE_OK)
            return db_commit(tx, st);
        if (code != CODE_ALREADY_EXISTS)
            return code;
    }
    return status_set(st, CODE_INTERNAL, "the audit tree and its records do not fit each other");
}

enum code audit_drain(struct db *db, struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    size_t n = AUDIT_BATCH;
    for (int round = 0; n == AUDIT_BATCH && round < ROUNDS_MAX; round++) {
        TRY(drain_batch(db, arena, &n, st));
        arena_reset(arena);
    }
    return CODE_OK;
}

/* ---- reading ---- */

enum code audit_list(struct db *db, const struct audit_filter *filter, size_t max, struct arena *arena,
                     struct audit_leaf **ret, size_t *ret_n, struct status *st)
{
    return store_audit_select(db, filter, max, arena, ret, ret_n, st);
}

enum code audit_get(struct db *db, uint64_t index, struct arena *arena, struct audit_leaf *ret,
                    struct status *st)
{
    struct audit_tree tree;
    struct audit_leaf *leaves;
    size_t n = 0;
    TRY(store_audit_state(db, arena, &tree, st));
    const struct audit_filter one = {.from_ms = -1,
                                     .until_ms = -1,
                                     .oldest_first = true,
                                     .after = tree.base + (int64_t)(index % MERKLE_SIZE_MAX) - 1};
    if (index < MERKLE_SIZE_MAX)
        TRY(store_audit_select(db, &one, 1, arena, &leaves, &n, st));
    if (n == 0 || leaves[0].index != tree.base + (int64_t)index)
        return status_set(st, CODE_NOT_FOUND, "audit record %llu: there is none", (unsigned long long)index);
    *ret = leaves[0];
    return CODE_OK;
}

/* ---- proofs ---- */

struct reader {
    struct db *db;
    struct audit_tree tree;
    struct arena *arena;
};

static enum code look_up(unsigned level, uint64_t index, struct merkle_hash *ret, void *arg,
                         struct status *st)
{
    const struct reader *reader = arg;
    unsigned above = level % STORED_EVERY;
    uint64_t n = UINT64_C(1) << above;
    struct merkle_hash *hash;
    TRY(store_audit_hashes(reader->db, &reader->tree, level - above, index << above, n, reader->arena, &hash,
                           st));
    for (; n > 1; n /= 2)
        for (uint64_t i = 0; i < n / 2; i++) {
            struct merkle_hash parent;
            merkle_node(&hash[2 * i], &hash[2 * i + 1], &parent);
            hash[i] = parent;
        }
    *ret = hash[0];
    return CODE_OK;
}

static enum code reader_open(struct reader *reader, uint64_t size, struct status *st)
{
    TRY(store_audit_state(reader->db, reader->arena, &reader->tree, st));
    if (size > reader->tree.frontier.size)
        return status_set(st, CODE_INVALID_ARGUMENT, "the audit log has %llu records",
                          (unsigned long long)reader->tree.frontier.size);
    return CODE_OK;
}

enum code audit_inclusion(struct db *db, uint64_t index, uint64_t size, struct merkle_proof *ret,
                          struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    struct reader reader = {.db = db, .arena = arena};
    TRY(reader_open(&reader, size, st));
    return merkle_inclusion(index, size, look_up, &reader, ret, st);
}

enum code audit_consistency(struct db *db, uint64_t first, uint64_t second, struct merkle_proof *ret,
                            struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    struct reader reader = {.db = db, .arena = arena};
    TRY(reader_open(&reader, second, st));
    return merkle_consistency(first, second, look_up, &reader, ret, st);
}

enum code audit_root_at(struct db *db, uint64_t size, struct merkle_hash *ret, struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    struct reader reader = {.db = db, .arena = arena};
    TRY(reader_open(&reader, size, st));
    return merkle_root_at(size, look_up, &reader, ret, st);
}

/* ---- heads ---- */

enum code audit_delay_get(struct db *db, struct arena *arena, struct audit_delay *ret, struct status *st)
{
    struct audit_tree tree;
    TRY(store_audit_oldest(db, arena, &ret->oldest_pending_id, st));
    TRY(store_audit_state(db, arena, &tree, st));
    ret->unsigned_records = tree.frontier.size - tree.head_size;
    return CODE_OK;
}

enum code audit_head_next(struct db *db, struct arena *arena, struct audit_next_head *ret, bool *ret_due,
                          struct status *st)
{
    struct audit_tree tree;
    TRY(store_audit_state(db, arena, &tree, st));
    *ret = (struct audit_next_head){
        .tree_id = tree.tree_id, .size = tree.frontier.size, .previous_size = tree.head_size};
    *ret_due = ret->size > ret->previous_size;
    merkle_root(&tree.frontier, &ret->root);
    if (*ret_due && tree.number > 1)
        TRY(audit_inclusion(db, 0, ret->size, &ret->origin, st));
    if (!*ret_due || ret->previous_size == 0)
        return CODE_OK;
    return audit_consistency(db, ret->previous_size, ret->size, &ret->consistency, st);
}

enum code audit_head_store(struct db *db, const struct audit_head *head, struct arena *arena,
                           struct status *st)
{
    return store_audit_head_insert(db, head, arena, st);
}

enum code audit_head_newest(struct db *db, struct arena *arena, struct audit_head *ret, struct status *st)
{
    enum code code = store_audit_head(db, -1, arena, ret, st);
    if (code == CODE_NOT_FOUND)
        return status_set(st, code, "there is no signed head yet; ask again in a minute");
    return code;
}

enum code audit_head_of_size(struct db *db, uint64_t size, struct arena *arena, struct audit_head *ret,
                             struct status *st)
{
    return store_audit_head(db, size < INT64_MAX ? (int64_t)size : INT64_MAX, arena, ret, st);
}

enum code audit_heads_list(struct db *db, int64_t tree, uint64_t after_size, int64_t from_ms, size_t max,
                           struct arena *arena, struct audit_head **ret, size_t *ret_n, struct status *st)
{
    return store_audit_heads(db, tree, after_size, from_ms, max, arena, ret, ret_n, st);
}

/* ---- restore ---- */

/* The longest head of the tree that an agent or we know. */
static enum code last_head(struct db *tx, const struct audit_tree *tree, struct arena *arena,
                           struct audit_former *ret, struct status *st)
{
    struct audit_former reported;
    bool found;
    *ret = (struct audit_former){.tree_id = tree->tree_id, .size = tree->head_size};
    if (ret->size > 0)
        TRY(audit_root_at(tx, ret->size, &ret->root, st));
    TRY(store_reported(tx, tree->tree_id, arena, &reported, &found, st));
    if (found && reported.size > ret->size)
        *ret = reported;
    return CODE_OK;
}

enum code audit_new_tree(struct db *tx, struct audit_record *record, struct arena *arena, struct status *st)
{
    struct audit_former *former, last;
    struct audit_tree tree;
    TRY(store_audit_lock(tx, arena, &tree, st));
    TRY(last_head(tx, &tree, arena, &last, st));
    TRY(store_tree_end(tx, &last, record->occurred_at_ms, arena, st));
    TRY(store_trees_former(tx, arena, &former, &record->n_former, st));
    record->former = former;
    TRY(store_audit_lock(tx, arena, &tree, st));
    struct audit_leaf leaf = {.event_id = record->event_id,
                              .action = record->action,
                              .actor = record->actor,
                              .occurred_at_ms = record->occurred_at_ms};
    audit_record_encode(record, arena, &leaf.leaf);
    return append(tx, &tree, &leaf, 1, arena, st);
}

enum code audit_report_wanted(struct db *db, const char *tree_id, uint64_t size, struct arena *arena,
                              bool *ret_wanted, struct status *st)
{
    struct audit_former reported;
    struct audit_tree tree;
    bool found;
    TRY(store_audit_state(db, arena, &tree, st));
    *ret_wanted = false;
    if (strcmp(tree.tree_id, tree_id) != 0 || size <= tree.frontier.size)
        return CODE_OK;
    TRY(store_reported(db, tree_id, arena, &reported, &found, st));
    *ret_wanted = !found || size > reported.size;
    return CODE_OK;
}

enum code audit_reported(struct db *db, const struct audit_report *in, struct arena *arena, struct status *st)
{
    bool wanted;
    TRY(audit_report_wanted(db, in->tree_id, in->size, arena, &wanted, st));
    return wanted ? store_reported_put(db, in, arena, st) : CODE_OK;
}

/* The row goes with its tree: what grew since does not make it whole. */
enum code audit_is_whole(struct db *db, struct arena *arena, bool *ret, struct status *st)
{
    struct audit_former reported;
    struct audit_tree tree;
    bool found;
    TRY(store_audit_state(db, arena, &tree, st));
    TRY(store_reported(db, tree.tree_id, arena, &reported, &found, st));
    *ret = !found;
    return CODE_OK;
}
