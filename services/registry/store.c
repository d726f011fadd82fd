/* The registry's SQL. Blocking, on the session of the calling thread; rows are copied into the caller's
 * arena. */
#include "store_tallies.h"

#include <string.h>

/* Control characters separate labels and their halves; label text has none (rpc.c). */
#define AGENT_COLUMNS                                                                                        \
    "a.id, a.hostname, a.status, a.disabled, a.disabled_reason, a.safe_mode, a.safe_mode_reason, "           \
    "(SELECT string_agg(l.key || E'\\x1f' || l.value, E'\\x1e' ORDER BY l.key) FROM "                        \
    "jsonb_each_text(a.labels) l), "                                                                         \
    "a.scope, a.facts, a.min_generation, a.generation, a.identity_generation, a.identity_fingerprint, "      \
    "a.identity_not_after, a.created_at, a.bootstrapped_at, a.agent_version, a.version, h.last_at, "         \
    "h.clock_skew_ms, a.frozen_reason, a.operator_safe_mode, a.token_generation, "                           \
    "coalesce(a.status_since, a.created_at)"
enum column {
    COL_ID,
    COL_HOSTNAME,
    COL_STATUS,
    COL_DISABLED,
    COL_DISABLED_REASON,
    COL_SAFE_MODE,
    COL_SAFE_MODE_REASON,
    COL_LABELS,
    COL_SCOPE,
    COL_FACTS,
    COL_MIN_GENERATION,
    COL_GENERATION,
    COL_IDENTITY_GENERATION,
    COL_FINGERPRINT,
    COL_NOT_AFTER,
    COL_CREATED,
    COL_BOOTSTRAPPED,
    COL_AGENT_VERSION,
    COL_VERSION,
    COL_LAST_AT,
    COL_SKEW,
    COL_FROZEN_REASON,
    COL_OPERATOR_SAFE_MODE,
    COL_TOKEN_GENERATION,
    COL_STATUS_SINCE,
    COL_EXTRA, /* of the one statement that has one */
};

/* When an agent will have been silent for 3 intervals that count: its gateway is there, or has been away for
 * longer than agents need to come back elsewhere. $1: a gateway heard after this is there; $2: reattach
 * window in ms. */
#define OFFLINE_AT                                                                                           \
    "GREATEST(h.last_at, p.counting_from, CASE WHEN g.last_seen_at >= $1 THEN g.counting_from "              \
    "ELSE g.last_seen_at + $2 * interval '1 millisecond' END) + 3 * h.interval_ms * interval '1 "            \
    "millisecond'"
#define OFFLINE_FROM "heartbeats h LEFT JOIN gateways g ON g.id = h.gateway_id, platform p"

static const char *copy_text(const struct db_rows *rows, size_t row, int col, struct arena *arena)
{
    return arena_strdup(arena, db_text(rows, row, col));
}

static struct bytes copy_bytes(const struct db_rows *rows, size_t row, int col, struct arena *arena)
{
    if (db_is_null(rows, row, col))
        return (struct bytes){0};
    size_t len;
    const void *data = db_bytes(rows, row, col, &len);
    return (struct bytes){arena_dup(arena, len ? data : "", len ? len : 1), len};
}

static void read_labels(char *text, struct arena *arena, struct agent *agent)
{
    if (!text)
        return;
    size_t n = 1;
    for (const char *c = text; *c; c++)
        n += *c == '\x1e';
    agent->labels = arena_array(arena, n, sizeof(*agent->labels));
    char *rest = text;
    for (char *one; (one = strsep(&rest, "\x1e"));) {
        struct label *label = &agent->labels[agent->n_labels++];
        label->name = strsep(&one, "\x1f");
        label->value = one ? one : "";
    }
}

static void read_agent(const struct db_rows *rows, size_t i, struct arena *arena, struct agent *agent)
{
    *agent = (struct agent){
        .id = copy_text(rows, i, COL_ID, arena),
        .hostname = copy_text(rows, i, COL_HOSTNAME, arena),
        .status = (enum agent_status)db_int(rows, i, COL_STATUS),
        .disabled = db_bool(rows, i, COL_DISABLED),
        .disabled_reason = copy_text(rows, i, COL_DISABLED_REASON, arena),
        .safe_mode = db_bool(rows, i, COL_SAFE_MODE),
        .safe_mode_reason = copy_text(rows, i, COL_SAFE_MODE_REASON, arena),
        .scope = copy_bytes(rows, i, COL_SCOPE, arena),
        .facts = copy_bytes(rows, i, COL_FACTS, arena),
        .min_generation = db_int(rows, i, COL_MIN_GENERATION),
        .generation = db_int(rows, i, COL_GENERATION),
        .identity_generation = db_int(rows, i, COL_IDENTITY_GENERATION),
        .identity_fingerprint = copy_text(rows, i, COL_FINGERPRINT, arena),
        .identity_not_after_ms = db_time(rows, i, COL_NOT_AFTER),
        .created_at_ms = db_time(rows, i, COL_CREATED),
        .bootstrapped_at_ms = db_time(rows, i, COL_BOOTSTRAPPED),
        .agent_version = copy_text(rows, i, COL_AGENT_VERSION, arena),
        .version = db_int(rows, i, COL_VERSION),
        .last_heartbeat_at_ms = db_time(rows, i, COL_LAST_AT),
        .clock_skew_ms = db_int(rows, i, COL_SKEW),
        .offline_at_ms = -1,
        .frozen_reason = copy_text(rows, i, COL_FROZEN_REASON, arena),
        .operator_safe_mode = db_bool(rows, i, COL_OPERATOR_SAFE_MODE),
        .token_generation = db_int(rows, i, COL_TOKEN_GENERATION),
        .status_since_ms = db_time(rows, i, COL_STATUS_SINCE),
    };
    read_labels(arena_strdup(arena, db_text(rows, i, COL_LABELS)), arena, agent);
}

