/*
 * The life of a service process. The main thread runs the loop: signals, the admin port, readiness told once
 * a change. A supervisor thread brings the parts up in order, waits until draining begins, and takes them
 * down in the reverse order. What is away at start is waited for; what is wrong (a refused migration, a bad
 * identity) ends the process.
 */
#include "service/service.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <time.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "db/outbox.h"
#include "pki/cert.h"
#include "proto/event.pb-c.h"
#include "service/internal.h"
#include "version.h"

#define LOOK_MS        1000
#define START_RETRY_MS 1000
#define PEM_BYTES_MAX  (256 * 1024)

const struct config_key service_config_keys[] = {
    {.section = "service",
     .name = "log_level",
     .type = CONFIG_STRING,
     .offset = offsetof(struct service_config, log_level),
     .fallback = "info",
     .help = "debug, info, warn or error"},
    {.section = "service",
     .name = "log_format",
     .type = CONFIG_STRING,
     .offset = offsetof(struct service_config, log_format),
     .fallback = "text",
     .help = "text or json"},
    {.section = "service",
     .name = "admin_listen",
     .type = CONFIG_STRING,
     .offset = offsetof(struct service_config, admin_listen),
     .fallback = "127.0.0.1:0",
     .help = "address:port of /healthz, /readyz and /metrics; port 0: any free one"},
    {.section = "service",
     .name = "workers",
     .type = CONFIG_INT,
     .offset = offsetof(struct service_config, workers),
     .fallback = "4",
     .min = 1,
     .max = 256,
     .help = "worker threads, each with a database session of its own"},
    {.section = "service",
     .name = "queue_size",
     .type = CONFIG_INT,
     .offset = offsetof(struct service_config, queue_size),
     .fallback = "1024",
     .min = 1,
     .max = 65536,
     .help = "requests that may wait for a worker; beyond it they are refused"},
    {.section = "service",
     .name = "state_dir",
     .type = CONFIG_PATH,
     .offset = offsetof(struct service_config, state_dir),
     .optional = true,
     .help = "directory for what the service keeps on disk"},
    {.section = "identity",
     .name = "key",
     .type = CONFIG_PATH,
     .offset = offsetof(struct service_config, identity_key),
     .help = "private key of the service, PEM, readable by its owner only"},
    {.section = "identity",
     .name = "certificate",
     .type = CONFIG_PATH,
     .offset = offsetof(struct service_config, identity_certificate),
     .help = "certificate of the service and its chain, PEM"},
    {.section = "identity",
     .name = "roots",
     .type = CONFIG_PATH,
     .offset = offsetof(struct service_config, roots),
     .help = "the platform's root certificates, PEM"},
    {.section = "bus",
     .name = "url",
     .type = CONFIG_STRING,
     .offset = offsetof(struct service_config, bus_url),
     .help = "tls://host:port of the NATS servers, separated by commas"},
    {.section = "bus",
     .name = "ca",
     .type = CONFIG_PATH,
     .offset = offsetof(struct service_config, bus_ca),
     .optional = true,
     .help = "certificates that the NATS server's must chain to, PEM; needed for tls://"},
    {.section = "bus",
     .name = "password_file",
     .type = CONFIG_PATH,
     .offset = offsetof(struct service_config, bus_password_file),
     .help = "file with the password of this service's bus user"},
    {.section = "database",
     .name = "conninfo",
     .type = CONFIG_STRING,
     .offset = offsetof(struct service_config, db_conninfo),
     .help = "libpq connection string, without a password"},
    {.section = "database",
     .name = "password_file",
     .type = CONFIG_PATH,
     .offset = offsetof(struct service_config, db_password_file),
     .optional = true,
     .help = "file with the password of the database role"},
    {.name = NULL},
};

struct frame_metrics frame_metrics;

static bool is_away(enum code code)
{
    return code == CODE_UNAVAILABLE || code == CODE_DEADLINE_EXCEEDED;
}

/* ---- accessors
 * -------------------------------------------------------------------------------------------------- */

const void *service_get_config(const struct service *service)
{
    return service->config;
}

