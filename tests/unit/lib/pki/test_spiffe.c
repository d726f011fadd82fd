/* SPIFFE ids as text and in certificates. */
#include "fixture.h"

static void id_is_split_into_its_parts(void **state UNUSED)
{
    struct spiffe_id id;
    char text[400];
    assert_true(spiffe_parse("spiffe://clm.example/agent/0190a1b2-0000-7000-8000-000000000001", &id));
    assert_string_equal(id.trust_domain, "clm.example");
    assert_string_equal(id.kind, "agent");
    assert_string_equal(id.name, "0190a1b2-0000-7000-8000-000000000001");
    spiffe_format(id.trust_domain, id.kind, id.name, text);
    assert_string_equal(text, "spiffe://clm.example/agent/0190a1b2-0000-7000-8000-000000000001");
}

static void what_is_no_id_of_that_form_is_refused(void **state UNUSED)
{
    static const char *const bad[] = {
        "",
        "spiffe://",
        "spiffe://x",
        "spiffe://x/agent",
        "spiffe://x/agent/",
        "spiffe:///agent/1",
        "spiffe://x//1",
        "spiffe://x/agent/1/2",
        "spiffe://x/agent/1?q",
        "spiffe://x/agent/1#f",
        "spiffe://x/agent/%31",
        "spiffe://x/agent/..",
        "spiffe://x/./1",
        "spiffe://X/agent/1",
        "spiffe://x:1/agent/1",
        "spiffe://u@x/agent/1",
        "SPIFFE://x/agent/1",
        "https://x/agent/1",
        " spiffe://x/agent/1",
        "spiffe://x/agent/1 ",
        "spiffe://x/a-kind-that-is-much-too-long/1",
        "spiffe://x/agent/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct spiffe_id id;
        if (spiffe_parse(bad[i], &id))
            fail_msg("accepted \"%s\"", bad[i]);
    }
}

static void certificate_must_have_exactly_one(void **state UNUSED)
{
    struct status st;
    struct pki pki;
    struct entity agent;
    struct spiffe_id id;
    pki_init(&pki, (int64_t)1795478400000);
    entity_init(&agent, &pki.agents, PURPOSE_AGENT_TASK, "agent", "7", pki.now_ms);
    assert_ok(cert_spiffe(der_bytes(&agent.cert), &id, &st), &st);
    assert_string_equal(id.kind, "agent");
    assert_string_equal(id.name, "7");
    assert_string_equal(id.trust_domain, "test.example");
    assert_code(CODE_INVALID_ARGUMENT, cert_spiffe(der_bytes(&pki.root.cert), &id, &st), &st);
    assert_code(CODE_INVALID_ARGUMENT, cert_spiffe(text_bytes("x"), &id, &st), &st);
    entity_done(&agent);
    pki_done(&pki);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(id_is_split_into_its_parts),
        cmocka_unit_test(what_is_no_id_of_that_form_is_refused),
        cmocka_unit_test(certificate_must_have_exactly_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