static void read_agents(const struct db_rows *rows, struct arena *arena, struct agent **ret, size_t *ret_n)
{
    *ret_n = db_rows_count(rows);
    *ret = arena_array(arena, *ret_n + 1, sizeof(**ret));
    for (size_t i = 0; i < *ret_n; i++)
        read_agent(rows, i, arena, &(*ret)[i]);
}

static void read_ids(const struct db_rows *rows, struct arena *arena, const char ***ret, size_t *ret_n)
{
    *ret_n = db_rows_count(rows);
    *ret = arena_array(arena, *ret_n + 1, sizeof(**ret));
    for (size_t i = 0; i < *ret_n; i++)
        (*ret)[i] = copy_text(rows, i, 0, arena);
}

/* ---- agents
 * ---------------------------------------------------------------------------------------------------- */

static void arg_labels(struct db_args *args, const struct label *labels, size_t n, struct arena *arena)
{
    const char **names = arena_array(arena, n + 1, sizeof(*names));
    const char **values = arena_array(arena, n + 1, sizeof(*values));
    for (size_t i = 0; i < n; i++) {
        names[i] = labels[i].name;
        values[i] = labels[i].value;
    }
    db_arg_text_array(args, names, n);
    db_arg_text_array(args, values, n);
}

enum code store_agent_insert(struct db *tx, const struct agent *agent, const char *created_by,
                             const char *idempotency_key, struct bytes request_sha256, struct arena *arena,
                             struct status *st)
{
    static const char sql[] = "WITH added AS (INSERT INTO agents (id, hostname, status, labels, scope, "
                              "created_at, version, created_by, "
                              "  idempotency_key, request_sha256, status_since) "
                              "  VALUES ($1, $2, $3, (SELECT coalesce(jsonb_object_agg(n, v), '{}') FROM "
                              "unnest($4::text[], $5::text[]) l(n, v)), "
                              "  $6, $7, $8, $9, $10, $11, $7) RETURNING id, status), "
                              "counted AS (INSERT INTO agent_counts (status, n) SELECT status, 1 FROM added) "
                              "INSERT INTO heartbeats (agent_id) SELECT id FROM added";
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, agent->id);
    db_arg_text(args, agent->hostname);
    db_arg_int(args, agent->status);
    arg_labels(args, agent->labels, agent->n_labels, arena);
    db_arg_bytes(args, agent->scope.data ? (const void *)agent->scope.data : "", agent->scope.len);
    db_arg_time(args, agent->created_at_ms);
    db_arg_int(args, agent->version);
    db_arg_text(args, created_by);
    db_arg_text(args, idempotency_key);
    db_arg_bytes(args, request_sha256.data, request_sha256.len);
    return db_query(tx, sql, args, NULL, st);
}

enum code store_agent_by_key(struct db *tx, const char *created_by, const char *idempotency_key,
                             struct arena *arena, struct agent *ret, struct bytes *ret_request_sha256,
                             struct status *st)
{
    static const char sql[] =
        "SELECT " AGENT_COLUMNS ", a.request_sha256 FROM agents a "
        "JOIN heartbeats h ON h.agent_id = a.id WHERE created_by = $1 AND idempotency_key = $2";
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, created_by);
    db_arg_text(args, idempotency_key);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query_one(tx, sql, args, &rows, st));
    read_agent(rows, 0, arena, ret);
    *ret_request_sha256 = copy_bytes(rows, 0, COL_EXTRA, arena);
    return CODE_OK;
}

enum code store_agent_labels(struct db *tx, const char *id, const struct label *labels, size_t n,
                             struct arena *arena, struct status *st)
{
    static const char sql[] =
        "UPDATE agents SET labels = (SELECT coalesce(jsonb_object_agg(n, v), '{}') FROM "
        "unnest($2::text[], $3::text[]) l(n, v)) WHERE id = $1";
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, id);
    arg_labels(args, labels, n, arena);
    return db_query(tx, sql, args, NULL, st);
}

enum code store_agent_scope(struct db *tx, const char *id, struct bytes scope, struct arena *arena,
                            struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, id);
    db_arg_bytes(args, scope.data ? (const void *)scope.data : "", scope.len);
    return db_query(tx, "UPDATE agents SET scope = $2 WHERE id = $1", args, NULL, st);
}

