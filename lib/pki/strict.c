/*
 * DER as X.690 section 10 wants it. OpenSSL's reader takes BER: indefinite lengths, long forms of short
 * lengths, strings in pieces. What a peer sends passes here first, so that one message has one form and no
 * tricks.
 */
#include <string.h>

#include "pki/ossl.h"

#define DEPTH_MAX    24
#define ELEMENTS_MAX 4096
#define INDEFINITE   0x01
#define MALFORMED    0x80

struct element {
    int cls, tag;
    bool constructed;
    struct bytes body, whole;
};

static bool next(struct bytes *at, struct element *ret)
{
    const uint8_t *body = at->data;
    long len = 0;
    if (at->len == 0)
        return false;
    int form = ASN1_get_object(&body, &len, &ret->tag, &ret->cls, (long)at->len);
    if (form & (MALFORMED | INDEFINITE)) {
        ossl_forget();
        return false;
    }
    size_t header = (size_t)(body - at->data);
    size_t whole = header + (size_t)len;
    /* Anything longer than the shortest header is not DER. */
    if (whole > at->len ||
        ASN1_object_size(form & V_ASN1_CONSTRUCTED ? 1 : 0, (int)len, ret->tag) != (int)whole)
        return false;
    ret->constructed = (form & V_ASN1_CONSTRUCTED) != 0;
    ret->body = (struct bytes){body, (size_t)len};
    ret->whole = (struct bytes){at->data, whole};
    at->data += whole;
    at->len -= whole;
    return true;
}

static bool walk(struct bytes at, unsigned depth, unsigned *elements)
{
    struct element element;
    while (at.len > 0) {
        if (++*elements > ELEMENTS_MAX || !next(&at, &element))
            return false;
        bool universal = element.cls == V_ASN1_UNIVERSAL;
        bool structure = element.tag == V_ASN1_SEQUENCE || element.tag == V_ASN1_SET;
        if (universal && element.constructed != structure)
            return false;
        if (element.constructed && (depth == DEPTH_MAX || !walk(element.body, depth + 1, elements)))
            return false;
    }
    return true;
}

enum code strict_check(struct bytes der, const char *what, struct status *st)
{
    struct bytes rest = der;
    struct element first;
    unsigned elements = 0;
    if (!next(&rest, &first))
        return status_set(st, CODE_INVALID_ARGUMENT, "%s is not DER, or cut off", what);
    if (rest.len > 0)
        return status_set(st, CODE_INVALID_ARGUMENT, "%s is followed by %zu stray bytes", what, rest.len);
    if (!walk(der, 0, &elements))
        return status_set(st, CODE_INVALID_ARGUMENT, "%s is not strict DER, or nested too deeply", what);
    return CODE_OK;
}

bool strict_exact(struct bytes *at, const uint8_t *wanted, size_t len)
{
    if (at->len < len || memcmp(at->data, wanted, len) != 0)
        return false;
    at->data += len;
    at->len -= len;
    return true;
}

bool strict_next(struct bytes *at, uint8_t identifier, struct bytes *ret_body, struct bytes *ret_whole)
{
    struct element element;
    struct bytes rest = *at;
    if (rest.len == 0 || rest.data[0] != identifier || !next(&rest, &element))
        return false;
    *at = rest;
    if (ret_body)
        *ret_body = element.body;
    if (ret_whole)
        *ret_whole = element.whole;
    return true;
}
