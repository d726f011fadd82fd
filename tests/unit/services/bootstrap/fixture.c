/* See fixture.h. */
#include "services/bootstrap/fixture.h"

#include "cmocka_all.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ca.h"
#include "confirm.h"
#include "enrol.h"
#include "events.h"
#include "peers.h"
#include "pki/token.h"
#include "proto/envelope.pb-c.h"
#include "support/pg.h"
#include "support/tree.h"
#include "wire/wire.h"

_Thread_local struct status why;

/* ---- directories ------------------------------------------------------------------------------------------
 */

static char base_dir[64], ca_dir[128];
static struct signer *the_signer;
static struct settings the_settings;
static pid_t owner;

static void clean_up(void)
{
    if (getpid() != owner)
        return;
    signer_stop(the_signer);
    if (base_dir[0])
        tree_remove(base_dir);
}

static void base_make(void)
{
    if (base_dir[0])
        return;
    (void)snprintf(base_dir, sizeof(base_dir), "/tmp/clm-bootstrap-XXXXXX");
    if (!mkdtemp(base_dir))
        abort();
    owner = getpid();
    (void)atexit(clean_up);
}

void fixture_temp_dir(char out[256])
{
    static unsigned n;
    base_make();
    (void)snprintf(out, 256, "%s/%u", base_dir, n++);
    if (mkdir(out, 0700) != 0)
        abort();
}

const char *fixture_ca_dir(void)
{
    base_make();
    if (!ca_dir[0]) {
        (void)snprintf(ca_dir, sizeof(ca_dir), "%s/ca", base_dir);
        if (mkdir(ca_dir, 0700) != 0)
            abort();
        char name[] = "gw.test.example", address[] = "192.0.2.80";
        const struct pki_names names = {.dns = {name}, .n_dns = 1, .ip = {address}, .n_ip = 1};
        assert_ok(ca_make(ca_dir, TRUST_DOMAIN, &why));
        assert_ok(ca_write_gateway_names(ca_dir, &names, &why));
    }
    return ca_dir;
}

struct signer *fixture_signer(void)
{
    if (!the_signer) {
        const struct signer_config config = {.executable = CLM_BOOTSTRAP, .ca_dir = fixture_ca_dir()};
        assert_ok(signer_start(&config, &the_signer, &why));
    }
    return the_signer;
}

const struct settings *fixture_settings(void)
{
    if (the_settings.root.len == 0) {
        AUTO_CERT_INFO struct cert_info root = {0};
        assert_ok(cert_read(signer_root(fixture_signer()), &root, &why));
        the_settings = (struct settings){
            .gateway_address = "gateway.test.example:8443",
            .gateway_host = "gateway.test.example",
            .trust_domain = TRUST_DOMAIN,
            .root = signer_root(fixture_signer()),
            .identity_life_sec = 30 * 24 * 3600,
            .certificate_life_sec = 90 * 24 * 3600,
            .service_life_sec = 90 * 24 * 3600,
            .checkin_interval_ms = 30000,
        };
        assert_true(hex_decode(root.spki_sha256, the_settings.root_pin, SHA256_SIZE));
    }
    return &the_settings;
}

/* ---- requests ---------------------------------------------------------------------------------------------
 */

struct db *fixture_open_db(void)
{
    static bool migrated;
    struct db *db = NULL;
    const struct db_config config = {.conninfo = pg_conninfo(),
                                     .schema = STORE_SCHEMA,
                                     .application_name = "test",
                                     .statement_timeout_ms = 60000};
    assert_ok(db_open(&config, &db, &why));
    if (!migrated)
        assert_ok(db_migrate(db, STORE_SCHEMA, bootstrap_migrations, &why));
    migrated = true;
    return db;
}

struct request *fixture_request_new(void)
{
    struct request *req = calloc(1, sizeof(*req));
    assert_non_null(req);
    req->db = fixture_open_db();
    req->arena = arena_new();
    req->settings = fixture_settings();
    req->signer = fixture_signer();
    req->throttle = throttle_new(1000000);
    req->actor = "api-key:test";
    return req;
}

void fixture_request_free(struct request *req)
{
    db_close(req->db);
    arena_free(req->arena);
    throttle_free(req->throttle);
    free(req);
}

/* ---- events -----------------------------------------------------------------------------------------------
 */

#define EVENTS_MAX 4096
static struct fixture_event events[EVENTS_MAX];
static size_t n_events;
static pthread_mutex_t events_mutex = PTHREAD_MUTEX_INITIALIZER;

static enum code record(const struct request *req, const char *name, const char *entity, uint64_t version,
                        const char *agent_id, const char *reason)
{
    (void)pthread_mutex_lock(&events_mutex);
    if (n_events == EVENTS_MAX)
        abort();
    struct fixture_event *event = &events[n_events++];
    *event = (struct fixture_event){.version = version};
    (void)snprintf(event->name, sizeof(event->name), "%s", name);
    (void)snprintf(event->entity, sizeof(event->entity), "%s", entity ? entity : "");
    (void)snprintf(event->agent_id, sizeof(event->agent_id), "%s", agent_id ? agent_id : "");
    (void)snprintf(event->reason, sizeof(event->reason), "%s", reason ? reason : "");
    (void)snprintf(event->actor, sizeof(event->actor), "%s", req->actor);
    (void)pthread_mutex_unlock(&events_mutex);
    return CODE_OK;
}