static void arg_timing(struct db_args *args, const struct timing *timing, int64_t now_ms)
{
    db_arg_time(args, now_ms - timing->gateway_silence_ms);
    db_arg_int(args, timing->reattach_window_ms);
}

enum code store_agents_lock(struct db *tx, const char *const *ids, size_t n, const struct timing *timing,
                            int64_t now_ms, struct arena *arena, struct agent **ret, size_t *ret_n,
                            struct status *st)
{
    /* Two statements in one would read the heartbeat as it was before the lock was granted; it only gets
     * newer. */
    static const char sql[] =
        "SELECT " AGENT_COLUMNS ", " OFFLINE_AT ", p.safe_mode FROM agents a, " OFFLINE_FROM
        " WHERE h.agent_id = a.id AND a.id = ANY ($3::text[]::uuid[]) ORDER BY a.id FOR UPDATE OF a";
    struct db_args *args = db_args_new(arena);
    arg_timing(args, timing, now_ms);
    db_arg_text_array(args, ids, n);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(tx, sql, args, &rows, st));
    read_agents(rows, arena, ret, ret_n);
    for (size_t i = 0; i < *ret_n; i++) {
        (*ret)[i].offline_at_ms = db_time(rows, i, COL_EXTRA);
        (*ret)[i].platform_safe_mode = db_bool(rows, i, COL_EXTRA + 1);
    }
    return CODE_OK;
}

/* Columns of agents as arrays, in the order of store_agents_save's unnest. */
static void arg_agents(struct db_args *args, struct agent *const *agents, const enum agent_status *before,
                       size_t n, struct arena *arena)
{
    const char **text = arena_array(arena, 6 * n, sizeof(*text));
    int64_t *number = arena_array(arena, 10 * n, sizeof(*number));
    bool *flag = arena_array(arena, 3 * n, sizeof(*flag));
    const void **facts = arena_array(arena, n, sizeof(*facts));
    size_t *facts_len = arena_array(arena, n, sizeof(*facts_len));
    for (size_t i = 0; i < n; i++) {
        const struct agent *a = agents[i];
        text[i] = a->id;
        text[n + i] = a->disabled_reason;
        text[2 * n + i] = a->safe_mode_reason;
        text[3 * n + i] = a->identity_fingerprint;
        text[4 * n + i] = a->agent_version;
        number[i] = a->status;
        number[n + i] = before[i];
        number[2 * n + i] = a->min_generation;
        number[3 * n + i] = a->generation;
        number[4 * n + i] = a->identity_generation;
        number[5 * n + i] = a->identity_not_after_ms;
        number[6 * n + i] = a->bootstrapped_at_ms;
        number[7 * n + i] = a->version;
        flag[i] = a->disabled;
        flag[n + i] = a->safe_mode;
        text[5 * n + i] = a->frozen_reason ? a->frozen_reason : "";
        number[8 * n + i] = a->token_generation;
        number[9 * n + i] = a->status_since_ms;
        flag[2 * n + i] = a->operator_safe_mode;
        facts[i] = a->facts.data;
        facts_len[i] = a->facts.len;
    }
    for (size_t i = 0; i < 5; i++)
        db_arg_text_array(args, text + i * n, n);
    for (size_t i = 0; i < 5; i++)
        db_arg_int_array(args, number + i * n, n);
    db_arg_time_array(args, number + 5 * n, n);
    db_arg_time_array(args, number + 6 * n, n);
    db_arg_int_array(args, number + 7 * n, n);
    db_arg_bool_array(args, flag, n);
    db_arg_bool_array(args, flag + n, n);
    db_arg_bytes_array(args, facts, facts_len, n);
    db_arg_text_array(args, text + 5 * n, n);
    db_arg_bool_array(args, flag + 2 * n, n);
    db_arg_int_array(args, number + 8 * n, n);
    db_arg_time_array(args, number + 9 * n, n);
}

