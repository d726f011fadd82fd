/* See agent_gateway.h. */
#include "agent_gateway.h"

#include "pki/cms.h"
#include "pki/digest.h"
#include "wire/wire.h"
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

void gateway_ok(enum code code, const struct status *st, const char *what)
{
    if (code != CODE_OK)
        fail_msg("%s: %s", what, st->msg);
}

/* ---- answers ----------------------------------------------------------------------------------------------
 */

static void answer(struct http_request *request, const ProtobufCMessage *msg)
{
    static const struct http_header headers[] = {{"Content-Type", "application/x-protobuf"}, {NULL, NULL}};
    AUTO_DER struct der body = test_pack(msg);
    http_respond(request, 200, headers, body.data, body.len);
}

static void unavailable(struct http_request *request)
{
    static const struct http_header headers[] = {{"Retry-After", "1"}, {NULL, NULL}};
    http_respond(request, 503, headers, NULL, 0);
}

void answer_checkin(struct gateway *gw)
{
    Clm__CheckinResponse response = CLM__CHECKIN_RESPONSE__INIT;
    Clm__Delivery delivery[8], *deliveries[8];
    if (!gw->held)
        return;
    for (size_t i = 0; i < gw->n_outgoing; i++) {
        clm__delivery__init(&delivery[i]);
        delivery[i].task_id = gw->outgoing_task[i];
        delivery[i].has_attempt = delivery[i].has_lease = delivery[i].has_envelope = 1;
        delivery[i].attempt = 1;
        delivery[i].lease = gw->lease ? gw->lease : 1;
        delivery[i].envelope = (ProtobufCBinaryData){gw->outgoing[i].len, gw->outgoing[i].data};
        deliveries[i] = &delivery[i];
    }
    response.n_deliveries = gw->n_outgoing;
    response.deliveries = deliveries;
    response.has_platform_time_at_ms = 1;
    response.platform_time_at_ms = clock_wall_ms() + gw->clock_off_ms;
    char *cancel[] = {(char *)(uintptr_t)gw->cancel_task_id};
    response.n_cancel_task_ids = gw->cancel_task_id != NULL;
    response.cancel_task_ids = cancel;
    gw->cancel_task_id = NULL;
    if (gw->confirmation.len && !gw->no_confirm)
        response.has_confirmed_generation = 1;
    response.confirmed_generation = gw->generation;
    answer(TAKE(gw->held), &response.base);
    for (size_t i = 0; i < gw->n_outgoing; i++)
        der_done(&gw->outgoing[i]);
    gw->n_outgoing = 0;
}

static struct der issue(const struct gateway *gw, const Clm__BootstrapRequest *request, bool task)
{
    const struct test_ca *ca = &gw->ca;
    char generation[16];
    (void)snprintf(generation, sizeof(generation), "%u", gw->generation);
    AUTO_CSR_INFO struct csr_info info = {0};
    struct status st;
    const ProtobufCBinaryData *csr = task ? &request->task_csr : &request->identity_csr;
    char uri[400];
    struct pki_names names = {0};
    AUTO_ISSUER struct issuer *issuer = NULL;
    AUTO_SECRET struct secret *pem = NULL;
    struct key *key;
    struct der cert = {0};
    OK(csr_verify((struct bytes){csr->data, csr->len}, &info, &st));
    spiffe_format(TEST_DOMAIN, "agent", TEST_AGENT_ID, uri);
    names.uri[names.n_uri++] = uri;
    struct cert_request cert_request = {.spki = der_bytes(&info.spki),
                                        .subject_serial = generation,
                                        .names = &names,
                                        .purpose = task ? PURPOSE_AGENT_TASK : PURPOSE_AGENT_IDENTITY,
                                        .path_len = -1,
                                        .not_before_ms = clock_wall_ms() - 60000,
                                        .not_after_ms = clock_wall_ms() + 3600000};
    OK(key_to_pem(ca->key, NULL, &pem, &st));
    OK(key_parse(pem, NULL, &key, &st));
    OK(issuer_new(key, der_bytes(&ca->cert), &issuer, &st));
    OK(issuer_sign(issuer, &cert_request, &cert, &st));
    return cert;
}

