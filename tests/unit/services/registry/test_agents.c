/* Registration, disabling, queries on a real PostgreSQL. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "fixture.h"

static enum code reg(const char *hostname, const char *key, const char *selector, struct agent *ret,
                     bool *needs_token)
{
    const struct label labels[] = {{"env", "prod"}, {"team", "pki"}};
    const struct registration in = {.hostname = hostname,
                                    .labels = labels,
                                    .n_labels = 2,
                                    .scope = {(const uint8_t *)"scope", 5},
                                    .idempotency_key = key};
    const struct cause cause = fixture_cause(T0);
    return agent_register(fixture_db, &cause, selector, &in, fixture_arena, ret, needs_token, NULL);
}

static void registered_agent_is_bootstrapping_and_told(void **state)
{
    (void)state;
    struct agent agent;
    bool needs_token;
    assert_int_equal(reg("Web1.Example", NULL, "", &agent, &needs_token), CODE_OK);
    assert_true(needs_token);
    struct agent stored = fixture_get(agent.id);
    assert_string_equal(stored.hostname, "web1.example");
    assert_int_equal(stored.status, AGENT_BOOTSTRAPPING);
    assert_int_equal(stored.version, 1);
    assert_int_equal(stored.n_labels, 2);
    assert_string_equal(stored.labels[0].name, "env");
    assert_string_equal(stored.labels[0].value, "prod");
    assert_memory_equal(stored.scope.data, "scope", 5);
    assert_null(stored.identity_fingerprint);
    assert_int_equal(
        fixture_number("SELECT count(*) FROM outbox WHERE subject = 'clm.event.registry.agent.registered' "
                       "AND body = 'web1.example v1 BOOTSTRAPPING'::bytea"),
        1);
    assert_int_equal(fixture_number("SELECT count(*) FROM activity WHERE event = 'agent.registered'"), 1);
}

static void same_idempotency_key_gives_the_same_agent(void **state)
{
    (void)state;
    struct agent first, second, other;
    bool needs_token;
    assert_int_equal(reg("web1", "k1", "", &first, &needs_token), CODE_OK);
    assert_int_equal(reg("web1", "k1", "", &second, &needs_token), CODE_OK);
    assert_string_equal(first.id, second.id);
    assert_true(needs_token);
    assert_int_equal(reg("web2", "k1", "", &other, &needs_token), CODE_ALREADY_EXISTS);
    assert_int_equal(fixture_number("SELECT count(*) FROM agents"), 1);
    fixture_beat(first.id, T0 + 1000);
    assert_int_equal(reg("web1", "k1", "", &second, &needs_token), CODE_OK);
    assert_false(needs_token);
}

static void grant_with_a_selector_registers_only_within_it(void **state)
{
    (void)state;
    struct agent agent;
    bool needs_token;
    assert_int_equal(reg("web1", NULL, "env=test", &agent, &needs_token), CODE_PERMISSION_DENIED);
    assert_int_equal(reg("web1", NULL, "env=prod", &agent, &needs_token), CODE_OK);
}

static void disabling_wins_over_everything_and_enabling_gives_the_true_status_back(void **state)
{
    (void)state;
    const char *id = fixture_agent("web1", "prod");
    fixture_beat(id, T0 + 1000);
    const struct cause cause = fixture_cause(T0 + 2000);
    struct agent agent;
    assert_int_equal(agent_disable(fixture_db, &cause, "", id, "stolen", fixture_arena, &agent, NULL),
                     CODE_OK);
    assert_int_equal(agent.status, AGENT_DISABLED);
    assert_int_equal(agent.version, 3);
    assert_string_equal(agent_reason(&agent), "stolen");
    assert_int_equal(agent_disable(fixture_db, &cause, "", id, "stolen", fixture_arena, &agent, NULL),
                     CODE_OK);
    assert_int_equal(agent.version, 3);
    fixture_beat(id, T0 + 3000);
    assert_int_equal(fixture_get(id).status, AGENT_DISABLED);
    assert_int_equal(agent_enable(fixture_db, &cause, "", id, fixture_arena, &agent, NULL), CODE_OK);
    assert_int_equal(agent.status, AGENT_ONLINE);
    assert_int_equal(fixture_get(id).version, agent.version);
}

static void revoked_agent_cannot_be_enabled(void **state)
{
    (void)state;
    const char *id = fixture_agent("web1", "prod");
    const struct cause cause = fixture_cause(T0 + 2000);
    struct agent agent;
    assert_int_equal(agent_disable(fixture_db, &cause, "", id, "revoked", fixture_arena, &agent, NULL),
                     CODE_OK);
    assert_int_equal(agent_disable(fixture_db, &cause, "", id, "something else", fixture_arena, &agent, NULL),
                     CODE_OK);
    assert_string_equal(agent.disabled_reason, "revoked");
    assert_int_equal(agent_enable(fixture_db, &cause, "", id, fixture_arena, &agent, NULL),
                     CODE_FAILED_PRECONDITION);
    assert_int_equal(fixture_get(id).status, AGENT_DISABLED);
}

static void words_that_mean_something_are_no_reason_of_an_operators(void **state)
{
    (void)state;
    struct status st = {0};
    static const char *const taken[] = {"revoked", "farewell", "deleted"}, *const free_[] = {"", "revoked it",
                                                                                             "stolen"};
    for (size_t i = 0; i < ARRAY_LEN(taken); i++) {
        assert_int_equal(disabled_reason_check(taken[i], &st), CODE_INVALID_ARGUMENT);
        assert_int_equal(disabled_reason_check(free_[i], &st), CODE_OK);
    }
}

static void agents_outside_the_selector_are_not_there(void **state)
{
    (void)state;
    const char *id = fixture_agent("web1", "prod");
    const struct cause cause = fixture_cause(T0);
    struct agent agent;
    assert_int_equal(agent_get(fixture_db, "env=test", id, fixture_arena, &agent, NULL), CODE_NOT_FOUND);
    assert_int_equal(agent_disable(fixture_db, &cause, "env=test", id, "", fixture_arena, &agent, NULL),
                     CODE_NOT_FOUND);
    assert_int_equal(agent_get(fixture_db, "env=prod", id, fixture_arena, &agent, NULL), CODE_OK);
    assert_int_equal(
        agent_get(fixture_db, "", "0198c0de-0000-7000-8000-00000000dead", fixture_arena, &agent, NULL),
        CODE_NOT_FOUND);
}

static size_t count(const struct agent_filter *filter)
{
    struct agent *agents;
    size_t n;
    assert_int_equal(agents_list(fixture_db, filter, NULL, 100, fixture_arena, &agents, &n, NULL), CODE_OK);
    return n;
}

static void lists_are_filtered_by_search_status_and_labels(void **state)
{
    (void)state;
    const char *a = fixture_agent("web1.prod", "prod"), *b = fixture_agent("web2.test", "test");
    (void)fixture_agent("db_1.test", "test");
    fixture_beat(a, T0);
    assert_int_equal(count(&(struct agent_filter){0}), 3);
    assert_int_equal(count(&(struct agent_filter){.search = "WEB"}), 2);
    assert_int_equal(count(&(struct agent_filter){.search = "B_1"}), 1);
    assert_int_equal(count(&(struct agent_filter){.search = "%%%"}), 0);
    assert_int_equal(count(&(struct agent_filter){.search = "eb2.te"}), 1);
    assert_int_equal(count(&(struct agent_filter){.search = "we"}), 2);
    assert_int_equal(count(&(struct agent_filter){.search = "eb"}), 0);
    assert_int_equal(count(&(struct agent_filter){.search = b}), 1);
    char beginning[10] = "", shout[10] = "";
    memcpy(beginning, b, 9);
    for (size_t i = 0; i < 9; i++)
        shout[i] = b[i] >= 'a' ? (char)(b[i] - 'a' + 'A') : b[i];
    assert_true(count(&(struct agent_filter){.search = beginning}) >= 1);
    assert_int_equal(count(&(struct agent_filter){.search = shout}),
                     count(&(struct agent_filter){.search = beginning}));
    assert_int_equal(count(&(struct agent_filter){.search = "ffffffff"}), 0);
    assert_int_equal(count(&(struct agent_filter){.search = "0123456789abcdef0123456789abcdef0"}), 0);
    assert_int_equal(count(&(struct agent_filter){.status_bits = 1u << AGENT_ONLINE}), 1);
    assert_int_equal(
        count(&(struct agent_filter){.status_bits = 1u << AGENT_ONLINE | 1u << AGENT_BOOTSTRAPPING}), 3);
    const char *test[] = {"env=test"}, *has[] = {"env"}, *none[] = {"zone"},
               *both[] = {"env=test", "env=prod"};
    assert_int_equal(count(&(struct agent_filter){.labels = test, .n_labels = 1}), 2);
    assert_int_equal(count(&(struct agent_filter){.labels = has, .n_labels = 1}), 3);
    assert_int_equal(count(&(struct agent_filter){.labels = none, .n_labels = 1}), 0);
    assert_int_equal(count(&(struct agent_filter){.labels = both, .n_labels = 2}), 0);
    assert_int_equal(count(&(struct agent_filter){.selector = "env=prod"}), 1);
}

static enum code set_labels(const char *selector, const char *id, int64_t if_version, struct label *labels,
                            size_t n, struct agent *ret)
{
    struct cause cause = fixture_cause(T0);
    cause.if_version = if_version;
    return agent_set_labels(fixture_db, &cause, selector, id, labels, n, fixture_arena, ret, NULL);
}

static void labels_are_replaced_within_the_grant(void **state)
{
    (void)state;
    const char *id = fixture_agent("web1", "prod");
    struct label prod[] = {{"env", "prod"}, {"team", "a"}}, test[] = {{"env", "test"}},
                 twice[] = {{"a", "1"}, {"a", "2"}}, bad[] = {{"a b", ""}};
    struct agent agent;
    assert_int_equal(set_labels("env=prod", id, 0, test, 1, &agent), CODE_PERMISSION_DENIED);
    assert_int_equal(set_labels("env=test", id, 0, test, 1, &agent), CODE_NOT_FOUND);
    assert_int_equal(set_labels("", id, 0, twice, 2, &agent), CODE_INVALID_ARGUMENT);
    assert_int_equal(set_labels("", id, 0, bad, 1, &agent), CODE_INVALID_ARGUMENT);
    assert_int_equal(set_labels("env=prod", id, 0, prod, 2, &agent), CODE_OK);
    int64_t version = agent.version;
    assert_int_equal(set_labels("", id, 0, prod, 2, &agent), CODE_OK);
    assert_int_equal(agent.version, version); /* nothing changed */
    assert_int_equal(set_labels("", id, version - 1, test, 1, &agent), CODE_ABORTED);
    assert_int_equal(fixture_get(id).n_labels, 2);
    assert_int_equal(set_labels("", id, version, test, 1, &agent), CODE_OK);
    assert_int_equal(agent.version, version + 1);
    assert_string_equal(fixture_get(id).labels[0].value, "test");
    assert_int_equal(set_labels("", id, 0, NULL, 0, &agent), CODE_OK);
    assert_int_equal(fixture_get(id).n_labels, 0);
}

