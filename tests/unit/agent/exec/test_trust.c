/* Certificates that came over the wire: a fake gateway or net process swaps one, and exec does not believe
 * it. */
#include "agent/exec/trust.h"

#include "cmocka_all.h"
#include "pki_fixture.h"

struct fixture {
    struct test_ca ca, other_ca;
    struct agent_state *state; /* with the task key */
    struct key *identity_key, *other_key;
    struct der identity_csr, task_csr;
    struct der identity, task; /* certificates */
    struct trust_bootstrap expected;
    Clm__BootstrapResponse answer;
    ProtobufCBinaryData identity_chain[2], task_chain[2], roots[2];
    struct status st;
    size_t root;
};

static ProtobufCBinaryData data_of(const struct der *der)
{
    return (ProtobufCBinaryData){der->len, der->data};
}

static void issue_agent(const struct test_ca *ca, enum pki_purpose purpose, const char *id,
                        const char *serial, const struct key *key, struct der *ret)
{
    struct test_leaf leaf = {
        .purpose = purpose, .spiffe_kind = "agent", .spiffe_name = id, .serial = serial, .for_key = key};
    der_done(ret);
    test_issue(ca, &leaf, ret);
}

static void answer_renew(struct fixture *f)
{
    f->identity_chain[0] = data_of(&f->identity);
    f->task_chain[0] = data_of(&f->task);
    f->roots[0] = data_of(&f->ca.cert);
    clm__bootstrap_response__init(&f->answer);
    f->answer.agent_id = (char *)(uintptr_t)TEST_AGENT_ID;
    f->answer.has_generation = 1;
    f->answer.trust_domain = (char *)(uintptr_t)TEST_DOMAIN;
    f->answer.n_identity_chain = f->answer.n_task_chain = f->answer.n_roots = 1;
    f->answer.identity_chain = f->identity_chain;
    f->answer.task_chain = f->task_chain;
    f->answer.roots = f->roots;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    test_ca_init(&f->ca, "Platform Root");
    test_ca_init(&f->other_ca, "Other Root");
    f->state = test_state(&f->ca);
    assert_int_equal(key_generate(KEY_EC_P256, &f->identity_key, &f->st), CODE_OK);
    assert_int_equal(key_generate(KEY_EC_P256, &f->other_key, &f->st), CODE_OK);
    f->identity_csr = test_csr(f->identity_key, NULL);
    f->task_csr = test_csr(f->state->task_key, NULL);
    issue_agent(&f->ca, PURPOSE_AGENT_IDENTITY, TEST_AGENT_ID, "0", f->identity_key, &f->identity);
    issue_agent(&f->ca, PURPOSE_AGENT_TASK, TEST_AGENT_ID, "0", f->state->task_key, &f->task);
    struct cert_info info;
    assert_int_equal(cert_read(der_bytes(&f->ca.cert), &info, &f->st), CODE_OK);
    f->expected = (struct trust_bootstrap){.identity_csr = der_bytes(&f->identity_csr),
                                           .task_csr = der_bytes(&f->task_csr),
                                           .now_ms = TEST_NOW_MS,
                                           .parser_uid = (uid_t)-1};
    assert_true(hex_decode(info.spki_sha256, f->expected.pin, SHA256_SIZE));
    cert_info_done(&info);
    answer_renew(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    test_ca_done(&f->ca);
    test_ca_done(&f->other_ca);
    test_state_free(f->state);
    key_free(f->identity_key);
    key_free(f->other_key);
    der_done(&f->identity_csr);
    der_done(&f->task_csr);
    der_done(&f->identity);
    der_done(&f->task);
    free(f);
    return 0;
}

static enum code check(struct fixture *f)
{
    f->st.msg[0] = '\0';
    return trust_check_bootstrap(&f->expected, &f->answer, &f->root, &f->st);
}

static void assert_refused(struct fixture *f, const char *part)
{
    assert_int_equal(check(f), CODE_PERMISSION_DENIED);
    if (!strstr(f->st.msg, part))
        fail_msg("\"%s\" does not say \"%s\"", f->st.msg, part);
}

static void the_platforms_answer_is_believed(void **state)
{
    struct fixture *f = *state;
    f->answer.n_roots = 2;
    f->roots[0] = data_of(&f->other_ca.cert);
    f->roots[1] = data_of(&f->ca.cert);
    if (check(f) != CODE_OK)
        fail_msg("%s", f->st.msg);
    assert_int_equal(f->root, 1);
}

static void a_root_that_the_token_does_not_pin_is_refused(void **state)
{
    struct fixture *f = *state;
    f->roots[0] = data_of(&f->other_ca.cert);
    assert_refused(f, "pins");
}

static void certificates_of_another_ca_are_refused(void **state)
{
    struct fixture *f = *state;
    issue_agent(&f->other_ca, PURPOSE_AGENT_IDENTITY, TEST_AGENT_ID, "0", f->identity_key, &f->identity);
    answer_renew(f);
    assert_refused(f, "identity certificate");
}

static void a_certificate_for_another_key_is_refused(void **state)
{
    struct fixture *f = *state;
    issue_agent(&f->ca, PURPOSE_AGENT_TASK, TEST_AGENT_ID, "0", f->other_key, &f->task);
    answer_renew(f);
    assert_refused(f, "another key");
}

static void a_certificate_for_another_agent_or_generation_is_refused(void **state)
{
    struct fixture *f = *state;
    issue_agent(&f->ca, PURPOSE_AGENT_TASK, TEST_OTHER_AGENT, "0", f->state->task_key, &f->task);
    answer_renew(f);
    assert_refused(f, "another agent");
    issue_agent(&f->ca, PURPOSE_AGENT_TASK, TEST_AGENT_ID, "1", f->state->task_key, &f->task);
    answer_renew(f);
    assert_refused(f, "generation");
}

static void swapped_purposes_are_refused(void **state)
{
    struct fixture *f = *state;
    issue_agent(&f->ca, PURPOSE_AGENT_IDENTITY, TEST_AGENT_ID, "0", f->state->task_key, &f->task);
    answer_renew(f);
    assert_refused(f, "task certificate");
}

static void garbage_is_refused(void **state)
{
    struct fixture *f = *state;
    f->identity_chain[0] = (ProtobufCBinaryData){4, (uint8_t *)(uintptr_t) "junk"};
    assert_int_not_equal(check(f), CODE_OK);
}

/* ---- managed certificates ---------------------------------------------------------------------------------
 */

static enum code check_issued(struct fixture *f, struct bytes csr, const struct der *leaf)
{
    ProtobufCBinaryData chain[1] = {data_of(leaf)};
    Clm__SignResponse response = CLM__SIGN_RESPONSE__INIT;
    response.n_chain = 1;
    response.chain = chain;
    f->st.msg[0] = '\0';
    return trust_check_issued(f->state, csr, &response, TEST_NOW_MS, (uid_t)-1, &f->root, &f->st);
}

static void an_issued_certificate_is_believed_only_for_our_csr_and_root(void **state)
{
    struct fixture *f = *state;
    AUTO_DER struct der csr = test_csr(f->other_key, "www.example.com");
    AUTO_DER struct der good = {0}, forged = {0}, expired = {0};
    struct test_leaf leaf = {
        .purpose = PURPOSE_TLS_SERVER, .dns = "www.example.com", .for_key = f->other_key};
    test_issue(&f->ca, &leaf, &good);
    if (check_issued(f, der_bytes(&csr), &good) != CODE_OK)
        fail_msg("%s", f->st.msg);
    test_issue(&f->other_ca, &leaf, &forged);
    assert_int_not_equal(check_issued(f, der_bytes(&csr), &forged), CODE_OK);
    assert_int_not_equal(check_issued(f, der_bytes(&f->task_csr), &good), CODE_OK);
    assert_non_null(strstr(f->st.msg, "another key"));
    leaf.not_before_ms = TEST_NOW_MS - 7200000;
    leaf.not_after_ms = TEST_NOW_MS - 3600000;
    test_issue(&f->ca, &leaf, &expired);
    assert_int_not_equal(check_issued(f, der_bytes(&csr), &expired), CODE_OK);
}

static void an_empty_chain_is_refused(void **state)
{
    struct fixture *f = *state;
    Clm__SignResponse response = CLM__SIGN_RESPONSE__INIT;
    assert_int_equal(trust_check_issued(f->state, der_bytes(&f->task_csr), &response, TEST_NOW_MS, (uid_t)-1,
                                        &f->root, &f->st),
                     CODE_PERMISSION_DENIED);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(the_platforms_answer_is_believed),
        T(a_root_that_the_token_does_not_pin_is_refused),
        T(certificates_of_another_ca_are_refused),
        T(a_certificate_for_another_key_is_refused),
        T(a_certificate_for_another_agent_or_generation_is_refused),
        T(swapped_purposes_are_refused),
        T(garbage_is_refused),
        T(an_issued_certificate_is_believed_only_for_our_csr_and_root),
        T(an_empty_chain_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
