/* The SQL of heartbeats, and of whose silence counts. Blocking, on the session of the calling thread; rows
 * are copied into the caller's arena. */
#include "store_rows.h"

/* ---- heartbeats
 * ------------------------------------------------------------------------------------------------- */

static void arg_heartbeats(struct db_args *args, const struct heartbeat *beats, size_t n, struct arena *arena)
{
    const char **text = arena_array(arena, 4 * n + 1, sizeof(*text));
    int64_t *number = arena_array(arena, 4 * n + 1, sizeof(*number));
    bool *safe_mode = arena_array(arena, n + 1, sizeof(*safe_mode));
    const void **facts = arena_array(arena, n + 1, sizeof(*facts));
    size_t *facts_len = arena_array(arena, n + 1, sizeof(*facts_len));
    for (size_t i = 0; i < n; i++) {
        const struct heartbeat *b = &beats[i];
        text[i] = b->agent_id;
        text[n + i] = b->instance_id;
        text[2 * n + i] = b->boot_id;
        text[3 * n + i] = b->safe_mode_reason ? b->safe_mode_reason : "";
        number[i] = b->generation;
        number[n + i] = b->received_at_ms;
        number[2 * n + i] = b->clock_skew_ms;
        number[3 * n + i] = b->interval_ms;
        safe_mode[i] = b->safe_mode;
        facts[i] = b->facts.data;
        facts_len[i] = b->facts.len;
    }
    for (size_t i = 0; i < 4; i++)
        db_arg_text_array(args, text + i * n, n);
    db_arg_int_array(args, number, n);
    db_arg_time_array(args, number + n, n);
    db_arg_int_array(args, number + 2 * n, n);
    db_arg_int_array(args, number + 3 * n, n);
    db_arg_bool_array(args, safe_mode, n);
    db_arg_bytes_array(args, facts, facts_len, n);
}

#define TURN "h.instance_id <> i.instance_id AND i.at >= h.last_at"

enum code store_heartbeats(struct db *db, const struct timing *timing, int64_t now_ms, const char *gateway_id,
                           const char *epoch, const struct heartbeat *beats, size_t n, struct arena *arena,
                           const char ***ret_ids, const bool **ret_clone, size_t *ret_n, struct status *st)
{
    static const char sql[] =
        "WITH gateway AS (INSERT INTO gateways AS g (id, epoch, last_seen_at, counting_from) VALUES ($1, $2, "
        "$3, $3) "
        "  ON CONFLICT (id) DO UPDATE SET epoch = EXCLUDED.epoch, last_seen_at = GREATEST(g.last_seen_at, "
        "$3), "
        "  counting_from = CASE WHEN g.epoch <> EXCLUDED.epoch OR g.last_seen_at < $4 "
        "  THEN $3 + $5 * interval '1 millisecond' ELSE g.counting_from END), "
        "i AS (SELECT id::uuid AS id, instance_id, boot_id, generation, "
        "CASE WHEN safe_mode THEN '!' ELSE '' END || reason AS said, least(at, $3) AS at, skew, "
        "interval_ms, "
        "  facts FROM unnest($6::text[], $7::text[], $8::text[], $9::text[], $10::bigint[], "
        "$11::timestamptz[], "
        "  $12::bigint[], $13::bigint[], $14::boolean[], $15::bytea[]) "
        "  AS i(id, instance_id, boot_id, reason, generation, at, skew, interval_ms, safe_mode, facts)), "
        "touched AS (UPDATE heartbeats h SET last_at = GREATEST(h.last_at, i.at), interval_ms = "
        "i.interval_ms, "
        "  gateway_id = $1, boot_id = i.boot_id, clock_skew_ms = i.skew, "
        /* What comes late, of a process that has ended meanwhile, is no turn. */
        "  instance_id = CASE WHEN i.at < h.last_at THEN h.instance_id ELSE i.instance_id END, "
        "  former_instance_id = CASE WHEN " TURN " THEN h.instance_id ELSE h.former_instance_id END, "
        /* an instance that was replaced came back: within 10 minutes it counts up, later it starts anew */
        "  returns = CASE WHEN " TURN " AND i.instance_id = h.former_instance_id "
        "    THEN CASE WHEN h.returns_since > $3 - interval '10 minutes' THEN h.returns + 1 ELSE 1 END "
        "    ELSE h.returns END, "
        "  returns_since = CASE WHEN " TURN " AND i.instance_id = h.former_instance_id "
        "    AND coalesce(h.returns_since <= $3 - interval '10 minutes', true) THEN $3 ELSE h.returns_since "
        "END "
        "  FROM i WHERE h.agent_id = i.id RETURNING h.agent_id, h.returns, i.facts, "
        "  NOT h.watched OR h.known <> i.said OR h.known_generation < i.generation AS news) "
        "SELECT t.agent_id, t.returns >= 3 FROM touched t WHERE t.news "
        "OR (t.returns >= 3 AND EXISTS (SELECT FROM agents a WHERE a.id = t.agent_id AND a.frozen_reason <> "
        "'CLONE')) OR (t.facts IS NOT NULL AND EXISTS (SELECT FROM agents a WHERE a.id = t.agent_id "
        "AND a.facts IS DISTINCT FROM t.facts))";
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, gateway_id);
    db_arg_text(args, epoch);
    db_arg_time(args, now_ms);
    store_arg_timing(args, timing, now_ms);
    arg_heartbeats(args, beats, n, arena);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(db, sql, args, &rows, st));
    rows_ids(rows, arena, ret_ids, ret_n);
    bool *clone = arena_array(arena, *ret_n + 1, sizeof(*clone));
    for (size_t i = 0; i < *ret_n; i++)
        clone[i] = db_bool(rows, i, 1);
    *ret_clone = clone;
    return CODE_OK;
}

