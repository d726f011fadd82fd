/* Statements of restores, for restore.c and audit.c. */
#ifndef CLM_REGISTRY_STORE_RESTORE_H
#define CLM_REGISTRY_STORE_RESTORE_H

#include "restore.h"
#include "store_audit.h"

/* First in a transaction: all of it sees one moment. */
enum code store_one_snapshot(struct db *tx, struct status *st) MUST_CHECK;
enum code store_epoch(struct db *db, struct arena *arena, struct platform_epoch *ret,
                      struct status *st) MUST_CHECK;
enum code store_epoch_raise(struct db *tx, int64_t now_ms, struct arena *arena, struct platform_epoch *ret,
                            struct status *st) MUST_CHECK;
enum code store_epoch_told(struct db *db, struct status *st) MUST_CHECK;
/* Raises every agent's version beyond what anybody has seen, and forgets who was heard last. */
enum code store_epoch_agents(struct db *tx, struct arena *arena, struct status *st) MUST_CHECK;
/* Ordered by id. */
enum code store_held_back(struct db *db, struct arena *arena, struct held_back **ret, size_t *ret_n,
                          struct status *st) MUST_CHECK;
/* *ret_newer: the copy has a higher version of one of them. */
enum code store_held_back_newer(struct db *db, const struct held_back *held, size_t n, struct arena *arena,
                                bool *ret_newer, struct status *st) MUST_CHECK;

/* Moves the tree that grows to the former ones, with the last head that anybody knew of it. */
enum code store_tree_end(struct db *tx, const struct audit_former *last, int64_t now_ms, struct arena *arena,
                         struct status *st) MUST_CHECK;
/* In the order in which they ended. */
enum code store_trees_former(struct db *db, struct arena *arena, struct audit_former **ret, size_t *ret_n,
                             struct status *st) MUST_CHECK;
/* *ret_found false: no agent reported a longer one of this tree. */
enum code store_reported(struct db *db, const char *tree_id, struct arena *arena, struct audit_former *ret,
                         bool *ret_found, struct status *st) MUST_CHECK;
enum code store_reported_put(struct db *db, const struct audit_report *in, struct arena *arena,
                             struct status *st) MUST_CHECK;

#endif