struct bus *service_bus(const struct service *service)
{
    return service->bus;
}

struct bus_identity *service_identity(const struct service *service)
{
    return service->identity;
}

const struct der_list *service_roots(const struct service *service)
{
    return &service->roots;
}

const char *service_instance_id(const struct service *service)
{
    return service->instance_id;
}

const char *service_trust_domain(const struct service *service)
{
    return service->trust_domain;
}

void *service_state(const struct service *service)
{
    return service->state;
}

void service_set_state(struct service *service, void *state)
{
    service->state = state;
}

bool service_draining(const struct service *service)
{
    struct service *s = (struct service *)(uintptr_t)service;
    (void)pthread_mutex_lock(&s->mutex);
    bool draining = s->draining;
    (void)pthread_mutex_unlock(&s->mutex);
    return draining;
}

bool service_wait(struct service *service, int64_t ms)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += (ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    (void)pthread_mutex_lock(&service->mutex);
    while (!service->draining && pthread_cond_timedwait(&service->change, &service->mutex, &until) == 0)
        ;
    bool draining = service->draining;
    (void)pthread_mutex_unlock(&service->mutex);
    return draining;
}

static void begin_drain(struct service *service, int exit_code)
{
    (void)pthread_mutex_lock(&service->mutex);
    if (exit_code != 0)
        service->exit_code = exit_code;
    service->draining = true;
    (void)pthread_cond_broadcast(&service->change);
    (void)pthread_mutex_unlock(&service->mutex);
}

/* ---- database
 * ------------------------------------------------------------------------------------------------- */

/* A session that is lost says that the others of its time are, too; one that cannot be made says nothing of
 * them. */
static void db_set_up(struct service *service, bool up, bool lost)
{
    (void)pthread_mutex_lock(&service->mutex);
    if (service->db_up && lost)
        service->db_epoch++;
    service->db_up = up;
    (void)pthread_mutex_unlock(&service->mutex);
}

void service_db_lost(struct service *service)
{
    db_set_up(service, false, true);
}

enum code service_open_db(const struct service *service, struct db **ret, struct status *st)
{
    const struct service_config *config = service->config;
    const struct db_config db = {
        .conninfo = config->db_conninfo,
        .password_file = config->db_password_file,
        .schema = service->descriptor->name,
        .application_name = service->descriptor->name,
        .statement_timeout_ms = STATEMENT_TIMEOUT_MS,
    };
    return db_open(&db, ret, st);
}

enum code service_db_session(struct service *service, struct db **db, unsigned *epoch, struct status *st)
{
    (void)pthread_mutex_lock(&service->mutex);
    unsigned now = service->db_epoch;
    (void)pthread_mutex_unlock(&service->mutex);
    if (*db && *epoch != now) {
        db_close(*db);
        *db = NULL;
    }
    bool had_one = *db;
    enum code code = had_one ? db_ensure(*db, st) : service_open_db(service, db, st);
    *epoch = now;
    db_set_up(service, code == CODE_OK, code != CODE_OK && had_one);
    return code;
}

int64_t service_lock_key(const struct service *service, const char *name)
{
    uint64_t hash = 14695981039346656037u;
    const char *const parts[] = {"clm/", service->descriptor->name, "/", name};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        for (const char *c = parts[i]; *c; c++)
            hash = (hash ^ (uint8_t)*c) * 1099511628211u;
    return (int64_t)hash;
}

/* ---- events
 * ----------------------------------------------------------------------------------------------------- */

enum code service_emit(struct worker *worker, struct Clm__Event *event, struct arena *arena,
                       struct status *st)
{
    if (!event->subject)
        return status_set(st, CODE_INTERNAL, "event without a subject");
    if (!event->id) {
        char id[UUID_TEXT_SIZE];
        uuid_v7(id);
        event->id = arena_strdup(arena, id);
    }
    if (!event->has_occurred_at_ms) {
        event->has_occurred_at_ms = true;
        event->occurred_at_ms = clock_wall_ms();
    }
    const uint8_t *body;
    size_t len;
    wire_pack(&event->base, arena, &body, &len);
    return outbox_add(worker->db, event->id, event->subject, body, len, st);
}

