/* Known roots (the test vectors of Certificate Transparency), and every proof of every tree up to 65 leaves.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "merkle/merkle.h"

#define TREE_MAX 65

struct tree {
    struct merkle_frontier frontier;
    struct merkle_hash node[8][TREE_MAX]; /* complete ones */
    bool there[8][TREE_MAX];
    struct merkle_hash root[TREE_MAX + 1];
};

static void on_node(unsigned level, uint64_t index, const struct merkle_hash *hash, void *arg)
{
    struct tree *tree = arg;
    assert_false(tree->there[level][index]);
    tree->node[level][index] = *hash;
    tree->there[level][index] = true;
}

static void add(struct tree *tree, struct bytes record)
{
    struct merkle_hash leaf;
    struct status st = {0};
    merkle_leaf(record, &leaf);
    on_node(0, tree->frontier.size, &leaf, tree);
    assert_int_equal(merkle_append(&tree->frontier, &leaf, on_node, tree, &st), CODE_OK);
    merkle_root(&tree->frontier, &tree->root[tree->frontier.size]);
}

static enum code lookup(unsigned level, uint64_t index, struct merkle_hash *ret, void *arg, struct status *st)
{
    (void)st;
    const struct tree *tree = arg;
    assert_true(level < 8 && index < TREE_MAX &&
                tree->there[level][index]); /* only complete nodes are asked for */
    *ret = tree->node[level][index];
    return CODE_OK;
}

static void grow(struct tree *tree)
{
    for (uint8_t i = 0; i < TREE_MAX; i++)
        add(tree, (struct bytes){&i, 1});
}

static void check_hex(const struct merkle_hash *hash, const char *expected)
{
    char text[SHA256_HEX_SIZE];
    for (size_t i = 0; i < SHA256_SIZE; i++)
        (void)snprintf(text + 2 * i, 3, "%02x", hash->byte[i]);
    assert_string_equal(text, expected);
}

