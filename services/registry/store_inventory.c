/* The inventory's SQL. Blocking, on the session of the calling thread; rows are copied into the caller's
 * arena. */
#include "store_inventory.h"
#include "store_rows.h"

/* One column of many rows, as an array for unnest. */
#define COLUMN(type, name, rows, n, field)                                                                   \
    type *name = arena_array(arena, (n) + 1, sizeof(*(name)));                                               \
    for (size_t i_ = 0; i_ < (n); i_++)                                                                      \
    (name)[i_] = (rows)[i_].field

enum code store_certificates_add(struct db *tx, const struct scan_page *page, struct arena *arena,
                                 struct status *st)
{
    /* In one order, so that two scans never wait for one another. */
    static const char sql[] =
        "INSERT INTO certificates (id, fingerprint, subject, issuer, serial, dns_names, not_before, "
        "not_after, key_type, signature_algorithm, is_ca, self_signed, first_seen_at) "
        "SELECT i, f, s, u, n, string_to_array(d, E'\\n'), b, e, k, a, c, o, $13 "
        "FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], "
        "$7::timestamptz[], $8::timestamptz[], $9::text[], $10::text[], $11::boolean[], $12::boolean[]) "
        "AS x(i, f, s, u, n, d, b, e, k, a, c, o) ORDER BY i ON CONFLICT DO NOTHING";
    const struct certificate *rows = page->certificates;
    size_t n = page->n_certificates;
    COLUMN(const char *, id, rows, n, id);
    COLUMN(const char *, fingerprint, rows, n, fingerprint);
    COLUMN(const char *, subject, rows, n, subject);
    COLUMN(const char *, issuer, rows, n, issuer);
    COLUMN(const char *, serial, rows, n, serial);
    COLUMN(const char *, dns_names, rows, n, dns_names);
    COLUMN(int64_t, not_before, rows, n, not_before_ms);
    COLUMN(int64_t, not_after, rows, n, not_after_ms);
    COLUMN(const char *, key_type, rows, n, key_type);
    COLUMN(const char *, signature, rows, n, signature_algorithm);
    COLUMN(bool, is_ca, rows, n, is_ca);
    COLUMN(bool, self_signed, rows, n, self_signed);
    struct db_args *args = db_args_new(arena);
    db_arg_text_array(args, id, n);
    db_arg_text_array(args, fingerprint, n);
    db_arg_text_array(args, subject, n);
    db_arg_text_array(args, issuer, n);
    db_arg_text_array(args, serial, n);
    db_arg_text_array(args, dns_names, n);
    db_arg_time_array(args, not_before, n);
    db_arg_time_array(args, not_after, n);
    db_arg_text_array(args, key_type, n);
    db_arg_text_array(args, signature, n);
    db_arg_bool_array(args, is_ca, n);
    db_arg_bool_array(args, self_signed, n);
    db_arg_time(args, page->seen_ms);
    return db_query(tx, sql, args, NULL, st);
}

enum code store_places_add(struct db *tx, const struct scan_page *page, struct arena *arena,
                           struct status *st)
{
    static const char sql[] =
        "INSERT INTO certificate_places AS p (agent_id, key, certificate, source, place, server_name, alias, "
        "used_by, key_path, process, served, first_seen_at, last_seen_at) "
        "SELECT DISTINCT ON (k) $1::uuid, k, c, s, l, n, a, u, y, o, v, $12, $12 "
        "FROM unnest($2::bytea[], $3::text[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::text[], "
        "$9::text[], $10::text[], $11::boolean[]) AS x(k, c, s, l, n, a, u, y, o, v) "
        "WHERE EXISTS (SELECT FROM agents WHERE id = $1::uuid) ORDER BY k "
        "ON CONFLICT (agent_id, key) DO UPDATE SET alias = EXCLUDED.alias, used_by = EXCLUDED.used_by, "
        "key_path = EXCLUDED.key_path, process = EXCLUDED.process, served = EXCLUDED.served, "
        "last_seen_at = EXCLUDED.last_seen_at WHERE p.last_seen_at <= EXCLUDED.last_seen_at";
    const struct certificate_place *rows = page->places;
    size_t n = page->n_places;
    const void **keys = arena_array(arena, n + 1, sizeof(*keys));
    size_t *lens = arena_array(arena, n + 1, sizeof(*lens));
    for (size_t i = 0; i < n; i++) {
        keys[i] = rows[i].key;
        lens[i] = sizeof(rows[i].key);
    }
    COLUMN(const char *, certificate, rows, n, certificate);
    COLUMN(int64_t, source, rows, n, source);
    COLUMN(const char *, place, rows, n, place);
    COLUMN(const char *, server_name, rows, n, server_name);
    COLUMN(const char *, alias, rows, n, alias);
    COLUMN(const char *, used_by, rows, n, used_by);
    COLUMN(const char *, key_path, rows, n, key_path);
    COLUMN(const char *, process, rows, n, process);
    COLUMN(bool, served, rows, n, served);
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, page->agent_id);
    db_arg_bytes_array(args, keys, lens, n);
    db_arg_text_array(args, certificate, n);
    db_arg_int_array(args, source, n);
    db_arg_text_array(args, place, n);
    db_arg_text_array(args, server_name, n);
    db_arg_text_array(args, alias, n);
    db_arg_text_array(args, used_by, n);
    db_arg_text_array(args, key_path, n);
    db_arg_text_array(args, process, n);
    db_arg_bool_array(args, served, n);
    db_arg_time(args, page->seen_ms);
    return db_query(tx, sql, args, NULL, st);
}

