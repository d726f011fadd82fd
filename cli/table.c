/* Tables and fields on a terminal. Pure but for the FILE. */
#include "cli/table.h"

#include <assert.h>
#include <string.h>

#include "base/clock.h"

struct row {
    struct row *next;
    const char *cells[TABLE_COLUMNS_MAX];
};

struct table {
    struct arena *arena;
    size_t n_columns;
    size_t width[TABLE_COLUMNS_MAX]; /* in characters */
    struct row *first, **end;
};

/* Characters of UTF-8 text: bytes that do not continue another. */
static size_t characters(const char *text)
{
    size_t n = 0;
    for (; *text; text++)
        n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

static const char *printable(struct arena *arena, const char *text)
{
    char *copy = arena_strdup(arena, text);
    for (char *p = copy; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
    return copy;
}

void table_row(struct table *table, const char *const *cells)
{
    struct row *row = arena_alloc(table->arena, sizeof(*row));
    for (size_t i = 0; i < table->n_columns; i++) {
        row->cells[i] = cells[i] && *cells[i] ? printable(table->arena, cells[i]) : "-";
        size_t width = characters(row->cells[i]);
        if (width > table->width[i])
            table->width[i] = width;
    }
    *table->end = row;
    table->end = &row->next;
}

struct table *table_new(struct arena *arena, const char *const *headings, size_t n)
{
    assert(n <= TABLE_COLUMNS_MAX);
    struct table *table = arena_alloc(arena, sizeof(*table));
    table->arena = arena;
    table->n_columns = n;
    table->end = &table->first;
    table_row(table, headings);
    return table;
}

void table_print(const struct table *table, FILE *out)
{
    for (const struct row *row = table->first; row; row = row->next) {
        for (size_t i = 0; i < table->n_columns; i++) {
            size_t pad = i + 1 < table->n_columns ? table->width[i] - characters(row->cells[i]) + 2 : 0;
            (void)fprintf(out, "%s%*s", row->cells[i], (int)pad, "");
        }
        (void)fputc('\n', out);
    }
}

const char *table_time(struct arena *arena, int has, int64_t wall_ms)
{
    if (!has)
        return NULL;
    char text[CLOCK_RFC3339_SIZE];
    clock_format_rfc3339(wall_ms, text);
    return arena_printf(arena, "%.10s %.8sZ", text, text + 11);
}

void table_field(FILE *out, const char *name, const char *value)
{
    if (!value || !*value)
        return;
    (void)fprintf(out, "%-14s ", name);
    for (const char *p = value; *p; p++)
        (void)fputc((unsigned char)*p < 0x20 || *p == 0x7f ? '?' : *p, out);
    (void)fputc('\n', out);
}
