/*
 * The audit log: records of what happened go into a Merkle tree, exactly once, and signed heads of it go to
 * everybody. Two steps: audit_note puts a record down in the transaction that made it true; one thread of one
 * replica drains what was put down into the tree. What a leaf holds byte for byte is the border's.
 */
#ifndef CLM_REGISTRY_AUDIT_H
#define CLM_REGISTRY_AUDIT_H

#include "merkle/merkle.h"
#include "registry.h"

struct audit_former { /* a tree that a restore ended, by the last head of it that anybody knew */
    const char *tree_id;
    uint64_t size;
    struct merkle_hash root;
};
struct audit_record {
    const char *event_id, *action, *origin, *entity_id, *agent_id, *actor; /* agent_id may be NULL */
    int64_t occurred_at_ms;
    const char *source, *outcome, *detail, *traceparent, *certificate_sha256; /* NULL: not known */
    struct bytes receipt_sha256;                                              /* may be empty */
    uint32_t count;                                                           /* 0: not repeated */
    const struct audit_former *former;                                        /* of "platform.restored" */
    size_t n_former;
};
/* The leaf. Made by the border (audit_border.c). Memory from the arena. */
void audit_record_encode(const struct audit_record *record, struct arena *arena, struct bytes *ret);

#define AUDIT_BATCH 1000
/* Puts records down, inside the caller's transaction. An event id that is known already is passed over. */
enum code audit_note(struct db *tx, const struct audit_record *records, size_t n, struct arena *arena,
                     struct status *st) MUST_CHECK;

struct audit_leaf { /* what the tree takes: the columns to search by, and the leaf itself */
    const char *event_id, *action, *actor, *agent_id;
    int64_t occurred_at_ms, index; /* index: out; among the records of all trees */
    struct bytes leaf;
    struct merkle_hash hash; /* out */
    int64_t tree, base;      /* out, of lists: its tree's number, and the index of that one's first */
};
/* One transaction of its own: locks the frontier, leaves out events that have their record, numbers and
 * stores the rest. At most AUDIT_BATCH; event ids are unique among them. */
enum code audit_append(struct db *db, struct audit_leaf *leaves, size_t n, struct arena *arena,
                       struct status *st) MUST_CHECK;
/* Everything that was put down. */
enum code audit_drain(struct db *db, struct status *st) MUST_CHECK;

struct audit_filter {
    const char *actor, *agent_id, *action; /* NULL: any; action may end in '*' */
    int64_t from_ms, until_ms;             /* -1: any */
    bool oldest_first;
    int64_t after; /* index of the last one of the page before; -1: the first page */
};
enum code audit_list(struct db *db, const struct audit_filter *filter, size_t max, struct arena *arena,
                     struct audit_leaf **ret, size_t *ret_n, struct status *st) MUST_CHECK;
/* `index` here and below: within the tree that grows. */
enum code audit_get(struct db *db, uint64_t index, struct arena *arena, struct audit_leaf *ret,
                    struct status *st) MUST_CHECK;

/* Proofs out of the stored tree. INVALID_ARGUMENT beyond its size. */
enum code audit_inclusion(struct db *db, uint64_t index, uint64_t size, struct merkle_proof *ret,
                          struct status *st) MUST_CHECK;
enum code audit_consistency(struct db *db, uint64_t first, uint64_t second, struct merkle_proof *ret,
                            struct status *st) MUST_CHECK;
enum code audit_root_at(struct db *db, uint64_t size, struct merkle_hash *ret, struct status *st) MUST_CHECK;

struct audit_head {
    uint64_t size, previous_size;
    int64_t made_at_ms;
    struct bytes head, consistency; /* signed; concatenated hashes */
    const char *tree_id;
    int64_t tree;                     /* its number; out */
    struct bytes origin, origin_leaf; /* of a tree that is not the first: that record 0 is in it; leaf: out */
};
struct audit_next_head { /* what there is to sign */
    const char *tree_id;
    uint64_t size, previous_size;
    struct merkle_hash root;
    struct merkle_proof consistency; /* empty when it is the first */
    struct merkle_proof origin;      /* of record 0; only of a tree that is not the first */
};
/* *ret_due is false when the newest head covers the tree. */
enum code audit_head_next(struct db *db, struct arena *arena, struct audit_next_head *ret, bool *ret_due,
                          struct status *st) MUST_CHECK;
