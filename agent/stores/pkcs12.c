/* PKCS#12: key and chain in one file under the password that the local policy names. In the confined child.
 */
#include <string.h>

#include "stores/store.h"

static enum code open_pkcs12(const struct store_in *in, struct store_found *ret, struct status *st)
{
    struct pkcs12 read = {0};
    if (keystore_sniff(in->content) == KEYSTORE_JKS)
        return status_set(st, CODE_FAILED_PRECONDITION,
                          "it is a JKS keystore: write store = jks into the target, or move the file away");
    TRY(pkcs12_read(in->content, in->password, in->alias, &read, st));
    ret->key = read.key;
    ret->chain = read.chain;
    ret->others = read.others;
    memcpy(ret->alias, read.alias, sizeof(ret->alias));
    return CODE_OK;
}

static enum code make_pkcs12(const struct store_parts *parts, struct secret **ret, struct status *st)
{
    AUTO_KEY struct key *key = NULL;
    AUTO_DER_LIST struct der_list chain = {0};
    AUTO_BUF struct buf pem = {0};
    TRY(key_parse(parts->key, NULL, &key, st));
    if (!buf_append(&pem, parts->leaf_pem.data, parts->leaf_pem.len) ||
        (parts->intermediates_pem.len &&
         !buf_append(&pem, parts->intermediates_pem.data, parts->intermediates_pem.len)))
        return status_set(st, CODE_RESOURCE_EXHAUSTED, "the chain is too long");
    TRY(pem_to_certs((struct bytes){pem.data, pem.len}, &chain, st));
    return pkcs12_make(key, &chain, parts->alias, parts->old.password, parts->encryption, ret, st);
}

const struct store pkcs12_store = {
    .name = "pkcs12", .password = true, .open = open_pkcs12, .make = make_pkcs12};
