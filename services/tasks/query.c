/* GetTask, ListTasks and ListReports. Keyset pages by id: ids are UUIDv7, so the newest have the greatest. */
#include "store.h"
#include "tasks.h"

enum code task_get(struct db *db, struct arena *arena, const char *task_id, struct task *ret,
                   struct status *st)
{
    return store_task_get(db, arena, task_id, NULL, false, ret, st);
}

#define ATTEMPTS_MAX 20

enum code task_attempts(struct db *db, struct arena *arena, const char *task_id, struct attempt **ret,
                        size_t *ret_n, struct status *st)
{
    return store_attempts(db, arena, task_id, ATTEMPTS_MAX, ret, ret_n, st);
}

enum code task_list(struct db *db, struct arena *arena, const struct task_filter *filter, struct task **ret,
                    size_t *ret_n, bool *ret_more, struct status *st)
{
    struct task_filter one_more = *filter;
    one_more.limit++;
    TRY(store_task_list(db, arena, &one_more, ret, ret_n, st));
    *ret_more = *ret_n > filter->limit;
    if (*ret_more)
        *ret_n = filter->limit;
    return CODE_OK;
}

enum code reports_list(struct db *db, struct arena *arena, const struct report_filter *filter,
                       struct report **ret, size_t *ret_n, bool *ret_more, struct status *st)
{
    struct report_filter one_more = *filter;
    one_more.limit++;
    TRY(store_reports_select(db, arena, &one_more, ret, ret_n, st));
    *ret_more = *ret_n > filter->limit;
    if (*ret_more)
        *ret_n = filter->limit;
    return CODE_OK;
}

enum code grant_check(struct db *db, struct arena *arena, const char *selector, const char *agent_id,
                      bool *ret_covered, struct status *st)
{
    *ret_covered = !selector || !*selector;
    if (*ret_covered)
        return CODE_OK;
    struct label_terms terms;
    TRY(label_terms_read(selector, NULL, 0, arena, &terms, st));
    return store_agent_covered(db, arena, &terms, agent_id, ret_covered, st);
}

enum code task_seen(struct db *db, struct arena *arena, const char *selector, const char *task_id,
                    struct status *st)
{
    if (!selector || !*selector)
        return CODE_OK;
    struct task task;
    bool covered;
    TRY(store_task_get(db, arena, task_id, NULL, false, &task, st));
    TRY(grant_check(db, arena, selector, task.agent_id, &covered, st));
    return covered ? CODE_OK : status_set(st, CODE_NOT_FOUND, "no task %s", task_id);
}
