/* What stands against an agent and the ways out, on a real PostgreSQL. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "fixture.h"
#include "safemode/safemode.h"

static struct status why;

static void beat_of(const char *id, const char *instance, int64_t now_ms)
{
    struct heartbeat beat = {
        .agent_id = id, .instance_id = instance, .received_at_ms = now_ms, .interval_ms = 30000};
    assert_int_equal(
        heartbeats_report(fixture_db, &fixture_timing, now_ms, "g1", "e1", &beat, 1, fixture_arena, &why),
        CODE_OK);
}

static void freeze(const char *id, const char *reason)
{
    const struct cause cause = fixture_cause(T0 + 1000);
    assert_int_equal(db_begin(fixture_db, &why), CODE_OK);
    assert_int_equal(agent_freeze(fixture_db, &cause, id, reason, fixture_arena, &why), CODE_OK);
    assert_int_equal(db_commit(fixture_db, &why), CODE_OK);
}

static void confirmed(const char *id, int64_t generation)
{
    const struct cause cause = fixture_cause(T0 + 1000);
    assert_int_equal(db_begin(fixture_db, &why), CODE_OK);
    assert_int_equal(agent_identity_confirmed(fixture_db, &cause, id, generation, fixture_arena, &why),
                     CODE_OK);
    assert_int_equal(db_commit(fixture_db, &why), CODE_OK);
}

static void superseded(const char *id, int64_t generation)
{
    const struct cause cause = fixture_cause(T0 + 1000);
    const struct superseded seen = {id, generation};
    assert_int_equal(agents_superseded(fixture_db, &cause, &seen, 1, fixture_arena, &why), CODE_OK);
}

static void two_instances_that_take_turns_are_a_clone(void **state)
{
    (void)state;
    const char *id = fixture_agent("web1", "prod");
    int64_t t = T0;
    beat_of(id, "a", t += 1000);
    for (int i = 0; i < 2; i++) {
        beat_of(id, "b", t += 1000);
        assert_false(agent_frozen(&(struct agent){.frozen_reason = fixture_get(id).frozen_reason}));
        beat_of(id, "a", t += 1000);
    }
    struct agent agent = fixture_get(id);
    assert_string_equal(agent.frozen_reason, FROZEN_CLONE);
    assert_int_equal(agent.status, AGENT_SAFE_MODE);
    assert_string_equal(agent_reason(&agent), FROZEN_CLONE);
    /* It stays one, whoever speaks; and is told once. */
    int64_t version = agent.version;
    beat_of(id, "a", t += 1000);
    assert_int_equal(fixture_get(id).version, version);
}

static void restarts_are_no_clone(void **state)
{
    (void)state;
    const char *id = fixture_agent("web1", "prod");
    char instance[2] = "a";
    for (int64_t t = T0; instance[0] < 'm'; instance[0]++)
        beat_of(id, instance, t += 1000);
    assert_string_equal(fixture_get(id).frozen_reason, "");
}

static void what_an_ended_process_said_may_come_late(void **state)
{
    (void)state;
    const char *id = fixture_agent("web1", "prod");
    char former[2] = "a", present[2] = "b";
    int64_t t = T0;
    beat_of(id, former, t);
    for (; former[0] < 'h'; former[0]++, present[0]++, t += 1000) {
        beat_of(id, present, t + 1000);
        beat_of(id, former, t + 10); /* by another of the gateway's threads */
    }
    assert_string_equal(fixture_get(id).frozen_reason, "");
}

static void turns_that_are_far_apart_do_not_add_up(void **state)
{
    (void)state;
    const char *id = fixture_agent("web1", "prod");
    int64_t t = T0;
    for (int i = 0; i < 4; i++) {
        beat_of(id, "a", t += 400000);
        beat_of(id, "b", t += 400000);
    }
    assert_string_equal(fixture_get(id).frozen_reason, "");
}

static void an_identity_below_the_confirmed_one_is_a_clone(void **state)
{
    (void)state;
    const char *id = fixture_agent("web1", "prod");
    beat_of(id, "a", T0);
    confirmed(id, 2);
    superseded(id, 2);
    assert_string_equal(fixture_get(id).frozen_reason, "");
    superseded(id, 1);
    assert_string_equal(fixture_get(id).frozen_reason, FROZEN_CLONE);
}