static void roots_are_those_of_certificate_transparency(void **state)
{
    (void)state;
    static const struct {
        const char *record;
        size_t len;
        const char *root;
    } steps[] = {
        {"", 0, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"},
        {"\x00", 1, "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"},
        {"\x10", 1, "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"},
        {"\x20\x21", 2, "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"},
        {"\x30\x31", 2, "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4"},
        {"\x40\x41\x42\x43", 4, "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef"},
        {"\x50\x51\x52\x53\x54\x55\x56\x57", 8,
         "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c"},
        {"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f", 16,
         "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"},
    };
    struct tree tree = {0};
    struct merkle_hash empty;
    merkle_root(&tree.frontier, &empty);
    check_hex(&empty, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        add(&tree, (struct bytes){(const uint8_t *)steps[i].record, steps[i].len});
        check_hex(&tree.root[i + 1], steps[i].root);
    }
}

static void stored_nodes_give_the_root_of_every_earlier_tree(void **state)
{
    (void)state;
    struct tree tree = {0};
    grow(&tree);
    for (uint64_t size = 1; size <= TREE_MAX; size++) {
        struct merkle_hash root;
        assert_int_equal(merkle_root_at(size, lookup, &tree, &root, NULL), CODE_OK);
        assert_true(merkle_hash_equal(&root, &tree.root[size]));
    }
}

static void every_leaf_is_proved_in_every_tree_and_nowhere_else(void **state)
{
    (void)state;
    struct tree tree = {0};
    grow(&tree);
    for (uint64_t size = 1; size <= TREE_MAX; size++) {
        for (uint64_t i = 0; i < size; i++) {
            struct merkle_proof proof;
            struct merkle_hash *leaf = &tree.node[0][i];
            const struct merkle_hash *root = &tree.root[size];
            assert_int_equal(merkle_inclusion(i, size, lookup, &tree, &proof, NULL), CODE_OK);
            assert_int_equal(merkle_inclusion_verify(leaf, i, size, proof.hash, proof.n, root, NULL),
                             CODE_OK);
            for (uint64_t other = 0; other < size; other++)
                if (other != i)
                    assert_int_equal(merkle_inclusion_verify(&tree.node[0][other], i, size, proof.hash,
                                                             proof.n, root, NULL),
                                     CODE_UNAUTHENTICATED);
            assert_int_equal(
                merkle_inclusion_verify(leaf, i, size, proof.hash, proof.n, &tree.root[size - 1], NULL),
                CODE_UNAUTHENTICATED);
            if (proof.n > 0) {
                assert_int_equal(merkle_inclusion_verify(leaf, i, size, proof.hash, proof.n - 1, root, NULL),
                                 CODE_UNAUTHENTICATED);
                proof.hash[i % proof.n].byte[i % SHA256_SIZE] ^= 1;
                assert_int_equal(merkle_inclusion_verify(leaf, i, size, proof.hash, proof.n, root, NULL),
                                 CODE_UNAUTHENTICATED);
                proof.hash[i % proof.n].byte[i % SHA256_SIZE] ^= 1;
            }
            proof.hash[proof.n] = *leaf;
            assert_int_equal(merkle_inclusion_verify(leaf, i, size, proof.hash, proof.n + 1, root, NULL),
                             CODE_UNAUTHENTICATED);
        }
    }
}

static void every_tree_is_proved_a_prefix_of_every_later_one(void **state)
{
    (void)state;
    struct tree tree = {0};
    grow(&tree);
    for (uint64_t second = 1; second <= TREE_MAX; second++) {
        for (uint64_t first = 1; first <= second; first++) {
            struct merkle_proof proof;
            const struct merkle_hash *a = &tree.root[first], *b = &tree.root[second];
            assert_int_equal(merkle_consistency(first, second, lookup, &tree, &proof, NULL), CODE_OK);
            assert_int_equal(merkle_consistency_verify(first, a, second, b, proof.hash, proof.n, NULL),
                             CODE_OK);
            assert_int_equal(
                merkle_consistency_verify(first, &tree.root[first - 1], second, b, proof.hash, proof.n, NULL),
                CODE_UNAUTHENTICATED);
            assert_int_equal(merkle_consistency_verify(first, a, second, &tree.root[second - 1], proof.hash,
                                                       proof.n, NULL),
                             CODE_UNAUTHENTICATED);
            proof.hash[proof.n] = *a;
            assert_int_equal(merkle_consistency_verify(first, a, second, b, proof.hash, proof.n + 1, NULL),
                             CODE_UNAUTHENTICATED);
            if (proof.n == 0)
                continue;
            assert_int_equal(merkle_consistency_verify(first, a, second, b, proof.hash, proof.n - 1, NULL),
                             CODE_UNAUTHENTICATED);
            proof.hash[first % proof.n].byte[second % SHA256_SIZE] ^= 0x80;
            assert_int_equal(merkle_consistency_verify(first, a, second, b, proof.hash, proof.n, NULL),
                             CODE_UNAUTHENTICATED);
        }
    }
}

static void sizes_that_cannot_be_are_refused(void **state)
{
    (void)state;
    struct tree tree = {0};
    struct merkle_hash hash = {{0}};
    struct merkle_proof proof;
    grow(&tree);
    assert_int_equal(merkle_inclusion(3, 3, lookup, &tree, &proof, NULL), CODE_INVALID_ARGUMENT);
    assert_int_equal(merkle_inclusion(0, UINT64_MAX, lookup, &tree, &proof, NULL), CODE_INVALID_ARGUMENT);
    assert_int_equal(merkle_consistency(0, 3, lookup, &tree, &proof, NULL), CODE_INVALID_ARGUMENT);
    assert_int_equal(merkle_consistency(4, 3, lookup, &tree, &proof, NULL), CODE_INVALID_ARGUMENT);
    assert_int_equal(merkle_root_at(0, lookup, &tree, &hash, NULL), CODE_INVALID_ARGUMENT);
    assert_int_equal(merkle_inclusion_verify(&hash, 1, 1, NULL, 0, &hash, NULL), CODE_INVALID_ARGUMENT);
    assert_int_equal(merkle_inclusion_verify(&hash, 1, UINT64_MAX, NULL, 0, &hash, NULL),
                     CODE_INVALID_ARGUMENT);
    assert_int_equal(merkle_consistency_verify(0, &hash, 1, &hash, NULL, 0, NULL), CODE_INVALID_ARGUMENT);
    assert_int_equal(merkle_consistency_verify(3, &hash, 5, &hash, NULL, 0, NULL), CODE_UNAUTHENTICATED);
}

static void stored_frontier_goes_on_where_it_stopped(void **state)
{
    (void)state;
    struct tree tree = {0};
    grow(&tree);
    struct merkle_frontier first = {0}, again;
    for (size_t i = 0; i < TREE_MAX; i++) {
        assert_int_equal(merkle_frontier_read(first.size,
                                              (struct bytes){first.hash[0].byte, first.n * SHA256_SIZE},
                                              &again, NULL),
                         CODE_OK);
        assert_int_equal(merkle_append(&again, &tree.node[0][i], NULL, NULL, NULL), CODE_OK);
        struct merkle_hash root;
        merkle_root(&again, &root);
        assert_true(merkle_hash_equal(&root, &tree.root[i + 1]));
        first = again;
    }
    assert_int_equal(merkle_frontier_read(3, (struct bytes){first.hash[0].byte, SHA256_SIZE}, &again, NULL),
                     CODE_INVALID_ARGUMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(roots_are_those_of_certificate_transparency),
        cmocka_unit_test(stored_nodes_give_the_root_of_every_earlier_tree),
        cmocka_unit_test(every_leaf_is_proved_in_every_tree_and_nowhere_else),
        cmocka_unit_test(every_tree_is_proved_a_prefix_of_every_later_one),
        cmocka_unit_test(sizes_that_cannot_be_are_refused),
        cmocka_unit_test(stored_frontier_goes_on_where_it_stopped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
