/* The only SQL of this service; see store.h. State numbers are those of state.h, asserted below. */
#include "store.h"

#include <assert.h>
#include <string.h>

#include "db/outbox.h"
#include "pki/digest.h"

_Static_assert(STATE_SCHEDULED == 1 && STATE_READY == 2 && STATE_LEASED == 3 && STATE_RUNNING == 4 &&
                   STATE_SUCCEEDED == 5 && STATE_CANCELLED == 8,
               "the literals in this file");
_Static_assert(SAFE_ONLINE == 0 && SAFE_SAFE_MODE == 1, "the literals in this file");

#define SWEEP_MAX "1000"

#define TASK_COLUMNS                                                                                         \
    "id, agent_id, kind, state, spec, attempt, lease, max_attempts, priority, version, created_by, "         \
    "traceparent, "                                                                                          \
    "phase, message, created_at, leased_at, started_at, finished_at, deadline, progress_permille, "          \
    "cancel_requested, break_glass"
#define T_TASK_COLUMNS                                                                                       \
    "t.id, t.agent_id, t.kind, t.state, t.spec, t.attempt, t.lease, t.max_attempts, t.priority, t.version, " \
    "t.created_by, t.traceparent, t.phase, t.message, t.created_at, t.leased_at, t.started_at, "             \
    "t.finished_at, "                                                                                        \
    "t.deadline, t.progress_permille, t.cancel_requested, t.break_glass"
#define TASK_COLUMN_COUNT 22

/* ---- rows → structs
 * ----------------------------------------------------------------------------------------- */

static struct bytes bytes_from(const struct db_rows *rows, size_t row, int col, struct arena *arena)
{
    size_t len;
    const void *data = db_bytes(rows, row, col, &len);
    return (struct bytes){.data = data ? arena_dup(arena, data, len) : NULL, .len = len};
}

static void id_from(const struct db_rows *rows, size_t row, int col, char out[UUID_TEXT_SIZE])
{
    const char *text = db_text(rows, row, col);
    assert(text && strlen(text) == UUID_TEXT_SIZE - 1);
    memcpy(out, text, UUID_TEXT_SIZE);
}

static void task_from(const struct db_rows *rows, size_t row, struct arena *arena, struct task *ret)
{
    *ret = (struct task){
        .kind = (enum task_kind)db_int(rows, row, 2),
        .state = (enum task_state)db_int(rows, row, 3),
        .spec = bytes_from(rows, row, 4, arena),
        .attempt = (unsigned)db_int(rows, row, 5),
        .lease = (unsigned)db_int(rows, row, 6),
        .max_attempts = (unsigned)db_int(rows, row, 7),
        .priority = (unsigned)db_int(rows, row, 8),
        .version = (uint64_t)db_int(rows, row, 9),
        .created_by = arena_strdup(arena, db_text(rows, row, 10)),
        .traceparent = arena_strdup(arena, db_text(rows, row, 11)),
        .phase = arena_strdup(arena, db_text(rows, row, 12)),
        .message = arena_strdup(arena, db_text(rows, row, 13)),
        .created_at_ms = db_time(rows, row, 14),
        .leased_at_ms = db_time(rows, row, 15),
        .started_at_ms = db_time(rows, row, 16),
        .finished_at_ms = db_time(rows, row, 17),
        .deadline_at_ms = db_time(rows, row, 18),
        .progress_permille = db_is_null(rows, row, 19) ? -1 : db_int(rows, row, 19),
        .cancel_requested = db_bool(rows, row, 20),
        .break_glass = db_bool(rows, row, 21),
    };
    id_from(rows, row, 0, ret->id);
    id_from(rows, row, 1, ret->agent_id);
}

static void tasks_from(const struct db_rows *rows, struct arena *arena, struct task **ret, size_t *ret_n)
{
    *ret_n = db_rows_count(rows);
    *ret = arena_array(arena, *ret_n, sizeof(**ret));
    for (size_t i = 0; i < *ret_n; i++)
        task_from(rows, i, arena, &(*ret)[i]);
}

static enum code query_tasks(struct db *db, struct arena *arena, const char *sql, const struct db_args *args,
                             struct task **ret, size_t *ret_n, struct status *st)
{
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(db, sql, args, &rows, st));
    tasks_from(rows, arena, ret, ret_n);
    return CODE_OK;
}

