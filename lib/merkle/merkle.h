/*
 * Merkle tree of RFC 9162 section 2.1 over SHA-256: hashes, appending with a stored frontier, proofs and
 * their verification. Pure functions: whoever keeps the tree stores complete nodes and answers look-ups. A
 * node is (level, index): leaves are level 0; node i of level l covers leaves [i·2^l, (i+1)·2^l) and never
 * changes.
 */
#ifndef CLM_MERKLE_MERKLE_H
#define CLM_MERKLE_MERKLE_H

#include <stdbool.h>

#include "base/status.h"
#include "pki/digest.h"

#define MERKLE_LEVELS_MAX 48 /* a tree has fewer than 2^48 leaves */
#define MERKLE_SIZE_MAX   (UINT64_C(1) << MERKLE_LEVELS_MAX)
#define MERKLE_PROOF_MAX  (2 * MERKLE_LEVELS_MAX)

struct merkle_hash {
    uint8_t byte[SHA256_SIZE];
};
bool merkle_hash_equal(const struct merkle_hash *a, const struct merkle_hash *b);
/* SHA-256(0x00 || record), SHA-256(0x01 || left || right). */
void merkle_leaf(struct bytes record, struct merkle_hash *ret);
void merkle_node(const struct merkle_hash *left, const struct merkle_hash *right, struct merkle_hash *ret);

/* The roots of the perfect subtrees that make up the tree, from the left (largest) to the right: one for each
 * bit of size. All that appending needs to know. */
struct merkle_frontier {
    uint64_t size;
    unsigned n;
    struct merkle_hash hash[MERKLE_LEVELS_MAX];
};
/* Appends a leaf. on_node (may be NULL) is told of each interior node that became complete, from below.
 * RESOURCE_EXHAUSTED when the tree is full. */
enum code merkle_append(struct merkle_frontier *frontier, const struct merkle_hash *leaf,
                        void (*on_node)(unsigned level, uint64_t index, const struct merkle_hash *hash,
                                        void *arg),
                        void *arg, struct status *st) MUST_CHECK;
/* Root of the tree so far; SHA-256 of nothing for the empty one. */
void merkle_root(const struct merkle_frontier *frontier, struct merkle_hash *ret);
/* A stored frontier is concatenated hashes; INVALID_ARGUMENT if their number does not fit the size. */
enum code merkle_frontier_read(uint64_t size, struct bytes hashes, struct merkle_frontier *ret,
                               struct status *st) MUST_CHECK;

/* Gives a complete node of the stored tree. */
typedef enum code merkle_lookup(unsigned level, uint64_t index, struct merkle_hash *ret, void *arg,
                                struct status *st);
struct merkle_proof {
    size_t n;
    struct merkle_hash hash[MERKLE_PROOF_MAX];
};
/* RFC 9162 section 2.1.3.1: that leaf `index` is in the tree of `size` leaves. */
enum code merkle_inclusion(uint64_t index, uint64_t size, merkle_lookup *lookup, void *arg,
                           struct merkle_proof *ret, struct status *st) MUST_CHECK;
/* RFC 9162 section 2.1.4.1: that the tree of `first` leaves is a prefix of that of `second`; first ≥ 1. Empty
 * when they are equal. */
enum code merkle_consistency(uint64_t first, uint64_t second, merkle_lookup *lookup, void *arg,
                             struct merkle_proof *ret, struct status *st) MUST_CHECK;
/* Root of the first `size` leaves of the stored tree; size ≥ 1. */
enum code merkle_root_at(uint64_t size, merkle_lookup *lookup, void *arg, struct merkle_hash *ret,
                         struct status *st) MUST_CHECK;

/* Verification (verify.c; RFC 9162 sections 2.1.3.2 and 2.1.4.2): UNAUTHENTICATED when the proof does not
 * hold, INVALID_ARGUMENT for sizes that cannot be. Proofs are a peer's: any length, any bytes. */
enum code merkle_inclusion_verify(const struct merkle_hash *leaf, uint64_t index, uint64_t size,
                                  const struct merkle_hash *proof, size_t n_proof,
                                  const struct merkle_hash *root, struct status *st) MUST_CHECK;
enum code merkle_consistency_verify(uint64_t first, const struct merkle_hash *first_root, uint64_t second,
                                    const struct merkle_hash *second_root, const struct merkle_hash *proof,
                                    size_t n_proof, struct status *st) MUST_CHECK;

#endif
