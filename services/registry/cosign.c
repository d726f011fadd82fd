/* Agents' signatures under heads of the audit log. What was signed is held against the stored tree: an agent
 * that verified another history is the proof that there was one. Worker threads. */
#include <string.h>

#include "alerts.h"
#include "store_audit.h"

static enum code another_history(struct db *db, const struct audit_cosignature *in, int64_t now_ms,
                                 struct arena *arena, struct status *st)
{
    const char *message = arena_printf(arena,
                                       "this agent holds a signed head of %llu records that is not of this "
                                       "audit log: history was changed",
                                       (unsigned long long)in->size);
    const struct alert_change change = {.kind = ALERT_AUDIT_INCONSISTENT,
                                        .entity = in->agent_id,
                                        .agent_id = in->agent_id,
                                        .message = message};
    TRY(alerts_raise_alone(db, &change, 1, now_ms, arena, st));
    return status_set(st, CODE_UNAUTHENTICATED, "agent %s: %s", in->agent_id, message);
}

enum code audit_cosign(struct db *db, const struct audit_cosignature *in, int64_t day, int64_t now_ms,
                       struct arena *arena, struct status *st)
{
    struct audit_tree tree;
    struct merkle_hash root;
    if (in->made_at_ms < now_ms - COSIGN_LATE_MS || in->made_at_ms > now_ms + COSIGN_LATE_MS)
        return status_set(st, CODE_INVALID_ARGUMENT, "agent %s: the co-signature is not of these days",
                          in->agent_id);
    TRY(store_audit_state(db, arena, &tree, st));
    if (strcmp(tree.tree_id, in->tree_id) != 0)
        return status_set(st, CODE_INVALID_ARGUMENT, "agent %s: a head of another tree is signed",
                          in->agent_id);
    if (in->size > tree.head_size || in->size == 0)
        return another_history(db, in, now_ms, arena, st);
    TRY(audit_root_at(db, in->size, &root, st));
    if (!merkle_hash_equal(&root, &in->root))
        return another_history(db, in, now_ms, arena, st);
    return store_cosignature_put(db, in, day, arena, st);
}

enum code audit_cosignatures(struct db *db, const struct cosign_filter *filter, size_t max,
                             struct arena *arena, struct audit_cosignature **ret, size_t *ret_n,
                             struct status *st)
{
    return store_cosignatures(db, filter, max, arena, ret, ret_n, st);
}

enum code audit_cosignatures_trim(struct db *db, int64_t before_ms, struct arena *arena, struct status *st)
{
    return store_cosignatures_trim(db, before_ms, arena, st);
}
