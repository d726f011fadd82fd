/* The metrics' SQL. Blocking, on the session of the calling thread; rows are copied into the caller's arena.
 */
#include "store_metrics.h"

enum {
    FIELD_CPU,
    FIELD_LOAD,
    FIELD_MEMORY_USED,
    FIELD_MEMORY_TOTAL,
    FIELD_DISK_USED,
    FIELD_DISK_TOTAL,
    FIELD_UPTIME,
    FIELDS
};

static void arg_samples(struct db_args *args, const struct heartbeat *const *beats, size_t n,
                        struct arena *arena)
{
    const char **ids = arena_array(arena, n, sizeof(*ids));
    int64_t *at = arena_array(arena, n, sizeof(*at));
    int64_t *field = arena_array(arena, FIELDS * n, sizeof(*field));
    const void **data = arena_array(arena, n, sizeof(*data));
    size_t *len = arena_array(arena, n, sizeof(*len));
    for (size_t i = 0; i < n; i++) {
        const struct metrics_sample *sample = beats[i]->metrics;
        ids[i] = beats[i]->agent_id;
        at[i] = beats[i]->received_at_ms;
        field[FIELD_CPU * n + i] = sample->cpu_permille;
        field[FIELD_LOAD * n + i] = sample->load1_milli;
        field[FIELD_MEMORY_USED * n + i] = sample->memory_used;
        field[FIELD_MEMORY_TOTAL * n + i] = sample->memory_total;
        field[FIELD_DISK_USED * n + i] = sample->disk_used;
        field[FIELD_DISK_TOTAL * n + i] = sample->disk_total;
        field[FIELD_UPTIME * n + i] = sample->uptime_sec;
        data[i] = sample->encoded.data;
        len[i] = sample->encoded.len;
    }
    db_arg_text_array(args, ids, n);
    db_arg_time_array(args, at, n);
    db_arg_bytes_array(args, data, len, n);
    for (size_t i = 0; i < FIELDS; i++)
        db_arg_int_array(args, field + i * n, n);
}

enum code store_metrics_add(struct db *db, const struct heartbeat *const *beats, size_t n,
                            struct arena *arena, struct status *st)
{
    /* A step that the slot held before is written over; a sample that comes too late for its step is left
     * out. */
    static const char sql[] =
        "WITH i AS (SELECT a.id, x.at, x.sample, x.cpu, x.load, x.mu, x.mt, x.du, x.dt, x.up "
        "  FROM unnest($1::text[], $2::timestamptz[], $3::bytea[], $4::bigint[], $5::bigint[], $6::bigint[], "
        "  $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[]) "
        "  AS x(id, at, sample, cpu, load, mu, mt, du, dt, up) JOIN agents a ON a.id = x.id::uuid "
        "  ORDER BY a.id), "
        "latest AS (INSERT INTO metrics_latest AS l (agent_id, at, sample) SELECT id, at, sample FROM i "
        "  ON CONFLICT (agent_id) DO UPDATE SET at = EXCLUDED.at, sample = EXCLUDED.sample "
        "  WHERE l.at < EXCLUDED.at) "
        "INSERT INTO metrics AS m (agent_id, ring, slot, at, samples, cpu_samples, cpu_sum, cpu_max, "
        "load_sum, "
        "  load_max, memory_used, memory_total, disk_used, disk_total, uptime_sec) "
        "SELECT i.id, r.ring - 1, s.step % r.slots, to_timestamp(s.step * r.sec), 1, (i.cpu >= 0)::int, "
        "  greatest(i.cpu, 0), i.cpu, greatest(i.load, 0), i.load, i.mu, i.mt, i.du, i.dt, i.up "
        "FROM i CROSS JOIN unnest($11::bigint[], $12::bigint[]) WITH ORDINALITY AS r(sec, slots, ring), "
        "LATERAL (SELECT floor(extract(epoch FROM i.at))::bigint / r.sec AS step) s "
        "ON CONFLICT (agent_id, ring, slot) DO UPDATE SET at = EXCLUDED.at, "
        "  samples = CASE WHEN m.at = EXCLUDED.at THEN m.samples ELSE 0 END + 1, "
        "  cpu_samples = CASE WHEN m.at = EXCLUDED.at THEN m.cpu_samples ELSE 0 END + EXCLUDED.cpu_samples, "
        "  cpu_sum = CASE WHEN m.at = EXCLUDED.at THEN m.cpu_sum ELSE 0 END + EXCLUDED.cpu_sum, "
        "  cpu_max = CASE WHEN m.at = EXCLUDED.at THEN greatest(m.cpu_max, EXCLUDED.cpu_max) "
        "    ELSE EXCLUDED.cpu_max END, "
        "  load_sum = CASE WHEN m.at = EXCLUDED.at THEN m.load_sum ELSE 0 END + EXCLUDED.load_sum, "
        "  load_max = CASE WHEN m.at = EXCLUDED.at THEN greatest(m.load_max, EXCLUDED.load_max) "
        "    ELSE EXCLUDED.load_max END, "
        "  memory_used = EXCLUDED.memory_used, memory_total = EXCLUDED.memory_total, "
        "  disk_used = EXCLUDED.disk_used, disk_total = EXCLUDED.disk_total, uptime_sec = "
        "EXCLUDED.uptime_sec "
        "WHERE m.at <= EXCLUDED.at";
    int64_t step[METRICS_RINGS], slots[METRICS_RINGS];
    for (size_t i = 0; i < METRICS_RINGS; i++) {
        step[i] = metrics_rings[i].step_sec;
        slots[i] = metrics_rings[i].slots;
    }
    struct db_args *args = db_args_new(arena);
    arg_samples(args, beats, n, arena);
    db_arg_int_array(args, step, METRICS_RINGS);
    db_arg_int_array(args, slots, METRICS_RINGS);
    return db_query(db, sql, args, NULL, st);
}

