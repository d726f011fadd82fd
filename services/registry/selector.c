/* Label terms. Pure; any thread. */
#include "selector.h"

#include <string.h>

#define NAME_MAX_ 63

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