/* For guarded updates: no row means that the task has moved on. */
static enum code update_task(struct db *db, struct arena *arena, const char *sql, const struct db_args *args,
                             const struct task *task, struct task *ret, struct status *st)
{
    struct task *changed;
    size_t n;
    TRY(query_tasks(db, arena, sql, args, &changed, &n, st));
    if (n == 0)
        return status_set(st, CODE_ABORTED, "task %s has changed meanwhile", task->id);
    *ret = changed[0];
    return CODE_OK;
}

static void arg_sources(struct db_args *args, enum task_state to)
{
    int64_t from[STATE_COUNT];
    size_t n = task_state_sources(to, from);
    db_arg_int_array(args, from, n);
}

/* ---- tasks
 * --------------------------------------------------------------------------------------------------- */

static enum code find_repeated(struct db *db, struct arena *arena, const struct new_task *task,
                               const uint8_t *digest, struct task *ret, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, task->created_by);
    db_arg_text(args, task->idempotency_key);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query_one(db,
                     "SELECT " TASK_COLUMNS
                     ", request_sha256 FROM tasks WHERE created_by = $1 AND idempotency_key = $2",
                     args, &rows, st));
    size_t len;
    const void *known = db_bytes(rows, 0, TASK_COLUMN_COUNT, &len);
    if (len != SHA256_SIZE || memcmp(known, digest, SHA256_SIZE) != 0)
        return status_set(st, CODE_ALREADY_EXISTS,
                          "the idempotency key was used for another request: take a new key for a new task");
    task_from(rows, 0, arena, ret);
    return CODE_OK;
}

enum code store_task_insert(struct db *db, struct arena *arena, const char *id, enum task_kind kind,
                            const struct new_task *task, int64_t now_ms, struct task *ret, bool *ret_fresh,
                            struct status *st)
{
    static const char sql[] =
        "WITH made AS (INSERT INTO tasks (id, agent_id, kind, state, spec, max_attempts, priority, "
        "created_by, "
        "    idempotency_key, request_sha256, traceparent, created_at, not_before, deadline, break_glass) "
        "  SELECT $1, $2, $3, CASE WHEN $12 <= $11 AND NOT EXISTS (SELECT 1 FROM unnest($14) AS a(id) "
        "    LEFT JOIN tasks p ON p.id = a.id::uuid WHERE p.state IS DISTINCT FROM 5) THEN 2 ELSE 1 END, "
        "    $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $15 "
        "  ON CONFLICT (created_by, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING RETURNING "
        "*), "
        "after AS (INSERT INTO task_dependencies (task_id, after_task_id) "
        "  SELECT DISTINCT made.id, a.id::uuid FROM made, unnest($14) AS a(id)) "
        "SELECT " TASK_COLUMNS " FROM made";
    uint8_t digest[SHA256_SIZE];
    sha256(task->request, digest);
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, id);
    db_arg_text(args, task->agent_id);
    db_arg_int(args, kind);
    db_arg_bytes(args, task->spec.data, task->spec.len);
    db_arg_int(args, task->max_attempts);
    db_arg_int(args, task->priority);
    db_arg_text(args, task->created_by);
    db_arg_text(args, task->idempotency_key);
    db_arg_bytes(args, digest, sizeof(digest));
    db_arg_text(args, task->traceparent);
    db_arg_time(args, now_ms);
    int64_t not_before_ms = task->not_before_at_ms > now_ms ? task->not_before_at_ms : now_ms;
    db_arg_time(args, not_before_ms);
    db_arg_time(args, not_before_ms + task->deadline_sec * 1000);
    db_arg_text_array(args, task->after, task->n_after);
    db_arg_bool(args, task->break_glass);
    struct task *made;
    size_t n;
    TRY(query_tasks(db, arena, sql, args, &made, &n, st));
    *ret_fresh = n == 1;
    if (n == 0)
        return find_repeated(db, arena, task, digest, ret, st);
    *ret = made[0];
    return CODE_OK;
}

