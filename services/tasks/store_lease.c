/* Leases: what agents hold, may have, and should stop. One statement for all who ask. */
#include "store_parts.h"

enum code store_mark_held(struct db *db, struct arena *arena, const struct held_task *held, size_t n,
                          int64_t now_ms, struct task **ret, size_t *ret_n, struct status *st)
{
    /* Rows are written only for news, or to say at least every 20 s that the agent still has them. Locked in
     * order of id, so that two batches cannot wait for each other. */
    static const char sql[] =
        "WITH h AS (SELECT DISTINCT ON (task_id) * FROM unnest($1::uuid[], $2::uuid[], $3, $4, $5, $6, $7) "
        "    AS h(agent_id, task_id, attempt, phase, progress, message, started_at)), "
        "l AS (SELECT t.id, t.state AS was, h.phase, h.progress, h.message, h.started_at "
        "  FROM tasks t JOIN h ON t.id = h.task_id AND t.agent_id = h.agent_id AND t.attempt = h.attempt "
        "  WHERE t.state = ANY ($8) AND t.lease > 0 AND (t.state <> 4 OR t.seen_at < $9 - interval '20 s' "
        "    OR (t.phase, t.progress_permille, t.message) IS DISTINCT FROM (h.phase, nullif(h.progress, -1), "
        "h.message)) "
        "  ORDER BY t.id FOR UPDATE OF t), "
        "u AS (UPDATE tasks t SET state = 4, started_at = coalesce(t.started_at, "
        "greatest(t.created_at, least(l.started_at, $9))), "
        "    phase = l.phase, progress_permille = nullif(l.progress, -1), message = l.message, seen_at = $9, "
        "    version = t.version + (l.was <> 4)::int "
        "  FROM l WHERE t.id = l.id RETURNING t.*, l.was) "
        "SELECT " TASK_COLUMNS " FROM u WHERE was <> 4";
    *ret_n = 0;
    if (n == 0)
        return CODE_OK;
    const char **agents = arena_array(arena, n, sizeof(*agents)), **ids = arena_array(arena, n, sizeof(*ids)),
               **phases = arena_array(arena, n, sizeof(*phases)),
               **messages = arena_array(arena, n, sizeof(*messages));
    int64_t *attempts = arena_array(arena, n, sizeof(*attempts)),
            *progress = arena_array(arena, n, sizeof(*progress)),
            *started = arena_array(arena, n, sizeof(*started));
    for (size_t i = 0; i < n; i++) {
        agents[i] = held[i].agent_id;
        ids[i] = held[i].task_id;
        phases[i] = held[i].phase;
        messages[i] = held[i].message;
        attempts[i] = held[i].attempt;
        progress[i] = held[i].progress_permille;
        started[i] = held[i].started_at_ms;
    }
    struct db_args *args = db_args_new(arena);
    db_arg_text_array(args, agents, n);
    db_arg_text_array(args, ids, n);
    db_arg_int_array(args, attempts, n);
    db_arg_text_array(args, phases, n);
    db_arg_int_array(args, progress, n);
    db_arg_text_array(args, messages, n);
    db_arg_time_array(args, started, n);
    store_arg_sources(args, STATE_RUNNING);
    db_arg_time(args, now_ms);
    return store_query_tasks(db, arena, sql, args, ret, ret_n, st);
}

static void arg_held_ids(struct db_args *args, struct arena *arena, const struct lease_request *requests,
                         size_t n)
{
    size_t total = 0, k = 0;
    for (size_t i = 0; i < n; i++)
        total += requests[i].n_held;
    const char **ids = arena_array(arena, total, sizeof(*ids));
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < requests[i].n_held; j++)
            ids[k++] = requests[i].held[j].task_id;
    db_arg_text_array(args, ids, total);
}

static void arg_agent_ids(struct db_args *args, struct arena *arena, const struct lease_request *requests,
                          size_t n)
{
    const char **ids = arena_array(arena, n, sizeof(*ids));
    for (size_t i = 0; i < n; i++)
        ids[i] = requests[i].agent_id;
    db_arg_text_array(args, ids, n);
}

/* lib/safemode's table as SQL asks it: for each column the kinds of tasks that may run, as bits. */
static void arg_kinds(struct db_args *args, bool break_glass)
{
    int64_t kinds[SAFE_COLUMN_COUNT];
    for (int column = 0; column < SAFE_COLUMN_COUNT; column++)
        kinds[column] = safe_kinds((enum safe_column)column, break_glass);
    db_arg_int_array(args, kinds, SAFE_COLUMN_COUNT);
}

/* The columns come from the locking scans themselves: a join to tasks outside would show the snapshot's
 * rows, not the locked ones. An agent without a row in agents or without a confirmed identity gets
 * nothing. */