struct audit_delay {
    const char *oldest_pending_id; /* of an event that was put down and is not in the tree; NULL: none */
    uint64_t unsigned_records;     /* in the tree, under no head */
};
enum code audit_delay_get(struct db *db, struct arena *arena, struct audit_delay *ret,
                          struct status *st) MUST_CHECK;
enum code audit_head_store(struct db *db, const struct audit_head *head, struct arena *arena,
                           struct status *st) MUST_CHECK;
/* The newest; NOT_FOUND before the first. */
enum code audit_head_newest(struct db *db, struct arena *arena, struct audit_head *ret,
                            struct status *st) MUST_CHECK;
enum code audit_head_of_size(struct db *db, uint64_t size, struct arena *arena, struct audit_head *ret,
                             struct status *st) MUST_CHECK;
/* tree 0: the one that grows. */
enum code audit_heads_list(struct db *db, int64_t tree, uint64_t after_size, int64_t from_ms, size_t max,
                           struct arena *arena, struct audit_head **ret, size_t *ret_n,
                           struct status *st) MUST_CHECK;

/* ---- what agents say of heads (cosign.c) ---- */

struct audit_cosignature {
    const char *tree_id, *agent_id, *signer_sha256;
    uint64_t size;
    struct merkle_hash root; /* of who signed: in */
    int64_t made_at_ms;
    struct bytes cms;
};
#define COSIGN_LATE_MS (2LL * 24 * 3600 * 1000)
/* Stores one whose signature held; one for an agent's day. The first of a day stays. INVALID_ARGUMENT for one
 * that is too old, or of a tree that is not ours. UNAUTHENTICATED, with an alert, when the agent signed
 * another history than the stored one. */
enum code audit_cosign(struct db *db, const struct audit_cosignature *in, int64_t day, int64_t now_ms,
                       struct arena *arena, struct status *st) MUST_CHECK;
struct cosign_filter {
    int64_t size;         /* -1: of all heads */
    const char *agent_id; /* NULL: of all agents */
    const char *tree_id;  /* NULL: of the tree that grows */
    int64_t after_size;   /* -1: the first page; else what the last one of the page before was */
    const char *after_agent_id;
};
/* By size, then by agent. */
enum code audit_cosignatures(struct db *db, const struct cosign_filter *filter, size_t max,
                             struct arena *arena, struct audit_cosignature **ret, size_t *ret_n,
                             struct status *st) MUST_CHECK;
enum code audit_cosignatures_trim(struct db *db, int64_t before_ms, struct arena *arena,
                                  struct status *st) MUST_CHECK;

/* Where heads are to be seen outside. */
enum audit_witness { WITNESS_FILE, WITNESS_WEBHOOK };
enum code audit_heads_unwitnessed(struct db *db, enum audit_witness witness, size_t max, struct arena *arena,
                                  struct audit_head **ret, size_t *ret_n, struct status *st) MUST_CHECK;
/* done false counts a try; after `tries_max` of them the head is given up: *ret_given_up. */
enum code audit_head_witnessed(struct db *db, enum audit_witness witness, const struct audit_head *head,
                               bool done, int64_t tries_max, struct arena *arena, bool *ret_given_up,
                               struct status *st) MUST_CHECK;

/* ---- restore from a backup (restore.c) ---- */

/* Ends the tree and begins another, whose first record is `record` and names all that ended. Inside the
 * caller's transaction. */
enum code audit_new_tree(struct db *tx, struct audit_record *record, struct arena *arena,
                         struct status *st) MUST_CHECK;
/* A signed head that an agent holds. Kept when it is of the tree that grows, longer than what we have, and
 * longer than what others reported. */
struct audit_report {
    const char *tree_id, *agent_id;
    uint64_t size;
    struct merkle_hash root;
    int64_t at_ms;
};
enum code audit_reported(struct db *db, const struct audit_report *in, struct arena *arena,
                         struct status *st) MUST_CHECK;
/* False: an agent has reported a longer tree than there is. */
enum code audit_is_whole(struct db *db, struct arena *arena, bool *ret, struct status *st) MUST_CHECK;
/* Whether a report of that size would be kept: before its signature is looked at. */
enum code audit_report_wanted(struct db *db, const char *tree_id, uint64_t size, struct arena *arena,
                              bool *ret_wanted, struct status *st) MUST_CHECK;

#endif