enum code store_task_get(struct db *db, struct arena *arena, const char *id, const char *agent_id,
                         bool for_update, struct task *ret, struct status *st)
{
    static const char plain[] =
        "SELECT " TASK_COLUMNS ", result FROM tasks WHERE id = $1 AND agent_id = coalesce($2, agent_id)";
    static const char locking[] =
        "SELECT " TASK_COLUMNS
        ", result FROM tasks WHERE id = $1 AND agent_id = coalesce($2, agent_id) FOR UPDATE";
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, id);
    db_arg_text(args, agent_id);
    AUTO_ROWS struct db_rows *rows = NULL;
    if (db_query_one(db, for_update ? locking : plain, args, &rows, st) != CODE_OK)
        return st->code == CODE_NOT_FOUND ? status_set(st, CODE_NOT_FOUND, "no task %s", id) : st->code;
    task_from(rows, 0, arena, ret);
    ret->result = bytes_from(rows, 0, TASK_COLUMN_COUNT, arena);
    return CODE_OK;
}

static void arg_terms(struct db_args *args, const struct label_terms *terms)
{
    db_arg_text_array(args, terms->pair_name, terms->n_pairs);
    db_arg_text_array(args, terms->pair_value, terms->n_pairs);
    db_arg_text_array(args, terms->present, terms->n_present);
}

/* For grants that are limited to labels. */
static enum code list_covered(struct db *db, struct arena *arena, const struct task_filter *filter,
                              struct task **ret, size_t *ret_n, struct status *st)
{
    static const char sql[] =
        "SELECT " T_TASK_COLUMNS " FROM tasks t JOIN agents a ON a.agent_id = t.agent_id AND NOT a.deleted "
        "WHERE " LABELS_HOLD_IN("a.labels") " AND t.agent_id = coalesce($4, t.agent_id) "
                                            "AND (cardinality($5::bigint[]) = 0 OR t.state = ANY ($5)) "
                                            "AND (cardinality($6::bigint[]) = 0 OR t.kind = ANY ($6)) AND "
                                            "t.id < $7 ORDER BY t.id DESC LIMIT $8";
    struct label_terms terms;
    TRY(label_terms_read(filter->selector, NULL, 0, arena, &terms, st));
    struct db_args *args = db_args_new(arena);
    arg_terms(args, &terms);
    db_arg_text(args, filter->agent_id);
    db_arg_int_array(args, filter->states, filter->n_states);
    db_arg_int_array(args, filter->kinds, filter->n_kinds);
    db_arg_text(args, filter->before_id ? filter->before_id : "ffffffff-ffff-ffff-ffff-ffffffffffff");
    db_arg_int(args, filter->limit);
    return query_tasks(db, arena, sql, args, ret, ret_n, st);
}

enum code store_task_list(struct db *db, struct arena *arena, const struct task_filter *filter,
                          struct task **ret, size_t *ret_n, struct status *st)
{
    if (filter->selector && *filter->selector)
        return list_covered(db, arena, filter, ret, ret_n, st);
#define LIST_END                                                                                             \
    "AND (cardinality($2) = 0 OR state = ANY ($2)) AND (cardinality($3) = 0 OR kind = ANY ($3)) AND id < "   \
    "$4 "                                                                                                    \
    "ORDER BY id DESC LIMIT $5"
    static const char of_agent[] = "SELECT " TASK_COLUMNS " FROM tasks WHERE agent_id = $1 " LIST_END;
    static const char of_all[] = "SELECT " TASK_COLUMNS " FROM tasks WHERE $1::text IS NULL " LIST_END;
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, filter->agent_id);
    db_arg_int_array(args, filter->states, filter->n_states);
    db_arg_int_array(args, filter->kinds, filter->n_kinds);
    db_arg_text(args, filter->before_id ? filter->before_id : "ffffffff-ffff-ffff-ffff-ffffffffffff");
    db_arg_int(args, filter->limit);
    return query_tasks(db, arena, filter->agent_id ? of_agent : of_all, args, ret, ret_n, st);
}

enum code store_check_predecessors(struct db *db, struct arena *arena, const char *const *ids, size_t n,
                                   size_t *ret_unknown, size_t *ret_failed, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_text_array(args, ids, n);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query_one(db,
                     "SELECT count(*) FILTER (WHERE t.id IS NULL), count(*) FILTER (WHERE t.state > 5) "
                     "FROM unnest($1::uuid[]) AS a(id) LEFT JOIN tasks t ON t.id = a.id",
                     args, &rows, st));
    *ret_unknown = (size_t)db_int(rows, 0, 0);
    *ret_failed = (size_t)db_int(rows, 0, 1);
    return CODE_OK;
}

