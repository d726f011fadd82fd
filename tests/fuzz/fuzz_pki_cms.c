/*
 * Signed messages and envelopes. The first byte chooses: 0: the rest is the message as a peer sent it; 1: the
 * rest is a list of (offset, value) to write over a valid envelope, 2: over its inner part, made in this run.
 * Nothing that was changed may give another plaintext.
 */
#include <stdlib.h>
#include <string.h>

#include "pki/cms.h"
#include "pki/issue.h"

#define NOW    ((int64_t)1795478400000)
#define DAY_MS ((int64_t)86400000)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char order[] = "task 1, attempt 1";

static struct world {
    struct key *signer, *agent;
    struct der signer_cert, agent_cert, envelope, inner;
    struct der_list roots;
} world;

static void need(enum code code, const struct status *st)
{
    if (code != CODE_OK) {
        (void)fprintf(stderr, "%s\n", st->msg);
        abort();
    }
}

static struct der issue(struct issuer *issuer, struct key *key, enum pki_purpose purpose)
{
    struct status st;
    struct der cert = {0};
    char uri[] = "spiffe://test.example/agent/1";
    const struct pki_names names = {.uri = {uri}, .n_uri = 1};
    AUTO_DER struct der spki = {0};
    need(key_spki(key, &spki, &st), &st);
    const struct cert_request req = {.spki = der_bytes(&spki),
                                     .names = &names,
                                     .purpose = purpose,
                                     .not_before_ms = NOW - DAY_MS,
                                     .not_after_ms = NOW + DAY_MS};
    need(issuer_sign(issuer, &req, &cert, &st), &st);
    return cert;
}

static void world_make(struct world *w)
{
    struct status st;
    struct key *root = NULL;
    AUTO_ISSUER struct issuer *issuer = NULL;
    AUTO_DER struct der cert = {0};
    const struct cert_request req = {.common_name = "Root",
                                     .is_ca = true,
                                     .path_len = 0,
                                     .not_before_ms = NOW - DAY_MS,
                                     .not_after_ms = NOW + DAY_MS};
    need(key_generate(KEY_EC_P256, &root, &st), &st);
    need(issuer_self_sign(root, &req, &cert, &st), &st);
    need(issuer_new(root, der_bytes(&cert), &issuer, &st), &st);
    need(der_list_add(&w->roots, der_bytes(&cert), &st), &st);
    need(key_generate(KEY_EC_P256, &w->signer, &st), &st);
    need(key_generate(KEY_EC_P256, &w->agent, &st), &st);
    w->signer_cert = issue(issuer, w->signer, PURPOSE_ENVELOPE);
    w->agent_cert = issue(issuer, w->agent, PURPOSE_AGENT_TASK);
    AUTO_CMS_SIGNER struct cms_signer *by = NULL;
    need(cms_signer_new(w->signer, der_bytes(&w->signer_cert), NULL, &by, &st), &st);
    need(envelope_seal((struct bytes){(const uint8_t *)order, sizeof(order)}, der_bytes(&w->agent_cert), by,
                       &w->envelope, &st),
         &st);
    need(envelope_verify(der_bytes(&w->envelope), &w->roots, NOW, &w->inner, NULL, &st), &st);
}

static void try_open(const struct world *w, struct bytes inner, bool may_open)
{
    struct status st;
    AUTO_DER struct der plain = {0};
    if (envelope_open(inner, w->agent, der_bytes(&w->agent_cert), &plain, &st) != CODE_OK) {
        if (plain.data)
            abort();
        return;
    }
    if (!may_open || plain.len != sizeof(order) || memcmp(plain.data, order, sizeof(order)) != 0)
        abort();
}

static void try_all(const struct world *w, struct bytes message, const struct der *original)
{
    struct status st;
    bool same =
        original && message.len == original->len && memcmp(message.data, original->data, message.len) == 0;
    AUTO_DER struct der claimed = {0};
    AUTO_DER struct der content = {0};
    AUTO_DER struct der inner = {0};
    struct bytes expected = der_bytes(&w->signer_cert);
    if ((cms_claimed_signer(message, &claimed, &st) == CODE_OK) != (claimed.len > 0))
        abort();
    if (envelope_verify(message, &w->roots, NOW, &inner, NULL, &st) == CODE_OK) {
        if (!same)
            abort();
        try_open(w, der_bytes(&inner), true);
    }
    if (cms_verify(CMS_CONTENT_ENVELOPE, message, &expected, NULL, PURPOSE_ENVELOPE, NOW, &content, NULL,
                   &st) == CODE_OK &&
        (content.len != w->inner.len || memcmp(content.data, w->inner.data, content.len) != 0))
        abort();
}

/* Writes 3-byte instructions over a copy of `original`. */
static struct der patched(const struct der *original, const uint8_t *data, size_t size)
{
    struct der copy = der_dup(der_bytes(original));
    for (; size >= 3; data += 3, size -= 3)
        copy.data[(size_t)(data[0] << 8 | data[1]) % copy.len] = data[2];
    return copy;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!world.signer)
        world_make(&world);
    if (size == 0)
        return 0;
    if (data[0] == 1) {
        AUTO_DER struct der changed = patched(&world.envelope, data + 1, size - 1);
        try_all(&world, der_bytes(&changed), &world.envelope);
    } else if (data[0] == 2) {
        AUTO_DER struct der changed = patched(&world.inner, data + 1, size - 1);
        bool same = memcmp(changed.data, world.inner.data, changed.len) == 0;
        try_open(&world, der_bytes(&changed), same);
    } else {
        try_all(&world, (struct bytes){data + 1, size - 1}, NULL);
        try_open(&world, (struct bytes){data + 1, size - 1}, false);
    }
    return 0;
}
