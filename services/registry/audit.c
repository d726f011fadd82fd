/*
 * Appending to the audit tree and proving out of it. Whoever appends holds the frontier's row, so leaves are
 * numbered without gaps in the order of commits. Of the interior nodes every eighth level is stored: a proof
 * hashes at most 2^7 of them again for each of its steps.
 */
#include "store_audit.h"

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

/* *ret_clash: one of them has its record, nothing may be committed. */
static enum code append(struct db *tx, struct merkle_frontier *frontier, struct audit_leaf *leaves, size_t n,
                        struct arena *arena, bool *ret_clash, struct status *st)
{
    struct nodes nodes = {.node = arena_array(arena, n / 128 + 8, sizeof(struct stored_node))};
    int64_t inserted;
    if (n == 0)
        return CODE_OK;
    for (size_t i = 0; i < n; i++) {
        leaves[i].index = (int64_t)frontier->size;
        merkle_leaf(leaves[i].leaf, &leaves[i].hash);
        TRY(merkle_append(frontier, &leaves[i].hash, on_node, &nodes, st));
    }
    TRY(store_audit_insert(tx, leaves, n, arena, &inserted, st));
    *ret_clash = inserted != (int64_t)n;
    if (*ret_clash)
        return CODE_OK;
    return store_audit_tree(tx, frontier, nodes.node, nodes.n, arena, st);
}

/* Clashes are rare, since events are applied once: they are looked for only when there was one. */
enum code audit_append(struct db *db, struct audit_leaf *leaves, size_t n, struct arena *arena,
                       struct status *st)
{
    for (int look = 0; look < 2; look++) {
        CLEANUP(db_scope_end) struct db *tx = db;
        struct merkle_frontier frontier;
        bool clash = false;
        TRY(db_begin(tx, st));
        TRY(store_audit_lock(tx, arena, &frontier, st));
        if (look)
            TRY(survivors(tx, leaves, &n, arena, st));
        TRY(append(tx, &frontier, leaves, n, arena, &clash, st));
        if (!clash)
            return db_commit(tx, st);
    }
    return status_set(st, CODE_INTERNAL, "the audit tree and its records do not fit each other");
}

static enum code drain_batch(struct db *db, struct arena *arena, size_t *ret_n, struct status *st)
{
    for (int look = 0; look < 2; look++) {
        CLEANUP(db_scope_end) struct db *tx = db;
        struct merkle_frontier frontier;
        struct audit_leaf *leaves;
        bool clash = false;
        TRY(db_begin(tx, st));
        TRY(store_audit_lock(tx, arena, &frontier, st));
        TRY(store_audit_pending(tx, AUDIT_BATCH, arena, &leaves, ret_n, st));
        if (*ret_n == 0)
            return CODE_OK;
        TRY(store_audit_pending_done(tx, leaves, *ret_n, arena, st));
        size_t n = *ret_n;
        if (look)
            TRY(survivors(tx, leaves, &n, arena, st));
        TRY(append(tx, &frontier, leaves, n, arena, &clash, st));
        if (!clash)
            return db_commit(tx, st);
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
    const struct audit_filter one = {
        .from_ms = -1, .until_ms = -1, .oldest_first = true, .after = (int64_t)index - 1};
    struct audit_leaf *leaves;
    size_t n = 0;
    if (index < MERKLE_SIZE_MAX)
        TRY(store_audit_select(db, &one, 1, arena, &leaves, &n, st));
    if (n == 0 || leaves[0].index != (int64_t)index)
        return status_set(st, CODE_NOT_FOUND, "audit record %llu: there is none", (unsigned long long)index);
    *ret = leaves[0];
    return CODE_OK;
}

/* ---- proofs ---- */

struct reader {
    struct db *db;
    struct arena *arena;
};

static enum code look_up(unsigned level, uint64_t index, struct merkle_hash *ret, void *arg,
                         struct status *st)
{
    const struct reader *reader = arg;
    unsigned above = level % STORED_EVERY;
    uint64_t n = UINT64_C(1) << above;
    struct merkle_hash *hash;
    TRY(store_audit_hashes(reader->db, level - above, index << above, n, reader->arena, &hash, st));
    for (; n > 1; n /= 2)
        for (uint64_t i = 0; i < n / 2; i++) {
            struct merkle_hash parent;
            merkle_node(&hash[2 * i], &hash[2 * i + 1], &parent);
            hash[i] = parent;
        }
    *ret = hash[0];
    return CODE_OK;
}

static enum code within(struct db *db, uint64_t size, struct arena *arena, struct status *st)
{
    const char *tree_id;
    struct merkle_frontier frontier;
    uint64_t head_size;
    TRY(store_audit_state(db, arena, &tree_id, &frontier, &head_size, st));
    if (size > frontier.size)
        return status_set(st, CODE_INVALID_ARGUMENT, "the audit log has %llu records",
                          (unsigned long long)frontier.size);
    return CODE_OK;
}

enum code audit_inclusion(struct db *db, uint64_t index, uint64_t size, struct merkle_proof *ret,
                          struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    struct reader reader = {db, arena};
    TRY(within(db, size, arena, st));
    return merkle_inclusion(index, size, look_up, &reader, ret, st);
}

enum code audit_consistency(struct db *db, uint64_t first, uint64_t second, struct merkle_proof *ret,
                            struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    struct reader reader = {db, arena};
    TRY(within(db, second, arena, st));
    return merkle_consistency(first, second, look_up, &reader, ret, st);
}

enum code audit_root_at(struct db *db, uint64_t size, struct merkle_hash *ret, struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    struct reader reader = {db, arena};
    TRY(within(db, size, arena, st));
    return merkle_root_at(size, look_up, &reader, ret, st);
}

/* ---- heads ---- */

enum code audit_head_next(struct db *db, struct arena *arena, struct audit_next_head *ret, bool *ret_due,
                          struct status *st)
{
    struct merkle_frontier frontier;
    *ret = (struct audit_next_head){0};
    TRY(store_audit_state(db, arena, &ret->tree_id, &frontier, &ret->previous_size, st));
    ret->size = frontier.size;
    *ret_due = ret->size > ret->previous_size;
    merkle_root(&frontier, &ret->root);
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

enum code audit_heads_list(struct db *db, uint64_t after_size, int64_t from_ms, size_t max,
                           struct arena *arena, struct audit_head **ret, size_t *ret_n, struct status *st)
{
    return store_audit_heads(db, after_size, from_ms, max, arena, ret, ret_n, st);
}