enum code store_task_finish(struct db *db, struct arena *arena, const struct task *task,
                            const struct ending *ending, struct task *ret, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, task->id);
    db_arg_int(args, task->attempt);
    db_arg_int(args, ending->state);
    arg_sources(args, ending->state);
    db_arg_text(args, ending->message);
    db_arg_bytes(args, ending->result.data, ending->result.len);
    db_arg_time(args, ending->now_ms);
    db_arg_time(args, ending->started_at_ms);
    return update_task(
        db, arena,
        "UPDATE tasks SET state = $3, message = $5, result = coalesce($6, result), finished_at = $7, "
        "started_at = coalesce(started_at, CASE WHEN $8 IS NOT NULL THEN greatest(created_at, least($8, $7)) "
        "END), "
        "phase = NULL, version = version + 1 WHERE id = $1 AND attempt = $2 AND state = ANY ($4) "
        "RETURNING " TASK_COLUMNS,
        args, task, ret, st);
}

enum code store_task_reschedule(struct db *db, struct arena *arena, const struct task *task,
                                unsigned next_attempt, int64_t not_before_ms, const char *message,
                                struct task *ret, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, task->id);
    db_arg_int(args, task->attempt);
    arg_sources(args, STATE_SCHEDULED);
    db_arg_int(args, next_attempt);
    db_arg_time(args, not_before_ms);
    db_arg_text(args, message);
    return update_task(
        db, arena,
        "UPDATE tasks SET state = 1, attempt = $4, not_before = $5, message = $6, started_at = NULL, "
        "leased_at = NULL, seen_at = NULL, phase = NULL, progress_permille = NULL, version = version + 1 "
        "WHERE id = $1 AND attempt = $2 AND state = ANY ($3) RETURNING " TASK_COLUMNS,
        args, task, ret, st);
}

enum code store_task_retry(struct db *db, struct arena *arena, const struct task *task, int64_t now_ms,
                           struct task *ret, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, task->id);
    db_arg_int(args, task->attempt);
    db_arg_time(args, now_ms);
    return update_task(
        db, arena,
        "UPDATE tasks SET state = 1, attempt = attempt + 1, max_attempts = greatest(max_attempts, attempt + "
        "1), "
        "  deadline = $3 + (deadline - not_before), not_before = $3, started_at = NULL, leased_at = NULL, "
        "  seen_at = NULL, finished_at = NULL, phase = NULL, progress_permille = NULL, message = NULL, "
        "  result = NULL, envelope = NULL, cancel_requested = false, version = version + 1 "
        "WHERE id = $1 AND attempt = $2 AND state > 5 RETURNING " TASK_COLUMNS,
        args, task, ret, st);
}

enum code store_attempts(struct db *db, struct arena *arena, const char *task_id, size_t max,
                         struct attempt **ret, size_t *ret_n, struct status *st)
{
    /* Of several receipts for one attempt the first one counted. */
    static const char sql[] =
        "SELECT * FROM (SELECT DISTINCT ON (attempt) attempt, outcome, received_at, result FROM receipts "
        "WHERE task_id = $1 ORDER BY attempt DESC, received_at LIMIT $2) newest ORDER BY attempt";
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, task_id);
    db_arg_int(args, (int64_t)max);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(db, sql, args, &rows, st));
    *ret_n = db_rows_count(rows);
    *ret = arena_array(arena, *ret_n + 1, sizeof(**ret));
    for (size_t i = 0; i < *ret_n; i++)
        (*ret)[i] = (struct attempt){.attempt = (unsigned)db_int(rows, i, 0),
                                     .outcome = (int)db_int(rows, i, 1),
                                     .ended_at_ms = db_time(rows, i, 2),
                                     .result = bytes_from(rows, i, 3, arena)};
    return CODE_OK;
}

enum code store_task_request_cancel(struct db *db, struct arena *arena, const struct task *task,
                                    struct task *ret, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, task->id);
    return update_task(db, arena,
                       "UPDATE tasks SET cancel_requested = true, version = version + 1 "
                       "WHERE id = $1 AND state IN (3, 4) AND NOT cancel_requested RETURNING " TASK_COLUMNS,
                       args, task, ret, st);
}

/* ---- leases
 * --------------------------------------------------------------------------------------------------- */

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
    arg_sources(args, STATE_RUNNING);
    db_arg_time(args, now_ms);
    return query_tasks(db, arena, sql, args, ret, ret_n, st);
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

