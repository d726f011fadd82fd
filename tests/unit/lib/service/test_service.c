/* A whole service in a thread of the test, on a real nats-server and a real PostgreSQL, which come and go. */
#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/id.h"
#include "proto/event.pb-c.h"
#include "proto/registry.pb-c.h"
#include "service/service.h"
#include "support/identity.h"
#include "support/methods.h"
#include "support/nats.h"
#include "support/pg.h"
#include "support/port.h"

#define AGENT       "0198c0de-0000-7000-8000-000000000001"
#define WAIT_ROUNDS 3000 /* of 20 ms */

static char dir[64], conf[96];
static int admin_port;
static pthread_t thread;
static int exit_code = -1;
static struct bus *gateway, *tasks, *bootstrap;
static struct db *db;
static atomic_int n_fail, n_periodic, n_exclusive;

/* ---- the service under test
 * -------------------------------------------------------------------------------------- */

static const char migration[] = "CREATE TABLE seen (n bigserial, id text, entity text)";
static const struct embed migrations[] = {
    {"0001_test.sql", (const unsigned char *)migration, sizeof(migration) - 1}, {0}};

/* Emits an event about AGENT. */
static enum code on_dashboard(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    (void)request;
    (void)response;
    struct worker *worker = ctx->worker;
    Clm__AgentChanged changed = CLM__AGENT_CHANGED__INIT;
    Clm__Event event = CLM__EVENT__INIT;
    event.subject = arena_strdup(ctx->arena, "clm.event.registry.agent.changed");
    event.entity_id = arena_strdup(ctx->arena, AGENT);
    event.has_entity_version = true;
    event.entity_version = 1;
    event.agent = &changed;
    CLEANUP(db_scope_end) struct db *tx = worker->db;
    TRY(db_begin(tx, st));
    TRY(service_emit(worker, &event, ctx->arena, st));
    return db_commit(tx, st);
}

static enum code on_other(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    (void)request;
    (void)response;
    struct worker *worker = ctx->worker;
    return db_query(worker->db, "SELECT 1", NULL, NULL, st);
}

static const struct rpc_method served[] = {{"GetDashboard", on_dashboard}};

static enum code on_event(struct worker *worker, struct arena *arena, const void *msg, struct status *st)
{
    const Clm__Event *event = msg;
    if (strcmp(event->entity_id, "bad") == 0)
        return status_set(st, CODE_INVALID_ARGUMENT, "not acceptable");
    if (strcmp(event->entity_id, "later") == 0 && n_fail++ == 0)
        return status_set(st, CODE_UNAVAILABLE, "not yet");
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, event->id);
    db_arg_text(args, event->entity_id);
    return db_query(worker->db, "INSERT INTO seen (id, entity) VALUES ($1, $2)", args, NULL, st);
}

static const struct event_handler events[] = {
    {"clm.event.bootstrap.identity.issued", true, on_event},
    {"clm.event.tasks.task.>", false, on_event},
    {.subject = NULL},
};

static enum code periodic(struct worker *worker, struct status *st)
{
    n_periodic++;
    return db_query(worker->db, "SELECT 1", NULL, NULL, st);
}

static enum code exclusive(struct worker *worker, struct status *st)
{
    n_exclusive++;
    return db_query(worker->db, "SELECT 1", NULL, NULL, st);
}

static enum code start(struct service *service, struct status *st)
{
    TRY(service_periodic(service, "beat", 20, false, periodic, st));
    return service_periodic(service, "alone", 20, true, exclusive, st);
}

static void *serve(void *arg)
{
    (void)arg;
    const struct service_descriptor descriptor = {
        .name = "registry",
        .description = "a service under test",
        .config_size = sizeof(struct service_config),
        .migrations = migrations,
        .rpc = &clm__registry__descriptor,
        .methods = methods_fill(&clm__registry__descriptor, served, ARRAY_LEN(served), on_other),
        .n_methods = clm__registry__descriptor.n_methods,
        .events = events,
        .start = start,
    };
    char program[] = "clm-registry", option[] = "--config";
    char *argv[] = {program, option, conf, NULL};
    exit_code = service_main(&descriptor, 3, argv);
    return NULL;
}

/* ---- looking at it from outside
 * ------------------------------------------------------------------------------------- */

/* Answer of the admin port, head and body; "" if there is none. */
static const char *get(const char *path)
{
    static char answer[256 * 1024];
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                  .sin_port = htons((uint16_t)admin_port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    size_t used = 0;
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0) {
        char request[256];
        int n = snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
                         path);
        (void)!write(fd, request, (size_t)n);
        for (ssize_t got;
             used < sizeof(answer) - 1 && (got = read(fd, answer + used, sizeof(answer) - 1 - used)) > 0;)
            used += (size_t)got;
    }
    (void)close(fd);
    answer[used] = '\0';
    return answer;
}

