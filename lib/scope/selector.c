/* Label selectors. Pure; any thread. */
#include "scope/selector.h"

#include <string.h>

#define TERMS_MAX 32

static enum code add_term(const char *term, struct arena *arena, struct label_terms *ret, struct status *st)
{
    const char *equals = strchr(term, '=');
    if (!*term || equals == term)
        return status_set(st, CODE_INVALID_ARGUMENT, "label term \"%.64s\": expected name or name=value",
                          term);
    if (ret->n_pairs + ret->n_present == TERMS_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, "more than %d label terms", TERMS_MAX);
    if (!equals) {
        ret->present[ret->n_present++] = arena_strdup(arena, term);
        return CODE_OK;
    }
    const char *name = arena_strndup(arena, term, (size_t)(equals - term));
    for (size_t i = 0; i < ret->n_pairs; i++)
        if (strcmp(ret->pair_name[i], name) == 0 && strcmp(ret->pair_value[i], equals + 1) != 0) {
            /* One object cannot say that a label has two values; a term that nothing meets can. */
            ret->present[ret->n_present++] = "\x7f";
            return CODE_OK;
        }
    ret->pair_name[ret->n_pairs] = name;
    ret->pair_value[ret->n_pairs++] = arena_strdup(arena, equals + 1);
    return CODE_OK;
}

enum code label_terms_read(const char *selector, const char *const *terms, size_t n, struct arena *arena,
                           struct label_terms *ret, struct status *st)
{
    *ret = (struct label_terms){
        .pair_name = arena_array(arena, TERMS_MAX + 1, sizeof(char *)),
        .pair_value = arena_array(arena, TERMS_MAX + 1, sizeof(char *)),
        .present = arena_array(arena, TERMS_MAX + 1, sizeof(char *)),
    };
    if (selector && *selector) {
        char *rest = arena_strdup(arena, selector);
        for (char *term; (term = strsep(&rest, ","));)
            TRY(add_term(term, arena, ret, st));
    }
    for (size_t i = 0; i < n; i++)
        TRY(add_term(terms[i], arena, ret, st));
    return CODE_OK;
}