enum code store_agents_save(struct db *tx, struct agent *const *agents, const enum agent_status *before,
                            size_t n, struct arena *arena, struct status *st)
{
    static const char sql[] =
        "WITH c AS (SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], "
        "$6::bigint[], "
        "  $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::timestamptz[], $12::timestamptz[], "
        "$13::bigint[], "
        "  $14::boolean[], $15::boolean[], $16::bytea[], $17::text[], $18::boolean[], $19::bigint[], "
        "$20::timestamptz[]) AS "
        "c(id, disabled_reason, safe_mode_reason, "
        "fingerprint, "
        "  agent_version, status, before, min_generation, generation, identity_generation, not_after, "
        "bootstrapped_at, "
        "  version, disabled, safe_mode, facts, frozen_reason, operator_safe_mode, token_generation, "
        "status_since)), "
        "counted AS (INSERT INTO agent_counts (status, n) SELECT s, sum(d) FROM "
        "  (SELECT before AS s, -1 AS d FROM c UNION ALL SELECT status, 1 FROM c) x GROUP BY s HAVING sum(d) "
        "<> 0), k AS (SELECT id::uuid AS id, status IN (5, 6) AS watched, generation, "
        "  CASE WHEN safe_mode THEN '!' ELSE '' END || safe_mode_reason AS known FROM c), "
        "beside AS (UPDATE heartbeats h SET watched = k.watched, known = k.known, known_generation = "
        "k.generation "
        "  FROM k WHERE h.agent_id = k.id AND "
        "  (h.watched, h.known, h.known_generation) IS DISTINCT FROM (k.watched, k.known, k.generation)) "
        "UPDATE agents a SET status = c.status, disabled = c.disabled, disabled_reason = c.disabled_reason, "
        "  safe_mode = c.safe_mode, safe_mode_reason = c.safe_mode_reason, min_generation = "
        "c.min_generation, "
        "  generation = c.generation, identity_generation = c.identity_generation, identity_fingerprint = "
        "c.fingerprint, "
        "  identity_not_after = c.not_after, bootstrapped_at = c.bootstrapped_at, facts = c.facts, "
        "  frozen_reason = c.frozen_reason, operator_safe_mode = c.operator_safe_mode, "
        "  token_generation = c.token_generation, status_since = c.status_since, "
        "  agent_version = c.agent_version, version = c.version FROM c WHERE a.id = c.id::uuid";
    if (n == 0)
        return CODE_OK;
    struct db_args *args = db_args_new(arena);
    arg_agents(args, agents, before, n, arena);
    return db_query(tx, sql, args, NULL, st);
}

#define LABELS_HOLD LABELS_HOLD_IN("a.labels")

static void arg_terms(struct db_args *args, const struct label_terms *terms)
{
    db_arg_text_array(args, terms->pair_name, terms->n_pairs);
    db_arg_text_array(args, terms->pair_value, terms->n_pairs);
    db_arg_text_array(args, terms->present, terms->n_present);
}

/* As the inside of a LIKE pattern, lower case: host names and ids are. */
static const char *like_escape(const char *text, struct arena *arena)
{
    char *out = arena_alloc(arena, 2 * strlen(text) + 1), *o = out;
    for (const char *c = text; *c; c++) {
        if (*c == '%' || *c == '_' || *c == '\\')
            *o++ = '\\';
        *o++ = *c >= 'A' && *c <= 'Z' ? (char)(*c + 32) : *c;
    }
    *o = '\0';
    return out;
}

/* The heartbeat is looked up row by row: whatever the planner guesses, a page never reads them all. */
#define SELECT_AGENTS                                                                                        \
    "SELECT " AGENT_COLUMNS " FROM agents a CROSS JOIN LATERAL (SELECT last_at, clock_skew_ms FROM "         \
    "heartbeats WHERE agent_id = a.id OFFSET 0) h WHERE "

enum code store_agent_get(struct db *db, const struct label_terms *terms, const char *id, struct arena *arena,
                          struct agent *ret, struct status *st)
{
    static const char sql[] = SELECT_AGENTS LABELS_HOLD " AND a.id = $4";
    struct db_args *args = db_args_new(arena);
    arg_terms(args, terms);
    db_arg_text(args, id);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query_one(db, sql, args, &rows, st));
    read_agent(rows, 0, arena, ret);
    return CODE_OK;
}

enum code store_agents_seen(struct db *db, const struct label_terms *terms, const char *const *ids, size_t n,
                            struct arena *arena, const char ***ret, size_t *ret_n, struct status *st)
{
    static const char sql[] = "SELECT a.id FROM agents a WHERE " LABELS_HOLD " AND a.id = ANY ($4::uuid[])";
    struct db_args *args = db_args_new(arena);
    arg_terms(args, terms);
    db_arg_text_array(args, ids, n);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(db, sql, args, &rows, st));
    *ret_n = db_rows_count(rows);
    *ret = arena_array(arena, *ret_n + 1, sizeof(**ret));
    for (size_t i = 0; i < *ret_n; i++)
        (*ret)[i] = arena_strdup(arena, db_text(rows, i, 0));
    return CODE_OK;
}

/* A prepared statement keeps one plan, so a filter that is not asked for must not stand in it as "or nothing
 * asked": each set of filters is a statement of its own. A parameter that one does not use is named all the
 * same: the server wants to know its type. */
#define WITHOUT_LABELS "$1::text[] IS NOT NULL AND $2::text[] IS NOT NULL AND $3::text[] IS NOT NULL"
#define WITH_STATUS    "a.status = ANY ($4::bigint[])"
#define WITHOUT_STATUS "$4::bigint[] IS NOT NULL"
/* $5: a pattern; $11, $12: the ids that begin as it says, NULL if it is not the beginning of one. */
#define WITH_SEARCH    "(a.hostname LIKE $5::text OR a.id BETWEEN $11::uuid AND $12::uuid)"
#define WITHOUT_SEARCH "$5::text IS NOT NULL AND $11::uuid IS NULL AND $12::uuid IS NULL"
#define WITH_REST                                                                                            \
    "($6::text IS NULL OR a.agent_version LIKE $6) AND ($7::timestamptz IS NULL OR a.identity_not_after < "  \
    "$7)"