enum code store_metrics_latest(struct db *db, const char *id, int64_t since_ms, struct arena *arena,
                               struct bytes *ret, int64_t *ret_at_ms, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, id);
    db_arg_time(args, since_ms);
    AUTO_ROWS struct db_rows *rows = NULL;
    *ret = (struct bytes){0};
    *ret_at_ms = -1;
    TRY(db_query(db, "SELECT sample, at FROM metrics_latest WHERE agent_id = $1 AND at >= $2", args, &rows,
                 st));
    if (db_rows_count(rows) == 0)
        return CODE_OK;
    size_t len;
    const void *data = db_bytes(rows, 0, 0, &len);
    *ret = (struct bytes){arena_dup(arena, len ? data : "", len ? len : 1), len};
    *ret_at_ms = db_time(rows, 0, 1);
    return CODE_OK;
}

enum code store_metrics_points(struct db *db, const char *id, int ring, int64_t since_ms, struct arena *arena,
                               struct metrics_point **ret, size_t *ret_n, struct status *st)
{
    static const char sql[] =
        "SELECT at, samples, cpu_samples, cpu_sum, cpu_max, load_sum, load_max, memory_used, memory_total, "
        "disk_used, disk_total, uptime_sec FROM metrics WHERE agent_id = $1 AND ring = $2 AND at > $3 "
        "ORDER BY at";
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, id);
    db_arg_int(args, ring);
    db_arg_time(args, since_ms);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(db, sql, args, &rows, st));
    *ret_n = db_rows_count(rows);
    *ret = arena_array(arena, *ret_n + 1, sizeof(**ret));
    for (size_t i = 0; i < *ret_n; i++)
        (*ret)[i] = (struct metrics_point){
            .at_ms = db_time(rows, i, 0),
            .samples = db_int(rows, i, 1),
            .cpu_samples = db_int(rows, i, 2),
            .cpu_sum = db_int(rows, i, 3),
            .cpu_max = db_int(rows, i, 4),
            .load_sum = db_int(rows, i, 5),
            .load_max = db_int(rows, i, 6),
            .memory_used = db_int(rows, i, 7),
            .memory_total = db_int(rows, i, 8),
            .disk_used = db_int(rows, i, 9),
            .disk_total = db_int(rows, i, 10),
            .uptime_sec = db_int(rows, i, 11),
        };
    return CODE_OK;
}
