/*
 * Scope and policy matching. Pure functions, any thread. Whatever is malformed matches nothing: these
 * functions stand between a request and a host's files or a CA's signature.
 */
#include "scope/scope.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <limits.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

bool scope_allows_operation(const struct scope *scope, unsigned kind)
{
    return kind < sizeof(scope->operations) * CHAR_BIT && (scope->operations & SCOPE_OPERATION(kind)) != 0;
}

bool scope_allows_path(const struct scope *scope, const char *path)
{
    for (size_t i = 0; i < scope->n_paths; i++) {
        if (path_matches(scope->paths[i], path))
            return true;
    }
    return false;
}

bool scope_allows_dns_name(const struct scope *scope, const char *name)
{
    for (size_t i = 0; i < scope->n_dns_names; i++) {
        if (dns_name_matches(scope->dns_names[i], name))
            return true;
    }
    return false;
}

/* ---- paths -----------------------------------------------------------------------------------------------
 */

struct component { /* between two slashes */
    const char *text;
    size_t len;
};

static bool component_is(struct component c, const char *text)
{
    return c.len == strlen(text) && memcmp(c.text, text, c.len) == 0;
}

static bool at_end(const char *at)
{
    return *at == '\0';
}

/* at points to the slash before the component. */
static struct component component_at(const char *at)
{
    return (struct component){at + 1, strcspn(at + 1, "/")};
}

static const char *component_after(const char *at)
{
    return at + 1 + strcspn(at + 1, "/");
}

/* Absolute, at least one component, none of them empty, "." or "..": what the kernel would resolve elsewhere
 * than it reads is not for matching. */
static bool path_plain(const char *path)
{
    if (path[0] != '/' || strlen(path) >= PATH_MAX)
        return false;
    for (const char *at = path; !at_end(at); at = component_after(at)) {
        struct component c = component_at(at);
        if (c.len == 0 || component_is(c, ".") || component_is(c, ".."))
            return false;
    }
    return true;
}

/* Going back to the last star alone is enough: an earlier one could only take what a later one can take as
 * well. */
static bool component_matches(struct component pattern, struct component c)
{
    size_t p = 0, i = 0, star = SIZE_MAX, resume = 0;

    while (i < c.len) {
        if (p < pattern.len && pattern.text[p] == '*') {
            star = p++;
            resume = i;
        } else if (p < pattern.len && pattern.text[p] == c.text[i]) {
            p++;
            i++;
        } else if (star != SIZE_MAX) {
            p = star + 1;
            i = ++resume;
        } else {
            return false;
        }
    }
    while (p < pattern.len && pattern.text[p] == '*')
        p++;
    return p == pattern.len;
}

bool path_matches(const char *pattern, const char *path)
{
    if (!path_plain(pattern) || !path_plain(path))
        return false;

    const char *p = pattern, *at = path, *star = NULL, *resume = NULL;
    while (!at_end(at)) {
        if (!at_end(p) && component_is(component_at(p), "**")) {
            star = p;
            p = component_after(p);
            if (at_end(p))
                return true; /* a last ** takes what is left, and something is */
            resume = at;
        } else if (!at_end(p) && component_matches(component_at(p), component_at(at))) {
            p = component_after(p);
            at = component_after(at);
        } else if (star) {
            p = component_after(star);
            resume = component_after(resume);
            at = resume;
        } else {
            return false;
        }
    }
    return at_end(p);
}

bool path_pattern_valid(const char *pattern)
{
    return path_plain(pattern);
}

/* ---- names -----------------------------------------------------------------------------------------------
 */

struct ip {
    unsigned char octets[16];
    size_t len;
};

static bool ip_parse(const char *text, struct ip *ret)
{
    memset(ret, 0, sizeof(*ret));
    ret->len = inet_pton(AF_INET, text, ret->octets) == 1    ? 4
               : inet_pton(AF_INET6, text, ret->octets) == 1 ? 16
                                                             : 0;
    return ret->len > 0;
}

/* Letters, digits, hyphen inside, underscore; 63 a label, 253 in all; a last label that is not a number, so
 * that no address passes for a name. */
