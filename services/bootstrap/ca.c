/*
 * Loading and making the CA directory. Blocking file work of the signer (before it is confined) and of init.
 * The passphrase and the keys are never anywhere but in locked memory and in their files.
 */
#include "ca.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/id.h"

#define CA_FILE_MAX      (64 * 1024)
#define DAY_MS           (24 * 60 * 60 * 1000LL)
#define ROOT_LIFE_MS     (3653 * DAY_MS)
#define ISSUING_LIFE_MS  (1826 * DAY_MS)
#define PASSPHRASE_BYTES 32

static enum code file_path(char out[PATH_MAX], const char *dir, const char *name, const char *suffix,
                           struct status *st)
{
    if ((size_t)snprintf(out, PATH_MAX, "%s/%s%s", dir, name, suffix) >= PATH_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, "the path %.100s/%s%s is too long", dir, name, suffix);
    return CODE_OK;
}

/* The first of the file. */
static enum code load_certificate(const char *path, struct der *ret, struct status *st)
{
    AUTO_BUF struct buf pem = {0};
    AUTO_DER_LIST struct der_list certs = {0};
    TRY(file_read(path, CA_FILE_MAX, &pem, st));
    if (pem_to_certs((struct bytes){pem.data, pem.len}, &certs, st) != CODE_OK)
        return status_wrap(st, "%s", path);
    if (certs.n == 0)
        return status_set(st, CODE_DATA_LOSS, "%s holds no certificate", path);
    *ret = certs.item[0];
    certs.item[0] = (struct der){0};
    return CODE_OK;
}

static enum code load_trust_domain(const char *dir, char ret[256], struct status *st)
{
    char path[PATH_MAX];
    AUTO_BUF struct buf text = {0};
    TRY(file_path(path, dir, "trust-domain", "", st));
    TRY(file_read(path, 255, &text, st));
    size_t len = strcspn(buf_text(&text), "\r\n");
    if (len == 0 || len >= 256)
        return status_set(st, CODE_DATA_LOSS, "%s does not hold a trust domain", path);
    memcpy(ret, text.data, len);
    ret[len] = '\0';
    return CODE_OK;
}

static enum code load_gateway_names(const char *dir, char **ret, struct status *st)
{
    char path[PATH_MAX];
    AUTO_BUF struct buf text = {0};
    struct status absent = {0};
    TRY(file_path(path, dir, "gateway-names", "", st));
    enum code code = file_read(path, CA_FILE_MAX, &text, &absent);
    if (code == CODE_NOT_FOUND)
        return CODE_OK;
    if (code != CODE_OK)
        return status_set(st, code, "%s", absent.msg);
    *ret = strdup(buf_text(&text));
    if (!*ret)
        abort();
    return CODE_OK;
}

static enum code load_issuing(const char *dir, enum issuing_ca ca, const struct secret *passphrase,
                              const struct der_list *roots, struct ca_set *ret, struct status *st)
{
    char path[PATH_MAX];
    AUTO_SECRET struct secret *pem = NULL;
    AUTO_KEY struct key *key = NULL;

    TRY(file_path(path, dir, issuing_ca_name(ca), ".crt", st));
    TRY(load_certificate(path, &ret->certificate[ca], st));
    struct bytes cert = der_bytes(&ret->certificate[ca]);
    if (chain_verify(cert, NULL, roots, PURPOSE_ANY, clock_wall_ms(), st) != CODE_OK)
        return status_wrap(st, "%s does not lead to root.crt", path);

    TRY(file_path(path, dir, issuing_ca_name(ca), ".key", st));
    TRY(secret_read_file(path, CA_FILE_MAX, false, &pem, st));
    if (key_parse(pem, passphrase, &key, st) != CODE_OK)
        return status_wrap(st, "%s", path);
    if (!key_matches_cert(key, cert))
        return status_set(st, CODE_DATA_LOSS, "%s is not the key of its certificate", path);
    return issuer_new(TAKE(key), cert, &ret->issuer[ca], st);
}

enum code ca_load(const char *dir, struct ca_set *ret, struct status *st)
{
    char path[PATH_MAX];
    AUTO_SECRET struct secret *passphrase = NULL;
    AUTO_DER_LIST struct der_list roots = {0};

    TRY(load_trust_domain(dir, ret->trust_domain, st));
    TRY(load_gateway_names(dir, &ret->gateway_names, st));
    TRY(file_path(path, dir, "root", ".crt", st));
    TRY(load_certificate(path, &ret->root, st));
    TRY(der_list_add(&roots, der_bytes(&ret->root), st));
    TRY(file_path(path, dir, "passphrase", "", st));
    TRY(secret_read_file(path, 1024, true, &passphrase, st));
    for (size_t ca = 0; ca < ISSUING_CA_COUNT; ca++)
        TRY(load_issuing(dir, (enum issuing_ca)ca, passphrase, &roots, ret, st));
    return CODE_OK;
}

/* ---- making ----------------------------------------------------------------------------------------------
 */