/* ---- periodic work
 * ---------------------------------------------------------------------------------------------- */

enum code service_periodic(struct service *service, const char *name, int64_t interval_ms, bool exclusive,
                           enum code (*work)(struct worker *worker, struct status *st), struct status *st)
{
    if (service->n_periodic == SERVICE_PERIODIC_MAX)
        return status_set(st, CODE_INTERNAL, "%s: too much periodic work", name);
    service->periodic[service->n_periodic++] = (struct periodic){
        .service = service, .name = name, .interval_ms = interval_ms, .exclusive = exclusive, .work = work};
    return CODE_OK;
}

static enum code periodic_round(struct periodic *p, struct worker *worker, unsigned *epoch, bool *locked,
                                struct status *st)
{
    struct service *service = p->service;
    if (service->descriptor->migrations) {
        struct db *before = worker->db;
        unsigned epoch_before = *epoch;
        TRY(service_db_session(service, &worker->db, epoch, st));
        if (worker->db != before || *epoch != epoch_before)
            *locked = false;
        if (p->exclusive && !*locked)
            TRY(db_try_lock(worker->db, service_lock_key(service, p->name), locked, st));
        if (p->exclusive && !*locked)
            return CODE_OK;
    }
    enum code code = p->work(worker, st);
    if (worker->db)
        db_rollback(worker->db);
    return code;
}

static void *periodic_main(void *arg)
{
    struct periodic *p = arg;
    struct service *service = p->service;
    const struct service_descriptor *descriptor = service->descriptor;
    struct worker worker = {.service = service};
    unsigned epoch = 0;
    bool locked = false;
    enum code said = CODE_OK;
    struct status st = {0};
    if (descriptor->worker_new && !(worker.state = descriptor->worker_new(service, &st)))
        log_error("periodic work without a worker", "work", p->name, "why", st.msg, NULL);
    int64_t next = clock_mono_ms();
    do {
        st = (struct status){0};
        enum code code = periodic_round(p, &worker, &epoch, &locked, &st);
        if (code != CODE_OK && code != said && !is_away(code)) /* that is told by the readiness */
            log_warn("periodic work failed", "work", p->name, "why", st.msg, NULL);
        said = code;
        if (code != CODE_OK && worker.db) {
            /* Whatever happened to the session, its lock goes with it. */
            db_close(worker.db);
            worker.db = NULL;
            locked = false;
        }
        int64_t now = clock_mono_ms();
        next += p->interval_ms;
        if (next < now) /* work that takes longer than its interval is not made up for */
            next = now;
        if (service_wait(service, next - now))
            break;
    } while (true);
    if (descriptor->worker_free && worker.state)
        descriptor->worker_free(worker.state);
    db_close(worker.db);
    return NULL;
}

/* ---- readiness
 * -------------------------------------------------------------------------------------------------- */

bool service_is_ready(struct service *service, char *why, size_t size)
{
    (void)pthread_mutex_lock(&service->mutex);
    bool draining = service->draining, started = service->started, db_up = service->db_up;
    bool expired = service->n_own > 0 && clock_wall_ms() >= service->own[0].current.not_after_ms;
    (void)pthread_mutex_unlock(&service->mutex);
    char own[128] = "";
    const char *reason = NULL;
    if (draining)
        reason = "leaving";
    else if (service->descriptor->migrations && !db_up)
        reason = "the database is away";
    else if (!bus_ready(service->bus))
        reason = "the bus is away";
    else if (!started)
        reason = "starting";
    else if (expired)
        reason = "the service's own certificate has expired";
    else if (service->descriptor->ready && !service->descriptor->ready(service, own))
        reason = own;
    (void)snprintf(why, size, "%s", reason ? reason : "ok");
    return !reason;
}

