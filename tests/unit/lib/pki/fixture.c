/* Test PKI (fixture.h). */
#include "fixture.h"

void ca_init(struct ca *ca, struct ca *parent, const char *name, enum pki_purpose purpose, int64_t now_ms)
{
    struct status st;
    struct key *key = NULL;
    AUTO_DER struct der spki = {0};
    memset(ca, 0, sizeof(*ca));
    assert_ok(key_generate(KEY_EC_P256, &key, &st), &st);
    assert_ok(key_spki(key, &spki, &st), &st);
    const struct cert_request req = {.spki = der_bytes(&spki),
                                     .common_name = name,
                                     .purpose = purpose,
                                     .is_ca = true,
                                     .path_len = parent ? 0 : 1,
                                     .not_before_ms = now_ms - DAY_MS,
                                     .not_after_ms = now_ms + 365 * DAY_MS};
    if (parent)
        assert_ok(issuer_sign(parent->issuer, &req, &ca->cert, &st), &st);
    else
        assert_ok(issuer_self_sign(key, &req, &ca->cert, &st), &st);
    assert_ok(issuer_new(key, der_bytes(&ca->cert), &ca->issuer, &st), &st);
    assert_ok(der_list_add(&ca->chain, der_bytes(&ca->cert), &st), &st);
}

void ca_done(struct ca *ca)
{
    issuer_free(ca->issuer);
    der_done(&ca->cert);
    der_list_done(&ca->chain);
}

void pki_init(struct pki *pki, int64_t now_ms)
{
    struct status st;
    memset(pki, 0, sizeof(*pki));
    pki->now_ms = now_ms;
    ca_init(&pki->root, NULL, "Test Root", PURPOSE_ANY, now_ms);
    ca_init(&pki->agents, &pki->root, "Test Agents", PURPOSE_AGENT_IDENTITY, now_ms);
    ca_init(&pki->services, &pki->root, "Test Services", PURPOSE_SERVICE, now_ms);
    ca_init(&pki->envelopes, &pki->root, "Test Envelopes", PURPOSE_ENVELOPE, now_ms);
    ca_init(&pki->managed, &pki->root, "Test Managed", PURPOSE_TLS_SERVER, now_ms);
    assert_ok(der_list_add(&pki->roots, der_bytes(&pki->root.cert), &st), &st);
}

void pki_done(struct pki *pki)
{
    ca_done(&pki->root);
    ca_done(&pki->agents);
    ca_done(&pki->services);
    ca_done(&pki->envelopes);
    ca_done(&pki->managed);
    der_list_done(&pki->roots);
}

void entity_init(struct entity *entity, struct ca *ca, enum pki_purpose purpose, const char *kind,
                 const char *name, int64_t now_ms)
{
    struct status st;
    char uri[400];
    AUTO_DER struct der spki = {0};
    memset(entity, 0, sizeof(*entity));
    spiffe_format("test.example", kind, name, uri);
    const struct pki_names names = {.uri = {uri}, .n_uri = 1};
    assert_ok(key_generate(KEY_EC_P256, &entity->key, &st), &st);
    assert_ok(key_spki(entity->key, &spki, &st), &st);
    const struct cert_request req = {.spki = der_bytes(&spki),
                                     .common_name = name,
                                     .names = &names,
                                     .purpose = purpose,
                                     .tls_client_and_server = purpose == PURPOSE_SERVICE,
                                     .not_before_ms = now_ms - HOUR_MS,
                                     .not_after_ms = now_ms + 30 * DAY_MS};
    assert_ok(issuer_sign(ca->issuer, &req, &entity->cert, &st), &st);
}

void entity_done(struct entity *entity)
{
    key_free(entity->key);
    der_done(&entity->cert);
}
