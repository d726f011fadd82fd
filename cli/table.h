/* Columns for people: each as wide as its widest cell. What is not printable in a cell is shown escaped
 * (\x1b, \u202e), so that no text from a host can move the cursor or turn the line around. Colour on
 * terminals only. */
#ifndef CLM_CLI_TABLE_H
#define CLM_CLI_TABLE_H

#include <stdint.h>
#include <stdio.h>

#include "base/arena.h"

#define TABLE_COLUMNS_MAX 10

struct table;
/* headings: n of them, borrowed. The table lives in the arena. */
struct table *table_new(struct arena *arena, const char *const *headings, size_t n);
/* n cells, copied; NULL prints "-". */
void table_row(struct table *table, const char *const *cells);
void table_print(const struct table *table, FILE *out);
/* The text with what is not printable escaped. */
const char *table_printable(struct arena *arena, const char *text);
/* "2026-11-23 23:01:02Z", "-" when it is not known. */
const char *table_time(struct arena *arena, int has, int64_t wall_ms);
/* One value on a line of its own, `name` padded. NULL or "" prints nothing. */
void table_field(FILE *out, const char *name, const char *value);

#endif
