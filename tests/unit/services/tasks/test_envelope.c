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

static void sealer_is_reused_until_the_certificate_changes(void **state)
{
    (void)state;
    struct sealer *first = NULL, *second = NULL, *third = NULL;
    assert_ok(sealer_new(app.signer, FIXTURE_NOW, &first, &st));
    assert_ok(sealer_new(app.signer, FIXTURE_NOW, &second, &st)); /* at the same time: another */
    assert_ptr_not_equal(first, second);
    sealer_free(second);
    assert_ok(sealer_new(app.signer, FIXTURE_NOW, &third, &st));
    assert_ptr_equal(third, second);
    sealer_free(third);

    AUTO_KEY struct key *key = NULL;
    struct fixture_agent a = fixture_agent(AGENT_A);
    AUTO_DER_LIST struct der_list chain = {.n = 1};
    key = TAKE(a.key);
    chain.item[0] = a.certificate;
    a.certificate = (struct der){0};
    assert_ok(envelope_signer_set(app.signer, &key, &chain, &st));
    sealer_free(first); /* of the old certificate: not kept */
    assert_ok(sealer_new(app.signer, FIXTURE_NOW, &third, &st));
    struct bytes sealed;
    struct task task = {.spec = {(const uint8_t *)"", 0}, .id = AGENT_B, .agent_id = AGENT_A};
    struct order order = {.task = &task};
    AUTO_DER struct der claimed = {0};
    assert_ok(sealer_seal(third, &order, der_bytes(&chain.item[0]), arena, &sealed, &st));
    assert_ok(cms_claimed_signer(sealed, &claimed, &st));
    assert_int_equal(claimed.len, chain.item[0].len);
    assert_memory_equal(claimed.data, chain.item[0].data, claimed.len);
    sealer_free(third);
    fixture_agent_free(&a);
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
        T(sealer_is_reused_until_the_certificate_changes),
        T(signer_without_certificate_is_due_and_not_ready),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
