/* A restore from a backup, as the registry's database sees it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "alerts.h"
#include "base/id.h"
#include "fixture.h"
#include "lost.h"
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
    struct restored done;
    struct status st = {0};
    if (platform_restored(fixture_db, &cause, copy ? copy->held : NULL, copy ? copy->n_held : 0,
                          fixture_arena, &done, &st) != CODE_OK)
        fail_msg("%s", st.msg);
    assert_false(done.epoch.told);
    *former = done.former;
    return done.n_held;
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

static void raise(const char *entity, const char *agent_id)
{
    const struct alert_change change = {ALERT_AUDIT_INCONSISTENT, entity, agent_id, "why"};
    assert_int_equal(alerts_raise(fixture_db, &change, 1, T0, fixture_arena, NULL), CODE_OK);
}

static void who_noticed_the_older_database_is_answered_and_a_broken_head_is_not(void **state)
{
    (void)state;
    const char *id = fixture_agent("web1", "prod");
    struct audit_former former;
    raise("platform", NULL);
    raise(arena_printf(fixture_arena, "%s" ALERT_HELD, id), id);
    raise(id, id);
    drain();
    (void)restored(NULL, &former);
    assert_int_equal(fixture_number("SELECT count(*) FROM alerts WHERE resolved_at IS NOT NULL"), 2);
    assert_int_equal(
        fixture_number(arena_printf(
            fixture_arena, "SELECT count(*) FROM alerts WHERE entity = '%s' AND resolved_at IS NULL", id)),
        1);
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

/* ---- what the stream says ---- */

static struct lost_place place(void)
{
    struct lost_place ret;
    assert_int_equal(lost_place_get(fixture_db, &ret, NULL), CODE_OK);
    return ret;
}

static size_t take_events(const struct lost_event *events, size_t n, int64_t from, int64_t next, bool ended)
{
    size_t n_lost;
    struct status st = {0};
    if (lost_take(fixture_db, events, n, from, next, ended, fixture_arena, &n_lost, &st) != CODE_OK)
        fail_msg("%s", st.msg);
    return n_lost;
}

static const char *new_id(void)
{
    char id[UUID_TEXT_SIZE];
    uuid_v7(id);
    return arena_strdup(fixture_arena, id);
}

static void place_in_the_stream_is_looked_at_after_each_reconnect(void **state)
{
    (void)state;
    /* Who never told anything has forgotten nothing. */
    assert_int_equal(lost_place_check(fixture_db, true, NULL), CODE_OK);
    assert_int_equal(place().unchecked_from, -1);
    assert_int_equal(lost_place_advance(fixture_db, 20, NULL), CODE_OK);
    assert_int_equal(lost_place_advance(fixture_db, 10, NULL), CODE_OK); /* a recalled one */
    assert_int_equal(place().last_seq, 20);
    assert_int_equal(lost_place_check(fixture_db, true, NULL), CODE_OK);
    assert_int_equal(place().unchecked_from, 21);
    /* What is published meanwhile does not move it, nor does another reconnect. */
    assert_int_equal(lost_place_advance(fixture_db, 30, NULL), CODE_OK);
    assert_int_equal(lost_place_check(fixture_db, true, NULL), CODE_OK);
    assert_int_equal(place().unchecked_from, 21);
    (void)take_events(NULL, 0, 21, 25, false);
    assert_int_equal(place().unchecked_from, 25);
    (void)take_events(NULL, 0, 21, 40, true); /* another replica was faster */
    assert_int_equal(place().unchecked_from, 25);
    (void)take_events(NULL, 0, 25, 31, true);
    assert_int_equal(place().unchecked_from, -1);
    assert_int_equal(place().n_lost, 0);
    /* A stream made anew counts from the beginning. */
    assert_int_equal(lost_place_check(fixture_db, false, NULL), CODE_OK);
    assert_int_equal(place().last_seq, 0);
    assert_int_equal(place().unchecked_from, -1);
}

static void events_that_this_database_told_are_not_lost(void **state)
{
    (void)state;
    const char *id = fixture_agent("web1", "prod");
    AUTO_ROWS struct db_rows *rows = NULL;
    assert_int_equal(db_query_one(fixture_db, "SELECT id FROM outbox LIMIT 1", NULL, &rows, NULL), CODE_OK);
    const struct lost_event events[] = {
        {db_text(rows, 0, 0),
         {.agent_id = id, .disabled_reason = "ours", .frozen_reason = "", .version = 99}}};
    assert_int_equal(lost_place_advance(fixture_db, 20, NULL), CODE_OK);
    assert_int_equal(lost_place_check(fixture_db, true, NULL), CODE_OK);
    assert_int_equal(take_events(events, 1, 21, 22, true), 0);
    assert_int_equal(place().unchecked_from, -1);
    struct audit_former former;
    assert_int_equal(restored(NULL, &former), 0);
    assert_int_equal(fixture_get(id).status, AGENT_BOOTSTRAPPING);
}

/* Killed right after it was found, it would be told by nobody else. */
static void what_is_lost_is_an_alert_with_the_first_event(void **state)
{
    (void)state;
    const char *id = fixture_agent("web1", "prod");
    struct lost_event event = {
        new_id(), {.agent_id = id, .disabled_reason = "stolen", .frozen_reason = "", .version = 9}};
    assert_int_equal(lost_place_advance(fixture_db, 20, NULL), CODE_OK);
    assert_int_equal(lost_place_check(fixture_db, true, NULL), CODE_OK);
    for (int64_t at = 21; at < 24; at++) {
        event.event_id = new_id();
        assert_int_equal(take_events(&event, 1, at, at + 1, false), 1);
        assert_int_equal(fixture_number("SELECT count(*) FROM alerts WHERE entity = 'platform' AND "
                                        "resolved_at IS NULL AND count = 1"),
                         1);
    }
    assert_int_equal(
        fixture_number("SELECT count(*) FROM outbox WHERE subject = 'clm.event.registry.alert.raised'"), 1);
}

