/* Is what a task names within its agent's scope? Asked when a task is made and again when it is leased. Pure.
 */
#include <string.h>

#include "base/arena.h"
#include "tasks.h"

/* A directory is within scope when everything below it is; the probe has two levels so that a pattern for
 * one level does not pass. */
static bool allows_root(const struct scope *scope, const char *root)
{
    AUTO_ARENA struct arena *arena = arena_new();
    size_t len = strlen(root);
    while (len > 0 && root[len - 1] == '/')
        len--;
    return scope_allows_path(scope, arena_printf(arena, "%.*s/x/x", (int)len, root));
}

enum code scope_check_spec(const struct scope *scope, const struct spec_facts *spec, struct status *st)
{
    if (!scope_allows_operation(scope, spec->kind))
        return status_set(st, CODE_PERMISSION_DENIED, "the agent's scope does not hold the operation %s",
                          task_kind_name(spec->kind));
    for (size_t i = 0; i < spec->n_paths; i++)
        if (!scope_allows_path(scope, spec->paths[i]))
            return status_set(st, CODE_PERMISSION_DENIED, "the agent's scope does not hold the path %s",
                              spec->paths[i]);
    for (size_t i = 0; i < spec->n_roots; i++)
        if (!allows_root(scope, spec->roots[i]))
            return status_set(st, CODE_PERMISSION_DENIED,
                              "the agent's scope does not hold everything below %s", spec->roots[i]);
    for (size_t i = 0; i < spec->n_dns_names; i++)
        if (!scope_allows_dns_name(scope, spec->dns_names[i]))
            return status_set(st, CODE_PERMISSION_DENIED, "the agent's scope does not hold the name %s",
                              spec->dns_names[i]);
    return CODE_OK;
}
