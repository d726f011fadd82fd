/*
 * A decoded request path: "METHOD path". A match must say how it came: the row's path with its parameters put
 * in is the path that was asked for.
 */
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "gateway/routes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *parameter(const struct route_match *match, const char *name, size_t len)
{
    for (size_t i = 0; i < match->n_params; i++)
        if (strlen(match->params[i].name) == len && memcmp(match->params[i].name, name, len) == 0)
            return match->params[i].value;
    abort();
}

static void check(const struct route_match *match, const char *method, const char *path)
{
    AUTO_BUF struct buf rebuilt = {0};
    if (strcmp(match->route->method, method) != 0 || match->n_params > ROUTE_PARAMS_MAX ||
        !route_request(match->route) || !route_response(match->route))
        abort();
    for (const char *at = match->route->path; *at;) {
        if (*at == '{') {
            size_t len = strcspn(at + 1, "}");
            const char *value = parameter(match, at + 1, len);
            if (!*value || strchr(value, '/') || !buf_puts(&rebuilt, value))
                abort();
            at += len + 2;
        } else if (!buf_append(&rebuilt, at++, 1)) {
            abort();
        }
    }
    if (strcmp(buf_text(&rebuilt), path) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_ARENA struct arena *arena = arena_new();
    char *method = arena_strndup(arena, (const char *)data, size), *path = strchr(method, ' ');
    if (!path)
        return 0;
    *path++ = '\0';
    struct route_match match;
    route_find(method, path, &match);
    if (match.route)
        check(&match, method, path);
    return 0;
}