enum code store_places_supersede(struct db *tx, const struct scan_page *page, struct arena *arena,
                                 struct status *st)
{
    static const char sql[] =
        "DELETE FROM certificate_places p USING unnest($3::bigint[], $4::text[], $5::text[]) AS x(s, l, n) "
        "WHERE p.agent_id = $1::uuid AND p.last_seen_at < $2 AND p.source = x.s AND p.place = x.l "
        "AND coalesce(p.server_name, '') = coalesce(x.n, '')";
    COLUMN(int64_t, source, page->places, page->n_places, source);
    COLUMN(const char *, place, page->places, page->n_places, place);
    COLUMN(const char *, server_name, page->places, page->n_places, server_name);
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, page->agent_id);
    db_arg_time(args, page->seen_ms);
    db_arg_int_array(args, source, page->n_places);
    db_arg_text_array(args, place, page->n_places);
    db_arg_text_array(args, server_name, page->n_places);
    return db_query(tx, sql, args, NULL, st);
}

enum code store_places_replace(struct db *tx, const struct scan_page *page, struct arena *arena,
                               struct status *st)
{
    static const char sql[] =
        "DELETE FROM certificate_places p WHERE p.agent_id = $1::uuid AND p.last_seen_at < $2 AND "
        "((p.source = 2 AND $3) OR (p.source = 3 AND $4) OR (p.source = 1 AND $5 AND "
        "(cardinality($6::text[]) = 0 OR EXISTS (SELECT FROM unnest($6::text[]) AS r "
        "WHERE r = '/' OR p.place = r OR starts_with(p.place, r || '/')))))";
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, page->agent_id);
    db_arg_time(args, page->seen_ms);
    db_arg_bool(args, page->configurations);
    db_arg_bool(args, page->listening);
    db_arg_bool(args, page->files);
    db_arg_text_array(args, page->roots, page->n_roots);
    return db_query(tx, sql, args, NULL, st);
}

/* --- reading ------------------------------------------------------------------------------------------ */

/* $1–$3: the selector. */
#define WITHIN                                                                                               \
    "((cardinality($1::text[]) = 0 AND cardinality($3::text[]) = 0) OR (a.labels @> "                        \
    "(SELECT coalesce(jsonb_object_agg(n, v), '{}') FROM unnest($1::text[], $2::text[]) l(n, v)) "           \
    "AND a.labels ?& $3::text[]))"

