/* Tables and fields on a terminal. Pure but for the FILE. */
#include "cli/table.h"

#include <assert.h>
#include <string.h>

#include "base/clock.h"
#include "cli/command.h"

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

/* The code point at text and its length; 0 for what is no UTF-8. */
static size_t code_point(const unsigned char *text, unsigned *ret)
{
    size_t len = *text < 0x80 ? 1 : *text >= 0xf0 ? 4 : *text >= 0xe0 ? 3 : *text >= 0xc2 ? 2 : 0;
    *ret = len < 2 ? *text : *text & (0xffu >> (len + 1));
    for (size_t i = 1; i < len; i++) {
        if ((text[i] & 0xc0) != 0x80)
            return 0;
        *ret = *ret << 6 | (text[i] & 0x3fu);
    }
    return len;
}

/* Controls, and what changes the direction of a line or has no width. */
static bool is_printable(unsigned c)
{
    return !(c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0xad || c == 0x61c || (c >= 0x200b && c <= 0x200f) ||
             (c >= 0x2028 && c <= 0x202e) || (c >= 0x2060 && c <= 0x206f) || c == 0xfeff || c > 0x10ffff);
}

const char *table_printable(struct arena *arena, const char *text)
{
    enum { ESCAPE_SIZE = sizeof("\\uffff") };
    char *copy = arena_alloc(arena, 6 * strlen(text) + ESCAPE_SIZE), *out = copy;
    for (const unsigned char *at = (const unsigned char *)text; *at;) {
        unsigned c;
        size_t len = code_point(at, &c);
        if (len > 0 && is_printable(c)) {
            memcpy(out, at, len);
            out += len;
        } else if (len > 1) {
            out += snprintf(out, ESCAPE_SIZE, "\\u%04x", c & 0xffffu);
        } else {
            out += snprintf(out, ESCAPE_SIZE, "\\x%02x", *at);
        }
        at += len > 0 ? len : 1;
    }
    *out = '\0';
    return copy;
}

/* Words whose meaning a colour helps to see; everything else is plain. */
static const char *color_of(const char *cell)
{
    static const struct {
        const char *color, *words[12];
    } colors[] = {
        {"\033[32m", {"ONLINE", "SUCCEEDED", "RESOLVED", "PASS", "ACTIVE", "ok"}},
        {"\033[31m", {"OFFLINE", "FAILED", "EXPIRED", "DISABLED", "OPEN", "FAIL"}},
        {"\033[33m",
         {"SAFE_MODE", "RUNNING", "LEASED", "WARN", "ACKNOWLEDGED", "BOOTSTRAPPING", "INVITED",
          "INSTALLED_UNVERIFIED"}},
    };
    for (size_t i = 0; i < ARRAY_LEN(colors); i++)
        for (size_t k = 0; k < ARRAY_LEN(colors[i].words) && colors[i].words[k]; k++)
            if (strcmp(cell, colors[i].words[k]) == 0)
                return colors[i].color;
    return NULL;
}

void table_row(struct table *table, const char *const *cells)
{
    struct row *row = arena_alloc(table->arena, sizeof(*row));
    for (size_t i = 0; i < table->n_columns; i++) {
        row->cells[i] = cells[i] && *cells[i] ? table_printable(table->arena, cells[i]) : "-";
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
    bool terminal = cli_is_terminal(out);
    for (const struct row *row = table->first; row; row = row->next) {
        for (size_t i = 0; i < table->n_columns; i++) {
            size_t pad = i + 1 < table->n_columns ? table->width[i] - characters(row->cells[i]) + 2 : 0;
            const char *color = !terminal ? NULL : row == table->first ? "\033[1m" : color_of(row->cells[i]);
            (void)fprintf(out, "%s%s%s%*s", color ? color : "", row->cells[i], color ? "\033[0m" : "",
                          (int)pad, "");
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
    AUTO_ARENA struct arena *arena = arena_new();
    (void)fprintf(out, "%-14s %s\n", name, table_printable(arena, value));
}