static void on_look(void *arg)
{
    struct service *service = arg;
    char why[200];
    bool ready = service_is_ready(service, why, sizeof(why));
    metric_set(frame_metrics.ready, NULL, NULL, ready ? 1 : 0);
    if (strcmp(why, service->said_why) != 0) {
        if (ready) {
            log_info("ready", NULL);
            (void)sd_notify(0, service->said_ready ? "STATUS=ready" : "READY=1\nSTATUS=ready");
            service->said_ready = true;
        } else {
            log_warn("not ready", "why", why, NULL);
            (void)sd_notifyf(0, "STATUS=not ready: %s", why);
        }
        (void)snprintf(service->said_why, sizeof(service->said_why), "%s", why);
    }
    if (bus_given_up(service->bus) && !service_draining(service)) {
        log_error("the bus refuses this service; leaving, to start anew", "user", service->descriptor->name,
                  NULL);
        begin_drain(service, 1);
    }
    loop_timer_set(service->look, ready ? LOOK_MS : LOOK_MS / 5);
}

static void on_bus_ready(bool ready, void *arg)
{
    struct service *service = arg;
    if (!ready)
        return;
    (void)pthread_mutex_lock(&service->mutex);
    service->bus_epoch++;
    struct relay *relay = service->relay;
    relay_wake(relay);
    (void)pthread_mutex_unlock(&service->mutex);
}

/* ---- up and down, on the supervisor's thread
 * ---------------------------------------------------------------------- */

/* Both hands back UNAVAILABLE when draining began before they succeeded. */
static enum code bring_up_database(struct service *service, struct status *st)
{
    if (!service->descriptor->migrations)
        return CODE_OK;
    struct db *db = NULL;
    unsigned epoch = 0;
    enum code code;
    do {
        code = service_db_session(service, &db, &epoch, st);
        if (code == CODE_OK)
            code = db_migrate(db, service->descriptor->name, service->descriptor->migrations, st);
    } while (is_away(code) && !service_wait(service, RETRY_MS));
    db_close(db);
    return code;
}

static enum code bring_up_own(struct service *service, struct status *st)
{
    if (!service->descriptor->start)
        return CODE_OK;
    enum code code, said = CODE_OK;
    do {
        service->n_periodic = 0;
        code = service->descriptor->start(service, st);
        if (is_away(code) && code != said)
            log_warn("start waits", "why", st->msg, NULL);
        said = code;
    } while (is_away(code) && !service_wait(service, START_RETRY_MS));
    return code;
}

static enum code bring_up_intake(struct service *service, struct status *st)
{
    const struct service_descriptor *d = service->descriptor;
    TRY(workers_start(service, &service->workers, st));
    if (d->migrations) {
        struct relay *relay = NULL;
        TRY(relay_start(service, &relay, st));
        (void)pthread_mutex_lock(&service->mutex);
        service->relay = relay;
        (void)pthread_mutex_unlock(&service->mutex);
    }
    for (size_t i = 0; i < service->n_periodic; i++) {
        struct periodic *p = &service->periodic[i];
        if (pthread_create(&p->thread, NULL, periodic_main, p) != 0)
            return status_set(st, CODE_RESOURCE_EXHAUSTED, "%s: no thread for it", p->name);
        p->started = true;
    }
    const struct bus_user *user = bus_user_find(d->name);
    for (size_t i = 0; d->events && user && i < BUS_CONSUMERS_MAX && user->consumer[i].durable; i++)
        TRY(consumer_start(service, user->consumer[i].durable, &service->consumer[i], st));
    if (d->rpc)
        TRY(rpc_server_new(service->bus, service->identity, d->name, d->rpc, d->methods, d->n_methods,
                           workers_deliver, service, &service->rpc, st));
    service->about = (struct micro_about){service->instance_id, CLM_VERSION, d->description};
    if (d->rpc)
        TRY(micro_new(service->bus, service->rpc, &service->about, &service->micro, st));
    return renewals_start(service, st);
}

static void take_down(struct service *service, bool own_started)
{
    micro_free(service->micro);
    if (service->rpc)
        rpc_server_stop(service->rpc);
    workers_stop(service->workers); /* answers what was taken */
    renewals_stop(service);
    for (size_t i = 0; i < BUS_CONSUMERS_MAX; i++)
        consumer_stop(service->consumer[i]);
    for (size_t i = 0; i < service->n_periodic; i++)
        if (service->periodic[i].started)
            (void)pthread_join(service->periodic[i].thread, NULL);
    (void)pthread_mutex_lock(&service->mutex);
    struct relay *relay = service->relay;
    service->relay = NULL;
    (void)pthread_mutex_unlock(&service->mutex);
    relay_stop(relay);
    rpc_server_free(service->rpc);
    if (own_started && service->descriptor->stop)
        service->descriptor->stop(service);
}

