/* What the files with SQL share: reading rows, and when an agent's silence counts. */
#ifndef CLM_REGISTRY_STORE_ROWS_H
#define CLM_REGISTRY_STORE_ROWS_H

#include "store.h"

/* When an agent will have been silent for 3 intervals that count: its gateway is there, or has been away for
 * longer than agents need to come back elsewhere. $1: a gateway heard after this is there; $2: reattach
 * window in ms. */
#define OFFLINE_AT                                                                                           \
    "GREATEST(h.last_at, p.counting_from, CASE WHEN g.last_seen_at >= $1 THEN g.counting_from "              \
    "ELSE g.last_seen_at + $2 * interval '1 millisecond' END) + 3 * h.interval_ms * interval '1 "            \
    "millisecond'"
#define OFFLINE_FROM "heartbeats h LEFT JOIN gateways g ON g.id = h.gateway_id, platform p"

/* $1 and $2 of OFFLINE_AT. */
void store_arg_timing(struct db_args *args, const struct timing *timing, int64_t now_ms);

/* Copies in the arena. NULL stays NULL, or no bytes. */
const char *row_text(const struct db_rows *rows, size_t row, int col, struct arena *arena);
struct bytes row_bytes(const struct db_rows *rows, size_t row, int col, struct arena *arena);
/* The first column of all rows. */
void rows_ids(const struct db_rows *rows, struct arena *arena, const char ***ret, size_t *ret_n);

#endif