enum code store_lease_candidates(struct db *db, struct arena *arena, const struct lease_request *requests,
                                 size_t n, int64_t lost_before_ms, int64_t now_ms, unsigned max,
                                 struct candidate **ret, size_t *ret_n, struct status *st)
{
    /* The columns come from the locking scans themselves: a join to tasks outside would show the snapshot's
     * rows, not the locked ones. An agent without a row in agents or without a confirmed identity gets
     * nothing. */
    static const char sql[] =
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
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(db, sql, args, &rows, st));
    *ret_n = db_rows_count(rows);
    *ret = arena_array(arena, *ret_n, sizeof(**ret));
    for (size_t i = 0; i < *ret_n; i++) {
        struct candidate *candidate = &(*ret)[i];
        task_from(rows, i, arena, &candidate->task);
        candidate->redelivered = db_bool(rows, i, TASK_COLUMN_COUNT);
        candidate->generation = (unsigned)db_int(rows, i, TASK_COLUMN_COUNT + 1);
        candidate->task_certificate = bytes_from(rows, i, TASK_COLUMN_COUNT + 2, arena);
        candidate->scope = bytes_from(rows, i, TASK_COLUMN_COUNT + 3, arena);
        candidate->safe_mode = db_bool(rows, i, TASK_COLUMN_COUNT + 4);
        candidate->epoch = (uint64_t)db_int(rows, i, TASK_COLUMN_COUNT + 5);
    }
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
    arg_sources(args, STATE_LEASED);
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

/* ---- results
 * ---------------------------------------------------------------------------------------------------- */

enum code store_page_put(struct db *db, struct arena *arena, const struct result_submission *page,
                         int64_t now_ms, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, page->task_id);
    db_arg_int(args, page->attempt);
    db_arg_int(args, page->page);
    db_arg_bytes(args, page->data.data ? page->data.data : (const uint8_t *)"", page->data.len);
    db_arg_time(args, now_ms);
    return db_query(
        db,
        "INSERT INTO result_pages (task_id, attempt, page, data, received_at) VALUES ($1, $2, $3, $4, $5) "
        "ON CONFLICT (task_id, attempt, page) DO UPDATE SET data = excluded.data, received_at = "
        "excluded.received_at WHERE result_pages.data <> excluded.data",
        args, NULL, st);
}

enum code store_pages_get(struct db *db, struct arena *arena, const char *task_id, unsigned attempt,
                          unsigned pages, struct bytes *ret, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, task_id);
    db_arg_int(args, attempt);
    db_arg_int(args, pages);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(db,
                 "SELECT page, data FROM result_pages WHERE task_id = $1 AND attempt = $2 AND page <= $3 "
                 "ORDER BY page",
                 args, &rows, st));
    size_t n = db_rows_count(rows), total = 0, len;
    for (size_t i = 0; i < pages; i++) {
        if (i >= n || db_int(rows, i, 0) != (int64_t)i + 1)
            return status_set(
                st, CODE_FAILED_PRECONDITION,
                "page %zu of %u of the result is missing: send the pages, then the receipt again", i + 1,
                pages);
        (void)db_bytes(rows, i, 1, &len);
        total += len;
    }
    uint8_t *all = arena_alloc(arena, total + 1);
    for (size_t i = 0, used = 0; i < pages; i++, used += len) {
        const void *data = db_bytes(rows, i, 1, &len);
        memcpy(all + used, data, len);
    }
    *ret = (struct bytes){all, total};
    return CODE_OK;
}

enum code store_pages_delete(struct db *db, struct arena *arena, const char *task_id, unsigned attempt,
                             struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, task_id);
    db_arg_int(args, attempt);
    return db_query(db, "DELETE FROM result_pages WHERE task_id = $1 AND attempt <= $2", args, NULL, st);
}

enum code store_receipt_put(struct db *db, struct arena *arena, const struct receipt *receipt,
                            struct bytes cms, struct bytes digest, bool late, struct bytes result,
                            int64_t now_ms, bool *ret_fresh, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, receipt->task_id);
    db_arg_int(args, receipt->attempt);
    db_arg_bytes(args, digest.data, digest.len);
    db_arg_bytes(args, cms.data, cms.len);
    db_arg_int(args, receipt->generation);
    db_arg_int(args, receipt->outcome);
    db_arg_bool(args, late);
    db_arg_bytes(args, result.data, result.len);
    db_arg_time(args, now_ms);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(db,
                 "INSERT INTO receipts (task_id, attempt, sha256, receipt, generation, outcome, late, "
                 "result, received_at) "
                 "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING RETURNING 1",
                 args, &rows, st));
    *ret_fresh = db_rows_count(rows) == 1;
    return CODE_OK;
}

