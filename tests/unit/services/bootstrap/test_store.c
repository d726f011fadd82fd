/* SQL that no use case's test looks at closely: pages of identities, the projection's versions, the CA's row.
 */
#include "cmocka_all.h"

#include "base/clock.h"
#include "identities.h"
#include "projection.h"
#include "services/bootstrap/fixture.h"

static struct request *req;

static int setup(void **state)
{
    (void)state;
    req = fixture_request_new();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_request_free(req);
    return 0;
}

static void identities_come_in_pages_without_gap_or_repetition(void **state)
{
    (void)state;
    char ids[5][UUID_TEXT_SIZE];
    struct identity_page page;
    const char *after = "";
    size_t seen = 0, pages = 0;

    for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
        AUTO_AGENT struct agent agent;
        agent_init(&agent);
        fixture_confirmed_agent(req, &agent, NULL);
        memcpy(ids[i], agent.id, UUID_TEXT_SIZE); /* UUIDv7: in ascending order */
    }
    do {
        assert_ok(identities_list(req, after, 2, &page, &why));
        for (size_t i = 0; i < page.n; i++) {
            assert_string_equal(page.rows[i].agent_id, ids[seen++]);
            assert_true(page.rows[i].confirmed);
            assert_int_equal(page.rows[i].version, 2);
            after = page.rows[i].agent_id;
        }
        pages++;
    } while (!page.last);
    assert_int_equal(seen, ARRAY_LEN(ids));
    assert_int_equal(pages, 3);
    assert_ok(identities_list(req, after, 2, &page, &why));
    assert_int_equal(page.n, 0);
    assert_true(page.last);
    assert_int_equal(identities_list(req, "nobody", 2, &page, &why), CODE_INVALID_ARGUMENT);
}

static void an_agent_between_generations_is_listed_with_both(void **state)
{
    (void)state;
    AUTO_AGENT struct agent agent;
    AUTO_AGENT struct agent next;
    char secret[64], before[UUID_TEXT_SIZE];
    struct identity_page page;

    agent_init(&agent);
    agent_init(&next);
    uuid_v7(before);
    fixture_confirmed_agent(req, &agent, NULL);
    fixture_token(req, agent.id, NULL, 0, secret, agent.id);
    assert_ok(fixture_enrol(req, &next, secret, &why));
    assert_ok(identities_list(req, before, 1, &page, &why));
    assert_int_equal(page.n, 2);
    assert_true(page.last);
    const struct identity_row *rows = page.rows;
    assert_string_equal(rows[0].agent_id, agent.id);
    assert_string_equal(rows[1].agent_id, agent.id);
    assert_int_equal(rows[0].generation, 0);
    assert_true(rows[0].confirmed);
    assert_int_equal(rows[1].generation, 1);
    assert_false(rows[1].confirmed);
    assert_int_equal(rows[1].task_certificate.len, next.task_cert.len);
    assert_memory_equal(rows[1].task_certificate.data, next.task_cert.data, next.task_cert.len);
}

static void apply(const char *id, uint64_t version, const char *name, bool disabled)
{
    static const int64_t operations[] = {1, 2, 77};
    const struct scope_row row = {.agent_id = id,
                                  .version = version,
                                  .scope_version = version,
                                  .operations = operations,
                                  .n_operations = 3,
                                  .dns_names = &name,
                                  .n_dns_names = 1,
                                  .disabled = disabled,
                                  .column = disabled ? SAFE_DISABLED : SAFE_ONLINE};
    assert_ok(projection_apply(req, &row, false, &why));
}

static void the_projection_follows_greater_versions_only(void **state)
{
    (void)state;
    char id[UUID_TEXT_SIZE];
    struct agent_scope scope;
    uuid_v7(id);
    assert_int_equal(store_scope_get(req->db, req->arena, id, &scope, &why), CODE_NOT_FOUND);
    apply(id, 3, "three.example", false);
    apply(id, 2, "two.example", true);
    apply(id, 3, "again.example", true);
    assert_ok(store_scope_get(req->db, req->arena, id, &scope, &why));
    assert_int_equal(scope.n_dns_names, 1);
    assert_string_equal(scope.dns_names[0], "three.example");
    assert_int_equal(scope.operations,
                     1u << 1 | 1u << 2); /* an operation that does not exist widens nothing */
    assert_int_equal(scope.column, SAFE_ONLINE);
    apply(id, 4, "four.example\nfive.example", true);
    assert_ok(store_scope_get(req->db, req->arena, id, &scope, &why));
    assert_int_equal(scope.n_dns_names, 1); /* one odd name stays one odd name */
    assert_int_equal(scope.column, SAFE_DISABLED);
}

static void a_tokens_scope_neither_enables_nor_overrules_a_newer_one(void **state)
{
    (void)state;
    char id[UUID_TEXT_SIZE];
    struct agent_scope scope;
    const char *name = "old.example";
    uuid_v7(id);
    apply(id, 9, "new.example", true);
    struct scope_row seed = {.agent_id = id, .scope_version = 8, .dns_names = &name, .n_dns_names = 1};
    assert_ok(store_scope_seed(req->db, &seed, &why));
    assert_ok(store_scope_get(req->db, req->arena, id, &scope, &why));
    assert_string_equal(scope.dns_names[0], "new.example");
    seed.scope_version = 10;
    assert_ok(store_scope_seed(req->db, &seed, &why));
    assert_ok(store_scope_get(req->db, req->arena, id, &scope, &why));
    assert_string_equal(scope.dns_names[0], "old.example");
    assert_int_equal(scope.column, SAFE_DISABLED);
}

static void an_event_without_id_or_version_is_not_applied(void **state)
{
    (void)state;
    struct scope_row row = {.agent_id = "someone", .version = 1};
    assert_int_equal(projection_apply(req, &row, false, &why), CODE_INVALID_ARGUMENT);
    row.agent_id = "019abcde-0000-7000-8000-000000000001";
    row.version = 0;
    assert_int_equal(projection_apply(req, &row, false, &why), CODE_INVALID_ARGUMENT);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(identities_come_in_pages_without_gap_or_repetition),
        TEST(an_agent_between_generations_is_listed_with_both),
        TEST(the_projection_follows_greater_versions_only),
        TEST(a_tokens_scope_neither_enables_nor_overrules_a_newer_one),
        TEST(an_event_without_id_or_version_is_not_applied),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
