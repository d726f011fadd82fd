/*
 * Tasks by state, as metrics. Read from what triggers keep (migrations/0005_open_tallies.sql): nothing is
 * counted. Every replica tells them; they are the same on all.
 */
#include "app.h"
#include "base/clock.h"
#include "state.h"

static struct metric *open_tasks, *ended_tasks;

void gauges_make(void)
{
    open_tasks = metric_gauge("clm_tasks", "Tasks that are not over, by state.");
    ended_tasks = metric_gauge("clm_tasks_ended_24h", "Tasks that ended within the last 24 hours, by state.");
}

enum code gauges_work(struct worker *worker, struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    struct task_counts counts;
    TRY(tasks_by_state(worker->db, arena, clock_wall_ms(), &counts, st));
    for (int state = 1; state <= STATE_COUNT; state++) {
        bool over = task_state_is_terminal((enum task_state)state);
        metric_set(over ? ended_tasks : open_tasks, "state", task_state_name((enum task_state)state),
                   (double)counts.n[state]);
    }
    return CODE_OK;
}