static void newest_of_copy_and_stream_holds_and_nobody_is_let_go(void **state)
{
    (void)state;
    const char *stolen = fixture_agent("web1", "prod"), *returned = fixture_agent("web2", "prod"),
               *later = fixture_agent("web3", "prod"), *frozen = fixture_agent("web4", "prod"),
               *deleted = fixture_agent("web5", "prod"), *known = fixture_agent("web6", "prod"),
               *revoked = fixture_agent("web7", "prod");
    disable(known, "before the backup");
    drain();
    const struct lost_event events[] = {
        {new_id(), {.agent_id = stolen, .disabled_reason = "stolen", .frozen_reason = "", .version = 8}},
        {new_id(), {.agent_id = returned, .disabled_reason = "stolen", .frozen_reason = "", .version = 8}},
        {new_id(), {.agent_id = returned, .frozen_reason = "", .version = 9}},
        {new_id(), {.agent_id = later, .frozen_reason = "", .version = 9}},
        {new_id(), {.agent_id = frozen, .frozen_reason = FROZEN_CLONE, .version = 5}},
        {new_id(),
         {.agent_id = deleted,
          .disabled_reason = "deleted",
          .frozen_reason = "",
          .version = 5,
          .deleted = true}},
        {new_id(), {.agent_id = known, .frozen_reason = "", .version = 9}}, /* enabled since: not again */
        {new_id(), {.agent_id = new_id(), .disabled_reason = "after the backup", .frozen_reason = ""}},
        {new_id(),
         {.agent_id = new_id(), .disabled_reason = "deleted", .frozen_reason = "", .deleted = true}},
    };
    assert_int_equal(lost_place_advance(fixture_db, 20, NULL), CODE_OK);
    assert_int_equal(lost_place_check(fixture_db, true, NULL), CODE_OK);
    assert_int_equal(take_events(events, 4, 21, 40, false), 4);
    assert_int_equal(take_events(events + 4, ARRAY_LEN(events) - 4, 40, 60, true), 5);
    const struct lost_event again[] = {
        {new_id(), {.agent_id = revoked, .disabled_reason = "revoked", .frozen_reason = "", .version = 7}},
        {new_id(), {.agent_id = revoked, .disabled_reason = "old", .frozen_reason = "", .version = 6}}};
    assert_int_equal(take_events(again, 2, 60, 70, true), 2);
    assert_int_equal(place().n_lost, ARRAY_LEN(events) + 2);
    assert_int_equal(place().unchecked_from, 70); /* until the restore is declared there may come more */

    struct held_back held[] = {
        {.agent_id = returned, .disabled_reason = "stolen", .frozen_reason = "", .version = 8},
        {.agent_id = later, .disabled_reason = "later", .frozen_reason = "", .version = 12},
        {.agent_id = frozen, .frozen_reason = FROZEN_CLONE, .token_generation = 3, .version = 4},
    };
    const struct cause cause = fixture_cause(T0 + 60000);
    struct restored done;
    struct status st = {0};
    if (platform_restored(fixture_db, &cause, held, ARRAY_LEN(held), fixture_arena, &done, &st) != CODE_OK)
        fail_msg("%s", st.msg);
    assert_int_equal(done.n_held, 4);
    assert_int_equal(done.n_deleted, 1);
    assert_string_equal(fixture_get(stolen).disabled_reason, "stolen");
    assert_string_equal(fixture_get(revoked).disabled_reason, "revoked");
    assert_string_equal(fixture_get(later).disabled_reason, "later");
    assert_false(fixture_get(returned).disabled);
    assert_string_equal(fixture_get(frozen).frozen_reason, FROZEN_CLONE);
    assert_int_equal(fixture_get(frozen).token_generation, 3);
    assert_string_equal(fixture_get(known).disabled_reason, "before the backup");
    assert_int_equal(fixture_number("SELECT count(*) FROM agents WHERE hostname = 'web5'"), 0);
    assert_int_equal(
        fixture_number("SELECT count(*) FROM outbox WHERE subject = '" SUBJECT_AGENT_DELETED "'"), 1);
    assert_int_equal(place().n_lost, 0);
    assert_int_equal(place().unchecked_from, -1);
    assert_int_equal(fixture_number("SELECT count(*) FROM lost_agents"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(copy_of_a_growing_database_is_replaced_and_of_an_older_one_is_not,
                               fixture_reset),
        cmocka_unit_test_setup(who_was_held_back_is_held_back_again_and_nobody_is_let_go, fixture_reset),
        cmocka_unit_test_setup(audit_log_goes_on_in_another_tree_and_the_old_one_stays_readable,
                               fixture_reset),
        cmocka_unit_test_setup(who_noticed_the_older_database_is_answered_and_a_broken_head_is_not,
                               fixture_reset),
        cmocka_unit_test_setup(second_restore_names_both_trees_before, fixture_reset),
        cmocka_unit_test_setup(nobody_is_taken_for_a_clone_by_who_was_heard_before_the_backup, fixture_reset),
        cmocka_unit_test_setup(place_in_the_stream_is_looked_at_after_each_reconnect, fixture_reset),
        cmocka_unit_test_setup(events_that_this_database_told_are_not_lost, fixture_reset),
        cmocka_unit_test_setup(what_is_lost_is_an_alert_with_the_first_event, fixture_reset),
        cmocka_unit_test_setup(newest_of_copy_and_stream_holds_and_nobody_is_let_go, fixture_reset),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
