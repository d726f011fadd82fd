/*
 * clm-bootstrap as its neighbours see it: the real process, made ready by its own init, on a real nats-server
 * and a real PostgreSQL. This process plays the registry, the gateway, the tasks service and an agent.
 */
#include "cmocka_all.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "bus/bus.h"
#include "pki/token.h"
#include "proto/bootstrap.pb-c.h"
#include "proto/envelope.pb-c.h"
#include "proto/event.pb-c.h"
#include "proto/tasks.pb-c.h"
#include "services/bootstrap/fixture.h"
#include "support/methods.h"
#include "support/nats.h"
#include "support/pg.h"

#define WAIT_MS 20000

static char base[256], pki[300], conf[300], log_file[300];
static pid_t service = -1;
static struct arena *arena;
static struct bus *registry_bus, *gateway_bus, *tasks_bus;
static struct bus_identity *registry, *gateway, *tasks;
static struct rpc_server *tasks_server;
static struct key *keys[3]; /* borrowed by the identities */
static size_t n_keys;

/* ---- processes --------------------------------------------------------------------------------------------
 */

static pid_t start_program(const char *const argv[])
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid > 0)
        return pid;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    int fd = open(log_file, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (fd < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0)
        _exit(126);
    (void)execv(CLM_BOOTSTRAP, (char *const *)(uintptr_t)argv);
    _exit(127);
}

