/* The registry's SQL. Blocking, on the session of the calling thread; rows are copied into the caller's
 * arena. */
#include "store_rows.h"
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
        .id = row_text(rows, i, COL_ID, arena),
        .hostname = row_text(rows, i, COL_HOSTNAME, arena),
        .status = (enum agent_status)db_int(rows, i, COL_STATUS),
        .disabled = db_bool(rows, i, COL_DISABLED),
        .disabled_reason = row_text(rows, i, COL_DISABLED_REASON, arena),
        .safe_mode = db_bool(rows, i, COL_SAFE_MODE),
        .safe_mode_reason = row_text(rows, i, COL_SAFE_MODE_REASON, arena),
        .scope = row_bytes(rows, i, COL_SCOPE, arena),
        .facts = row_bytes(rows, i, COL_FACTS, arena),
        .min_generation = db_int(rows, i, COL_MIN_GENERATION),
        .generation = db_int(rows, i, COL_GENERATION),
        .identity_generation = db_int(rows, i, COL_IDENTITY_GENERATION),
        .identity_fingerprint = row_text(rows, i, COL_FINGERPRINT, arena),
        .identity_not_after_ms = db_time(rows, i, COL_NOT_AFTER),
        .created_at_ms = db_time(rows, i, COL_CREATED),
        .bootstrapped_at_ms = db_time(rows, i, COL_BOOTSTRAPPED),
        .agent_version = row_text(rows, i, COL_AGENT_VERSION, arena),
        .version = db_int(rows, i, COL_VERSION),
        .last_heartbeat_at_ms = db_time(rows, i, COL_LAST_AT),
        .clock_skew_ms = db_int(rows, i, COL_SKEW),
        .offline_at_ms = -1,
        .frozen_reason = row_text(rows, i, COL_FROZEN_REASON, arena),
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
    *ret_request_sha256 = row_bytes(rows, 0, COL_EXTRA, arena);
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
    store_arg_timing(args, timing, now_ms);
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

enum code store_identity_pending(struct db *tx, const char *id, const struct pending_identity *what,
                                 struct arena *arena, struct status *st)
{
    static const char sql[] =
        "INSERT INTO identities_pending (agent_id, generation, fingerprint, not_after) VALUES ($1, $2, $3, "
        "$4) "
        "ON CONFLICT (agent_id, generation) DO UPDATE SET fingerprint = $3, not_after = $4";
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, id);
    db_arg_int(args, what->generation);
    db_arg_text(args, what->fingerprint);
    db_arg_time(args, what->not_after_ms);
    return db_query(tx, sql, args, NULL, st);
}

enum code store_identity_confirmed(struct db *tx, const char *id, int64_t generation, struct arena *arena,
                                   struct pending_identity *ret, struct status *st)
{
    *ret = (struct pending_identity){0};
    struct db_args *hold = db_args_new(arena), *args = db_args_new(arena);
    db_arg_text(hold, id);
    TRY(db_query(tx, "SELECT id FROM agents WHERE id = $1 FOR UPDATE", hold, NULL, st));
    db_arg_text(args, id);
    db_arg_int(args, generation);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(tx,
                 "DELETE FROM identities_pending WHERE agent_id = $1 AND generation <= $2 "
                 "RETURNING generation, fingerprint, not_after",
                 args, &rows, st));
    for (size_t i = 0; i < db_rows_count(rows); i++)
        if (db_int(rows, i, 0) == generation)
            *ret = (struct pending_identity){generation, db_time(rows, i, 2), row_text(rows, i, 1, arena)};
    return CODE_OK;
}

#define LABELS_HOLD LABELS_HOLD_IN("a.labels")

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
    store_arg_terms(args, terms);
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
    store_arg_terms(args, terms);
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
    store_arg_terms(args, terms);
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
        store_arg_terms(args, terms);
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

enum code store_counts_fold(struct db *db, struct status *st)
{
    static const char sql[] =
        "WITH old AS (DELETE FROM agent_counts RETURNING status, n) "
        "INSERT INTO agent_counts (status, n) SELECT status, sum(n) FROM old GROUP BY status "
        "HAVING sum(n) <> 0";
    TRY(db_query(db, sql, NULL, NULL, st));
    return store_tallies_fold(db, st);
}