enum code store_receipt_exists(struct db *db, struct arena *arena, const char *task_id, unsigned attempt,
                               struct bytes digest, bool *ret_exists, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, task_id);
    db_arg_int(args, attempt);
    db_arg_bytes(args, digest.data, digest.len);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(db, "SELECT 1 FROM receipts WHERE task_id = $1 AND attempt = $2 AND sha256 = $3", args,
                 &rows, st));
    *ret_exists = db_rows_count(rows) == 1;
    return CODE_OK;
}

/* ---- sweep
 * ------------------------------------------------------------------------------------------------------- */

#define DUE                                                                                                  \
    "state = 1 AND not_before <= $1 AND deadline > $1 AND NOT EXISTS (SELECT 1 FROM task_dependencies d "    \
    "JOIN tasks p ON p.id = d.after_task_id WHERE d.task_id = s.id AND p.state <> 5)"

enum code store_ready_due(struct db *db, struct arena *arena, int64_t now_ms, struct task **ret,
                          size_t *ret_n, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_time(args, now_ms);
    return query_tasks(
        db, arena,
        "UPDATE tasks t SET state = 2, version = version + 1 FROM (SELECT id FROM tasks s WHERE " DUE
        " ORDER BY not_before LIMIT " SWEEP_MAX " FOR UPDATE SKIP LOCKED) due "
        "WHERE t.id = due.id AND t.state = 1 RETURNING " T_TASK_COLUMNS,
        args, ret, ret_n, st);
}

enum code store_ready_followers(struct db *db, struct arena *arena, const char *task_id, int64_t now_ms,
                                struct task **ret, size_t *ret_n, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_time(args, now_ms);
    db_arg_text(args, task_id);
    return query_tasks(
        db, arena,
        "UPDATE tasks t SET state = 2, version = version + 1 FROM (SELECT id FROM tasks s WHERE id IN "
        "(SELECT task_id FROM task_dependencies WHERE after_task_id = $2) AND " DUE " LIMIT " SWEEP_MAX
        " FOR UPDATE SKIP LOCKED) due "
        "WHERE t.id = due.id AND t.state = 1 RETURNING " T_TASK_COLUMNS,
        args, ret, ret_n, st);
}

enum code store_cancel_orphans(struct db *db, struct arena *arena, int64_t now_ms, struct task **ret,
                               size_t *ret_n, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_time(args, now_ms);
    return query_tasks(
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
    arg_sources(args, STATE_EXPIRED);
    return query_tasks(
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
    return query_tasks(
        db, arena,
        "UPDATE tasks t SET state = CASE WHEN cancel_requested THEN 8 ELSE 2 END, phase = NULL, "
        "  finished_at = CASE WHEN cancel_requested THEN $2::timestamptz END, version = version + 1, "
        "  message = 'its agent was not heard of: the lease was lost' FROM ("
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
    return query_tasks(
        db, arena,
        "UPDATE tasks t SET state = CASE WHEN cancel_requested THEN 8 ELSE 2 END, phase = NULL, "
        "  finished_at = CASE WHEN cancel_requested THEN $2::timestamptz END, version = version + 1, "
        "  lease = lease + 1000, message = 'the platform was restored from a backup: the lease is void' FROM "
        "("
        "  SELECT id FROM tasks WHERE state IN (3, 4) AND leased_at <= $1 ORDER BY id LIMIT " SWEEP_MAX
        "  FOR UPDATE) void "
        "WHERE t.id = void.id RETURNING " T_TASK_COLUMNS,
        args, ret, ret_n, st);
}

/* ---- statistics
 * ------------------------------------------------------------------------------------------------- */

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
        "WHERE at >= CASE period WHEN 1 THEN $1::timestamptz ELSE $2::timestamptz END "
        "GROUP BY 1, 2, 3",
        args, NULL, st);
}

enum code store_drop_old_pages(struct db *db, struct arena *arena, int64_t before_ms, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_time(args, before_ms);
    return db_query(db, "DELETE FROM result_pages WHERE received_at < $1", args, NULL, st);
}

/* ---- projection
 * --------------------------------------------------------------------------------------------------- */

enum code store_agent_put(struct db *db, struct arena *arena, const char *agent_id, uint64_t version,
                          const struct agent *agent, const char *agent_version, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, agent_id);
    db_arg_int(args, (int64_t)version);
    db_arg_int(args, agent->status);
    db_arg_bool(args, agent->safe_column >= SAFE_SAFE_MODE);
    db_arg_bool(args, agent->safe_column >= SAFE_CLONE);
    db_arg_bool(args, agent->deleted);
    db_arg_int(args, agent->min_generation);
    db_arg_bytes(args, agent->scope.data, agent->scope.len);
    db_arg_text(args, agent_version);
    db_arg_int(args, agent->safe_column);
    db_arg_text(args, agent->reason ? agent->reason : "");
    db_arg_text_array(args, agent->label_names, agent->n_labels);
    db_arg_text_array(args, agent->label_values, agent->n_labels);
    return db_query(
        db,
        "INSERT INTO agents AS a (agent_id, version, status, safe_mode, disabled, deleted, min_generation, "
        "  scope, agent_version, safe_column, reason, labels) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, "
        "$10, $11, "
        "  (SELECT coalesce(jsonb_object_agg(n, v), '{}') FROM unnest($12::text[], $13::text[]) l(n, v))) "
        "ON CONFLICT (agent_id) DO UPDATE SET version = excluded.version, status = excluded.status, "
        "  safe_mode = excluded.safe_mode, disabled = excluded.disabled, deleted = excluded.deleted, "
        "  min_generation = excluded.min_generation, scope = excluded.scope, "
        "  safe_column = excluded.safe_column, reason = excluded.reason, "
        "  agent_version = excluded.agent_version, labels = excluded.labels "
        "WHERE a.version < excluded.version",
        args, NULL, st);
}

