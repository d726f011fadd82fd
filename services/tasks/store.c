/* Tasks and their events; see store.h. */
#include "store_parts.h"

#include <assert.h>
#include <string.h>

#include "db/outbox.h"
#include "pki/digest.h"

struct bytes store_bytes(const struct db_rows *rows, size_t row, int col, struct arena *arena)
{
    size_t len;
    const void *data = db_bytes(rows, row, col, &len);
    return (struct bytes){.data = data ? arena_dup(arena, data, len) : NULL, .len = len};
}

static void store_id(const struct db_rows *rows, size_t row, int col, char out[UUID_TEXT_SIZE])
{
    const char *text = db_text(rows, row, col);
    assert(text && strlen(text) == UUID_TEXT_SIZE - 1);
    memcpy(out, text, UUID_TEXT_SIZE);
}

void store_task_read(const struct db_rows *rows, size_t row, struct arena *arena, struct task *ret)
{
    *ret = (struct task){
        .kind = (enum task_kind)db_int(rows, row, 2),
        .state = (enum task_state)db_int(rows, row, 3),
        .spec = store_bytes(rows, row, 4, arena),
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
    store_id(rows, row, 0, ret->id);
    store_id(rows, row, 1, ret->agent_id);
}

static void store_tasks_read(const struct db_rows *rows, struct arena *arena, struct task **ret,
                             size_t *ret_n)
{
    *ret_n = db_rows_count(rows);
    *ret = arena_array(arena, *ret_n, sizeof(**ret));
    for (size_t i = 0; i < *ret_n; i++)
        store_task_read(rows, i, arena, &(*ret)[i]);
}

enum code store_query_tasks(struct db *db, struct arena *arena, const char *sql, const struct db_args *args,
                            struct task **ret, size_t *ret_n, struct status *st)
{
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(db, sql, args, &rows, st));
    store_tasks_read(rows, arena, ret, ret_n);
    return CODE_OK;
}

/* For guarded updates: no row means that the task has moved on. */
static enum code update_task(struct db *db, struct arena *arena, const char *sql, const struct db_args *args,
                             const struct task *task, struct task *ret, struct status *st)
{
    struct task *changed;
    size_t n;
    TRY(store_query_tasks(db, arena, sql, args, &changed, &n, st));
    if (n == 0)
        return status_set(st, CODE_ABORTED, "task %s has changed meanwhile", task->id);
    *ret = changed[0];
    return CODE_OK;
}

void store_arg_sources(struct db_args *args, enum task_state to)
{
    int64_t from[STATE_COUNT];
    size_t n = task_state_sources(to, from);
    db_arg_int_array(args, from, n);
}

void store_arg_terms(struct db_args *args, const struct label_terms *terms)
{
    db_arg_text_array(args, terms->pair_name, terms->n_pairs);
    db_arg_text_array(args, terms->pair_value, terms->n_pairs);
    db_arg_text_array(args, terms->present, terms->n_present);
}

/* ---- tasks ---- */

enum code store_task_repeated(struct db *db, struct arena *arena, const struct new_task *task,
                              struct task *ret, struct status *st)
{
    uint8_t digest[SHA256_SIZE];
    sha256(task->request, digest);
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
    store_task_read(rows, 0, arena, ret);
    return CODE_OK;
}

enum code store_task_insert(struct db *db, struct arena *arena, const char *id, enum task_kind kind,
                            const struct new_task *task, int64_t now_ms, struct task *ret, bool *ret_fresh,
                            struct status *st)
{
    static const char sql[] =
        "WITH made AS (INSERT INTO tasks (id, agent_id, kind, state, spec, max_attempts, priority, "
        "created_by, "
        "    idempotency_key, request_sha256, traceparent, created_at, not_before, deadline, break_glass, "
        "    deadline_sec) "
        "  SELECT $1, $2, $3, CASE WHEN $12 <= $11 AND NOT EXISTS (SELECT 1 FROM unnest($14) AS a(id) "
        "    LEFT JOIN tasks p ON p.id = a.id::uuid WHERE p.state IS DISTINCT FROM 5) THEN 2 ELSE 1 END, "
        "    $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $15, $16 "
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
    db_arg_int(args, task->deadline_sec);
    struct task *made;
    size_t n;
    TRY(store_query_tasks(db, arena, sql, args, &made, &n, st));
    *ret_fresh = n == 1;
    if (n == 0)
        return store_task_repeated(db, arena, task, ret, st);
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
    store_task_read(rows, 0, arena, ret);
    ret->result = store_bytes(rows, 0, TASK_COLUMN_COUNT, arena);
    return CODE_OK;
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
    store_arg_terms(args, &terms);
    db_arg_text(args, filter->agent_id);
    db_arg_int_array(args, filter->states, filter->n_states);
    db_arg_int_array(args, filter->kinds, filter->n_kinds);
    db_arg_text(args, filter->before_id ? filter->before_id : "ffffffff-ffff-ffff-ffff-ffffffffffff");
    db_arg_int(args, filter->limit);
    return store_query_tasks(db, arena, sql, args, ret, ret_n, st);
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
    return store_query_tasks(db, arena, filter->agent_id ? of_agent : of_all, args, ret, ret_n, st);
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
    store_arg_sources(args, ending->state);
    db_arg_text(args, ending->message);
    db_arg_bytes(args, ending->result.data, ending->result.len);
    db_arg_time(args, ending->now_ms);
    db_arg_time(args, ending->started_at_ms);
    db_arg_int(args, ending->verdict);
    return update_task(
        db, arena,
        "UPDATE tasks SET state = $3, message = $5, result = coalesce($6, result), finished_at = $7, "
        "started_at = coalesce(started_at, CASE WHEN $8 IS NOT NULL THEN greatest(created_at, least($8, $7)) "
        "END), "
        "verdict = coalesce(nullif($9::bigint, 0), verdict), phase = NULL, version = version + 1 "
        "WHERE id = $1 AND attempt = $2 AND state = ANY ($4) "
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
    store_arg_sources(args, STATE_SCHEDULED);
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
        "  deadline = $3 + make_interval(secs => coalesce(deadline_sec, extract(epoch FROM deadline - "
        "created_at))), "
        "  not_before = $3, started_at = NULL, leased_at = NULL, "
        "  seen_at = NULL, finished_at = NULL, phase = NULL, progress_permille = NULL, message = NULL, "
        "  result = NULL, envelope = NULL, cancel_requested = false, version = version + 1 "
        "WHERE id = $1 AND attempt = $2 AND state > 5 RETURNING " TASK_COLUMNS,
        args, task, ret, st);
}

enum code store_attempts(struct db *db, struct arena *arena, const char *task_id, size_t max,
                         struct attempt **ret, size_t *ret_n, struct status *st)
{
    /* Of several receipts for one attempt the first one counted. Results that are longer than all the steps
     * that there may be are left where they are: they would fill the memory of whoever asks. */
    static const char sql[] =
        "SELECT * FROM (SELECT DISTINCT ON (attempt) attempt, outcome, received_at, "
        "CASE WHEN octet_length(result) <= 262144 THEN result END FROM receipts "
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
                                     .result = store_bytes(rows, i, 3, arena)};
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

/* ---- events ---- */

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
