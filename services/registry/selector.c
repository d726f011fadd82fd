/* Label terms. Pure; any thread. */
#include "selector.h"

#include <string.h>

#define TERMS_MAX 32
#define NAME_MAX_ 63

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

static const char *label_value(const struct agent *agent, const char *name)
{
    for (size_t i = 0; i < agent->n_labels; i++)
        if (strcmp(agent->labels[i].name, name) == 0)
            return agent->labels[i].value;
    return NULL;
}

bool label_terms_hold(const struct label_terms *terms, const struct agent *agent)
{
    for (size_t i = 0; i < terms->n_pairs; i++) {
        const char *value = label_value(agent, terms->pair_name[i]);
        if (!value || strcmp(value, terms->pair_value[i]) != 0)
            return false;
    }
    for (size_t i = 0; i < terms->n_present; i++)
        if (!label_value(agent, terms->present[i]))
            return false;
    return true;
}

enum code label_check(const struct label *label, struct status *st)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/";
    size_t len = strlen(label->name);
    if (len == 0 || len > NAME_MAX_ || strspn(label->name, allowed) != len)
        return status_set(st, CODE_INVALID_ARGUMENT,
                          "label \"%.64s\": a name has 1 to %d letters, digits or . _ - /", label->name,
                          NAME_MAX_);
    for (const unsigned char *c = (const unsigned char *)label->value; *c; c++)
        if (*c < 0x20 || *c == 0x7f)
            return status_set(st, CODE_INVALID_ARGUMENT, "label %s: control character in its value",
                              label->name);
    return CODE_OK;
}
