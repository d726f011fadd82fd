/*
 * heartbeat_store CONNINFO PASSWORD_FILE ROUNDS AGENTS: stores batches of 1,000 heartbeats of a fleet of
 * AGENTS as the registry does (heartbeats_report: thinned, joined, compared with what is known of each
 * agent), and, in turn, updates as many rows of a table of the same shape and size with one bare UPDATE …
 * FROM unnest each. Agents are taken at random, as gateways bring them. Prints a line a round: rows a second
 * of ours and of the bare one. A schema of its own: "registry", migrated here.
 */
#include <stdio.h>
#include <stdlib.h>

#include "audit.h"
#include "base/clock.h"
#include "base/id.h"
#include "need.h"
#include "registry.h"

#define BATCH   1000
#define BATCHES 40

extern const struct embed registry_migrations[];

static const struct timing timing = {.reattach_window_ms = 150000, .gateway_silence_ms = GATEWAY_SILENCE_MS};

static void run(struct db *db, const char *sql, const struct db_args *args)
{
    struct status st = {0};
    need(db_query(db, sql, args, NULL, &st), &st);
}

/* An id that is a number, so that a batch needs no list of them. */
static const char *agent_id(struct arena *arena, uint32_t number)
{
    return arena_printf(arena, "01890000-0000-7000-8000-%012x", number);
}

/* A fleet that is ONLINE and says nothing new, in both tables. */
static void make_fleet(struct db *db, int64_t agents)
{
    AUTO_ARENA struct arena *arena = arena_new();
    struct db_args *args = db_args_new(arena);
    db_arg_int(args, agents);
    run(db,
        "INSERT INTO agents (id, hostname, status, labels, scope, generation, created_at, bootstrapped_at, "
        "agent_version, created_by) SELECT ('01890000-0000-7000-8000-' || lpad(to_hex(i), 12, '0'))::uuid, "
        "'host-' || i, 6, '{\"env\": \"prod\"}', '\\x', 0, now(), now(), '0.1.0', 'bench' "
        "FROM generate_series(0, $1::bigint - 1) i",
        args);
    run(db,
        "INSERT INTO heartbeats (agent_id, last_at, interval_ms, gateway_id, instance_id, boot_id, "
        "clock_skew_ms, "
        "watched) SELECT id, now(), 30000, 'g1', 'instance', 'boot', 0, true FROM agents",
        NULL);
    run(db, "CREATE TABLE bare (LIKE heartbeats INCLUDING ALL) WITH (fillfactor = 60)", NULL);
    run(db, "INSERT INTO bare SELECT * FROM heartbeats", NULL);
    run(db, "ANALYZE", NULL);
}

static void ours(struct db *db, const uint32_t *numbers, int64_t now_ms, struct arena *arena)
{
    struct heartbeat *beats = arena_array(arena, BATCH, sizeof(*beats));
    struct status st = {0};
    for (size_t i = 0; i < BATCH; i++)
        beats[i] = (struct heartbeat){.agent_id = agent_id(arena, numbers[i]),
                                      .received_at_ms = now_ms,
                                      .clock_skew_ms = (int64_t)i,
                                      .interval_ms = 30000,
                                      .instance_id = "instance",
                                      .boot_id = "boot"};
    need(heartbeats_report(db, &timing, now_ms, "g1", "e1", beats, BATCH, arena, &st), &st);
}

static void bare(struct db *db, const uint32_t *numbers, int64_t now_ms, struct arena *arena)
{
    const char **ids = arena_array(arena, BATCH, sizeof(*ids));
    int64_t *at = arena_array(arena, BATCH, sizeof(*at)), *skew = arena_array(arena, BATCH, sizeof(*skew));
    for (size_t i = 0; i < BATCH; i++) {
        ids[i] = agent_id(arena, numbers[i]);
        at[i] = now_ms;
        skew[i] = (int64_t)i;
    }
    struct db_args *args = db_args_new(arena);
    db_arg_text_array(args, ids, BATCH);
    db_arg_time_array(args, at, BATCH);
    db_arg_int_array(args, skew, BATCH);
    run(db,
        "UPDATE bare b SET last_at = i.at, clock_skew_ms = i.skew "
        "FROM unnest($1::uuid[], $2::timestamptz[], $3::bigint[]) AS i(id, at, skew) WHERE b.agent_id = i.id",
        args);
}

/* Rows a second; each batch has agents of its own, so that none is twice in it. */
static double measure(struct db *db, int64_t agents,
                      void (*store)(struct db *db, const uint32_t *numbers, int64_t now_ms,
                                    struct arena *arena))
{
    int64_t spent_us = 0;
    for (int b = 0; b < BATCHES; b++) {
        AUTO_ARENA struct arena *arena = arena_new();
        uint32_t numbers[BATCH], stride = (uint32_t)(agents / BATCH);
        for (uint32_t i = 0; i < BATCH; i++)
            numbers[i] = i * stride + random_below(stride);
        int64_t began_us = clock_mono_us();
        store(db, numbers, clock_wall_ms(), arena);
        spent_us += clock_mono_us() - began_us;
    }
    return (double)BATCHES * BATCH * 1e6 / (double)spent_us;
}

int main(int argc, char **argv)
{
    long agents = argc == 5 ? strtol(argv[4], NULL, 10) : 0;
    if (agents < BATCH) {
        (void)fputs("usage: heartbeat_store CONNINFO PASSWORD_FILE ROUNDS AGENTS\n", stderr);
        return 2;
    }
    const struct db_config config = {.conninfo = argv[1],
                                     .password_file = argv[2],
                                     .schema = "registry",
                                     .application_name = "heartbeat_store",
                                     .statement_timeout_ms = 600000};
    CLEANUP(cleanup_db) struct db *db = NULL;
    struct status st = {0};
    need(db_open(&config, &db, &st), &st);
    need(db_migrate(db, "registry", registry_migrations, &st), &st);
    make_fleet(db, agents);
    (void)measure(db, agents, ours); /* prepared, pages in memory */
    (void)measure(db, agents, bare);
    long rounds = strtol(argv[3], NULL, 10);
    for (long i = 0; i < rounds; i++) {
        double stored = measure(db, agents, ours);
        printf("%.0f %.0f\n", stored, measure(db, agents, bare));
        (void)fflush(stdout);
    }
    return 0;
}