static void only_a_fresh_token_ends_a_clone_and_former_installations_are_none(void **state)
{
    (void)state;
    const struct cause cause = fixture_cause(T0 + 2000);
    const char *id = fixture_agent("web1", "prod");
    struct agent agent;
    beat_of(id, "a", T0);
    confirmed(id, 2);
    freeze(id, FROZEN_CLONE);
    freeze(id, FROZEN_SECOND_KEY);
    assert_string_equal(fixture_get(id).frozen_reason, FROZEN_CLONE);
    assert_int_equal(agent_unfreeze(fixture_db, &cause, "", id, fixture_arena, &agent, &why),
                     CODE_FAILED_PRECONDITION);
    assert_int_equal(agent_readmit(fixture_db, &cause, "", id, 4, fixture_arena, &agent, &why), CODE_OK);
    assert_false(agent_frozen(&agent));
    assert_int_equal(agent.min_generation, 4);
    superseded(id, 3); /* both of the former ones still knock */
    assert_string_equal(fixture_get(id).frozen_reason, "");
    confirmed(id, 4);
    confirmed(id, 5);
    superseded(id, 4);
    assert_string_equal(fixture_get(id).frozen_reason, FROZEN_CLONE);
}

static void turns_are_counted_anew_after_a_fresh_token(void **state)
{
    (void)state;
    const struct cause cause = fixture_cause(T0 + 2000);
    const char *id = fixture_agent("web1", "prod");
    struct agent agent;
    int64_t t = T0;
    for (int i = 0; i < 3; i++) {
        beat_of(id, "a", t += 1000);
        beat_of(id, "b", t += 1000);
    }
    assert_string_equal(fixture_get(id).frozen_reason, FROZEN_CLONE);
    assert_int_equal(agent_readmit(fixture_db, &cause, "", id, 1, fixture_arena, &agent, &why), CODE_OK);
    beat_of(id, "a", t += 1000);
    beat_of(id, "a", t += 1000);
    assert_string_equal(fixture_get(id).frozen_reason, "");
}

static void a_second_key_is_an_operators_to_decide(void **state)
{
    (void)state;
    const struct cause cause = fixture_cause(T0 + 2000);
    const char *id = fixture_agent("web1", "prod");
    struct agent agent;
    beat_of(id, "a", T0 + 1000);
    freeze(id, FROZEN_SECOND_KEY);
    assert_int_equal(fixture_get(id).status, AGENT_SAFE_MODE);
    assert_int_equal(agent_unfreeze(fixture_db, &cause, "", id, fixture_arena, &agent, &why), CODE_OK);
    assert_int_equal(agent.status, AGENT_ONLINE);
}

static void a_revoked_agent_comes_back_with_a_fresh_token_alone(void **state)
{
    (void)state;
    const struct cause cause = fixture_cause(T0 + 2000);
    const char *id = fixture_agent("web1", "prod");
    struct agent agent;
    beat_of(id, "a", T0 + 1000);
    assert_int_equal(agent_disable(fixture_db, &cause, "", id, "revoked", fixture_arena, &agent, &why),
                     CODE_OK);
    assert_int_equal(agent_may_have_token(&agent, false, T0 + 2000, &why), CODE_OK);
    assert_int_equal(agent_readmit(fixture_db, &cause, "", id, 1, fixture_arena, &agent, &why), CODE_OK);
    assert_false(agent.disabled);
    assert_int_equal(agent.min_generation, 1);
}

static void installed_anew(const char *id, int64_t generation)
{
    const struct cause cause = fixture_cause(T0 + 1000);
    assert_int_equal(db_begin(fixture_db, &why), CODE_OK);
    assert_int_equal(agent_installed_anew(fixture_db, &cause, id, generation, fixture_arena, &why), CODE_OK);
    assert_int_equal(db_commit(fixture_db, &why), CODE_OK);
}

/* The former installation had rotated between the making of the token and its use. */
static void a_former_installation_that_renewed_is_no_clone(void **state)
{
    (void)state;
    const struct cause cause = fixture_cause(T0 + 2000);
    const char *id = fixture_agent("web1", "prod");
    struct agent agent;
    beat_of(id, "a", T0 + 1000);
    assert_int_equal(agent_readmit(fixture_db, &cause, "", id, 1, fixture_arena, &agent, &why), CODE_OK);
    confirmed(id, 1);
    installed_anew(id, 2);
    confirmed(id, 2);
    superseded(id, 1);
    assert_string_equal(fixture_get(id).frozen_reason, "");
    superseded(id, 2);
    assert_string_equal(fixture_get(id).frozen_reason, "");
    confirmed(id, 3);
    superseded(id, 2);
    assert_string_equal(fixture_get(id).frozen_reason, FROZEN_CLONE);
}