static const char candidates_sql[] =
    "WITH held AS MATERIALIZED (SELECT x::uuid AS id FROM unnest($6) AS x), "
    "who AS MATERIALIZED (SELECT r.agent_id, r.free_slots, r.first, a.scope, i.generation, "
    "    i.task_certificate, p.epoch, greatest(a.safe_column, (r.safe_mode OR p.safe_mode)::int) AS "
    "mode, "
    "    ($10::bigint[])[greatest(a.safe_column, (r.safe_mode OR p.safe_mode)::int) + 1] AS kinds, "
    "    ($11::bigint[])[greatest(a.safe_column, (r.safe_mode OR p.safe_mode)::int) + 1] AS released "
    "  FROM (SELECT DISTINCT ON (agent_id) * FROM unnest($1::uuid[], $2, $3, $4, $5) WITH ORDINALITY "
    "    AS q(agent_id, generation, free_slots, safe_mode, first, n) ORDER BY agent_id, n DESC) r "
    "  JOIN agents a ON a.agent_id = r.agent_id "
    "  CROSS JOIN LATERAL (SELECT generation, task_certificate FROM identities "
    "    WHERE agent_id = r.agent_id AND confirmed ORDER BY version DESC, generation DESC LIMIT 1) i "
    "  CROSS JOIN platform p "
    "  WHERE NOT a.deleted AND ($11::bigint[])[a.safe_column + 1] > 0 "
    "    AND r.generation >= a.min_generation), "
    "again AS MATERIALIZED (SELECT g.* FROM who w CROSS JOIN LATERAL (SELECT " T_TASK_COLUMNS
    ", true AS redelivered FROM tasks t "
    "    WHERE t.agent_id = w.agent_id AND t.state IN (3, 4) AND NOT t.cancel_requested "
    "      AND (w.first OR t.seen_at < $7) AND t.id NOT IN (SELECT id FROM held) AND t.deadline > $8 "
    "      AND (w.kinds >> t.kind & 1 = 1 OR t.break_glass AND w.released >> t.kind & 1 = 1) "
    "    LIMIT 64 FOR UPDATE OF t SKIP LOCKED) g), "
    "fresh AS MATERIALIZED (SELECT f.* FROM who w CROSS JOIN LATERAL (SELECT " T_TASK_COLUMNS
    ", false AS redelivered FROM tasks t "
    "    WHERE t.agent_id = w.agent_id AND t.state = 2 AND t.deadline > $8 "
    "      AND (w.kinds >> t.kind & 1 = 1 OR t.break_glass AND w.released >> t.kind & 1 = 1) "
    "    ORDER BY t.priority DESC, t.id "
    "    LIMIT greatest(0, w.free_slots - (SELECT count(*) FROM again g WHERE g.agent_id = w.agent_id)) "
    "    FOR UPDATE OF t SKIP LOCKED) f), "
    "picked AS (SELECT * FROM (SELECT * FROM again UNION ALL SELECT * FROM fresh) p "
    "  ORDER BY priority DESC, id LIMIT $9) "
    "SELECT " T_TASK_COLUMNS ", t.redelivered, w.generation, w.task_certificate, w.scope, w.mode > 0, "
    "  w.epoch "
    "FROM picked t JOIN who w ON w.agent_id = t.agent_id ORDER BY t.priority DESC, t.id";

static struct db_args *candidates_args(struct arena *arena, const struct lease_request *requests, size_t n,
                                       int64_t lost_before_ms, int64_t now_ms, unsigned max)
{
    int64_t *generations = arena_array(arena, n, sizeof(*generations)),
            *slots = arena_array(arena, n, sizeof(*slots));
    bool *safe = arena_array(arena, n, sizeof(*safe)), *first = arena_array(arena, n, sizeof(*first));
    for (size_t i = 0; i < n; i++) {
        generations[i] = requests[i].generation;
        slots[i] = requests[i].free_slots;
        safe[i] = requests[i].safe_mode;
        first[i] = requests[i].first_of_connection;
    }
    struct db_args *args = db_args_new(arena);
    arg_agent_ids(args, arena, requests, n);
    db_arg_int_array(args, generations, n);
    db_arg_int_array(args, slots, n);
    db_arg_bool_array(args, safe, n);
    db_arg_bool_array(args, first, n);
    arg_held_ids(args, arena, requests, n);
    db_arg_time(args, lost_before_ms);
    db_arg_time(args, now_ms);
    db_arg_int(args, max);
    arg_kinds(args, false);
    arg_kinds(args, true);
    return args;
}

