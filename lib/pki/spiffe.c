/* SPIFFE ids: spiffe://<trust domain>/<kind>/<name>. */
#include <assert.h>
#include <string.h>

#include "pki/ossl.h"

#define SCHEME "spiffe://"

/* Copies the segment up to `end` if it fits, is not empty and holds only the allowed characters. */
static bool segment(const char *at, const char *end, const char *allowed, char *out, size_t out_size)
{
    size_t len = (size_t)(end - at);
    if (len == 0 || len >= out_size || strspn(at, allowed) < len)
        return false;
    memcpy(out, at, len);
    out[len] = '\0';
    return true;
}

bool spiffe_parse(const char *uri, struct spiffe_id *ret)
{
    static const char lower[] = "abcdefghijklmnopqrstuvwxyz0123456789.-_";
    static const char word[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
    if (strncmp(uri, SCHEME, sizeof(SCHEME) - 1) != 0)
        return false;
    const char *domain = uri + sizeof(SCHEME) - 1;
    const char *kind = strchr(domain, '/');
    const char *name = kind ? strchr(kind + 1, '/') : NULL;
    if (!name)
        return false;
    struct spiffe_id id;
    if (!segment(domain, kind, lower, id.trust_domain, sizeof(id.trust_domain)) ||
        !segment(kind + 1, name, lower, id.kind, sizeof(id.kind)) ||
        !segment(name + 1, name + strlen(name), word, id.name, sizeof(id.name)))
        return false;
    /* "." and ".." are path steps, not names (SPIFFE-ID section 2.2). */
    if (strcmp(id.name, ".") == 0 || strcmp(id.name, "..") == 0 || strcmp(id.kind, ".") == 0 ||
        strcmp(id.kind, "..") == 0)
        return false;
    *ret = id;
    return true;
}

void spiffe_format(const char *trust_domain, const char *kind, const char *name, char out[400])
{
    int len = snprintf(out, 400, SCHEME "%s/%s/%s", trust_domain, kind, name);
    assert(len > 0 && len < 400);
}

enum code spiffe_of_x509(const X509 *cert, struct spiffe_id *ret, struct status *st)
{
    int crit = 0;
    AUTO_GENERAL_NAMES GENERAL_NAMES *san = X509_get_ext_d2i(cert, NID_subject_alt_name, &crit, NULL);
    ossl_forget();
    const ASN1_IA5STRING *uri = NULL;
    int n = 0;
    for (int i = 0; i < sk_GENERAL_NAME_num(san); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(san, i);
        if (name->type != GEN_URI)
            continue;
        uri = name->d.uniformResourceIdentifier;
        n++;
    }
    if (n != 1)
        return status_set(st, CODE_INVALID_ARGUMENT,
                          "certificate has %d URI names: exactly one SPIFFE id is needed", n);
    char text[400];
    int len = ASN1_STRING_length(uri);
    if (len <= 0 || len >= (int)sizeof(text) || memchr(ASN1_STRING_get0_data(uri), 0, (size_t)len))
        return status_set(st, CODE_INVALID_ARGUMENT, "the certificate's URI name is no SPIFFE id");
    memcpy(text, ASN1_STRING_get0_data(uri), (size_t)len);
    text[len] = '\0';
    if (!spiffe_parse(text, ret))
        return status_set(st, CODE_INVALID_ARGUMENT, "the certificate's URI name is no SPIFFE id");
    return CODE_OK;
}

enum code cert_spiffe(struct bytes der, struct spiffe_id *ret, struct status *st)
{
    AUTO_X509 X509 *cert = NULL;
    TRY(ossl_parse_cert(der, &cert, st));
    return spiffe_of_x509(cert, ret, st);
}
