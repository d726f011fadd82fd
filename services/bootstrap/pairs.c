/* Keys are made here and certified by the CA at once, through the profiles. One-shot commands only. */
#include "pairs.h"

#include <stdlib.h>
#include <string.h>

#include "base/endpoint.h"
#include "scope/scope.h"

#define DAY_SEC          (24 * 60 * 60LL)
#define SERVICE_LIFE_SEC (365 * DAY_SEC)
#define GATEWAY_LIFE_SEC (365 * DAY_SEC)
#define BUS_LIFE_SEC     (730 * DAY_SEC)

enum chain_part { CHAIN_LEAF_AND_ISSUER, CHAIN_WITH_ROOT };

struct wanted {
    enum profile profile;
    const char *service; /* NULL: no SPIFFE id */
    const struct pki_names *hosts;
    int64_t life_sec;
    const char *directory, *key, *certs;
    enum chain_part parts;
};

void pairs_done(struct pairs *pairs)
{
    for (size_t i = 0; i < pairs->n; i++) {
        secret_free(pairs->item[i].key_pem);
        buf_done(&pairs->item[i].certs_pem);
    }
    pairs->n = 0;
}

enum code server_names_add(struct pki_names *names, const char *text, struct status *st)
{
    bool is_address = host_is_address(text);

    if (!is_address && !dns_pattern_valid(text))
        return status_set(st, CODE_INVALID_ARGUMENT, "\"%.100s\" is neither a DNS name nor an address", text);
    if (is_address ? names->n_ip == ARRAY_LEN(names->ip) : names->n_dns == ARRAY_LEN(names->dns))
        return status_set(st, CODE_INVALID_ARGUMENT, "too many names");
    char *copy = strdup(text);
    if (!copy)
        abort();
    if (is_address) {
        names->ip[names->n_ip++] = copy;
        return CODE_OK;
    }
    for (char *c = copy; *c; c++)
        *c = *c >= 'A' && *c <= 'Z' ? (char)(*c - 'A' + 'a') : *c;
    names->dns[names->n_dns++] = copy;
    return CODE_OK;
}

static enum code make_csr(const struct ca_set *ca, const struct wanted *wanted, const struct key *key,
                          struct der *ret, struct status *st)
{
    struct pki_names names = {0}; /* borrows */
    char uri[400];

    if (wanted->hosts)
        names = *wanted->hosts;
    names.n_uri = 0;
    if (wanted->service) {
        spiffe_format(ca->trust_domain, "service", wanted->service, uri);
        names.uri[names.n_uri++] = uri;
    }
    return csr_make(key, NULL, &names, ret, st);
}

static enum code fill(const struct ca_set *ca, const struct wanted *wanted, const struct key *key,
                      struct bytes cert, struct pair *ret, struct status *st)
{
    AUTO_DER_LIST struct der_list chain = {0};

    TRY(key_to_pem(key, NULL, &ret->key_pem, st));
    TRY(der_list_add(&chain, cert, st));
    TRY(der_list_add(&chain, der_bytes(&ca->certificate[profile_info(wanted->profile)->ca]), st));
    if (wanted->parts == CHAIN_WITH_ROOT)
        TRY(der_list_add(&chain, der_bytes(&ca->root), st));
    return certs_to_pem(&chain, &ret->certs_pem, st);
}

static enum code make(struct ca_set *ca, const struct wanted *wanted, struct pairs *ret, struct status *st)
{
    AUTO_KEY struct key *key = NULL;
    AUTO_DER struct der csr = {0};
    AUTO_DER struct der cert = {0};

    if (ret->n == PAIRS_MAX)
        return status_set(st, CODE_INTERNAL, "more key pairs than there is room for");
    TRY(key_generate(KEY_EC_P256, &key, st));
    TRY(make_csr(ca, wanted, key, &csr, st));
    const struct profile_request request = {
        .profile = wanted->profile,
        .csr = der_bytes(&csr),
        .subject = wanted->service ? wanted->service : "",
        .life_sec = wanted->life_sec,
    };
    TRY(profile_issue(ca, &request, &cert, st));
    struct pair *pair = &ret->item[ret->n++];
    *pair = (struct pair){.directory = wanted->directory, .key = wanted->key, .certs = wanted->certs};
    return fill(ca, wanted, key, der_bytes(&cert), pair, st);
}

enum code pairs_make(struct ca_set *ca, const struct pki_names *gateway, const struct pki_names *bus,
                     struct pairs *ret, struct status *st)
{
    /* The gateway shows the root, too: an agent that has only a token checks the token's pin against it. */
    const struct wanted tls = {PROFILE_GATEWAY_TLS, "gateway", gateway,   GATEWAY_LIFE_SEC,
                               "gateway",           "tls.key", "tls.crt", CHAIN_WITH_ROOT};
    const struct wanted nats = {PROFILE_BUS_TLS, NULL,         bus,          BUS_LIFE_SEC,
                                "bus",           "server.key", "server.crt", CHAIN_LEAF_AND_ISSUER};

    *ret = (struct pairs){0};
    for (size_t i = 0; platform_services[i]; i++) {
        const struct wanted service = {PROFILE_SERVICE,  platform_services[i], NULL,
                                       SERVICE_LIFE_SEC, platform_services[i], "service.key",
                                       "service.crt",    CHAIN_LEAF_AND_ISSUER};
        TRY(make(ca, &service, ret, st));
    }
    if (gateway)
        TRY(make(ca, &tls, ret, st));
    if (bus)
        TRY(make(ca, &nats, ret, st));
    return CODE_OK;
}
