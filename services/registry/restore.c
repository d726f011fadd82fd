/* Worker threads. */
#include "restore.h"

#include <stdlib.h>
#include <string.h>

#include "alerts.h"
#include "base/id.h"
#include "safemode/safemode.h"
#include "store_lost.h"
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

/* Of one agent the newest first. */
static int by_agent_and_version(const void *a, const void *b)
{
    const struct held_back *x = a, *y = b;
    int order = strcmp(x->agent_id, y->agent_id);
    return order ? order : (x->version < y->version) - (x->version > y->version);
}

static int by_agent(const void *a, const void *b)
{
    return strcmp(((const struct held_back *)a)->agent_id, ((const struct held_back *)b)->agent_id);
}

/* What the copy and the stream say together: one row an agent, its newest state. A token's generation is in
 * the copy alone, and never falls. */
static void newest_of(struct held_back *rows, size_t *n)
{
    size_t kept = 0;
    qsort(rows, *n, sizeof(*rows), by_agent_and_version);
    for (size_t i = 0; i < *n; i++) {
        struct held_back *last = kept > 0 ? &rows[kept - 1] : NULL;
        if (!last || strcmp(last->agent_id, rows[i].agent_id) != 0)
            rows[kept++] = rows[i];
        else if (last->token_generation < rows[i].token_generation)
            last->token_generation = rows[i].token_generation;
    }
    *n = kept;
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
    if (held->disabled_reason && (!agent->disabled || strcmp(held->disabled_reason, DISABLED_REVOKED) == 0) &&
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

static enum code hold_all_back(struct db *tx, const struct cause *cause, const struct held_back *rows,
                               size_t n, struct arena *arena, struct restored *ret, struct status *st)
{
    struct holding holding = {.held = rows, .n = n};
    const char **ids = arena_array(arena, n + 1, sizeof(*ids));
    size_t n_ids = 0;
    for (size_t i = 0; i < n; i++)
        if (rows[i].disabled_reason || *rows[i].frozen_reason)
            ids[n_ids++] = rows[i].agent_id;
    for (size_t from = 0; from < n_ids; from += BATCH) {
        size_t count = n_ids - from < BATCH ? n_ids - from : BATCH;
        TRY(agents_change(tx, cause, ids + from, count, hold_back, &holding, arena, NULL, NULL, st));
    }
    ret->n_held = holding.changed;
    return CODE_OK;
}

/* What was registered after the backup is not there to be deleted. */
static enum code delete_all_again(struct db *tx, const struct cause *cause, const struct held_back *rows,
                                  size_t n, struct arena *arena, struct restored *ret, struct status *st)
{
    struct agent gone;
    for (size_t i = 0; i < n; i++) {
        if (!rows[i].deleted)
            continue;
        enum code code = agent_delete_in(tx, cause, rows[i].agent_id, arena, &gone, st);
        if (code != CODE_OK && code != CODE_NOT_FOUND)
            return code;
        ret->n_deleted += code == CODE_OK;
    }
    return CODE_OK;
}

static enum code narrow(struct db *tx, const struct cause *cause, const struct held_back *held, size_t n,
                        struct arena *arena, struct restored *ret, struct status *st)
{
    struct held_back *lost;
    size_t n_lost;
    TRY(store_lost_select(tx, arena, &lost, &n_lost, st));
    struct held_back *rows = arena_array(arena, n + n_lost + 1, sizeof(*rows));
    if (n > 0)
        memcpy(rows, held, n * sizeof(*held));
    if (n_lost > 0)
        memcpy(rows + n, lost, n_lost * sizeof(*lost));
    n += n_lost;
    newest_of(rows, &n);
    ret->n_held = ret->n_deleted = 0;
    TRY(delete_all_again(tx, cause, rows, n, arena, ret, st));
    TRY(hold_all_back(tx, cause, rows, n, arena, ret, st));
    return store_lost_clear(tx, st);
}

enum code platform_restored(struct db *db, const struct cause *cause, const struct held_back *held, size_t n,
                            struct arena *arena, struct restored *ret, struct status *st)
{
    CLEANUP(db_scope_end) struct db *tx = db;
    char id[UUID_TEXT_SIZE];
    uuid_v7(id);
    TRY(db_begin(tx, st));
    TRY(store_epoch_raise(tx, cause->now_ms, arena, &ret->epoch, st));
    struct audit_record record = {
        .event_id = id,
        .action = "platform.restored",
        .origin = "registry",
        .entity_id = "platform",
        .actor = cause->actor,
        .occurred_at_ms = cause->now_ms,
        .outcome = "OK",
        .detail = arena_printf(arena, "epoch %lld", (long long)ret->epoch.epoch),
        .traceparent = cause->traceparent,
    };
    TRY(audit_new_tree(tx, &record, arena, st));
    ret->former = record.former[record.n_former - 1];
    TRY(store_epoch_agents(tx, arena, st));
    TRY(narrow(tx, cause, held, n, arena, ret, st));
    TRY(alerts_resolve_restored(tx, cause->now_ms, arena, st));
    const struct activity activity = {.occurred_at_ms = cause->now_ms,
                                      .event = "platform.restored",
                                      .actor = cause->actor,
                                      .message = record.detail};
    TRY(activity_add(tx, &activity, 1, arena, st));
    return db_commit(tx, st);
}
