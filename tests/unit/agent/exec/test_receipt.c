/* Pages, and what is signed. */
#include "agent/exec/receipt.h"

#include "base/clock.h"
#include "cmocka_all.h"
#include "pki/cms.h"
#include "pki/digest.h"
#include "pki_fixture.h"
#include "wire/wire.h"

static void pages_join_to_the_result_and_only_the_last_has_the_receipt(void **state)
{
    (void)state;
    static const size_t lengths[] = {
        0, 1, RESULT_PAGE_BYTES - 1, RESULT_PAGE_BYTES, RESULT_PAGE_BYTES + 1, 3 * RESULT_PAGE_BYTES};
    static const uint32_t pages[] = {1, 1, 1, 1, 2, 3};
    uint8_t *data = malloc(3 * RESULT_PAGE_BYTES);
    for (size_t i = 0; i < 3 * RESULT_PAGE_BYTES; i++)
        data[i] = (uint8_t)(i * 31 >> 3);
    for (size_t k = 0; k < ARRAY_LEN(lengths); k++) {
        size_t at = 0;
        assert_int_equal(result_pages(lengths[k]), pages[k]);
        for (uint32_t page = 1; page <= pages[k]; page++) {
            Clm__ResultRequest request;
            result_page(7, (struct bytes){data, lengths[k]}, (struct bytes){(const uint8_t *)"R", 1}, page,
                        &request);
            assert_int_equal(request.attempt, 7);
            assert_int_equal(request.page, page);
            assert_true(request.data.len <= RESULT_PAGE_BYTES);
            if (request.data.len)
                assert_memory_equal(request.data.data, data + at, request.data.len);
            at += request.data.len;
            assert_int_equal(request.has_receipt, page == pages[k]);
        }
        assert_int_equal(at, lengths[k]);
    }
    free(data);
}

static void a_result_that_is_too_large_loses_certificates_and_says_so(void **state)
{
    (void)state;
    enum { N = 3000 };
    AUTO_ARENA struct arena *arena = arena_new();
    Clm__TaskResult result = CLM__TASK_RESULT__INIT;
    Clm__FoundCertificate **found = arena_array(arena, N, sizeof(*found));
    char *path = arena_alloc(arena, 2001);
    memset(path, 'p', 2000);
    for (size_t i = 0; i < N; i++) {
        found[i] = arena_alloc(arena, sizeof(**found));
        clm__found_certificate__init(found[i]);
        found[i]->path = path;
    }
    result.n_certificates = N;
    result.certificates = found;
    struct bytes packed = result_pack(&result, arena);
    assert_true(packed.len <= RESULT_MAX);
    assert_true(result.truncated);
    assert_true(result.n_certificates > 1000);
}

static void a_file_name_that_is_no_utf8_does_not_spoil_the_result(void **state)
{
    (void)state;
    AUTO_ARENA struct arena *arena = arena_new();
    Clm__TaskResult result = CLM__TASK_RESULT__INIT;
    Clm__FoundCertificate odd = CLM__FOUND_CERTIFICATE__INIT, fine = CLM__FOUND_CERTIFICATE__INIT;
    Clm__CertificateInfo info = CLM__CERTIFICATE_INFO__INIT;
    char *names[] = {(char *)(uintptr_t) "a\xffz"};
    Clm__FoundCertificate *found[] = {&odd, &fine};
    odd.path = (char *)(uintptr_t) "/etc/\xe9t\xe9.pem";
    info.n_dns_names = 1;
    info.dns_names = names;
    fine.path = (char *)(uintptr_t) "/etc/fine.pem";
    fine.certificate = &info;
    result.n_certificates = 2;
    result.certificates = found;
    struct bytes packed = result_pack(&result, arena);
    ProtobufCMessage *msg;
    struct status st;
    if (wire_unpack(&clm__task_result__descriptor, packed.data, packed.len, arena, &msg, &st) != CODE_OK)
        fail_msg("%s", st.msg);
    const Clm__TaskResult *got = (const Clm__TaskResult *)msg;
    assert_int_equal(got->n_certificates, 2);
    assert_string_equal(got->certificates[0]->path, "/etc/?t?.pem");
    assert_string_equal(got->certificates[1]->path, "/etc/fine.pem");
    assert_string_equal(got->certificates[1]->certificate->dns_names[0], "a?z");
}

