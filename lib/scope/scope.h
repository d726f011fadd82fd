/*
 * What an agent may be asked to do (common.proto Scope), and the host's local policy, which has the same
 * form: operations, paths and names. Pure functions over plain arrays, any thread. Everything unset is
 * forbidden; a name or a path that is not well formed is never allowed, whatever the patterns say.
 */
#ifndef CLM_SCOPE_SCOPE_H
#define CLM_SCOPE_SCOPE_H

#include <stdbool.h>
#include <stddef.h>

/* Borrowed; the arrays fit what protobuf-c unpacks. */
struct scope {
    unsigned operations; /* bits SCOPE_OPERATION(kind), kind as in Task.Kind */
    char *const *paths;
    size_t n_paths;
    char *const *dns_names;
    size_t n_dns_names;
};

#define SCOPE_OPERATION(kind) (1u << (unsigned)(kind))

bool scope_allows_operation(const struct scope *scope, unsigned kind);
/* One of the scope's patterns matches. */
bool scope_allows_path(const struct scope *scope, const char *path);
bool scope_allows_dns_name(const struct scope *scope, const char *name);

/* Whether nothing that `inner` allows is refused by `outer`. Careful: of two ways to write the same it may
 * say no. */
bool scope_covers(const struct scope *outer, const struct scope *inner);

/* Absolute path against one pattern: `*` matches within a component (also none of it), the component `**`
 * matches any number of directories, and at the end of a pattern everything below, but not the directory
 * itself. There is no other special character. A path with an empty, `.` or `..` component matches nothing.
 * Linear memory, no recursion. */
bool path_matches(const char *pattern, const char *path);
/* RFC 1034 name, compared without case: equal, or pattern `*.example.com` and exactly one label more. The
 * wildcard name
 * `*.example.com` itself counts as such a label: it covers no host that the pattern does not. IP addresses
 * match only the same address, in any textual form. */
bool dns_name_matches(const char *pattern, const char *name);

/* A host's own name against a pattern in which `*` stands for any run of characters of one label, also none:
 * `web-*`, `web-*.example.com`. Without case. */
bool hostname_matches(const char *pattern, const char *hostname);

/* For whoever accepts a scope or a policy: would this pattern ever match something? */
bool path_pattern_valid(const char *pattern);
bool dns_pattern_valid(const char *pattern);
bool hostname_pattern_valid(const char *pattern);

#endif
