/*
 * clm-registry: agents, operators, heartbeats, status. This file is its descriptor and its periodic work: the
 * tick on every replica, the sweep on the one that holds the lock.
 */
#include <inttypes.h>
#include <string.h>

#include "audit.h"
#include "base/clock.h"
#include "border.h"
#include "lost.h"
#include "proto/registry.pb-c.h"

extern const struct embed registry_migrations[];

#define TICK_MS  1000
#define SWEEP_MS 1000
#define HOUSE_MS 60000
#define AUDIT_MS 250
#define COPY_MS  10000
#define LOST_MS  5000
#define GAUGE_MS 5000

static const struct config_key config_keys[] = {
    {.section = "registry",
     .name = "reattach_window",
     .type = CONFIG_DURATION,
     .offset = offsetof(struct registry_config, reattach_window_ms),
     .fallback = "150s",
     .min = 0,
     .max = 3600 * 1000,
     .help = "how long agents may take to come back after a gateway or the platform was away"},
    {.section = "registry",
     .name = "assertion_life",
     .type = CONFIG_DURATION,
     .offset = offsetof(struct registry_config, assertion_life_ms),
     .fallback = "5m",
     .min = 10000,
     .max = 300000,
     .help = "how long an authenticated operator is trusted without asking again"},
    {.section = "audit",
     .name = "head_interval",
     .type = CONFIG_DURATION,
     .offset = offsetof(struct registry_config, head_interval_ms),
     .fallback = "60s",
     .min = 1000,
     .max = 3600 * 1000,
     .help = "how often a signed head of the audit log is made, if it grew"},
    {.section = "audit",
     .name = "cosignatures_keep",
     .type = CONFIG_DURATION,
     .offset = offsetof(struct registry_config, cosignatures_keep_ms),
     .fallback = "90d",
     .min = 24LL * 3600 * 1000,
     .max = 3650LL * 24 * 3600 * 1000,
     .help = "how long agents' signatures under heads of the audit log are kept"},
    {.section = "audit",
     .name = "witness_file",
     .type = CONFIG_STRING,
     .offset = offsetof(struct registry_config, witness_file),
     .fallback = "",
     .help = "each signed head is appended there, one a line: on storage that this host cannot rewrite"},
    {.section = "audit",
     .name = "witness_webhook",
     .type = CONFIG_STRING,
     .offset = offsetof(struct registry_config, witness_webhook),
     .fallback = "",
     .help = "http(s) URL that each signed head is sent to (POST, JSON)"},
    {.section = "platform",
     .name = "copy_file",
     .type = CONFIG_STRING,
     .offset = offsetof(struct registry_config, copy_file),
     .fallback = "",
     .help =
         "who is disabled, revoked or frozen is copied there every 10 s, for a restore of the database: on "
         "storage that is not restored with it (default: platform-copy in the state directory)"},
    {.name = NULL},
};

const struct timing *registry_timing(const struct service *service)
{
    return service_state(service);
}

/* Says that whoever is disabled would be known by now: not while the database or the bus is away. */
static enum code tick(struct worker *worker, struct status *st)
{
    char now[32];
    int n = snprintf(now, sizeof(now), "%" PRId64, clock_wall_ms());
    struct bus *bus = service_bus(worker->service);
    TRY(db_query(worker->db, "SELECT 1", NULL, NULL, st));
    if (!bus_ready(bus))
        return CODE_OK; /* readiness says it */
    return bus_publish(bus, BUS_SUBJECT_TICK, now, (size_t)n, st);
}

static enum code sweep_work(struct worker *worker, struct status *st)
{
    return sweep(worker->db, registry_timing(worker->service), clock_wall_ms(), st);
}

static enum code house_work(struct worker *worker, struct status *st)
{
    const struct registry_config *config = service_get_config(worker->service);
    AUTO_ARENA struct arena *arena = arena_new();
    TRY(audit_cosignatures_trim(worker->db, clock_wall_ms() - config->cosignatures_keep_ms, arena, st));
    return sweep_house(worker->db, st);
}

static enum code start(struct service *service, struct status *st)
{
    const struct registry_config *config = service_get_config(service);
    struct timing *timing = calloc(1, sizeof(*timing));
    if (!timing)
        abort();
    *timing = (struct timing){.reattach_window_ms = config->reattach_window_ms,
                              .gateway_silence_ms = GATEWAY_SILENCE_MS};
    service_set_state(service, timing);
    gauges_make();
    TRY(service_periodic(service, "tick", TICK_MS, false, tick, st));
    TRY(service_periodic(service, "sweep", SWEEP_MS, true, sweep_work, st));
    TRY(service_periodic(service, "audit-append", AUDIT_MS, true, audit_append_work, st));
    TRY(service_periodic(service, "audit-head", config->head_interval_ms, true, audit_head_work, st));
    TRY(service_periodic(service, "gauges", GAUGE_MS, false, gauges_work, st));
    TRY(service_periodic(service, "platform-copy", COPY_MS, true, platform_copy_work, st));
    TRY(service_periodic(service, "lost", LOST_MS, true, lost_work, st));
    return service_periodic(service, "house", HOUSE_MS, true, house_work, st);
}

static void stop(struct service *service)
{
    free(service_state(service));
    service_set_state(service, NULL);
}

static const struct service_command commands[] = {
    {"create-api-key", "make an API key and write it to a file", command_create_api_key, true},
    {"create-admin-link", "make a one-time link for an administrator of the console and write it to a file",
     command_create_admin_link, true},
    {.name = NULL},
};

static const struct stream_place place = {lost_place_check, lost_place_advance};

int main(int argc, char **argv)
{
    const struct service_descriptor descriptor = {
        .name = "registry",
        .description = "agents, operators, heartbeats and status of SSL CLM Agents",
        .config_keys = config_keys,
        .config_size = sizeof(struct registry_config),
        .migrations = registry_migrations,
        .rpc = &clm__registry__descriptor,
        .methods = registry_methods,
        .n_methods = registry_n_methods,
        .events = registry_events,
        .commands = commands,
        .place = &place,
        .start = start,
        .stop = stop,
    };
    return service_main(&descriptor, argc, argv);
}
