/* GetTask and ListTasks. Keyset pages by id: ids are UUIDv7, so the newest have the greatest. */
#include "store.h"
#include "tasks.h"

enum code task_get(struct db *db, struct arena *arena, const char *task_id, struct task *ret,
                   struct status *st)
{
    return store_task_get(db, arena, task_id, NULL, false, ret, st);
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
