/*
 * Where a target's content lies, and how it is changed: each file renamed by itself, a directory exchanged as
 * a whole, or an object of Kubernetes. One row a place; a transaction knows no other way to a target. Content
 * is staged first, out of the server's sight, and then put in place in one go. Blocking; in a task's child.
 */
#ifndef CLM_AGENT_STORES_PLACE_H
#define CLM_AGENT_STORES_PLACE_H

#include "agent/policy/policy.h"
#include "stores/file.h"

struct place_at { /* borrowed */
    const struct policy_target *target;
    const char *state_dir;
    bool once; /* what is away is not waited for: who looks comes again */
};

struct place {
    const char *name;
    bool whole; /* all of a target's content changes at once or not at all: always stage every part */
    /* Whether the target can be changed this way at all; NULL: always. */
    enum code (*check)(const struct place_at *at, struct status *st);
    /* As store_read. */
    enum code (*read)(const struct place_at *at, const char *path, struct secret **ret,
                      struct store_meta *meta, struct status *st);
    enum code (*read_staged)(const struct place_at *at, const char *path, const char *staged,
                             struct secret **ret, struct status *st);
    enum code (*stage)(const struct place_at *at, const char *path, const char *staged, struct bytes content,
                       const struct store_meta *meta, struct status *st);
    /* ABORTED: somebody else changed one of them meanwhile; then theirs is what is there. */
    enum code (*swap)(const struct place_at *at, const struct store_move *moves, size_t n, struct status *st);
    /* staged NULL: path itself, whose digest must be old_sha. That it is not there is no error. */
    enum code (*remove)(const struct place_at *at, const char *path, const char *staged, struct status *st);
};

extern const struct place directory_place, kubernetes_place;
const struct place *place_of(const struct policy_target *target);

/* SHA-256 of what is at path; "" when there is nothing. */
enum code place_digest(const struct place_at *at, const char *path, char ret_hex[SHA256_HEX_SIZE],
                       struct status *st) MUST_CHECK;
/* Name for what is staged for a role ("cert") of a task's attempt. */
void place_staged_name(const struct policy_target *target, const char *path, const char *task_id,
                       unsigned attempt, const char *role, char *out, size_t out_size);

#endif
