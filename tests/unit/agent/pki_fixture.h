/* A platform's PKI and one agent's identity, made at run time. */
#ifndef CLM_TESTS_AGENT_PKI_FIXTURE_H
#define CLM_TESTS_AGENT_PKI_FIXTURE_H

#include "agent/exec/state.h"
#include "pki/issue.h"
#include "proto/envelope.pb-c.h"
#include "proto/tasks.pb-c.h"

#define TEST_AGENT_ID    "019a0000-0000-7000-8000-000000000001"
#define TEST_OTHER_AGENT "019a0000-0000-7000-8000-000000000002"
#define TEST_TASK_ID     "019a0000-0000-7000-8000-0000000000aa"
#define TEST_OTHER_TASK  "019a0000-0000-7000-8000-0000000000bb"
#define TEST_DOMAIN      "test.example"
#define TEST_NOW_MS      INT64_C(1763900000000)

struct test_ca {
    struct key *key;
    struct der cert;
};
struct test_signer {
    struct key *key;
    struct der cert;
};

void test_ca_init(struct test_ca *ca, const char *name);
void test_ca_done(struct test_ca *ca);
/* spiffe_kind NULL: dns is the one SAN. spki NULL: a new key. */
struct test_leaf {
    enum pki_purpose purpose;
    const char *spiffe_kind, *spiffe_name, *serial, *dns;
    int64_t not_before_ms, not_after_ms; /* 0: an hour around TEST_NOW_MS */
    const struct key *for_key;
};
void test_issue(const struct test_ca *ca, const struct test_leaf *leaf, struct der *ret);
void test_signer_init(struct test_signer *signer, const struct test_ca *ca, const struct test_leaf *leaf);
void test_signer_done(struct test_signer *signer);
struct der test_csr(const struct key *key, const char *dns);

/* Generation 3, in memory only. */
struct agent_state *test_state(const struct test_ca *ca);
void test_state_free(struct agent_state *state);

/* A TaskOrder for TEST_TASK_ID, attempt 1, VALIDATE, with a scope for everything. The caller may change it
 * before packing; the spec's bytes stay the caller's. */
void test_order(Clm__TaskOrder *order, Clm__Scope *scope, const Clm__TaskSpec *spec, uint8_t spec_bytes[512]);
struct der test_pack(const ProtobufCMessage *msg);

#endif
