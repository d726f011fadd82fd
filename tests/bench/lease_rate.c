/*
 * lease_rate CONNINFO PASSWORD_FILE ROUNDS AGENTS: leases the one task that each of a fleet of AGENTS has,
 * 100 agents' check-ins a batch, as the tasks service does (task_lease, with its scopes, events and tallies;
 * an envelope here is 1,000 bytes of nothing), and, in turn, takes as many rows of a bare queue of the same
 * size, 100 with each UPDATE … FOR UPDATE SKIP LOCKED … RETURNING. Prints a line a round: tasks a second of
 * ours and of the bare one. A schema of its own: "tasks", migrated here.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "db/db.h"
#include "envelope.h"
#include "need.h"
#include "proto/tasks.pb-c.h"
#include "tasks.h"
#include "wire/wire.h"

#define BATCH          100
#define BATCHES        40
#define ENVELOPE_BYTES 1000

extern const struct embed tasks_migrations[];

/* ---- in place of envelope.c: what is measured is the database's part ---- */

struct sealer {
    uint8_t envelope[ENVELOPE_BYTES];
};

enum code sealer_new(struct envelope_signer *signer, int64_t now_ms, struct sealer **ret, struct status *st)
{
    static struct sealer sealer;
    (void)signer;
    (void)now_ms;
    (void)st;
    *ret = &sealer;
    return CODE_OK;
}

void sealer_free(struct sealer *sealer)
{
    (void)sealer;
}

enum code sealer_seal(struct sealer *sealer, const struct order *order, struct bytes recipient,
                      struct arena *arena, struct bytes *ret, struct status *st)
{
    (void)order;
    (void)recipient;
    (void)arena;
    (void)st;
    *ret = (struct bytes){sealer->envelope, sizeof(sealer->envelope)};
    return CODE_OK;
}

static void wake(struct tasks *tasks, const char *const *agent_ids, size_t n)
{
    (void)tasks;
    (void)agent_ids;
    (void)n;
}

/* ---- the fleet ---- */

static void run(struct db *db, const char *sql, const struct db_args *args)
{
    struct status st = {0};
    need(db_query(db, sql, args, NULL, &st), &st);
}

static struct bytes validate_spec(struct arena *arena)
{
    Clm__ValidateSpec validate = CLM__VALIDATE_SPEC__INIT;
    Clm__TaskSpec spec = CLM__TASK_SPEC__INIT;
    struct bytes ret;
    validate.certificate_path = arena_strdup(arena, "/etc/ssl/site.crt");
    spec.has_kind = 1;
    spec.kind = CLM__TASK__KIND__VALIDATE;
    spec.validate = &validate;
    wire_pack(&spec.base, arena, &ret.data, &ret.len);
    return ret;
}

static struct bytes validate_scope(struct arena *arena)
{
    Clm__Task__Kind kinds[] = {CLM__TASK__KIND__VALIDATE};
    char *paths[] = {arena_strdup(arena, "/etc/ssl/**")};
    Clm__Scope scope = CLM__SCOPE__INIT;
    struct bytes ret;
    scope.has_version = 1;
    scope.version = 1;
    scope.n_operations = 1;
    scope.operations = kinds;
    scope.n_paths = 1;
    scope.paths = paths;
    wire_pack(&scope.base, arena, &ret.data, &ret.len);
    return ret;
}

/* An id that is a number, so that a batch needs no list of them. */
#define AGENT_ID "('01890000-0000-7000-8000-' || lpad(to_hex(i), 12, '0'))::uuid"

static void make_fleet(struct db *db, int64_t agents)
{
    AUTO_ARENA struct arena *arena = arena_new();
    static const uint8_t certificate[600];
    struct bytes scope = validate_scope(arena);
    struct db_args *args = db_args_new(arena);
    db_arg_int(args, agents);
    db_arg_bytes(args, scope.data, scope.len);
    db_arg_bytes(args, certificate, sizeof(certificate));
    run(db,
        "WITH a AS (INSERT INTO agents (agent_id, version, status, safe_mode, disabled, deleted, "
        "min_generation, scope, labels) SELECT " AGENT_ID ", 1, 6, false, false, false, 0, $2, "
        "'{\"env\": \"prod\"}' FROM generate_series(0, $1::bigint - 1) i RETURNING agent_id) "
        "INSERT INTO identities (agent_id, generation, task_certificate, confirmed, version) "
        "SELECT agent_id, 0, $3, true, 1 FROM a",
        args);
}