static int wait_exit(pid_t pid)
{
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static const char *read_text(const char *path)
{
    struct buf *text = arena_alloc(arena, sizeof(*text));
    buf_init(text, 4 * 1024 * 1024);
    assert_ok(file_read(path, 4 * 1024 * 1024, text, &why));
    const char *copy = arena_strdup(arena, buf_text(text));
    buf_done(text);
    return copy;
}

static void must_run(const char *const argv[])
{
    if (wait_exit(start_program(argv)) != 0)
        fail_msg("clm-bootstrap %s: %s", argv[1], read_text(log_file));
}

static void write_config(void)
{
    const char *text = arena_printf(arena,
                                    "[service]\nadmin_listen = 127.0.0.1:0\n"
                                    "[identity]\nkey = %s/bootstrap/service.key\n"
                                    "certificate = %s/bootstrap/service.crt\nroots = %s/roots.pem\n"
                                    "[bus]\nurl = %s\nca = %s\npassword_file = %s\n"
                                    "[database]\nconninfo = %s\n"
                                    "[bootstrap]\nca_dir = %s/ca\ngateway_address = gw.test.example:8443\n",
                                    pki, pki, pki, nats_url(), nats_ca_file(),
                                    nats_password_file("bootstrap"), pg_conninfo(), pki);
    assert_ok(file_write_atomic(conf, text, strlen(text), 0600, &why));
}

static void load_identity(const char *name, struct bus_identity **ret)
{
    AUTO_SECRET struct secret *pem = NULL;
    AUTO_DER_LIST struct der_list chain = {0};
    AUTO_DER_LIST struct der_list roots = {0};
    AUTO_DER_LIST struct der_list middle = {0};
    struct key *key;

    assert_ok(
        secret_read_file(arena_printf(arena, "%s/%s/service.key", pki, name), 65536, false, &pem, &why));
    assert_ok(key_parse(pem, NULL, &key, &why));
    keys[n_keys++] = key;
    const char *text = read_text(arena_printf(arena, "%s/%s/service.crt", pki, name));
    assert_ok(pem_to_certs((struct bytes){(const uint8_t *)text, strlen(text)}, &chain, &why));
    text = read_text(arena_printf(arena, "%s/roots.pem", pki));
    assert_ok(pem_to_certs((struct bytes){(const uint8_t *)text, strlen(text)}, &roots, &why));
    assert_ok(der_list_add(&middle, der_bytes(&chain.item[1]), &why));
    assert_ok(bus_identity_new(key, der_bytes(&chain.item[0]), &middle, &roots, ret, &why));
}

/* ---- the tasks service, as far as bootstrap asks it
 * -------------------------------------------------------- */

static enum code allow(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__AuthorizeCertificateRequest *in = request;
    Clm__AuthorizeCertificateResponse *out = response;
    if (strcmp(ctx->sender, "bootstrap") != 0 || in->n_dns_names != 1)
        return status_set(st, CODE_PERMISSION_DENIED, "who asks for what?");
    out->has_life_sec = 1;
    out->life_sec = 7200;
    return CODE_OK;
}

static enum code not_here(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    (void)ctx;
    (void)request;
    (void)response;
    return status_set(st, CODE_UNIMPLEMENTED, "not in this test");
}

static void on_delivery(struct rpc_delivery *delivery, void *arg)
{
    AUTO_ARENA struct arena *mine = arena_new();
    const char *method;
    (void)arg;
    (void)rpc_serve(tasks_server, delivery, mine, NULL, &method);
}

static void serve_tasks(void)
{
    static const struct rpc_method rows[] = {{"AuthorizeCertificate", allow}};
    const struct rpc_method *methods = methods_fill(&clm__tasks__descriptor, rows, ARRAY_LEN(rows), not_here);
    assert_ok(rpc_server_new(tasks_bus, tasks, "tasks", &clm__tasks__descriptor, methods,
                             clm__tasks__descriptor.n_methods, on_delivery, NULL, &tasks_server, &why));
}

/* ---- calls ------------------------------------------------------------------------------------------------
 */

static enum code call(struct bus *bus, struct bus_identity *identity, const char *method,
                      const ProtobufCMessage *in, struct bytes assertion, bool authority,
                      ProtobufCMessage **ret)
{
    const struct rpc_call out = {
        .service = "bootstrap",
        .descriptor = &clm__bootstrap__descriptor,
        .method = method,
        .request = in,
        .timeout_ms = 5000,
        .assertion = assertion,
        .authority = authority,
    };
    why = (struct status){0};
    return rpc_call(bus, identity, &out, arena, ret, &why);
}

static enum code ask(const char *method, const ProtobufCMessage *in, ProtobufCMessage **ret)
{
    return call(gateway_bus, gateway, method, in, (struct bytes){0}, false, ret);
}

static void wait_for_service(void)
{
    Clm__GetTrustBundleRequest in = CLM__GET_TRUST_BUNDLE_REQUEST__INIT;
    ProtobufCMessage *reply;
    int64_t until_us = clock_mono_us() + WAIT_MS * 1000LL;
    while (ask("GetTrustBundle", &in.base, &reply) != CODE_OK) {
        if (clock_mono_us() > until_us || waitpid(service, NULL, WNOHANG) != 0)
            fail_msg("%s; log:\n%s", why.msg, read_text(log_file));
        (void)poll(NULL, 0, 20);
    }
}

static void start_service(void)
{
    const char *const argv[] = {"clm-bootstrap", "--config", conf, NULL};
    service = start_program(argv);
    wait_for_service();
}

static struct bytes assertion(unsigned roles)
{
    struct bytes ret;
    const struct actor actor = {.id = "api-key:test", .name = "test", .roles = roles, .label_selector = ""};
    assert_ok(assertion_make(registry, &actor, 60000, arena, &ret, &why));
    return ret;
}

static enum code create_token(struct bus *bus, struct bus_identity *identity, unsigned roles,
                              const char *agent_id, char ret_secret[64])
{
    Clm__CreateTokenRequest in = CLM__CREATE_TOKEN_REQUEST__INIT;
    Clm__Scope scope = CLM__SCOPE__INIT;
    Clm__Task__Kind kinds[] = {CLM__TASK__KIND__RENEW, CLM__TASK__KIND__DISCOVER};
    char pattern[] = "*.test.example", *names[] = {pattern};
    ProtobufCMessage *reply;

    scope.operations = kinds;
    scope.n_operations = 2;
    scope.dns_names = names;
    scope.n_dns_names = 1;
    scope.has_version = 1;
    scope.version = 1;
    in.agent_id = arena_strdup(arena, agent_id);
    in.hostname = arena_strdup(arena, "host.test.example");
    in.scope = &scope;
    TRY(call(bus, identity, "CreateToken", &in.base, assertion(roles), true, &reply));

    struct token token;
    const char *text = ((const Clm__CreateTokenResponse *)reply)->token;
    AUTO_SECRET struct secret *secret = secret_dup(text, strlen(text));
    assert_ok(token_parse(secret, &token, &why));
    token_secret_text(&token, ret_secret);
    return CODE_OK;
}

static enum code bootstrap(struct agent *agent, const char *secret)
{
    Clm__BootstrapAgentRequest in = CLM__BOOTSTRAP_AGENT_REQUEST__INIT;
    Clm__BootstrapRequest request = CLM__BOOTSTRAP_REQUEST__INIT;
    ProtobufCMessage *reply;

    request.token_secret = arena_strdup(arena, secret);
    request.has_identity_csr = request.has_task_csr = 1;
    request.identity_csr =
        (ProtobufCBinaryData){.data = agent->identity_csr.data, .len = agent->identity_csr.len};
    request.task_csr = (ProtobufCBinaryData){.data = agent->task_csr.data, .len = agent->task_csr.len};
    in.request = &request;
    in.source = arena_strdup(arena, "192.0.2.7:4711");
    TRY(ask("BootstrapAgent", &in.base, &reply));

    const Clm__BootstrapResponse *out = (const Clm__BootstrapResponse *)reply;
    assert_int_equal(out->n_identity_chain, 2);
    assert_int_equal(out->n_task_chain, 2);
    assert_int_equal(out->n_roots, 1);
    assert_string_equal(out->trust_domain, "test.example");
    assert_int_equal(out->settings->checkin_interval_ms, 30000);
    (void)snprintf(agent->id, sizeof(agent->id), "%s", out->agent_id);
    agent->generation = out->generation;
    der_done(&agent->task_cert);
    agent->task_cert = der_dup((struct bytes){out->task_chain[0].data, out->task_chain[0].len});
    return CODE_OK;
}

static enum code confirm(struct agent *agent)
{
    Clm__ConfirmIdentityRequest in = CLM__CONFIRM_IDENTITY_REQUEST__INIT;
    AUTO_DER struct der cms = {0};
    ProtobufCMessage *reply;
    const struct said said = {.purpose = CLM__SIGNED_REQUEST__PURPOSE__CONFIRM,
                              .agent_id = agent->id,
                              .generation = agent->generation};

    fixture_say(&said, agent->task_key, der_bytes(&agent->task_cert), &cms);
    in.agent_id = agent->id;
    in.has_generation = in.has_confirmation = 1;
    in.generation = agent->generation;
    in.confirmation = (ProtobufCBinaryData){.data = cms.data, .len = cms.len};
    TRY(ask("ConfirmIdentity", &in.base, &reply));
    assert_true(((const Clm__ConfirmIdentityResponse *)reply)->has_confirmed_generation);
    return CODE_OK;
}

static enum code sign(struct agent *agent, const char *dns, const Clm__SignCertificateResponse **ret)
{
    Clm__SignCertificateRequest in = CLM__SIGN_CERTIFICATE_REQUEST__INIT;
    AUTO_DER struct der cms = {0};
    AUTO_DER struct der csr = {0};
    ProtobufCMessage *reply;
    char task_id[UUID_TEXT_SIZE];

    uuid_v7(task_id);
    fixture_csr(agent->identity_key, dns, NULL, NULL, &csr);
    const struct said said = {.purpose = CLM__SIGNED_REQUEST__PURPOSE__SIGN,
                              .agent_id = agent->id,
                              .task_id = task_id,
                              .generation = agent->generation,
                              .attempt = 1,
                              .csr = der_bytes(&csr)};
    fixture_say(&said, agent->task_key, der_bytes(&agent->task_cert), &cms);
    in.agent_id = agent->id;
    in.has_request = 1;
    in.request = (ProtobufCBinaryData){.data = cms.data, .len = cms.len};
    TRY(ask("SignCertificate", &in.base, &reply));
    *ret = (const Clm__SignCertificateResponse *)reply;
    return CODE_OK;
}

static void make_agent(struct agent *agent, char secret[64])
{
    char id[UUID_TEXT_SIZE];
    uuid_v7(id);
    agent_init(agent);
    assert_ok(create_token(registry_bus, registry, ROLES_OPERATOR, id, secret));
    assert_ok(bootstrap(agent, secret));
    assert_string_equal(agent->id, id);
    assert_ok(confirm(agent));
}

/* ---- events -----------------------------------------------------------------------------------------------
 */

static bool contains(struct bytes body, const void *needle, size_t len)
{
    return memmem(body.data, body.len, needle, len) != NULL;
}

/* Reads what bootstrap published until `last` about `entity` has come; no message holds any of the secrets.
 */
static unsigned read_events(const char *last, const char *entity, const char *secret, const uint8_t raw[32])
{
    struct event_consumer *consumer;
    int64_t until_us = clock_mono_us() + WAIT_MS * 1000LL;
    unsigned n = 0;
    bool found = false;

    assert_ok(event_consumer_new(registry_bus, "registry_bootstrap", &consumer, &why));
    while (!found && clock_mono_us() < until_us) {
        struct event_batch *batch = NULL;
        assert_ok(event_consumer_pull(consumer, 50, 500, &batch, &why));
        for (size_t i = 0; i < event_batch_count(batch); i++, n++) {
            const struct event_message *message = event_batch_get(batch, i);
            ProtobufCMessage *event;
            assert_ok(wire_unpack(&clm__event__descriptor, message->body.data, message->body.len, arena,
                                  &event, &why));
            assert_false(contains(message->body, secret, strlen(secret)));
            assert_false(contains(message->body, raw, 32));
            found = found || (strcmp(message->subject, last) == 0 &&
                              strcmp(((const Clm__Event *)event)->entity_id, entity) == 0);
            event_batch_ack(batch, i);
        }
        event_batch_free(batch);
    }
    event_consumer_free(consumer);
    if (!found)
        fail_msg("no %s for %s; log:\n%s", last, entity, read_text(log_file));
    return n;
}

static void publish_agent(const char *agent_id, uint64_t version, bool disabled, struct bus_identity *signer)
{
    Clm__Event event = CLM__EVENT__INIT;
    Clm__AgentChanged changed = CLM__AGENT_CHANGED__INIT;
    char id[UUID_TEXT_SIZE], subject[] = "clm.event.registry.agent.changed";
    struct bytes body, authority;

    uuid_v7(id);
    event.id = id;
    event.subject = subject;
    event.entity_id = arena_strdup(arena, agent_id);
    event.has_entity_version = event.has_occurred_at_ms = 1;
    event.entity_version = version;
    event.occurred_at_ms = clock_wall_ms();
    changed.has_disabled = changed.has_status = 1;
    changed.disabled = disabled;
    changed.status = CLM__AGENT__STATUS__ONLINE;
    event.agent = &changed;
    wire_pack(&event.base, arena, &body.data, &body.len);
    assert_ok(authority_make(signer, subject, id, clock_wall_ms() + 60000, body, arena, &authority, &why));
    struct event_to_publish out = {.id = id, .subject = subject, .body = body, .authority = authority};
    assert_ok(events_publish(registry_bus, &out, 1, 5000, &why));
}

/* ---- set-up -----------------------------------------------------------------------------------------------
 */

static int setup(void **state)
{
    (void)state;
    arena = arena_new();
    fixture_temp_dir(base);
    (void)snprintf(pki, sizeof(pki), "%s/pki", base);
    (void)snprintf(conf, sizeof(conf), "%s/bootstrap.conf", base);
    (void)snprintf(log_file, sizeof(log_file), "%s/log", base);
    write_config();
    nats_setup();
    const char *const init[] = {"clm-bootstrap",
                                "init",
                                "--config",
                                conf,
                                "--dir",
                                pki,
                                "--trust-domain",
                                "test.example",
                                "--gateway-name",
                                "gw.test.example",
                                "--bus-name",
                                "127.0.0.1",
                                NULL};
    must_run(init);
    must_run(init); /* already initialised: says so and exits 0 */
    load_identity("registry", &registry);
    load_identity("gateway", &gateway);
    load_identity("tasks", &tasks);
    registry_bus = nats_bus("registry");
    gateway_bus = nats_bus("gateway");
    tasks_bus = nats_bus("tasks");
    serve_tasks();
    start_service();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    (void)kill(service, SIGTERM);
    int code = wait_exit(service);
    rpc_server_stop(tasks_server);
    bus_free(registry_bus);
    bus_free(gateway_bus);
    bus_free(tasks_bus);
    rpc_server_free(tasks_server);
    bus_identity_free(registry);
    bus_identity_free(gateway);
    bus_identity_free(tasks);
    while (n_keys > 0)
        key_free(keys[--n_keys]);
    if (code != 0)
        print_error("clm-bootstrap left with %d; log:\n%s\n", code, read_text(log_file));
    arena_free(arena);
    return code;
}

/* ---- tests ------------------------------------------------------------------------------------------------
 */

static void a_host_becomes_an_agent_and_gets_a_certificate(void **state)
{
    (void)state;
    AUTO_AGENT struct agent agent;
    char secret[64];
    uint8_t raw[32];
    size_t len;
    const Clm__SignCertificateResponse *signed_cert;
    AUTO_CERT_INFO struct cert_info info = {0};

    make_agent(&agent, secret);
    assert_int_equal(bootstrap(&agent, secret), CODE_UNAUTHENTICATED); /* burnt */
    assert_ok(sign(&agent, "www.test.example", &signed_cert));
    assert_int_equal(signed_cert->state, CLM__SIGN_CERTIFICATE_RESPONSE__STATE__ISSUED);
    assert_int_equal(signed_cert->n_chain, 2);
    assert_true(signed_cert->root.len > 0);
    struct bytes leaf = {signed_cert->chain[0].data, signed_cert->chain[0].len};
    assert_true(cert_matches_host(leaf, "www.test.example"));
    assert_ok(cert_read(leaf, &info, &why));
    assert_true(info.not_after_ms <= clock_wall_ms() + 7200 * 1000); /* what tasks said */
    assert_int_equal(sign(&agent, "www.other.example", &signed_cert), CODE_PERMISSION_DENIED);

    assert_true(base64url_decode(secret, strlen(secret), raw, sizeof(raw), &len) && len == 32);
    unsigned n = read_events("clm.event.bootstrap.certificate.issued", info.serial, secret, raw);
    assert_in_range(n, 6, 100); /* created, issued, confirmed, used, refused, certificate */
    assert_null(strstr(read_text(log_file), secret));
}

static void only_the_registry_makes_tokens_and_only_for_operators(void **state)
{
    (void)state;
    char secret[64], id[UUID_TEXT_SIZE];
    uuid_v7(id);
    assert_int_equal(create_token(registry_bus, registry, ROLE_BIT(CLM__ROLE__VIEWER), id, secret),
                     CODE_PERMISSION_DENIED);
    assert_int_equal(create_token(registry_bus, registry, ROLE_BIT(CLM__ROLE__AUDITOR), id, secret),
                     CODE_PERMISSION_DENIED);
    assert_int_equal(create_token(registry_bus, gateway, ROLES_ADMIN, id, secret), CODE_PERMISSION_DENIED);
    assert_ok(create_token(registry_bus, registry, ROLES_ADMIN, id, secret));
}

static void services_renew_themselves_over_the_bus(void **state)
{
    (void)state;
    Clm__IssueServiceCertificateRequest in = CLM__ISSUE_SERVICE_CERTIFICATE_REQUEST__INIT;
    AUTO_DER struct der csr = {0};
    AUTO_KEY struct key *key = NULL;
    ProtobufCMessage *reply;

    assert_ok(key_generate(KEY_EC_P256, &key, &why));
    fixture_csr(key, NULL, NULL, "spiffe://test.example/service/tasks", &csr);
    in.has_profile = in.has_csr = 1;
    in.profile = CLM__ISSUE_SERVICE_CERTIFICATE_REQUEST__PROFILE__ENVELOPE;
    in.csr = (ProtobufCBinaryData){.data = csr.data, .len = csr.len};
    assert_ok(call(tasks_bus, tasks, "IssueServiceCertificate", &in.base, (struct bytes){0}, true, &reply));
    assert_int_equal(((const Clm__IssueServiceCertificateResponse *)reply)->n_chain, 2);
    assert_int_equal(
        call(gateway_bus, gateway, "IssueServiceCertificate", &in.base, (struct bytes){0}, true, &reply),
        CODE_PERMISSION_DENIED);
    assert_int_not_equal(
        call(tasks_bus, tasks, "IssueServiceCertificate", &in.base, (struct bytes){0}, false, &reply),
        CODE_OK);
}

static void tasks_can_list_identities(void **state)
{
    (void)state;
    AUTO_AGENT struct agent agent;
    char secret[64], before[UUID_TEXT_SIZE];
    Clm__ListIdentitiesRequest in = CLM__LIST_IDENTITIES_REQUEST__INIT;
    ProtobufCMessage *reply;

    uuid_v7(before);
    make_agent(&agent, secret);
    in.after_agent_id = before;
    assert_ok(call(tasks_bus, tasks, "ListIdentities", &in.base, (struct bytes){0}, false, &reply));
    const Clm__ListIdentitiesResponse *out = (const Clm__ListIdentitiesResponse *)reply;
    assert_int_equal(out->n_identities, 1);
    assert_true(out->last);
    assert_string_equal(out->identities[0]->agent_id, agent.id);
    assert_true(out->identities[0]->confirmed);
    assert_int_equal(out->identities[0]->task_certificate.len, agent.task_cert.len);
}

/* Asks until the answer is `code`, or fails: the projection follows the event after a moment. */
static void wait_for_sign(struct agent *agent, enum code code)
{
    const Clm__SignCertificateResponse *ignored;
    int64_t until_us = clock_mono_us() + WAIT_MS * 1000LL;
    while (sign(agent, "www.test.example", &ignored) != code) {
        if (clock_mono_us() > until_us)
            fail_msg("never %s: %s; log:\n%s", code_name(code), why.msg, read_text(log_file));
        (void)poll(NULL, 0, 20);
    }
}

static void a_disabled_agent_is_refused_once_the_registry_said_so(void **state)
{
    (void)state;
    AUTO_AGENT struct agent agent;
    char secret[64];
    const Clm__SignCertificateResponse *ignored;

    make_agent(&agent, secret);
    assert_ok(sign(&agent, "www.test.example", &ignored));
    /* Said by another service, it is parked; the next one, by the registry, shows that it was passed over. */
    publish_agent(agent.id, 9, false, gateway);
    publish_agent(agent.id, 5, true, registry);
    wait_for_sign(&agent, CODE_PERMISSION_DENIED);
    assert_non_null(strstr(why.msg, "DISABLED"));
}

/* Children belong to the thread that made them. */
static pid_t child_of(pid_t parent)
{
    const char *tasks_dir = arena_printf(arena, "/proc/%d/task", (int)parent);
    DIR *dir = opendir(tasks_dir);
    pid_t child = 0;

    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir)) && child <= 0;) {
        if (entry->d_name[0] != '.')
            child = (pid_t)strtol(read_text(arena_printf(arena, "%s/%s/children", tasks_dir, entry->d_name)),
                                  NULL, 10);
    }
    (void)closedir(dir);
    return child;
}

