/* Verifying proofs, as the RFC writes it down: no tree is needed. Pure; any thread. */
#include "merkle/merkle.h"

static enum code refuse(const char *what, struct status *st)
{
    return status_set(st, CODE_UNAUTHENTICATED, "the %s proof does not hold", what);
}

enum code merkle_inclusion_verify(const struct merkle_hash *leaf, uint64_t index, uint64_t size,
                                  const struct merkle_hash *proof, size_t n_proof,
                                  const struct merkle_hash *root, struct status *st)
{
    if (index >= size || size >= MERKLE_SIZE_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, "there is no such leaf in a tree of that size");
    uint64_t fn = index, sn = size - 1;
    struct merkle_hash r = *leaf, above;
    for (size_t i = 0; i < n_proof; i++) {
        if (sn == 0)
            return refuse("inclusion", st);
        if ((fn & 1) || fn == sn) {
            merkle_node(&proof[i], &r, &above);
            while (!(fn & 1) && fn != 0) {
                fn >>= 1;
                sn >>= 1;
            }
        } else {
            merkle_node(&r, &proof[i], &above);
        }
        r = above;
        fn >>= 1;
        sn >>= 1;
    }
    return sn == 0 && merkle_hash_equal(&r, root) ? CODE_OK : refuse("inclusion", st);
}

enum code merkle_consistency_verify(uint64_t first, const struct merkle_hash *first_root, uint64_t second,
                                    const struct merkle_hash *second_root, const struct merkle_hash *proof,
                                    size_t n_proof, struct status *st)
{
    if (first == 0 || first > second || second >= MERKLE_SIZE_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, "the first tree must be a part of the second");
    if (first == second)
        return n_proof == 0 && merkle_hash_equal(first_root, second_root) ? CODE_OK
                                                                          : refuse("consistency", st);
    bool power =
        (first & (first - 1)) == 0; /* then the first root is a node of the second tree, and left out */
    if (n_proof == 0 && !power)
        return refuse("consistency", st);
    uint64_t fn = first - 1, sn = second - 1;
    while (fn & 1) {
        fn >>= 1;
        sn >>= 1;
    }
    size_t i = 0;
    struct merkle_hash fr = power ? *first_root : proof[i++], sr = fr, above;
    for (; i < n_proof; i++) {
        if (sn == 0)
            return refuse("consistency", st);
        if ((fn & 1) || fn == sn) {
            merkle_node(&proof[i], &fr, &above);
            fr = above;
            merkle_node(&proof[i], &sr, &above);
            sr = above;
            while (!(fn & 1) && fn != 0) {
                fn >>= 1;
                sn >>= 1;
            }
        } else {
            merkle_node(&sr, &proof[i], &above);
            sr = above;
        }
        fn >>= 1;
        sn >>= 1;
    }
    bool holds = sn == 0 && merkle_hash_equal(&fr, first_root) && merkle_hash_equal(&sr, second_root);
    return holds ? CODE_OK : refuse("consistency", st);
}
