/* What the tests of the registry's use cases begin with. */
#include "fixture.h"

#include <stdio.h>
#include <string.h>

#include "support/pg.h"

extern const struct embed registry_migrations[];

struct db *fixture_db;
struct arena *fixture_arena;
const struct timing fixture_timing = {.reattach_window_ms = 150000, .gateway_silence_ms = 5000};

static void check(enum code code, const struct status *st, const char *what)
{
    if (code == CODE_OK)
        return;
    (void)fprintf(stderr, "fixture: %s: %s\n", what, st->msg);
    exit(2);
}

int fixture_open(void **state)
{
    (void)state;
    struct status st = {0};
    const struct db_config config = {.conninfo = pg_conninfo(),
                                     .schema = "registry",
                                     .application_name = "test",
                                     .statement_timeout_ms = 10000};
    check(db_open(&config, &fixture_db, &st), &st, "open");
    check(db_migrate(fixture_db, "registry", registry_migrations, &st), &st, "migrate");
    return 0;
}

int fixture_close(void **state)
{
    (void)state;
    db_close(fixture_db);
    arena_free(fixture_arena);
    return 0;
}

int fixture_reset(void **state)
{
    (void)state;
    struct status st = {0};
    db_rollback(fixture_db);
    check(db_query(fixture_db,
                   "TRUNCATE certificate_places, certificates, agents, heartbeats, gateways, agent_counts, "
                   "activity, api_keys, outbox, "
                   "operators, operator_links, sessions, login_attempts, "
                   "audit_records, audit_nodes, audit_pending, audit_heads, audit_cosignatures, "
                   "audit_trees_former, audit_reported, alerts, metrics_latest, metrics, tallies, "
                   "idempotency, lost_agents, identities_pending",
                   NULL, NULL, &st),
          &st, "truncate");
    check(db_query(fixture_db, "UPDATE audit_tree SET size = 0, frontier = '', number = 1, base = 0", NULL,
                   NULL, &st),
          &st, "tree");
    check(db_query(fixture_db, "UPDATE stream_place SET last_seq = 0, unchecked_from = NULL, n_lost = 0",
                   NULL, NULL, &st),
          &st, "place");
    arena_free(fixture_arena);
    fixture_arena = arena_new();
    struct db_args *args = db_args_new(fixture_arena);
    db_arg_time(args, T0);
    check(db_query(fixture_db,
                   "UPDATE platform SET last_sweep_at = $1, counting_from = $1, epoch = 0, restored_at = "
                   "NULL, told = true, safe_mode = false",
                   args, NULL, &st),
          &st, "platform");
    return 0;
}

struct cause fixture_cause(int64_t now_ms)
{
    return (struct cause){.actor = "api-key:test", .now_ms = now_ms, .timing = &fixture_timing};
}

const char *fixture_agent(const char *hostname, const char *env)
{
    const struct label labels[] = {{"env", env}};
    const struct registration in = {
        .hostname = hostname, .labels = labels, .n_labels = 1, .scope = {(const uint8_t *)"scope", 5}};
    const struct cause cause = fixture_cause(T0);
    struct agent agent;
    bool needs_token;
    struct status st = {0};
    check(agent_register(fixture_db, &cause, "", &in, fixture_arena, &agent, &needs_token, &st), &st,
          "register");
    return agent.id;
}

struct agent fixture_get(const char *id)
{
    struct agent agent;
    struct status st = {0};
    check(agent_get(fixture_db, "", id, fixture_arena, &agent, &st), &st, "get");
    return agent;
}

int64_t fixture_number(const char *sql)
{
    AUTO_ROWS struct db_rows *rows = NULL;
    struct status st = {0};
    check(db_query_one(fixture_db, sql, NULL, &rows, &st), &st, sql);
    return db_int(rows, 0, 0);
}

void fixture_beat(const char *id, int64_t now_ms)
{
    struct heartbeat beat = {.agent_id = id, .received_at_ms = now_ms, .interval_ms = 30000};
    struct status st = {0};
    check(heartbeats_report(fixture_db, &fixture_timing, now_ms, "g1", "e1", &beat, 1, fixture_arena, &st),
          &st, "beat");
}

void fixture_empty_beat(const char *gateway, const char *epoch, int64_t now_ms)
{
    struct status st = {0};
    check(heartbeats_report(fixture_db, &fixture_timing, now_ms, gateway, epoch, NULL, 0, fixture_arena, &st),
          &st, "empty beat");
}

void fixture_sweep(int64_t now_ms)
{
    struct status st = {0};
    check(sweep(fixture_db, &fixture_timing, now_ms, &st), &st, "sweep");
}
