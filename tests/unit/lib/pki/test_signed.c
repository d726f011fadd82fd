/* Signed statements: purpose, payload, signer and remembered verdicts. */
#include "fixture.h"

#include <pthread.h>

#include "pki/signed.h"

#define NOW ((int64_t)1795478400000)

struct world {
    struct pki pki;
    struct entity registry;
    struct signed_verifier *verifier;
};

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    assert_non_null(w);
    pki_init(&w->pki, NOW);
    entity_init(&w->registry, &w->pki.services, PURPOSE_SERVICE, "service", "registry", NOW);
    w->verifier = signed_verifier_new(&w->pki.roots, &w->pki.services.chain);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    signed_verifier_free(w->verifier);
    entity_done(&w->registry);
    pki_done(&w->pki);
    free(w);
    return 0;
}

static enum code verify(struct world *w, const char *purpose, const char *payload,
                        const struct der *signature, const struct der *cert, int64_t at_ms, char service[64],
                        struct status *st)
{
    return signed_verify(w->verifier, purpose, text_bytes(payload), der_bytes(signature), der_bytes(cert),
                         at_ms, service, st);
}

static void statement_verifies_and_names_its_service(void **state)
{
    struct world *w = *state;
    struct status st;
    char service[64] = "";
    AUTO_DER struct der signature = {0};
    assert_ok(signed_make("assertion", text_bytes("who"), w->registry.key, &signature, &st), &st);
    for (int i = 0; i < 3; i++) { /* the second time out of memory */
        assert_ok(verify(w, "assertion", "who", &signature, &w->registry.cert, NOW, service, &st), &st);
        assert_string_equal(service, "registry");
    }
}

static void other_purpose_payload_or_signature_is_refused(void **state)
{
    struct world *w = *state;
    struct status st;
    char service[64] = "none";
    AUTO_DER struct der signature = {0};
    assert_ok(signed_make("assertion", text_bytes("who"), w->registry.key, &signature, &st), &st);
    /* Once with the certificate unknown, once with it remembered. */
    for (int i = 0; i < 2; i++) {
        assert_code(CODE_UNAUTHENTICATED,
                    verify(w, "authority", "who", &signature, &w->registry.cert, NOW, service, &st), &st);
        assert_code(CODE_UNAUTHENTICATED,
                    verify(w, "assertion", "why", &signature, &w->registry.cert, NOW, service, &st), &st);
        assert_code(CODE_UNAUTHENTICATED,
                    verify(w, "assertionwho", "", &signature, &w->registry.cert, NOW, service, &st), &st);
    }
    assert_string_equal(service, "none");
    for (size_t i = 0; i < signature.len; i++) {
        signature.data[i] ^= 0x01;
        assert_code(CODE_UNAUTHENTICATED,
                    verify(w, "assertion", "who", &signature, &w->registry.cert, NOW, service, &st), &st);
        signature.data[i] ^= 0x01;
    }
}

static void remembered_verdict_ends_with_the_certificate(void **state)
{
    struct world *w = *state;
    struct status st;
    char service[64];
    AUTO_DER struct der signature = {0};
    assert_ok(signed_make("assertion", text_bytes("who"), w->registry.key, &signature, &st), &st);
    assert_ok(verify(w, "assertion", "who", &signature, &w->registry.cert, NOW, service, &st), &st);
    assert_code(CODE_UNAUTHENTICATED,
                verify(w, "assertion", "who", &signature, &w->registry.cert, NOW + 30 * DAY_MS, service, &st),
                &st);
    assert_code(CODE_UNAUTHENTICATED,
                verify(w, "assertion", "who", &signature, &w->registry.cert, NOW - 2 * HOUR_MS, service, &st),
                &st);
    assert_ok(verify(w, "assertion", "who", &signature, &w->registry.cert, NOW, service, &st), &st);
}

