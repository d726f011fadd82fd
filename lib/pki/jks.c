/*
 * Classic JKS, the one format that is read here by hand: no library that we stand on knows it. Only the frame
 * is read (sun.security.provider.JavaKeyStore: magic, version, count, entries, SHA-1 digest); protected keys
 * are stepped over, certificates go to OpenSSL. All numbers are big-endian and checked against what is left.
 */
#include <string.h>

#include "pki/keystore.h"
#include "pki/ossl.h"

#define JKS_MAGIC     0xfeedfeedu
#define DIGEST_BYTES  20u
#define CHAIN_MAX     64u
#define KEY_MAX_BYTES (64u * 1024u)

struct reader {
    const uint8_t *at;
    size_t left;
};

struct jks {
    struct reader in;
    uint32_t version;
    size_t given, max;
    bool full;
    keystore_on_cert *on_cert;
    void *arg;
    struct keystore_info info;
};

static bool take(struct reader *in, size_t n, const uint8_t **ret)
{
    if (n > in->left)
        return false;
    *ret = in->at;
    in->at += n;
    in->left -= n;
    return true;
}

static bool take_u32(struct reader *in, uint32_t *ret)
{
    const uint8_t *p;
    if (!take(in, 4, &p))
        return false;
    *ret = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
    return true;
}

/* DataOutput.writeUTF: two bytes of length. */
static bool take_text(struct reader *in, const uint8_t **ret, size_t *ret_len)
{
    const uint8_t *p;
    if (!take(in, 2, &p))
        return false;
    *ret_len = (size_t)p[0] << 8 | p[1];
    return take(in, *ret_len, ret);
}

static bool take_alias(struct reader *in, char out[KEYSTORE_ALIAS_SIZE])
{
    const uint8_t *text;
    size_t len;
    if (!take_text(in, &text, &len))
        return false;
    size_t n = 0;
    for (size_t i = 0; i < len && n + 1 < KEYSTORE_ALIAS_SIZE; i++)
        out[n++] = text[i] >= 0x20 && text[i] < 0x7f ? (char)text[i] : '?';
    out[n] = 0;
    return true;
}

static enum code truncated(struct status *st)
{
    return status_set(st, CODE_INVALID_ARGUMENT, "the JKS file is damaged or cut short");
}

static enum code read_cert(struct jks *jks, const char *alias, bool with_key, struct status *st)
{
    const uint8_t *type, *der;
    size_t type_len = 5;
    uint32_t len;
    if (jks->version == 2 && !take_text(&jks->in, &type, &type_len))
        return truncated(st);
    if (!take_u32(&jks->in, &len))
        return truncated(st);
    if (len > CERT_MAX_BYTES)
        return status_set(st, CODE_RESOURCE_EXHAUSTED, "a certificate of %u bytes in the JKS file", len);
    if (!take(&jks->in, len, &der))
        return truncated(st);
    if (jks->version == 2 && (type_len != 5 || memcmp(type, "X.509", 5) != 0))
        return CODE_OK;
    AUTO_X509 X509 *cert = NULL;
    struct bytes bytes = {der, len};
    if (ossl_parse_cert_undecoded(bytes, &cert, NULL) != CODE_OK)
        return CODE_OK;
    if (jks->given == jks->max) {
        jks->full = true;
        return CODE_OK;
    }
    jks->given++;
    jks->on_cert(bytes, alias, with_key, jks->arg);
    return CODE_OK;
}

static enum code read_key_entry(struct jks *jks, const char *alias, struct status *st)
{
    const uint8_t *sealed;
    uint32_t len, chain;
    if (!take_u32(&jks->in, &len))
        return truncated(st);
    if (len > KEY_MAX_BYTES)
        return status_set(st, CODE_RESOURCE_EXHAUSTED, "a private key of %u bytes in the JKS file", len);
    if (!take(&jks->in, len, &sealed) || !take_u32(&jks->in, &chain))
        return truncated(st);
    if (chain > CHAIN_MAX)
        return status_set(st, CODE_RESOURCE_EXHAUSTED, "a chain of %u certificates in the JKS file", chain);
    jks->info.keys++;
    for (uint32_t i = 0; i < chain; i++)
        TRY(read_cert(jks, alias, i == 0, st));
    return CODE_OK;
}

static enum code read_entry(struct jks *jks, struct status *st)
{
    enum { KEY_ENTRY = 1, TRUSTED_ENTRY = 2 };
    char alias[KEYSTORE_ALIAS_SIZE];
    const uint8_t *created;
    uint32_t tag;
    if (!take_u32(&jks->in, &tag) || !take_alias(&jks->in, alias) || !take(&jks->in, 8, &created))
        return truncated(st);
    switch (tag) {
    case KEY_ENTRY:
        return read_key_entry(jks, alias, st);
    case TRUSTED_ENTRY:
        jks->info.trusted++;
        return read_cert(jks, alias, false, st);
    default:
        return truncated(st);
    }
}