/* As many tasks that are ready as are taken in one round of each, for agents one after the other. */
static void make_tasks(struct db *db, int64_t agents)
{
    AUTO_ARENA struct arena *arena = arena_new();
    struct bytes spec = validate_spec(arena);
    struct db_args *args = db_args_new(arena);
    db_arg_int(args, agents);
    db_arg_bytes(args, spec.data, spec.len);
    run(db, "TRUNCATE tasks CASCADE", NULL);
    run(db, "TRUNCATE outbox", NULL);
    run(db,
        "INSERT INTO tasks (id, agent_id, kind, state, spec, max_attempts, priority, created_by, "
        "request_sha256, created_at, not_before, deadline) SELECT gen_random_uuid(), " AGENT_ID
        ", 3, 2, $2, 3, 5, 'bench', '\\x', now(), now(), now() + interval '1 day' "
        "FROM generate_series(0, $1::bigint - 1) i",
        args);
    run(db, "DROP TABLE IF EXISTS bare", NULL);
    run(db, "CREATE TABLE bare AS SELECT id, agent_id, state, priority, spec, leased_at FROM tasks", NULL);
    run(db, "ALTER TABLE bare ADD PRIMARY KEY (id)", NULL);
    run(db, "CREATE INDEX bare_ready ON bare (priority DESC, id) WHERE state = 2", NULL);
    run(db, "ANALYZE", NULL);
}

/* ---- the two ---- */

static void ours(struct db *db, uint32_t first, struct arena *arena)
{
    static struct tasks tasks = {.lease_expiry_ms = 60000, .lease_return_ms = 600000, .wake = wake};
    struct lease_request *requests = arena_array(arena, BATCH, sizeof(*requests));
    struct lease_answer answer;
    struct status st = {0};
    for (uint32_t i = 0; i < BATCH; i++)
        requests[i] = (struct lease_request){
            .agent_id = arena_printf(arena, "01890000-0000-7000-8000-%012x", first + i), .free_slots = 4};
    need(task_lease(&tasks, db, arena, requests, BATCH, &answer, &st), &st);
    if (answer.n_deliveries != BATCH)
        need(status_set(&st, CODE_INTERNAL, "%zu of %d tasks leased", answer.n_deliveries, BATCH), &st);
}

static void bare(struct db *db, uint32_t first, struct arena *arena)
{
    struct status st = {0};
    AUTO_ROWS struct db_rows *rows = NULL;
    struct db_args *args = db_args_new(arena);
    (void)first;
    db_arg_int(args, BATCH);
    need(db_query(db,
                  "UPDATE bare SET state = 3, leased_at = now() WHERE id IN (SELECT id FROM bare WHERE "
                  "state = 2 ORDER BY priority DESC, id LIMIT $1 FOR UPDATE SKIP LOCKED) RETURNING *",
                  args, &rows, &st),
         &st);
    if (db_rows_count(rows) != BATCH)
        need(status_set(&st, CODE_INTERNAL, "%zu of %d rows taken", db_rows_count(rows), BATCH), &st);
}

/* Tasks a second. */
static double measure(struct db *db, void (*take)(struct db *db, uint32_t first, struct arena *arena))
{
    int64_t spent_us = 0;
    for (uint32_t b = 0; b < BATCHES; b++) {
        AUTO_ARENA struct arena *arena = arena_new();
        int64_t began_us = clock_mono_us();
        take(db, b * BATCH, arena);
        spent_us += clock_mono_us() - began_us;
    }
    return (double)BATCHES * BATCH * 1e6 / (double)spent_us;
}

int main(int argc, char **argv)
{
    long agents = argc == 5 ? strtol(argv[4], NULL, 10) : 0;
    if (agents < BATCH * BATCHES) {
        (void)fprintf(stderr, "usage: lease_rate CONNINFO PASSWORD_FILE ROUNDS AGENTS (at least %d)\n",
                      BATCH * BATCHES);
        return 2;
    }
    const struct db_config config = {.conninfo = argv[1],
                                     .password_file = argv[2],
                                     .schema = "tasks",
                                     .application_name = "lease_rate",
                                     .statement_timeout_ms = 600000};
    CLEANUP(cleanup_db) struct db *db = NULL;
    struct status st = {0};
    log_set_level(LOG_LEVEL_WARN);
    need(db_open(&config, &db, &st), &st);
    need(db_migrate(db, "tasks", tasks_migrations, &st), &st);
    make_fleet(db, agents);
    long rounds = strtol(argv[3], NULL, 10);
    for (long i = -1; i < rounds; i++) { /* the first prepares, and brings pages into memory */
        make_tasks(db, agents);
        double leased = measure(db, ours), taken = measure(db, bare);
        if (i >= 0)
            printf("%.0f %.0f\n", leased, taken);
        (void)fflush(stdout);
    }
    return 0;
}
