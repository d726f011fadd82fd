/* The SQL of the activity. Blocking, on the session of the calling thread; rows are copied into the caller's
 * arena. */
#include "store_rows.h"

#define AGENT_LABELS_HOLD LABELS_HOLD_IN("a.labels")

enum code store_activity_list(struct db *db, const struct label_terms *terms,
                              const struct activity_filter *filter, size_t max, struct arena *arena,
                              struct activity **ret, size_t *ret_n, struct status *st)
{
    static const char sql[] =
        "SELECT v.occurred_at, v.event, v.agent_id, v.actor, v.message, v.id "
        "FROM activity v LEFT JOIN agents a ON a.id = v.agent_id "
        "WHERE ((cardinality($1::text[]) = 0 AND cardinality($3::text[]) = 0) OR (" AGENT_LABELS_HOLD ")) "
        "AND ($4::uuid IS NULL OR v.agent_id = $4) AND ($5::text IS NULL OR v.actor = $5) "
        "AND ($6::text IS NULL OR v.event LIKE $6) AND ($7::bigint < 0 OR v.id < $7) "
        "ORDER BY v.id DESC LIMIT $8";
    struct db_args *args = db_args_new(arena);
    store_arg_terms(args, terms);
    db_arg_text(args, filter->agent_id);
    db_arg_text(args, filter->actor);
    db_arg_text(args, filter->event ? store_pattern(filter->event, arena) : NULL);
    db_arg_int(args, filter->before_id);
    db_arg_int(args, (int64_t)max);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(db, sql, args, &rows, st));
    *ret_n = db_rows_count(rows);
    *ret = arena_array(arena, *ret_n + 1, sizeof(**ret));
    for (size_t i = 0; i < *ret_n; i++)
        (*ret)[i] = (struct activity){
            .occurred_at_ms = db_time(rows, i, 0),
            .event = row_text(rows, i, 1, arena),
            .agent_id = row_text(rows, i, 2, arena),
            .actor = row_text(rows, i, 3, arena),
            .message = row_text(rows, i, 4, arena),
            .id = db_int(rows, i, 5),
        };
    return CODE_OK;
}

enum code store_activity_recent(struct db *db, const struct label_terms *terms, size_t max,
                                struct arena *arena, struct activity **ret, size_t *ret_n, struct status *st)
{
    const struct activity_filter all = {.before_id = -1};
    return store_activity_list(db, terms, &all, max, arena, ret, ret_n, st);
}

enum code store_activity_add(struct db *tx, const struct activity *v, size_t n, struct arena *arena,
                             struct status *st)
{
    static const char sql[] =
        "INSERT INTO activity (occurred_at, event, agent_id, actor, message) "
        "SELECT t, e, a::uuid, coalesce(w, ''), coalesce(m, '') FROM unnest($1::timestamptz[], "
        "$2::text[], $3::text[], $4::text[], $5::text[]) WITH ORDINALITY AS x(t, e, a, w, m, o) ORDER BY o";
    if (n == 0)
        return CODE_OK;
    int64_t *times = arena_array(arena, n, sizeof(*times));
    const char **text = arena_array(arena, 4 * n, sizeof(*text));
    for (size_t i = 0; i < n; i++) {
        times[i] = v[i].occurred_at_ms;
        text[i] = v[i].event;
        text[n + i] = v[i].agent_id;
        text[2 * n + i] = v[i].actor;
        text[3 * n + i] = v[i].message;
    }
    struct db_args *args = db_args_new(arena);
    db_arg_time_array(args, times, n);
    for (size_t i = 0; i < 4; i++)
        db_arg_text_array(args, text + i * n, n);
    return db_query(tx, sql, args, NULL, st);
}

enum code store_activity_trim(struct db *db, int64_t keep, struct arena *arena, struct status *st)
{
    static const char sql[] =
        "DELETE FROM activity WHERE id <= (SELECT id FROM activity ORDER BY id DESC OFFSET $1 LIMIT 1)";
    struct db_args *args = db_args_new(arena);
    db_arg_int(args, keep);
    return db_query(db, sql, args, NULL, st);
}
