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

static bool write_errors(struct buf *out, const struct status *st)
{
    char field[sizeof st->msg];
    size_t len = st->code == CODE_INVALID_ARGUMENT ? field_len(st->msg) : 0;
    if (len == 0)
        return true;
    memcpy(field, st->msg, len);
    field[len] = '\0';
    return buf_puts(out, ",\"errors\":[{\"field\":") && json_quote(out, field) &&
           buf_puts(out, ",\"detail\":") && json_quote(out, st->msg + len + 2) && buf_puts(out, "}]");
}

bool problem_write(struct buf *out, int http_status, const struct status *st, const char *trace_id)
{
    const struct code_info *info = code_info(st->code);
    return buf_printf(out, "{\"type\":\"urn:clm:problem:%s\",\"title\":", info->slug) &&
           json_quote(out, info->title) && buf_printf(out, ",\"status\":%d,\"detail\":", http_status) &&
           json_quote(out, st->msg) && buf_puts(out, ",\"traceId\":") && json_quote(out, trace_id) &&
           write_errors(out, st) && buf_puts(out, "}\n");
}