#define WITHOUT_REST "$6::text IS NULL AND $7::timestamptz IS NULL"
/* $8, $9: key and id of the last one that was given. */
#define NO_ID        "00000000-0000-0000-0000-000000000000"
#define LAST_ID      "ffffffff-ffff-ffff-ffff-ffffffffffff"
#define BY_ID_UP     "$8::text IS NULL AND a.id > coalesce($9::uuid, '" NO_ID "') ORDER BY a.id"
#define BY_ID_DOWN   "$8::text IS NULL AND a.id < coalesce($9::uuid, '" LAST_ID "') ORDER BY a.id DESC"
#define BY_UP(key)   "(" key ", a.id) > ($8, $9::uuid) ORDER BY " key ", a.id"
#define BY_DOWN(key) "(" key ", a.id) < ($8, $9::uuid) ORDER BY " key " DESC, a.id DESC"
#define HOST_KEY     "(a.hostname COLLATE \"C\")"
#define EXPIRY_KEY   "coalesce(a.identity_not_after, 'infinity'::timestamptz)"
#define BEAT_KEY     "coalesce(h.last_at, '-infinity'::timestamptz)"
static const char *const list_orders[][2] = {
    [AGENTS_BY_ID] = {BY_ID_UP, BY_ID_DOWN},
    [AGENTS_BY_HOSTNAME] = {BY_UP(HOST_KEY), BY_DOWN(HOST_KEY)},
    [AGENTS_BY_EXPIRY] = {BY_UP(EXPIRY_KEY), BY_DOWN(EXPIRY_KEY)},
    [AGENTS_BY_HEARTBEAT] = {BY_UP(BEAT_KEY), BY_DOWN(BEAT_KEY)},
};
/* The page that nearly everybody asks for is said in the statement: of a LIMIT that it does not know, the
 * planner expects a tenth of the table, and plans anew each time. */
#define USUAL_MAX   51
#define USUAL_LIMIT "51"

static const char *list_sql(const struct agent_filter *filter, const struct label_terms *terms, size_t max,
                            struct arena *arena)
{
    bool labels = terms->n_pairs + terms->n_present > 0,
         rest = filter->version || filter->expires_before_ms > 0;
    return arena_printf(
        arena, SELECT_AGENTS "$10::bigint IS NOT NULL AND %s AND %s AND %s AND %s AND %s LIMIT %s",
        labels ? LABELS_HOLD : WITHOUT_LABELS, filter->status_bits ? WITH_STATUS : WITHOUT_STATUS,
        filter->search && *filter->search ? WITH_SEARCH : WITHOUT_SEARCH, rest ? WITH_REST : WITHOUT_REST,
        list_orders[filter->sort][filter->descending], max == USUAL_MAX ? USUAL_LIMIT : "$10");
}

/* Before the first of an order: a key that every one is behind. */
static void arg_place(struct db_args *args, const struct agent_filter *filter,
                      const struct agent_place *after)
{
    bool from_start = !after || !after->id;
    const char *key = from_start ? NULL : after->key;
    if (from_start && filter->sort == AGENTS_BY_HOSTNAME)
        key = filter->descending ? "\x7f" : "";
    else if (from_start && filter->sort != AGENTS_BY_ID)
        key = filter->descending ? "infinity" : "-infinity";
    const char *id = after ? after->id : NULL;
    if (from_start && filter->sort != AGENTS_BY_ID)
        id = filter->descending ? LAST_ID : NO_ID;
    db_arg_text(args, key);
    db_arg_text(args, id);
}

/* A part of three characters has a trigram, a shorter one is looked for at the beginning. */
static const char *hostname_pattern(const char *search, struct arena *arena)
{
    const char *plain = like_escape(search, arena);
    return strlen(search) < 3 ? arena_printf(arena, "%s%%", plain) : arena_printf(arena, "%%%s%%", plain);
}

/* The range of ids that begin with what is searched for; false if it is not that. */
static bool id_range(const char *search, struct arena *arena, const char **ret_first, const char **ret_last)
{
    enum { DIGITS = 32, DIGITS_MIN = 8 };
    char *first = arena_alloc(arena, DIGITS + 1), *last = arena_alloc(arena, DIGITS + 1);
    size_t n = 0;
    for (const char *c = search; *c; c++) {
        bool digit = strchr("0123456789abcdefABCDEF", *c) != NULL;
        if ((!digit && *c != '-') || n == DIGITS)
            return false;
        if (digit)
            first[n++] = *c;
    }
    if (n < DIGITS_MIN)
        return false;
    memcpy(last, first, n);
    memset(first + n, '0', DIGITS - n);
    memset(last + n, 'f', DIGITS - n);
    first[DIGITS] = last[DIGITS] = '\0';
    *ret_first = first;
    *ret_last = last;
    return true;
}

static void arg_search(struct db_args *args, const char *search, struct arena *arena)
{
    const char *first = NULL, *last = NULL;
    if (search)
        (void)id_range(search, arena, &first, &last);
    db_arg_text(args, first);
    db_arg_text(args, last);
}

