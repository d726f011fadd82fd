/* Reading agents, within what the operator's grant covers. */
#include "selector.h"
#include "store.h"

enum code agent_get(struct db *db, const char *selector, const char *id, struct arena *arena,
                    struct agent *ret, struct status *st)
{
    const struct agent_filter filter = {.selector = selector};
    struct label_terms terms;
    TRY(label_terms_read(selector, NULL, 0, arena, &terms, st));
    struct agent *agents;
    size_t n;
    TRY(store_agents_select(db, &filter, &terms, id, NULL, 1, arena, &agents, &n, st));
    if (n == 0)
        return status_set(st, CODE_NOT_FOUND, "agent %s: there is none", id);
    *ret = agents[0];
    return CODE_OK;
}

enum code agents_list(struct db *db, const struct agent_filter *filter, const char *after, size_t max,
                      struct arena *arena, struct agent **ret, size_t *ret_n, struct status *st)
{
    struct label_terms terms;
    TRY(label_terms_read(filter->selector, filter->labels, filter->n_labels, arena, &terms, st));
    return store_agents_select(db, filter, &terms, NULL, after, max, arena, ret, ret_n, st);
}