static bool name_plain(const char *name)
{
    size_t len = strlen(name), label = 0;
    bool numeric = true;

    if (len == 0 || len > 253)
        return false;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)name[i];
        if (c == '.') {
            if (label == 0 || name[i - 1] == '-')
                return false;
            label = 0;
            numeric = true;
            continue;
        }
        if (!isalnum(c) && c != '_' && (c != '-' || label == 0))
            return false;
        if (++label > 63)
            return false;
        numeric = numeric && isdigit(c);
    }
    return label > 0 && name[len - 1] != '-' && !numeric;
}

static bool is_wildcard(const char *name)
{
    return name[0] == '*' && name[1] == '.';
}

bool dns_pattern_valid(const char *pattern)
{
    struct ip ip;
    if (ip_parse(pattern, &ip))
        return true;
    return is_wildcard(pattern) ? name_plain(pattern + 2) && strchr(pattern + 2, '.') : name_plain(pattern);
}

bool dns_name_matches(const char *pattern, const char *name)
{
    struct ip a, b;

    if (!dns_pattern_valid(pattern) || !dns_pattern_valid(name))
        return false;
    if (ip_parse(name, &b))
        return ip_parse(pattern, &a) && a.len == b.len && memcmp(a.octets, b.octets, a.len) == 0;
    if (!is_wildcard(pattern))
        return strcasecmp(pattern, name) == 0;
    const char *rest = strchr(name, '.');
    return rest && strcasecmp(pattern + 1, rest) == 0;
}

/* ---- hosts' own names ------------------------------------------------------------------------------------
 */

/* A name whose stars were letters would be one. */
bool hostname_pattern_valid(const char *pattern)
{
    char plain[254];
    size_t len = strlen(pattern);
    if (len == 0 || len >= sizeof(plain))
        return false;
    for (size_t i = 0; i <= len; i++)
        plain[i] = pattern[i] == '*' ? 'x' : pattern[i];
    return name_plain(plain);
}

bool hostname_matches(const char *pattern, const char *hostname)
{
    const char *p = pattern, *at = hostname, *star = NULL, *resume = NULL;

    if (!hostname_pattern_valid(pattern) || !hostname_pattern_valid(hostname) || strchr(hostname, '*'))
        return false;
    while (*at) {
        if (*p == '*') {
            star = ++p;
            resume = at;
        } else if (*p && tolower((unsigned char)*p) == tolower((unsigned char)*at)) {
            p++;
            at++;
        } else if (star && *resume != '.') { /* the star takes one character more */
            p = star;
            at = ++resume;
        } else {
            return false;
        }
    }
    while (*p == '*')
        p++;
    return !*p;
}

/* ---- one scope within another ----------------------------------------------------------------------------
 */

/* A pattern that ends in its only stars, a directory and two of them, covers every pattern below that
 * directory; none has "..". */
static bool path_covers(const char *outer, const char *inner)
{
    if (strcmp(outer, inner) == 0 || (!strchr(inner, '*') && path_matches(outer, inner)))
        return true;
    size_t len = strlen(outer);
    return len > 3 && strcmp(outer + len - 3, "/**") == 0 && strcspn(outer, "*") == len - 2 &&
           path_pattern_valid(inner) && strncmp(outer, inner, len - 2) == 0 && inner[len - 2] != '\0';
}

static bool name_covers(const char *outer, const char *inner)
{
    return strcasecmp(outer, inner) == 0 || dns_name_matches(outer, inner);
}

static bool all_covered(char *const *outer, size_t n_outer, char *const *inner, size_t n_inner,
                        bool (*covers)(const char *, const char *))
{
    for (size_t i = 0; i < n_inner; i++) {
        bool found = false;
        for (size_t k = 0; k < n_outer && !found; k++)
            found = covers(outer[k], inner[i]);
        if (!found)
            return false;
    }
    return true;
}

bool scope_covers(const struct scope *outer, const struct scope *inner)
{
    return (inner->operations & ~outer->operations) == 0 &&
           all_covered(outer->paths, outer->n_paths, inner->paths, inner->n_paths, path_covers) &&
           all_covered(outer->dns_names, outer->n_dns_names, inner->dns_names, inner->n_dns_names,
                       name_covers);
}
