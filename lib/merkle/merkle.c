/* Hashes, appending, and making proofs. Pure; any thread. */
#include "merkle/merkle.h"

#include <string.h>

bool merkle_hash_equal(const struct merkle_hash *a, const struct merkle_hash *b)
{
    return memcmp(a->byte, b->byte, sizeof(a->byte)) == 0;
}

void merkle_leaf(struct bytes record, struct merkle_hash *ret)
{
    static const uint8_t prefix = 0;
    struct sha256_ctx *ctx = sha256_ctx_new();
    sha256_ctx_add(ctx, (struct bytes){&prefix, 1});
    if (record.len > 0)
        sha256_ctx_add(ctx, record);
    sha256_ctx_free(ctx, ret->byte);
}

void merkle_node(const struct merkle_hash *left, const struct merkle_hash *right, struct merkle_hash *ret)
{
    uint8_t both[1 + 2 * SHA256_SIZE] = {1};
    memcpy(both + 1, left->byte, SHA256_SIZE);
    memcpy(both + 1 + SHA256_SIZE, right->byte, SHA256_SIZE);
    sha256((struct bytes){both, sizeof(both)}, ret->byte);
}

enum code merkle_append(struct merkle_frontier *frontier, const struct merkle_hash *leaf,
                        void (*on_node)(unsigned level, uint64_t index, const struct merkle_hash *hash,
                                        void *arg),
                        void *arg, struct status *st)
{
    if (frontier->size + 1 >= MERKLE_SIZE_MAX)
        return status_set(st, CODE_RESOURCE_EXHAUSTED, "the tree is full");
    uint64_t index = frontier->size;
    struct merkle_hash carried = *leaf;
    /* As in binary counting: each 1 bit at the end of size is a subtree that the new one completes. */
    for (unsigned level = 1; index & 1; level++) {
        struct merkle_hash parent;
        merkle_node(&frontier->hash[--frontier->n], &carried, &parent);
        carried = parent;
        index >>= 1;
        if (on_node)
            on_node(level, index, &carried, arg);
    }
    frontier->hash[frontier->n++] = carried;
    frontier->size++;
    return CODE_OK;
}

void merkle_root(const struct merkle_frontier *frontier, struct merkle_hash *ret)
{
    if (frontier->n == 0) {
        sha256((struct bytes){(const uint8_t *)"", 0}, ret->byte);
        return;
    }
    struct merkle_hash root = frontier->hash[frontier->n - 1];
    for (unsigned i = frontier->n - 1; i-- > 0;) {
        struct merkle_hash above;
        merkle_node(&frontier->hash[i], &root, &above);
        root = above;
    }
    *ret = root;
}

enum code merkle_frontier_read(uint64_t size, struct bytes hashes, struct merkle_frontier *ret,
                               struct status *st)
{
    unsigned n = (unsigned)__builtin_popcountll(size);
    if (size >= MERKLE_SIZE_MAX || hashes.len != (size_t)n * SHA256_SIZE)
        return status_set(st, CODE_INVALID_ARGUMENT, "%zu bytes are no frontier of this tree", hashes.len);
    *ret = (struct merkle_frontier){.size = size, .n = n};
    if (n > 0)
        memcpy(ret->hash, hashes.data, hashes.len);
    return CODE_OK;
}

/* ---- proofs ---- */

struct maker {
    merkle_lookup *lookup;
    void *arg;
    struct merkle_proof *proof;
};

/* Leaves [begin, end) hang below one node when begin is a multiple of a power of two that covers them. */
static unsigned level_of(uint64_t n)
{
    unsigned level = 0;
    while ((UINT64_C(1) << level) < n)
        level++;
    return level;
}

/* Largest power of two smaller than n; n ≥ 2. */
static uint64_t split_of(uint64_t n)
{
    return UINT64_C(1) << (level_of(n) - 1);
}

/* MTH of leaves [begin, end): RFC 9162 section 2.1.1. */
static enum code subtree(const struct maker *m, uint64_t begin, uint64_t end, struct merkle_hash *ret,
                         struct status *st)
{
    uint64_t n = end - begin;
    if ((n & (n - 1)) == 0)
        return m->lookup(level_of(n), begin >> level_of(n), ret, m->arg, st);
    uint64_t k = split_of(n);
    struct merkle_hash left, right;
    TRY(m->lookup(level_of(k), begin >> level_of(k), &left, m->arg, st));
    TRY(subtree(m, begin + k, end, &right, st));
    merkle_node(&left, &right, ret);
    return CODE_OK;
}

static enum code push(const struct maker *m, uint64_t begin, uint64_t end, struct status *st)
{
    return subtree(m, begin, end, &m->proof->hash[m->proof->n++], st);
}

/* PATH(index, D[begin:end]), from below. */
static enum code path(const struct maker *m, uint64_t index, uint64_t begin, uint64_t end, struct status *st)
{
    uint64_t n = end - begin;
    if (n == 1)
        return CODE_OK;
    uint64_t middle = begin + split_of(n);
    if (index < middle) {
        TRY(path(m, index, begin, middle, st));
        return push(m, middle, end, st);
    }
    TRY(path(m, index, middle, end, st));
    return push(m, begin, middle, st);
}

/* SUBPROOF(first, D[begin:end], whole), from below. */
static enum code subproof(const struct maker *m, uint64_t first, uint64_t begin, uint64_t end, bool whole,
                          struct status *st)
{
    if (first == end)
        return whole ? CODE_OK : push(m, begin, end, st);
    uint64_t middle = begin + split_of(end - begin);
    if (first <= middle) {
        TRY(subproof(m, first, begin, middle, whole, st));
        return push(m, middle, end, st);
    }
    TRY(subproof(m, first, middle, end, false, st));
    return push(m, begin, middle, st);
}

enum code merkle_inclusion(uint64_t index, uint64_t size, merkle_lookup *lookup, void *arg,
                           struct merkle_proof *ret, struct status *st)
{
    ret->n = 0;
    if (index >= size || size >= MERKLE_SIZE_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, "there is no such leaf in a tree of that size");
    const struct maker maker = {lookup, arg, ret};
    return path(&maker, index, 0, size, st);
}

enum code merkle_consistency(uint64_t first, uint64_t second, merkle_lookup *lookup, void *arg,
                             struct merkle_proof *ret, struct status *st)
{
    ret->n = 0;
    if (first == 0 || first > second || second >= MERKLE_SIZE_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, "the first tree must be a part of the second");
    const struct maker maker = {lookup, arg, ret};
    return subproof(&maker, first, 0, second, true, st);
}

enum code merkle_root_at(uint64_t size, merkle_lookup *lookup, void *arg, struct merkle_hash *ret,
                         struct status *st)
{
    if (size == 0 || size >= MERKLE_SIZE_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, "a tree of that size cannot be");
    const struct maker maker = {lookup, arg, NULL};
    return subtree(&maker, 0, size, ret, st);
}