static bool same(const struct der *a, const ProtobufCBinaryData *b)
{
    return a->len == b->len && memcmp(a->data, b->data, b->len) == 0;
}

/* CSRs are signed anew each time; the keys in them must be the same. */
static bool same_key(const struct der *a, const ProtobufCBinaryData *b)
{
    AUTO_CSR_INFO struct csr_info x = {0}, y = {0};
    struct status st;
    OK(csr_verify(der_bytes(a), &x, &st));
    OK(csr_verify((struct bytes){b->data, b->len}, &y, &st));
    return same(&x.spki, &(ProtobufCBinaryData){y.spki.len, y.spki.data});
}

static void on_bootstrap(struct gateway *gw, struct http_request *request, const Clm__BootstrapRequest *body)
{
    char secret[TOKEN_SECRET_TEXT_SIZE];
    gw->bootstraps++;
    token_secret_text(&gw->token, secret);
    assert_string_equal(body->token_secret, secret);
    assert_non_null(body->facts);
    if (gw->identity_csr.len == 0) {
        gw->identity_csr = der_dup((struct bytes){body->identity_csr.data, body->identity_csr.len});
        gw->task_csr = der_dup((struct bytes){body->task_csr.data, body->task_csr.len});
        gw->identity_cert = issue(gw, body, false);
        gw->task_cert = issue(gw, body, true);
    } else if (!same_key(&gw->identity_csr, &body->identity_csr) ||
               !same_key(&gw->task_csr, &body->task_csr)) {
        gw->csrs_differ = true;
    }
    if (gw->bootstrap_503 > 0) {
        gw->bootstrap_503--;
        unavailable(request);
        return;
    }
    if (gw->bootstrap_cut > 0) {
        gw->bootstrap_cut--;
        http_connection_close(http_request_connection(request));
        return;
    }
    ProtobufCBinaryData identity = {gw->identity_cert.len, gw->identity_cert.data};
    ProtobufCBinaryData task = {gw->task_cert.len, gw->task_cert.data};
    ProtobufCBinaryData root = {gw->ca.cert.len, gw->ca.cert.data};
    Clm__BootstrapResponse response = CLM__BOOTSTRAP_RESPONSE__INIT;
    response.agent_id = (char *)(uintptr_t)TEST_AGENT_ID;
    response.has_generation = 1;
    response.generation = gw->generation;
    response.trust_domain = (char *)(uintptr_t)TEST_DOMAIN;
    response.n_identity_chain = response.n_task_chain = response.n_roots = 1;
    response.identity_chain = &identity;
    response.task_chain = &task;
    response.roots = &root;
    answer(request, &response.base);
}

static void on_checkin(struct gateway *gw, struct http_request *request, const uint8_t *data, size_t len)
{
    gw->checkins++;
    if (gw->last)
        clm__checkin_request__free_unpacked(gw->last, NULL);
    gw->last = clm__checkin_request__unpack(NULL, len, data);
    assert_non_null(gw->last);
    if (gw->last->has_confirmation) {
        der_done(&gw->confirmation);
        gw->confirmation = der_dup((struct bytes){gw->last->confirmation.data, gw->last->confirmation.len});
    }
    gw->held = request;
    if (gw->n_outgoing > 0 || gw->no_hold || (gw->last->has_confirmation && !gw->no_confirm))
        answer_checkin(gw);
}

static void receipt_take(struct gateway *gw, const char *task_id, const Clm__ResultRequest *body)
{
    struct status st;
    AUTO_DER struct der content = {0};
    struct bytes expected = der_bytes(&gw->task_cert);
    uint8_t digest[SHA256_SIZE];
    assert_true(gw->n_seen < SEEN_MAX);
    struct receipt_seen *seen = &gw->seen[gw->n_seen++];
    OK(cms_verify(CMS_CONTENT_RECEIPT, (struct bytes){body->receipt.data, body->receipt.len}, &expected, NULL,
                  PURPOSE_AGENT_TASK, clock_wall_ms(), &content, NULL, &st));
    Clm__Receipt *receipt = clm__receipt__unpack(NULL, content.len, content.data);
    assert_non_null(receipt);
    assert_string_equal(receipt->agent_id, TEST_AGENT_ID);
    assert_string_equal(receipt->task_id, task_id);
    assert_int_equal(receipt->pages, body->page);
    sha256((struct bytes){gw->pages.data, gw->pages.len}, digest);
    assert_memory_equal(receipt->result_sha256.data, digest, SHA256_SIZE);
    (void)snprintf(seen->task_id, sizeof(seen->task_id), "%s", task_id);
    seen->attempt = receipt->attempt;
    seen->pages = receipt->pages;
    seen->outcome = receipt->outcome;
    (void)snprintf(seen->message, sizeof(seen->message), "%s", receipt->message);
    seen->result = der_dup((struct bytes){gw->pages.data, gw->pages.len});
    seen->cms = der_dup((struct bytes){body->receipt.data, body->receipt.len});
    clm__receipt__free_unpacked(receipt, NULL);
}

