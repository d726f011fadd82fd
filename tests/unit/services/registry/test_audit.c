/* The audit tree on a real PostgreSQL: exactly once, in order, provable. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "audit.h"
#include "base/id.h"
#include "fixture.h"
#include "support/pg.h"

static struct audit_leaf *make(size_t n, const char *prefix)
{
    struct audit_leaf *leaves = arena_array(fixture_arena, n + 1, sizeof(*leaves));
    for (size_t i = 0; i < n; i++) {
        char id[UUID_TEXT_SIZE];
        uuid_v7(id);
        char *text = arena_printf(fixture_arena, "%s %zu", prefix, i);
        leaves[i] = (struct audit_leaf){.event_id = arena_strdup(fixture_arena, id),
                                        .action = "task.finished",
                                        .actor = "agent:a",
                                        .occurred_at_ms = T0 + (int64_t)i,
                                        .leaf = {(const uint8_t *)text, strlen(text)}};
    }
    return leaves;
}

static void append(struct audit_leaf *leaves, size_t n)
{
    struct status st = {0};
    if (audit_append(fixture_db, leaves, n, fixture_arena, &st) != CODE_OK)
        fail_msg("%s", st.msg);
}

/* The root as somebody computes it who has only the records. */
static void recompute(size_t n, struct merkle_hash *ret)
{
    struct merkle_frontier frontier = {0};
    for (size_t i = 0; i < n; i++) {
        struct audit_leaf leaf;
        struct merkle_hash hash;
        assert_int_equal(audit_get(fixture_db, i, fixture_arena, &leaf, NULL), CODE_OK);
        merkle_leaf(leaf.leaf, &hash);
        assert_int_equal(merkle_append(&frontier, &hash, NULL, NULL, NULL), CODE_OK);
    }
    merkle_root(&frontier, ret);
}

static void records_are_numbered_in_order_and_the_root_is_theirs(void **state)
{
    (void)state;
    append(make(300, "first"), 300);
    append(make(1, "second"), 1);
    append(make(299, "third"), 299);
    assert_int_equal(fixture_number("SELECT size FROM audit_tree"), 600);
    assert_int_equal(fixture_number("SELECT count(*) FROM audit_records WHERE index BETWEEN 0 AND 599"), 600);
    assert_int_equal(fixture_number("SELECT count(*) FROM audit_nodes"), 2); /* level 8 only */
    struct merkle_hash recomputed, stored;
    recompute(600, &recomputed);
    assert_int_equal(audit_root_at(fixture_db, 600, &stored, NULL), CODE_OK);
    assert_true(merkle_hash_equal(&recomputed, &stored));
}

static void event_that_has_its_record_gets_no_second_one(void **state)
{
    (void)state;
    struct audit_leaf *leaves = make(10, "once");
    append(leaves, 6);
    append(leaves + 3, 7); /* three of them again */
    assert_int_equal(fixture_number("SELECT size FROM audit_tree"), 10);
    assert_int_equal(fixture_number("SELECT count(*) FROM audit_records"), 10);
    assert_int_equal(fixture_number("SELECT max(index) FROM audit_records"), 9);
    append(make(3, "later"), 3);
    struct merkle_hash recomputed, stored;
    recompute(13, &recomputed);
    assert_int_equal(audit_root_at(fixture_db, 13, &stored, NULL), CODE_OK);
    assert_true(merkle_hash_equal(&recomputed, &stored));
}

static void stored_tree_proves_inclusion_and_consistency(void **state)
{
    (void)state;
    append(make(700, "leaf"), 700);
    static const uint64_t sizes[] = {1, 2, 255, 256, 257, 511, 512, 513, 700};
    struct merkle_hash root[ARRAY_LEN(sizes)];
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
        assert_int_equal(audit_root_at(fixture_db, sizes[i], &root[i], NULL), CODE_OK);
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct merkle_proof proof;
        struct audit_leaf leaf;
        struct merkle_hash hash;
        uint64_t index = sizes[i] - 1;
        assert_int_equal(audit_inclusion(fixture_db, index, sizes[i], &proof, NULL), CODE_OK);
        assert_int_equal(audit_get(fixture_db, index, fixture_arena, &leaf, NULL), CODE_OK);
        merkle_leaf(leaf.leaf, &hash);
        assert_int_equal(merkle_inclusion_verify(&hash, index, sizes[i], proof.hash, proof.n, &root[i], NULL),
                         CODE_OK);
        for (size_t k = i; k < ARRAY_LEN(sizes); k++) {
            assert_int_equal(audit_consistency(fixture_db, sizes[i], sizes[k], &proof, NULL), CODE_OK);
            assert_int_equal(
                merkle_consistency_verify(sizes[i], &root[i], sizes[k], &root[k], proof.hash, proof.n, NULL),
                CODE_OK);
        }
    }
    struct merkle_proof proof;
    assert_int_equal(audit_inclusion(fixture_db, 0, 701, &proof, NULL), CODE_INVALID_ARGUMENT);
    assert_int_equal(audit_consistency(fixture_db, 1, 701, &proof, NULL), CODE_INVALID_ARGUMENT);
}