enum code store_agent_covered(struct db *db, struct arena *arena, const struct label_terms *terms,
                              const char *agent_id, bool *ret, struct status *st)
{
    static const char sql[] =
        "SELECT EXISTS (SELECT FROM agents a WHERE " LABELS_HOLD_IN("a.labels") " AND a.agent_id = $4)";
    struct db_args *args = db_args_new(arena);
    arg_terms(args, terms);
    db_arg_text(args, agent_id);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query_one(db, sql, args, &rows, st));
    *ret = db_bool(rows, 0, 0);
    return CODE_OK;
}

enum code store_agent_get(struct db *db, struct arena *arena, const char *agent_id, struct agent *ret,
                          struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, agent_id);
    AUTO_ROWS struct db_rows *rows = NULL;
    if (db_query_one(db,
                     "SELECT a.status, greatest(a.safe_column, p.safe_mode::int), a.reason, a.deleted, "
                     "a.min_generation, a.scope, p.safe_mode FROM agents a, platform p WHERE agent_id = $1",
                     args, &rows, st) != CODE_OK)
        return st->code == CODE_NOT_FOUND ? status_set(st, CODE_NOT_FOUND, "no agent %s", agent_id)
                                          : st->code;
    *ret = (struct agent){
        .status = (unsigned)db_int(rows, 0, 0),
        .safe_column = (enum safe_column)db_int(rows, 0, 1),
        .reason = arena_strdup(arena, db_text(rows, 0, 2)),
        .deleted = db_bool(rows, 0, 3),
        .min_generation = (unsigned)db_int(rows, 0, 4),
        .scope = bytes_from(rows, 0, 5, arena),
    };
    return CODE_OK;
}

enum code store_platform_put(struct db *db, struct arena *arena, bool safe_mode, uint64_t version,
                             struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_bool(args, safe_mode);
    db_arg_int(args, (int64_t)version);
    return db_query(db, "UPDATE platform SET safe_mode = $1, version = $2 WHERE version < $2", args, NULL,
                    st);
}

enum code store_epoch_put(struct db *db, struct arena *arena, uint64_t epoch, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_int(args, (int64_t)epoch);
    return db_query(db, "UPDATE platform SET epoch = $1 WHERE epoch < $1", args, NULL, st);
}

enum code store_break_glass_open(struct db *db, struct arena *arena, const struct new_task *task,
                                 const char **ret_id, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, task->agent_id);
    db_arg_text(args, task->created_by);
    db_arg_text(args, task->idempotency_key);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(db,
                 "SELECT id FROM tasks WHERE agent_id = $1 AND break_glass AND finished_at IS NULL AND NOT "
                 "coalesce(created_by = $2 AND idempotency_key = $3, false)",
                 args, &rows, st));
    *ret_id = db_rows_count(rows) > 0 ? arena_strdup(arena, db_text(rows, 0, 0)) : NULL;
    return CODE_OK;
}

