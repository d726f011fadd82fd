/* One pass over the routes for the paths, one for the schemas they refer to. */
#include "gateway/openapi.h"

#include <string.h>

#include "bus/access.h"
#include "bus/bus.h"
#include "gateway/routes.h"
#include "proto/common.pb-c.h"
#include "version.h"
#include "wire/wire.h"

#define SCHEMAS_MAX 256
#define ETAG_HEADER                                                                                          \
    "\"headers\":{\"ETag\":{\"description\":\"The version, and a digest of what was "                        \
    "answered\",\"schema\":{\"type\":\"string\"}}},"

static bool bound_by_path(const struct route *route, const char *json_name)
{
    char wanted[72];
    (void)snprintf(wanted, sizeof wanted, "{%s}", json_name);
    return strstr(route->path, wanted) != NULL;
}

/* Header fields that a call takes when its request has the field; on GET, when its answer has. */
static const struct header_parameter {
    const char *component, *header, *field;
    bool get;
    const char *description, *schema;
} header_parameters[] = {
    {"IdempotencyKey", "Idempotency-Key", "idempotency_key", false,
     "A repeated request with the same key has its effect once",
     "{\"type\":\"string\",\"minLength\":1,\"maxLength\":128}"},
    {"IfMatch", "If-Match", "if_version", false,
     "The ETag of an earlier answer: 412 if the object has changed since", "{\"type\":\"string\"}"},
    {"IfNoneMatch", "If-None-Match", "version", true,
     "The ETag of an earlier answer: 304 if nothing has changed", "{\"type\":\"string\"}"},
    {"LastEventId", "Last-Event-ID", "last_event_id", true,
     "Go on behind this event: nothing between is lost",
     "{\"type\":\"string\",\"pattern\":\"^[0-9]{1,19}$\"}"},
};

static bool takes_header(const struct route *route, const struct header_parameter *parameter)
{
    bool get = strcmp(route->method, "GET") == 0;
    const ProtobufCMessageDescriptor *of =
        get && !route->stream ? route_response(route) : route_request(route);
    return get == parameter->get && protobuf_c_message_descriptor_get_field_by_name(of, parameter->field) &&
           (route->stream != NULL) == (strcmp(parameter->field, "last_event_id") == 0);
}

static bool write_header_parameters(struct buf *out)
{
    for (size_t i = 0; i < ARRAY_LEN(header_parameters); i++) {
        const struct header_parameter *p = &header_parameters[i];
        if (!buf_printf(
                out,
                "%s\"%s\":{\"name\":\"%s\",\"in\":\"header\",\"required\":false,\"description\":\"%s\","
                "\"schema\":%s}",
                i ? "," : "", p->component, p->header, p->description, p->schema))
            return false;
    }
    return true;
}

/* Machine-readable: which roles may call it; none: whoever signs in. */
static bool write_roles(struct buf *out, unsigned roles)
{
    bool first = true;
    if (!buf_puts(out, "\"x-roles\":["))
        return false;
    for (unsigned i = 0; i < clm__role__descriptor.n_values; i++) {
        const ProtobufCEnumValue *role = &clm__role__descriptor.values[i];
        if (!(roles & ROLE_BIT(role->value)))
            continue;
        if (!buf_printf(out, "%s\"%s\"", first ? "" : ",", role->name))
            return false;
        first = false;
    }
    return buf_puts(out, "],");
}

