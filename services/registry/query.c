/* Reading agents, within what the operator's grant covers. */
#include "selector.h"
#include "store.h"

enum code agent_get(struct db *db, const char *selector, const char *id, struct arena *arena,
                    struct agent *ret, struct status *st)
{
    struct label_terms terms;
    TRY(label_terms_read(selector, NULL, 0, arena, &terms, st));
    enum code code = store_agent_get(db, &terms, id, arena, ret, st);
    return code == CODE_NOT_FOUND ? status_set(st, code, "agent %s: there is none", id) : code;
}

enum code agents_list(struct db *db, const struct agent_filter *filter, const char *after, size_t max,
                      struct arena *arena, struct agent **ret, size_t *ret_n, struct status *st)
{
    struct label_terms terms;
    TRY(label_terms_read(filter->selector, filter->labels, filter->n_labels, arena, &terms, st));
    return store_agents_select(db, filter, &terms, after, max, arena, ret, ret_n, st);
}

enum code agents_seen(struct db *db, const char *selector, const char *const *ids, size_t n,
                      struct arena *arena, const char ***ret, size_t *ret_n, struct status *st)
{
    struct label_terms terms;
    TRY(label_terms_read(selector, NULL, 0, arena, &terms, st));
    return store_agents_seen(db, &terms, ids, n, arena, ret, ret_n, st);
}