static void the_service_survives_the_death_of_its_signer(void **state)
{
    (void)state;
    AUTO_AGENT struct agent agent;
    char secret[64];

    make_agent(&agent, secret);
    pid_t signer = child_of(service);
    assert_true(signer > 0);
    assert_int_equal(kill(signer, SIGKILL), 0);
    wait_for_sign(&agent, CODE_OK);
    assert_int_not_equal(child_of(service), signer);
}

static void the_service_does_not_start_on_another_databases_ca(void **state)
{
    (void)state;
    struct db *db = fixture_open_db();
    assert_ok(db_query(db, "UPDATE ca SET root_sha256 = translate(root_sha256, '0123456789', '1234567890')",
                       NULL, NULL, &why));
    const char *const argv[] = {"clm-bootstrap", "--config", conf, NULL};
    assert_int_equal(wait_exit(start_program(argv)), 1);
    assert_non_null(strstr(read_text(log_file), "is not the one of this database"));
    assert_ok(db_query(db, "UPDATE ca SET root_sha256 = translate(root_sha256, '1234567890', '0123456789')",
                       NULL, NULL, &why));
    db_close(db);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_host_becomes_an_agent_and_gets_a_certificate),
        cmocka_unit_test(only_the_registry_makes_tokens_and_only_for_operators),
        cmocka_unit_test(services_renew_themselves_over_the_bus),
        cmocka_unit_test(tasks_can_list_identities),
        cmocka_unit_test(a_disabled_agent_is_refused_once_the_registry_said_so),
        cmocka_unit_test(the_service_survives_the_death_of_its_signer),
        cmocka_unit_test(the_service_does_not_start_on_another_databases_ca),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
