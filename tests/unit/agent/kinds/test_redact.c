/* What must not be in a log is taken out of a program's output; what helps stays. */
#include "cmocka_all.h"

#include "kinds/redact.h"

static void assert_becomes(const char *text, const char *wanted)
{
    AUTO_BUF struct buf buf = {.limit = 8192};
    assert_true(buf_puts(&buf, text));
    redact(&buf);
    assert_string_equal(buf_text(&buf), wanted);
}

#define BODY "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgevZzL1gdAFr88hb2\n"

static void private_keys_are_taken_out(void **state)
{
    (void)state;
    assert_becomes("a\n-----BEGIN PRIVATE KEY-----\n" BODY "OF/2\n-----END PRIVATE KEY-----\nb",
                   "a\n[removed]\nb");
    assert_becomes("-----BEGIN EC PRIVATE KEY-----\n" BODY, "[removed]");
    assert_becomes("-----BEGIN ENCRYPTED PRIVATE KEY-----", "[removed]");
    /* What lost its beginning is still a key's end. */
    assert_becomes("2NxQKw==\n-----END RSA PRIVATE KEY-----\nrest", "[removed]\nrest");
    assert_becomes("line " BODY "more", "line [removed]\nmore");
    assert_becomes("0x00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", "[removed]");
    assert_becomes("-----BEGIN CERTIFICATE-----\nnothing secret",
                   "-----BEGIN CERTIFICATE-----\nnothing secret");
}

static void values_are_taken_out_by_their_names(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"password=hunter2", "password=[removed]"},
        {"DB_PASSWORD = hunter2; next", "DB_PASSWORD = [removed]; next"},
        {"<Connector keystorePass=\"a b\" port='1'>", "<Connector keystorePass=[removed] port='1'>"},
        {"{\"token\": \"x\\y\", \"a\": 1}", "{\"token\": [removed], \"a\": 1}"},
        {"Authorization: Bearer abc.def ghi\nHost: x", "Authorization: [removed]\nHost: x"},
        {"curl --proxy-password hunter2 url", "curl --proxy-password [removed] url"},
        {"api-key:abc&x=1", "api-key:[removed]&x=1"},
        {"postgres://app:s3cret@db/x", "postgres://[removed]@db/x"},
        {"jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmN", "jwt [removed]"},
        {"secret='open", "secret=[removed]"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_becomes(cases[i][0], cases[i][1]);
}

static void what_helps_stays(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "nginx: [emerg] cannot load certificate \"/etc/ssl/a.pem\": BIO_new_file() failed",
        "the password is wrong",
        "no password",
        "password=",
        "token",
        "see https://example.com/a@b",
        "AH00526: Syntax error on line 25 of /etc/apache2/sites-enabled/www.example.com.conf:",
        "FATAL: configuration file \"/var/lib/postgresql/15/main/postgresql.conf\" contains errors",
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        assert_becomes(texts[i], texts[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(private_keys_are_taken_out),
        cmocka_unit_test(values_are_taken_out_by_their_names),
        cmocka_unit_test(what_helps_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
