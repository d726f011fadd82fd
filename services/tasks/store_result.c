/* Pages of results, and receipts. */
#include "store_parts.h"

#include <string.h>

enum code store_page_put(struct db *db, struct arena *arena, const struct result_submission *page,
                         int64_t now_ms, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, page->task_id);
    db_arg_int(args, page->attempt);
    db_arg_int(args, page->page);
    db_arg_bytes(args, page->data.data ? page->data.data : (const uint8_t *)"", page->data.len);
    db_arg_time(args, now_ms);
    return db_query(
        db,
        "INSERT INTO result_pages (task_id, attempt, page, data, received_at) VALUES ($1, $2, $3, $4, $5) "
        "ON CONFLICT (task_id, attempt, page) DO UPDATE SET data = excluded.data, received_at = "
        "excluded.received_at WHERE result_pages.data <> excluded.data",
        args, NULL, st);
}

enum code store_pages_get(struct db *db, struct arena *arena, const char *task_id, unsigned attempt,
                          unsigned pages, struct bytes *ret, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, task_id);
    db_arg_int(args, attempt);
    db_arg_int(args, pages);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(db,
                 "SELECT page, data FROM result_pages WHERE task_id = $1 AND attempt = $2 AND page <= $3 "
                 "ORDER BY page",
                 args, &rows, st));
    size_t n = db_rows_count(rows), total = 0, len;
    for (size_t i = 0; i < pages; i++) {
        if (i >= n || db_int(rows, i, 0) != (int64_t)i + 1)
            return status_set(
                st, CODE_FAILED_PRECONDITION,
                "page %zu of %u of the result is missing: send the pages, then the receipt again", i + 1,
                pages);
        (void)db_bytes(rows, i, 1, &len);
        total += len;
    }
    uint8_t *all = arena_alloc(arena, total + 1);
    for (size_t i = 0, used = 0; i < pages; i++, used += len) {
        const void *data = db_bytes(rows, i, 1, &len);
        memcpy(all + used, data, len);
    }
    *ret = (struct bytes){all, total};
    return CODE_OK;
}

enum code store_pages_delete(struct db *db, struct arena *arena, const char *task_id, unsigned attempt,
                             struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, task_id);
    db_arg_int(args, attempt);
    return db_query(db, "DELETE FROM result_pages WHERE task_id = $1 AND attempt <= $2", args, NULL, st);
}

enum code store_receipt_put(struct db *db, struct arena *arena, const struct receipt *receipt,
                            struct bytes cms, struct bytes digest, bool late, struct bytes result,
                            int64_t now_ms, bool *ret_fresh, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, receipt->task_id);
    db_arg_int(args, receipt->attempt);
    db_arg_bytes(args, digest.data, digest.len);
    db_arg_bytes(args, cms.data, cms.len);
    db_arg_int(args, receipt->generation);
    db_arg_int(args, receipt->outcome);
    db_arg_bool(args, late);
    db_arg_bytes(args, result.data, result.len);
    db_arg_time(args, now_ms);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(db,
                 "INSERT INTO receipts (task_id, attempt, sha256, receipt, generation, outcome, late, "
                 "result, received_at) "
                 "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING RETURNING 1",
                 args, &rows, st));
    *ret_fresh = db_rows_count(rows) == 1;
    return CODE_OK;
}

enum code store_receipt_exists(struct db *db, struct arena *arena, const char *task_id, unsigned attempt,
                               struct bytes digest, bool *ret_exists, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, task_id);
    db_arg_int(args, attempt);
    db_arg_bytes(args, digest.data, digest.len);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(db, "SELECT 1 FROM receipts WHERE task_id = $1 AND attempt = $2 AND sha256 = $3", args,
                 &rows, st));
    *ret_exists = db_rows_count(rows) == 1;
    return CODE_OK;
}

enum code store_drop_old_pages(struct db *db, struct arena *arena, int64_t before_ms, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_time(args, before_ms);
    return db_query(db, "DELETE FROM result_pages WHERE received_at < $1", args, NULL, st);
}
