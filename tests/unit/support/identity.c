/* A root and leaves right below it, through lib/pki. */
#include "support/identity.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "pki/cert.h"
#include "pki/issue.h"

struct ca {
    struct issuer *issuer;
    struct der_list roots;
};

struct leaf {
    char name[64];
    struct key *key;
    struct der cert;
    struct bus_identity *identity;
};

static struct ca own_ca, other_ca;
static struct leaf leaves[16];

static void check(enum code code, const struct status *st)
{
    if (code == CODE_OK)
        return;
    (void)fprintf(stderr, "test identity: %s\n", st->msg);
    exit(2);
}

static struct der copy(struct bytes b)
{
    struct der der = {malloc(b.len), b.len};
    memcpy(der.data, b.data, b.len);
    return der;
}

static struct ca *ca_get(struct ca *ca)
{
    if (ca->issuer)
        return ca;
    struct status st = {0};
    struct key *key = NULL;
    check(key_generate(KEY_EC_P256, &key, &st), &st);
    AUTO_DER struct der spki = {0};
    check(key_spki(key, &spki, &st), &st);
    struct pki_names names = {0};
    const struct cert_request req = {
        .spki = der_bytes(&spki),
        .common_name = "test root",
        .names = &names,
        .is_ca = true,
        .path_len = -1,
        .not_before_ms = clock_wall_ms() - 3600000,
        .not_after_ms = clock_wall_ms() + 24LL * 3600000,
    };
    check(issuer_self_sign(key, &req, &ca->roots.item[0], &st), &st);
    ca->roots.n = 1;
    check(issuer_new(key, der_bytes(&ca->roots.item[0]), &ca->issuer, &st), &st);
    return ca;
}

static void leaf_sign(struct ca *ca, const char *service, struct key **ret_key, struct der *ret_cert)
{
    struct status st = {0};
    char uri[400];
    spiffe_format("test.example", "service", service, uri);
    struct pki_names names = {.uri = {uri}, .n_uri = 1};
    check(key_generate(KEY_EC_P256, ret_key, &st), &st);
    AUTO_DER struct der spki = {0};
    check(key_spki(*ret_key, &spki, &st), &st);
    const struct cert_request req = {
        .spki = der_bytes(&spki),
        .common_name = service,
        .names = &names,
        .purpose = PURPOSE_SERVICE,
        .tls_client_and_server = true,
        .path_len = -1,
        .not_before_ms = clock_wall_ms() - 3600000,
        .not_after_ms = clock_wall_ms() + 12LL * 3600000,
    };
    check(issuer_sign(ca_get(ca)->issuer, &req, ret_cert, &st), &st);
}

static struct leaf *leaf_make(struct ca *ca, const char *service, struct leaf *leaf)
{
    struct status st = {0};
    static const struct der_list none;
    (void)snprintf(leaf->name, sizeof(leaf->name), "%s", service);
    leaf_sign(ca, service, &leaf->key, &leaf->cert);
    check(bus_identity_new(leaf->key, der_bytes(&leaf->cert), &none, &ca_get(&own_ca)->roots, &leaf->identity,
                           &st),
          &st);
    return leaf;
}

void identity_leaf(const char *service, struct key **ret_key, struct der *ret_cert)
{
    leaf_sign(&own_ca, service, ret_key, ret_cert);
}

static struct leaf *leaf_of(struct ca *ca, const char *prefix, const char *service)
{
    char name[64];
    (void)snprintf(name, sizeof(name), "%s%s", prefix, service);
    for (size_t i = 0; i < ARRAY_LEN(leaves); i++) {
        if (strcmp(leaves[i].name, name) == 0)
            return &leaves[i];
        if (!leaves[i].key) {
            (void)leaf_make(ca, service, &leaves[i]);
            (void)snprintf(leaves[i].name, sizeof(leaves[i].name), "%s", name);
            return &leaves[i];
        }
    }
    abort();
}

struct bus_identity *identity_of(const char *service)
{
    return leaf_of(&own_ca, "", service)->identity;
}

struct bus_identity *identity_fresh(const char *service)
{
    static const struct der_list none;
    struct status st = {0};
    struct bus_identity *identity = NULL;
    const struct leaf *leaf = leaf_of(&own_ca, "", service);
    check(bus_identity_new(leaf->key, der_bytes(&leaf->cert), &none, &ca_get(&own_ca)->roots, &identity, &st),
          &st);
    return identity;
}

struct bus_identity *identity_forged(const char *service)
{
    return leaf_of(&other_ca, "forged-", service)->identity;
}

static void write_file(const char *dir, const char *name, const void *data, size_t len)
{
    char path[512];
    struct status st = {0};
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    check(file_write_atomic(path, data, len, 0600, &st), &st);
}

void identity_write(const char *service, const char *dir)
{
    struct status st = {0};
    const struct leaf *leaf = leaf_of(&own_ca, "", service);
    AUTO_SECRET struct secret *pem = NULL;
    check(key_to_pem(leaf->key, NULL, &pem, &st), &st);
    write_file(dir, "key.pem", pem->data, pem->len);
    struct der_list certs = {.item = {copy(der_bytes(&leaf->cert))}, .n = 1};
    AUTO_BUF struct buf text;
    buf_init(&text, 0);
    check(certs_to_pem(&certs, &text, &st), &st);
    write_file(dir, "cert.pem", text.data, text.len);
    buf_reset(&text);
    check(certs_to_pem(&ca_get(&own_ca)->roots, &text, &st), &st);
    write_file(dir, "roots.pem", text.data, text.len);
    der_list_done(&certs);
}