static void wait_for(const char *path, const char *text)
{
    for (int i = 0; i < WAIT_ROUNDS; i++) {
        if (strstr(get(path), text))
            return;
        (void)poll(NULL, 0, 20);
    }
    fail_msg("%s never said \"%s\", but: %s", path, text, get(path));
}

static int64_t number(const char *sql)
{
    AUTO_ROWS struct db_rows *rows = NULL;
    struct status st = {0};
    if (db_ensure(db, &st) != CODE_OK || db_query_one(db, sql, NULL, &rows, &st) != CODE_OK)
        return -1;
    return db_int(rows, 0, 0);
}

static void wait_number(const char *sql, int64_t n)
{
    for (int i = 0; i < WAIT_ROUNDS; i++) {
        if (number(sql) == n)
            return;
        (void)poll(NULL, 0, 20);
    }
    fail_msg("%s: %lld, not %lld", sql, (long long)number(sql), (long long)n);
}

static enum code call_dashboard(struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    const struct actor actor = {.id = "api-key:1", .name = "x", .roles = ROLE_BIT(1)};
    struct bytes assertion;
    assert_int_equal(assertion_make(identity_of("registry"), &actor, 60000, arena, &assertion, NULL),
                     CODE_OK);
    Clm__GetDashboardRequest req = CLM__GET_DASHBOARD_REQUEST__INIT;
    const struct rpc_call call = {
        .service = "registry",
        .descriptor = &clm__registry__descriptor,
        .method = "GetDashboard",
        .request = &req.base,
        .timeout_ms = 10000,
        .assertion = assertion,
    };
    ProtobufCMessage *reply;
    return rpc_call(gateway, identity_of("gateway"), &call, arena, &reply, st);
}

/* Publishes one event as the service `signer` would; signer NULL: without authority. */
static void publish(struct bus *bus, const char *subject, const char *entity, struct bus_identity *signer,
                    bool broken)
{
    AUTO_ARENA struct arena *arena = arena_new();
    char id[UUID_TEXT_SIZE];
    uuid_v7(id);
    Clm__Event event = CLM__EVENT__INIT;
    event.id = id;
    event.subject = arena_strdup(arena, subject);
    event.entity_id = arena_strdup(arena, entity);
    event.has_entity_version = true;
    event.entity_version = 1;
    struct event_to_publish out = {.id = id, .subject = subject};
    wire_pack(&event.base, arena, &out.body.data, &out.body.len);
    if (broken)
        out.body = (struct bytes){(const uint8_t *)"\xff\xff\xff", 3};
    struct status st = {0};
    if (signer)
        assert_int_equal(authority_make(signer, subject, id, 0, out.body, arena, &out.authority, &st),
                         CODE_OK);
    assert_int_equal(events_publish(bus, &out, 1, 10000, &st), CODE_OK);
}

/* Reads all that the durable has for us; how many of them say AGENT and are signed by the registry. */
static int drain_durable(struct bus *bus, const char *durable)
{
    struct status st = {0};
    struct event_consumer *consumer = NULL;
    assert_int_equal(event_consumer_new(bus, durable, &consumer, &st), CODE_OK);
    int signed_events = 0;
    for (size_t n = 1; n > 0;) {
        struct event_batch *batch = NULL;
        assert_int_equal(event_consumer_pull(consumer, 100, 1000, &batch, &st), CODE_OK);
        n = event_batch_count(batch);
        for (size_t i = 0; i < n; i++) {
            AUTO_ARENA struct arena *arena = arena_new();
            const struct event_message *m = event_batch_get(batch, i);
            char signer[64];
            assert_int_equal(authority_verify(identity_of("tasks"), m->authority, m->subject, m->id, m->body,
                                              arena, signer, &st),
                             CODE_OK);
            assert_string_equal(signer, "registry");
            signed_events++;
            event_batch_ack(batch, i);
        }
        event_batch_free(batch);
    }
    event_consumer_free(consumer);
    return signed_events;
}

/* ---- tests, in their order
 * -------------------------------------------------------------------------------------------- */

static void service_starts_without_its_dependencies_and_says_what_is_missing(void **state)
{
    (void)state;
    pg_kill_server();
    nats_kill_server();
    assert_int_equal(pthread_create(&thread, NULL, serve, NULL), 0);
    wait_for("/healthz", "200 OK");
    wait_for("/readyz", "503");
    wait_for("/readyz", "the database is away");
    pg_start_server();
    wait_for("/readyz", "the bus is away");
    nats_start_server();
    wait_for("/readyz", "200 OK");
    nats_wait_ready(gateway, true);
    nats_wait_ready(tasks, true);
    nats_wait_ready(bootstrap, true);
}