enum code store_order_report_due(struct db *db, struct arena *arena, const char *agent_id, int64_t now_ms,
                                 bool *ret_due, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, agent_id);
    db_arg_time(args, now_ms);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(
        db,
        "INSERT INTO order_reports AS o (agent_id, told_at) VALUES ($1, $2) ON CONFLICT (agent_id) DO "
        "UPDATE SET told_at = excluded.told_at WHERE o.told_at <= excluded.told_at - interval '1 minute' "
        "RETURNING 1",
        args, &rows, st));
    *ret_due = db_rows_count(rows) == 1;
    return CODE_OK;
}

enum code store_cancel_of_agent(struct db *db, struct arena *arena, const char *agent_id, int64_t now_ms,
                                const char *message, struct task **ret, size_t *ret_n, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, agent_id);
    db_arg_time(args, now_ms);
    db_arg_text(args, message);
    arg_sources(args, STATE_CANCELLED);
    return query_tasks(
        db, arena,
        "UPDATE tasks t SET state = 8, finished_at = $2, phase = NULL, message = $3, "
        "version = version + 1 WHERE agent_id = $1 AND finished_at IS NULL AND state = ANY ($4) "
        "RETURNING " T_TASK_COLUMNS,
        args, ret, ret_n, st);
}

enum code store_identity_put(struct db *db, struct arena *arena, const char *agent_id, unsigned generation,
                             struct bytes task_certificate, bool confirmed, uint64_t version,
                             struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, agent_id);
    db_arg_int(args, generation);
    db_arg_bytes(args, task_certificate.data, task_certificate.len);
    db_arg_bool(args, confirmed);
    db_arg_int(args, (int64_t)version);
    return db_query(
        db,
        "INSERT INTO identities AS i (agent_id, generation, task_certificate, confirmed, version) "
        "VALUES ($1, $2, $3, $4, $5) ON CONFLICT (agent_id, generation) DO UPDATE SET "
        "  task_certificate = excluded.task_certificate, confirmed = excluded.confirmed, "
        "  version = excluded.version WHERE i.version < excluded.version",
        args, NULL, st);
}

enum code store_identity_confirm(struct db *db, struct arena *arena, const char *agent_id,
                                 unsigned generation, uint64_t version, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, agent_id);
    db_arg_int(args, generation);
    db_arg_int(args, (int64_t)version);
    return db_query(db,
                    "UPDATE identities SET confirmed = true, version = $3 "
                    "WHERE agent_id = $1 AND generation = $2 AND version < $3",
                    args, NULL, st);
}

enum code store_identity_find(struct db *db, struct arena *arena, const char *agent_id,
                              struct bytes task_certificate, unsigned *ret_generation, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, agent_id);
    db_arg_bytes(args, task_certificate.data, task_certificate.len);
    AUTO_ROWS struct db_rows *rows = NULL;
    if (db_query_one(db,
                     "SELECT generation FROM identities WHERE agent_id = $1 AND task_certificate = $2 AND "
                     "generation + 1 >= "
                     "coalesce((SELECT generation FROM identities WHERE agent_id = $1 AND confirmed "
                     "ORDER BY version DESC, generation DESC LIMIT 1), 0)",
                     args, &rows, st) != CODE_OK)
        return st->code;
    *ret_generation = (unsigned)db_int(rows, 0, 0);
    return CODE_OK;
}

/* ---- events
 * ------------------------------------------------------------------------------------------------------- */

enum code store_events_add(struct db *db, struct arena *arena, const struct packed_event *events, size_t n,
                           struct status *st)
{
    const char **ids = arena_array(arena, n, sizeof(*ids)),
               **subjects = arena_array(arena, n, sizeof(*subjects));
    const void **bodies = arena_array(arena, n, sizeof(*bodies));
    size_t *lens = arena_array(arena, n, sizeof(*lens));
    for (size_t i = 0; i < n; i++) {
        ids[i] = events[i].id;
        subjects[i] = events[i].subject;
        bodies[i] = events[i].body.data;
        lens[i] = events[i].body.len;
    }
    return outbox_add_many(db, n, ids, subjects, bodies, lens, st);
}
