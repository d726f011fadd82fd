/* The tallies' SQL (migrations/0011_tallies.sql, 0017_certificate_tallies.sql): triggers keep them, the fold
 * once a minute makes them few.
 */
#include "store_tallies.h"

#define LABELS_HOLD      LABELS_HOLD_IN("a.labels")
#define HOUR_OF(time)    "floor(extract(epoch FROM " time ") / 3600)::bigint"
#define KIND_SAFE_MODE   2
#define KIND_VERSION     3
#define KIND_OPEN_ALERTS 4
#define TALLIES_MAX      "500"
#define IN_SAFE_MODE     "(a.safe_mode OR a.operator_safe_mode OR a.frozen_reason <> '')"

static bool whole(const struct label_terms *terms)
{
    return terms->n_pairs == 0 && terms->n_present == 0;
}

/* Hours that are over before the edge are kept; within its own hour the index counts. */
enum code store_identity_ends(struct db *db, const struct label_terms *terms, const int64_t *edge_ms,
                              size_t n, struct arena *arena, int64_t *ret, int64_t *ret_all,
                              struct status *st)
{
    static const char kept[] =
        "SELECT (SELECT coalesce(sum(t.n), 0) FROM tallies t WHERE t.kind = 1 AND t.at < " HOUR_OF(
            "e") ") + "
                 "(SELECT count(*) FROM agents a WHERE a.identity_not_after >= to_timestamp(" HOUR_OF(
                     "e") " * 3600) "
                          "AND a.identity_not_after <= e AND NOT a.disabled), "
                          "(SELECT coalesce(sum(n), 0) FROM tallies WHERE kind = 1) "
                          "FROM unnest($1::timestamptz[]) WITH ORDINALITY AS x(e, i) ORDER BY i";
    static const char live[] =
        "SELECT (SELECT count(*) FROM agents a WHERE " LABELS_HOLD " AND a.identity_not_after <= e "
        "AND NOT a.disabled), (SELECT count(*) FROM agents a WHERE " LABELS_HOLD
        " AND a.identity_not_after IS NOT NULL AND NOT a.disabled) "
        "FROM unnest($4::timestamptz[]) WITH ORDINALITY AS x(e, i) ORDER BY i";
    struct db_args *args = db_args_new(arena);
    if (!whole(terms))
        store_arg_terms(args, terms);
    db_arg_time_array(args, edge_ms, n);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(whole(terms) ? db_query(db, kept, args, &rows, st) : db_query(db, live, args, &rows, st));
    for (size_t i = 0; i < n; i++)
        ret[i] = db_int(rows, i, 0);
    *ret_all = n > 0 ? db_int(rows, 0, 1) : 0;
    return CODE_OK;
}

/* The same of what the inventory has. A certificate that has left its last place counts until it is trimmed.
 */
enum code store_certificate_ends(struct db *db, const struct label_terms *terms, const int64_t *edge_ms,
                                 size_t n, struct arena *arena, struct certificate_ends *ret,
                                 struct certificate_ends *ret_all, struct status *st)
{
#define KEPT(kind) "(SELECT coalesce(sum(t.n), 0) FROM tallies t WHERE t.kind = " kind
#define IN_HOUR    "WHERE c.not_after >= to_timestamp(" HOUR_OF("e") " * 3600) AND c.not_after <= e"
    static const char kept[] = "SELECT " KEPT("5") " AND t.at < " HOUR_OF(
        "e") ") + (SELECT count(*) FROM certificates c " IN_HOUR
             "), " KEPT("6") " AND t.at < " HOUR_OF(
                 "e") ") + (SELECT count(*) FROM certificates c "
                      "JOIN certificate_places p ON p.certificate = c.id AND p.served " IN_HOUR
                      "), " KEPT("5") "), " KEPT(
                          "6") ") FROM unnest($1::timestamptz[]) WITH ORDINALITY AS x(e, i) ORDER BY i";
#undef KEPT
#undef IN_HOUR
    static const char live[] =
        "WITH mine AS MATERIALIZED (SELECT c.not_after, count(*) FILTER (WHERE p.served) AS served "
        "FROM agents a JOIN certificate_places p ON p.agent_id = a.id JOIN certificates c "
        "ON c.id = p.certificate WHERE " LABELS_HOLD " GROUP BY c.id) "
        "SELECT count(*) FILTER (WHERE m.not_after <= e), "
        "coalesce(sum(m.served) FILTER (WHERE m.not_after <= e), 0), count(m.not_after), "
        "coalesce(sum(m.served), 0) "
        "FROM unnest($4::timestamptz[]) WITH ORDINALITY AS x(e, i) LEFT JOIN mine m ON true "
        "GROUP BY i ORDER BY i";
    struct db_args *args = db_args_new(arena);
    if (!whole(terms))
        store_arg_terms(args, terms);
    db_arg_time_array(args, edge_ms, n);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(whole(terms) ? db_query(db, kept, args, &rows, st) : db_query(db, live, args, &rows, st));
    for (size_t i = 0; i < n; i++)
        ret[i] = (struct certificate_ends){db_int(rows, i, 0), db_int(rows, i, 1)};
    *ret_all = n > 0 ? (struct certificate_ends){db_int(rows, 0, 2), db_int(rows, 0, 3)}
                     : (struct certificate_ends){0};
    return CODE_OK;
}

