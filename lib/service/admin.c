/*
 * The admin port: /healthz (the process runs), /readyz (it should get requests; else 503 with the reason),
 * /metrics. Plain HTTP, meant for loopback or a pod's network. Runs on the main thread's loop, so it answers
 * during start-up and while every dependency is away.
 */
#include <string.h>

#include "http/server.h"
#include "service/internal.h"

#define METRICS_BYTES_MAX (4 * 1024 * 1024)

struct admin {
    struct service *service;
    struct http_server *server;
};

static void respond_text(struct http_request *request, int status, const char *type, const char *text,
                         size_t len)
{
    const struct http_header headers[] = {
        {"Content-Type", type}, {"Cache-Control", "no-store"}, {NULL, NULL}};
    http_respond(request, status, headers, text, len);
}

static void on_healthz(struct admin *admin, struct http_request *request)
{
    (void)admin;
    respond_text(request, 200, "text/plain; charset=utf-8", "ok\n", 3);
}

static void on_readyz(struct admin *admin, struct http_request *request)
{
    char why[256];
    bool ready = service_is_ready(admin->service, why, sizeof(why) - 1);
    size_t len = strlen(why);
    why[len++] = '\n';
    respond_text(request, ready ? 200 : 503, "text/plain; charset=utf-8", why, len);
}

static void on_metrics(struct admin *admin, struct http_request *request)
{
    (void)admin;
    AUTO_BUF struct buf out;
    buf_init(&out, METRICS_BYTES_MAX);
    struct status st = {0};
    if (metrics_write(&out, &st) == CODE_OK)
        respond_text(request, 200, "text/plain; version=0.0.4; charset=utf-8", buf_text(&out), out.len);
    else
        http_respond_problem(request, 0, &st, NULL);
}

static const struct {
    const char *path;
    void (*handler)(struct admin *admin, struct http_request *request);
} pages[] = {
    {"/healthz", on_healthz},
    {"/readyz", on_readyz},
    {"/metrics", on_metrics},
};

static void on_request(struct http_request *request, void *arg)
{
    const char *method = http_request_method(request);
    struct status st;
    for (size_t i = 0; i < ARRAY_LEN(pages); i++) {
        if (strcmp(http_request_path(request), pages[i].path) != 0)
            continue;
        if (strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0) {
            pages[i].handler(arg, request);
            return;
        }
        (void)status_set(&st, CODE_UNIMPLEMENTED, "%s answers GET only", pages[i].path);
        http_respond_problem(request, 405, &st,
                             (const struct http_header[]){{"Allow", "GET, HEAD"}, {NULL, NULL}});
        return;
    }
    (void)status_set(&st, CODE_NOT_FOUND, "the admin port has /healthz, /readyz and /metrics");
    http_respond_problem(request, 0, &st, NULL);
}

enum code admin_new(struct service *service, struct loop *loop, const char *listen, struct admin **ret,
                    struct status *st)
{
    static const struct http_handler handler = {.on_request = on_request};
    char address[64];
    const char *colon = strrchr(listen, ':');
    size_t n = colon ? (size_t)(colon - listen) : 0;
    char *end = NULL;
    long port = colon ? strtol(colon + 1, &end, 10) : 0;
    if (n == 0 || n >= sizeof(address) || !end || *end || end == colon + 1 || port < 0 || port > 65535)
        return status_set(st, CODE_INVALID_ARGUMENT, "admin_listen: \"%.80s\" is not address:port", listen);
    bool brackets = listen[0] == '[' && listen[n - 1] == ']';
    (void)snprintf(address, sizeof(address), "%.*s", (int)(brackets ? n - 2 : n),
                   brackets ? listen + 1 : listen);
    struct admin *admin = calloc(1, sizeof(*admin));
    if (!admin)
        abort();
    admin->service = service;
    const struct http_server_config config = {
        .address = address,
        .port = (uint16_t)port,
        .max_connections = 64,
        .limits = {.body_bytes = 1024},
    };
    if (http_server_new(loop, &config, &handler, admin, &admin->server, st) != CODE_OK) {
        free(admin);
        return status_wrap(st, "admin port");
    }
    *ret = admin;
    return CODE_OK;
}

void admin_free(struct admin *admin)
{
    if (!admin)
        return;
    http_server_free(admin->server);
    free(admin);
}
