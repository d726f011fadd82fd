/* See credential.h. */
#include "service/credential.h"

#include <string.h>

#include "base/file.h"

#define PEM_BYTES_MAX (256 * 1024)

void credential_done(struct credential *credential)
{
    secret_free(credential->key);
    der_list_done(&credential->chain);
    *credential = (struct credential){0};
}

static void chain_copy(const struct der_list *from, struct der_list *to)
{
    to->n = from->n;
    for (size_t i = 0; i < from->n; i++)
        to->item[i] = der_dup(der_bytes(&from->item[i]));
}

void credential_copy(const struct credential *from, struct credential *ret)
{
    *ret = (struct credential){.key = secret_dup(from->key->data, from->key->len),
                               .not_before_ms = from->not_before_ms,
                               .not_after_ms = from->not_after_ms};
    chain_copy(&from->chain, &ret->chain);
}

enum code credential_make(struct secret *key, const struct der_list *chain, struct credential *ret,
                          struct status *st)
{
    AUTO_SECRET struct secret *pem = key;
    AUTO_KEY struct key *parsed = NULL;
    AUTO_CERT_INFO struct cert_info info = {0};
    TRY(key_parse(pem, NULL, &parsed, st));
    if (chain->n == 0 || !key_matches_cert(parsed, der_bytes(&chain->item[0])))
        return status_set(st, CODE_INVALID_ARGUMENT, "the key and the certificate do not belong together");
    TRY(cert_read(der_bytes(&chain->item[0]), &info, st));
    *ret = (struct credential){
        .key = TAKE(pem), .not_before_ms = info.not_before_ms, .not_after_ms = info.not_after_ms};
    chain_copy(chain, &ret->chain);
    return CODE_OK;
}

enum code credential_read(const char *key_path, const char *chain_path, struct credential *ret,
                          struct status *st)
{
    AUTO_SECRET struct secret *key = NULL, *text = NULL;
    AUTO_DER_LIST struct der_list chain = {0};
    AUTO_BUF struct buf pem = {0};
    TRY(secret_read_file(key_path, PEM_BYTES_MAX, false, &key, st));
    if (strcmp(key_path, chain_path) == 0) {
        text = secret_dup(key->data, key->len);
    } else {
        buf_init(&pem, PEM_BYTES_MAX);
        TRY(file_read(chain_path, PEM_BYTES_MAX, &pem, st));
    }
    struct bytes source = text ? (struct bytes){text->data, text->len} : (struct bytes){pem.data, pem.len};
    if (pem_to_certs(source, &chain, st) != CODE_OK)
        return status_wrap(st, "%s", chain_path);
    if (chain.n == 0)
        return status_set(st, CODE_INVALID_ARGUMENT, "%s: no certificate in it", chain_path);
    if (credential_make(TAKE(key), &chain, ret, st) != CODE_OK)
        return status_wrap(st, "%s", key_path);
    return CODE_OK;
}

enum code credential_write(const struct credential *credential, const char *path, struct status *st)
{
    AUTO_BUF struct buf pem = {0};
    buf_init(&pem, PEM_BYTES_MAX);
    TRY(certs_to_pem(&credential->chain, &pem, st));
    AUTO_SECRET struct secret *all = secret_new(credential->key->len + pem.len);
    memcpy(all->data, credential->key->data, credential->key->len);
    memcpy(all->data + credential->key->len, pem.data, pem.len);
    return file_write_atomic(path, all->data, all->len, 0600, st);
}

bool credential_same(const struct credential *a, const struct credential *b)
{
    struct bytes x = der_bytes(&a->chain.item[0]), y = der_bytes(&b->chain.item[0]);
    return x.len == y.len && memcmp(x.data, y.data, x.len) == 0;
}

struct der_list credential_intermediates(const struct credential *credential)
{
    struct der_list rest = {.n = credential->chain.n - 1};
    for (size_t i = 0; i < rest.n; i++)
        rest.item[i] = credential->chain.item[i + 1];
    return rest;
}