static void altered_record_is_in_no_proof(void **state)
{
    (void)state;
    append(make(40, "leaf"), 40);
    struct merkle_hash root, hash;
    struct merkle_proof proof;
    struct audit_leaf leaf;
    assert_int_equal(audit_root_at(fixture_db, 40, &root, NULL), CODE_OK);
    (void)fixture_number("UPDATE audit_records SET leaf = 'other' WHERE index = 7 RETURNING 1");
    assert_int_equal(audit_inclusion(fixture_db, 7, 40, &proof, NULL), CODE_OK);
    assert_int_equal(audit_get(fixture_db, 7, fixture_arena, &leaf, NULL), CODE_OK);
    merkle_leaf(leaf.leaf, &hash);
    assert_int_equal(merkle_inclusion_verify(&hash, 7, 40, proof.hash, proof.n, &root, NULL),
                     CODE_UNAUTHENTICATED);
}

static void what_is_put_down_is_drained_once(void **state)
{
    (void)state;
    char id[UUID_TEXT_SIZE];
    uuid_v7(id);
    const struct audit_record record = {
        .event_id = id, .action = "token.used", .actor = "agent:a", .occurred_at_ms = T0};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(audit_note(fixture_db, &record, 1, fixture_arena, NULL), CODE_OK);
        assert_int_equal(audit_note(fixture_db, &record, 1, fixture_arena, NULL), CODE_OK);
        assert_int_equal(audit_drain(fixture_db, NULL), CODE_OK);
        assert_int_equal(fixture_number("SELECT count(*) FROM audit_pending"), 0);
        assert_int_equal(fixture_number("SELECT count(*) FROM audit_records"), 1);
        assert_int_equal(fixture_number("SELECT size FROM audit_tree"), 1);
    }
}

static void record_and_what_it_tells_are_one_transaction(void **state)
{
    (void)state;
    const char *id = fixture_agent("web1", "prod");
    const struct cause cause = fixture_cause(T0 + 1000);
    struct agent agent;
    assert_int_equal(agent_disable(fixture_db, &cause, "", id, "stolen", fixture_arena, &agent, NULL),
                     CODE_OK);
    assert_int_equal(audit_drain(fixture_db, NULL), CODE_OK);
    assert_int_equal(
        fixture_number("SELECT count(*) FROM audit_records r JOIN outbox o ON o.id = r.event_id"), 2);
    assert_int_equal(
        fixture_number("SELECT count(*) FROM audit_records WHERE action = 'agent.changed' AND actor = "
                       "'api-key:test' AND leaf = 'agent.changed api-key:test DISABLED'::bytea"),
        1);
}

static size_t listed(const struct audit_filter *filter, int64_t *first)
{
    struct audit_leaf *leaves;
    size_t n;
    assert_int_equal(audit_list(fixture_db, filter, 100, fixture_arena, &leaves, &n, NULL), CODE_OK);
    *first = n > 0 ? leaves[0].index : -1;
    return n;
}

static void lists_are_filtered_and_paged(void **state)
{
    (void)state;
    struct audit_leaf *leaves = make(10, "leaf");
    leaves[2].actor = "api-key:x";
    leaves[3].action = "token.created";
    leaves[4].action = "token_created"; /* '_' is no wildcard */
    leaves[5].agent_id = "01890a5d-ac96-774b-bcce-b302099a8057";
    append(leaves, 10);
    int64_t first;
    struct audit_filter all = {.from_ms = -1, .until_ms = -1, .after = -1}, one = all;
    assert_int_equal(listed(&all, &first), 10);
    assert_int_equal(first, 9);
    one.actor = "api-key:x";
    assert_int_equal(listed(&one, &first), 1);
    assert_int_equal(first, 2);
    one = all;
    one.action = "token.*";
    assert_int_equal(listed(&one, &first), 1);
    one.action = "task.*";
    assert_int_equal(listed(&one, &first), 8);
    one.action = "task.";
    assert_int_equal(listed(&one, &first), 0);
    one = all;
    one.agent_id = leaves[5].agent_id;
    assert_int_equal(listed(&one, &first), 1);
    one = all;
    one.from_ms = T0 + 2;
    one.until_ms = T0 + 4;
    assert_int_equal(listed(&one, &first), 2);
    one = all;
    one.after = 4;
    assert_int_equal(listed(&one, &first), 4);
    one.oldest_first = true;
    assert_int_equal(listed(&one, &first), 5);
    assert_int_equal(first, 5);
}

