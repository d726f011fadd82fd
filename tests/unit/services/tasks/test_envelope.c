#include "fixture.h"

static void certificate_is_due_at_half_its_life_and_useless_after_its_end(void **state)
{
    (void)state;
    /* the fixture's: from FIXTURE_NOW - 5 min to FIXTURE_NOW + 24 h */
    int64_t begin = FIXTURE_NOW - 300000, end = FIXTURE_NOW + 86400000, half = begin + (end - begin) / 2;
    assert_false(envelope_signer_is_due(app.signer, half - 1));
    assert_true(envelope_signer_is_due(app.signer, half));
    assert_true(envelope_signer_ready(app.signer, end - 1000));
    assert_false(envelope_signer_ready(app.signer, end));
    struct sealer *sealer = NULL;
    assert_int_equal(sealer_new(app.signer, end, &sealer, &st), CODE_UNAVAILABLE);
    assert_null(sealer);
}

static void certificate_for_another_key_is_refused(void **state)
{
    (void)state;
    struct fixture_agent a = fixture_agent(AGENT_A), b = fixture_agent(AGENT_B);
    AUTO_DER_LIST struct der_list chain = {.n = 1};
    chain.item[0] = (struct der){b.certificate.data, b.certificate.len};
    b.certificate = (struct der){0};
    assert_int_equal(envelope_signer_set(app.signer, &a.key, &chain, &st), CODE_INVALID_ARGUMENT);
    assert_non_null(a.key);
    struct der_list none = {0};
    assert_int_equal(envelope_signer_set(app.signer, &a.key, &none, &st), CODE_INVALID_ARGUMENT);
    assert_true(envelope_signer_ready(app.signer, FIXTURE_NOW));
    fixture_agent_free(&a);
    fixture_agent_free(&b);
}

static void signer_without_certificate_is_due_and_not_ready(void **state)
{
    (void)state;
    struct envelope_signer *signer = envelope_signer_new();
    assert_true(envelope_signer_is_due(signer, FIXTURE_NOW));
    assert_false(envelope_signer_ready(signer, FIXTURE_NOW));
    envelope_signer_free(signer);
}

#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(certificate_is_due_at_half_its_life_and_useless_after_its_end),
        T(certificate_for_another_key_is_refused),
        T(signer_without_certificate_is_due_and_not_ready),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