enum code store_agents_select(struct db *db, const struct agent_filter *filter,
                              const struct label_terms *terms, const struct agent_place *after, size_t max,
                              struct arena *arena, struct agent **ret, size_t *ret_n, struct status *st)
{
    int64_t statuses[AGENT_STATUS_END];
    size_t n_statuses = 0;
    for (int status = 1; status < AGENT_STATUS_END; status++)
        if (filter->status_bits & (1u << status))
            statuses[n_statuses++] = status;
    bool search = filter->search && *filter->search;
    struct db_args *args = db_args_new(arena);
    arg_terms(args, terms);
    db_arg_int_array(args, statuses, n_statuses);
    db_arg_text(args, search ? hostname_pattern(filter->search, arena) : "");
    db_arg_text(args, filter->version ? store_pattern(filter->version, arena) : NULL);
    db_arg_time(args, filter->expires_before_ms > 0 ? filter->expires_before_ms : -1);
    arg_place(args, filter, after);
    db_arg_int(args, (int64_t)max);
    arg_search(args, search ? filter->search : NULL, arena);
    AUTO_ROWS struct db_rows *rows = NULL;
    const char *sql = list_sql(filter, terms, max, arena);
    /* How many names have the pattern decides the way: along the order until the page is full, or all that
     * match. */
    TRY(search ? db_query_planned(db, sql, args, &rows, st) : db_query(db, sql, args, &rows, st));
    read_agents(rows, arena, ret, ret_n);
    return CODE_OK;
}

/* ---- dashboard
 * ------------------------------------------------------------------------------------------------- */

enum code store_counts(struct db *db, const struct label_terms *terms, struct dashboard *ret,
                       struct arena *arena, struct status *st)
{
    static const char kept[] = "SELECT status, sum(n) FROM agent_counts GROUP BY status";
    static const char live[] = "SELECT status, count(*) FROM agents a WHERE " LABELS_HOLD " GROUP BY status";
    bool whole = terms->n_pairs == 0 && terms->n_present == 0;
    struct db_args *args = db_args_new(arena);
    if (!whole)
        arg_terms(args, terms);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(whole ? db_query(db, kept, args, &rows, st) : db_query(db, live, args, &rows, st));
    for (size_t i = 0; i < db_rows_count(rows); i++) {
        int64_t status = db_int(rows, i, 0);
        if (status > 0 && status < AGENT_STATUS_END)
            ret->count[status] = db_int(rows, i, 1);
    }
    ret->total = 0;
    for (int status = 1; status < AGENT_STATUS_END; status++)
        ret->total += ret->count[status];
    return CODE_OK;
}

void store_arg_terms(struct db_args *args, const struct label_terms *terms)
{
    arg_terms(args, terms);
}

const char *store_pattern(const char *text, struct arena *arena)
{
    size_t len = strlen(text);
    char *out = arena_alloc(arena, 2 * len + 2), *o = out;
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '*' && i + 1 == len) {
            *o++ = '%';
            break;
        }
        if (text[i] == '%' || text[i] == '_' || text[i] == '\\')
            *o++ = '\\';
        *o++ = text[i];
    }
    *o = '\0';
    return out;
}

enum code store_activity_list(struct db *db, const struct label_terms *terms,
                              const struct activity_filter *filter, size_t max, struct arena *arena,
                              struct activity **ret, size_t *ret_n, struct status *st)
{
    static const char sql[] =
        "SELECT v.occurred_at, v.event, v.agent_id, v.actor, v.message, v.id FROM activity v LEFT JOIN "
        "agents a "
        "ON a.id = v.agent_id "
        "WHERE ((cardinality($1::text[]) = 0 AND cardinality($3::text[]) = 0) OR (" LABELS_HOLD
        ")) AND ($4::uuid IS NULL OR v.agent_id = $4) AND ($5::text IS NULL OR v.actor = $5) "
        "AND ($6::text IS NULL OR v.event LIKE $6) AND ($7::bigint < 0 OR v.id < $7) ORDER BY v.id DESC "
        "LIMIT $8";
    struct db_args *args = db_args_new(arena);
    arg_terms(args, terms);
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
            .event = copy_text(rows, i, 1, arena),
            .agent_id = copy_text(rows, i, 2, arena),
            .actor = copy_text(rows, i, 3, arena),
            .message = copy_text(rows, i, 4, arena),
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

enum code store_counts_fold(struct db *db, struct status *st)
{
    static const char sql[] =
        "WITH old AS (DELETE FROM agent_counts RETURNING status, n) "
        "INSERT INTO agent_counts (status, n) SELECT status, sum(n) FROM old GROUP BY status "
        "HAVING sum(n) <> 0";
    TRY(db_query(db, sql, NULL, NULL, st));
    return store_tallies_fold(db, st);
}

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
    arg_timing(args, timing, now_ms);
    arg_heartbeats(args, beats, n, arena);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(db, sql, args, &rows, st));
    read_ids(rows, arena, ret_ids, ret_n);
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
    arg_timing(args, timing, now_ms);
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
    arg_timing(args, timing, now_ms);
    db_arg_time(args, now_ms);
    db_arg_int(args, (int64_t)max);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(db, sql, args, &rows, st));
    read_ids(rows, arena, ret_ids, ret_n);
    return CODE_OK;
}

/* ---- API keys
 * --------------------------------------------------------------------------------------------------- */

