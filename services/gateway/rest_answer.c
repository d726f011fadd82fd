/* Answers of the operator listener: what every one carries, problems, entity tags. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "gateway/problem.h"
#include "gateway/rest_parts.h"
#include "pki/digest.h"
#include "wire/wire.h"

void op_free(struct op *op)
{
    if (op->request)
        http_request_set_user(op->request, NULL);
    arena_free(op->arena);
    free(op);
}

/* The client is still there. What changes something is told in the log, with the trace that its effects
 * carry. */
void op_count(struct op *op, int status)
{
    char text[8];
    (void)snprintf(text, sizeof text, "%d", status);
    if (strcmp(http_request_method(op->request), "GET") != 0 &&
        status < 500) /* those are told with the reason */
        log_info("REST call", "method", http_request_method(op->request), "path",
                 http_request_path(op->request), "status", text, "actor", *op->actor ? op->actor : NULL,
                 "trace", op->trace_id, NULL);
    const struct gateway *gateway = op->edge->gateway;
    const char *method = op->match.route ? op->match.route->rpc : "none";
    metric_add_by(gateway->metric.requests, "method", method, "status", text, 1);
    metric_observe_ms(gateway->metric.request_ms, "method", method,
                      (double)(clock_mono_us() - op->began_us) / 1000);
}

static void note_refusal(struct op *op, const struct status *st)
{
    bool login = st->code == CODE_UNAUTHENTICATED;
    if (login || st->code == CODE_PERMISSION_DENIED)
        refusals_add(op->edge->gateway->refusals, login ? REFUSAL_LOGIN : REFUSAL_PERMISSION,
                     http_connection_peer(http_request_connection(op->request)), op->actor, st->msg);
}

size_t op_common_headers(const struct op *op, struct http_header headers[HEADERS_MAX])
{
    const struct http_header all[] = {
        {"Cache-Control", "no-store"},
        {"X-Content-Type-Options", "nosniff"},
        {"Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"},
        {"Strict-Transport-Security", "max-age=31536000"},
        {"Referrer-Policy", "no-referrer"},
        {"X-Request-Id", op->trace_id},
    };
    size_t n = ARRAY_LEN(all);
    memcpy(headers, all, sizeof all);
    if (*op->rate) {
        headers[n++] = (struct http_header){"RateLimit-Policy", op->rate_policy};
        headers[n++] = (struct http_header){"RateLimit", op->rate};
    }
    return n;
}

void op_refuse(struct op *op, int http_status, const struct status *st, const char *header, const char *value)
{
    if (op->request) {
        AUTO_BUF struct buf body = {0};
        struct http_header headers[HEADERS_MAX] = {{0}};
        size_t n = op_common_headers(op, headers);
        note_refusal(op, st);
        headers[n++] = (struct http_header){"Content-Type", "application/problem+json"};
        if (header)
            headers[n++] = (struct http_header){header, value};
        else
            edge_retry_header(st->code, &headers[n]);
        int status = http_status ? http_status : code_info(st->code)->http_status;
        op_count(op, status);
        if (status >= 500)
            log_warn("REST call failed", "method", http_request_method(op->request), "path",
                     http_request_path(op->request), "trace", op->trace_id, "reason", st->msg, NULL);
        struct status told = edge_tell(st);
        buf_init(&body, 16 * 1024);
        if (!problem_write(&body, status, &told, op->trace_id))
            abort();
        http_respond(op->request, status, headers, body.data, body.len);
        op->request = NULL;
    }
    op_free(op);
}

void op_answer(struct op *op, int status, const char *cookie, const char *etag, const void *body, size_t len)
{
    if (op->request) {
        struct http_header headers[HEADERS_MAX] = {{0}};
        size_t n = op_common_headers(op, headers);
        if (status != 304)
            headers[n++] = (struct http_header){"Content-Type", "application/json"};
        if (cookie)
            headers[n++] = (struct http_header){"Set-Cookie", cookie};
        if (etag)
            headers[n++] = (struct http_header){"ETag", etag};
        op_count(op, status);
        http_respond(op->request, status, headers, body, len);
        op->request = NULL;
    }
    op_free(op);
}

void etag_of(const ProtobufCMessage *view, const struct buf *json, char etag[ETAG_SIZE])
{
    char digest[SHA256_HEX_SIZE];
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field_by_name(view->descriptor, "version");
    etag[0] = '\0';
    if (!field || field->type != PROTOBUF_C_TYPE_UINT64)
        return;
    sha256_hex((struct bytes){json->data, json->len}, digest);
    (void)snprintf(etag, ETAG_SIZE, "\"%" PRIu64 "-%.8s\"",
                   *(const uint64_t *)((const char *)view + field->offset), digest);
}

bool etag_is_known(const struct op *op, const char *etag)
{
    const char *known = op->request ? http_request_header(op->request, "If-None-Match") : NULL;
    return *etag && known && strcmp(op->match.route->method, "GET") == 0 &&
           (strcmp(known, "*") == 0 || strstr(known, etag));
}
