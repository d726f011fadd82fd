/*
 * Enrolment, blocking, before exec's loop runs. The child's half (one HTTPS POST, pinned to the root's key)
 * is at the end.
 */
#include "agent/exec/enrol.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <termios.h>

#include "agent/exec/spawn.h"
#include "agent/exec/trust.h"
#include "agent/ipc.h"
#include "agent/ipc.pb-c.h"
#include "agent/net/proxy.h"
#include "base/clock.h"
#include "base/endpoint.h"
#include "base/file.h"
#include "base/log.h"
#include "http/client.h"
#include "pki/digest.h"
#include "pki/token.h"
#include "sandbox/sandbox.h"
#include "wire/wire.h"

#define NET_TIMEOUT_MS   30000
#define POST_TIMEOUT_MS  45000
#define CHILD_TIMEOUT_MS 75000
#define RETRY_AFTER_MAX  (60 * 60 * 1000)
#define BACKOFF_BASE_MS  1000
#define BACKOFF_CAP_MS   60000

/* ---- the token --------------------------------------------------------------------------------------------
 */

/* A prompt that is interrupted leaves the terminal as it was. */
static struct termios terminal_before;

static void on_interrupt(int signum)
{
    (void)tcsetattr(STDIN_FILENO, TCSANOW, &terminal_before);
    (void)signal(signum, SIG_DFL);
    (void)raise(signum);
}

static void echo_off(void)
{
    struct termios quiet = terminal_before;
    quiet.c_lflag &= ~(tcflag_t)ECHO;
    (void)signal(SIGINT, on_interrupt);
    (void)signal(SIGTERM, on_interrupt);
    (void)signal(SIGQUIT, on_interrupt);
    (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
    (void)fputs("Bootstrap token (not shown): ", stderr); /* what comes after this is kept */
}

static void echo_on(void)
{
    (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &terminal_before);
    (void)signal(SIGINT, SIG_DFL);
    (void)signal(SIGTERM, SIG_DFL);
    (void)signal(SIGQUIT, SIG_DFL);
    (void)fputc('\n', stderr);
}

static enum code token_from_stdin(struct secret **ret, struct status *st)
{
    AUTO_SECRET struct secret *text = secret_new(TOKEN_TEXT_MAX + 2);
    bool prompt = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &terminal_before) == 0;
    if (prompt)
        echo_off();
    size_t len = 0;
    ssize_t n = 1;
    while (n > 0 && len < text->len && (len == 0 || text->data[len - 1] != '\n')) {
        n = read(STDIN_FILENO, text->data + len, text->len - len);
        if (n > 0)
            len += (size_t)n;
        else if (n < 0 && errno == EINTR)
            n = 1;
    }
    if (prompt)
        echo_on();
    while (len > 0 && (text->data[len - 1] == '\n' || text->data[len - 1] == '\r'))
        len--;
    if (len == 0)
        return status_set(st, CODE_INVALID_ARGUMENT, "there is no token on standard input");
    *ret = secret_dup(text->data, len);
    return CODE_OK;
}

enum code token_read(const char *path, struct secret **ret, struct status *st)
{
    if (strcmp(path, "-") == 0)
        return token_from_stdin(ret, st);
    return secret_read_file(path, TOKEN_TEXT_MAX + 2, true, ret, st);
}

#define USED_FILE "token-used"

static void used_path(const struct agent_state *state, char path[PATH_MAX])
{
    (void)snprintf(path, PATH_MAX, "%s/" USED_FILE, state->dir);
}

enum code token_note_use(const struct agent_state *state, const char *path, const struct secret *token,
                         struct status *st)
{
    char note[PATH_MAX], digest[SHA256_HEX_SIZE];
    if (strcmp(path, "-") == 0)
        return CODE_OK;
    used_path(state, note);
    sha256_hex((struct bytes){token->data, token->len}, digest);
    return file_write_atomic(note, digest, strlen(digest), 0600, st);
}