enum code store_key_insert(struct db *db, const struct api_key *key, const char *created_by,
                           const uint8_t hash[32], int64_t expires_at_ms, int64_t now_ms, struct arena *arena,
                           struct status *st)
{
    static const char sql[] =
        "INSERT INTO api_keys (id, name, hash, roles, label_selector, created_at, expires_at, created_by) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, key->id);
    db_arg_text(args, key->name);
    db_arg_bytes(args, hash, 32);
    db_arg_int(args, key->roles);
    db_arg_text(args, key->label_selector);
    db_arg_time(args, now_ms);
    db_arg_time(args, expires_at_ms);
    db_arg_text(args, created_by);
    return db_query(db, sql, args, NULL, st);
}

enum code store_key_get(struct db *db, const char *id, struct arena *arena, struct stored_key *ret,
                        struct status *st)
{
    static const char sql[] =
        "SELECT id, name, label_selector, roles, hash, expires_at, revoked_at IS NOT NULL "
        "FROM api_keys WHERE id = $1";
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, id);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query_one(db, sql, args, &rows, st));
    *ret = (struct stored_key){
        .key = {.id = copy_text(rows, 0, 0, arena),
                .name = copy_text(rows, 0, 1, arena),
                .label_selector = copy_text(rows, 0, 2, arena),
                .roles = (unsigned)db_int(rows, 0, 3)},
        .hash = copy_bytes(rows, 0, 4, arena).data,
        .expires_at_ms = db_time(rows, 0, 5),
        .revoked = db_bool(rows, 0, 6),
    };
    return CODE_OK;
}

enum code store_key_used(struct db *db, const char *id, int64_t now_ms, struct arena *arena,
                         struct status *st)
{
    static const char sql[] = "UPDATE api_keys SET last_used_at = $2 WHERE id = $1 AND "
                              "(last_used_at IS NULL OR last_used_at < $2 - interval '1 minute')";
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, id);
    db_arg_time(args, now_ms);
    return db_query(db, sql, args, NULL, st);
}

/* ---- operators
 * --------------------------------------------------------------------------------------------------- */

enum code store_operator_insert(struct db *tx, const struct operator_row *row, int64_t now_ms,
                                struct arena *arena, struct status *st)
{
    static const char sql[] = "INSERT INTO operators (id, name, password, roles, label_selector, created_at) "
                              "VALUES ($1, $2, $3, $4, $5, $6)";
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, row->id);
    db_arg_text(args, row->operator.name);
    db_arg_text(args, row->password);
    db_arg_int(args, row->operator.roles);
    db_arg_text(args, row->operator.label_selector);
    db_arg_time(args, now_ms);
    return db_query(tx, sql, args, NULL, st);
}

enum code store_operator_get(struct db *db, const char *name, struct arena *arena, struct operator_row *ret,
                             struct status *st)
{
    static const char sql[] = "SELECT id, name, label_selector, roles, password, disabled_at IS NOT NULL "
                              "FROM operators WHERE name = $1";
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, name);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query_one(db, sql, args, &rows, st));
    *ret = (struct operator_row){
        .id = copy_text(rows, 0, 0, arena),
        .operator= {.name = copy_text(rows, 0, 1, arena),
                    .label_selector = copy_text(rows, 0, 2, arena),
                    .roles = (unsigned)db_int(rows, 0, 3)},
        .password = copy_text(rows, 0, 4, arena),
        .disabled = db_bool(rows, 0, 5),
    };
    return CODE_OK;
}

enum code store_link_insert(struct db *db, const uint8_t hash[32], unsigned roles, int64_t now_ms,
                            int64_t expires_at_ms, struct arena *arena, struct status *st)
{
    static const char sql[] =
        "INSERT INTO operator_links (hash, roles, created_at, expires_at) VALUES ($1, $2, $3, $4)";
    struct db_args *args = db_args_new(arena);
    db_arg_bytes(args, hash, 32);
    db_arg_int(args, roles);
    db_arg_time(args, now_ms);
    db_arg_time(args, expires_at_ms);
    return db_query(db, sql, args, NULL, st);
}

enum code store_link_use(struct db *tx, const uint8_t hash[32], int64_t now_ms, struct arena *arena,
                         unsigned *ret_roles, struct status *st)
{
    static const char sql[] = "UPDATE operator_links SET used_at = $2 "
                              "WHERE hash = $1 AND used_at IS NULL AND expires_at > $2 RETURNING roles";
    struct db_args *args = db_args_new(arena);
    db_arg_bytes(args, hash, 32);
    db_arg_time(args, now_ms);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query_one(tx, sql, args, &rows, st));
    *ret_roles = (unsigned)db_int(rows, 0, 0);
    return CODE_OK;
}

enum code store_session_insert(struct db *tx, const struct session *session, const char *operator_id,
                               const uint8_t hash[32], struct arena *arena, struct status *st)
{
    static const char sql[] =
        "INSERT INTO sessions (id, hash, operator_id, source, created_at, expires_at, last_used_at) "
        "VALUES ($1, $2, $3, $4, $5, $6, $5)";
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, session->id);
    db_arg_bytes(args, hash, 32);
    db_arg_text(args, operator_id);
    db_arg_text(args, session->source);
    db_arg_time(args, session->created_at_ms);
    db_arg_time(args, session->expires_at_ms);
    return db_query(tx, sql, args, NULL, st);
}