static void *supervisor_main(void *arg)
{
    struct service *service = arg;
    struct status st = {0};
    bool own_started = false;
    enum code code = bring_up_database(service, &st);
    if (code == CODE_OK) {
        code = bring_up_own(service, &st);
        own_started = code == CODE_OK;
    }
    if (code == CODE_OK)
        code = bring_up_intake(service, &st);
    if (code == CODE_OK) {
        (void)pthread_mutex_lock(&service->mutex);
        service->started = true;
        while (!service->draining)
            (void)pthread_cond_wait(&service->change, &service->mutex);
        (void)pthread_mutex_unlock(&service->mutex);
    } else if (!service_draining(service)) {
        log_error("cannot start", "why", st.msg, NULL);
        begin_drain(service, 1);
    }
    take_down(service, own_started);
    loop_stop(service->loop);
    return NULL;
}

/* ---- identity
 * --------------------------------------------------------------------------------------------------- */

static enum code read_pem(const char *path, struct der_list *ret, struct status *st)
{
    AUTO_BUF struct buf pem;
    buf_init(&pem, PEM_BYTES_MAX);
    TRY(file_read(path, PEM_BYTES_MAX, &pem, st));
    if (pem_to_certs((struct bytes){pem.data, pem.len}, ret, st) != CODE_OK)
        return status_wrap(st, "%s", path);
    return ret->n > 0 ? CODE_OK : status_set(st, CODE_INVALID_ARGUMENT, "%s: no certificate in it", path);
}

static enum code use_identity(struct service *service, const struct credential *credential, void *arg,
                              struct status *st)
{
    (void)arg;
    AUTO_KEY struct key *key = NULL;
    struct bytes leaf = der_bytes(&credential->chain.item[0]);
    TRY(key_parse(credential->key, NULL, &key, st));
    if (service->identity)
        return bus_identity_replace(service->identity, TAKE(key), leaf, st);
    struct spiffe_id id;
    TRY(cert_spiffe(leaf, &id, st));
    if (strcmp(id.kind, "service") != 0 || strcmp(id.name, service->descriptor->name) != 0)
        return status_set(st, CODE_FAILED_PRECONDITION, "it is the certificate of %s %s, not of service %s",
                          id.kind, id.name, service->descriptor->name);
    (void)snprintf(service->trust_domain, sizeof(service->trust_domain), "%s", id.trust_domain);
    service->key = TAKE(key);
    struct der_list rest = credential_intermediates(credential);
    return bus_identity_new(service->key, leaf, &rest, &service->roots, &service->identity, st);
}

static enum code load_identity(struct service *service, struct status *st)
{
    const struct service_config *config = service->config;
    const struct renewal renewal = {
        .name = "identity",
        .key_path = config->identity_key,
        .certificate_path = config->identity_certificate,
        .use = use_identity,
    };
    TRY(read_pem(config->roots, &service->roots, st));
    if (service_renewal(service, &renewal, st) != CODE_OK)
        return status_wrap(st, "%s", config->identity_certificate);
    return CODE_OK;
}

/* ---- serving
 * -------------------------------------------------------------------------------------------------- */

static void on_signal(int signum, void *arg)
{
    struct service *service = arg;
    log_info("leaving", "signal", signum == SIGTERM ? "SIGTERM" : "SIGINT", NULL);
    (void)sd_notify(0, "STOPPING=1");
    begin_drain(service, 0);
}