bool token_remove_used(const struct agent_state *state, const char *path)
{
    AUTO_SECRET struct secret *token = NULL;
    AUTO_BUF struct buf noted;
    char note[PATH_MAX], digest[SHA256_HEX_SIZE];
    struct status st;
    buf_init(&noted, sizeof(digest));
    used_path(state, note);
    if (strcmp(path, "-") == 0 || file_read(note, sizeof(digest), &noted, &st) != CODE_OK ||
        token_read(path, &token, &st) != CODE_OK)
        return false;
    sha256_hex((struct bytes){token->data, token->len}, digest);
    if (strcmp(digest, buf_text(&noted)) != 0)
        return false;
    if (unlink(path) != 0) {
        log_warn("the used token file cannot be removed", "file", path, "reason", strerror(errno), NULL);
        return true;
    }
    (void)unlink(note);
    return true;
}

/* ---- the two CSRs -----------------------------------------------------------------------------------------
 */

static enum code identity_csr_from_net(const struct enrolment *enrolment, struct der *ret, struct status *st)
{
    const char *const argv[] = {"net", "--dir", enrolment->state->net_dir, "--user", enrolment->net_user,
                                NULL};
    struct spawned net;
    TRY(spawn_self(argv, &net, st));
    AUTO_CLOSE int fd = net.fd;
    AUTO_BUF struct buf in;
    AUTO_ARENA struct arena *arena = arena_new();
    buf_init(&in, 2 * IPC_NET_FRAME_MAX);
    Clm__Agent__MakeIdentity make = CLM__AGENT__MAKE_IDENTITY__INIT;
    Clm__Agent__Frame frame = CLM__AGENT__FRAME__INIT;
    make.has_generation = 1;
    frame.make_identity = &make;
    ProtobufCMessage *msg = NULL;
    enum code code = ipc_write(fd, &frame.base, IPC_NET_FRAME_MAX, st);
    if (code == CODE_OK)
        code = ipc_read(fd, &in, &clm__agent__frame__descriptor, IPC_NET_FRAME_MAX, NET_TIMEOUT_MS, arena,
                        &msg, st);
    spawn_reap(&net, true);
    if (code != CODE_OK)
        return status_wrap(st, "the net process made no identity key");
    const Clm__Agent__Frame *answer = (const Clm__Agent__Frame *)msg;
    if (!answer->identity_csr || !answer->identity_csr->has_csr)
        return status_set(st, CODE_INTERNAL, "the net process sent no identity CSR");
    der_replace(ret, (struct bytes){answer->identity_csr->csr.data, answer->identity_csr->csr.len});
    return CODE_OK;
}

static enum code task_csr(struct agent_state *state, struct der *ret, struct status *st)
{
    struct pki_names names = {0};
    TRY(state_task_key(state, 0, st));
    return csr_make(state->task_key, "clm-agent task", &names, ret, st);
}

/* ---- one try ----------------------------------------------------------------------------------------------
 */

struct attempt {
    const struct enrolment *enrolment;
    const struct token *token;
    const char *gateway;
    struct bytes identity_csr, task_csr;
    struct arena *arena;
    int64_t retry_after_ms; /* out */
};

/* The encoded BootstrapRequest in locked memory: it holds the token's secret. */
static struct secret *request_body(const struct attempt *attempt)
{
    char secret_text[TOKEN_SECRET_TEXT_SIZE];
    token_secret_text(attempt->token, secret_text);
    Clm__BootstrapRequest body = CLM__BOOTSTRAP_REQUEST__INIT;
    body.token_secret = secret_text;
    body.has_identity_csr = body.has_task_csr = 1;
    body.identity_csr =
        (ProtobufCBinaryData){attempt->identity_csr.len, (uint8_t *)(uintptr_t)attempt->identity_csr.data};
    body.task_csr =
        (ProtobufCBinaryData){attempt->task_csr.len, (uint8_t *)(uintptr_t)attempt->task_csr.data};
    body.facts = (Clm__HostFacts *)(uintptr_t)attempt->enrolment->facts;
    struct secret *packed = secret_new(clm__bootstrap_request__get_packed_size(&body));
    (void)clm__bootstrap_request__pack(&body, packed->data);
    explicit_bzero(secret_text, sizeof(secret_text));
    return packed;
}

