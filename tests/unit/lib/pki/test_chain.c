/* Chains: order and verification, purpose by purpose. */
#include "fixture.h"

#define NOW ((int64_t)1795478400000) /* 2026-11-24T00:00:00Z */

static int setup(void **state)
{
    struct pki *pki = calloc(1, sizeof(*pki));
    assert_non_null(pki);
    pki_init(pki, NOW);
    *state = pki;
    return 0;
}

static int teardown(void **state)
{
    pki_done(*state);
    free(*state);
    return 0;
}

static enum code verify(struct pki *pki, struct entity *entity, struct ca *ca, enum pki_purpose purpose,
                        int64_t at_ms, struct status *st)
{
    return chain_verify(der_bytes(&entity->cert), &ca->chain, &pki->roots, purpose, at_ms, st);
}

static void each_purpose_verifies_under_its_own_ca(void **state)
{
    struct pki *pki = *state;
    const struct {
        struct ca *ca;
        enum pki_purpose purpose;
        const char *kind;
    } cases[] = {
        {&pki->agents, PURPOSE_AGENT_IDENTITY, "agent"}, {&pki->agents, PURPOSE_AGENT_TASK, "agent"},
        {&pki->services, PURPOSE_SERVICE, "service"},    {&pki->envelopes, PURPOSE_ENVELOPE, "service"},
        {&pki->managed, PURPOSE_TLS_SERVER, "service"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct status st;
        struct entity entity;
        entity_init(&entity, cases[i].ca, cases[i].purpose, cases[i].kind, "x", NOW);
        assert_ok(verify(pki, &entity, cases[i].ca, cases[i].purpose, NOW, &st), &st);
        assert_ok(verify(pki, &entity, cases[i].ca, PURPOSE_ANY, NOW, &st), &st);
        /* … and for no other purpose. */
        for (enum pki_purpose other = PURPOSE_TLS_SERVER; other <= PURPOSE_ENVELOPE; other++) {
            bool both = cases[i].purpose == PURPOSE_SERVICE && other == PURPOSE_TLS_SERVER;
            if (other != cases[i].purpose && !both)
                assert_code(CODE_UNAUTHENTICATED, verify(pki, &entity, cases[i].ca, other, NOW, &st), &st);
        }
        entity_done(&entity);
    }
}

/* The CA for managed certificates, taken over, cannot make agents or services. */
static void ca_cannot_issue_beyond_its_own_purpose(void **state)
{
    struct pki *pki = *state;
    const struct {
        struct ca *ca;
        enum pki_purpose purpose;
    } cases[] = {
        {&pki->managed, PURPOSE_AGENT_TASK}, {&pki->managed, PURPOSE_SERVICE},
        {&pki->agents, PURPOSE_SERVICE},     {&pki->agents, PURPOSE_ENVELOPE},
        {&pki->services, PURPOSE_ENVELOPE},  {&pki->agents, PURPOSE_TLS_SERVER},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct status st;
        struct entity entity;
        entity_init(&entity, cases[i].ca, cases[i].purpose, "service", "x", NOW);
        assert_code(CODE_UNAUTHENTICATED, verify(pki, &entity, cases[i].ca, cases[i].purpose, NOW, &st), &st);
        entity_done(&entity);
    }
}

static void time_is_checked_to_the_second(void **state)
{
    struct pki *pki = *state;
    struct status st;
    struct entity entity;
    entity_init(&entity, &pki->agents, PURPOSE_AGENT_TASK, "agent", "7", NOW);
    int64_t from = NOW - HOUR_MS;
    int64_t until = NOW + 30 * DAY_MS;
    assert_ok(verify(pki, &entity, &pki->agents, PURPOSE_AGENT_TASK, from, &st), &st);
    assert_ok(verify(pki, &entity, &pki->agents, PURPOSE_AGENT_TASK, until - 1, &st), &st);
    assert_code(CODE_UNAUTHENTICATED, verify(pki, &entity, &pki->agents, PURPOSE_AGENT_TASK, from - 1, &st),
                &st);
    assert_says(&st, "not valid before 2026-11-23T23:00:00.000Z, subject CN=7");
    assert_code(CODE_UNAUTHENTICATED, verify(pki, &entity, &pki->agents, PURPOSE_AGENT_TASK, until, &st),
                &st);
    assert_says(&st, "expired on 2026-12-24T00:00:00.000Z, subject CN=7");
    entity_done(&entity);
}

static void missing_intermediate_is_named(void **state)
{
    struct pki *pki = *state;
    struct status st;
    struct entity entity;
    entity_init(&entity, &pki->agents, PURPOSE_AGENT_TASK, "agent", "7", NOW);
    assert_code(CODE_UNAUTHENTICATED,
                chain_verify(der_bytes(&entity.cert), NULL, &pki->roots, PURPOSE_AGENT_TASK, NOW, &st), &st);
    assert_says(&st, "unable to get local issuer certificate at depth 0, subject CN=7");
    entity_done(&entity);
}

static void leaf_or_intermediate_is_no_trust_anchor(void **state)
{
    struct pki *pki = *state;
    struct status st;
    struct entity entity;
    entity_init(&entity, &pki->agents, PURPOSE_AGENT_TASK, "agent", "7", NOW);
    assert_code(CODE_UNAUTHENTICATED,
                chain_verify(der_bytes(&entity.cert), NULL, &pki->agents.chain, PURPOSE_AGENT_TASK, NOW, &st),
                &st);
    const struct der_list none = {0};
    assert_code(
        CODE_UNAUTHENTICATED,
        chain_verify(der_bytes(&entity.cert), &pki->agents.chain, &none, PURPOSE_AGENT_TASK, NOW, &st), &st);
    entity_done(&entity);
}

/* A root of the same name with another key: the names fit, the signatures do not. */
static void same_name_with_another_key_is_refused(void **state)
{
    struct pki *pki = *state;
    struct status st;
    struct pki impostor;
    struct entity entity;
    pki_init(&impostor, NOW);
    entity_init(&entity, &impostor.agents, PURPOSE_AGENT_TASK, "agent", "7", NOW);
    assert_code(CODE_UNAUTHENTICATED, verify(pki, &entity, &impostor.agents, PURPOSE_AGENT_TASK, NOW, &st),
                &st);
    assert_code(CODE_UNAUTHENTICATED, verify(pki, &entity, &pki->agents, PURPOSE_AGENT_TASK, NOW, &st), &st);
    entity_done(&entity);
    pki_done(&impostor);
}

static void entity_without_exactly_one_spiffe_id_is_refused(void **state)
{
    struct pki *pki = *state;
    char one[] = "spiffe://test.example/agent/1";
    char two[] = "spiffe://test.example/agent/2";
    char web[] = "https://test.example/agent/1";
    const struct pki_names cases[] = {
        {.n_uri = 0},
        {.uri = {one, two}, .n_uri = 2},
        {.uri = {web}, .n_uri = 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct status st;
        AUTO_KEY struct key *key = NULL;
        AUTO_DER struct der spki = {0};
        AUTO_DER struct der cert = {0};
        assert_ok(key_generate(KEY_EC_P256, &key, &st), &st);
        assert_ok(key_spki(key, &spki, &st), &st);
        const struct cert_request req = {.spki = der_bytes(&spki),
                                         .common_name = "7",
                                         .names = &cases[i],
                                         .purpose = PURPOSE_AGENT_TASK,
                                         .not_before_ms = NOW,
                                         .not_after_ms = NOW + DAY_MS};
        assert_ok(issuer_sign(pki->agents.issuer, &req, &cert, &st), &st);
        assert_code(
            CODE_UNAUTHENTICATED,
            chain_verify(der_bytes(&cert), &pki->agents.chain, &pki->roots, PURPOSE_AGENT_TASK, NOW, &st),
            &st);
        assert_int_equal(st.code, CODE_UNAUTHENTICATED);
    }
}

static void ca_certificate_is_no_end_entity(void **state)
{
    struct pki *pki = *state;
    struct status st;
    assert_code(CODE_UNAUTHENTICATED,
                chain_verify(der_bytes(&pki->services.cert), NULL, &pki->roots, PURPOSE_SERVICE, NOW, &st),
                &st);
}

static void garbage_is_an_invalid_argument(void **state)
{
    struct pki *pki = *state;
    struct status st;
    AUTO_DER_LIST struct der_list bad = {0};
    assert_ok(der_list_add(&bad, text_bytes("x"), &st), &st);
    assert_code(CODE_INVALID_ARGUMENT,
                chain_verify(text_bytes("x"), NULL, &pki->roots, PURPOSE_ANY, NOW, &st), &st);
    assert_code(CODE_INVALID_ARGUMENT,
                chain_verify(der_bytes(&pki->agents.cert), &bad, &pki->roots, PURPOSE_ANY, NOW, &st), &st);
    assert_says(&st, "intermediates: certificate 1 of 1");
    assert_code(CODE_INVALID_ARGUMENT,
                chain_verify(der_bytes(&pki->agents.cert), NULL, &bad, PURPOSE_ANY, NOW, &st), &st);
}

static void any_order_becomes_leaf_first_without_root(void **state)
{
    struct pki *pki = *state;
    struct status st;
    struct entity entity;
    entity_init(&entity, &pki->agents, PURPOSE_AGENT_TASK, "agent", "7", NOW);
    const struct der *parts[] = {&entity.cert, &pki->agents.cert, &pki->root.cert};
    static const unsigned orders[][4] = {{0, 1, 2, 1}, {2, 1, 0, 0}, {1, 0, 2, 2}, {2, 0, 1, 0}};
    for (size_t i = 0; i < ARRAY_LEN(orders); i++) {
        AUTO_DER_LIST struct der_list mixed = {0};
        AUTO_DER_LIST struct der_list ordered = {0};
        for (size_t j = 0; j < 4; j++) /* one of them twice */
            assert_ok(der_list_add(&mixed, der_bytes(parts[orders[i][j]]), &st), &st);
        assert_ok(chain_order(&mixed, &ordered, &st), &st);
        assert_int_equal(ordered.n, 2);
        assert_int_equal(ordered.item[0].len, entity.cert.len);
        assert_memory_equal(ordered.item[0].data, entity.cert.data, entity.cert.len);
        assert_memory_equal(ordered.item[1].data, pki->agents.cert.data, pki->agents.cert.len);
    }
    entity_done(&entity);
}

static void lone_self_signed_certificate_is_its_own_chain(void **state)
{
    struct pki *pki = *state;
    struct status st;
    AUTO_DER_LIST struct der_list ordered = {0};
    assert_ok(chain_order(&pki->roots, &ordered, &st), &st);
    assert_int_equal(ordered.n, 1);
}

static void strangers_form_no_chain(void **state)
{
    struct pki *pki = *state;
    struct status st;
    struct entity a;
    struct entity b;
    entity_init(&a, &pki->agents, PURPOSE_AGENT_TASK, "agent", "a", NOW);
    entity_init(&b, &pki->agents, PURPOSE_AGENT_TASK, "agent", "b", NOW);
    AUTO_DER_LIST struct der_list two_leaves = {0};
    AUTO_DER_LIST struct der_list ordered = {0};
    assert_ok(der_list_add(&two_leaves, der_bytes(&a.cert), &st), &st);
    assert_ok(der_list_add(&two_leaves, der_bytes(&b.cert), &st), &st);
    assert_ok(der_list_add(&two_leaves, der_bytes(&pki->agents.cert), &st), &st);
    assert_code(CODE_INVALID_ARGUMENT, chain_order(&two_leaves, &ordered, &st), &st);
    const struct der_list none = {0};
    assert_code(CODE_INVALID_ARGUMENT, chain_order(&none, &ordered, &st), &st);
    assert_int_equal(ordered.n, 0);
    entity_done(&a);
    entity_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_purpose_verifies_under_its_own_ca),
        cmocka_unit_test(ca_cannot_issue_beyond_its_own_purpose),
        cmocka_unit_test(time_is_checked_to_the_second),
        cmocka_unit_test(missing_intermediate_is_named),
        cmocka_unit_test(leaf_or_intermediate_is_no_trust_anchor),
        cmocka_unit_test(same_name_with_another_key_is_refused),
        cmocka_unit_test(entity_without_exactly_one_spiffe_id_is_refused),
        cmocka_unit_test(ca_certificate_is_no_end_entity),
        cmocka_unit_test(garbage_is_an_invalid_argument),
        cmocka_unit_test(any_order_becomes_leaf_first_without_root),
        cmocka_unit_test(lone_self_signed_certificate_is_its_own_chain),
        cmocka_unit_test(strangers_form_no_chain),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