static void on_result(struct gateway *gw, struct http_request *request, const char *task_id,
                      const Clm__ResultRequest *body)
{
    Clm__ResultResponse response = CLM__RESULT_RESPONSE__INIT;
    if (gw->result_503 > 0) {
        gw->result_503--;
        unavailable(request);
        return;
    }
    if (body->page == 1)
        buf_reset(&gw->pages);
    assert_true(buf_append(&gw->pages, body->data.data, body->data.len));
    if (body->has_receipt)
        receipt_take(gw, task_id, body);
    answer(request, &response.base);
}

static struct der sign_csr(const struct test_ca *ca, struct bytes csr)
{
    AUTO_CSR_INFO struct csr_info info = {0};
    struct status st;
    AUTO_ISSUER struct issuer *issuer = NULL;
    AUTO_SECRET struct secret *pem = NULL;
    struct key *key;
    struct der cert = {0};
    OK(csr_verify(csr, &info, &st));
    struct cert_request request = {.spki = der_bytes(&info.spki),
                                   .names = &info.names,
                                   .purpose = PURPOSE_TLS_SERVER,
                                   .path_len = -1,
                                   .not_before_ms = clock_wall_ms() - 60000,
                                   .not_after_ms = clock_wall_ms() + 3600000};
    OK(key_to_pem(ca->key, NULL, &pem, &st));
    OK(key_parse(pem, NULL, &key, &st));
    OK(issuer_new(key, der_bytes(&ca->cert), &issuer, &st));
    OK(issuer_sign(issuer, &request, &cert, &st));
    return cert;
}

static void on_sign(struct gateway *gw, struct http_request *request, const Clm__SignRequest *body)
{
    struct status st;
    AUTO_DER struct der content = {0}, cert = {0};
    struct bytes expected = der_bytes(&gw->task_cert);
    gw->signs++;
    Clm__SignResponse response = CLM__SIGN_RESPONSE__INIT;
    if (gw->sign_pending > 0) {
        gw->sign_pending--;
        response.has_pending = response.pending = 1;
        response.has_retry_after_ms = 1;
        response.retry_after_ms = gw->sign_retry_ms ? gw->sign_retry_ms : 200;
        answer(request, &response.base);
        return;
    }
    OK(cms_verify(CMS_CONTENT_REQUEST, (struct bytes){body->request.data, body->request.len}, &expected, NULL,
                  PURPOSE_AGENT_TASK, clock_wall_ms(), &content, NULL, &st));
    Clm__SignedRequest *signed_request = clm__signed_request__unpack(NULL, content.len, content.data);
    assert_int_equal(signed_request->purpose, CLM__SIGNED_REQUEST__PURPOSE__SIGN);
    struct bytes csr = {signed_request->csr.data, signed_request->csr.len};
    AUTO_DER struct der swapped =
        gw->sign_swapped ? test_csr(gw->tasks.key, "www.example.com") : (struct der){0};
    cert = sign_csr(&gw->ca, gw->sign_swapped ? der_bytes(&swapped) : csr);
    ProtobufCBinaryData chain = {cert.len, cert.data};
    response.n_chain = 1;
    response.chain = &chain;
    answer(request, &response.base);
    clm__signed_request__free_unpacked(signed_request, NULL);
}

