/* What became of tasks, and what each agent has done. Triggers keep it (migrations/0003_tallies.sql). */
#include "store.h"

#define HOUR_MS (INT64_C(3600) * 1000)
#define DAY_MS  (24 * HOUR_MS)
enum { PERIOD_HOUR = 1, PERIOD_DAY = 2 };

enum code tasks_statistics(struct db *db, struct arena *arena, int64_t now_ms, struct task_period **ret_hours,
                           size_t *ret_n_hours, struct task_period **ret_days, size_t *ret_n_days,
                           struct status *st)
{
    TRY(store_task_periods(db, arena, PERIOD_HOUR, now_ms - STATISTICS_HOURS * HOUR_MS, ret_hours,
                           ret_n_hours, st));
    return store_task_periods(db, arena, PERIOD_DAY, now_ms - STATISTICS_DAYS * DAY_MS, ret_days, ret_n_days,
                              st);
}

enum code tasks_by_state(struct db *db, struct arena *arena, int64_t now_ms, struct task_counts *ret,
                         struct status *st)
{
    struct task_period *hours;
    size_t n;
    TRY(store_open_tasks(db, ret->n, st));
    TRY(store_task_periods(db, arena, PERIOD_HOUR, now_ms - STATISTICS_HOURS * HOUR_MS, &hours, &n, st));
    for (size_t i = 0; i < n; i++)
        for (int state = STATE_SUCCEEDED; state <= STATE_COUNT; state++)
            ret->n[state] += hours[i].n[state];
    return CODE_OK;
}

enum code tasks_agent_jobs(struct db *db, struct arena *arena, const char *agent_id,
                           struct job_statistics **ret, size_t *ret_n, struct status *st)
{
    return store_agent_jobs(db, arena, agent_id, ret, ret_n, st);
}

enum code tasks_statistics_fold(struct db *db, struct arena *arena, int64_t now_ms, struct status *st)
{
    return store_tallies_fold(db, arena, now_ms - 2 * STATISTICS_HOURS * HOUR_MS,
                              now_ms - 2 * STATISTICS_DAYS * DAY_MS, st);
}