static void make_frame_metrics(void)
{
    frame_metrics = (struct frame_metrics){
        .requests = metric_counter("clm_rpc_requests_total", "Requests served, by method and answer."),
        .request_ms = metric_histogram_ms("clm_rpc_duration_ms", "Time in a worker, by method."),
        .queue = metric_gauge("clm_rpc_queue", "Requests waiting for a worker."),
        .refused = metric_counter("clm_rpc_refused_total", "Requests refused because the queue was full."),
        .relayed = metric_counter("clm_events_published_total", "Events put on the stream."),
        .outbox = metric_gauge("clm_outbox_batch", "Events found in the outbox at the last look."),
        .consumed = metric_counter("clm_events_applied_total", "Events read and dealt with, by durable."),
        .parked = metric_counter("clm_events_parked_total", "Events that could not be applied, by durable."),
        .ready = metric_gauge("clm_ready", "1 when this process should get requests."),
        .certificate_ends = metric_gauge("clm_certificate_not_after_seconds",
                                         "When this process's own certificates end, as Unix time, by name."),
    };
}

static enum code open_all(struct service *service, struct status *st)
{
    const struct service_config *config = service->config;
    TRY(load_identity(service, st));
    const struct bus_config bus = {
        .url = config->bus_url,
        .ca_file = config->bus_ca,
        .service = service->descriptor->name,
        .password_file = config->bus_password_file,
    };
    TRY(bus_new(&bus, &service->bus, st));
    bus_on_ready(service->bus, on_bus_ready, service);
    service->loop = loop_new();
    service->sigterm = loop_signal_new(service->loop, SIGTERM, on_signal, service);
    service->sigint = loop_signal_new(service->loop, SIGINT, on_signal, service);
    service->look = loop_timer_new(service->loop, on_look, service);
    TRY(admin_new(service, service->loop, config->admin_listen, &service->admin, st));
    if (pthread_create(&service->supervisor, NULL, supervisor_main, service) != 0)
        return status_set(st, CODE_RESOURCE_EXHAUSTED, "no thread to start with");
    return CODE_OK;
}

static void close_all(struct service *service)
{
    admin_free(service->admin);
    if (service->loop) {
        loop_timer_free(service->look);
        loop_signal_free(service->sigterm);
        loop_signal_free(service->sigint);
    }
    bus_free(service->bus);
    if (service->loop)
        loop_free(service->loop);
    bus_identity_free(service->identity);
    key_free(service->key);
    renewals_free(service);
    der_list_done(&service->roots);
}

static int serve(struct service *service)
{
    struct status st = {0};
    uuid_v7(service->instance_id);
    (void)pthread_mutex_init(&service->mutex, NULL);
    pthread_condattr_t attr;
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&service->change, &attr);
    (void)pthread_condattr_destroy(&attr);
    make_frame_metrics();
    (void)signal(SIGPIPE, SIG_IGN);
    log_info("starting", "version", CLM_VERSION, "commit", CLM_GIT_COMMIT, "instance", service->instance_id,
             NULL);
    if (open_all(service, &st) != CODE_OK) {
        log_error("cannot start", "why", st.msg, NULL);
        close_all(service);
        return 1;
    }
    loop_timer_set(service->look, 0);
    loop_run(service->loop);
    (void)pthread_join(service->supervisor, NULL);
    int exit_code = service->exit_code;
    close_all(service);
    (void)pthread_cond_destroy(&service->change);
    (void)pthread_mutex_destroy(&service->mutex);
    log_info("left", NULL);
    return exit_code;
}

/* ---- arguments
 * -------------------------------------------------------------------------------------------------- */

/* The shared keys and the service's own as one table; a service without database has no [database]. */
static struct config_key *join_keys(const struct service_descriptor *d)
{
    size_t n = ARRAY_LEN(service_config_keys);
    for (const struct config_key *k = d->config_keys; k && k->name; k++)
        n++;
    struct config_key *keys = calloc(n, sizeof(*keys));
    if (!keys)
        abort();
    size_t i = 0;
    for (const struct config_key *k = service_config_keys; k->name; k++)
        if (d->migrations || strcmp(k->section, "database") != 0)
            keys[i++] = *k;
    for (const struct config_key *k = d->config_keys; k && k->name; k++)
        keys[i++] = *k;
    return keys;
}

