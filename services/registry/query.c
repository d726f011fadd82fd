/* Reading agents, within what the operator's grant covers. */
#include "base/clock.h"
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

struct agent_place agent_place_of(const struct agent *agent, enum agent_sort sort, struct arena *arena)
{
    char text[CLOCK_RFC3339_SIZE];
    struct agent_place place = {.id = agent->id};
    int64_t ms = sort == AGENTS_BY_EXPIRY ? agent->identity_not_after_ms : agent->last_heartbeat_at_ms;
    if (sort == AGENTS_BY_HOSTNAME) {
        place.key = agent->hostname;
    } else if (sort != AGENTS_BY_ID && ms < 0) {
        place.key = sort == AGENTS_BY_EXPIRY ? "infinity" : "-infinity";
    } else if (sort != AGENTS_BY_ID) {
        clock_format_rfc3339(ms, text);
        place.key = arena_strdup(arena, text);
    }
    return place;
}

enum code agents_list(struct db *db, const struct agent_filter *filter, const struct agent_place *after,
                      size_t max, struct arena *arena, struct agent **ret, size_t *ret_n, struct status *st)
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
