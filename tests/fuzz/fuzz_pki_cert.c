/* Foreign certificates and bundles: DER, PEM, PKCS#7. What is found must be readable again, within the
 * limits. */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "pki/cert.h"

#define FOUND_MAX 8

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_cert(struct bytes der, void *arg)
{
    struct status st;
    AUTO_CERT_INFO struct cert_info info = {0};
    struct spiffe_id id;
    if (++*(unsigned *)arg > FOUND_MAX)
        abort();
    if (cert_read(der, &info, &st) == CODE_OK) {
        if (strlen(info.fingerprint) != 64 || strpbrk(info.subject, "\r\n") || info.names.n_uri > 4)
            abort();
        struct cert_brief brief;
        if (cert_read_brief(der, &brief, &st) == CODE_OK &&
            (strcmp(brief.serial, info.serial) != 0 || brief.not_after_ms != info.not_after_ms ||
             strcmp(brief.fingerprint, info.fingerprint) != 0))
            abort();
        AUTO_CERT_INFO struct cert_info listed = {0};
        if (cert_read_listed(der, &listed, &st) != CODE_OK || strcmp(listed.serial, info.serial) != 0 ||
            strcmp(listed.subject, info.subject) != 0 || listed.not_after_ms != info.not_after_ms ||
            listed.names.n_dns != info.names.n_dns)
            abort();
        (void)cert_matches_host(der, "www.example.com");
        (void)cert_matches_host(der, "192.0.2.1");
    }
    if (cert_spiffe(der, &id, &st) == CODE_OK && id.name[0] == '\0')
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct status st;
    unsigned found = 0;
    struct bytes content = {data, size};
    AUTO_DER_LIST struct der_list list = {0};
    AUTO_DER_LIST struct der_list ordered = {0};
    enum code code = certs_sniff(content, FOUND_MAX, on_cert, &found, &st);
    if (code != CODE_OK && code != CODE_RESOURCE_EXHAUSTED)
        abort();
    if (pem_to_certs(content, &list, &st) != CODE_OK)
        return 0;
    AUTO_BUF struct buf pem = {0};
    if (list.n == 0 || certs_to_pem(&list, &pem, &st) != CODE_OK)
        abort();
    if (chain_order(&list, &ordered, &st) == CODE_OK && (ordered.n == 0 || ordered.n > list.n))
        abort();
    return 0;
}
