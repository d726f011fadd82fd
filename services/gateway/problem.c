/* Pure; any thread. */
#include "gateway/problem.h"

#include <string.h>

#include "wire/wire.h"

/* The field that a message of INVALID_ARGUMENT begins with, as all of ours do: "scope.paths[0]: expected …".
 */
static size_t field_len(const char *msg)
{
    size_t len = strspn(msg, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.[]-");
    bool name = (msg[0] >= 'a' && msg[0] <= 'z') || (msg[0] >= 'A' && msg[0] <= 'Z');
    return name && msg[len] == ':' && msg[len + 1] == ' ' ? len : 0;
}

/* The name in `unknown field "name"` and `unknown parameter "name"`, behind the object that it was in. */
static bool unknown_name(const char *msg, char *name, size_t size)
{
    static const char *const begins[] = {"unknown field \"", "unknown parameter \""};
    for (size_t i = 0; i < ARRAY_LEN(begins); i++) {
        size_t len = strlen(begins[i]);
        const char *end = strncmp(msg, begins[i], len) == 0 ? strrchr(msg + len, '"') : NULL;
        if (end && (size_t)(end - msg) - len < size) {
            (void)snprintf(name, size, "%.*s", (int)(end - msg - (ptrdiff_t)len), msg + len);
            return true;
        }
    }
    return false;
}

static bool write_errors(struct buf *out, const struct status *st)
{
    char field[2 * sizeof st->msg], name[sizeof st->msg];
    size_t len = st->code == CODE_INVALID_ARGUMENT ? field_len(st->msg) : 0;
    const char *detail = st->msg + (len ? len + 2 : 0);
    bool unknown = st->code == CODE_INVALID_ARGUMENT && unknown_name(detail, name, sizeof name);
    if (len == 0 && !unknown)
        return true;
    (void)snprintf(field, sizeof field, "%.*s%s%s", (int)len, st->msg, len && unknown ? "." : "",
                   unknown ? name : "");
    return buf_puts(out, ",\"errors\":[{\"field\":") && json_quote(out, field) &&
           buf_puts(out, ",\"detail\":") && json_quote(out, detail) && buf_puts(out, "}]");
}

bool problem_write(struct buf *out, int http_status, const struct status *st, const char *trace_id)
{
    const struct code_info *info = code_info(st->code);
    return buf_printf(out, "{\"type\":\"urn:clm:problem:%s\",\"title\":", info->slug) &&
           json_quote(out, info->title) && buf_printf(out, ",\"status\":%d,\"detail\":", http_status) &&
           json_quote(out, st->msg) && buf_puts(out, ",\"traceId\":") && json_quote(out, trace_id) &&
           write_errors(out, st) && buf_puts(out, "}\n");
}