static void on_request(struct http_request *request, void *arg)
{
    struct gateway *gw = arg;
    AUTO_ARENA struct arena *arena = arena_new();
    AUTO_BUF struct buf peer = {0};
    ProtobufCMessage *msg;
    struct status st;
    size_t len;
    const uint8_t *data = http_request_body(request, &len);
    const char *path = http_request_path(request);
    bool known = http_connection_peer_certificate(http_request_connection(request), &peer);
    assert_string_equal(http_request_method(request), "POST");
    assert_string_equal(http_request_header(request, "Content-Type"), "application/x-protobuf");
    if (strcmp(path, "/agent/v1/bootstrap") == 0) {
        assert_false(known);
        OK(wire_unpack(&clm__bootstrap_request__descriptor, data, len, arena, &msg, &st));
        on_bootstrap(gw, request, (const Clm__BootstrapRequest *)msg);
    } else if (strcmp(path, "/agent/v1/checkin") == 0) {
        assert_true(known);
        OK(wire_unpack(&clm__checkin_request__descriptor, data, len, arena, &msg, &st));
        on_checkin(gw, request, data, len);
    } else if (strcmp(path, "/agent/v1/certificates/sign") == 0) {
        assert_true(known);
        OK(wire_unpack(&clm__sign_request__descriptor, data, len, arena, &msg, &st));
        on_sign(gw, request, (const Clm__SignRequest *)msg);
    } else {
        char task_id[UUID_TEXT_SIZE];
        assert_true(known);
        assert_int_equal(sscanf(path, "/agent/v1/tasks/%36[0-9a-f-]/result", task_id), 1);
        OK(wire_unpack(&clm__result_request__descriptor, data, len, arena, &msg, &st));
        on_result(gw, request, task_id, (const Clm__ResultRequest *)msg);
    }
    loop_stop(gw->loop);
}

static void on_gone(struct http_request *request, void *arg)
{
    struct gateway *gw = arg;
    if (gw->held == request)
        gw->held = NULL;
    loop_stop(gw->loop);
}

static void on_pending_behind(struct http_request *request, void *arg)
{
    struct gateway *gw = arg;
    if (gw->held == request)
        answer_checkin(gw);
}

static bool on_connection_open(struct http_connection *connection, void *arg)
{
    struct gateway *gw = arg;
    (void)connection;
    gw->connections++;
    return true;
}

static const struct http_handler handler = {.on_connection_open = on_connection_open,
                                            .on_request = on_request,
                                            .on_gone = on_gone,
                                            .on_pending_behind = on_pending_behind};

/* ---- the fixture ------------------------------------------------------------------------------------------
 */

static void on_guard(void *arg)
{
    struct gateway *gw = arg;
    gw->expired = true;
    loop_stop(gw->loop);
}

void write_text_file(const char *path, const char *text, mode_t mode)
{
    struct status st;
    OK(file_write_atomic(path, text, strlen(text), mode, &st));
}

void server_start(struct gateway *gw, const struct test_ca *ca, uint16_t port)
{
    struct status st;
    struct test_signer server;
    AUTO_BUF struct buf chain = {0};
    AUTO_BUF struct buf roots = {0};
    AUTO_SECRET struct secret *key = NULL;
    AUTO_DER_LIST struct der_list list = {0};
    struct test_leaf leaf = {.purpose = PURPOSE_TLS_SERVER,
                             .dns = "localhost",
                             .not_before_ms = clock_wall_ms() - 60000,
                             .not_after_ms = clock_wall_ms() + 3600000};
    test_signer_init(&server, ca, &leaf);
    OK(der_list_add(&list, der_bytes(&gw->ca.cert), &st));
    OK(certs_to_pem(&list, &roots, &st));
    der_list_done(&list);
    OK(der_list_add(&list, der_bytes(&server.cert), &st));
    OK(der_list_add(&list, der_bytes(&ca->cert), &st));
    OK(certs_to_pem(&list, &chain, &st));
    OK(key_to_pem(server.key, NULL, &key, &st));
    struct tls_server_config tls = {.chain = chain.data,
                                    .chain_len = chain.len,
                                    .key = key,
                                    .min_version = TLS_1_3,
                                    .client_auth = TLS_CLIENT_OPTIONAL,
                                    .client_ca = roots.data,
                                    .client_ca_len = roots.len};
    OK(tls_server_new(&tls, &gw->tls, &st));
    struct http_server_config config = {.address = "127.0.0.1", .port = port, .tls = gw->tls};
    OK(http_server_new(gw->loop, &config, &handler, gw, &gw->server, &st));
    test_signer_done(&server);
}