void fixture_events_clear(void)
{
    n_events = 0;
}

size_t fixture_events_count(const char *name)
{
    size_t n = 0;
    for (size_t i = 0; i < n_events; i++)
        n += strcmp(events[i].name, name) == 0;
    return n;
}

struct fixture_event fixture_events_last(const char *name)
{
    for (size_t i = n_events; i > 0; i--)
        if (strcmp(events[i - 1].name, name) == 0)
            return events[i - 1];
    fail_msg("no event %s", name);
    return events[0];
}

enum code event_token(struct request *req, enum token_event what, const char *token_id, uint64_t version,
                      const char *agent_id, const char *reason, const char *source, struct status *st)
{
    static const char *const names[] = {"token.created", "token.used", "token.refused", "token.revoked"};
    (void)source;
    (void)st;
    return record(req, names[what], token_id, version, agent_id, reason);
}

enum code event_identity_issued(struct request *req, const struct identity_row *row, struct status *st)
{
    (void)st;
    return record(req, "identity.issued", row->agent_id, row->version, row->agent_id, NULL);
}

enum code event_identity_confirmed(struct request *req, const char *agent_id, uint32_t generation,
                                   uint64_t version, struct status *st)
{
    (void)generation;
    (void)st;
    return record(req, "identity.confirmed", agent_id, version, agent_id, NULL);
}

enum code event_identity_farewell(struct request *req, const struct identity_row *row, struct status *st)
{
    (void)st;
    return record(req, "identity.farewell", row->agent_id, row->version, row->agent_id, NULL);
}

enum code event_identity_adopted(struct request *req, const struct identity_row *row, uint64_t version,
                                 struct status *st)
{
    (void)st;
    return record(req, "identity.adopted", row->agent_id, version, row->agent_id, NULL);
}

enum code event_certificate_issued(struct request *req, const char *agent_id, const char *task_id,
                                   struct bytes certificate, struct status *st)
{
    (void)certificate;
    (void)st;
    return record(req, "certificate.issued", task_id, 1, agent_id, NULL);
}

enum code event_crl(struct request *req, enum crl_event what, const struct crl_row *crl, struct status *st)
{
    (void)st;
    return record(req, what == CRL_EVENT_LATE ? "crl.late" : "crl.issued", crl->issuer, crl->number, NULL,
                  NULL);
}

/* ---- tasks ------------------------------------------------------------------------------------------------
 */

enum code fixture_tasks_answer = CODE_OK;
uint32_t fixture_tasks_life_sec;
unsigned fixture_tasks_calls;

enum code tasks_authorize_certificate(struct request *req, const struct signed_request *signed_request,
                                      char *const *names, size_t n_names, uint32_t *ret_life_sec,
                                      struct status *st)
{
    (void)req;
    (void)names;
    assert_true(n_names > 0);
    fixture_tasks_calls++;
    *ret_life_sec = fixture_tasks_life_sec;
    if (fixture_tasks_answer == CODE_OK)
        return CODE_OK;
    return status_set(st, fixture_tasks_answer, "tasks says no to attempt %u", signed_request->attempt);
}

uint64_t fixture_registry_version;

enum code registry_agent_version(struct request *req, const char *agent_id, uint64_t *ret, struct status *st)
{
    (void)req;
    (void)agent_id;
    *ret = fixture_registry_version;
    return *ret ? CODE_OK : status_set(st, CODE_UNAVAILABLE, "no registry");
}

/* ---- agents -----------------------------------------------------------------------------------------------
 */

void agent_init(struct agent *agent)
{
    *agent = (struct agent){0};
    assert_ok(key_generate(KEY_EC_P256, &agent->identity_key, &why));
    assert_ok(key_generate(KEY_EC_P256, &agent->task_key, &why));
    assert_ok(csr_make(agent->identity_key, "a host", NULL, &agent->identity_csr, &why));
    assert_ok(csr_make(agent->task_key, "a host", NULL, &agent->task_csr, &why));
}

void agent_done(struct agent *agent)
{
    key_free(agent->identity_key);
    key_free(agent->task_key);
    der_done(&agent->identity_csr);
    der_done(&agent->task_csr);
    der_done(&agent->identity_cert);
    der_done(&agent->task_cert);
    *agent = (struct agent){0};
}

const char *fixture_hostname = "", *fixture_hostname_pattern, *fixture_source_cidr;
bool fixture_source_proven;

