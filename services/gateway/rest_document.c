/* The documents that describe the API: OpenAPI, and a page to read. */
#include <string.h>

#include "gateway/docs.h"
#include "gateway/rest_parts.h"

/* What describes the API, beside what the routes are. */
enum document { NO_DOCUMENT, DOCUMENT_OPENAPI, DOCUMENT_PAGE, DOCUMENT_CSS };

static enum document document_find(const char *path)
{
    if (strcmp(path, OPENAPI_PATH) == 0)
        return DOCUMENT_OPENAPI;
    if (strcmp(path, "/api/docs") == 0)
        return DOCUMENT_PAGE;
    return strcmp(path, "/api/docs.css") == 0 ? DOCUMENT_CSS : NO_DOCUMENT;
}

void document_answer(struct op *op)
{
    const struct gateway *gateway = op->edge->gateway;
    const char *type = "application/json";
    const void *data = gateway->openapi.data;
    size_t len = gateway->openapi.len;
    struct http_header headers[HEADERS_MAX] = {{0}};
    size_t n = op_common_headers(op, headers);
    switch (document_find(http_request_path(op->request))) {
    case DOCUMENT_PAGE:
        type = "text/html; charset=utf-8";
        data = gateway->docs.data;
        len = gateway->docs.len;
        break;
    case DOCUMENT_CSS:
        type = "text/css; charset=utf-8";
        data = docs_css;
        len = strlen(docs_css);
        break;
    default:
        break;
    }
    for (size_t i = 0; i < n; i++) /* the page has a style of ours, and no script */
        if (strcmp(headers[i].name, "Content-Security-Policy") == 0)
            headers[i].value = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; "
                               "frame-ancestors 'none'";
    headers[n++] = (struct http_header){"Content-Type", type};
    op_count(op, 200);
    http_respond(op->request, 200, headers, data, len);
    op->request = NULL;
    op_free(op);
}

bool document_is(const char *path)
{
    return document_find(path) != NO_DOCUMENT;
}