/* Java's chars: UTF-16, big-endian. False for what is no UTF-8. */
static bool to_utf16be(const struct secret *text, struct secret *out)
{
    size_t n = 0;
    for (size_t i = 0; i < text->len;) {
        uint8_t c = text->data[i++];
        unsigned more = c < 0x80             ? 0
                        : (c & 0xe0) == 0xc0 ? 1
                        : (c & 0xf0) == 0xe0 ? 2
                        : (c & 0xf8) == 0xf0 ? 3
                                             : 4;
        uint32_t point = more == 0 ? c : (uint32_t)c & (0x3fu >> more);
        if (more == 4 || text->len - i < more)
            return false;
        for (; more > 0; more--, i++) {
            if ((text->data[i] & 0xc0) != 0x80)
                return false;
            point = point << 6 | (text->data[i] & 0x3fu);
        }
        if (point > 0x10ffff)
            return false;
        uint32_t units[2] = {point, 0};
        if (point > 0xffff) {
            units[0] = 0xd800 + ((point - 0x10000) >> 10);
            units[1] = 0xdc00 + ((point - 0x10000) & 0x3ff);
        }
        for (size_t u = 0; u < (point > 0xffff ? 2 : 1); u++) {
            out->data[n++] = (uint8_t)(units[u] >> 8);
            out->data[n++] = (uint8_t)units[u];
        }
    }
    out->len = n;
    return true;
}

static enum code check_digest(struct bytes content, const struct secret *password, struct status *st)
{
    static const char salt[] = "Mighty Aphrodite";
    AUTO_SECRET struct secret *wide = secret_new(password->len * 2);
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    if (password->len > KEYSTORE_PASSWORD_MAX || !to_utf16be(password, wide))
        return status_set(st, CODE_INVALID_ARGUMENT, "the keystore's password is no UTF-8 text or too long");
    AUTO_EVP_MD_CTX EVP_MD_CTX *ctx = MUST(EVP_MD_CTX_new());
    bool done = EVP_DigestInit_ex(ctx, EVP_sha1(), NULL) == 1 &&
                EVP_DigestUpdate(ctx, wide->data, wide->len) == 1 &&
                EVP_DigestUpdate(ctx, salt, sizeof(salt) - 1) == 1 &&
                EVP_DigestUpdate(ctx, content.data, content.len - DIGEST_BYTES) == 1 &&
                EVP_DigestFinal_ex(ctx, digest, &len) == 1 && len == DIGEST_BYTES;
    if (!done)
        return ossl_fail(st, CODE_INTERNAL, "cannot digest the JKS file");
    if (memcmp(digest, content.data + content.len - DIGEST_BYTES, DIGEST_BYTES) != 0)
        return status_set(st, CODE_PERMISSION_DENIED,
                          "the JKS file does not open: wrong password, or it was changed");
    return CODE_OK;
}

enum code jks_certs(struct bytes content, const struct secret *password, size_t max,
                    keystore_on_cert *on_cert, void *arg, struct keystore_info *ret, struct status *st)
{
    struct jks jks = {.in = {content.data, content.len}, .max = max, .on_cert = on_cert, .arg = arg};
    uint32_t magic, count;
    if (content.len > KEYSTORE_MAX_BYTES)
        return status_set(st, CODE_RESOURCE_EXHAUSTED, "a JKS file of %zu bytes: at most %d", content.len,
                          KEYSTORE_MAX_BYTES);
    if (!take_u32(&jks.in, &magic) || magic != JKS_MAGIC || content.len < 12 + DIGEST_BYTES)
        return status_set(st, CODE_INVALID_ARGUMENT, "not a JKS file");
    /* Before anything in it is believed. */
    if (password)
        TRY(check_digest(content, password, st));
    jks.info.verified = password != NULL;
    jks.in.left -= DIGEST_BYTES;
    if (!take_u32(&jks.in, &jks.version) || !take_u32(&jks.in, &count))
        return truncated(st);
    if (jks.version != 1 && jks.version != 2)
        return status_set(st, CODE_INVALID_ARGUMENT, "a JKS file of version %u is not known", jks.version);
    if (count > KEYSTORE_MAX_ENTRIES)
        return status_set(st, CODE_RESOURCE_EXHAUSTED, "%u entries in the JKS file: at most %d", count,
                          KEYSTORE_MAX_ENTRIES);
    for (uint32_t i = 0; i < count; i++)
        TRY(read_entry(&jks, st));
    if (jks.in.left != 0)
        return truncated(st);
    *ret = jks.info;
    if (jks.full)
        return status_set(st, CODE_RESOURCE_EXHAUSTED, "more than %zu certificates in the JKS file", max);
    return CODE_OK;
}
