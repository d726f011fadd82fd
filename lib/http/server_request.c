/* What a handler may ask of a request. See server_parts.h. */
#include "http/server_parts.h"

#include <stdlib.h>
#include <string.h>

#define PARAM_MAX_BYTES 4096

void request_free(struct http_request *request)
{
    if (!request)
        return;
    http_message_free(request->message);
    free(request);
}

struct http_connection *http_request_connection(const struct http_request *request)
{
    return request->connection;
}

void http_request_set_user(struct http_request *request, void *user)
{
    request->user = user;
}

void *http_request_user(const struct http_request *request)
{
    return request->user;
}

const char *http_request_method(const struct http_request *request)
{
    return request->message->method;
}

const char *http_request_path(const struct http_request *request)
{
    return request->message->path;
}

const char *http_request_query(const struct http_request *request)
{
    return request->message->query;
}

const char *http_request_header(const struct http_request *request, const char *name)
{
    return http_message_field(request->message, name);
}

size_t http_request_header_count(const struct http_request *request, const char *name)
{
    return http_message_field_count(request->message, name);
}

const uint8_t *http_request_body(const struct http_request *request, size_t *ret_len)
{
    *ret_len = request->message->body.len;
    return (const uint8_t *)buf_text(&request->message->body);
}

bool http_request_params(const struct http_request *request,
                         bool (*on_param)(const char *name, const char *value, void *arg), void *arg)
{
    char name[128], value[PARAM_MAX_BYTES + 1];
    for (const char *at = request->message->query; *at;) {
        size_t len = strcspn(at, "&");
        const char *equals = memchr(at, '=', len);
        size_t name_len = equals ? (size_t)(equals - at) : len;
        const char *text = equals ? equals + 1 : at + len;
        if (len && (!http_percent_decode(at, name_len, true, name, sizeof(name)) ||
                    !http_percent_decode(text, (size_t)(at + len - text), true, value, sizeof(value)) ||
                    !on_param(name, value, arg)))
            return false;
        at += len + (at[len] == '&');
    }
    return true;
}
