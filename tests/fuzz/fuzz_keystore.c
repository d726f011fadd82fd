/* Keystores of unknown origin, with and without a password: what is found must be a certificate again. */
#include <stdlib.h>
#include <string.h>

#include "pki/keystore.h"

#define FOUND_MAX 8

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_cert(struct bytes der, const char *alias, bool with_key, void *arg)
{
    (void)with_key;
    if (++*(unsigned *)arg > FOUND_MAX || der.len == 0 || der.len > CERT_MAX_BYTES)
        abort();
    for (const char *c = alias; *c; c++) {
        if (*c < 0x20 || *c > 0x7e)
            abort();
    }
}

static void look(struct bytes content, const struct secret *password)
{
    struct status st;
    struct keystore_info info = {0};
    unsigned found = 0;
    enum code code = keystore_certs(content, password, FOUND_MAX, on_cert, &found, &info, &st);
    if (code == CODE_OK && found > 0 && keystore_sniff(content) == KEYSTORE_NONE)
        abort();
    struct pkcs12 read = {0};
    if (pkcs12_read(content, password, NULL, &read, &st) == CODE_OK && !read.key)
        abort();
    pkcs12_done(&read);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_SECRET struct secret *password = secret_dup("changeit", 8);
    struct bytes content = {data, size};
    look(content, NULL);
    look(content, password);
    return 0;
}
