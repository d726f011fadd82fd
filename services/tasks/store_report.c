/* Reports of VALIDATE tasks, by the index of those that have one (migrations/0006_reports.sql). */
#include "store_parts.h"

/* A longer one is left where it is: a page of them would not fit into memory. */
#define RESULT_MAX "131072"
#define LAST_ID    "ffffffff-ffff-ffff-ffff-ffffffffffff"
#define WITHIN                                                                                               \
    "EXISTS (SELECT FROM agents a WHERE a.agent_id = t.agent_id AND NOT a.deleted AND " LABELS_HOLD_IN(      \
        "a.labels") ")"
#define ALL "$1::text[] IS NOT NULL AND $2::text[] IS NOT NULL AND $3::text[] IS NOT NULL"

enum code store_reports_select(struct db *db, struct arena *arena, const struct report_filter *filter,
                               struct report **ret, size_t *ret_n, struct status *st)
{
    struct label_terms terms;
    TRY(label_terms_read(filter->selector, NULL, 0, arena, &terms, st));
    bool whole = terms.n_pairs + terms.n_present == 0;
    const char *sql =
        arena_printf(arena,
                     "SELECT " T_TASK_COLUMNS ", CASE WHEN octet_length(t.result) <= " RESULT_MAX
                     " THEN t.result END, t.verdict FROM tasks t WHERE t.verdict IS NOT NULL "
                     "AND t.finished_at IS NOT NULL AND %s AND %s AND (cardinality($5::bigint[]) = 0 OR "
                     "t.verdict = ANY ($5)) AND t.id < $6 ORDER BY t.id DESC LIMIT $7",
                     whole ? ALL : WITHIN, filter->agent_id ? "t.agent_id = $4" : "$4::text IS NULL");
    struct db_args *args = db_args_new(arena);
    store_arg_terms(args, &terms);
    db_arg_text(args, filter->agent_id);
    db_arg_int_array(args, filter->verdicts, filter->n_verdicts);
    db_arg_text(args, filter->before_id ? filter->before_id : LAST_ID);
    db_arg_int(args, filter->limit);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(db, sql, args, &rows, st));
    *ret_n = db_rows_count(rows);
    *ret = arena_array(arena, *ret_n + 1, sizeof(**ret));
    for (size_t i = 0; i < *ret_n; i++) {
        store_task_read(rows, i, arena, &(*ret)[i].task);
        (*ret)[i].result = store_bytes(rows, i, TASK_COLUMN_COUNT, arena);
        (*ret)[i].verdict = (int)db_int(rows, i, TASK_COLUMN_COUNT + 1);
    }
    return CODE_OK;
}