static enum code widen(struct bytes now, void *arg, struct arena *arena, struct bytes *ret, struct status *st)
{
    assert_string_equal((const char *)arg, "arg");
    if (now.len > 2)
        return status_set(st, CODE_PERMISSION_DENIED, "no wider");
    uint8_t *next = arena_alloc(arena, now.len + 1);
    memset(next, 7, now.len + 1);
    *ret = (struct bytes){next, now.len + 1};
    return CODE_OK;
}

static void scope_follows_from_the_present_one(void **state)
{
    (void)state;
    const char *id = fixture_agent("web1", "prod");
    assert_int_equal(fixture_number("WITH u AS (UPDATE agents SET scope = '\\x0102' RETURNING 1) SELECT 1"),
                     1);
    char arg[] = "arg";
    const struct scope_change change = {widen, arg};
    const struct cause cause = fixture_cause(T0);
    struct agent agent;
    assert_int_equal(
        agent_set_scope(fixture_db, &cause, "env=test", id, &change, fixture_arena, &agent, NULL),
        CODE_NOT_FOUND);
    assert_int_equal(agent_set_scope(fixture_db, &cause, "", id, &change, fixture_arena, &agent, NULL),
                     CODE_OK);
    int64_t version = agent.version;
    assert_int_equal(agent_set_scope(fixture_db, &cause, "", id, &change, fixture_arena, &agent, NULL),
                     CODE_PERMISSION_DENIED);
    struct agent stored = fixture_get(id);
    assert_int_equal(stored.scope.len, 3);
    assert_int_equal(stored.version, version);
}

