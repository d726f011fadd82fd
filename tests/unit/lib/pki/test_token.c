/* Bootstrap tokens: printed, parsed, hashed, refused. */
#include "fixture.h"

#include "base/id.h"
#include "pki/token.h"

static const uint8_t pin[SHA256_SIZE] = {1, 2, 3, 4, 5, 6, 7, 8};

static void printed_token_is_read_back(void **state UNUSED)
{
    static const char *const gateways[] = {"gw.example.com:8443", "192.0.2.1:443", "[2001:db8::1]:65535",
                                           "localhost:1", "GW.Example:443"};
    for (size_t i = 0; i < ARRAY_LEN(gateways); i++) {
        struct status st;
        struct token token;
        struct token back;
        assert_ok(token_make(pin, gateways[i], &token, &st), &st);
        AUTO_SECRET struct secret *text = token_print(&token);
        assert_memory_equal(text->data, "clmt1.", 6);
        assert_true(text->len < TOKEN_TEXT_MAX);
        assert_ok(token_parse(text, &back, &st), &st);
        assert_memory_equal(back.pin, pin, sizeof(pin));
        assert_memory_equal(back.secret, token.secret, sizeof(token.secret));
        assert_string_equal(back.gateway, gateways[i]);
    }
}

static void longest_gateway_fits(void **state UNUSED)
{
    struct status st;
    struct token token;
    struct token back;
    char gateway[260] = "";
    memset(gateway, 'a', 249);
    for (size_t i = 60; i < 249; i += 61)
        gateway[i] = '.';
    memcpy(gateway + 249, ":65535", 7);
    assert_ok(token_make(pin, gateway, &token, &st), &st);
    AUTO_SECRET struct secret *text = token_print(&token);
    assert_true(text->len < TOKEN_TEXT_MAX);
    assert_ok(token_parse(text, &back, &st), &st);
    assert_string_equal(back.gateway, gateway);
}

static void two_tokens_share_no_secret(void **state UNUSED)
{
    struct status st;
    struct token a;
    struct token b;
    assert_ok(token_make(pin, "gw:1", &a, &st), &st);
    assert_ok(token_make(pin, "gw:1", &b, &st), &st);
    assert_memory_not_equal(a.secret, b.secret, sizeof(a.secret));
}

static void gateway_must_be_host_and_port(void **state UNUSED)
{
    static const char *const bad[] = {
        "",         "gw",       "gw:",     ":443",          "gw:0",    "gw:65536",
        "gw:99999", "gw:x",     "gw:-1",   "gw:443 ",       "g w:443", "gw:+443",
        "*.gw:443", "[::1:443", "::1:443", "http://gw:443", "gw:0443", "[gw]:443"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct status st = {0};
        struct token token;
        if (token_make(pin, bad[i], &token, &st) != CODE_INVALID_ARGUMENT)
            fail_msg("accepted \"%s\"", bad[i]);
    }
}

static enum code parse_text(const char *text, size_t len, struct status *st)
{
    struct token token;
    AUTO_SECRET struct secret *secret = secret_dup(text, len);
    enum code code = token_parse(secret, &token, st);
    if (code != CODE_OK) {
        static const struct token wiped;
        assert_memory_equal(&token, &wiped, sizeof(token));
    }
    return code;
}

static void damaged_token_is_refused(void **state UNUSED)
{
    struct status st;
    struct token token;
    assert_ok(token_make(pin, "gw.example:443", &token, &st), &st);
    AUTO_SECRET struct secret *text = token_print(&token);
    const char *good = (const char *)text->data;
    assert_ok(parse_text(good, text->len, &st), &st);
    for (size_t len = 0; len < text->len; len++) {
        /* Cut within the port, a shorter port may be left: the length of the text cannot tell. */
        if (len >= text->len - 4)
            break;
        assert_code(CODE_INVALID_ARGUMENT, parse_text(good, len, &st), &st);
    }
    char other[TOKEN_TEXT_MAX + 2];
    (void)snprintf(other, sizeof(other), "%s\n", good);
    assert_code(CODE_INVALID_ARGUMENT, parse_text(other, strlen(other), &st), &st);
    (void)snprintf(other, sizeof(other), "clmt2%s", good + 5);
    assert_code(CODE_INVALID_ARGUMENT, parse_text(other, strlen(other), &st), &st);
    (void)snprintf(other, sizeof(other), "%s", good);
    other[20] = '+';
    assert_code(CODE_INVALID_ARGUMENT, parse_text(other, strlen(other), &st), &st);
    memset(other, 'A', sizeof(other));
    memcpy(other, "clmt1.", 6);
    assert_code(CODE_INVALID_ARGUMENT, parse_text(other, TOKEN_TEXT_MAX + 1, &st), &st);
}

static void token_with_a_nul_in_its_gateway_is_refused(void **state UNUSED)
{
    struct status st;
    uint8_t raw[SHA256_SIZE + TOKEN_SECRET_SIZE + 8] = {0};
    char text[200] = "clmt1.";
    memcpy(raw + 64, "gw:1\0:99", 8);
    (void)base64url_encode(raw, sizeof(raw), text + 6, sizeof(text) - 6);
    assert_code(CODE_INVALID_ARGUMENT, parse_text(text, strlen(text), &st), &st);
}

static void secret_text_hashes_to_what_is_stored(void **state UNUSED)
{
    struct status st;
    struct token token;
    char text[TOKEN_SECRET_TEXT_SIZE];
    uint8_t stored[SHA256_SIZE];
    uint8_t got[SHA256_SIZE];
    assert_ok(token_make(pin, "gw:1", &token, &st), &st);
    sha256((struct bytes){token.secret, sizeof(token.secret)}, stored);
    token_secret_text(&token, text);
    assert_int_equal(strlen(text), TOKEN_SECRET_TEXT_SIZE - 1);
    assert_ok(token_secret_hash(text, got, &st), &st);
    assert_memory_equal(got, stored, sizeof(got));

    char longer[TOKEN_SECRET_TEXT_SIZE + 1];
    (void)snprintf(longer, sizeof(longer), "%sA", text);
    assert_code(CODE_INVALID_ARGUMENT, token_secret_hash(longer, got, &st), &st);
    text[3] = '=';
    assert_code(CODE_INVALID_ARGUMENT, token_secret_hash(text, got, &st), &st);
    text[3] = '\0';
    assert_code(CODE_INVALID_ARGUMENT, token_secret_hash(text, got, &st), &st);
    assert_code(CODE_INVALID_ARGUMENT, token_secret_hash("", got, &st), &st);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(printed_token_is_read_back),
        cmocka_unit_test(longest_gateway_fits),
        cmocka_unit_test(two_tokens_share_no_secret),
        cmocka_unit_test(gateway_must_be_host_and_port),
        cmocka_unit_test(damaged_token_is_refused),
        cmocka_unit_test(token_with_a_nul_in_its_gateway_is_refused),
        cmocka_unit_test(secret_text_hashes_to_what_is_stored),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
