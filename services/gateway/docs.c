/* One pass for the contents, one for the calls, one for the objects that they name. */
#include "gateway/docs.h"

#include <string.h>

#include "bus/access.h"
#include "bus/bus.h"
#include "gateway/routes.h"
#include "version.h"
#include "wire/wire.h"

#define OBJECTS_MAX 256

const char docs_css[] =
    ":root{color-scheme:light dark;--line:#8884;--soft:#8881}"
    "body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:0 auto;padding:1rem 1.5rem}"
    "h2{margin-top:2.5rem;border-bottom:1px solid var(--line)}h3{margin:1.8rem 0 .3rem;font-size:1rem}"
    "code{font:.9em ui-monospace,monospace}h3 code{font-size:1rem}.m{font-weight:700;margin-right:.6em}"
    "table{border-collapse:collapse;margin:.5rem 0;width:100%}"
    "th,td{text-align:left;vertical-align:top;padding:.3rem .7rem .3rem 0;border-bottom:1px solid "
    "var(--line)}"
    "th{font-weight:600}.r{font-size:.9rem;opacity:.8}pre{background:var(--soft);padding:.8rem;overflow-x:"
    "auto}"
    "nav ul{columns:3;padding-left:1.2rem}a{color:inherit}@media(max-width:45rem){nav ul{columns:1}}";

static bool html(struct buf *out, const char *text)
{
    bool ok = true;
    for (const char *c = text; *c && ok; c++) {
        switch (*c) {
        case '<':
            ok = buf_puts(out, "&lt;");
            break;
        case '>':
            ok = buf_puts(out, "&gt;");
            break;
        case '&':
            ok = buf_puts(out, "&amp;");
            break;
        case '"':
            ok = buf_puts(out, "&quot;");
            break;
        default:
            ok = buf_append(out, c, 1);
        }
    }
    return ok;
}

/* "string", "one of A, B", "list of Label": a link where it is an object. */
static bool write_type(struct buf *out, const ProtobufCFieldDescriptor *field)
{
    bool time = strlen(field->name) > 6 && strcmp(field->name + strlen(field->name) - 6, "_at_ms") == 0;
    if (field->label == PROTOBUF_C_LABEL_REPEATED && !buf_puts(out, "list of "))
        return false;
    switch (field->type) {
    case PROTOBUF_C_TYPE_MESSAGE: {
        const ProtobufCMessageDescriptor *desc = field->descriptor;
        return buf_printf(out, "<a href=\"#%s\">%s</a>", desc->short_name, desc->short_name);
    }
    case PROTOBUF_C_TYPE_ENUM: {
        const ProtobufCEnumDescriptor *values = field->descriptor;
        for (unsigned i = 0; i < values->n_values; i++)
            if (!buf_printf(out, "%s<code>%s</code>", i ? ", " : "one of ", values->values[i].name))
                return false;
        return true;
    }
    case PROTOBUF_C_TYPE_BOOL:
        return buf_puts(out, "true or false");
    case PROTOBUF_C_TYPE_BYTES:
        return buf_puts(out, "base64");
    case PROTOBUF_C_TYPE_STRING:
        return buf_puts(out, "text");
    default:
        return buf_puts(out, time ? "time (RFC 3339)" : "number");
    }
}

static bool write_fields(struct buf *out, const ProtobufCMessageDescriptor *desc)
{
    if (desc->n_fields == 0)
        return buf_puts(out, "<p class=r>Nothing.</p>");
    if (!buf_puts(out, "<table><tr><th>Field<th>Type"))
        return false;
    for (unsigned i = 0; i < desc->n_fields; i++) {
        char name[64];
        json_field_name(&desc->fields[i], name);
        if (!buf_printf(out, "<tr><td><code>%s</code><td>", name) || !write_type(out, &desc->fields[i]))
            return false;
    }
    return buf_puts(out, "</table>");
}

static bool write_call(struct buf *out, const struct route *route)
{
    const struct method_access *access = method_access_find(route->service, route->rpc);
    const char *name = route->stream ? route->stream : route->rpc;
    bool get = strcmp(route->method, "GET") == 0;
    if (!buf_printf(out, "<h3 id=\"%c%s\"><span class=m>%s</span><code>%s</code></h3><p>", name[0] | 0x20,
                    name + 1, route->method, route->path) ||
        !html(out, route->summary) ||
        !(access->roles
              ? buf_printf(out, ".</p><p class=r>Needs the role %s.", roles_least_name(access->roles))
              : buf_puts(out, ".</p><p class=r>Needs no credential.")))
        return false;
    if (get &&
        !(buf_puts(out, "</p>") && write_fields(out, route_request(route)) && buf_puts(out, "<p class=r>")))
        return false;
    if (!get && !buf_printf(out, " Takes <a href=\"#%s\">%s</a>.", route_request(route)->short_name,
                            route_request(route)->short_name))
        return false;
    return buf_printf(out, " Answers %d with <a href=\"#%s\">%s</a>%s.</p>", route->success,
                      route_response(route)->short_name, route_response(route)->short_name,
                      route->stream ? ", one an event, as <code>text/event-stream</code>" : "");
}

