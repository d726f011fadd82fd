/* A restore from a backup, as the registry's database sees it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/id.h"
#include "fixture.h"
#include "restore.h"
#include "support/pg.h"

static struct platform_copy take(void)
{
    struct platform_copy copy;
    struct status st = {0};
    if (platform_copy_take(fixture_db, T0, fixture_arena, &copy, &st) != CODE_OK)
        fail_msg("%s", st.msg);
    return copy;
}

static bool fits(const struct platform_copy *copy)
{
    bool ret;
    struct status st = {0};
    if (platform_copy_fits(fixture_db, copy, fixture_arena, &ret, &st) != CODE_OK)
        fail_msg("%s", st.msg);
    return ret;
}

static void disable(const char *id, const char *reason)
{
    const struct cause cause = fixture_cause(T0 + 1000);
    struct agent agent;
    assert_int_equal(agent_disable(fixture_db, &cause, "", id, reason, fixture_arena, &agent, NULL), CODE_OK);
}

static void drain(void)
{
    assert_int_equal(audit_drain(fixture_db, NULL), CODE_OK);
}

static size_t restored(const struct platform_copy *copy, struct audit_former *former)
{
    const struct cause cause = fixture_cause(T0 + 60000);
    struct platform_epoch epoch;
    struct status st = {0};
    size_t held;
    if (platform_restored(fixture_db, &cause, copy ? copy->held : NULL, copy ? copy->n_held : 0,
                          fixture_arena, &epoch, former, &held, &st) != CODE_OK)
        fail_msg("%s", st.msg);
    assert_false(epoch.told);
    return held;
}

static void copy_of_a_growing_database_is_replaced_and_of_an_older_one_is_not(void **state)
{
    (void)state;
    const char *id = fixture_agent("web1", "prod");
    drain();
    struct platform_copy before = take();
    assert_int_equal(before.n_held, 0);
    assert_true(fits(&before));
    disable(id, "stolen");
    struct platform_copy undrained = take(); /* its audit record is still on its way */
    assert_int_equal(undrained.n_held, 1);
    assert_string_equal(undrained.held[0].disabled_reason, "stolen");
    assert_true(fits(&undrained));
    drain();
    struct platform_copy after = take();
    assert_true(fits(&before) && fits(&undrained) && fits(&after));

    /* The database as it was before. */
    (void)fixture_number("UPDATE agents SET disabled = false, version = version - 1 RETURNING 1");
    assert_false(fits(&undrained)); /* by the agent's version */
    struct platform_copy shorter = after;
    shorter.n_held = 0;
    shorter.tree.size++;
    assert_false(fits(&shorter)); /* by the length of the log */
    struct platform_copy other = after;
    other.n_held = 0;
    assert_true(fits(&other));
    other.tree.root.byte[0] ^= 1;
    assert_false(fits(&other)); /* by its content */
    other = after;
    other.n_held = 0;
    other.tree.tree_id = "01890a5d-ac96-774b-bcce-b302099a8057";
    assert_false(fits(&other));
    other.epoch = -1; /* a restore was declared since it was taken */
    assert_true(fits(&other));
}

static void who_was_held_back_is_held_back_again_and_nobody_is_let_go(void **state)
{
    (void)state;
    const char *stolen = fixture_agent("web1", "prod"), *revoked = fixture_agent("web2", "prod"),
               *frozen = fixture_agent("web3", "prod"), *known = fixture_agent("web4", "prod");
    drain();
    disable(known, "before the backup");
    struct held_back held[] = {
        {.agent_id = stolen, .disabled_reason = "stolen", .frozen_reason = ""},
        {.agent_id = revoked, .disabled_reason = "revoked", .frozen_reason = "", .min_generation = 4},
        {.agent_id = frozen, .frozen_reason = FROZEN_CLONE, .token_generation = 2},
        {.agent_id = "01890a5d-ac96-774b-bcce-b302099a8057", .disabled_reason = "gone", .frozen_reason = ""},
    };
    const struct platform_copy copy = {.held = held, .n_held = ARRAY_LEN(held)};
    struct audit_former former;
    int64_t version = fixture_get(known).version;
    assert_int_equal(restored(&copy, &former), 3);
    assert_int_equal(fixture_get(stolen).status, AGENT_DISABLED);
    assert_string_equal(fixture_get(revoked).disabled_reason, "revoked");
    assert_int_equal(fixture_get(revoked).min_generation, 4);
    assert_string_equal(fixture_get(frozen).frozen_reason, FROZEN_CLONE);
    assert_int_equal(fixture_get(frozen).token_generation, 2);
    assert_int_equal(fixture_get(known).status, AGENT_DISABLED);
    assert_true(fixture_get(known).version > version + UINT32_MAX); /* beyond what anybody has seen */
    assert_int_equal(
        fixture_number("SELECT count(*) FROM outbox WHERE subject = '" SUBJECT_AGENT_CHANGED "'"), 4);
}