static void print_usage(const struct service_descriptor *d)
{
    printf("clm-%s: %s\n\n", d->name, d->description);
    printf("  clm-%s --config FILE       serve\n", d->name);
    for (const struct service_command *c = d->commands; c && c->name; c++)
        printf("  clm-%s %s%s …   %s\n", d->name, c->name, c->needs_config ? " --config FILE" : "", c->help);
    printf("  clm-%s --help-config       print a configuration file with every key explained\n", d->name);
    printf("  clm-%s --version\n\n", d->name);
    printf("Every key can be set in the environment, too: CLM_<SECTION>_<KEY>.\n");
}

/* Takes `--config FILE` out of argv; false if FILE is missing. */
static bool take_config(int *argc, char **argv, const char **ret_path)
{
    for (int i = 1; i < *argc; i++) {
        int used = 0;
        if (strcmp(argv[i], "--config") == 0) {
            if (i + 1 == *argc)
                return false;
            *ret_path = argv[i + 1];
            used = 2;
        } else if (strncmp(argv[i], "--config=", 9) == 0) {
            *ret_path = argv[i] + 9;
            used = 1;
        }
        if (used) {
            memmove(&argv[i], &argv[i + used], (size_t)(*argc - i - used + 1) * sizeof(*argv));
            *argc -= used;
            i--;
        }
    }
    return true;
}

static int run(const struct service_descriptor *d, struct service *service, int argc, char **argv)
{
    const struct config_schema schema = {.keys = service->keys};
    const struct service_command *command = NULL;
    for (const struct service_command *c = d->commands; argc > 1 && c && c->name; c++)
        if (strcmp(c->name, argv[1]) == 0)
            command = c;
    if (!command) {
        for (int i = 1; i < argc; i++) {
            if (strcmp(argv[i], "--help") == 0) {
                print_usage(d);
                return 0;
            }
            if (strcmp(argv[i], "--version") == 0) {
                printf("clm-%s %s (commit %s, built %s)\n", d->name, CLM_VERSION, CLM_GIT_COMMIT,
                       CLM_BUILD_DATE);
                return 0;
            }
            if (strcmp(argv[i], "--help-config") == 0) {
                config_print_help(&schema);
                return 0;
            }
        }
    }
    const char *path = NULL;
    if (!take_config(&argc, argv, &path) || (!command && argc > 1)) {
        (void)fprintf(stderr, "clm-%s: unknown argument \"%s\"; see clm-%s --help\n", d->name, argv[argc - 1],
                      d->name);
        return 2;
    }
    struct status st = {0};
    if (!command || command->needs_config) {
        if (!path) {
            (void)fprintf(stderr, "clm-%s: --config FILE is missing; see clm-%s --help\n", d->name, d->name);
            return 2;
        }
        if (config_load(&schema, path, service->config, &st) != CODE_OK) {
            (void)fprintf(stderr, "clm-%s: %s\n", d->name, st.msg);
            return 2;
        }
    }
    const struct service_config *config = service->config;
    int level = config->log_level ? log_level_parse(config->log_level) : LOG_LEVEL_INFO;
    if (level < 0) {
        (void)fprintf(stderr, "clm-%s: log_level: \"%s\" is none of debug, info, warn, error\n", d->name,
                      config->log_level);
        return 2;
    }
    bool json = config->log_format && strcmp(config->log_format, "json") == 0;
    log_init(d->name, (enum log_level)level, json ? LOG_FORMAT_JSON : LOG_FORMAT_TEXT);
#ifndef __SANITIZE_ADDRESS__ /* its leak check attaches to the process */
    secret_harden_process();
#endif
    if (command)
        return command->run(argc - 1, argv + 1, service->config);
    return serve(service);
}

int service_main(const struct service_descriptor *descriptor, int argc, char **argv)
{
    struct service service = {.descriptor = descriptor};
    service.config =
        calloc(1, descriptor->config_size > sizeof(struct service_config) ? descriptor->config_size
                                                                          : sizeof(struct service_config));
    if (!service.config)
        abort();
    service.keys = join_keys(descriptor);
    int code = run(descriptor, &service, argc, argv);
    config_done(service.keys, service.config);
    free(service.config);
    free(service.keys);
    return code;
}
