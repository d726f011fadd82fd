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
#include "audit/cosign.h"
#include "base/clock.h"
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
    (void)snprintf(path, sizeof(path), "%s/audit-cosigned", dir);
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

static void head_proved_from_another_is_passed_over_but_not_for_ever(void **unused)
{
    (void)unused;
    struct tree tree;
    struct agent_heads heads = {0};
    grow(&tree, 99);
    assert_true(take(&heads, sign(&tree, 0, 5, &registry, 0)));
    for (int i = 0; i < 15; i++)
        assert_false(take(&heads, sign(&tree, 8, 11, &registry, 0)));
    assert_string_equal(heads.problem, "");
    struct agent_heads same = {.known = heads.known, .unproved = heads.unproved};
    assert_true(take(&same, sign(&tree, 5, 11, &registry, 0)));
    assert_string_equal(same.problem, "");
    assert_true(take(&heads, sign(&tree, 8, 11, &registry, 0)));
    assert_true(strstr(heads.problem, "does not prove") != NULL);
    assert_int_equal(heads.known.size, 5);
}

/* A head of `tree` under another id; its first record is `origin`, or none is shown. */
static struct message *sign_other(const Clm__AuditRecord *origin, bool shown, struct der *leaf)
{
    struct tree tree = {0};
    struct merkle_hash hash;
    *leaf = test_pack(&origin->base);
    merkle_leaf(der_bytes(leaf), &hash);
    assert_int_equal(merkle_append(&tree.frontier, &hash, NULL, NULL, NULL), CODE_OK);
    merkle_root(&tree.frontier, &tree.root[1]);
    struct message *m = calloc(1, sizeof(*m));
    assert_non_null(m);
    clm__signed_audit_head__init(&m->head);
    Clm__AuditHead content = CLM__AUDIT_HEAD__INIT;
    content.tree_id = (char *)(uintptr_t) "019a0000-0000-7000-8000-00000000dddd";
    content.has_tree_size = content.has_root_sha256 = content.has_made_at_ms = 1;
    content.tree_size = 1;
    content.root_sha256 = (ProtobufCBinaryData){SHA256_SIZE, tree.root[1].byte};
    content.made_at_ms = TEST_NOW_MS + 20000;
    struct der packed = test_pack(&content.base);
    struct der_list none = {0};
    assert_int_equal(cms_sign(CMS_CONTENT_HEAD, der_bytes(&packed), registry.key, der_bytes(&registry.cert),
                              &none, &m->cms, NULL),
                     CODE_OK);
    der_done(&packed);
    m->head.has_head = m->head.has_tree_size = m->head.has_made_at_ms = 1;
    m->head.head = (ProtobufCBinaryData){m->cms.len, m->cms.data};
    m->head.tree_size = 1;
    m->head.made_at_ms = content.made_at_ms;
    m->head.has_origin = shown;
    m->head.origin = shown ? (ProtobufCBinaryData){leaf->len, leaf->data} : (ProtobufCBinaryData){0};
    return m;
}

/* What an agent that holds the tree of `known` records says when it meets a restore that names `named`. */
static void meet_restore(const char *action, uint64_t known, uint64_t named, bool wrong_root, bool shown,
                         const char *problem_part, bool followed)
{
    struct tree tree;
    struct agent_heads heads = {0};
    struct der leaf = {0};
    grow(&tree, 99);
    assert_true(take(&heads, sign(&tree, 0, known, &registry, 0)));
    Clm__FormerTree former = CLM__FORMER_TREE__INIT, *list[] = {&former};
    former.tree_id = (char *)(uintptr_t)TREE_ID;
    former.has_tree_size = former.has_root_sha256 = 1;
    former.tree_size = named;
    former.root_sha256 = (ProtobufCBinaryData){SHA256_SIZE, tree.root[wrong_root ? 1 : named].byte};
    Clm__AuditRecord record = CLM__AUDIT_RECORD__INIT;
    record.event_id = (char *)(uintptr_t)TREE_ID;
    record.action = (char *)(uintptr_t)action;
    record.n_former = 1;
    record.former = list;
    assert_true(take(&heads, sign_other(&record, shown, &leaf)));
    der_done(&leaf);
    assert_true(problem_part ? strstr(heads.problem, problem_part) != NULL : !*heads.problem);
    assert_int_equal(strcmp(heads.known.tree_id, TREE_ID) != 0, followed);
    assert_int_equal(heads_restored(&heads), followed);
    assert_false(heads_restored(&heads));
    heads_done(&heads);
}

