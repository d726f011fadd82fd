/* Agents' signatures under heads, held against the stored tree. Signatures themselves are lib/audit's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "audit.h"
#include "base/id.h"
#include "fixture.h"
#include "support/pg.h"

#define DAY_MS (24LL * 3600 * 1000)
#define AGENT  "01890a5d-ac96-774b-bcce-b302099a8057"
#define OTHER  "01890a5d-ac96-774b-bcce-b302099a8058"

/* Appends n records and signs a head over the tree. */
static void grow(size_t n)
{
    struct audit_leaf *leaves = arena_array(fixture_arena, n, sizeof(*leaves));
    for (size_t i = 0; i < n; i++) {
        char id[UUID_TEXT_SIZE];
        uuid_v7(id);
        leaves[i] = (struct audit_leaf){.event_id = arena_strdup(fixture_arena, id),
                                        .action = "task.finished",
                                        .actor = "agent:a",
                                        .occurred_at_ms = T0,
                                        .leaf = {(const uint8_t *)"leaf", 4}};
    }
    struct audit_next_head next;
    bool due;
    assert_int_equal(audit_append(fixture_db, leaves, n, fixture_arena, NULL), CODE_OK);
    assert_int_equal(audit_head_next(fixture_db, fixture_arena, &next, &due, NULL), CODE_OK);
    assert_true(due);
    const struct audit_head head = {
        .size = next.size, .made_at_ms = T0, .tree_id = next.tree_id, .head = {(const uint8_t *)"head", 4}};
    assert_int_equal(audit_head_store(fixture_db, &head, fixture_arena, NULL), CODE_OK);
}

static struct audit_cosignature signed_by(const char *agent_id, uint64_t size, int64_t at_ms)
{
    struct audit_next_head next;
    bool due;
    struct audit_cosignature in = {.agent_id = agent_id,
                                   .signer_sha256 = "00",
                                   .size = size,
                                   .made_at_ms = at_ms,
                                   .cms = {(const uint8_t *)"cms", 3}};
    assert_int_equal(audit_head_next(fixture_db, fixture_arena, &next, &due, NULL), CODE_OK);
    in.tree_id = next.tree_id;
    assert_int_equal(audit_root_at(fixture_db, size, &in.root, NULL), CODE_OK);
    return in;
}

static enum code put(const struct audit_cosignature *in, int64_t day)
{
    struct status st = {0};
    return audit_cosign(fixture_db, in, day, T0, fixture_arena, &st);
}

static size_t list(int64_t size, const char *agent_id, struct audit_cosignature **ret)
{
    const struct cosign_filter filter = {.size = size, .agent_id = agent_id, .after_size = -1};
    size_t n;
    assert_int_equal(audit_cosignatures(fixture_db, &filter, 100, fixture_arena, ret, &n, NULL), CODE_OK);
    return n;
}

static void one_is_kept_for_an_agents_day_and_repeating_is_harmless(void **state)
{
    (void)state;
    struct audit_cosignature *found;
    grow(5);
    grow(4);
    struct audit_cosignature first = signed_by(AGENT, 5, T0), later = signed_by(AGENT, 9, T0 + 1);
    assert_int_equal(put(&first, 100), CODE_OK);
    assert_int_equal(put(&first, 100), CODE_OK);
    assert_int_equal(put(&later, 100), CODE_OK);
    assert_int_equal(list(-1, NULL, &found), 1);
    assert_int_equal(found[0].size, 5);
    assert_int_equal(put(&later, 101), CODE_OK);
    struct audit_cosignature other = signed_by(OTHER, 9, T0);
    assert_int_equal(put(&other, 100), CODE_OK);
    assert_int_equal(list(-1, NULL, &found), 3);
    assert_int_equal(list(9, NULL, &found), 2);
    assert_string_equal(found[0].agent_id, AGENT);
    assert_string_equal(found[1].agent_id, OTHER);
    assert_int_equal(list(-1, OTHER, &found), 1);
    const struct cosign_filter next = {.size = -1, .after_size = 9, .after_agent_id = AGENT};
    size_t n;
    assert_int_equal(audit_cosignatures(fixture_db, &next, 100, fixture_arena, &found, &n, NULL), CODE_OK);
    assert_int_equal(n, 1);
    assert_int_equal(fixture_number("SELECT count(*) FROM alerts"), 0);
}

static void signature_over_another_history_is_refused_with_an_alert(void **state)
{
    (void)state;
    struct audit_cosignature *found;
    grow(5);
    struct audit_cosignature in = signed_by(AGENT, 5, T0);
    in.root.byte[0] ^= 1;
    assert_int_equal(put(&in, 100), CODE_UNAUTHENTICATED);
    assert_int_equal(fixture_number("SELECT count(*) FROM alerts WHERE kind = 10 AND entity = '" AGENT "'"),
                     1);
    /* Records that are not there any more: the agent has seen a longer log. */
    struct audit_cosignature beyond = signed_by(OTHER, 5, T0);
    beyond.size = 6;
    assert_int_equal(put(&beyond, 100), CODE_UNAUTHENTICATED);
    assert_int_equal(fixture_number("SELECT count(*) FROM alerts WHERE kind = 10 AND entity = '" OTHER "'"),
                     1);
    assert_int_equal(list(-1, NULL, &found), 0);
}

static void old_ones_and_those_of_another_tree_are_refused_without_an_alert(void **state)
{
    (void)state;
    grow(5);
    struct audit_cosignature old = signed_by(AGENT, 5, T0 - 3 * DAY_MS),
                             early = signed_by(AGENT, 5, T0 + 3 * DAY_MS), tree = signed_by(AGENT, 5, T0);
    tree.tree_id = OTHER;
    assert_int_equal(put(&old, 97), CODE_INVALID_ARGUMENT);
    assert_int_equal(put(&early, 103), CODE_INVALID_ARGUMENT);
    assert_int_equal(put(&tree, 100), CODE_INVALID_ARGUMENT);
    assert_int_equal(fixture_number("SELECT count(*) FROM alerts"), 0);
}

static void they_are_forgotten_after_their_time(void **state)
{
    (void)state;
    struct audit_cosignature *found;
    grow(5);
    struct audit_cosignature old = signed_by(AGENT, 5, T0 - DAY_MS), young = signed_by(OTHER, 5, T0);
    assert_int_equal(put(&old, 99), CODE_OK);
    assert_int_equal(put(&young, 100), CODE_OK);
    assert_int_equal(audit_cosignatures_trim(fixture_db, T0 - DAY_MS / 2, fixture_arena, NULL), CODE_OK);
    assert_int_equal(list(-1, NULL, &found), 1);
    assert_string_equal(found[0].agent_id, OTHER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(one_is_kept_for_an_agents_day_and_repeating_is_harmless, fixture_reset),
        cmocka_unit_test_setup(signature_over_another_history_is_refused_with_an_alert, fixture_reset),
        cmocka_unit_test_setup(old_ones_and_those_of_another_tree_are_refused_without_an_alert,
                               fixture_reset),
        cmocka_unit_test_setup(they_are_forgotten_after_their_time, fixture_reset),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