static void admin_port_has_metrics_and_nothing_else(void **state)
{
    (void)state;
    wait_for("/metrics", "clm_ready 1\n");
    /* Alerts look at what is added: the first event is one only if there was a 0 before it. */
    const char *metrics = get("/metrics");
    assert_non_null(strstr(metrics, "clm_events_parked_total{durable=\"registry_tasks\"} 0\n"));
    assert_non_null(strstr(metrics, "clm_events_parked_total{durable=\"registry_bootstrap\"} 0\n"));
    assert_non_null(strstr(metrics, "clm_rpc_refused_total 0\n"));
    assert_non_null(strstr(get("/"), "404"));
}

static void emitted_event_reaches_the_stream_signed(void **state)
{
    (void)state;
    struct status st = {0};
    assert_int_equal(call_dashboard(&st), CODE_OK);
    wait_number("SELECT count(*) FROM outbox WHERE stream_seq IS NOT NULL", 1);
    assert_int_equal(drain_durable(tasks, "tasks_registry"), 1);
}

static void event_of_another_service_is_applied_once(void **state)
{
    (void)state;
    publish(tasks, "clm.event.tasks.task.finished", "good", NULL, false);
    wait_number("SELECT count(*) FROM seen WHERE entity = 'good'", 1);
    assert_int_equal(number("SELECT count(*) FROM inbox i JOIN seen s ON s.id = i.event_id::text"), 1);
}

static void event_that_fails_for_a_while_is_applied_later(void **state)
{
    (void)state;
    publish(tasks, "clm.event.tasks.task.started", "later", NULL, false);
    wait_number("SELECT count(*) FROM seen WHERE entity = 'later'", 1);
    assert_int_equal(n_fail, 2);
}

static void event_that_can_never_be_applied_is_parked_and_the_next_ones_go_on(void **state)
{
    (void)state;
    publish(tasks, "clm.event.tasks.task.finished", "x", NULL, true);
    publish(tasks, "clm.event.tasks.task.finished", "bad", NULL, false);
    publish(tasks, "clm.event.tasks.task.finished", "next", NULL, false);
    wait_number("SELECT count(*) FROM seen WHERE entity = 'next'", 1);
    wait_number("SELECT count(*) FROM parked", 2);
    assert_int_equal(number("SELECT count(*) FROM parked WHERE reason LIKE '%not acceptable%'"), 1);
    assert_non_null(strstr(get("/metrics"), "clm_events_parked_total{durable=\"registry_tasks\"} 2\n"));
}

static void authority_event_needs_its_origins_signature(void **state)
{
    (void)state;
    int64_t before = number("SELECT count(*) FROM parked");
    publish(bootstrap, "clm.event.bootstrap.identity.issued", "unsigned", NULL, false);
    publish(bootstrap, "clm.event.bootstrap.identity.issued", "wrong", identity_of("tasks"), false);
    publish(bootstrap, "clm.event.bootstrap.identity.issued", "forged", identity_forged("bootstrap"), false);
    publish(bootstrap, "clm.event.bootstrap.identity.issued", "right", identity_of("bootstrap"), false);
    wait_number("SELECT count(*) FROM seen WHERE entity = 'right'", 1);
    wait_number("SELECT count(*) FROM parked", before + 3);
    assert_int_equal(number("SELECT count(*) FROM seen WHERE entity IN ('unsigned', 'wrong', 'forged')"), 0);
}

static void service_outlives_the_database(void **state)
{
    (void)state;
    pg_kill_server();
    wait_for("/readyz", "the database is away");
    struct status st = {0};
    assert_int_equal(call_dashboard(&st), CODE_UNAVAILABLE);
    pg_start_server();
    wait_for("/readyz", "200 OK");
    int periodic_before = n_periodic, exclusive_before = n_exclusive;
    /* Whichever worker takes it: their sessions of before were replaced. */
    for (int i = 0; i < 8; i++)
        assert_int_equal(call_dashboard(&st), CODE_OK);
    wait_number("SELECT count(*) FROM outbox WHERE stream_seq IS NULL", 0);
    for (int i = 0; i < WAIT_ROUNDS && (n_periodic == periodic_before || n_exclusive == exclusive_before);
         i++)
        (void)poll(NULL, 0, 20);
    assert_true(n_periodic > periodic_before && n_exclusive > exclusive_before);
    publish(tasks, "clm.event.tasks.task.finished", "after the database", NULL, false);
    wait_number("SELECT count(*) FROM seen WHERE entity = 'after the database'", 1);
}

