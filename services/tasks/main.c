/* clm-tasks: the descriptor, and what starts and stops with the process. */
#include <stddef.h>
#include <stdlib.h>

#include "app.h"
#include "base/clock.h"
#include "envelope.h"
#include "proto/tasks.pb-c.h"
#include "store.h"

#define SWEEP_INTERVAL_MS 1000
#define FOLD_INTERVAL_MS  60000
#define GAUGE_INTERVAL_MS 5000
#define WAKE_INTERVAL_MS  200
#define RENEW_INTERVAL_MS 1000

static const struct config_key config_keys[] = {
    {.section = "tasks",
     .name = "lease_expiry",
     .type = CONFIG_DURATION,
     .offset = offsetof(struct tasks_config, lease_expiry_ms),
     .fallback = "60s",
     .min = 5 * 1000,
     .max = 60 * 60 * 1000,
     .help = "a delivered task that its agent does not list after this time is delivered again"},
    {.section = "tasks",
     .name = "lease_return",
     .type = CONFIG_DURATION,
     .offset = offsetof(struct tasks_config, lease_return_ms),
     .fallback = "10m",
     .min = 30 * 1000,
     .max = 24 * 60 * 60 * 1000,
     .help = "a delivered task whose agent was not heard of for this time is READY again"},
    {0},
};

struct app *app_of(const struct worker *worker)
{
    return service_state(worker->service);
}

static enum code fold(struct worker *worker, struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    return tasks_statistics_fold(worker->db, arena, clock_wall_ms(), st);
}

static enum code sweep(struct worker *worker, struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    return task_sweep(&app_of(worker)->tasks, worker->db, arena, st);
}

static void app_free(struct app *app)
{
    envelope_signer_free(app->tasks.signer);
    waker_free(app->waker);
    free(app);
}

static enum code start(struct service *service, struct status *st)
{
    const struct tasks_config *config = service_get_config(service);
    struct app *app = calloc(1, sizeof(*app));
    if (!app)
        abort();
    app->waker = waker_new();
    app->tasks = (struct tasks){
        .signer = envelope_signer_new(),
        .roots = service_roots(service),
        .lease_expiry_ms = config->lease_expiry_ms,
        .lease_return_ms = config->lease_return_ms,
        .wake = wake_now,
        .fetch_agent = projection_fetch_agent,
        .service = service,
    };
    service_set_state(service, app);
    gauges_make();
    TRY(service_periodic(service, "envelope_certificate", RENEW_INTERVAL_MS, false,
                         certificate_renew_when_due, st));
    TRY(service_periodic(service, "projection", RENEW_INTERVAL_MS, false, projection_snapshot_when_due, st));
    TRY(service_periodic(service, "wakes", WAKE_INTERVAL_MS, false, wake_pending, st));
    TRY(service_periodic(service, "gauges", GAUGE_INTERVAL_MS, false, gauges_work, st));
    TRY(service_periodic(service, "statistics", FOLD_INTERVAL_MS, true, fold, st));
    return service_periodic(service, "sweep", SWEEP_INTERVAL_MS, true, sweep, st);
}

static void stop(struct service *service)
{
    struct app *app = service_state(service);
    service_set_state(service, NULL);
    if (app)
        app_free(app);
}

static bool ready(struct service *service, char why[128])
{
    struct app *app = service_state(service);
    if (!app || !envelope_signer_ready(app->tasks.signer, clock_wall_ms())) {
        (void)snprintf(why, 128, "no envelope certificate: waiting for bootstrap");
        return false;
    }
    if (!__atomic_load_n(&app->tasks.projection_complete, __ATOMIC_ACQUIRE)) {
        (void)snprintf(why, 128, "no snapshot of the agents yet: waiting for registry and bootstrap");
        return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    const struct service_descriptor descriptor = {
        .name = "tasks",
        .description = "tasks, leases, receipts, envelopes",
        .config_keys = config_keys,
        .config_size = sizeof(struct tasks_config),
        .migrations = tasks_migrations,
        .rpc = &clm__tasks__descriptor,
        .methods = tasks_methods,
        .n_methods = tasks_n_methods,
        .events = tasks_events,
        .start = start,
        .stop = stop,
        .ready = ready,
    };
    return service_main(&descriptor, argc, argv);
}