static void restore_is_followed_only_when_it_names_what_was_known(void **unused)
{
    (void)unused;
    meet_restore("platform.restored", 11, 11, false, true, NULL, true);
    meet_restore("platform.restored", 5, 11, false, true, NULL, true);
    meet_restore("platform.restored", 11, 5, false, true, "was restored to 5 records, this host knows of 11",
                 true);
    meet_restore("platform.restored", 11, 11, true, true, "same length", false);
    meet_restore("task.finished", 11, 11, false, true, "without a restore", false);
    meet_restore("platform.restored", 11, 11, false, false, "does not say", false);
}

static void problem_is_told_with_the_head_that_is_held(void **unused)
{
    (void)unused;
    struct tree tree;
    struct agent_heads heads = {0};
    struct arena *arena = arena_new();
    struct head held;
    grow(&tree, 99);
    assert_true(take(&heads, sign(&tree, 0, 11, &registry, 0)));
    assert_null(heads_held(&heads, state, arena));
    assert_true(take(&heads, sign(&tree, 0, 5, &registry, -60000)));
    struct Clm__SignedAuditHead *message = heads_held(&heads, state, arena);
    assert_non_null(message);
    assert_string_equal(message->tree_id, TREE_ID);
    assert_int_equal(head_open(message, &state->roots, &held, NULL), CODE_OK);
    assert_int_equal(held.size, 11);
    arena_free(arena);
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

/* ---- co-signatures ---- */

static Clm__SignedCosignature cosignature_of(const struct agent_heads *heads)
{
    Clm__SignedCosignature out = CLM__SIGNED_COSIGNATURE__INIT;
    out.has_cosignature = out.has_tree_size = out.has_made_at_ms = 1;
    out.cosignature = (ProtobufCBinaryData){heads->cosignature.len, heads->cosignature.data};
    out.agent_id = state->agent_id;
    out.tree_id = (char *)(uintptr_t)heads->cosignature_of.tree_id;
    out.tree_size = heads->cosignature_of.size;
    out.made_at_ms = heads->cosignature_of.made_at_ms;
    return out;
}

static void head_is_cosigned_once_a_day_and_a_restart_does_not_forget_it(void **unused)
{
    (void)unused;
    struct tree tree;
    struct agent_heads heads = {0}, again = {0};
    int64_t now = TEST_NOW_MS;
    grow(&tree, 99);
    assert_false(heads_cosign(&heads, state, now)); /* nothing is known yet */
    assert_true(take(&heads, sign(&tree, 0, 5, &registry, 0)));
    assert_true(heads_cosign(&heads, state, now));
    assert_false(heads_cosign(&heads, state, now)); /* it is on its way */
    assert_false(heads_cosigned(&heads, state, now - 1));
    assert_true(heads_cosigned(&heads, state, now));
    assert_int_equal(heads.cosignature.len, 0);
    assert_false(heads_cosign(&heads, state, now));
    heads_load(&again, state);
    assert_int_equal(again.cosigned_at_ms, now);
    assert_false(heads_cosign(&again, state, now));
    assert_true(heads_cosign(&again, state, now + COSIGN_DAY_MS));
    /* One that was never answered is made anew the next day, of the head that is known then. */
    assert_true(heads_cosign(&again, state, now + 2 * COSIGN_DAY_MS));
    heads_done(&again);
}

static void cosignature_is_the_agents_word_for_the_head_that_it_holds(void **unused)
{
    (void)unused;
    struct tree tree;
    struct agent_heads heads = {0};
    struct cosignature said;
    struct status st = {0};
    grow(&tree, 99);
    assert_true(take(&heads, sign(&tree, 0, 11, &registry, 0)));
    assert_true(heads_cosign(&heads, state, TEST_NOW_MS));
    Clm__SignedCosignature in = cosignature_of(&heads);
    if (cosignature_open(&in, &state->roots, &said, &st) != CODE_OK)
        fail_msg("%s", st.msg);
    assert_string_equal(said.agent_id, TEST_AGENT_ID);
    assert_string_equal(said.head.tree_id, TREE_ID);
    assert_int_equal(said.generation, 3);
    assert_int_equal(said.head.size, 11);
    assert_true(merkle_hash_equal(&said.head.root, &tree.root[11]));

    in.tree_size = 12;
    assert_int_equal(cosignature_open(&in, &state->roots, &said, &st), CODE_UNAUTHENTICATED);
    in.tree_size = 11;
    in.agent_id = (char *)(uintptr_t)TEST_OTHER_AGENT;
    assert_int_equal(cosignature_open(&in, &state->roots, &said, &st), CODE_UNAUTHENTICATED);
    in.agent_id = state->agent_id;
    in.made_at_ms += 24LL * 3600 * 1000; /* the certificate is past its end then */
    assert_int_equal(cosignature_open(&in, &state->roots, &said, &st), CODE_UNAUTHENTICATED);
    in.made_at_ms = TEST_NOW_MS;
    for (size_t cut = 0; cut < in.cosignature.len; cut += 97) {
        Clm__SignedCosignature damaged = in;
        damaged.cosignature.len = cut;
        assert_int_not_equal(cosignature_open(&damaged, &state->roots, &said, &st), CODE_OK);
    }
    in.cosignature.data[in.cosignature.len - 1] ^= 1;
    assert_int_equal(cosignature_open(&in, &state->roots, &said, &st), CODE_UNAUTHENTICATED);
    heads_done(&heads);
}

static void cosignature_by_another_key_of_the_platform_is_refused(void **unused)
{
    (void)unused;
    struct test_signer *others[] = {&registry, &tasks};
    struct agent_heads heads = {.known = {.tree_id = TREE_ID, .size = 5}};
    struct cosignature said;
    struct status st = {0};
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        struct agent_state forger = *state;
        forger.task_key = others[i]->key;
        forger.task_chain = (struct der_list){.n = 1, .item = {others[i]->cert}};
        assert_true(heads_cosign(&heads, &forger, TEST_NOW_MS));
        Clm__SignedCosignature in = cosignature_of(&heads);
        assert_int_equal(cosignature_open(&in, &state->roots, &said, &st), CODE_UNAUTHENTICATED);
        heads_done(&heads);
    }
    /* A receipt or a request signed with the right key is no co-signature. */
    struct der other = {0};
    struct der_list none = {0};
    assert_int_equal(cms_sign(CMS_CONTENT_REQUEST, (struct bytes){(const uint8_t *)"x", 1}, state->task_key,
                              der_bytes(&state->task_chain.item[0]), &none, &other, &st),
                     CODE_OK);
    Clm__SignedCosignature in = cosignature_of(&heads);
    in.cosignature = (ProtobufCBinaryData){other.len, other.data};
    in.made_at_ms = TEST_NOW_MS;
    assert_int_not_equal(cosignature_open(&in, &state->roots, &said, &st), CODE_OK);
    der_done(&other);
}