static void audit_log_goes_on_in_another_tree_and_the_old_one_stays_readable(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++)
        (void)fixture_agent(arena_printf(fixture_arena, "web%d", i), "prod");
    drain();
    struct audit_next_head next;
    struct audit_former former;
    bool due;
    assert_int_equal(audit_head_next(fixture_db, fixture_arena, &next, &due, NULL), CODE_OK);
    const struct audit_head head = {
        .size = 5, .made_at_ms = T0, .tree_id = next.tree_id, .head = {(const uint8_t *)"head", 4}};
    assert_int_equal(audit_head_store(fixture_db, &head, fixture_arena, NULL), CODE_OK);
    /* An agent holds a longer one; a shorter one and one of another tree say nothing. */
    struct audit_report report = {
        .tree_id = next.tree_id, .agent_id = fixture_agent("web9", "prod"), .at_ms = T0};
    static const uint64_t sizes[] = {4, 9, 7};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        report.size = sizes[i];
        memset(report.root.byte, (int)sizes[i], SHA256_SIZE);
        assert_int_equal(audit_reported(fixture_db, &report, fixture_arena, NULL), CODE_OK);
    }
    bool whole;
    assert_int_equal(audit_is_whole(fixture_db, fixture_arena, &whole, NULL), CODE_OK);
    assert_false(whole);
    assert_int_equal(restored(NULL, &former), 0);
    assert_int_equal(audit_is_whole(fixture_db, fixture_arena, &whole, NULL), CODE_OK);
    assert_true(whole);
    assert_int_equal(former.size, 9);
    assert_int_equal(former.root.byte[0], 9);
    assert_string_equal(former.tree_id, next.tree_id);
    drain(); /* of web9, put down before */

    struct audit_filter all = {.from_ms = -1, .until_ms = -1, .oldest_first = true, .after = -1};
    struct audit_leaf *leaves, first;
    size_t n;
    assert_int_equal(audit_list(fixture_db, &all, 100, fixture_arena, &leaves, &n, NULL), CODE_OK);
    assert_int_equal(n, 7);
    assert_int_equal(leaves[4].tree, 1);
    assert_int_equal(leaves[5].tree, 2);
    assert_int_equal(leaves[5].base, 5);
    assert_int_equal(audit_get(fixture_db, 0, fixture_arena, &first, NULL), CODE_OK);
    assert_string_equal(first.action, "platform.restored");

    /* Proofs are of the new tree; its head carries the one that its first record is in it. */
    struct merkle_proof proof;
    struct merkle_hash leaf;
    assert_int_equal(audit_inclusion(fixture_db, 0, 3, &proof, NULL), CODE_INVALID_ARGUMENT);
    assert_int_equal(audit_head_next(fixture_db, fixture_arena, &next, &due, NULL), CODE_OK);
    assert_int_equal(next.size, 2);
    assert_int_equal(next.previous_size, 0);
    assert_string_not_equal(next.tree_id, former.tree_id);
    merkle_leaf(first.leaf, &leaf);
    assert_int_equal(merkle_inclusion_verify(&leaf, 0, 2, next.origin.hash, next.origin.n, &next.root, NULL),
                     CODE_OK);

    struct audit_head *heads;
    assert_int_equal(audit_heads_list(fixture_db, 1, 0, -1, 10, fixture_arena, &heads, &n, NULL), CODE_OK);
    assert_int_equal(n, 1);
    assert_int_equal(audit_heads_list(fixture_db, 0, 0, -1, 10, fixture_arena, &heads, &n, NULL), CODE_OK);
    assert_int_equal(n, 0);
    assert_int_equal(fixture_number("SELECT count(*) FROM audit_reported"), 0);
}

static void second_restore_names_both_trees_before(void **state)
{
    (void)state;
    struct audit_former first, second;
    (void)fixture_agent("web1", "prod");
    drain();
    (void)restored(NULL, &first);
    (void)restored(NULL, &second);
    assert_string_not_equal(first.tree_id, second.tree_id);
    assert_int_equal(fixture_number("SELECT number FROM audit_tree"), 3);
    assert_int_equal(fixture_number("SELECT epoch FROM platform"), 2);
    assert_int_equal(fixture_number("SELECT base FROM audit_tree"), 2);
    assert_int_equal(fixture_number("SELECT count(*) FROM audit_trees_former"), 2);
}

static void nobody_is_taken_for_a_clone_by_who_was_heard_before_the_backup(void **state)
{
    (void)state;
    struct audit_former former;
    const char *id = fixture_agent("web1", "prod");
    fixture_beat(id, T0 + 1000);
    (void)fixture_number(
        "UPDATE heartbeats SET instance_id = 'old', former_instance_id = 'older', returns = 2, "
        "returns_since = now() RETURNING 1");
    (void)restored(NULL, &former);
    assert_int_equal(
        fixture_number("SELECT count(*) FROM heartbeats WHERE instance_id IS NULL AND returns = 0"), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(copy_of_a_growing_database_is_replaced_and_of_an_older_one_is_not,
                               fixture_reset),
        cmocka_unit_test_setup(who_was_held_back_is_held_back_again_and_nobody_is_let_go, fixture_reset),
        cmocka_unit_test_setup(audit_log_goes_on_in_another_tree_and_the_old_one_stays_readable,
                               fixture_reset),
        cmocka_unit_test_setup(second_restore_names_both_trees_before, fixture_reset),
        cmocka_unit_test_setup(nobody_is_taken_for_a_clone_by_who_was_heard_before_the_backup, fixture_reset),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