static void token_write(struct gateway *gw)
{
    struct status st;
    struct cert_info info;
    char address[64];
    uint8_t pin[SHA256_SIZE];
    OK(cert_read(der_bytes(&gw->ca.cert), &info, &st));
    assert_true(hex_decode(info.spki_sha256, pin, sizeof(pin)));
    cert_info_done(&info);
    (void)snprintf(address, sizeof(address), "localhost:%u", http_server_port(gw->server));
    OK(token_make(pin, address, &gw->token, &st));
    AUTO_SECRET struct secret *text = token_print(&gw->token);
    OK(file_write_atomic(gw->token_file, text->data, text->len, 0600, &st));
}

int gateway_setup(void **state)
{
    struct gateway *gw = calloc(1, sizeof(*gw));
    assert_non_null(gw);
    (void)snprintf(gw->dir, sizeof(gw->dir), "/tmp/clm-agent-XXXXXX");
    assert_non_null(mkdtemp(gw->dir));
    (void)snprintf(gw->state_dir, sizeof(gw->state_dir), "%s/state", gw->dir);
    (void)snprintf(gw->config, sizeof(gw->config), "%s/agent.conf", gw->dir);
    (void)snprintf(gw->token_file, sizeof(gw->token_file), "%s/token", gw->dir);
    gw->loop = loop_new();
    gw->guard = loop_timer_new(gw->loop, on_guard, gw);
    buf_init(&gw->pages, 8 * 1024 * 1024);
    test_ca_init(&gw->ca, "Platform Root");
    test_ca_init(&gw->other_ca, "Other Root");
    struct test_leaf leaf = {.purpose = PURPOSE_ENVELOPE,
                             .spiffe_kind = "service",
                             .spiffe_name = "tasks",
                             .not_before_ms = clock_wall_ms() - 60000,
                             .not_after_ms = clock_wall_ms() + 3600000};
    test_signer_init(&gw->tasks, &gw->ca, &leaf);
    server_start(gw, &gw->ca, 0);
    token_write(gw);
    char config[1024];
    (void)snprintf(config, sizeof(config),
                   "[agent]\nstate_dir = %s\nnet_user = nobody\n"
                   "[policy]\noperations = validate discover renew\ndns_names = www.example.com\n"
                   "discovery_roots = %s\n"
                   "[target web]\ncertificate = %s/web.pem\nkey = %s/web.key\n",
                   gw->state_dir, gw->dir, gw->dir, gw->dir);
    write_text_file(gw->config, config, 0644);
    *state = gw;
    return 0;
}

void agent_stop(struct gateway *gw, int signum)
{
    int how = 0;
    if (gw->agent <= 0)
        return;
    (void)kill(gw->agent, signum);
    /* The agent says goodbye to a gateway that is this process: keep serving until it is gone. */
    for (int64_t until = clock_mono_ms() + DEADLINE_MS; waitpid(gw->agent, &how, WNOHANG) == 0;) {
        if (clock_mono_ms() > until) {
            (void)kill(gw->agent, SIGKILL);
            fail_msg("the agent does not end");
        }
        loop_timer_set(gw->guard, 20);
        loop_run(gw->loop);
    }
    gw->agent = 0;
    if (signum == SIGTERM && (!WIFEXITED(how) || WEXITSTATUS(how) != 0))
        fail_msg("the agent ended with status %#x", (unsigned)how);
}

static void remove_tree(const char *path)
{
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir));) {
        char child[512];
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        (void)snprintf(child, sizeof(child), "%s/%s", path, entry->d_name);
        if (unlink(child) != 0)
            remove_tree(child);
    }
    (void)closedir(dir);
    assert_int_equal(rmdir(path), 0);
}

