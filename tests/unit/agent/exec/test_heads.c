/* Heads of the audit log as an agent meets them: honest, forged, of another history. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/exec/heads.h"
#include "agent/pki_fixture.h"
#include "proto/audit.pb-c.h"

#define TREE_ID "019a0000-0000-7000-8000-00000000cccc"

static struct test_ca ca;
static struct test_signer registry, tasks;
static struct agent_state *state;
static char dir[64];

static int set_up(void **unused)
{
    (void)unused;
    test_ca_init(&ca, "root");
    test_signer_init(
        &registry, &ca,
        &(struct test_leaf){.purpose = PURPOSE_SERVICE, .spiffe_kind = "service", .spiffe_name = "registry"});
    test_signer_init(
        &tasks, &ca,
        &(struct test_leaf){.purpose = PURPOSE_SERVICE, .spiffe_kind = "service", .spiffe_name = "tasks"});
    state = test_state(&ca);
    (void)snprintf(dir, sizeof(dir), "/tmp/clm-heads-XXXXXX");
    assert_non_null(mkdtemp(dir));
    free(state->dir);
    state->dir = strdup(dir);
    return 0;
}

static int tear_down(void **unused)
{
    (void)unused;
    char path[96];
    (void)snprintf(path, sizeof(path), "%s/audit-head", dir);
    (void)unlink(path);
    (void)rmdir(dir);
    test_state_free(state);
    test_signer_done(&registry);
    test_signer_done(&tasks);
    test_ca_done(&ca);
    return 0;
}

/* ---- a tree of at most 16 leaves ---- */

struct tree {
    struct merkle_frontier frontier;
    struct merkle_hash node[6][16];
    struct merkle_hash root[17];
};

static void on_node(unsigned level, uint64_t index, const struct merkle_hash *hash, void *arg)
{
    ((struct tree *)arg)->node[level][index] = *hash;
}

static enum code look_up(unsigned level, uint64_t index, struct merkle_hash *ret, void *arg,
                         struct status *st)
{
    (void)st;
    *ret = ((struct tree *)arg)->node[level][index];
    return CODE_OK;
}

/* Leaves are numbers; from `differs` on, others. */
static void grow(struct tree *tree, size_t differs)
{
    *tree = (struct tree){0};
    for (uint8_t i = 0; i < 16; i++) {
        uint8_t record = (uint8_t)(i >= differs ? i + 100 : i);
        struct merkle_hash leaf;
        merkle_leaf((struct bytes){&record, 1}, &leaf);
        tree->node[0][i] = leaf;
        assert_int_equal(merkle_append(&tree->frontier, &leaf, on_node, tree, NULL), CODE_OK);
        merkle_root(&tree->frontier, &tree->root[i + 1]);
    }
}

/* ---- messages ---- */

struct message {
    Clm__SignedAuditHead head;
    struct der cms;
    struct merkle_proof proof;
    ProtobufCBinaryData item[MERKLE_PROOF_MAX];
};

static struct message *sign(struct tree *tree, uint64_t previous, uint64_t size,
                            const struct test_signer *signer, int64_t age_ms)
{
    struct message *m = calloc(1, sizeof(*m));
    assert_non_null(m);
    clm__signed_audit_head__init(&m->head);
    Clm__AuditHead content = CLM__AUDIT_HEAD__INIT;
    content.tree_id = (char *)(uintptr_t)TREE_ID;
    content.has_tree_size = content.has_root_sha256 = content.has_made_at_ms = 1;
    content.tree_size = size;
    content.root_sha256 = (ProtobufCBinaryData){SHA256_SIZE, tree->root[size].byte};
    content.made_at_ms = TEST_NOW_MS + (int64_t)size * 1000 - age_ms;
    struct der packed = test_pack(&content.base);
    struct der_list none = {0};
    assert_int_equal(cms_sign(CMS_CONTENT_HEAD, der_bytes(&packed), signer->key, der_bytes(&signer->cert),
                              &none, &m->cms, NULL),
                     CODE_OK);
    der_done(&packed);
    m->head.has_head = m->head.has_tree_size = m->head.has_made_at_ms = m->head.has_previous_size = 1;
    m->head.head = (ProtobufCBinaryData){m->cms.len, m->cms.data};
    m->head.tree_size = size;
    m->head.made_at_ms = content.made_at_ms;
    m->head.previous_size = previous;
    if (previous > 0)
        assert_int_equal(merkle_consistency(previous, size, look_up, tree, &m->proof, NULL), CODE_OK);
    for (size_t i = 0; i < m->proof.n; i++)
        m->item[i] = (ProtobufCBinaryData){SHA256_SIZE, m->proof.hash[i].byte};
    m->head.n_consistency = m->proof.n;
    m->head.consistency = m->item;
    return m;
}

