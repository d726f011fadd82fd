/*
 * PEM: the certificate and its intermediates, leaf first, and the private key in the same file or in one of
 * its own; and HAProxy's form of it, one file whose Diffie-Hellman parameters stay. In the confined child.
 */
#include <string.h>

#include "stores/store.h"

static enum code open_pem(const struct store_in *in, struct store_found *ret, struct status *st)
{
    static const char marker[] = "PRIVATE KEY-----";
    TRY(pem_to_certs(in->content, &ret->chain, st));
    if (!memmem(in->content.data, in->content.len, marker, sizeof(marker) - 1))
        return CODE_OK;
    AUTO_SECRET struct secret *encoded = secret_dup(in->content.data, in->content.len);
    if (key_parse(encoded, NULL, &ret->key, NULL) != CODE_OK)
        ret->key = NULL; /* that there is no key to be had is for who needs one */
    return CODE_OK;
}

static struct bytes block_of(struct bytes content, const char *begin, const char *end)
{
    const uint8_t *from = content.len ? memmem(content.data, content.len, begin, strlen(begin)) : NULL;
    if (!from)
        return (struct bytes){0};
    size_t left = content.len - (size_t)(from - content.data);
    const uint8_t *to = memmem(from, left, end, strlen(end));
    return to ? (struct bytes){from, (size_t)(to - from) + strlen(end)} : (struct bytes){0};
}

static enum code join(const struct store_parts *parts, struct bytes more, struct secret **ret,
                      struct status *st)
{
    AUTO_KEY struct key *key = NULL;
    AUTO_SECRET struct secret *key_pem = NULL;
    if (parts->key) {
        TRY(key_parse(parts->key, NULL, &key, st));
        TRY(key_to_pem(key, NULL, &key_pem, st));
    }
    const struct bytes part[] = {parts->leaf_pem,
                                 parts->intermediates_pem,
                                 key_pem ? (struct bytes){key_pem->data, key_pem->len} : (struct bytes){0},
                                 more,
                                 {(const uint8_t *)"\n", more.len ? 1 : 0}};
    size_t len = 0;
    for (size_t i = 0; i < ARRAY_LEN(part); i++)
        len += part[i].len;
    *ret = secret_new(len);
    uint8_t *at = (*ret)->data;
    for (size_t i = 0; i < ARRAY_LEN(part); i++) {
        if (part[i].len)
            memcpy(at, part[i].data, part[i].len);
        at += part[i].len;
    }
    return CODE_OK;
}

static enum code make_pem(const struct store_parts *parts, struct secret **ret, struct status *st)
{
    return join(parts, (struct bytes){0}, ret, st);
}

static enum code make_haproxy(const struct store_parts *parts, struct secret **ret, struct status *st)
{
    return join(parts,
                block_of(parts->old.content, "-----BEGIN DH PARAMETERS-----", "-----END DH PARAMETERS-----"),
                ret, st);
}

const struct store pem_store = {.name = "pem", .key_apart = true, .open = open_pem, .make = make_pem};
const struct store haproxy_store = {.name = "haproxy", .open = open_pem, .make = make_haproxy};