static bool write_parameters(struct buf *out, const struct route *route)
{
    const ProtobufCMessageDescriptor *request = route_request(route);
    bool in_query = strcmp(route->method, "GET") == 0;
    bool first = true;

    if (!buf_puts(out, "\"parameters\":["))
        return false;
    for (unsigned i = 0; i < request->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &request->fields[i];
        char name[64];
        json_field_name(field, name);
        bool in_path = bound_by_path(route, name);
        if ((!in_path && !in_query) || field->type == PROTOBUF_C_TYPE_MESSAGE)
            continue;
        bool repeated = field->label == PROTOBUF_C_LABEL_REPEATED;
        if (!buf_printf(out, "%s{\"name\":\"%s\",\"in\":\"%s\",\"required\":%s,\"schema\":", first ? "" : ",",
                        name, in_path ? "path" : "query", in_path ? "true" : "false") ||
            (repeated && !buf_puts(out, "{\"type\":\"array\",\"items\":")) ||
            !json_schema_value(request, field, out) || (repeated && !buf_puts(out, "}")) ||
            !buf_puts(out, "}"))
            return false;
        first = false;
    }
    for (size_t i = 0; i < ARRAY_LEN(header_parameters); i++) {
        if (!takes_header(route, &header_parameters[i]))
            continue;
        if (!buf_printf(out, "%s{\"$ref\":\"#/components/parameters/%s\"}", first ? "" : ",",
                        header_parameters[i].component))
            return false;
        first = false;
    }
    return buf_puts(out, "],");
}

/* OpenAPI 3.1 has no words for a stream of events: the schema is that of one event's data. */
static bool write_stream_response(struct buf *out, const struct route *route)
{
    return buf_printf(out,
                      "\"responses\":{\"%d\":{\"description\":\"A stream that ends when the client leaves, "
                      "its credential does, or "
                      "the server restarts; then come again with Last-Event-ID. Each event has an id (its "
                      "place) and data: one JSON "
                      "object of the schema EventView on one line. An event named opened begins the stream "
                      "and says the place; one "
                      "named reset says that events between are no longer kept: read again what you show. "
                      "Comments keep the "
                      "connection alive.\",\"content\":{\"text/event-stream\":{\"schema\":{\"$ref\":"
                      "\"#/components/schemas/%s\"}}}},\"4XX\":{\"$ref\":\"#/components/responses/Problem\"},"
                      "\"5XX\":{\"$ref\":\"#/components/responses/Problem\"}}",
                      route->success, route_response(route)->short_name);
}

static bool write_operation(struct buf *out, const struct route *route)
{
    const struct method_access *access = method_access_find(route->service, route->rpc);
    const char *name = route->stream ? route->stream : route->rpc;
    if (!buf_printf(out, "\"operationId\":\"%c%s\",\"tags\":[\"%s\"],\"summary\":", name[0] | 0x20, name + 1,
                    route->tag) ||
        !json_quote(out, route->summary) ||
        !(access->roles
              ? buf_printf(out, ",\"description\":\"Needs the role %s.\",", roles_least_name(access->roles))
              : buf_puts(out, ",\"description\":\"Needs no credential, but the header X-Clm-Csrf: 1.\","
                              "\"security\":[],")) ||
        !write_roles(out, access->roles) || !write_parameters(out, route))
        return false;
    if (strcmp(route->method, "POST") == 0 &&
        !buf_printf(out,
                    "\"requestBody\":{\"content\":{\"application/json\":{\"schema\":{\"$ref\":"
                    "\"#/components/schemas/%s\"}}}},",
                    route_request(route)->short_name))
        return false;
    if (route->stream)
        return write_stream_response(out, route);
    bool has_etag = protobuf_c_message_descriptor_get_field_by_name(route_response(route), "version") != NULL;
    return buf_printf(
        out,
        "\"responses\":{\"%d\":{\"description\":\"Done\",%s\"content\":{\"application/json\":{\"schema\":"
        "{\"$ref\":\"#/components/schemas/%s\"}}}},\"4XX\":{\"$ref\":\"#/components/responses/Problem\"},"
        "\"5XX\":{\"$ref\":\"#/components/responses/Problem\"}}",
        route->success, has_etag ? ETAG_HEADER : "", route_response(route)->short_name);
}

/* Routes with the same path are neighbours in the table or not: each path is written once, with all its
 * methods. */