static void repeated_statement_is_remembered_whole_and_ends_with_the_certificate(void **state)
{
    struct world *w = *state;
    struct status st;
    char service[64] = "";
    AUTO_DER struct der signature = {0};
    struct bytes who = text_bytes("who");
    struct bytes cert = der_bytes(&w->registry.cert);
    assert_ok(signed_make("assertion", who, w->registry.key, &signature, &st), &st);
    const struct {
        const char *purpose;
        struct bytes payload;
        int64_t at_ms;
    } refused[] = {
        {"authority", who, NOW},
        {"assertion", text_bytes("why"), NOW},
        {"assertionwho", text_bytes(""), NOW},
        {"assertion", who, NOW + 30 * DAY_MS},
        {"assertion", who, NOW - 2 * HOUR_MS},
    };
    for (int i = 0; i < 3; i++) { /* the first time unknown */
        assert_ok(signed_verify_repeated(w->verifier, "assertion", who, der_bytes(&signature), cert, NOW,
                                         service, &st),
                  &st);
        assert_string_equal(service, "registry");
        for (size_t j = 0; j < ARRAY_LEN(refused); j++)
            assert_code(CODE_UNAUTHENTICATED,
                        signed_verify_repeated(w->verifier, refused[j].purpose, refused[j].payload,
                                               der_bytes(&signature), cert, refused[j].at_ms, service, &st),
                        &st);
        for (size_t j = 0; j < signature.len; j++) {
            signature.data[j] ^= 0x01;
            assert_code(CODE_UNAUTHENTICATED,
                        signed_verify_repeated(w->verifier, "assertion", who, der_bytes(&signature), cert,
                                               NOW, service, &st),
                        &st);
            signature.data[j] ^= 0x01;
        }
    }
}

static void refused_statement_is_not_remembered_as_good(void **state)
{
    struct world *w = *state;
    struct status st;
    char service[64] = "none";
    struct entity agent;
    AUTO_DER struct der signature = {0};
    entity_init(&agent, &w->pki.agents, PURPOSE_AGENT_TASK, "agent", "registry", NOW);
    assert_ok(signed_make("assertion", text_bytes("who"), agent.key, &signature, &st), &st);
    for (int i = 0; i < 2; i++)
        assert_code(CODE_UNAUTHENTICATED,
                    signed_verify_repeated(w->verifier, "assertion", text_bytes("who"), der_bytes(&signature),
                                           der_bytes(&agent.cert), NOW, service, &st),
                    &st);
    assert_string_equal(service, "none");
    entity_done(&agent);
}

static void more_statements_than_are_remembered_still_verify(void **state)
{
    struct world *w = *state;
    for (int i = 0; i < 1500; i++) {
        struct status st;
        char service[64] = "";
        char payload[16];
        AUTO_DER struct der signature = {0};
        (void)snprintf(payload, sizeof(payload), "p%d", i);
        assert_ok(signed_make("p", text_bytes(payload), w->registry.key, &signature, &st), &st);
        for (int j = 0; j < 2; j++) {
            assert_ok(signed_verify_repeated(w->verifier, "p", text_bytes(payload), der_bytes(&signature),
                                             der_bytes(&w->registry.cert), NOW, service, &st),
                      &st);
            assert_string_equal(service, "registry");
        }
    }
}

