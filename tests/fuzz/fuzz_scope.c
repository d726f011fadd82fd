/* Two lines: a pattern out of a scope document, and the path or name that a task asks for. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "scope/scope.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_ARENA struct arena *arena = arena_new();
    char *pattern = arena_strndup(arena, (const char *)data, size), *subject = strchr(pattern, '\n');
    if (!subject)
        return 0;
    *subject++ = '\0';
    subject[strcspn(subject, "\n")] = '\0';
    if (path_matches(pattern, subject) &&
        (subject[0] != '/' || strstr(subject, "//") || strstr(subject, "/../") || strstr(subject, "/./") ||
         !path_pattern_valid(pattern)))
        abort();
    if (dns_name_matches(pattern, subject) &&
        (!*subject || strpbrk(subject, "/ ") || !dns_pattern_valid(pattern)))
        abort();
    if (hostname_matches(pattern, subject) &&
        (!*subject || strpbrk(subject, "/ *") || !hostname_pattern_valid(pattern)))
        abort();
    return 0;
}