static void read_tallies(const struct db_rows *rows, struct arena *arena, struct dashboard *ret)
{
    ret->versions = arena_array(arena, DASHBOARD_VERSIONS, sizeof(*ret->versions));
    for (size_t i = 0; i < db_rows_count(rows); i++) {
        int64_t at = db_int(rows, i, 1), n = db_int(rows, i, 3);
        switch (db_int(rows, i, 0)) {
        case KIND_SAFE_MODE:
            ret->in_safe_mode = n;
            break;
        case KIND_VERSION:
            if (ret->n_versions < DASHBOARD_VERSIONS)
                ret->versions[ret->n_versions++] =
                    (struct version_count){arena_strdup(arena, db_text(rows, i, 2)), n};
            break;
        case KIND_OPEN_ALERTS:
            ret->open_alerts += n;
            if (at > 0 && (size_t)at < ARRAY_LEN(ret->open_by_kind))
                ret->open_by_kind[at] = n;
            break;
        default:
            break;
        }
    }
}

enum code store_tallies(struct db *db, const struct label_terms *terms, struct arena *arena,
                        struct dashboard *ret, struct status *st)
{
    static const char kept[] =
        "SELECT kind, at, name, sum(n) FROM tallies WHERE kind BETWEEN 2 AND 4 GROUP BY 1, 2, 3 "
        "HAVING sum(n) <> 0 ORDER BY 4 DESC, 3 LIMIT " TALLIES_MAX;
    static const char live[] =
        "SELECT * FROM (SELECT 2, 0, '', count(*) FROM agents a WHERE " LABELS_HOLD " AND " IN_SAFE_MODE
        " UNION ALL SELECT 3, 0, a.agent_version, count(*) FROM agents a WHERE " LABELS_HOLD
        " AND a.agent_version <> '' GROUP BY 3 "
        "UNION ALL SELECT 4, v.kind, '', count(*) FROM alerts v JOIN agents a ON a.id = v.agent_id "
        "WHERE " LABELS_HOLD
        " AND v.resolved_at IS NULL AND v.acknowledged_at IS NULL GROUP BY 2) t(kind, at, name, n) "
        "ORDER BY n DESC, name LIMIT " TALLIES_MAX;
    struct db_args *args = db_args_new(arena);
    if (!whole(terms))
        store_arg_terms(args, terms);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(whole(terms) ? db_query(db, kept, args, &rows, st) : db_query(db, live, args, &rows, st));
    read_tallies(rows, arena, ret);
    return CODE_OK;
}

enum code store_tallies_fold(struct db *db, struct status *st)
{
    static const char sql[] =
        "WITH old AS (DELETE FROM tallies RETURNING kind, at, name, n) "
        "INSERT INTO tallies (kind, at, name, n) SELECT kind, at, name, sum(n) FROM old GROUP BY 1, 2, 3 "
        "HAVING sum(n) <> 0";
    return db_query(db, sql, NULL, NULL, st);
}
