/*
 * What the tests of clm-bootstrap stand on: a CA directory made by the real ca_make, the real signer process,
 * a private PostgreSQL with the real migrations. Faked at link time: events (recorded in memory) and the
 * tasks service's word.
 */
#ifndef CLM_TESTS_BOOTSTRAP_FIXTURE_H
#define CLM_TESTS_BOOTSTRAP_FIXTURE_H

#include "bootstrap.h"
#include "pki/cms.h"
#include "store.h"
#include "tokens.h"

#define TRUST_DOMAIN "test.example"

/* A CA directory of this process, made at the first call and removed at its end. */
const char *fixture_ca_dir(void);
/* A fresh directory below it. */
void fixture_temp_dir(char out[256]);
struct signer *fixture_signer(void); /* one a process */
struct db *fixture_open_db(void);    /* a session of its own, schema migrated */
const struct settings *fixture_settings(void);

/* A request with its own session and arena. */
struct request *fixture_request_new(void);
void fixture_request_free(struct request *req);

/* ---- recorded events; thread-safe */
struct fixture_event {
    char name[32]; /* "token.refused" */
    char entity[80], agent_id[40], reason[32], actor[80];
    uint64_t version;
};
void fixture_events_clear(void);
size_t fixture_events_count(const char *name);
/* The last one of that name; fails the test if there is none. */
struct fixture_event fixture_events_last(const char *name);

/* ---- the tasks service's word */
extern enum code fixture_tasks_answer;
extern uint32_t fixture_tasks_life_sec;
extern unsigned fixture_tasks_calls;

/* ---- the registry's; 0: it does not answer */
extern uint64_t fixture_registry_version;

/* ---- agents */
struct agent { /* a host's two keys and what it was given */
    struct key *identity_key, *task_key;
    struct der identity_csr, task_csr;
    char id[UUID_TEXT_SIZE];
    uint32_t generation;
    struct der identity_cert, task_cert;
};
void agent_init(struct agent *agent);
void agent_done(struct agent *agent);
#define AUTO_AGENT CLEANUP(agent_done)

/* The secret part of a new token for a new agent (or agent_id) whose scope allows RENEW of dns (may be NULL).
 */
extern const char *fixture_hostname_pattern, *fixture_source_cidr; /* of the next tokens; NULL: none */
void fixture_token(struct request *req, const char *agent_id, const char *dns, uint32_t ttl_sec,
                   char ret_secret[64], char ret_agent_id[UUID_TEXT_SIZE]);
/* What the next enrolments say beside the token; "" and false at the start. */
extern const char *fixture_hostname;
extern bool fixture_source_proven;
enum code fixture_enrol(struct request *req, struct agent *agent, const char *secret, struct status *st);
/* Token, enrolment and confirmation. */
void fixture_confirmed_agent(struct request *req, struct agent *agent, const char *dns);

/* CMS over a SignedRequest by the agent's task key (or by `key` with `cert`). */
struct said {
    int purpose; /* Clm__SignedRequest__Purpose */
    const char *agent_id, *task_id;
    uint32_t generation, attempt;
    struct bytes csr, identity_csr, task_csr;
    struct bytes identity_cert, issuer; /* of CONFIRM; issuer rides in the CMS, too */
};
void fixture_say(const struct said *said, const struct key *key, struct bytes cert, struct der *ret);
void fixture_csr(const struct key *key, const char *dns, const char *ip, const char *uri, struct der *ret);

/* Where the last call said why it failed. */
extern _Thread_local struct status why;
#define assert_ok(expr)                                                                                      \
    do {                                                                                                     \
        if ((expr) != CODE_OK)                                                                               \
            fail_msg("%s: %s", #expr, why.msg);                                                              \
    } while (0)

#endif
