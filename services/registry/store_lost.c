/* The SQL of what the stream says and the database has forgotten. */
#include "store_lost.h"

static void read_place(const struct db_rows *rows, struct lost_place *ret)
{
    *ret = (struct lost_place){
        .last_seq = db_int(rows, 0, 0),
        .unchecked_from = db_is_null(rows, 0, 1) ? -1 : db_int(rows, 0, 1),
        .n_lost = db_int(rows, 0, 2),
    };
}

#define PLACE "SELECT last_seq, unchecked_from, n_lost FROM stream_place"

enum code store_place_get(struct db *db, struct lost_place *ret, struct status *st)
{
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query_one(db, PLACE, NULL, &rows, st));
    read_place(rows, ret);
    return CODE_OK;
}

enum code store_place_lock(struct db *tx, struct lost_place *ret, struct status *st)
{
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query_one(tx, PLACE " FOR UPDATE", NULL, &rows, st));
    read_place(rows, ret);
    return CODE_OK;
}

enum code store_place_set(struct db *tx, const struct lost_place *place, struct arena *arena,
                          struct status *st)
{
    static const char sql[] = "UPDATE stream_place SET unchecked_from = nullif($1::bigint, -1), n_lost = $2";
    struct db_args *args = db_args_new(arena);
    db_arg_int(args, place->unchecked_from);
    db_arg_int(args, place->n_lost);
    return db_query(tx, sql, args, NULL, st);
}

enum code store_place_check(struct db *tx, bool same, struct status *st)
{
    /* Numbers of another stream say nothing of this one. A database that never told anything has nothing to
     * have forgotten. */
    static const char goes_on[] = "UPDATE stream_place SET unchecked_from = coalesce(unchecked_from, "
                                  "last_seq + 1) WHERE last_seq > 0";
    static const char another[] = "UPDATE stream_place SET unchecked_from = NULL, last_seq = 0";
    return same ? db_query(tx, goes_on, NULL, NULL, st) : db_query(tx, another, NULL, NULL, st);
}

enum code store_place_advance(struct db *db, int64_t stream_seq, struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    struct db_args *args = db_args_new(arena);
    db_arg_int(args, stream_seq);
    return db_query(db, "UPDATE stream_place SET last_seq = $1 WHERE last_seq < $1", args, NULL, st);
}

enum code store_lost_add(struct db *tx, const struct lost_event *events, size_t n, struct arena *arena,
                         size_t *ret_n, struct status *st)
{
    static const char sql[] =
        "WITH e AS (SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[], "
        "$6::bigint[], $7::boolean[]) AS e(event, agent, version, disabled, frozen, generation, deleted) "
        "WHERE NOT EXISTS (SELECT FROM outbox o WHERE o.id = e.event::uuid)), "
        "kept AS (INSERT INTO lost_agents AS l (agent_id, version, disabled_reason, frozen_reason, "
        "  min_generation, deleted) SELECT DISTINCT ON (agent) agent::uuid, version, disabled, frozen, "
        "  generation, deleted FROM e ORDER BY agent, version DESC "
        "  ON CONFLICT (agent_id) DO UPDATE SET version = EXCLUDED.version, disabled_reason = "
        "  EXCLUDED.disabled_reason, frozen_reason = EXCLUDED.frozen_reason, min_generation = "
        "  EXCLUDED.min_generation, deleted = EXCLUDED.deleted WHERE l.version < EXCLUDED.version) "
        "SELECT count(*) FROM e";
    const char **text = arena_array(arena, 4 * n, sizeof(*text));
    int64_t *number = arena_array(arena, 2 * n, sizeof(*number));
    bool *deleted = arena_array(arena, n, sizeof(*deleted));
    for (size_t i = 0; i < n; i++) {
        const struct held_back *agent = &events[i].agent;
        text[i] = events[i].event_id;
        text[n + i] = agent->agent_id;
        text[2 * n + i] = agent->disabled_reason;
        text[3 * n + i] = agent->frozen_reason;
        number[i] = agent->version;
        number[n + i] = agent->min_generation;
        deleted[i] = agent->deleted;
    }
    struct db_args *args = db_args_new(arena);
    db_arg_text_array(args, text, n);
    db_arg_text_array(args, text + n, n);
    db_arg_int_array(args, number, n);
    db_arg_text_array(args, text + 2 * n, n);
    db_arg_text_array(args, text + 3 * n, n);
    db_arg_int_array(args, number + n, n);
    db_arg_bool_array(args, deleted, n);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query_one(tx, sql, args, &rows, st));
    *ret_n = (size_t)db_int(rows, 0, 0);
    return CODE_OK;
}

enum code store_lost_select(struct db *tx, struct arena *arena, struct held_back **ret, size_t *ret_n,
                            struct status *st)
{
    static const char sql[] = "SELECT agent_id, disabled_reason, frozen_reason, min_generation, version, "
                              "deleted FROM lost_agents";
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(tx, sql, NULL, &rows, st));
    *ret_n = db_rows_count(rows);
    *ret = arena_array(arena, *ret_n + 1, sizeof(**ret));
    for (size_t i = 0; i < *ret_n; i++)
        (*ret)[i] = (struct held_back){.agent_id = arena_strdup(arena, db_text(rows, i, 0)),
                                       .disabled_reason = arena_strdup(arena, db_text(rows, i, 1)),
                                       .frozen_reason = arena_strdup(arena, db_text(rows, i, 2)),
                                       .min_generation = db_int(rows, i, 3),
                                       .version = db_int(rows, i, 4),
                                       .deleted = db_bool(rows, i, 5)};
    return CODE_OK;
}

enum code store_lost_clear(struct db *tx, struct status *st)
{
    TRY(db_query(tx, "DELETE FROM lost_agents", NULL, NULL, st));
    return db_query(tx, "UPDATE stream_place SET n_lost = 0, unchecked_from = NULL", NULL, NULL, st);
}