static enum code ask_through_child(struct attempt *attempt, const Clm__Agent__EnrolAnswer **ret,
                                   struct status *st)
{
    const char *const argv[] = {"enrol-request", "--user", attempt->enrolment->net_user, NULL};
    AUTO_SECRET struct secret *body = request_body(attempt);
    AUTO_BUF struct buf in;
    buf_init(&in, 2 * IPC_NET_FRAME_MAX);
    Clm__Agent__EnrolRequest request = CLM__AGENT__ENROL_REQUEST__INIT;
    request.gateway = (char *)(uintptr_t)attempt->gateway;
    request.has_pin = request.has_body = 1;
    request.proxy = (Clm__Agent__Proxy *)(uintptr_t)attempt->enrolment->proxy;
    request.pin = (ProtobufCBinaryData){SHA256_SIZE, (uint8_t *)(uintptr_t)attempt->token->pin};
    request.body = (ProtobufCBinaryData){body->len, body->data};
    struct spawned child;
    TRY(spawn_self(argv, &child, st));
    AUTO_CLOSE int fd = child.fd;
    ProtobufCMessage *msg = NULL;
    enum code code = ipc_write(fd, &request.base, IPC_NET_FRAME_MAX, st);
    if (code == CODE_OK)
        code = ipc_read(fd, &in, &clm__agent__enrol_answer__descriptor, IPC_NET_FRAME_MAX, CHILD_TIMEOUT_MS,
                        attempt->arena, &msg, st);
    spawn_reap(&child, true);
    if (code != CODE_OK)
        return status_wrap(st, "the enrolment process failed");
    *ret = (const Clm__Agent__EnrolAnswer *)msg;
    return CODE_OK;
}

static enum code copy_list(const ProtobufCBinaryData *items, size_t n, struct der_list *ret,
                           struct status *st)
{
    der_list_done(ret);
    for (size_t i = 0; i < n; i++)
        TRY(der_list_add(ret, (struct bytes){items[i].data, items[i].len}, st));
    return CODE_OK;
}

static enum code adopt(const struct attempt *attempt, const Clm__BootstrapResponse *answer, struct status *st)
{
    struct agent_state *state = attempt->enrolment->state;
    struct trust_bootstrap expected = {.identity_csr = attempt->identity_csr,
                                       .task_csr = attempt->task_csr,
                                       .now_ms = clock_wall_ms(),
                                       .parser_uid = attempt->enrolment->parser_uid};
    size_t root = 0;
    memcpy(expected.pin, attempt->token->pin, SHA256_SIZE);
    TRY(trust_check_bootstrap(&expected, answer, &root, st));
    if (strlen(attempt->gateway) >= sizeof(state->gateway) ||
        strlen(answer->trust_domain) >= sizeof(state->trust_domain))
        return status_set(st, CODE_INVALID_ARGUMENT, "the gateway's address or the trust domain is too long");
    memcpy(state->agent_id, answer->agent_id, UUID_TEXT_SIZE);
    memcpy(state->gateway, attempt->gateway, strlen(attempt->gateway) + 1);
    memcpy(state->trust_domain, answer->trust_domain, strlen(answer->trust_domain) + 1);
    state->generation = answer->generation;
    state->confirmed = false;
    TRY(copy_list(&answer->roots[root], 1, &state->roots, st));
    TRY(copy_list(answer->identity_chain, answer->n_identity_chain, &state->identity_chain, st));
    TRY(copy_list(answer->task_chain, answer->n_task_chain, &state->task_chain, st));
    return state_save(state, st);
}

static enum code enrol_once(struct attempt *attempt, struct status *st)
{
    const Clm__Agent__EnrolAnswer *answer = NULL;
    attempt->retry_after_ms = 0;
    TRY(ask_through_child(attempt, &answer, st));
    if (answer->code != CODE_OK) {
        attempt->retry_after_ms =
            answer->retry_after_ms < RETRY_AFTER_MAX ? answer->retry_after_ms : RETRY_AFTER_MAX;
        return status_set(st, code_info((enum code)answer->code)->code, "%s",
                          answer->message ? answer->message : "no reason given");
    }
    ProtobufCMessage *msg;
    TRY(wire_unpack(&clm__bootstrap_response__descriptor, answer->body.data, answer->body.len, attempt->arena,
                    &msg, st));
    return adopt(attempt, (const Clm__BootstrapResponse *)msg, st);
}