#define SESSION_COLUMNS                                                                                      \
    "s.id, s.source, s.created_at, s.expires_at, s.last_used_at, o.name, o.label_selector, o.roles"
#define SESSION_FROM "sessions s JOIN operators o ON o.id = s.operator_id AND o.disabled_at IS NULL"

static struct session read_session(const struct db_rows *rows, size_t row, struct arena *arena)
{
    return (struct session){
        .id = copy_text(rows, row, 0, arena),
        .source = copy_text(rows, row, 1, arena),
        .created_at_ms = db_time(rows, row, 2),
        .expires_at_ms = db_time(rows, row, 3),
        .last_used_at_ms = db_time(rows, row, 4),
        .who = {.name = copy_text(rows, row, 5, arena),
                .label_selector = copy_text(rows, row, 6, arena),
                .roles = (unsigned)db_int(rows, row, 7)},
    };
}

enum code store_session_use(struct db *db, const uint8_t hash[32], int64_t now_ms, struct arena *arena,
                            struct session *ret, struct status *st)
{
    static const char get[] =
        "SELECT " SESSION_COLUMNS " FROM " SESSION_FROM " WHERE s.hash = $1 AND s.expires_at > $2";
    static const char touch[] = "UPDATE sessions SET last_used_at = $2 WHERE hash = $1 AND "
                                "last_used_at < $2 - interval '1 minute'";
    struct db_args *args = db_args_new(arena);
    db_arg_bytes(args, hash, 32);
    db_arg_time(args, now_ms);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query_one(db, get, args, &rows, st));
    *ret = read_session(rows, 0, arena);
    return db_query(db, touch, args, NULL, st);
}

enum code store_sessions_select(struct db *db, const char *name, const char *id, int64_t now_ms,
                                struct arena *arena, struct session **ret, size_t *ret_n, struct status *st)
{
    static const char sql[] =
        "SELECT " SESSION_COLUMNS " FROM " SESSION_FROM " WHERE o.name = $1 AND s.expires_at > $3 "
        "AND ($2::uuid IS NULL OR s.id = $2::uuid) ORDER BY s.id DESC LIMIT 200";
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, name);
    db_arg_text(args, id);
    db_arg_time(args, now_ms);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(db, sql, args, &rows, st));
    *ret_n = db_rows_count(rows);
    *ret = arena_array(arena, *ret_n + 1, sizeof(**ret));
    for (size_t i = 0; i < *ret_n; i++)
        (*ret)[i] = read_session(rows, i, arena);
    return CODE_OK;
}

enum code store_session_delete(struct db *db, const char *id, struct arena *arena, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, id);
    return db_query(db, "DELETE FROM sessions WHERE id = $1", args, NULL, st);
}

enum code store_attempt_add(struct db *db, const char *source, const char *name, int64_t now_ms,
                            int64_t ends_at_ms, struct arena *arena, int64_t *ret_of_name,
                            int64_t *ret_of_all, struct status *st)
{
    static const char sql[] =
        "INSERT INTO login_attempts (source, name, n, ends_at) VALUES ($1, '', 1, $4), ($1, $2, 1, $4) "
        "ON CONFLICT (source, name) DO UPDATE SET "
        "  n = CASE WHEN login_attempts.ends_at <= $3 THEN 1 ELSE login_attempts.n + 1 END, "
        "  ends_at = CASE WHEN login_attempts.ends_at <= $3 THEN $4 ELSE login_attempts.ends_at END "
        "RETURNING name = '', n";
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, source);
    db_arg_text(args, name);
    db_arg_time(args, now_ms);
    db_arg_time(args, ends_at_ms);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(db, sql, args, &rows, st));
    *ret_of_name = *ret_of_all = 0;
    for (size_t i = 0; i < db_rows_count(rows); i++)
        *(db_bool(rows, i, 0) ? ret_of_all : ret_of_name) = db_int(rows, i, 1);
    return CODE_OK;
}

enum code store_attempt_forgive(struct db *tx, const char *source, const char *name, struct arena *arena,
                                struct status *st)
{
    static const char sql[] = "UPDATE login_attempts SET n = CASE WHEN name = '' THEN n - 1 ELSE 0 END "
                              "WHERE source = $1 AND name IN ('', $2)";
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, source);
    db_arg_text(args, name);
    return db_query(tx, sql, args, NULL, st);
}

enum code store_operators_trim(struct db *db, int64_t now_ms, struct arena *arena, struct status *st)
{
    static const char sql[] = "WITH s AS (DELETE FROM sessions WHERE expires_at <= $1), "
                              "a AS (DELETE FROM login_attempts WHERE ends_at <= $1) "
                              "DELETE FROM operator_links WHERE expires_at <= $1";
    struct db_args *args = db_args_new(arena);
    db_arg_time(args, now_ms);
    return db_query(db, sql, args, NULL, st);
}
