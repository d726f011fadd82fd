/* See fetch.h. */
#include "kinds/fetch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/file.h"
#include "http/client.h"
#include "sandbox/sandbox.h"

#define NOBODY   65534
#define GRACE_MS 500
#define CPU_SEC  10
#define FILES    32

enum code fetch_url_read(const char *url, struct fetch_url *ret, struct status *st)
{
    static const char scheme[] = "http://";
    const char *host = url + strlen(scheme);
    memset(ret, 0, sizeof(*ret));
    ret->port = 80;
    if (strncasecmp(url, scheme, strlen(scheme)) != 0)
        return status_set(st, CODE_INVALID_ARGUMENT, "\"%.100s\" is no plain http:// URL", url);
    bool bracket = *host == '[';
    size_t len = bracket ? strcspn(++host, "]") : strcspn(host, ":/?#");
    const char *at = host + len + (bracket && host[len] == ']');
    if (len == 0 || len >= sizeof(ret->host) || memchr(host, '@', len))
        return status_set(st, CODE_INVALID_ARGUMENT, "\"%.100s\" names no host", url);
    memcpy(ret->host, host, len);
    if (*at == ':') {
        char *end;
        unsigned long port = strtoul(at + 1, &end, 10);
        if (end == at + 1 || port == 0 || port > 65535)
            return status_set(st, CODE_INVALID_ARGUMENT, "\"%.100s\" has no port", url);
        ret->port = (unsigned)port;
        at = end;
    }
    size_t path = strcspn(at, "#");
    if ((*at && *at != '/') || path + 1 >= sizeof(ret->path) || strcspn(at, " \r\n\t") < path)
        return status_set(st, CODE_INVALID_ARGUMENT, "\"%.100s\" has no path", url);
    (void)snprintf(ret->path, sizeof(ret->path), "%.*s", path ? (int)path : 1, path ? at : "/");
    return CODE_OK;
}

/* --- the child: a code and its text, or CODE_OK and the bytes ------------------------------------------ */

struct answer {
    uint32_t code;
    char text[200];
};

struct fetching {
    struct loop *loop;
    int out;
    size_t max;
    bool over;
};

static void end(struct fetching *f, enum code code, const char *text, const uint8_t *body, size_t len)
{
    struct answer answer = {.code = (uint32_t)code};
    if (f->over)
        return;
    f->over = true;
    (void)snprintf(answer.text, sizeof(answer.text), "%.199s", text);
    if (fd_write_all(f->out, &answer, sizeof(answer), NULL) == CODE_OK && len > 0)
        (void)!fd_write_all(f->out, body, len, NULL);
    loop_stop(f->loop);
}

static void on_response(const struct http_response *response, const struct status *st, void *arg)
{
    struct fetching *f = arg;
    size_t len;
    char text[64];
    if (!response) {
        end(f, st->code, st->msg, NULL, 0);
        return;
    }
    const uint8_t *body = http_response_body(response, &len);
    (void)snprintf(text, sizeof(text), "the server answers with status %d", http_response_status(response));
    if (http_response_status(response) != 200)
        end(f, CODE_NOT_FOUND, text, NULL, 0);
    else if (len > f->max)
        end(f, CODE_RESOURCE_EXHAUSTED, "the answer is too long", NULL, 0);
    else
        end(f, CODE_OK, "", body, len);
}

static void on_closed(const struct status *st, void *arg)
{
    end(arg, st->code, st->msg, NULL, 0);
}

static _Noreturn void child(const struct fetch_url *url, const char *type, struct bytes body,
                            int64_t timeout_ms, size_t max, int out)
{
    struct status st;
    struct sandbox_limits limits = {.cpu_sec = CPU_SEC, .open_files = FILES};
    struct fetching f = {.out = out, .max = max};
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    sandbox_close_fds(&out, 1);
    (void)signal(SIGPIPE, SIG_IGN);
    f.loop = loop_new();
    if (sandbox_limit(&limits, &st) != CODE_OK ||
        (geteuid() == 0 && sandbox_drop_user(NOBODY, NOBODY, &st) != CODE_OK) ||
        sandbox_enter(SANDBOX_NET, &st) != CODE_OK) {
        end(&f, CODE_INTERNAL, st.msg, NULL, 0);
        _exit(1);
    }
    struct http_client_config config = {.host = url->host,
                                        .port = (uint16_t)url->port,
                                        .limits = {.body_bytes = max},
                                        .connect_timeout_ms = timeout_ms,
                                        .on_closed = on_closed,
                                        .arg = &f};
    struct http_header headers[] = {{"Content-Type", type}, {NULL, NULL}};
    struct http_client_request request = {.method = body.len ? "POST" : "GET",
                                          .path = url->path,
                                          .headers = body.len ? headers : NULL,
                                          .body = body.data,
                                          .body_len = body.len,
                                          .timeout_ms = timeout_ms};
    struct http_client *client = http_client_new(f.loop, &config);
    (void)http_client_send(client, &request, on_response, &f);
    loop_run(f.loop);
    _exit(0);
}

/* --- the caller --------------------------------------------------------------------------------------- */

static void collect(int fd, int64_t end_ms, struct buf *out)
{
    char chunk[16384];
    for (;;) {
        int64_t left = end_ms - clock_mono_ms();
        struct pollfd p = {fd, POLLIN, 0};
        int ready = poll(&p, 1, left > 0 ? (int)left : 0);
        if (ready < 0 && errno == EINTR)
            continue;
        ssize_t n = ready > 0 ? read(fd, chunk, sizeof(chunk)) : 0;
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0 || !buf_append(out, chunk, (size_t)n))
            return;
    }
}

enum code fetch(const struct fetch_url *url, const char *type, struct bytes body, int64_t timeout_ms,
                struct buf *ret, struct status *st)
{
    int fds[2];
    size_t max = ret->limit ? ret->limit : BUF_DEFAULT_LIMIT;
    if (pipe2(fds, O_CLOEXEC) != 0)
        return status_errno(st, CODE_RESOURCE_EXHAUSTED, errno, "cannot make a pipe");
    pid_t pid = fork();
    if (pid == 0)
        child(url, type, body, timeout_ms, max, fds[1]);
    (void)close(fds[1]);
    AUTO_CLOSE int from_child = fds[0];
    if (pid < 0)
        return status_errno(st, CODE_RESOURCE_EXHAUSTED, errno, "cannot fork");
    AUTO_BUF struct buf out = {.limit = max + sizeof(struct answer)};
    collect(from_child, clock_mono_ms() + timeout_ms + GRACE_MS, &out);
    (void)kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    struct answer answer;
    if (out.len < sizeof(answer))
        return status_set(st, CODE_DEADLINE_EXCEEDED, "no answer within %lld ms", (long long)timeout_ms);
    memcpy(&answer, out.data, sizeof(answer));
    answer.text[sizeof(answer.text) - 1] = 0;
    if (answer.code != CODE_OK)
        return status_set(st, code_info((enum code)answer.code)->code, "%s", answer.text);
    if (!buf_append(ret, out.data + sizeof(answer), out.len - sizeof(answer)))
        return status_set(st, CODE_RESOURCE_EXHAUSTED, "the answer is too long");
    return CODE_OK;
}