enum code store_instances_forget(struct db *tx, const char *id, struct arena *arena, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, id);
    return db_query(tx,
                    "UPDATE heartbeats SET instance_id = NULL, former_instance_id = NULL, returns = 0, "
                    "returns_since = NULL WHERE agent_id = $1",
                    args, NULL, st);
}

/* ---- sweep
 * ------------------------------------------------------------------------------------------------------ */

enum code store_sweep_mark(struct db *db, const struct timing *timing, int64_t now_ms, struct arena *arena,
                           struct status *st)
{
    /* While no gateway is heard, agents have nobody to speak to, or the bus is away: their silence says
     * nothing. */
    static const char sql[] =
        "UPDATE platform SET last_sweep_at = $3, counting_from = CASE WHEN last_sweep_at < $1 "
        "OR NOT EXISTS (SELECT FROM gateways WHERE last_seen_at >= $1) THEN $3 + $2 * interval '1 "
        "millisecond' ELSE counting_from END";
    struct db_args *args = db_args_new(arena);
    store_arg_timing(args, timing, now_ms);
    db_arg_time(args, now_ms);
    return db_query(db, sql, args, NULL, st);
}

enum code store_sweep_find(struct db *db, const struct timing *timing, int64_t now_ms, size_t max,
                           struct arena *arena, const char ***ret_ids, size_t *ret_n, struct status *st)
{
    /* The first condition on time is implied by the second and needs no other table. */
    static const char sql[] =
        "(SELECT h.agent_id FROM " OFFLINE_FROM " WHERE h.watched "
        "  AND h.last_at + 3 * h.interval_ms * interval '1 millisecond' <= $3 AND " OFFLINE_AT
        " <= $3 LIMIT $4) UNION "
        "(SELECT id FROM agents WHERE identity_not_after <= $3 AND status > 2 LIMIT $4) UNION "
        "(SELECT a.id FROM agents a, platform p WHERE p.safe_mode AND a.status = 6 LIMIT $4) UNION "
        "(SELECT a.id FROM agents a, platform p WHERE NOT p.safe_mode AND a.status = 5 AND NOT a.safe_mode "
        "  AND NOT a.operator_safe_mode AND a.frozen_reason = '' LIMIT $4) ORDER BY 1 LIMIT $4";
    struct db_args *args = db_args_new(arena);
    store_arg_timing(args, timing, now_ms);
    db_arg_time(args, now_ms);
    db_arg_int(args, (int64_t)max);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(db, sql, args, &rows, st));
    rows_ids(rows, arena, ret_ids, ret_n);
    return CODE_OK;
}