/* The first route of each tag begins its group. */
static bool is_first_of_tag(const struct route *route)
{
    for (const struct route *before = routes; before < route; before++)
        if (strcmp(before->tag, route->tag) == 0)
            return false;
    return true;
}

static bool write_groups(struct buf *out, bool contents)
{
    for (const struct route *group = routes; group->method; group++) {
        if (!is_first_of_tag(group))
            continue;
        if (!buf_puts(out, contents ? "<li>" : "<h2>") || !html(out, group->tag) ||
            !buf_puts(out, contents ? "<ul>" : "</h2>"))
            return false;
        for (const struct route *route = group; route->method; route++) {
            const char *name = route->stream ? route->stream : route->rpc;
            if (strcmp(route->tag, group->tag) != 0)
                continue;
            if (!(contents ? buf_printf(out, "<li><a href=\"#%c%s\">%s</a>", name[0] | 0x20, name + 1, name)
                           : write_call(out, route)))
                return false;
        }
        if (contents && !buf_puts(out, "</ul>"))
            return false;
    }
    return true;
}

static bool write_object(struct buf *out, const ProtobufCMessageDescriptor *desc, const char **seen,
                         size_t *n)
{
    for (size_t i = 0; i < *n; i++)
        if (strcmp(seen[i], desc->short_name) == 0)
            return true;
    if (*n == OBJECTS_MAX)
        return false;
    seen[(*n)++] = desc->short_name;
    if (!buf_printf(out, "<h3 id=\"%s\">%s</h3>", desc->short_name, desc->short_name) ||
        !write_fields(out, desc))
        return false;
    for (unsigned i = 0; i < desc->n_fields; i++)
        if (desc->fields[i].type == PROTOBUF_C_TYPE_MESSAGE &&
            !write_object(out, desc->fields[i].descriptor, seen, n))
            return false;
    return true;
}

static bool write_objects(struct buf *out)
{
    const char *seen[OBJECTS_MAX];
    size_t n = 0;
    for (const struct route *route = routes; route->method; route++)
        if ((strcmp(route->method, "POST") == 0 && !write_object(out, route_request(route), seen, &n)) ||
            !write_object(out, route_response(route), seen, &n))
            return false;
    return true;
}

static const char introduction[] =
    "<p>JSON over HTTPS. Programs send an API key, <code>Authorization: Bearer clm_…</code>; browsers have "
    "the console's "
    "session. The machine-readable form is <a href=\"/api/v1/openapi.json\">/api/v1/openapi.json</a> "
    "(OpenAPI 3.1).</p>"
    "<pre>curl --cacert roots.pem -H \"Authorization: Bearer $(cat admin.key)\" "
    "'https://clm.example.com/api/v1/agents?status=OFFLINE'</pre>"
    "<h2>Conventions</h2><ul>"
    "<li>Lists are pages: <code>pageSize</code>, and <code>nextPageToken</code> goes into "
    "<code>pageToken</code>. A page is "
    "right while rows change."
    "<li>Errors are <code>application/problem+json</code> (RFC 9457): <code>type</code> never changes for a "
    "kind of error; "
    "<code>errors</code> names the field; <code>traceId</code> is <code>X-Request-Id</code> and is in the "
    "log."
    "<li>Unknown fields are refused. Times are RFC 3339. Numbers beyond 2<sup>53</sup> are text."
    "<li><code>Idempotency-Key</code> on what creates: a repeated request has its effect once."
    "<li><code>ETag</code> on one object; with <code>If-Match</code> a change is refused with 412 if the "
    "object is another "
    "version by now."
    "<li><code>RateLimit</code> says what is left of the minute; <code>429</code> and <code>503</code> carry "
    "<code>Retry-After</code>."
    "<li>A grant that is limited to labels covers their agents only: what is outside it is not there "
    "(404).</ul>";

enum code docs_write(struct buf *out, struct status *st)
{
    bool ok =
        buf_puts(out,
                 "<!doctype html><html lang=en><meta charset=utf-8>"
                 "<meta name=viewport content=\"width=device-width\"><title>SSL CLM Agents: REST API</title>"
                 "<link rel=stylesheet href=\"/api/docs.css\"><h1>REST API of SSL CLM Agents " CLM_VERSION
                 "</h1>") &&
        buf_puts(out, introduction) && buf_puts(out, "<nav><h2>Contents</h2><ul>") &&
        write_groups(out, true) && buf_puts(out, "</ul></nav>") && write_groups(out, false) &&
        buf_puts(out, "<h2>Objects</h2>") && write_objects(out) && buf_puts(out, "</html>\n");
    return ok ? CODE_OK : status_set(st, CODE_RESOURCE_EXHAUSTED, "the documentation is too large");
}