static enum code write_key(const char *dir, const char *name, const struct key *key,
                           const struct secret *passphrase, struct status *st)
{
    char path[PATH_MAX];
    AUTO_SECRET struct secret *pem = NULL;
    TRY(file_path(path, dir, name, ".key", st));
    TRY(key_to_pem(key, passphrase, &pem, st));
    return file_write_atomic(path, pem->data, pem->len, 0600, st);
}

static enum code write_cert(const char *dir, const char *name, struct bytes cert, struct status *st)
{
    char path[PATH_MAX];
    AUTO_BUF struct buf pem = {0};
    AUTO_DER_LIST struct der_list list = {0};
    TRY(file_path(path, dir, name, ".crt", st));
    TRY(der_list_add(&list, cert, st));
    TRY(certs_to_pem(&list, &pem, st));
    return file_write_atomic(path, pem.data, pem.len, 0644, st);
}

static enum code make_passphrase(const char *dir, struct secret **ret, struct status *st)
{
    char path[PATH_MAX];
    uint8_t raw[PASSPHRASE_BYTES];
    AUTO_SECRET struct secret *text = secret_new(2 * sizeof(raw));

    TRY(file_path(path, dir, "passphrase", "", st));
    random_bytes(raw, sizeof(raw));
    text->len = base64url_encode(raw, sizeof(raw), (char *)text->data, 2 * sizeof(raw));
    explicit_bzero(raw, sizeof(raw));
    TRY(file_write_atomic(path, text->data, text->len, 0600, st));
    *ret = TAKE(text);
    return CODE_OK;
}

static enum code make_root(const char *dir, const struct secret *passphrase, struct issuer **ret,
                           struct status *st)
{
    AUTO_KEY struct key *key = NULL;
    AUTO_DER struct der spki = {0};
    AUTO_DER struct der cert = {0};
    int64_t now_ms = clock_wall_ms();

    TRY(key_generate(KEY_EC_P256, &key, st));
    TRY(key_spki(key, &spki, st));
    struct cert_request request = {
        .spki = der_bytes(&spki),
        .common_name = "SSL CLM Agents root CA",
        .purpose = PURPOSE_ANY,
        .is_ca = true,
        .path_len = 1,
        .not_before_ms = now_ms - DAY_MS,
        .not_after_ms = now_ms + ROOT_LIFE_MS,
    };
    TRY(issuer_self_sign(key, &request, &cert, st));
    TRY(write_key(dir, "root", key, passphrase, st));
    TRY(write_cert(dir, "root", der_bytes(&cert), st));
    return issuer_new(TAKE(key), der_bytes(&cert), ret, st);
}

static enum code make_issuing(const char *dir, enum issuing_ca ca, struct issuer *root,
                              const struct secret *passphrase, struct status *st)
{
    AUTO_KEY struct key *key = NULL;
    AUTO_DER struct der spki = {0};
    AUTO_DER struct der cert = {0};
    char name[64];
    int64_t now_ms = clock_wall_ms();

    (void)snprintf(name, sizeof(name), "SSL CLM Agents %s CA", issuing_ca_name(ca));
    TRY(key_generate(KEY_EC_P256, &key, st));
    TRY(key_spki(key, &spki, st));
    struct cert_request request = {
        .spki = der_bytes(&spki),
        .common_name = name,
        .purpose = issuing_ca_purpose(ca),
        .is_ca = true,
        .path_len = 0,
        .not_before_ms = now_ms - DAY_MS,
        .not_after_ms = now_ms + ISSUING_LIFE_MS,
    };
    TRY(issuer_sign(root, &request, &cert, st));
    TRY(write_key(dir, issuing_ca_name(ca), key, passphrase, st));
    return write_cert(dir, issuing_ca_name(ca), der_bytes(&cert), st);
}

enum code ca_write_gateway_names(const char *dir, const struct pki_names *names, struct status *st)
{
    char path[PATH_MAX];
    AUTO_BUF struct buf text = {0};
    buf_init(&text, CA_FILE_MAX);
    TRY(file_path(path, dir, "gateway-names", "", st));
    for (size_t i = 0; i < names->n_dns + names->n_ip; i++) {
        const char *name = i < names->n_dns ? names->dns[i] : names->ip[i - names->n_dns];
        if (!buf_printf(&text, "%s\n", name))
            return status_set(st, CODE_INVALID_ARGUMENT, "too many names of gateways");
    }
    return file_write_atomic(path, text.data, text.len, 0644, st);
}

enum code ca_make(const char *dir, const char *trust_domain, struct status *st)
{
    char path[PATH_MAX];
    AUTO_SECRET struct secret *passphrase = NULL;
    AUTO_ISSUER struct issuer *root = NULL;

    TRY(file_path(path, dir, "trust-domain", "", st));
    TRY(file_write_atomic(path, trust_domain, strlen(trust_domain), 0644, st));
    TRY(make_passphrase(dir, &passphrase, st));
    TRY(make_root(dir, passphrase, &root, st));
    for (size_t ca = 0; ca < ISSUING_CA_COUNT; ca++)
        TRY(make_issuing(dir, (enum issuing_ca)ca, root, passphrase, st));
    return CODE_OK;
}