static void service_outlives_the_bus(void **state)
{
    (void)state;
    nats_kill_server();
    wait_for("/readyz", "the bus is away");
    nats_start_server();
    wait_for("/readyz", "200 OK");
    nats_wait_ready(gateway, true);
    nats_wait_ready(tasks, true);
    struct status st = {0};
    assert_int_equal(call_dashboard(&st), CODE_OK);
    wait_number("SELECT count(*) FROM outbox WHERE stream_seq IS NULL", 0);
    publish(tasks, "clm.event.tasks.task.finished", "after the bus", NULL, false);
    wait_number("SELECT count(*) FROM seen WHERE entity = 'after the bus'", 1);
}

static void stream_that_was_lost_gets_every_event_again(void **state)
{
    (void)state;
    int64_t emitted = number("SELECT count(*) FROM outbox");
    nats_kill_server();
    nats_wipe_store();
    nats_start_server();
    nats_setup();
    nats_wait_ready(tasks, true);
    wait_for("/readyz", "200 OK");
    int got = 0;
    for (int i = 0; i < 20 && got < emitted; i++)
        got += drain_durable(tasks, "tasks_registry");
    assert_int_equal(got, emitted);
    publish(tasks, "clm.event.tasks.task.finished", "after the loss", NULL, false);
    wait_number("SELECT count(*) FROM seen WHERE entity = 'after the loss'", 1);
}

static void service_leaves_on_sigterm_even_without_its_dependencies(void **state)
{
    (void)state;
    nats_kill_server();
    pg_kill_server();
    wait_for("/readyz", "the database is away");
    (void)kill(getpid(), SIGTERM);
    (void)pthread_join(thread, NULL);
    assert_int_equal(exit_code, 0);
}

/* ---- set-up
 * ------------------------------------------------------------------------------------------------------------
 */

static int set_up(void **state)
{
    (void)state;
    struct status st = {0};
    (void)snprintf(dir, sizeof(dir), "/tmp/clm-test-service-XXXXXX");
    assert_non_null(mkdtemp(dir));
    (void)snprintf(conf, sizeof(conf), "%s/registry.conf", dir);
    identity_write("registry", dir);
    admin_port = port_free();
    nats_setup();
    gateway = nats_bus("gateway");
    tasks = nats_bus("tasks");
    bootstrap = nats_bus("bootstrap");
    AUTO_BUF struct buf text;
    buf_init(&text, 0);
    assert_true(buf_printf(&text,
                           "[service]\nadmin_listen = 127.0.0.1:%d\nworkers = 4\nlog_level = error\n"
                           "[identity]\nkey = key.pem\ncertificate = cert.pem\nroots = roots.pem\n"
                           "[bus]\nurl = %s\nca = %s\npassword_file = %s\n"
                           "[database]\nconninfo = %s\n",
                           admin_port, nats_url(), nats_ca_file(), nats_password_file("registry"),
                           pg_conninfo()));
    assert_int_equal(file_write_atomic(conf, text.data, text.len, 0600, &st), CODE_OK);
    const struct db_config config = {.conninfo = pg_conninfo(),
                                     .schema = "registry",
                                     .application_name = "test",
                                     .statement_timeout_ms = 10000};
    assert_int_equal(db_open(&config, &db, &st), CODE_OK);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    bus_free(gateway);
    bus_free(tasks);
    bus_free(bootstrap);
    db_close(db);
    static const char *const files[] = {"registry.conf", "key.pem", "cert.pem", "roots.pem"};
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        char path[128];
        (void)snprintf(path, sizeof(path), "%s/%s", dir, files[i]);
        (void)unlink(path);
    }
    (void)rmdir(dir);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(service_starts_without_its_dependencies_and_says_what_is_missing),
        cmocka_unit_test(admin_port_has_metrics_and_nothing_else),
        cmocka_unit_test(emitted_event_reaches_the_stream_signed),
        cmocka_unit_test(event_of_another_service_is_applied_once),
        cmocka_unit_test(event_that_fails_for_a_while_is_applied_later),
        cmocka_unit_test(event_that_can_never_be_applied_is_parked_and_the_next_ones_go_on),
        cmocka_unit_test(authority_event_needs_its_origins_signature),
        cmocka_unit_test(service_outlives_the_database),
        cmocka_unit_test(service_outlives_the_bus),
        cmocka_unit_test(stream_that_was_lost_gets_every_event_again),
        cmocka_unit_test(service_leaves_on_sigterm_even_without_its_dependencies),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