static void head_is_due_when_the_tree_grew_and_proves_the_one_before(void **state)
{
    (void)state;
    struct audit_next_head next;
    struct audit_head head;
    bool due;
    assert_int_equal(audit_head_newest(fixture_db, fixture_arena, &head, NULL), CODE_NOT_FOUND);
    assert_int_equal(audit_head_next(fixture_db, fixture_arena, &next, &due, NULL), CODE_OK);
    assert_false(due);
    append(make(5, "a"), 5);
    assert_int_equal(audit_head_next(fixture_db, fixture_arena, &next, &due, NULL), CODE_OK);
    assert_true(due);
    assert_int_equal(next.size, 5);
    assert_int_equal(next.previous_size, 0);
    struct merkle_hash first = next.root;
    const struct audit_head stored = {
        .size = 5, .made_at_ms = T0, .tree_id = next.tree_id, .head = {(const uint8_t *)"head", 4}};
    assert_int_equal(audit_head_store(fixture_db, &stored, fixture_arena, NULL), CODE_OK);
    assert_int_equal(audit_head_next(fixture_db, fixture_arena, &next, &due, NULL), CODE_OK);
    assert_false(due);
    append(make(6, "b"), 6);
    assert_int_equal(audit_head_next(fixture_db, fixture_arena, &next, &due, NULL), CODE_OK);
    assert_true(due);
    assert_int_equal(next.previous_size, 5);
    assert_int_equal(
        merkle_consistency_verify(5, &first, 11, &next.root, next.consistency.hash, next.consistency.n, NULL),
        CODE_OK);
    assert_int_equal(audit_head_newest(fixture_db, fixture_arena, &head, NULL), CODE_OK);
    assert_int_equal(head.size, 5);
}

static void webhook_that_never_answers_is_given_up(void **state)
{
    (void)state;
    struct audit_head *heads;
    size_t n;
    bool given_up, due;
    struct audit_next_head next;
    assert_int_equal(audit_head_next(fixture_db, fixture_arena, &next, &due, NULL), CODE_OK);
    const struct audit_head stored = {
        .size = 5, .made_at_ms = T0, .tree_id = next.tree_id, .head = {(const uint8_t *)"head", 4}};
    assert_int_equal(audit_head_store(fixture_db, &stored, fixture_arena, NULL), CODE_OK);
    for (int i = 1; i <= 3; i++) {
        assert_int_equal(
            audit_heads_unwitnessed(fixture_db, WITNESS_WEBHOOK, 10, fixture_arena, &heads, &n, NULL),
            CODE_OK);
        assert_int_equal(n, 1);
        assert_int_equal(audit_head_witnessed(fixture_db, WITNESS_WEBHOOK, &heads[0], false, 3, fixture_arena,
                                              &given_up, NULL),
                         CODE_OK);
        assert_int_equal(given_up, i == 3);
    }
    assert_int_equal(
        audit_heads_unwitnessed(fixture_db, WITNESS_WEBHOOK, 10, fixture_arena, &heads, &n, NULL), CODE_OK);
    assert_int_equal(n, 0);
    assert_int_equal(audit_heads_unwitnessed(fixture_db, WITNESS_FILE, 10, fixture_arena, &heads, &n, NULL),
                     CODE_OK);
    assert_int_equal(n, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(records_are_numbered_in_order_and_the_root_is_theirs, fixture_reset),
        cmocka_unit_test_setup(event_that_has_its_record_gets_no_second_one, fixture_reset),
        cmocka_unit_test_setup(stored_tree_proves_inclusion_and_consistency, fixture_reset),
        cmocka_unit_test_setup(altered_record_is_in_no_proof, fixture_reset),
        cmocka_unit_test_setup(what_is_put_down_is_drained_once, fixture_reset),
        cmocka_unit_test_setup(record_and_what_it_tells_are_one_transaction, fixture_reset),
        cmocka_unit_test_setup(lists_are_filtered_and_paged, fixture_reset),
        cmocka_unit_test_setup(head_is_due_when_the_tree_grew_and_proves_the_one_before, fixture_reset),
        cmocka_unit_test_setup(webhook_that_never_answers_is_given_up, fixture_reset),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