int gateway_teardown(void **state)
{
    struct gateway *gw = *state;
    agent_stop(gw, SIGKILL);
    http_server_free(gw->server);
    tls_context_free(gw->tls);
    loop_timer_free(gw->guard);
    loop_free(gw->loop);
    test_ca_done(&gw->ca);
    test_ca_done(&gw->other_ca);
    test_signer_done(&gw->tasks);
    struct der *ders[] = {&gw->identity_csr, &gw->task_csr, &gw->identity_cert, &gw->task_cert,
                          &gw->confirmation};
    for (size_t i = 0; i < ARRAY_LEN(ders); i++)
        der_done(ders[i]);
    for (size_t i = 0; i < gw->n_outgoing; i++)
        der_done(&gw->outgoing[i]);
    for (size_t i = 0; i < gw->n_seen; i++) {
        der_done(&gw->seen[i].result);
        der_done(&gw->seen[i].cms);
    }
    if (gw->last)
        clm__checkin_request__free_unpacked(gw->last, NULL);
    buf_done(&gw->pages);
    remove_tree(gw->dir);
    free(gw);
    return 0;
}

void agent_start(struct gateway *gw)
{
    gw->agent = fork();
    assert_true(gw->agent >= 0);
    if (gw->agent == 0) {
        (void)execl(CLM_AGENT_BIN, "clm-agent", "run", "--config", gw->config, "--token-file", gw->token_file,
                    (char *)NULL);
        _exit(127);
    }
}

/* ---- tasks ------------------------------------------------------------------------------------------------
 */

void order_add(struct gateway *gw, const char *task_id, const Clm__TaskSpec *spec,
               const struct test_signer *signer)
{
    Clm__TaskOrder order;
    Clm__Scope scope;
    uint8_t spec_bytes[512];
    static char *paths[] = {(char *)(uintptr_t) "/tmp/**"};
    static char *names[] = {(char *)(uintptr_t) "*.example.com"};
    AUTO_CMS_SIGNER struct cms_signer *by = NULL;
    struct status st;
    size_t i = gw->n_outgoing++;
    test_order(&order, &scope, spec, spec_bytes);
    scope.n_paths = scope.n_dns_names = 1;
    scope.paths = paths;
    scope.dns_names = names;
    order.task_id = (char *)(uintptr_t)task_id;
    order.generation = gw->generation;
    order.has_lease = order.has_safe_mode = order.has_break_glass = 1;
    order.lease = gw->lease ? gw->lease : 1;
    order.safe_mode = gw->safe_mode;
    order.break_glass = gw->break_glass;
    order.not_before_at_ms = clock_wall_ms() - 300000;
    order.not_after_at_ms = order.deadline_at_ms = clock_wall_ms() + 300000;
    AUTO_DER struct der plain = test_pack(&order.base);
    OK(cms_signer_new(signer->key, der_bytes(&signer->cert), NULL, &by, &st));
    OK(envelope_seal(der_bytes(&plain), der_bytes(&gw->task_cert), by, &gw->outgoing[i], &st));
    (void)snprintf(gw->outgoing_task[i], UUID_TEXT_SIZE, "%s", task_id);
    answer_checkin(gw);
}

void discover_add(struct gateway *gw, const char *task_id, const struct test_signer *signer)
{
    Clm__TaskSpec spec = CLM__TASK_SPEC__INIT;
    Clm__DiscoverSpec discover = CLM__DISCOVER_SPEC__INIT;
    char *roots[] = {gw->dir};
    discover.n_roots = 1;
    discover.roots = roots;
    discover.has_listening = discover.has_configurations = 1;
    spec.has_kind = 1;
    spec.kind = CLM__TASK__KIND__DISCOVER;
    spec.discover = &discover;
    order_add(gw, task_id, &spec, signer);
}

void renew_add(struct gateway *gw, const char *task_id)
{
    Clm__TaskSpec spec = CLM__TASK_SPEC__INIT;
    Clm__RenewSpec renew = CLM__RENEW_SPEC__INIT;
    char *names[] = {(char *)(uintptr_t) "www.example.com"};
    renew.target = (char *)(uintptr_t) "web";
    renew.n_dns_names = 1;
    renew.dns_names = names;
    spec.has_kind = 1;
    spec.kind = CLM__TASK__KIND__RENEW;
    spec.renew = &renew;
    order_add(gw, task_id, &spec, &gw->tasks);
}

const struct receipt_seen *last_receipt(const struct gateway *gw, Clm__Receipt__Outcome outcome)
{
    const struct receipt_seen *seen = &gw->seen[gw->n_seen - 1];
    if (seen->outcome != outcome)
        fail_msg("outcome %d, \"%s\"", (int)seen->outcome, seen->message);
    return seen;
}

