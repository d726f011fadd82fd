/* What became of tasks (migrations/0003_tallies.sql). */
#include <string.h>

#include "store_parts.h"

enum code store_task_periods(struct db *db, struct arena *arena, int64_t period, int64_t from_ms,
                             struct task_period **ret, size_t *ret_n, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_int(args, period);
    db_arg_time(args, from_ms);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(db,
                 "SELECT at, state, sum(n) FROM task_tallies WHERE period = $1 AND at > $2 GROUP BY 1, 2 "
                 "ORDER BY 1",
                 args, &rows, st));
    *ret = arena_array(arena, db_rows_count(rows) + 1, sizeof(**ret));
    *ret_n = 0;
    for (size_t i = 0; i < db_rows_count(rows); i++) {
        int64_t at_ms = db_time(rows, i, 0), state = db_int(rows, i, 1);
        if (*ret_n == 0 || (*ret)[*ret_n - 1].at_ms != at_ms)
            (*ret)[(*ret_n)++] = (struct task_period){.at_ms = at_ms};
        if (state > 0 && state <= STATE_COUNT)
            (*ret)[*ret_n - 1].n[state] = db_int(rows, i, 2);
    }
    return CODE_OK;
}

/* Sets the states that are no ends; the others to 0. */
enum code store_open_tasks(struct db *db, int64_t ret[STATE_COUNT + 1], struct status *st)
{
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(db, "SELECT state, sum(n) FROM task_tallies WHERE period = 0 GROUP BY 1", NULL, &rows, st));
    memset(ret, 0, (STATE_COUNT + 1) * sizeof(*ret));
    for (size_t i = 0; i < db_rows_count(rows); i++) {
        int64_t state = db_int(rows, i, 0);
        if (state > 0 && state <= STATE_COUNT)
            ret[state] = db_int(rows, i, 1);
    }
    return CODE_OK;
}

enum code store_agent_jobs(struct db *db, struct arena *arena, const char *agent_id,
                           struct job_statistics **ret, size_t *ret_n, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, agent_id);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(
        db,
        "SELECT kind, succeeded, unverified, failed, cancelled, expired, timed, total_ms, longest_ms, "
        "last_task_id, last_state, last_finished_at, coalesce(last_ms, -1), last_message "
        "FROM agent_jobs WHERE agent_id = $1 ORDER BY kind",
        args, &rows, st));
    *ret_n = db_rows_count(rows);
    *ret = arena_array(arena, *ret_n + 1, sizeof(**ret));
    for (size_t i = 0; i < *ret_n; i++)
        (*ret)[i] = (struct job_statistics){
            .kind = (enum task_kind)db_int(rows, i, 0),
            .succeeded = db_int(rows, i, 1),
            .unverified = db_int(rows, i, 2),
            .failed = db_int(rows, i, 3),
            .cancelled = db_int(rows, i, 4),
            .expired = db_int(rows, i, 5),
            .timed = db_int(rows, i, 6),
            .total_ms = db_int(rows, i, 7),
            .longest_ms = db_int(rows, i, 8),
            .last_task_id = arena_strdup(arena, db_text(rows, i, 9)),
            .last_state = (enum task_state)db_int(rows, i, 10),
            .last_finished_at_ms = db_time(rows, i, 11),
            .last_ms = db_int(rows, i, 12),
            .last_message = arena_strdup(arena, db_text(rows, i, 13)),
        };
    return CODE_OK;
}

enum code store_tallies_fold(struct db *db, struct arena *arena, int64_t hours_from_ms, int64_t days_from_ms,
                             struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_time(args, hours_from_ms);
    db_arg_time(args, days_from_ms);
    return db_query(
        db,
        "WITH old AS (DELETE FROM task_tallies RETURNING period, at, state, n) "
        "INSERT INTO task_tallies (period, at, state, n) SELECT period, at, state, sum(n) FROM old "
        "WHERE period = 0 OR at >= CASE period WHEN 1 THEN $1::timestamptz ELSE $2::timestamptz END "
        "GROUP BY 1, 2, 3 HAVING sum(n) <> 0",
        args, NULL, st);
}