/* Enrolment has nothing else to do meanwhile, and the default signal handlers are still in place. */
static void wait_before_retry(int64_t ms)
{
    (void)poll(NULL, 0, (int)ms);
}

static enum code enrol_with(struct attempt *attempt, struct status *st)
{
    const struct enrolment *enrolment = attempt->enrolment;
    int64_t give_up = enrolment->give_up_ms ? clock_mono_ms() + enrolment->give_up_ms : INT64_MAX;
    for (unsigned n = 0;; n++) {
        enum code code = enrol_once(attempt, st);
        if (code == CODE_OK || !code_info(code)->retryable || clock_mono_ms() >= give_up)
            return code;
        int64_t pause =
            attempt->retry_after_ms > 0
                ? attempt->retry_after_ms + random_below((uint32_t)(attempt->retry_after_ms / 2 + 1))
                : BACKOFF_BASE_MS / 2 + backoff_full_jitter_ms(n, BACKOFF_BASE_MS, BACKOFF_CAP_MS);
        log_warn("enrolment has to wait", "gateway", attempt->gateway, "reason", st->msg, "retry_in_ms",
                 LOG_NUM(pause), NULL);
        arena_reset(attempt->arena);
        wait_before_retry(pause);
    }
}

enum code enrol(const struct enrolment *enrolment, struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    AUTO_DER struct der identity = {0}, task = {0};
    CLEANUP(token_wipe) struct token token = {0};
    TRY(token_parse(enrolment->token, &token, st));
    TRY(task_csr(enrolment->state, &task, st));
    TRY(identity_csr_from_net(enrolment, &identity, st));
    struct attempt attempt = {.enrolment = enrolment,
                              .token = &token,
                              .gateway = enrolment->gateway ? enrolment->gateway : token.gateway,
                              .identity_csr = der_bytes(&identity),
                              .task_csr = der_bytes(&task),
                              .arena = arena};
    if (enrol_with(&attempt, st) != CODE_OK)
        return status_wrap(st, "cannot enrol with %s", attempt.gateway);
    return CODE_OK;
}

/* ---- the child: one POST ----------------------------------------------------------------------------------
 */

struct post {
    struct loop *loop;
    struct net_proxy proxy;
    Clm__Agent__EnrolAnswer answer;
    struct buf body;
    struct status st;
    bool done;
};

static void post_end(struct post *post, const struct status *st, int64_t retry_after_ms)
{
    if (post->done)
        return;
    post->done = true;
    post->st = *st;
    post->answer.has_code = 1;
    post->answer.code = (uint32_t)st->code;
    post->answer.message = post->st.msg;
    post->answer.has_retry_after_ms = retry_after_ms > 0;
    post->answer.retry_after_ms = (uint32_t)retry_after_ms;
    loop_stop(post->loop);
}

static void post_refused(struct post *post, const struct http_response *response)
{
    int http_status = http_response_status(response);
    AUTO_ARENA struct arena *arena = arena_new();
    size_t len;
    const uint8_t *body = http_response_body(response, &len);
    ProtobufCMessage *msg;
    struct status st, ignored;
    (void)status_set(&st,
                     http_status == 429 || http_status >= 500 ? CODE_UNAVAILABLE : CODE_PERMISSION_DENIED,
                     "the gateway answered %d %s", http_status, http_reason(http_status));
    if (len > 0 && wire_unpack(&clm__agent_error__descriptor, body, len, arena, &msg, &ignored) == CODE_OK) {
        const Clm__AgentError *error = (const Clm__AgentError *)msg;
        const struct code_info *info = code_info((enum code)error->code);
        if (info->code != CODE_OK)
            (void)status_set(&st, info->code, "%s", error->message ? error->message : info->title);
    }
    post_end(post, &st, http_response_retry_after_ms(response, 0));
}