enum code store_certificates_select(struct db *db, const struct label_terms *terms,
                                    const struct certificate_filter *filter, size_t max, struct arena *arena,
                                    struct certificate **ret, size_t *ret_n, struct status *st)
{
    static const char sql[] =
        "SELECT c.id, c.fingerprint, c.subject, c.issuer, c.serial, array_to_string(c.dns_names, E'\\n'), "
        "c.not_before, c.not_after, c.key_type, c.signature_algorithm, c.is_ca, c.self_signed, "
        "v.places, v.agents, v.served FROM certificates c CROSS JOIN LATERAL "
        "(SELECT count(*) AS places, count(DISTINCT p.agent_id) AS agents, coalesce(bool_or(p.served), "
        "false) "
        "AS served FROM certificate_places p JOIN agents a ON a.id = p.agent_id "
        "WHERE p.certificate = c.id AND ($4::uuid IS NULL OR p.agent_id = $4) AND " WITHIN ") v "
        "WHERE v.places > 0 AND ($5::bigint < 0 OR v.served = ($5 = 1)) "
        "AND ($6::timestamptz IS NULL OR c.not_after < $6) AND ($7::text IS NULL OR c.fingerprint = $7) "
        "AND ($8::text IS NULL OR position(lower($8) IN lower(c.issuer)) > 0) "
        "AND ($9::text IS NULL OR starts_with(lower(c.key_type), lower($9))) "
        "AND ($10::text IS NULL OR lower($10) = ANY (c.dns_names) "
        "OR position(lower($10) IN lower(c.subject)) > 0) "
        "AND ($11::timestamptz IS NULL OR (c.not_after, c.id) > ($11, $12::text)) "
        "ORDER BY c.not_after, c.id LIMIT $13";
    struct db_args *args = db_args_new(arena);
    store_arg_terms(args, terms);
    db_arg_text(args, filter->agent_id);
    db_arg_int(args, filter->served);
    db_arg_time(args, filter->expires_before_ms);
    db_arg_text(args, filter->fingerprint);
    db_arg_text(args, filter->issuer);
    db_arg_text(args, filter->key_type);
    db_arg_text(args, filter->name);
    db_arg_time(args, filter->after_ms);
    db_arg_text(args, filter->after_id);
    db_arg_int(args, (int64_t)max);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(db, sql, args, &rows, st));
    *ret_n = db_rows_count(rows);
    *ret = arena_array(arena, *ret_n + 1, sizeof(**ret));
    for (size_t i = 0; i < *ret_n; i++)
        (*ret)[i] = (struct certificate){
            .id = row_text(rows, i, 0, arena),
            .fingerprint = row_text(rows, i, 1, arena),
            .subject = row_text(rows, i, 2, arena),
            .issuer = row_text(rows, i, 3, arena),
            .serial = row_text(rows, i, 4, arena),
            .dns_names = row_text(rows, i, 5, arena),
            .not_before_ms = db_time(rows, i, 6),
            .not_after_ms = db_time(rows, i, 7),
            .key_type = row_text(rows, i, 8, arena),
            .signature_algorithm = row_text(rows, i, 9, arena),
            .is_ca = db_bool(rows, i, 10),
            .self_signed = db_bool(rows, i, 11),
            .n_places = db_int(rows, i, 12),
            .n_agents = db_int(rows, i, 13),
            .served = db_bool(rows, i, 14),
        };
    return CODE_OK;
}

enum code store_places_select(struct db *db, const struct label_terms *terms,
                              const struct certificate_filter *filter, const struct certificate *certificates,
                              size_t n, size_t max_each, struct arena *arena, struct certificate_place **ret,
                              size_t *ret_n, struct status *st)
{
    static const char sql[] =
        "SELECT x.i, p.source, p.place, p.server_name, p.alias, p.used_by, p.key_path, p.process, p.served, "
        "p.agent_id, p.hostname, p.first_seen_at, p.last_seen_at "
        "FROM unnest($5::text[]) WITH ORDINALITY AS x(i, o) CROSS JOIN LATERAL "
        "(SELECT p.*, a.hostname FROM certificate_places p JOIN agents a ON a.id = p.agent_id "
        "WHERE p.certificate = x.i AND ($4::uuid IS NULL OR p.agent_id = $4) AND " WITHIN
        " ORDER BY p.served DESC, p.agent_id, p.source, p.key LIMIT $6) p ORDER BY x.o";
    COLUMN(const char *, id, certificates, n, id);
    struct db_args *args = db_args_new(arena);
    store_arg_terms(args, terms);
    db_arg_text(args, filter->agent_id);
    db_arg_text_array(args, id, n);
    db_arg_int(args, (int64_t)max_each);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(db, sql, args, &rows, st));
    *ret_n = db_rows_count(rows);
    *ret = arena_array(arena, *ret_n + 1, sizeof(**ret));
    for (size_t i = 0; i < *ret_n; i++)
        (*ret)[i] = (struct certificate_place){
            .certificate = row_text(rows, i, 0, arena),
            .source = (enum place_source)db_int(rows, i, 1),
            .place = row_text(rows, i, 2, arena),
            .server_name = row_text(rows, i, 3, arena),
            .alias = row_text(rows, i, 4, arena),
            .used_by = row_text(rows, i, 5, arena),
            .key_path = row_text(rows, i, 6, arena),
            .process = row_text(rows, i, 7, arena),
            .served = db_bool(rows, i, 8),
            .agent_id = row_text(rows, i, 9, arena),
            .hostname = row_text(rows, i, 10, arena),
            .first_seen_ms = db_time(rows, i, 11),
            .last_seen_ms = db_time(rows, i, 12),
        };
    return CODE_OK;
}

enum code store_certificates_trim(struct db *db, int64_t before_ms, struct arena *arena, struct status *st)
{
    static const char sql[] = "DELETE FROM certificates c WHERE c.first_seen_at < $1 AND NOT EXISTS "
                              "(SELECT FROM certificate_places p WHERE p.certificate = c.id)";
    struct db_args *args = db_args_new(arena);
    db_arg_time(args, before_ms);
    return db_query(db, sql, args, NULL, st);
}
