/* The arguments of a REST call: path, query, body, If-Match and Idempotency-Key become one message. */
#include <string.h>
#include <strings.h>

#include "gateway/rest_parts.h"
#include "wire/wire.h"

#define CURRENT "current"

/* If-Match, an ETag or a version in quotes, becomes the request's if_version; "*" is what every call means
 * without it. */
static enum code bind_if_match(struct op *op, ProtobufCMessage *message, struct status *st)
{
    const char *value = http_request_header(op->request, "If-Match");
    if (!value || strcmp(value, "*") == 0)
        return CODE_OK;
    if (!protobuf_c_message_descriptor_get_field_by_name(message->descriptor, "if_version"))
        return status_set(st, CODE_INVALID_ARGUMENT, "this call does not take If-Match");
    char digits[32];
    size_t len = value[0] == '"' ? strspn(value + 1, "0123456789") : 0;
    const char *rest = value + 1 + len; /* what tells representations of the version apart does not matter */
    if (len > 0 && *rest == '-')
        rest += 1 + strspn(rest + 1, "0123456789abcdef");
    if (len == 0 || len > 20 || strcmp(rest, "\"") != 0)
        return status_set(st, CODE_INVALID_ARGUMENT, "If-Match: expected the ETag of an earlier answer");
    memcpy(digits, value + 1, len);
    digits[len] = '\0';
    op->if_match = true;
    return json_set_field(message, "ifVersion", digits, op->arena, st);
}

struct binding {
    struct op *op;
    ProtobufCMessage *message;
    struct status st;
};

static bool on_param(const char *name, const char *value, void *arg)
{
    struct binding *binding = arg;
    for (size_t i = 0; i < binding->op->match.n_params; i++) {
        if (strcmp(binding->op->match.params[i].name, name) == 0) {
            (void)status_set(&binding->st, CODE_INVALID_ARGUMENT,
                             "%.64s: belongs into the path, not the query", name);
            return false;
        }
    }
    return json_set_field(binding->message, name, value, binding->op->arena, &binding->st) == CODE_OK;
}

/* The field that a body may have set already, as text; NULL if it is not set or no string. */
static const char *text_field(const ProtobufCMessage *message, const char *json_name)
{
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
        char name[64];
        json_field_name(field, name);
        if (strcmp(name, json_name) == 0 && field->type == PROTOBUF_C_TYPE_STRING &&
            field->label != PROTOBUF_C_LABEL_REPEATED)
            return *(char *const *)((const char *)message + field->offset);
    }
    return NULL;
}

static enum code bind_path(struct op *op, ProtobufCMessage *message, struct status *st)
{
    for (size_t i = 0; i < op->match.n_params; i++) {
        const char *name = op->match.params[i].name, *value = op->match.params[i].value;
        if (strcmp(name, "sessionId") == 0 && strcmp(value, CURRENT) == 0) {
            if (!*op->session_id)
                return status_set(st, CODE_FAILED_PRECONDITION, "an API key has no session");
            value = op->session_id;
            op->own_session = true;
        }
        const char *present = text_field(message, name);
        if (present && strcmp(present, value) != 0)
            return status_set(st, CODE_INVALID_ARGUMENT, "%s: the body says otherwise than the path", name);
        TRY(json_set_field(message, name, value, op->arena, st));
    }
    return CODE_OK;
}

/* Without a balancer that says where connections come from, each host would seem to come from it. */
static enum code check_token_bounds(struct op *op, const ProtobufCMessage *message, struct status *st)
{
    if (text_field(message, "tokenSourceCidr") && op->edge->gateway->n_proxies == 0)
        return status_set(st, CODE_FAILED_PRECONDITION,
                          "tokenSourceCidr: the gateway knows sources for certain only by the PROXY protocol "
                          "of its balancers; set [gateway] proxy_protocol_from first");
    return CODE_OK;
}

enum code op_arguments(struct op *op, ProtobufCMessage **ret, int *http_status, struct status *st)
{
    const struct route *route = op->match.route;
    const ProtobufCMessageDescriptor *desc = route_request(route);
    ProtobufCMessage *message = NULL;

    if (strcmp(route->method, "POST") == 0) {
        size_t len;
        const char *body = (const char *)http_request_body(op->request, &len);
        const char *type = http_request_header(op->request, "Content-Type");
        if (len > 0 && (!type || strncasecmp(type, "application/json", 16) != 0 ||
                        (type[16] != '\0' && type[16] != ';' && type[16] != ' '))) {
            *http_status = 415;
            return status_set(st, CODE_INVALID_ARGUMENT, "the body must be application/json");
        }
        if (*http_request_query(op->request))
            return status_set(st, CODE_INVALID_ARGUMENT,
                              "%s takes its arguments in the body, not in the query", route->path);
        TRY(json_parse(desc, body, len, op->arena, &message, st));
        const char *key = http_request_header(op->request, "Idempotency-Key");
        if (key && protobuf_c_message_descriptor_get_field_by_name(desc, "idempotency_key"))
            TRY(json_set_field(message, "idempotencyKey", key, op->arena, st));
    } else {
        struct binding binding = {.op = op};
        TRY(json_parse(desc, "", 0, op->arena, &message, st));
        binding.message = message;
        if (!http_request_params(op->request, on_param, &binding)) {
            if (binding.st.code != CODE_OK)
                return status_set(st, binding.st.code, "%s", binding.st.msg);
            return status_set(st, CODE_INVALID_ARGUMENT, "the query is malformed");
        }
    }
    TRY(bind_path(op, message, st));
    TRY(bind_if_match(op, message, st));
    TRY(json_check_message(message, st));
    TRY(check_token_bounds(op, message, st));
    *ret = message;
    return CODE_OK;
}

enum code op_set_source(struct op *op, ProtobufCMessage *message, struct status *st)
{
    if (text_field(message, "source"))
        return status_set(st, CODE_INVALID_ARGUMENT, "source: the gateway sets it");
    return json_set_field(message, "source", http_connection_peer(http_request_connection(op->request)),
                          op->arena, st);
}