/* Every order, up and down, in pages of two, while names repeat and ends are missing. */
static void every_order_joins_its_pages(void **state)
{
    (void)state;
    for (int i = 0; i < 7; i++) {
        const char *id = fixture_agent(arena_printf(fixture_arena, "host%d", i / 2), "prod");
        if (i % 3 != 0) {
            const struct cause cause = fixture_cause(T0);
            assert_int_equal(agent_identity_issued(fixture_db, &cause, id, 0, "ff", T0 + 1000 * (i % 4),
                                                   fixture_arena, NULL),
                             CODE_OK);
        }
        if (i % 2)
            fixture_beat(id, T0 + i / 4);
    }
    for (int way = 0; way < 8; way++) {
        const struct agent_filter filter = {.sort = (enum agent_sort)(way / 2), .descending = way % 2};
        struct agent *all, *page;
        struct agent_place after = {0};
        size_t n_all, n, at = 0;
        assert_int_equal(agents_list(fixture_db, &filter, NULL, 100, fixture_arena, &all, &n_all, NULL),
                         CODE_OK);
        assert_int_equal(n_all, 7);
        do {
            assert_int_equal(agents_list(fixture_db, &filter, &after, 2, fixture_arena, &page, &n, NULL),
                             CODE_OK);
            for (size_t i = 0; i < n; i++)
                assert_string_equal(page[i].id, all[at++].id);
            if (n > 0)
                after = agent_place_of(&page[n - 1], filter.sort, fixture_arena);
        } while (n > 0);
        assert_int_equal(at, 7);
        for (size_t i = 1; i < 7 && filter.sort == AGENTS_BY_HOSTNAME; i++)
            assert_true(filter.descending ? strcmp(all[i - 1].hostname, all[i].hostname) >= 0
                                          : strcmp(all[i - 1].hostname, all[i].hostname) <= 0);
        for (size_t i = 1; i < 7 && filter.sort == AGENTS_BY_HEARTBEAT; i++)
            assert_true(filter.descending ? all[i - 1].last_heartbeat_at_ms >= all[i].last_heartbeat_at_ms
                                          : all[i - 1].last_heartbeat_at_ms <= all[i].last_heartbeat_at_ms);
    }
    assert_int_equal(count(&(struct agent_filter){.expires_before_ms = T0 + 1500}), 3);
    assert_int_equal(count(&(struct agent_filter){.version = "0.*"}), 0);
}