static void who_said_farewell_is_over_until_a_fresh_token(void **state)
{
    (void)state;
    const struct cause cause = fixture_cause(T0 + 2000);
    const char *id = fixture_agent("web1", "prod");
    struct agent agent;
    beat_of(id, "a", T0 + 1000);
    assert_int_equal(agent_farewell(fixture_db, &cause, id, 0, fixture_arena, &why), CODE_OK);
    agent = fixture_get(id);
    assert_int_equal(agent.status, AGENT_DISABLED);
    assert_string_equal(agent_reason(&agent), DISABLED_FAREWELL);
    int64_t version = agent.version;
    assert_int_equal(agent_farewell(fixture_db, &cause, id, 0, fixture_arena, &why), CODE_OK);
    assert_int_equal(fixture_get(id).version, version);
    assert_int_equal(agent_enable(fixture_db, &cause, "", id, fixture_arena, &agent, &why),
                     CODE_FAILED_PRECONDITION);
    agent = fixture_get(id);
    assert_int_equal(agent_may_have_token(&agent, false, T0 + 2000, &why), CODE_OK);
    assert_int_equal(agent_readmit(fixture_db, &cause, "", id, 1, fixture_arena, &agent, &why), CODE_OK);
    assert_false(agent.disabled);
    /* What the former installation says now, late, is not about the new one. */
    assert_int_equal(agent_farewell(fixture_db, &cause, id, 0, fixture_arena, &why), CODE_OK);
    assert_false(fixture_get(id).disabled);
    assert_int_equal(agent_farewell(fixture_db, &cause, id, 1, fixture_arena, &why), CODE_OK);
    assert_true(fixture_get(id).disabled);
}

/* Whoever revokes an identity wants it on the revocation list, whatever it said before. */
/* Between the asking for a token and its being made. */
static void a_fresh_token_does_not_enable_what_an_operator_disabled(void **state)
{
    (void)state;
    const struct cause cause = fixture_cause(T0 + 2000);
    const char *id = fixture_agent("web1", "prod");
    struct agent agent;
    beat_of(id, "a", T0 + 1000);
    freeze(id, FROZEN_CLONE);
    assert_int_equal(agent_disable(fixture_db, &cause, "", id, "stolen", fixture_arena, &agent, &why),
                     CODE_OK);
    assert_int_equal(agent_readmit(fixture_db, &cause, "", id, 1, fixture_arena, &agent, &why), CODE_OK);
    assert_true(agent.disabled);
    assert_string_equal(agent.disabled_reason, "stolen");
    assert_int_equal(agent.min_generation, 1);
}

static void who_said_farewell_may_be_revoked(void **state)
{
    (void)state;
    const struct cause cause = fixture_cause(T0 + 2000);
    const char *id = fixture_agent("web1", "prod");
    struct agent agent;
    beat_of(id, "a", T0 + 1000);
    assert_int_equal(agent_farewell(fixture_db, &cause, id, 0, fixture_arena, &why), CODE_OK);
    assert_int_equal(agent_disable(fixture_db, &cause, "", id, DISABLED_REVOKED, fixture_arena, &agent, &why),
                     CODE_OK);
    assert_string_equal(agent_reason(&agent), DISABLED_REVOKED);
    /* Nothing else takes its place. */
    assert_int_equal(agent_disable(fixture_db, &cause, "", id, "moved", fixture_arena, &agent, &why),
                     CODE_OK);
    assert_int_equal(agent_farewell(fixture_db, &cause, id, 0, fixture_arena, &why), CODE_OK);
    agent = fixture_get(id);
    assert_string_equal(agent_reason(&agent), DISABLED_REVOKED);
}

static void a_token_for_a_living_agent_wants_force_and_changes_nothing_yet(void **state)
{
    (void)state;
    const struct cause cause = fixture_cause(T0 + 2000);
    const char *id = fixture_agent("web1", "prod");
    struct agent agent;
    beat_of(id, "a", T0 + 1000);
    agent = fixture_get(id);
    assert_int_equal(agent_may_have_token(&agent, false, T0 + 2000, &why), CODE_FAILED_PRECONDITION);
    assert_int_equal(agent_may_have_token(&agent, true, T0 + 2000, &why), CODE_OK);
    assert_int_equal(agent_may_have_token(&agent, false, T0 + 1000 + 24LL * 3600 * 1000, &why), CODE_OK);
    assert_int_equal(agent_readmit(fixture_db, &cause, "", id, 1, fixture_arena, &agent, &why), CODE_OK);
    assert_int_equal(agent.min_generation, 0);
    agent.disabled = true;
    agent.disabled_reason = "stolen";
    assert_int_equal(agent_may_have_token(&agent, true, T0 + 2000, &why), CODE_FAILED_PRECONDITION);
}

