/* What time does to tasks. */
#include "store_parts.h"

#define SWEEP_MAX "1000"

#define DUE                                                                                                  \
    "state = 1 AND not_before <= $1 AND deadline > $1 AND NOT EXISTS (SELECT 1 FROM task_dependencies d "    \
    "JOIN tasks p ON p.id = d.after_task_id WHERE d.task_id = s.id AND p.state <> 5)"

/* `which`: a condition on "tasks s". */
#define MAKE_READY(which)                                                                                    \
    "UPDATE tasks t SET state = 2, version = version + 1 FROM (SELECT id FROM tasks s WHERE " which          \
    " LIMIT " SWEEP_MAX " FOR UPDATE SKIP LOCKED) due "                                                      \
    "WHERE t.id = due.id AND t.state = 1 RETURNING " T_TASK_COLUMNS

/* Whoever has cancelled it meanwhile is obeyed. $2 is now. */
#define TAKE_BACK                                                                                            \
    "UPDATE tasks t SET state = CASE WHEN cancel_requested THEN 8 ELSE 2 END, phase = NULL, "                \
    "  finished_at = CASE WHEN cancel_requested THEN $2::timestamptz END, version = version + 1, "

enum code store_ready_due(struct db *db, struct arena *arena, int64_t now_ms, struct task **ret,
                          size_t *ret_n, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_time(args, now_ms);
    return store_query_tasks(db, arena, MAKE_READY(DUE " ORDER BY not_before"), args, ret, ret_n, st);
}

enum code store_ready_followers(struct db *db, struct arena *arena, const char *task_id, int64_t now_ms,
                                struct task **ret, size_t *ret_n, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_time(args, now_ms);
    db_arg_text(args, task_id);
    return store_query_tasks(
        db, arena,
        MAKE_READY("id IN (SELECT task_id FROM task_dependencies WHERE after_task_id = $2) AND " DUE), args,
        ret, ret_n, st);
}

enum code store_cancel_orphans(struct db *db, struct arena *arena, int64_t now_ms, struct task **ret,
                               size_t *ret_n, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_time(args, now_ms);
    return store_query_tasks(
        db, arena,
        "UPDATE tasks t SET state = 8, finished_at = $1, version = version + 1, "
        "  message = 'task ' || o.after_id || ', which it was to follow, did not succeed' FROM ("
        "  SELECT DISTINCT ON (s.id) s.id, p.id AS after_id FROM tasks s "
        "    JOIN task_dependencies d ON d.task_id = s.id JOIN tasks p ON p.id = d.after_task_id "
        "  WHERE s.state = 1 AND p.state > 5 ORDER BY s.id, p.id LIMIT " SWEEP_MAX ") o "
        "WHERE t.id = o.id AND t.state = 1 RETURNING " T_TASK_COLUMNS,
        args, ret, ret_n, st);
}

enum code store_expire_late(struct db *db, struct arena *arena, int64_t now_ms, struct task **ret,
                            size_t *ret_n, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_time(args, now_ms);
    store_arg_sources(args, STATE_EXPIRED);
    return store_query_tasks(
        db, arena,
        "UPDATE tasks t SET state = 9, finished_at = $1, version = version + 1, "
        "  message = coalesce(message || '; ', '') || 'the deadline passed before its agent took it' FROM ("
        "  SELECT id FROM tasks WHERE finished_at IS NULL AND state IN (1, 2) AND deadline <= $1 ORDER BY "
        "deadline LIMIT " SWEEP_MAX "  FOR UPDATE SKIP LOCKED) late "
        "WHERE t.id = late.id AND t.state = ANY ($2) RETURNING " T_TASK_COLUMNS,
        args, ret, ret_n, st);
}

enum code store_return_lost(struct db *db, struct arena *arena, int64_t lost_before_ms, int64_t now_ms,
                            struct task **ret, size_t *ret_n, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_time(args, lost_before_ms);
    db_arg_time(args, now_ms);
    return store_query_tasks(
        db, arena,
        TAKE_BACK
        "message = 'its agent was not heard of: the lease was lost' FROM ("
        "  SELECT id FROM tasks WHERE state IN (3, 4) AND seen_at < $1 ORDER BY seen_at LIMIT " SWEEP_MAX
        "  FOR UPDATE SKIP LOCKED) lost "
        "WHERE t.id = lost.id AND t.state IN (3, 4) RETURNING " T_TASK_COLUMNS,
        args, ret, ret_n, st);
}

enum code store_void_leases(struct db *db, struct arena *arena, int64_t before_ms, int64_t now_ms,
                            struct task **ret, size_t *ret_n, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_time(args, before_ms);
    db_arg_time(args, now_ms);
    return store_query_tasks(
        db, arena,
        TAKE_BACK
        "lease = lease + 1000, message = 'the platform was restored from a backup: the lease is void' FROM "
        "("
        "  SELECT id FROM tasks WHERE state IN (3, 4) AND leased_at <= $1 ORDER BY id LIMIT " SWEEP_MAX
        "  FOR UPDATE) void "
        "WHERE t.id = void.id RETURNING " T_TASK_COLUMNS,
        args, ret, ret_n, st);
}
