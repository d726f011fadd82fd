/* Worker threads. */
#include "restore.h"

#include <stdlib.h>
#include <string.h>

#include "base/id.h"
#include "store_restore.h"

#define BATCH 1000

/* ---- the copy outside ---- */

enum code platform_copy_take(struct db *db, int64_t now_ms, struct arena *arena, struct platform_copy *ret,
                             struct status *st)
{
    CLEANUP(db_scope_end) struct db *tx = db;
    struct platform_epoch epoch;
    struct audit_tree tree;
    TRY(db_begin(tx, st));
    TRY(store_one_snapshot(tx, st));
    TRY(store_epoch(tx, arena, &epoch, st));
    TRY(store_audit_state(tx, arena, &tree, st));
    *ret = (struct platform_copy){.epoch = epoch.epoch, .made_at_ms = now_ms};
    ret->tree = (struct audit_former){.tree_id = tree.tree_id, .size = tree.frontier.size};
    merkle_root(&tree.frontier, &ret->tree.root);
    TRY(store_held_back(tx, arena, &ret->held, &ret->n_held, st));
    return db_commit(tx, st);
}

/* The audit log says which history this is; versions say the rest, for what is not yet in the log. */
enum code platform_copy_fits(struct db *db, const struct platform_copy *copy, struct arena *arena,
                             bool *ret_fits, struct status *st)
{
    struct platform_epoch epoch;
    struct audit_tree tree;
    struct merkle_hash root;
    bool older;
    TRY(store_epoch(db, arena, &epoch, st));
    TRY(store_audit_state(db, arena, &tree, st));
    *ret_fits = epoch.epoch > copy->epoch;
    if (*ret_fits || epoch.epoch < copy->epoch || strcmp(tree.tree_id, copy->tree.tree_id) != 0 ||
        tree.frontier.size < copy->tree.size)
        return CODE_OK;
    if (copy->tree.size > 0) {
        TRY(audit_root_at(db, copy->tree.size, &root, st));
        if (!merkle_hash_equal(&root, &copy->tree.root))
            return CODE_OK;
    }
    TRY(store_held_back_newer(db, copy->held, copy->n_held, arena, &older, st));
    *ret_fits = !older;
    return CODE_OK;
}

/* ---- declaring a restore ---- */

enum code platform_epoch_get(struct db *db, struct arena *arena, struct platform_epoch *ret,
                             struct status *st)
{
    return store_epoch(db, arena, ret, st);
}

enum code platform_epoch_told(struct db *db, struct status *st)
{
    return store_epoch_told(db, st);
}

struct holding {
    const struct held_back *held;
    size_t n;
    size_t changed;
};

static int by_agent(const void *a, const void *b)
{
    return strcmp(((const struct held_back *)a)->agent_id, ((const struct held_back *)b)->agent_id);
}

/* Only what narrows: what was allowed since the backup an operator allows again. */
static enum code hold_back(struct agent *agent, bool *dirty, bool *heard, void *arg, struct status *st)
{
    (void)heard;
    (void)st;
    struct holding *holding = arg;
    const struct held_back key = {.agent_id = agent->id};
    const struct held_back *held = bsearch(&key, holding->held, holding->n, sizeof(*holding->held), by_agent);
    if (!held)
        return CODE_OK;
    if (held->disabled_reason && (!agent->disabled || strcmp(held->disabled_reason, "revoked") == 0) &&
        (!agent->disabled || strcmp(agent->disabled_reason, held->disabled_reason) != 0)) {
        agent->disabled = *dirty = true;
        agent->disabled_reason = held->disabled_reason;
    }
    if (*held->frozen_reason && !*agent->frozen_reason) {
        agent->frozen_reason = held->frozen_reason;
        *dirty = true;
    }
    if (held->min_generation > agent->min_generation) {
        agent->min_generation = held->min_generation;
        *dirty = true;
    }
    if (held->token_generation > agent->token_generation) {
        agent->token_generation = held->token_generation;
        *dirty = true;
    }
    holding->changed += *dirty;
    return CODE_OK;
}

static enum code hold_all_back(struct db *tx, const struct cause *cause, const struct held_back *held,
                               size_t n, struct arena *arena, size_t *ret_held, struct status *st)
{
    struct held_back *sorted = arena_array(arena, n + 1, sizeof(*sorted));
    if (n > 0)
        memcpy(sorted, held, n * sizeof(*held));
    qsort(sorted, n, sizeof(*sorted), by_agent);
    struct holding holding = {.held = sorted, .n = n};
    for (size_t from = 0; from < n; from += BATCH) {
        size_t count = n - from < BATCH ? n - from : BATCH;
        const char **ids = arena_array(arena, count, sizeof(*ids));
        for (size_t i = 0; i < count; i++)
            ids[i] = sorted[from + i].agent_id;
        TRY(agents_change(tx, cause, ids, count, hold_back, &holding, arena, NULL, NULL, st));
    }
    *ret_held = holding.changed;
    return CODE_OK;
}

enum code platform_restored(struct db *db, const struct cause *cause, const struct held_back *held, size_t n,
                            struct arena *arena, struct platform_epoch *ret, struct audit_former *ret_former,
                            size_t *ret_held, struct status *st)
{
    CLEANUP(db_scope_end) struct db *tx = db;
    char id[UUID_TEXT_SIZE];
    uuid_v7(id);
    TRY(db_begin(tx, st));
    TRY(store_epoch_raise(tx, cause->now_ms, arena, ret, st));
    struct audit_record record = {
        .event_id = id,
        .action = "platform.restored",
        .origin = "registry",
        .entity_id = "platform",
        .actor = cause->actor,
        .occurred_at_ms = cause->now_ms,
        .outcome = "OK",
        .detail = arena_printf(arena, "epoch %lld", (long long)ret->epoch),
        .traceparent = cause->traceparent,
    };
    TRY(audit_new_tree(tx, &record, arena, st));
    *ret_former = record.former[record.n_former - 1];
    TRY(store_epoch_agents(tx, arena, st));
    TRY(hold_all_back(tx, cause, held, n, arena, ret_held, st));
    const struct activity activity = {.occurred_at_ms = cause->now_ms,
                                      .event = "platform.restored",
                                      .actor = cause->actor,
                                      .message = record.detail};
    TRY(activity_add(tx, &activity, 1, arena, st));
    return db_commit(tx, st);
}
