/* See the header. Everything aborts on failure: a fixture has no opinions. */
#include "pki_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MUST_OK(expr)                                                                                        \
    do {                                                                                                     \
        struct status st;                                                                                    \
        if ((expr) != CODE_OK) {                                                                             \
            (void)fprintf(stderr, "%s: %s\n", #expr, st.msg);                                                \
            abort();                                                                                         \
        }                                                                                                    \
    } while (0)

#define HOUR_MS (INT64_C(60) * 60 * 1000)

void test_ca_init(struct test_ca *ca, const char *name)
{
    struct pki_names names = {0};
    struct der spki = {0};
    MUST_OK(key_generate(KEY_EC_P256, &ca->key, &st));
    MUST_OK(key_spki(ca->key, &spki, &st));
    struct cert_request request = {.spki = der_bytes(&spki),
                                   .common_name = name,
                                   .names = &names,
                                   .purpose = PURPOSE_ANY,
                                   .is_ca = true,
                                   .path_len = 1,
                                   .not_before_ms = TEST_NOW_MS - 100 * HOUR_MS,
                                   .not_after_ms = TEST_NOW_MS + 100000 * HOUR_MS};
    MUST_OK(issuer_self_sign(ca->key, &request, &ca->cert, &st));
    der_done(&spki);
}

void test_ca_done(struct test_ca *ca)
{
    key_free(ca->key);
    der_done(&ca->cert);
}

static struct key *key_copy(const struct key *key)
{
    AUTO_SECRET struct secret *pem = NULL;
    struct key *copy;
    MUST_OK(key_to_pem(key, NULL, &pem, &st));
    MUST_OK(key_parse(pem, NULL, &copy, &st));
    return copy;
}

void test_issue(const struct test_ca *ca, const struct test_leaf *leaf, struct der *ret)
{
    char uri[400];
    struct pki_names names = {0};
    AUTO_ISSUER struct issuer *issuer = NULL;
    AUTO_DER struct der spki = {0};
    if (leaf->spiffe_kind) {
        spiffe_format(TEST_DOMAIN, leaf->spiffe_kind, leaf->spiffe_name, uri);
        names.uri[names.n_uri++] = uri;
    }
    if (leaf->dns)
        names.dns[names.n_dns++] = (char *)(uintptr_t)leaf->dns;
    MUST_OK(key_spki(leaf->for_key, &spki, &st));
    struct cert_request request = {
        .spki = der_bytes(&spki),
        .common_name = "test",
        .subject_serial = leaf->serial,
        .names = &names,
        .purpose = leaf->purpose,
        .path_len = -1,
        .not_before_ms = leaf->not_before_ms ? leaf->not_before_ms : TEST_NOW_MS - HOUR_MS,
        .not_after_ms = leaf->not_after_ms ? leaf->not_after_ms : TEST_NOW_MS + HOUR_MS};
    MUST_OK(issuer_new(key_copy(ca->key), der_bytes(&ca->cert), &issuer, &st));
    MUST_OK(issuer_sign(issuer, &request, ret, &st));
}

void test_signer_init(struct test_signer *signer, const struct test_ca *ca, const struct test_leaf *leaf)
{
    struct test_leaf copy = *leaf;
    *signer = (struct test_signer){0};
    MUST_OK(key_generate(KEY_EC_P256, &signer->key, &st));
    copy.for_key = signer->key;
    test_issue(ca, &copy, &signer->cert);
}

void test_signer_done(struct test_signer *signer)
{
    key_free(signer->key);
    der_done(&signer->cert);
}

struct der test_csr(const struct key *key, const char *dns)
{
    struct pki_names names = {0};
    struct der csr = {0};
    if (dns)
        names.dns[names.n_dns++] = (char *)(uintptr_t)dns;
    MUST_OK(csr_make(key, "test", &names, &csr, &st));
    return csr;
}

struct agent_state *test_state(const struct test_ca *ca)
{
    struct agent_state *state = calloc(1, sizeof(*state));
    if (!state)
        abort();
    state->lock_fd = -1;
    memcpy(state->agent_id, TEST_AGENT_ID, sizeof(TEST_AGENT_ID));
    memcpy(state->trust_domain, TEST_DOMAIN, sizeof(TEST_DOMAIN));
    state->generation = 3;
    MUST_OK(key_generate(KEY_EC_P256, &state->task_key, &st));
    struct test_leaf leaf = {.purpose = PURPOSE_AGENT_TASK,
                             .spiffe_kind = "agent",
                             .spiffe_name = TEST_AGENT_ID,
                             .serial = "3",
                             .for_key = state->task_key};
    AUTO_DER struct der cert = {0};
    test_issue(ca, &leaf, &cert);
    MUST_OK(der_list_add(&state->task_chain, der_bytes(&cert), &st));
    MUST_OK(der_list_add(&state->roots, der_bytes(&ca->cert), &st));
    return state;
}

void test_state_free(struct agent_state *state)
{
    state_free(state);
}

void test_order(Clm__TaskOrder *order, Clm__Scope *scope, const Clm__TaskSpec *spec, uint8_t spec_bytes[512])
{
    static Clm__Task__Kind operations[] = {CLM__TASK__KIND__DEPLOY, CLM__TASK__KIND__RENEW,
                                           CLM__TASK__KIND__VALIDATE, CLM__TASK__KIND__DISCOVER};
    clm__task_order__init(order);
    clm__scope__init(scope);
    scope->n_operations = 4;
    scope->operations = operations;
    order->task_id = (char *)(uintptr_t)TEST_TASK_ID;
    order->agent_id = (char *)(uintptr_t)TEST_AGENT_ID;
    order->has_attempt = order->has_generation = order->has_not_before_at_ms = order->has_not_after_at_ms = 1;
    order->has_lease = order->has_spec = order->has_deadline_at_ms = 1;
    order->attempt = 1;
    order->generation = 3;
    order->not_before_at_ms = TEST_NOW_MS - 300000;
    order->not_after_at_ms = TEST_NOW_MS + 300000;
    order->deadline_at_ms = TEST_NOW_MS + 300000;
    order->lease = 1;
    order->spec = (ProtobufCBinaryData){clm__task_spec__pack(spec, spec_bytes), spec_bytes};
    order->scope = scope;
}

struct der test_pack(const ProtobufCMessage *msg)
{
    struct der der = {.len = protobuf_c_message_get_packed_size(msg)};
    der.data = malloc(der.len + 1);
    if (!der.data)
        abort();
    (void)protobuf_c_message_pack(msg, der.data);
    return der;
}
