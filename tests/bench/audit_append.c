/*
 * audit_append CONNINFO PASSWORD_FILE ROUNDS: appends batches of 1,000 records to the audit tree, and, in
 * turn, inserts the same rows into a table of the same columns and indexes with one bare INSERT each. Prints
 * a line a round: records a second of ours and of the bare one. A schema of its own: "registry", migrated
 * here.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "audit.h"
#include "base/clock.h"
#include "base/id.h"
#include "need.h"

#define BATCHES 20
#define LEAF    350 /* bytes: what a task.finished record takes */

extern const struct embed registry_migrations[];

static struct audit_leaf *make(struct arena *arena)
{
    static const char *const agents[] = {"01890a5d-ac96-774b-bcce-b302099a8057",
                                         "01890a5d-ac96-774b-bcce-b302099a8058"};
    struct audit_leaf *leaves = arena_array(arena, AUDIT_BATCH, sizeof(*leaves));
    for (size_t i = 0; i < AUDIT_BATCH; i++) {
        char id[UUID_TEXT_SIZE];
        uint8_t *leaf = arena_alloc(arena, LEAF);
        uuid_v7(id);
        random_bytes(leaf, LEAF);
        leaves[i] = (struct audit_leaf){.event_id = arena_strdup(arena, id),
                                        .action = "task.finished",
                                        .actor = arena_printf(arena, "agent:%s", agents[i % 2]),
                                        .agent_id = agents[i % 2],
                                        .occurred_at_ms = clock_wall_ms(),
                                        .leaf = {leaf, LEAF}};
    }
    return leaves;
}

static void bare(struct db *db, struct audit_leaf *leaves, int64_t first, struct arena *arena)
{
    static const char sql[] =
        "INSERT INTO bare (index, event_id, action, actor, agent_id, occurred_at, leaf, leaf_hash) "
        "SELECT i, e::uuid, a, w, g::uuid, t, l, h FROM unnest($1::text[], $2::text[], $3::text[], "
        "$4::text[], "
        "$5::timestamptz[], $6::bytea[], $7::bigint[], $8::bytea[]) AS x(e, a, w, g, t, l, i, h)";
    const char **text = arena_array(arena, 4 * AUDIT_BATCH, sizeof(*text));
    int64_t *number = arena_array(arena, 2 * AUDIT_BATCH, sizeof(*number));
    const void **data = arena_array(arena, 2 * AUDIT_BATCH, sizeof(*data));
    size_t *len = arena_array(arena, 2 * AUDIT_BATCH, sizeof(*len));
    for (size_t i = 0; i < AUDIT_BATCH; i++) {
        text[i] = leaves[i].event_id;
        text[AUDIT_BATCH + i] = leaves[i].action;
        text[2 * AUDIT_BATCH + i] = leaves[i].actor;
        text[3 * AUDIT_BATCH + i] = leaves[i].agent_id;
        number[i] = leaves[i].occurred_at_ms;
        number[AUDIT_BATCH + i] = first + (int64_t)i;
        data[i] = leaves[i].leaf.data;
        len[i] = leaves[i].leaf.len;
        data[AUDIT_BATCH + i] = leaves[i].leaf.data;
        len[AUDIT_BATCH + i] = SHA256_SIZE;
    }
    struct db_args *args = db_args_new(arena);
    struct status st = {0};
    for (size_t i = 0; i < 4; i++)
        db_arg_text_array(args, text + i * AUDIT_BATCH, AUDIT_BATCH);
    db_arg_time_array(args, number, AUDIT_BATCH);
    db_arg_bytes_array(args, data, len, AUDIT_BATCH);
    db_arg_int_array(args, number + AUDIT_BATCH, AUDIT_BATCH);
    db_arg_bytes_array(args, data + AUDIT_BATCH, len + AUDIT_BATCH, AUDIT_BATCH);
    need(db_query(db, sql, args, NULL, &st), &st);
}

/* Records a second; only what talks to the database is timed. */
static double measure(struct db *db, bool ours, int64_t *next)
{
    int64_t spent_us = 0;
    for (int i = 0; i < BATCHES; i++, *next += AUDIT_BATCH) {
        AUTO_ARENA struct arena *arena = arena_new();
        struct status st = {0};
        struct audit_leaf *leaves = make(arena);
        int64_t began_us = clock_mono_us();
        if (ours)
            need(audit_append(db, leaves, AUDIT_BATCH, arena, &st), &st);
        else
            bare(db, leaves, *next, arena);
        spent_us += clock_mono_us() - began_us;
    }
    return (double)BATCHES * AUDIT_BATCH * 1e6 / (double)spent_us;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        (void)fputs("usage: audit_append CONNINFO PASSWORD_FILE ROUNDS\n", stderr);
        return 2;
    }
    const struct db_config config = {.conninfo = argv[1],
                                     .password_file = argv[2],
                                     .schema = "registry",
                                     .application_name = "audit_append",
                                     .statement_timeout_ms = 60000};
    CLEANUP(cleanup_db) struct db *db = NULL;
    struct status st = {0};
    int64_t next_ours = 0, next_bare = 0;
    need(db_open(&config, &db, &st), &st);
    need(db_migrate(db, "registry", registry_migrations, &st), &st);
    need(db_query(db, "CREATE TABLE bare (LIKE audit_records INCLUDING ALL)", NULL, NULL, &st), &st);
    (void)measure(db, true, &next_ours); /* prepared, files extended */
    (void)measure(db, false, &next_bare);
    long rounds = strtol(argv[3], NULL, 10);
    for (long i = 0; i < rounds; i++) {
        double ours = measure(db, true, &next_ours);
        printf("%.0f %.0f\n", ours, measure(db, false, &next_bare));
        (void)fflush(stdout);
    }
    return 0;
}
