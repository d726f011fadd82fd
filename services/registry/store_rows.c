/* See store_rows.h. */
#include "store_rows.h"

#include <string.h>

void store_arg_timing(struct db_args *args, const struct timing *timing, int64_t now_ms)
{
    db_arg_time(args, now_ms - timing->gateway_silence_ms);
    db_arg_int(args, timing->reattach_window_ms);
}

const char *row_text(const struct db_rows *rows, size_t row, int col, struct arena *arena)
{
    return arena_strdup(arena, db_text(rows, row, col));
}

struct bytes row_bytes(const struct db_rows *rows, size_t row, int col, struct arena *arena)
{
    if (db_is_null(rows, row, col))
        return (struct bytes){0};
    size_t len;
    const void *data = db_bytes(rows, row, col, &len);
    return (struct bytes){arena_dup(arena, len ? data : "", len ? len : 1), len};
}

void rows_ids(const struct db_rows *rows, struct arena *arena, const char ***ret, size_t *ret_n)
{
    *ret_n = db_rows_count(rows);
    *ret = arena_array(arena, *ret_n + 1, sizeof(**ret));
    for (size_t i = 0; i < *ret_n; i++)
        (*ret)[i] = row_text(rows, i, 0, arena);
}

void store_arg_terms(struct db_args *args, const struct label_terms *terms)
{
    db_arg_text_array(args, terms->pair_name, terms->n_pairs);
    db_arg_text_array(args, terms->pair_value, terms->n_pairs);
    db_arg_text_array(args, terms->present, terms->n_present);
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