void old_certificate_write(struct gateway *gw, struct der *ret)
{
    struct status st;
    char path[128];
    struct test_signer old;
    AUTO_BUF struct buf pem = {0};
    AUTO_SECRET struct secret *key = NULL;
    AUTO_DER_LIST struct der_list list = {0};
    struct test_leaf leaf = {.purpose = PURPOSE_TLS_SERVER,
                             .dns = "www.example.com",
                             .not_before_ms = clock_wall_ms() - 3600000,
                             .not_after_ms = clock_wall_ms() + 60000};
    test_signer_init(&old, &gw->ca, &leaf);
    OK(der_list_add(&list, der_bytes(&old.cert), &st));
    OK(certs_to_pem(&list, &pem, &st));
    OK(key_to_pem(old.key, NULL, &key, &st));
    (void)snprintf(path, sizeof(path), "%s/web.pem", gw->dir);
    OK(file_write_atomic(path, pem.data, pem.len, 0644, &st));
    (void)snprintf(path, sizeof(path), "%s/web.key", gw->dir);
    OK(file_write_atomic(path, key->data, key->len, 0600, &st));
    *ret = der_dup(der_bytes(&old.cert));
    test_signer_done(&old);
}

void installed_certificate(const struct gateway *gw, struct der_list *ret)
{
    struct status st;
    char path[128];
    AUTO_BUF struct buf pem = {0};
    (void)snprintf(path, sizeof(path), "%s/web.pem", gw->dir);
    OK(file_read(path, 1 << 20, &pem, &st));
    OK(pem_to_certs((struct bytes){pem.data, pem.len}, ret, &st));
}

/* Runs a command of the agent's with `input` on its standard input, serving meanwhile. */
int agent_command_with(struct gateway *gw, const char *verb, const char *token_file, const char *input)
{
    int in[2], how = 0;
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)dup2(in[0], 0);
        if (token_file)
            (void)execl(CLM_AGENT_BIN, "clm-agent", verb, "--config", gw->config, "--token-file", token_file,
                        (char *)NULL);
        else
            (void)execl(CLM_AGENT_BIN, "clm-agent", verb, "--config", gw->config, (char *)NULL);
        _exit(127);
    }
    (void)close(in[0]);
    assert_int_equal(write(in[1], input, strlen(input)), strlen(input));
    (void)close(in[1]);
    for (int64_t until = clock_mono_ms() + DEADLINE_MS; waitpid(pid, &how, WNOHANG) == 0;) {
        assert_true(clock_mono_ms() < until);
        loop_timer_set(gw->guard, 20);
        loop_run(gw->loop);
    }
    return WIFEXITED(how) ? WEXITSTATUS(how) : -1;
}

/* ---- processes -------------------------------------------------------------------------------------------
 */

static long parent_of(const char *pid)
{
    char path[300];
    AUTO_BUF struct buf content = {0};
    struct status st;
    (void)snprintf(path, sizeof(path), "/proc/%s/stat", pid);
    if (file_read(path, 4096, &content, &st) != CODE_OK)
        return -1;
    /* "12 (name) S 11 …": the name may hold anything. */
    const char *at = strrchr(buf_text(&content), ')');
    return at && strlen(at) > 4 ? strtol(at + 4, NULL, 10) : -1;
}

/* The agent's child that was started with this argument, from /proc; 0 if there is none. */
pid_t child_of(pid_t parent, const char *argument)
{
    DIR *dir = opendir("/proc");
    pid_t found = 0;
    assert_non_null(dir);
    for (struct dirent *entry; !found && (entry = readdir(dir));) {
        char path[300], text[512] = "";
        if (entry->d_name[0] < '1' || entry->d_name[0] > '9' || parent_of(entry->d_name) != parent)
            continue;
        (void)snprintf(path, sizeof(path), "/proc/%s/cmdline", entry->d_name);
        AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t len = fd >= 0 ? read(fd, text, sizeof(text) - 1) : 0;
        if (len > 0 && strcmp(text + strlen(text) + 1, argument) == 0)
            found = (pid_t)strtol(entry->d_name, NULL, 10);
    }
    (void)closedir(dir);
    return found;
}