static void on_post_response(const struct http_response *response, const struct status *st, void *arg)
{
    struct post *post = arg;
    if (!response) {
        post_end(post, st, 0);
        return;
    }
    if (http_response_status(response) != 200) {
        post_refused(post, response);
        return;
    }
    struct status result = {0};
    size_t len;
    const uint8_t *body = http_response_body(response, &len);
    if (!buf_append(&post->body, body, len))
        (void)status_set(&result, CODE_INTERNAL, "the gateway's answer is too large");
    post->answer.has_body = 1;
    post->answer.body = (ProtobufCBinaryData){post->body.len, post->body.data};
    post_end(post, &result, 0);
}

static void on_post_closed(const struct status *st, void *arg)
{
    post_end(arg, st, 0);
}

static enum code post_run(struct post *post, const Clm__Agent__EnrolRequest *request, struct status *st)
{
    struct endpoint gateway;
    if (endpoint_split(request->gateway ? request->gateway : "", &gateway, st) != CODE_OK)
        return status_wrap(st, "the gateway's address");
    if (request->pin.len != SHA256_SIZE)
        return status_set(st, CODE_INVALID_ARGUMENT, "the pin is not a SHA-256");
    struct tls_client_config tls_config = {.spki_pin = request->pin.data, .min_version = TLS_1_3};
    AUTO_TLS_CONTEXT struct tls_context *tls = NULL;
    TRY(tls_client_new(&tls_config, &tls, st));
    TRY(net_proxy_set(&post->proxy, request->proxy, st));
    struct http_client_config config = {.host = gateway.host,
                                        .port = gateway.port,
                                        .proxy = net_proxy_get(&post->proxy),
                                        .tls = tls,
                                        .on_closed = on_post_closed,
                                        .arg = post};
    static const struct http_header headers[] = {{"Content-Type", "application/x-protobuf"}, {NULL, NULL}};
    struct http_client_request post_request = {.method = "POST",
                                               .path = "/agent/v1/bootstrap",
                                               .headers = headers,
                                               .body = request->body.data,
                                               .body_len = request->body.len,
                                               .timeout_ms = POST_TIMEOUT_MS};
    struct http_client *client = http_client_new(post->loop, &config);
    (void)http_client_send(client, &post_request, on_post_response, post);
    loop_run(post->loop);
    http_client_free(client);
    return CODE_OK;
}

static enum code enrol_child(int fd, uid_t uid, gid_t gid, struct status *st)
{
    secret_harden_process();
    if (uid != (uid_t)-1)
        TRY(sandbox_drop_user(uid, gid, st));
    secret_harden_process();
    TRY(sandbox_enter(SANDBOX_NET, st));
    AUTO_BUF struct buf in;
    AUTO_ARENA struct arena *arena = arena_new();
    buf_init(&in, 2 * IPC_NET_FRAME_MAX);
    ProtobufCMessage *msg;
    TRY(ipc_read(fd, &in, &clm__agent__enrol_request__descriptor, IPC_NET_FRAME_MAX, NET_TIMEOUT_MS, arena,
                 &msg, st));
    struct post post = {.loop = loop_new(), .answer = CLM__AGENT__ENROL_ANSWER__INIT};
    struct status why;
    if (post_run(&post, (const Clm__Agent__EnrolRequest *)msg, &why) != CODE_OK)
        post_end(&post, &why, 0);
    enum code code = ipc_write(fd, &post.answer.base, IPC_NET_FRAME_MAX, st);
    buf_done(&post.body);
    net_proxy_done(&post.proxy);
    loop_free(post.loop);
    if (in.data)
        explicit_bzero(in.data, in.cap);
    return code;
}

int enrol_child_main(int channel_fd, uid_t uid, gid_t gid)
{
    struct status st;
    (void)signal(SIGPIPE, SIG_IGN);
    if (enrol_child(channel_fd, uid, gid, &st) == CODE_OK)
        return 0;
    log_error("the enrolment request could not be made", "reason", st.msg, NULL);
    return 1;
}
