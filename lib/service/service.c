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

struct frame_metrics frame_metrics;

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
    for (size_t i = 0; i < service->n_periodic; i++)
        TRY(periodic_start(&service->periodic[i], st));
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
        periodic_stop(&service->periodic[i]);
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
        .requests =
            metric_counter("clm_rpc_requests_total", "Requests served, by method and code of the answer."),
        .request_ms = metric_histogram_ms("clm_rpc_duration_ms", "Time in a worker, by method."),
        .queue = metric_gauge("clm_rpc_queue", "Requests waiting for a worker."),
        .refused = metric_counter("clm_rpc_refused_total", "Requests refused because the queue was full."),
        .workers = metric_gauge("clm_workers", "Worker threads, each with a database session of its own."),
        .busy = metric_gauge("clm_workers_busy", "Worker threads that are serving a request."),
        .relayed = metric_counter("clm_events_published_total", "Events put on the stream."),
        .outbox = metric_gauge("clm_outbox_batch", "Events found in the outbox at the last look."),
        .outbox_lag = metric_gauge(
            "clm_outbox_lag_seconds",
            "Age of the oldest event that waits in the outbox; 0: none, or another replica relays."),
        .stream_fill =
            metric_gauge("clm_stream_fill_ratio", "How full the event stream is; 0: another replica relays."),
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

int service_serve(struct service *service)
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