void fixture_token(struct request *req, const char *agent_id, const char *dns, uint32_t ttl_sec,
                   char ret_secret[64], char ret_agent_id[UUID_TEXT_SIZE])
{
    static const int64_t operations[] = {2, 3, 4};
    struct token_made made;
    struct token token;

    if (agent_id)
        memmove(ret_agent_id, agent_id, UUID_TEXT_SIZE);
    else
        uuid_v7(ret_agent_id);
    struct token_order order = {
        .agent_id = ret_agent_id,
        .hostname = "host.test.example",
        .hostname_pattern = fixture_hostname_pattern,
        .source_cidr = fixture_source_cidr,
        .ttl_sec = ttl_sec,
        .scope = {.scope_version = 1,
                  .operations = operations,
                  .n_operations = 3,
                  .dns_names = &dns,
                  .n_dns_names = dns ? 1 : 0},
    };
    assert_ok(token_create(req, &order, &made, &why));
    assert_ok(token_parse(made.text, &token, &why));
    secret_free(made.text);
    assert_memory_equal(token.pin, req->settings->root_pin, SHA256_SIZE);
    assert_string_equal(token.gateway, req->settings->gateway_address);
    token_secret_text(&token, ret_secret);
    token_wipe(&token);
}

enum code fixture_enrol(struct request *req, struct agent *agent, const char *secret, struct status *st)
{
    struct enrolled done;
    const char *refusal;
    const struct enrolment in = {
        .source_proven = fixture_source_proven,
        .hostname = fixture_hostname,
        .token_secret = secret,
        .source = "192.0.2.7",
        .csrs.identity = der_bytes(&agent->identity_csr),
        .csrs.task = der_bytes(&agent->task_csr),
    };
    TRY(enrol(req, &in, &done, &refusal, st));
    (void)snprintf(agent->id, sizeof(agent->id), "%s", done.agent_id);
    agent->generation = done.generation;
    der_done(&agent->identity_cert);
    der_done(&agent->task_cert);
    agent->identity_cert = der_dup(done.identity_chain[0]);
    agent->task_cert = der_dup(done.task_chain[0]);
    return CODE_OK;
}

void fixture_say(const struct said *said, const struct key *key, struct bytes cert, struct der *ret)
{
    Clm__SignedRequest message = CLM__SIGNED_REQUEST__INIT;
    AUTO_ARENA struct arena *arena = arena_new();
    const uint8_t *data;
    size_t len;

    message.has_purpose = message.has_generation = message.has_attempt = message.has_made_at_ms = 1;
    message.purpose = (Clm__SignedRequest__Purpose)said->purpose;
    message.agent_id = arena_strdup(arena, said->agent_id);
    message.task_id = arena_strdup(arena, said->task_id);
    message.generation = said->generation;
    message.attempt = said->attempt;
    message.has_csr = said->csr.len > 0;
    message.csr.data = arena_dup(arena, said->csr.data, said->csr.len);
    message.csr.len = said->csr.len;
    message.has_identity_csr = said->identity_csr.len > 0;
    message.identity_csr.data = arena_dup(arena, said->identity_csr.data, said->identity_csr.len);
    message.identity_csr.len = said->identity_csr.len;
    message.has_task_csr = said->task_csr.len > 0;
    message.task_csr.data = arena_dup(arena, said->task_csr.data, said->task_csr.len);
    message.task_csr.len = said->task_csr.len;
    AUTO_DER_LIST struct der_list intermediates = {0};
    ProtobufCBinaryData chain[] = {
        {said->identity_cert.len, arena_dup(arena, said->identity_cert.data, said->identity_cert.len)},
        {said->issuer.len, arena_dup(arena, said->issuer.data, said->issuer.len)}};
    if (said->issuer.len > 0) {
        message.n_identity_chain = ARRAY_LEN(chain);
        message.identity_chain = chain;
        assert_ok(der_list_add(&intermediates, said->issuer, &why));
    }
    wire_pack(&message.base, arena, &data, &len);
    assert_ok(cms_sign(CMS_CONTENT_REQUEST, (struct bytes){data, len}, key, cert, &intermediates, ret, &why));
}

void fixture_confirmed_agent(struct request *req, struct agent *agent, const char *dns)
{
    char secret[64], id[UUID_TEXT_SIZE];
    AUTO_DER struct der cms = {0};
    uint32_t confirmed;

    fixture_token(req, NULL, dns, 0, secret, id);
    assert_ok(fixture_enrol(req, agent, secret, &why));
    const struct said said = {.purpose = CLM__SIGNED_REQUEST__PURPOSE__CONFIRM,
                              .agent_id = agent->id,
                              .generation = agent->generation};
    fixture_say(&said, agent->task_key, der_bytes(&agent->task_cert), &cms);
    assert_ok(identity_confirm(req, agent->id, agent->generation, der_bytes(&cms), &confirmed, &why));
    assert_int_equal(confirmed, agent->generation);
}

void fixture_csr(const struct key *key, const char *dns, const char *ip, const char *uri, struct der *ret)
{
    AUTO_PKI_NAMES struct pki_names names = {0};
    if (dns)
        names.dns[names.n_dns++] = strdup(dns);
    if (ip)
        names.ip[names.n_ip++] = strdup(ip);
    if (uri)
        names.uri[names.n_uri++] = strdup(uri);
    assert_ok(csr_make(key, NULL, &names, ret, &why));
}
