/*
 * What an operator sets of an agent: its labels and its scope. Both are columns that agents_change does not
 * write; they follow it in the same transaction, and its event says the whole of the agent with them.
 */
#include <string.h>

#include "selector.h"
#include "store.h"

enum code labels_check(const struct label *labels, size_t n, struct status *st)
{
    for (size_t i = 0; i < n; i++) {
        TRY(label_check(&labels[i], st));
        for (size_t k = 0; k < i; k++)
            if (strcmp(labels[i].name, labels[k].name) == 0)
                return status_set(st, CODE_INVALID_ARGUMENT, "label %s: given twice", labels[i].name);
    }
    return CODE_OK;
}

/* ---- labels ---- */

struct relabel {
    struct label *labels;
    size_t n;
};

static bool same_labels(const struct agent *agent, const struct relabel *to)
{
    if (agent->n_labels != to->n)
        return false;
    for (size_t i = 0; i < to->n; i++) {
        bool found = false;
        for (size_t k = 0; k < agent->n_labels && !found; k++)
            found = strcmp(agent->labels[k].name, to->labels[i].name) == 0 &&
                    strcmp(agent->labels[k].value, to->labels[i].value) == 0;
        if (!found)
            return false;
    }
    return true;
}

static enum code relabel(struct agent *agent, bool *dirty, bool *heard, void *arg, struct status *st)
{
    (void)heard;
    (void)st;
    const struct relabel *to = arg;
    *dirty = !same_labels(agent, to);
    agent->labels = to->labels;
    agent->n_labels = to->n;
    return CODE_OK;
}

static const char *labels_text(const struct label *labels, size_t n, struct arena *arena)
{
    const char *text = n ? "labels:" : "labels: none";
    for (size_t i = 0; i < n && strlen(text) < 200; i++)
        text = arena_printf(arena, "%s%s %s%s%.100s", text, i ? "," : "", labels[i].name,
                            *labels[i].value ? "=" : "", labels[i].value);
    return text;
}

enum code agent_set_labels(struct db *db, const struct cause *cause, const char *selector, const char *id,
                           struct label *labels, size_t n, struct arena *arena, struct agent *ret,
                           struct status *st)
{
    struct label_terms terms;
    struct relabel to = {labels, n};
    struct cause why = *cause;
    TRY(labels_check(labels, n, st));
    TRY(label_terms_read(selector, NULL, 0, arena, &terms, st));
    if (!label_terms_hold(&terms, &(struct agent){.labels = labels, .n_labels = n}))
        return status_set(st, CODE_PERMISSION_DENIED,
                          "your grant covers agents with \"%s\" only; keep these labels", selector);
    why.what = labels_text(labels, n, arena);
    CLEANUP(db_scope_end) struct db *tx = db;
    TRY(db_begin(tx, st));
    TRY(agent_change_in(tx, &why, selector, id, relabel, &to, arena, ret, st));
    TRY(store_agent_labels(tx, id, labels, n, arena, st));
    return db_commit(tx, st);
}

/* ---- scope ---- */

struct rescope {
    const struct scope_change *change;
    struct arena *arena;
};

static enum code rescope(struct agent *agent, bool *dirty, bool *heard, void *arg, struct status *st)
{
    (void)heard;
    const struct rescope *to = arg;
    struct bytes next;
    TRY(to->change->derive(agent->scope, to->change->arg, to->arena, &next, st));
    *dirty = true;
    agent->scope = next;
    return CODE_OK;
}

enum code agent_set_scope(struct db *db, const struct cause *cause, const char *selector, const char *id,
                          const struct scope_change *change, struct arena *arena, struct agent *ret,
                          struct status *st)
{
    struct rescope to = {change, arena};
    struct cause why = *cause;
    why.what = "another scope";
    CLEANUP(db_scope_end) struct db *tx = db;
    TRY(db_begin(tx, st));
    TRY(agent_change_in(tx, &why, selector, id, rescope, &to, arena, ret, st));
    TRY(store_agent_scope(tx, id, ret->scope, arena, st));
    return db_commit(tx, st);
}
