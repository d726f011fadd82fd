/* Statements of the audit log, for audit.c. */
#ifndef CLM_REGISTRY_STORE_AUDIT_H
#define CLM_REGISTRY_STORE_AUDIT_H

#include "audit.h"
#include "store.h"

struct audit_tree { /* the one that grows */
    const char *tree_id;
    int64_t number, base; /* base: index of its first record among those of all trees */
    uint64_t head_size;   /* of its newest head; 0: none */
    struct merkle_frontier frontier;
};

struct stored_node {
    unsigned level;
    uint64_t index;
    struct merkle_hash hash;
};

enum code store_audit_put_down(struct db *tx, const struct audit_leaf *leaves, size_t n, struct arena *arena,
                               struct status *st) MUST_CHECK;
enum code store_audit_pending(struct db *tx, size_t max, struct arena *arena, struct audit_leaf **ret,
                              size_t *ret_n, struct status *st) MUST_CHECK;
enum code store_audit_pending_done(struct db *tx, const struct audit_leaf *leaves, size_t n,
                                   struct arena *arena, struct status *st) MUST_CHECK;
/* Locks the frontier's row: one appends at a time. */
enum code store_audit_lock(struct db *tx, struct arena *arena, struct audit_tree *ret,
                           struct status *st) MUST_CHECK;
/* Which of these events have their record. */
enum code store_audit_known(struct db *tx, const struct audit_leaf *leaves, size_t n, struct arena *arena,
                            const char ***ret, size_t *ret_n, struct status *st) MUST_CHECK;
/* ALREADY_EXISTS when one had its record already; the transaction is lost then. ("ON CONFLICT DO NOTHING"
 * would spare it, and costs every batch a fifth of its time.) */
enum code store_audit_insert(struct db *tx, const struct audit_leaf *leaves, size_t n, struct arena *arena,
                             struct status *st) MUST_CHECK;
enum code store_audit_tree(struct db *tx, const struct audit_tree *tree, const struct stored_node *nodes,
                           size_t n, struct arena *arena, struct status *st) MUST_CHECK;
/* Hashes [begin, begin + n) of level 0 or of one that is stored. */
enum code store_audit_hashes(struct db *db, const struct audit_tree *tree, unsigned level, uint64_t begin,
                             uint64_t n, struct arena *arena, struct merkle_hash **ret,
                             struct status *st) MUST_CHECK;
enum code store_audit_select(struct db *db, const struct audit_filter *filter, size_t max,
                             struct arena *arena, struct audit_leaf **ret, size_t *ret_n,
                             struct status *st) MUST_CHECK;
/* NULL: nothing waits. */
enum code store_audit_oldest(struct db *db, struct arena *arena, const char **ret_event_id,
                             struct status *st) MUST_CHECK;
enum code store_audit_state(struct db *db, struct arena *arena, struct audit_tree *ret,
                            struct status *st) MUST_CHECK;
enum code store_audit_head_insert(struct db *db, const struct audit_head *head, struct arena *arena,
                                  struct status *st) MUST_CHECK;
enum code store_audit_heads(struct db *db, int64_t tree, uint64_t after_size, int64_t from_ms, size_t max,
                            struct arena *arena, struct audit_head **ret, size_t *ret_n,
                            struct status *st) MUST_CHECK;
/* size -1: the newest. */
enum code store_audit_head(struct db *db, int64_t size, struct arena *arena, struct audit_head *ret,
                           struct status *st) MUST_CHECK;

/* One that is there, of this head or this day, stays. */
enum code store_cosignature_put(struct db *db, const struct audit_cosignature *in, int64_t day,
                                struct arena *arena, struct status *st) MUST_CHECK;
enum code store_cosignatures(struct db *db, const struct cosign_filter *filter, size_t max,
                             struct arena *arena, struct audit_cosignature **ret, size_t *ret_n,
                             struct status *st) MUST_CHECK;
enum code store_cosignatures_trim(struct db *db, int64_t before_ms, struct arena *arena,
                                  struct status *st) MUST_CHECK;

#endif
