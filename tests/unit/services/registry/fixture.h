/* A migrated registry schema on a real PostgreSQL; empty before each test. */
#ifndef CLM_TESTS_REGISTRY_FIXTURE_H
#define CLM_TESTS_REGISTRY_FIXTURE_H

#include "registry.h"

extern struct db *fixture_db;
extern const struct timing fixture_timing; /* window 150 s, gateways 5 s */
extern struct arena *fixture_arena;        /* of one test */
#define T0 INT64_C(1800000000000)          /* "now" at the start of each test */

int fixture_open(void **state);  /* group set-up */
int fixture_close(void **state); /* group tear-down */
int fixture_reset(void **state); /* set-up of each test */

struct cause fixture_cause(int64_t now_ms);
/* A registered agent's id. */
const char *fixture_agent(const char *hostname, const char *env);
struct agent fixture_get(const char *id);
/* Number of a query's first cell. */
int64_t fixture_number(const char *sql);
/* One heartbeat from gateway "g1", epoch "e1", as a batch of its own. */
void fixture_beat(const char *id, int64_t now_ms);
void fixture_empty_beat(const char *gateway, const char *epoch, int64_t now_ms);
void fixture_sweep(int64_t now_ms);

#endif