static bool take(struct agent_heads *heads, struct message *m)
{
    Clm__SignedAuditHead *in = &m->head;
    bool changed = heads_take(heads, state, &in, 1, (uid_t)-1);
    der_done(&m->cms);
    free(m);
    return changed;
}

static void later_heads_that_only_add_are_kept_and_survive_a_restart(void **unused)
{
    (void)unused;
    struct tree tree;
    struct agent_heads heads = {0}, again = {0};
    grow(&tree, 99);
    assert_true(take(&heads, sign(&tree, 0, 5, &registry, 0)));
    assert_true(take(&heads, sign(&tree, 5, 11, &registry, 0)));
    assert_string_equal(heads.problem, "");
    heads_load(&again, state);
    assert_int_equal(again.known.size, 11);
    assert_true(merkle_hash_equal(&again.known.root, &tree.root[11]));
    assert_true(take(&again, sign(&tree, 11, 16, &registry, 0)));
}

static void changed_history_is_a_problem_and_what_was_known_stays(void **unused)
{
    (void)unused;
    struct tree tree, other;
    struct agent_heads heads = {0};
    grow(&tree, 99);
    grow(&other, 3);
    assert_true(take(&heads, sign(&tree, 0, 5, &registry, 0)));
    assert_true(take(&heads, sign(&other, 5, 11, &registry, 0)));
    assert_true(strstr(heads.problem, "consistency") != NULL);
    assert_int_equal(heads.known.size, 5);
    assert_false(take(&heads, sign(&other, 5, 11, &registry, 0))); /* told once */
    struct agent_heads same = {.known = heads.known};
    assert_true(take(&same, sign(&other, 0, 5, &registry, 0)));
    assert_true(strstr(same.problem, "same length") != NULL);
}

static void shorter_history_made_later_is_a_problem_and_an_older_head_is_none(void **unused)
{
    (void)unused;
    struct tree tree;
    struct agent_heads heads = {0};
    grow(&tree, 99);
    assert_true(take(&heads, sign(&tree, 0, 11, &registry, 0)));
    assert_false(take(&heads, sign(&tree, 0, 5, &registry, 0)));
    assert_string_equal(heads.problem, "");
    assert_true(take(&heads, sign(&tree, 0, 5, &registry, -60000)));
    assert_true(strstr(heads.problem, "shorter") != NULL);
    assert_int_equal(heads.known.size, 11);
}

static void head_of_another_service_or_with_other_words_beside_it_is_refused(void **unused)
{
    (void)unused;
    struct tree tree;
    struct agent_heads heads = {0};
    grow(&tree, 99);
    assert_true(take(&heads, sign(&tree, 0, 5, &tasks, 0)));
    assert_true(strstr(heads.problem, "not by the registry") != NULL);
    heads = (struct agent_heads){0};
    struct message *lying = sign(&tree, 0, 5, &registry, 0);
    lying->head.tree_size = 6;
    assert_true(take(&heads, lying));
    assert_true(*heads.problem != '\0');
    heads = (struct agent_heads){0};
    struct message *damaged = sign(&tree, 0, 5, &registry, 0);
    damaged->cms.data[damaged->cms.len / 2] ^= 1;
    assert_true(take(&heads, damaged));
    assert_true(*heads.problem != '\0');
    assert_int_equal(heads.known.size, 0);
}

static void damaged_file_counts_as_none(void **unused)
{
    (void)unused;
    char path[96];
    struct agent_heads heads = {0};
    (void)snprintf(path, sizeof(path), "%s/audit-head", dir);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    (void)fputs("nothing", file);
    assert_int_equal(fclose(file), 0);
    heads_load(&heads, state);
    assert_int_equal(heads.known.size, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(later_heads_that_only_add_are_kept_and_survive_a_restart),
        TEST(changed_history_is_a_problem_and_what_was_known_stays),
        TEST(shorter_history_made_later_is_a_problem_and_an_older_head_is_none),
        TEST(head_of_another_service_or_with_other_words_beside_it_is_refused),
        TEST(damaged_file_counts_as_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