static void pages_join_without_gap_or_repetition(void **state)
{
    (void)state;
    for (int i = 0; i < 7; i++)
        (void)fixture_agent(arena_printf(fixture_arena, "host%d", i), "prod");
    char seen[64] = "";
    const char *after = NULL;
    size_t n = 3, total = 0;
    while (n == 3) {
        struct agent *agents;
        assert_int_equal(agents_page(fixture_db, after, 3, fixture_arena, &agents, &n, NULL), CODE_OK);
        for (size_t i = 0; i < n; i++) {
            assert_true(strcmp(seen, agents[i].id) < 0);
            (void)snprintf(seen, sizeof(seen), "%s", agents[i].id);
            after = agents[i].id;
        }
        total += n;
    }
    assert_int_equal(total, 7);
}

static void identity_events_apply_in_any_order_and_often(void **state)
{
    (void)state;
    const char *id = fixture_agent("web1", "prod");
    const struct cause cause = fixture_cause(T0 + 1000);
    struct status st = {0};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(agent_identity_confirmed(fixture_db, &cause, id, 1, fixture_arena, &st), CODE_OK);
        assert_int_equal(
            agent_identity_issued(fixture_db, &cause, id, 1, "bb", T0 + 9000000, fixture_arena, &st),
            CODE_OK);
        assert_int_equal(
            agent_identity_issued(fixture_db, &cause, id, 0, "aa", T0 + 1000000, fixture_arena, &st),
            CODE_OK);
        assert_int_equal(agent_identity_confirmed(fixture_db, &cause, id, 0, fixture_arena, &st), CODE_OK);
    }
    struct agent agent = fixture_get(id);
    assert_int_equal(agent.min_generation, 1);
    assert_string_equal(agent.identity_fingerprint, "bb");
    assert_int_equal(agent.identity_not_after_ms, T0 + 9000000);
    assert_int_equal(agent.version, 3);
    assert_int_equal(agent.status, AGENT_BOOTSTRAPPING);
}

#define T(name) cmocka_unit_test_setup(name, fixture_reset)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(registered_agent_is_bootstrapping_and_told),
        T(same_idempotency_key_gives_the_same_agent),
        T(grant_with_a_selector_registers_only_within_it),
        T(disabling_wins_over_everything_and_enabling_gives_the_true_status_back),
        T(revoked_agent_cannot_be_enabled),
        T(words_that_mean_something_are_no_reason_of_an_operators),
        T(agents_outside_the_selector_are_not_there),
        T(lists_are_filtered_by_search_status_and_labels),
        T(labels_are_replaced_within_the_grant),
        T(scope_follows_from_the_present_one),
        T(every_order_joins_its_pages),
        T(pages_join_without_gap_or_repetition),
        T(identity_events_apply_in_any_order_and_often),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
