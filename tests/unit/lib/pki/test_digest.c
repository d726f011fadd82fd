/* SHA-256 against the vectors of FIPS 180-4. */
#include "fixture.h"

#include "base/id.h"
#include "pki/digest.h"

static void known_vectors_come_out(void **state UNUSED)
{
    char hex[SHA256_HEX_SIZE];
    sha256_hex(text_bytes("abc"), hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    sha256_hex((struct bytes){NULL, 0}, hex);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

static void pieces_give_the_same_digest(void **state UNUSED)
{
    uint8_t whole[SHA256_SIZE];
    uint8_t pieces[SHA256_SIZE];
    sha256(text_bytes("hello, world"), whole);
    struct sha256_ctx *ctx = sha256_ctx_new();
    sha256_ctx_add(ctx, text_bytes("hello, "));
    sha256_ctx_add(ctx, (struct bytes){NULL, 0});
    sha256_ctx_add(ctx, text_bytes("world"));
    sha256_ctx_free(ctx, pieces);
    assert_memory_equal(whole, pieces, sizeof(whole));
    sha256_ctx_free(sha256_ctx_new(), NULL);
    sha256_ctx_free(NULL, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_vectors_come_out),
        cmocka_unit_test(pieces_give_the_same_digest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