static void a_result_that_cannot_be_told_is_left_out_and_says_so(void **state)
{
    (void)state;
    AUTO_ARENA struct arena *arena = arena_new();
    Clm__TaskResult result = CLM__TASK_RESULT__INIT;
    result.served_fingerprint_sha256 = (char *)(uintptr_t) "not a fingerprint";
    struct bytes packed = result_pack(&result, arena);
    ProtobufCMessage *msg;
    struct status st;
    assert_int_equal(wire_unpack(&clm__task_result__descriptor, packed.data, packed.len, arena, &msg, &st),
                     CODE_OK);
    assert_true(((const Clm__TaskResult *)msg)->truncated);
    assert_null(((const Clm__TaskResult *)msg)->served_fingerprint_sha256);
}

static void a_receipt_is_signed_by_the_task_key_over_the_results_digest(void **state)
{
    (void)state;
    struct test_ca ca;
    test_ca_init(&ca, "Root");
    struct agent_state *agent = test_state(&ca);
    Clm__Receipt receipt = CLM__RECEIPT__INIT;
    struct status st;
    AUTO_DER struct der cms = {0}, content = {0};
    struct bytes result = {(const uint8_t *)"result", 6};
    uint8_t digest[SHA256_SIZE];
    sha256(result, digest);
    receipt.task_id = (char *)(uintptr_t)TEST_TASK_ID;
    receipt.has_attempt = receipt.has_outcome = 1;
    receipt.attempt = 1;
    receipt.outcome = CLM__RECEIPT__OUTCOME__SUCCEEDED;
    assert_int_equal(receipt_sign(agent, &receipt, result, &cms, &st), CODE_OK);
    struct bytes expected = der_bytes(&agent->task_chain.item[0]);
    if (cms_verify(CMS_CONTENT_RECEIPT, der_bytes(&cms), &expected, &agent->roots, PURPOSE_AGENT_TASK,
                   TEST_NOW_MS, &content, NULL, &st) != CODE_OK)
        fail_msg("%s", st.msg);
    Clm__Receipt *got = clm__receipt__unpack(NULL, content.len, content.data);
    assert_non_null(got);
    assert_string_equal(got->agent_id, TEST_AGENT_ID);
    assert_int_equal(got->generation, 3);
    assert_int_equal(got->pages, 1);
    assert_memory_equal(got->result_sha256.data, digest, SHA256_SIZE);
    clm__receipt__free_unpacked(got, NULL);
    /* A receipt is no request: the content type keeps them apart. */
    der_done(&content);
    assert_int_not_equal(cms_verify(CMS_CONTENT_REQUEST, der_bytes(&cms), &expected, &agent->roots,
                                    PURPOSE_AGENT_TASK, TEST_NOW_MS, &content, NULL, &st),
                         CODE_OK);
    test_state_free(agent);
    test_ca_done(&ca);
}

static void a_confirmation_names_agent_and_generation_and_no_task(void **state)
{
    (void)state;
    struct test_ca ca;
    test_ca_init(&ca, "Root");
    struct agent_state *agent = test_state(&ca);
    struct status st;
    AUTO_DER struct der cms = {0}, content = {0};
    clock_fake(TEST_NOW_MS);
    assert_int_equal(request_sign(agent, CLM__SIGNED_REQUEST__PURPOSE__CONFIRM, NULL, 0,
                                  (struct bytes){NULL, 0}, &cms, &st),
                     CODE_OK);
    struct bytes expected = der_bytes(&agent->task_chain.item[0]);
    assert_int_equal(cms_verify(CMS_CONTENT_REQUEST, der_bytes(&cms), &expected, NULL, PURPOSE_AGENT_TASK,
                                TEST_NOW_MS, &content, NULL, &st),
                     CODE_OK);
    Clm__SignedRequest *got = clm__signed_request__unpack(NULL, content.len, content.data);
    assert_int_equal(got->purpose, CLM__SIGNED_REQUEST__PURPOSE__CONFIRM);
    assert_string_equal(got->agent_id, TEST_AGENT_ID);
    assert_int_equal(got->generation, 3);
    assert_int_equal(got->made_at_ms, TEST_NOW_MS);
    assert_null(got->task_id);
    assert_false(got->has_csr);
    clm__signed_request__free_unpacked(got, NULL);
    clock_real();
    test_state_free(agent);
    test_ca_done(&ca);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_join_to_the_result_and_only_the_last_has_the_receipt),
        cmocka_unit_test(a_result_that_is_too_large_loses_certificates_and_says_so),
        cmocka_unit_test(a_file_name_that_is_no_utf8_does_not_spoil_the_result),
        cmocka_unit_test(a_result_that_cannot_be_told_is_left_out_and_says_so),
        cmocka_unit_test(a_receipt_is_signed_by_the_task_key_over_the_results_digest),
        cmocka_unit_test(a_confirmation_names_agent_and_generation_and_no_task),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