static void candidate_read(const struct db_rows *rows, size_t i, struct arena *arena, struct candidate *ret)
{
    store_task_read(rows, i, arena, &ret->task);
    ret->redelivered = db_bool(rows, i, TASK_COLUMN_COUNT);
    ret->generation = (unsigned)db_int(rows, i, TASK_COLUMN_COUNT + 1);
    ret->task_certificate = store_bytes(rows, i, TASK_COLUMN_COUNT + 2, arena);
    ret->scope = store_bytes(rows, i, TASK_COLUMN_COUNT + 3, arena);
    ret->safe_mode = db_bool(rows, i, TASK_COLUMN_COUNT + 4);
    ret->epoch = (uint64_t)db_int(rows, i, TASK_COLUMN_COUNT + 5);
}

enum code store_lease_candidates(struct db *db, struct arena *arena, const struct lease_request *requests,
                                 size_t n, int64_t lost_before_ms, int64_t now_ms, unsigned max,
                                 struct candidate **ret, size_t *ret_n, struct status *st)
{
    const struct db_args *args = candidates_args(arena, requests, n, lost_before_ms, now_ms, max);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(db, candidates_sql, args, &rows, st));
    *ret_n = db_rows_count(rows);
    *ret = arena_array(arena, *ret_n, sizeof(**ret));
    for (size_t i = 0; i < *ret_n; i++)
        candidate_read(rows, i, arena, &(*ret)[i]);
    return CODE_OK;
}

enum code store_lease_take(struct db *db, struct arena *arena, const struct candidate *candidates,
                           const struct bytes *envelopes, size_t n, int64_t now_ms, uint64_t *ret_versions,
                           struct status *st)
{
    const char **ids = arena_array(arena, n, sizeof(*ids));
    const void **data = arena_array(arena, n, sizeof(*data));
    size_t *lens = arena_array(arena, n, sizeof(*lens));
    for (size_t i = 0; i < n; i++) {
        ids[i] = candidates[i].task.id;
        data[i] = envelopes[i].data;
        lens[i] = envelopes[i].len;
    }
    struct db_args *args = db_args_new(arena);
    db_arg_text_array(args, ids, n);
    db_arg_bytes_array(args, data, lens, n);
    store_arg_sources(args, STATE_LEASED);
    db_arg_time(args, now_ms);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(
        db,
        "WITH u AS (UPDATE tasks t SET state = 3, lease = t.lease + 1, leased_at = $4, seen_at = $4, "
        "    envelope = x.envelope, message = NULL, version = t.version + 1 "
        "  FROM unnest($1::uuid[], $2) AS x(id, envelope) WHERE t.id = x.id AND t.state = ANY ($3) "
        "  RETURNING t.id, t.version) "
        "SELECT u.version FROM unnest($1::uuid[]) WITH ORDINALITY AS x(id, n) JOIN u ON u.id = x.id ORDER BY "
        "x.n",
        args, &rows, st));
    if (db_rows_count(rows) != n)
        return status_set(st, CODE_ABORTED, "a task has changed meanwhile");
    for (size_t i = 0; i < n; i++)
        ret_versions[i] = (uint64_t)db_int(rows, i, 0);
    return CODE_OK;
}

enum code store_list_cancels(struct db *db, struct arena *arena, const struct lease_request *requests,
                             size_t n, struct task_ref **ret, size_t *ret_n, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    arg_agent_ids(args, arena, requests, n);
    arg_held_ids(args, arena, requests, n);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(
        db,
        "SELECT agent_id, id FROM tasks WHERE agent_id = ANY ($1::uuid[]) AND state IN (3, 4) AND "
        "cancel_requested "
        "UNION SELECT agent_id, id FROM tasks WHERE id = ANY ($2::uuid[]) AND agent_id = ANY ($1::uuid[]) "
        "AND state IN (8, 9) LIMIT 10000",
        args, &rows, st));
    *ret_n = db_rows_count(rows);
    *ret = arena_array(arena, *ret_n, sizeof(**ret));
    for (size_t i = 0; i < *ret_n; i++)
        (*ret)[i] = (struct task_ref){arena_strdup(arena, db_text(rows, i, 0)),
                                      arena_strdup(arena, db_text(rows, i, 1))};
    return CODE_OK;
}

enum code store_agents_with_ready(struct db *db, struct arena *arena, const char *const *agent_ids, size_t n,
                                  const char ***ret, size_t *ret_n, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_text_array(args, agent_ids, n);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(db,
                 "SELECT a.id FROM (SELECT DISTINCT unnest($1::uuid[])) AS a(id) "
                 "WHERE EXISTS (SELECT 1 FROM tasks t WHERE t.agent_id = a.id AND t.state = 2)",
                 args, &rows, st));
    *ret_n = db_rows_count(rows);
    *ret = arena_array(arena, *ret_n, sizeof(**ret));
    for (size_t i = 0; i < *ret_n; i++)
        (*ret)[i] = arena_strdup(arena, db_text(rows, i, 0));
    return CODE_OK;
}
