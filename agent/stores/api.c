/* See api.h. The child runs lib/http on a loop of its own, once, and ends. */
#include "stores/api.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "http/client.h"
#include "sandbox/sandbox.h"
#include "stores/box.h"

#define NOBODY   65534
#define GRACE_MS 1000 /* for the child to say why it gave up, before it is killed */
#define TEXT_MAX 200

/* --- the child -------------------------------------------------------------------------------------------
 */

struct visit {
    const struct api_call *call;
    struct box *box;
    struct loop *loop;
};

/* An error: its code as a negative number, its text as the bytes. */
static void say_error(struct box *box, const struct status *st)
{
    box->number = -(int)st->code;
    (void)!box_put(box, st->msg, strnlen(st->msg, TEXT_MAX), NULL);
}

static void on_response(const struct http_response *response, const struct status *st, void *arg)
{
    struct visit *visit = arg;
    struct status why;
    size_t len = 0;
    if (!response) {
        say_error(visit->box, st);
    } else {
        const uint8_t *body = http_response_body(response, &len);
        if (box_put(visit->box, body, len, &why) != CODE_OK) {
            say_error(visit->box, &why);
        } else {
            visit->box->number = http_response_status(response);
            visit->box->time_ms = http_response_retry_after_ms(response, 0);
        }
    }
    loop_stop(visit->loop);
}

static void on_closed(const struct status *st, void *arg)
{
    struct visit *visit = arg;
    if (visit->box->number == 0)
        say_error(visit->box, st);
    loop_stop(visit->loop);
}

static enum code visit_api(struct visit *visit, struct status *st)
{
    const struct api_call *call = visit->call;
    struct tls_client_config trust = {.ca = call->ca.data, .ca_len = call->ca.len, .min_version = TLS_1_2};
    struct tls_context *tls = NULL;
    AUTO_SECRET struct secret *bearer = secret_new(call->token->len + 8);
    (void)snprintf((char *)bearer->data, bearer->len + 1, "Bearer %s", (const char *)call->token->data);
    TRY(tls_client_new(&trust, &tls, st));
    visit->loop = loop_new();
    struct http_client_config config = {.host = call->host,
                                        .port = call->port,
                                        .tls = tls,
                                        .limits = {.body_bytes = STORE_FILE_MAX},
                                        .connect_timeout_ms = call->timeout_ms,
                                        .on_closed = on_closed,
                                        .arg = visit};
    const struct http_header headers[] = {{"Authorization", (const char *)bearer->data},
                                          {"Accept", "application/json"},
                                          {call->body ? "Content-Type" : NULL, call->content_type},
                                          {NULL, NULL}};
    struct http_client_request request = {.method = call->method,
                                          .path = call->path,
                                          .headers = headers,
                                          .body = call->body ? call->body->data : NULL,
                                          .body_len = call->body ? call->body->len : 0,
                                          .timeout_ms = call->timeout_ms};
    struct http_client *client = http_client_new(visit->loop, &config);
    (void)http_client_send(client, &request, on_response, visit);
    loop_run(visit->loop);
    return CODE_OK;
}

static _Noreturn void child(const struct api_call *call, struct box *box)
{
    struct status st;
    struct sandbox_limits limits = {.cpu_sec = 30, .open_files = 64};
    struct visit visit = {.call = call, .box = box};
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    sandbox_close_fds(NULL, 0);
    (void)signal(SIGPIPE, SIG_IGN);
    if (sandbox_limit(&limits, &st) != CODE_OK ||
        (geteuid() == 0 && sandbox_drop_user(NOBODY, NOBODY, &st) != CODE_OK) ||
        sandbox_enter(SANDBOX_NET, &st) != CODE_OK || visit_api(&visit, &st) != CODE_OK)
        say_error(box, &st);
    _exit(0); /* with the client and the loop as they are */
}

/* --- the parent ------------------------------------------------------------------------------------------
 */

void api_answer_done(struct api_answer *answer)
{
    secret_free(answer->body);
    answer->body = NULL;
}

static bool wait_end(pid_t pid, int64_t timeout_ms)
{
    AUTO_CLOSE int pidfd = pidfd_open(pid, 0);
    int64_t end_ms = clock_mono_ms() + timeout_ms;
    for (;;) {
        int64_t left_ms = end_ms - clock_mono_ms();
        struct pollfd p = {pidfd, POLLIN, 0};
        int n = pidfd >= 0 && left_ms > 0 ? poll(&p, 1, (int)left_ms) : 0;
        if (n >= 0 || errno != EINTR)
            return n == 1;
    }
}

static void text_of(const struct box *box, char out[TEXT_MAX + 1])
{
    AUTO_SECRET struct secret *text = box_take(box);
    size_t n = text ? strnlen((const char *)text->data, text->len < TEXT_MAX ? text->len : TEXT_MAX) : 0;
    for (size_t i = 0; i < n; i++)
        out[i] = text->data[i] >= 0x20 && text->data[i] < 0x7f ? (char)text->data[i] : '?';
    out[n] = 0;
}

enum code api_run(const struct api_call *call, struct api_answer *ret, struct status *st)
{
    AUTO_BOX struct box *box = box_new();
    memset(ret, 0, sizeof(*ret));
    pid_t pid = fork();
    if (pid == 0)
        child(call, box);
    if (pid < 0)
        return status_errno(st, CODE_RESOURCE_EXHAUSTED, errno, "cannot fork to call %s", call->host);
    bool ended = wait_end(pid, call->timeout_ms + GRACE_MS);
    if (!ended)
        (void)kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    int number = *(volatile int *)&box->number;
    if (number >= 100 && number <= 599) {
        ret->status = number;
        ret->retry_after_ms = box->time_ms;
        ret->body = box_take(box);
        return CODE_OK;
    }
    char text[TEXT_MAX + 1];
    text_of(box, text);
    if (number < 0)
        return status_set(st, code_info((enum code)(-number))->code, "%.80s:%u: %s", call->host, call->port,
                          text);
    return status_set(st, ended ? CODE_UNAVAILABLE : CODE_DEADLINE_EXCEEDED, "%.80s:%u gave no answer",
                      call->host, call->port);
}