static void a_token_that_is_asked_for_again_is_the_same_whatever_became_of_the_agent(void **state)
{
    (void)state;
    const struct once once = {"k", {1}}, another = {"k", {2}};
    struct cause cause = fixture_cause(T0 + 2000);
    const char *id = fixture_agent("web1", "prod"), *first, *again;
    struct agent agent;
    cause.once = &once;
    assert_int_equal(
        agent_token_begin(fixture_db, &cause, "", id, false, fixture_arena, &agent, &first, &why), CODE_OK);
    beat_of(id, "a", T0 + 1000);
    assert_int_equal(
        agent_token_begin(fixture_db, &cause, "", id, false, fixture_arena, &agent, &again, &why), CODE_OK);
    assert_string_equal(again, first);
    cause.once = &another;
    assert_int_equal(
        agent_token_begin(fixture_db, &cause, "", id, false, fixture_arena, &agent, &again, &why),
        CODE_ALREADY_EXISTS);
    cause.once = NULL;
    assert_int_equal(
        agent_token_begin(fixture_db, &cause, "", id, false, fixture_arena, &agent, &again, &why),
        CODE_FAILED_PRECONDITION);
    assert_int_equal(agent_token_begin(fixture_db, &cause, "", id, true, fixture_arena, &agent, &again, &why),
                     CODE_OK);
    assert_string_not_equal(again, first);
}

static void a_token_that_was_refused_may_be_asked_for_again(void **state)
{
    (void)state;
    const struct once once = {"k", {1}};
    struct cause cause = fixture_cause(T0 + 2000);
    const char *id = fixture_agent("web1", "prod"), *token;
    struct agent agent;
    cause.once = &once;
    beat_of(id, "a", T0 + 1000);
    for (int i = 0; i < 2; i++)
        assert_int_equal(
            agent_token_begin(fixture_db, &cause, "", id, false, fixture_arena, &agent, &token, &why),
            CODE_FAILED_PRECONDITION);
}

static void an_operators_safe_mode_outlives_what_the_agent_says(void **state)
{
    (void)state;
    const struct cause cause = fixture_cause(T0 + 2000);
    const char *id = fixture_agent("web1", "prod");
    struct agent agent;
    beat_of(id, "a", T0 + 1000);
    assert_int_equal(agent_set_safe_mode(fixture_db, &cause, "", id, true, fixture_arena, &agent, &why),
                     CODE_OK);
    assert_int_equal(agent.status, AGENT_SAFE_MODE);
    assert_string_equal(agent_reason(&agent), "OPERATOR");
    int64_t version = agent.version;
    beat_of(id, "a", T0 + 3000);
    assert_int_equal(fixture_get(id).status, AGENT_SAFE_MODE);
    assert_int_equal(fixture_get(id).version, version);
    assert_int_equal(
        agent_set_safe_mode(fixture_db, &cause, "env=test", id, false, fixture_arena, &agent, &why),
        CODE_NOT_FOUND);
    assert_int_equal(agent_set_safe_mode(fixture_db, &cause, "", id, false, fixture_arena, &agent, &why),
                     CODE_OK);
    assert_int_equal(agent.status, AGENT_ONLINE);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup(name, fixture_reset)
    const struct CMUnitTest tests[] = {
        T(two_instances_that_take_turns_are_a_clone),
        T(restarts_are_no_clone),
        T(what_an_ended_process_said_may_come_late),
        T(turns_that_are_far_apart_do_not_add_up),
        T(an_identity_below_the_confirmed_one_is_a_clone),
        T(only_a_fresh_token_ends_a_clone_and_former_installations_are_none),
        T(turns_are_counted_anew_after_a_fresh_token),
        T(a_second_key_is_an_operators_to_decide),
        T(a_revoked_agent_comes_back_with_a_fresh_token_alone),
        T(who_said_farewell_is_over_until_a_fresh_token),
        T(a_former_installation_that_renewed_is_no_clone),
        T(who_said_farewell_may_be_revoked),
        T(a_fresh_token_does_not_enable_what_an_operator_disabled),
        T(a_token_for_a_living_agent_wants_force_and_changes_nothing_yet),
        T(a_token_that_is_asked_for_again_is_the_same_whatever_became_of_the_agent),
        T(a_token_that_was_refused_may_be_asked_for_again),
        T(an_operators_safe_mode_outlives_what_the_agent_says),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
