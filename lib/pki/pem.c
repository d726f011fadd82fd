/* PEM text ⇄ DER, and finding certificates in content of unknown form. Foreign key blocks are wiped, never
 * kept. */
#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/pkcs7.h>

#include "pki/ossl.h"

#define PEM_MAX_BYTES (4 * 1024 * 1024)

struct block {
    char *name, *header;
    uint8_t *data;
    long len;
};

/* A block may be a private key: whatever it was is wiped. */
static void block_done(struct block *block)
{
    OPENSSL_free(block->name);
    OPENSSL_free(block->header);
    OPENSSL_clear_free(block->data, block->len > 0 ? (size_t)block->len : 0);
    *block = (struct block){0};
}

enum block_result { BLOCK_FOUND, BLOCK_DAMAGED, BLOCK_END };

static enum block_result block_next(BIO *bio, struct block *ret)
{
    size_t before = BIO_pending(bio) > 0 ? (size_t)BIO_pending(bio) : 0;
    if (PEM_read_bio(bio, &ret->name, &ret->header, &ret->data, &ret->len) == 1)
        return BLOCK_FOUND;
    bool end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    ossl_forget();
    size_t after = BIO_pending(bio) > 0 ? (size_t)BIO_pending(bio) : 0;
    return end || after >= before ? BLOCK_END : BLOCK_DAMAGED;
}

static bool block_is_cert(const struct block *block)
{
    return strcmp(block->name, PEM_STRING_X509) == 0 || strcmp(block->name, PEM_STRING_X509_OLD) == 0;
}

static struct bytes block_bytes(const struct block *block)
{
    return (struct bytes){block->data, (size_t)block->len};
}

enum code pem_to_certs(struct bytes pem, struct der_list *ret, struct status *st)
{
    if (pem.len == 0 || pem.len > PEM_MAX_BYTES)
        return status_set(st, CODE_INVALID_ARGUMENT, "PEM text of %zu bytes: must be 1 to %d", pem.len,
                          PEM_MAX_BYTES);
    AUTO_BIO BIO *bio = MUST(BIO_new_mem_buf(pem.data, (int)pem.len));
    AUTO_DER_LIST struct der_list list = {0};
    for (unsigned n = 1;; n++) {
        CLEANUP(block_done) struct block block = {0};
        enum block_result result = block_next(bio, &block);
        if (result == BLOCK_END)
            break;
        if (result == BLOCK_DAMAGED)
            return status_set(st, CODE_INVALID_ARGUMENT, "PEM block %u is damaged", n);
        if (!block_is_cert(&block))
            continue;
        AUTO_X509 X509 *cert = NULL;
        if (ossl_parse_cert(block_bytes(&block), &cert, st) != CODE_OK)
            return status_wrap(st, "PEM block %u", n);
        TRY(der_list_add(&list, block_bytes(&block), st));
    }
    if (list.n == 0)
        return status_set(st, CODE_INVALID_ARGUMENT, "no CERTIFICATE block in the PEM text");
    *ret = list;
    list.n = 0;
    return CODE_OK;
}

enum code certs_to_pem(const struct der_list *certs, struct buf *ret, struct status *st)
{
    AUTO_BIO BIO *bio = MUST(BIO_new(BIO_s_mem()));
    for (size_t i = 0; i < certs->n; i++)
        if (PEM_write_bio(bio, PEM_STRING_X509, "", certs->item[i].data, (long)certs->item[i].len) <= 0)
            return ossl_fail(st, CODE_INTERNAL, "cannot write PEM");
    char *text = NULL;
    long len = BIO_get_mem_data(bio, &text);
    if (len > 0 && !buf_append(ret, text, (size_t)len))
        return status_set(st, CODE_RESOURCE_EXHAUSTED, "PEM text of %ld bytes does not fit", len);
    return CODE_OK;
}

struct sniff {
    size_t max, found;
    bool full;
    void (*on_cert)(struct bytes der, void *arg);
    void *arg;
};

static bool give(struct sniff *sniff, struct bytes der)
{
    AUTO_X509 X509 *cert = NULL;
    struct status ignored;
    if (ossl_parse_cert_undecoded(der, &cert, &ignored) != CODE_OK)
        return false;
    if (sniff->found == sniff->max) {
        sniff->full = true;
        return true;
    }
    sniff->found++;
    sniff->on_cert(der, sniff->arg);
    return true;
}

DEFINE_CLEANUP(pkcs7, PKCS7 *, PKCS7_free)

static void give_pkcs7(struct sniff *sniff, struct bytes der)
{
    const uint8_t *at = der.data;
    CLEANUP(cleanup_pkcs7) PKCS7 *p7 = d2i_PKCS7(NULL, &at, (long)der.len);
    ossl_forget();
    if (!p7 || !PKCS7_type_is_signed(p7) || !p7->d.sign)
        return;
    STACK_OF(X509) *certs = p7->d.sign->cert;
    for (int i = 0; i < sk_X509_num(certs) && !sniff->full; i++) {
        AUTO_DER struct der cert = {0};
        struct status ignored;
        if (ossl_cert_der(sk_X509_value(certs, i), &cert, &ignored) == CODE_OK)
            (void)give(sniff, der_bytes(&cert));
    }
}

static void sniff_pem(struct sniff *sniff, struct bytes content)
{
    AUTO_BIO BIO *bio = MUST(BIO_new_mem_buf(content.data, (int)content.len));
    while (!sniff->full) {
        CLEANUP(block_done) struct block block = {0};
        enum block_result result = block_next(bio, &block);
        if (result == BLOCK_END)
            return;
        if (result == BLOCK_DAMAGED)
            continue;
        if (block_is_cert(&block))
            (void)give(sniff, block_bytes(&block));
        else if (strcmp(block.name, PEM_STRING_PKCS7) == 0 ||
                 strcmp(block.name, PEM_STRING_PKCS7_SIGNED) == 0 || strcmp(block.name, PEM_STRING_CMS) == 0)
            give_pkcs7(sniff, block_bytes(&block));
    }
}

enum code certs_sniff(struct bytes content, size_t max, void (*on_cert)(struct bytes der, void *arg),
                      void *arg, struct status *st)
{
    static const char begin[] = "-----BEGIN ";
    struct sniff sniff = {.max = max, .on_cert = on_cert, .arg = arg};
    if (content.len > PEM_MAX_BYTES)
        return status_set(st, CODE_RESOURCE_EXHAUSTED, "%zu bytes to look through: at most %d", content.len,
                          PEM_MAX_BYTES);
    if (content.len == 0)
        return CODE_OK;
    if (memmem(content.data, content.len, begin, sizeof(begin) - 1))
        sniff_pem(&sniff, content);
    else if (content.data[0] == 0x30 && !give(&sniff, content))
        give_pkcs7(&sniff, content);
    if (sniff.full)
        return status_set(st, CODE_RESOURCE_EXHAUSTED, "more than %zu certificates", max);
    return CODE_OK;
}