static bool write_paths(struct buf *out)
{
    bool first_path = true;
    for (const struct route *route = routes; route->method; route++) {
        bool seen = false;
        for (const struct route *before = routes; before < route; before++)
            seen |= strcmp(before->path, route->path) == 0;
        if (seen)
            continue;
        if (!buf_printf(out, "%s\"%s\":{", first_path ? "" : ",", route->path))
            return false;
        first_path = false;
        bool first_method = true;
        for (const struct route *same = route; same->method; same++) {
            if (strcmp(same->path, route->path) != 0)
                continue;
            if (!buf_printf(out, "%s\"%s\":{", first_method ? "" : ",",
                            strcmp(same->method, "GET") == 0 ? "get" : "post") ||
                !write_operation(out, same) || !buf_puts(out, "}"))
                return false;
            first_method = false;
        }
        if (!buf_puts(out, "}"))
            return false;
    }
    return true;
}

static enum code write_schemas(struct buf *out, struct status *st)
{
    const char *seen[SCHEMAS_MAX];
    size_t n_seen = 0;
    for (const struct route *route = routes; route->method; route++) {
        if (strcmp(route->method, "POST") == 0)
            TRY(json_schema(route_request(route), out, seen, SCHEMAS_MAX, &n_seen, st));
        TRY(json_schema(route_response(route), out, seen, SCHEMAS_MAX, &n_seen, st));
    }
    static const char problem[] =
        ",\"Problem\":{\"type\":\"object\",\"required\":[\"type\",\"title\",\"status\"],"
        "\"properties\":{\"type\":{\"type\":\"string\",\"format\":\"uri\"},"
        "\"title\":{\"type\":\"string\"},\"status\":{\"type\":\"integer\"},"
        "\"detail\":{\"type\":\"string\"},\"traceId\":{\"type\":\"string\"},"
        "\"errors\":{\"type\":\"array\",\"description\":\"The fields that are "
        "wrong\",\"items\":{\"type\":\"object\","
        "\"required\":[\"field\",\"detail\"],\"properties\":{\"field\":{\"type\":\"string\"},"
        "\"detail\":{\"type\":\"string\"}}}}}}";
    if (!buf_puts(out, problem))
        return status_set(st, CODE_RESOURCE_EXHAUSTED, "the OpenAPI document is too large");
    return CODE_OK;
}

enum code openapi_write(struct buf *out, struct status *st)
{
    bool ok =
        buf_puts(
            out,
            "{\"openapi\":\"3.1.0\",\"info\":{\"title\":\"SSL CLM Agents\",\"version\":\"" CLM_VERSION "\","
            "\"description\":\"Runs the life of TLS certificates on the machines that use them.\","
            "\"license\":{\"name\":\"Proprietary\"}},"
            "\"servers\":[{\"url\":\"/\"}],\"security\":[{\"apiKey\":[]},{\"session\":[]}],\"paths\":{") &&
        write_paths(out) && buf_puts(out, "},\"components\":{\"schemas\":{");
    if (!ok)
        return status_set(st, CODE_RESOURCE_EXHAUSTED, "the OpenAPI document is too large");
    TRY(write_schemas(out, st));
    if (!buf_puts(out, "},\"parameters\":{") || !write_header_parameters(out) ||
        !buf_puts(
            out,
            "},\"responses\":{\"Problem\":{\"description\":\"What went wrong, and what to do\",\"content\":{"
            "\"application/problem+json\":{\"schema\":{\"$ref\":\"#/components/schemas/Problem\"}}}}},"
            "\"securitySchemes\":{\"apiKey\":{\"type\":\"http\",\"scheme\":\"bearer\"},"
            "\"session\":{\"type\":\"apiKey\",\"in\":\"cookie\",\"name\":\"__Host-clm-session\","
            "\"description\":\"The console's; what is not GET also needs the header X-Clm-Csrf: 1 and the "
            "same "
            "origin\"}}}}"))
        return status_set(st, CODE_RESOURCE_EXHAUSTED, "the OpenAPI document is too large");
    return CODE_OK;
}
