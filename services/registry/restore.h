/*
 * A restore from a backup: what is copied outside the database every 10 s, so that the restored one can be
 * told what it has forgotten, and the operation that declares it. The platform's epoch counts restores.
 */
#ifndef CLM_REGISTRY_RESTORE_H
#define CLM_REGISTRY_RESTORE_H

#include "audit.h"

struct held_back {                                          /* an agent that may not work */
    const char *agent_id, *disabled_reason, *frozen_reason; /* disabled_reason NULL: not disabled */
    int64_t min_generation, token_generation, version;
    bool deleted;
};
struct platform_copy {
    int64_t epoch, made_at_ms;
    struct audit_former tree; /* the audit log at that moment */
    struct held_back *held;
    size_t n_held;
};
/* As one moment of the database. */
enum code platform_copy_take(struct db *db, int64_t now_ms, struct arena *arena, struct platform_copy *ret,
                             struct status *st) MUST_CHECK;
/* Whether the database goes on from what the copy was taken of. False: it is older, or another's. */
enum code platform_copy_fits(struct db *db, const struct platform_copy *copy, struct arena *arena,
                             bool *ret_fits, struct status *st) MUST_CHECK;

struct platform_epoch {
    int64_t epoch, restored_at_ms; /* -1: never */
    bool told;                     /* the other services know */
};
enum code platform_epoch_get(struct db *db, struct arena *arena, struct platform_epoch *ret,
                             struct status *st) MUST_CHECK;
enum code platform_epoch_told(struct db *db, struct status *st) MUST_CHECK;
struct restored {
    struct platform_epoch epoch;
    struct audit_former former;
    size_t n_held, n_deleted; /* agents for whom that is news */
};
/* One transaction: a higher epoch and entity versions than anybody has seen, a new tree of the audit log,
 * nobody taken for a clone. Who may not work by `held` (of the copy) or by what is read from the stream
 * (lost.h), whichever is newer, works no more; who was deleted is deleted again. */
enum code platform_restored(struct db *db, const struct cause *cause, const struct held_back *held, size_t n,
                            struct arena *arena, struct restored *ret, struct status *st) MUST_CHECK;

#endif
