/* Which keystore is it? See keystore.h. */
#include "pki/keystore.h"

#include "pki/ossl.h"

enum keystore_type keystore_sniff(struct bytes content)
{
    static const uint8_t jks[] = {0xfe, 0xed, 0xfe, 0xed}, version3[] = {DER_INTEGER, 1, 3};
    if (content.len < 32)
        return KEYSTORE_NONE;
    if (memcmp(content.data, jks, sizeof(jks)) == 0)
        return KEYSTORE_JKS;
    /* PFX ::= SEQUENCE { version INTEGER {v3(3)}, …; the length in any form, Java and others write all. */
    if (content.data[0] != DER_SEQUENCE)
        return KEYSTORE_NONE;
    size_t length_bytes = content.data[1] & 0x80 ? content.data[1] & 0x7fu : 0;
    if (length_bytes > 4 || memcmp(content.data + 2 + length_bytes, version3, sizeof(version3)) != 0)
        return KEYSTORE_NONE;
    return KEYSTORE_PKCS12;
}

enum code keystore_certs(struct bytes content, const struct secret *password, size_t max,
                         keystore_on_cert *on_cert, void *arg, struct keystore_info *ret, struct status *st)
{
    switch (keystore_sniff(content)) {
    case KEYSTORE_PKCS12:
        return pkcs12_certs(content, password, max, on_cert, arg, ret, st);
    case KEYSTORE_JKS:
        return jks_certs(content, password, max, on_cert, arg, ret, st);
    case KEYSTORE_NONE:
        break;
    }
    return status_set(st, CODE_INVALID_ARGUMENT, "neither a PKCS#12 nor a JKS keystore");
}