static void only_services_may_state(void **state)
{
    struct world *w = *state;
    const struct {
        struct ca *ca;
        enum pki_purpose purpose;
        const char *kind;
    } cases[] = {
        {&w->pki.agents, PURPOSE_AGENT_TASK, "agent"},
        {&w->pki.envelopes, PURPOSE_ENVELOPE, "service"},
        {&w->pki.services, PURPOSE_SERVICE, "agent"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct status st;
        char service[64];
        struct entity entity;
        AUTO_DER struct der signature = {0};
        entity_init(&entity, cases[i].ca, cases[i].purpose, cases[i].kind, "registry", NOW);
        assert_ok(signed_make("assertion", text_bytes("who"), entity.key, &signature, &st), &st);
        assert_code(CODE_UNAUTHENTICATED,
                    verify(w, "assertion", "who", &signature, &entity.cert, NOW, service, &st), &st);
        entity_done(&entity);
    }
}

static void more_signers_than_are_remembered_still_verify(void **state)
{
    struct world *w = *state;
    struct status st;
    AUTO_DER struct der first = {0};
    assert_ok(signed_make("p", text_bytes("x"), w->registry.key, &first, &st), &st);
    for (int i = 0; i < 260; i++) {
        char service[64];
        char name[16];
        struct entity entity;
        AUTO_DER struct der signature = {0};
        (void)snprintf(name, sizeof(name), "s%d", i);
        entity_init(&entity, &w->pki.services, PURPOSE_SERVICE, "service", name, NOW);
        assert_ok(signed_make("p", text_bytes("x"), entity.key, &signature, &st), &st);
        assert_ok(verify(w, "p", "x", &signature, &entity.cert, NOW, service, &st), &st);
        assert_string_equal(service, name);
        assert_ok(verify(w, "p", "x", &first, &w->registry.cert, NOW, service, &st), &st);
        assert_string_equal(service, "registry");
        entity_done(&entity);
    }
}

static void missing_parts_are_an_invalid_argument(void **state)
{
    struct world *w = *state;
    struct status st;
    char service[64];
    const struct der none = {0};
    AUTO_DER struct der signature = {0};
    assert_ok(signed_make("p", text_bytes("x"), w->registry.key, &signature, &st), &st);
    assert_code(CODE_INVALID_ARGUMENT, verify(w, "p", "x", &none, &w->registry.cert, NOW, service, &st), &st);
    assert_code(CODE_INVALID_ARGUMENT, verify(w, "p", "x", &signature, &none, NOW, service, &st), &st);
    assert_code(CODE_INVALID_ARGUMENT, verify(w, "p", "x", &signature, &signature, NOW, service, &st), &st);
}

static void verifier_without_usable_roots_accepts_nothing(void **state)
{
    struct world *w = *state;
    struct status st;
    char service[64];
    AUTO_DER struct der signature = {0};
    AUTO_DER_LIST struct der_list bad = {0};
    assert_ok(signed_make("p", text_bytes("x"), w->registry.key, &signature, &st), &st);
    assert_ok(der_list_add(&bad, text_bytes("x"), &st), &st);
    struct signed_verifier *verifier = signed_verifier_new(&bad, &bad);
    assert_code(CODE_UNAUTHENTICATED,
                signed_verify(verifier, "p", text_bytes("x"), der_bytes(&signature),
                              der_bytes(&w->registry.cert), NOW, service, &st),
                &st);
    signed_verifier_free(verifier);
}

static void *verify_often(void *arg)
{
    struct world *w = arg;
    struct status st;
    AUTO_DER struct der signature = {0};
    AUTO_SECRET struct secret *pem = NULL;
    AUTO_KEY struct key *key = NULL;
    long bad = 0;
    /* A key belongs to one thread. */
    if (key_to_pem(w->registry.key, NULL, &pem, &st) != CODE_OK ||
        key_parse(pem, NULL, &key, &st) != CODE_OK ||
        signed_make("p", text_bytes("x"), key, &signature, &st) != CODE_OK)
        return (void *)1;
    for (int i = 0; i < 50; i++) {
        char service[64];
        if (verify(w, "p", "x", &signature, &w->registry.cert, NOW, service, &st) != CODE_OK ||
            strcmp(service, "registry") != 0)
            bad++;
        if (signed_verify_repeated(w->verifier, "p", text_bytes("x"), der_bytes(&signature),
                                   der_bytes(&w->registry.cert), NOW, service, &st) != CODE_OK ||
            strcmp(service, "registry") != 0)
            bad++;
    }
    return bad ? (void *)1 : NULL;
}

static void one_verifier_serves_many_threads(void **state)
{
    pthread_t threads[4];
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, verify_often, *state), 0);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        void *bad = NULL;
        assert_int_equal(pthread_join(threads[i], &bad), 0);
        assert_null(bad);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(other_purpose_payload_or_signature_is_refused),
        cmocka_unit_test(statement_verifies_and_names_its_service),
        cmocka_unit_test(remembered_verdict_ends_with_the_certificate),
        cmocka_unit_test(repeated_statement_is_remembered_whole_and_ends_with_the_certificate),
        cmocka_unit_test(refused_statement_is_not_remembered_as_good),
        cmocka_unit_test(more_statements_than_are_remembered_still_verify),
        cmocka_unit_test(only_services_may_state),
        cmocka_unit_test(more_signers_than_are_remembered_still_verify),
        cmocka_unit_test(missing_parts_are_an_invalid_argument),
        cmocka_unit_test(verifier_without_usable_roots_accepts_nothing),
        cmocka_unit_test(one_verifier_serves_many_threads),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
