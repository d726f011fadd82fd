#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmocka_all.h"

#include "base/clock.h"
#include "pki/issue.h"
#include "service/credential.h"

static struct status st;
#define OK(expr)                                                                                             \
    do {                                                                                                     \
        if ((expr) != CODE_OK)                                                                               \
            fail_msg("%s: %s", #expr, st.msg);                                                               \
    } while (0)

static struct der_list chain_of(struct key *key)
{
    struct der_list chain = {.n = 1};
    const struct cert_request req = {.common_name = "x",
                                     .purpose = PURPOSE_TLS_SERVER,
                                     .path_len = -1,
                                     .not_before_ms = 1000000,
                                     .not_after_ms = clock_wall_ms() + 60000};
    OK(issuer_self_sign(key, &req, &chain.item[0], &st));
    return chain;
}

static void a_credential_is_written_and_read_back_from_one_private_file(void **state)
{
    (void)state;
    AUTO_KEY struct key *key = NULL;
    AUTO_SECRET struct secret *pem = NULL;
    AUTO_CREDENTIAL struct credential made = {0}, read = {0}, copy = {0};
    char path[] = "/tmp/clm-credential-XXXXXX";
    int fd = mkstemp(path);
    OK(key_generate(KEY_EC_P256, &key, &st));
    AUTO_DER_LIST struct der_list chain = chain_of(key);
    OK(key_to_pem(key, NULL, &pem, &st));
    OK(credential_make(TAKE(pem), &chain, &made, &st));
    assert_int_equal(made.not_before_ms, 1000000);
    OK(credential_write(&made, path, &st));
    OK(credential_read(path, path, &read, &st));
    assert_true(credential_same(&made, &read));
    assert_int_equal(read.not_after_ms, made.not_after_ms);
    credential_copy(&read, &copy);
    assert_true(credential_same(&made, &copy));
    assert_int_equal(credential_intermediates(&copy).n, 0);
    assert_int_equal(access(path, R_OK), 0);
    assert_int_equal(chmod(path, 0644), 0);
    AUTO_CREDENTIAL struct credential open = {0};
    assert_int_equal(credential_read(path, path, &open, &st), CODE_PERMISSION_DENIED);
    (void)close(fd);
    (void)unlink(path);
}

static void a_key_of_another_certificate_is_refused(void **state)
{
    (void)state;
    AUTO_KEY struct key *key = NULL, *other = NULL;
    AUTO_SECRET struct secret *pem = NULL;
    AUTO_CREDENTIAL struct credential made = {0};
    OK(key_generate(KEY_EC_P256, &key, &st));
    OK(key_generate(KEY_EC_P256, &other, &st));
    AUTO_DER_LIST struct der_list chain = chain_of(key);
    OK(key_to_pem(other, NULL, &pem, &st));
    assert_int_equal(credential_make(TAKE(pem), &chain, &made, &st), CODE_INVALID_ARGUMENT);
    static const struct der_list none;
    OK(key_to_pem(key, NULL, &pem, &st));
    assert_int_equal(credential_make(TAKE(pem), &none, &made, &st), CODE_INVALID_ARGUMENT);
    assert_null(made.key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_credential_is_written_and_read_back_from_one_private_file),
        cmocka_unit_test(a_key_of_another_certificate_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