static void days_of_agents_begin_at_different_times(void **unused)
{
    (void)unused;
    size_t changes_in_an_hour = 0;
    for (unsigned i = 0; i < 2400; i++) {
        char id[UUID_TEXT_SIZE];
        (void)snprintf(id, sizeof(id), "019a0000-0000-7000-8000-%012x", i);
        int64_t day = cosign_day(id, TEST_NOW_MS);
        assert_int_equal(cosign_day(id, TEST_NOW_MS + COSIGN_DAY_MS), day + 1);
        changes_in_an_hour += cosign_day(id, TEST_NOW_MS + 3600 * 1000) != day;
    }
    assert_in_range(changes_in_an_hour, 50, 150); /* a twenty-fourth of them */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(later_heads_that_only_add_are_kept_and_survive_a_restart),
        TEST(changed_history_is_a_problem_and_what_was_known_stays),
        TEST(head_proved_from_another_is_passed_over_but_not_for_ever),
        TEST(restore_is_followed_only_when_it_names_what_was_known),
        TEST(problem_is_told_with_the_head_that_is_held),
        TEST(shorter_history_made_later_is_a_problem_and_an_older_head_is_none),
        TEST(head_of_another_service_or_with_other_words_beside_it_is_refused),
        TEST(damaged_file_counts_as_none),
        TEST(head_is_cosigned_once_a_day_and_a_restart_does_not_forget_it),
        TEST(cosignature_is_the_agents_word_for_the_head_that_it_holds),
        TEST(cosignature_by_another_key_of_the_platform_is_refused),
        TEST(days_of_agents_begin_at_different_times),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
