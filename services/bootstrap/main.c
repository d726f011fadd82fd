/*
 * clm-bootstrap: tokens, identities, certificates. This file is its descriptor: configuration, methods,
 * events, commands, and what happens at start: the signer comes up, and its root must be the one that init
 * recorded.
 */
#include <string.h>

#include "base/endpoint.h"
#include "base/id.h"
#include "base/log.h"
#include "border.h"
#include "crl.h"
#include "proto/bootstrap.pb-c.h"
#include "scope/scope.h"
#include "store.h"
#include "trust.h"

#define KEY(member, type_, ...)                                                                              \
    {                                                                                                        \
        .section = "bootstrap", .type = type_, .offset = offsetof(struct bootstrap_config, member),          \
        __VA_ARGS__                                                                                          \
    }
#define HOUR_MS (60 * 60 * 1000LL)
#define DAY_MS  (24 * HOUR_MS)

#define SIGNER_LOOK_MS 1000
#define CRL_LOOK_MS    1000
#define LIFE_MIN_MS    10000 /* below, agents and services would do nothing but renew */

static const struct config_key config_keys[] = {
    KEY(ca_dir, CONFIG_PATH, .name = "ca_dir", .help = "DIR/ca of clm-bootstrap init"),
    KEY(gateway_address, CONFIG_STRING, .name = "gateway_address",
        .help = "host:port of the gateway that agents connect to; printed in tokens"),
    KEY(reserved_names, CONFIG_LIST, .name = "reserved_names", .optional = true,
        .help =
            "further names and addresses of the platform's own servers; no managed certificate may hold one"),
    KEY(token_failures_per_min, CONFIG_INT, .name = "token_failures_per_min", .fallback = "10", .min = 1,
        .max = 1000000, .help = "tokens that are not valid, from one source, before it has to wait"),
    KEY(identity_life_ms, CONFIG_DURATION, .name = "identity_life", .fallback = "30d", .min = LIFE_MIN_MS,
        .max = 30 * DAY_MS, .help = "life of agents' certificates"),
    KEY(certificate_life_ms, CONFIG_DURATION, .name = "certificate_life", .fallback = "90d", .min = HOUR_MS,
        .max = 90 * DAY_MS, .help = "life of managed certificates, unless a task asks for less"),
    KEY(service_life_ms, CONFIG_DURATION, .name = "service_life", .fallback = "90d", .min = LIFE_MIN_MS,
        .max = 365 * DAY_MS, .help = "life of services' and gateways' certificates"),
    KEY(crl_life_ms, CONFIG_DURATION, .name = "crl_life", .fallback = "1d", .min = LIFE_MIN_MS,
        .max = 30 * DAY_MS, .help = "how long a revocation list holds; the next one comes at half of it"),
    KEY(crl_url, CONFIG_STRING, .name = "crl_url", .optional = true,
        .help = "where anybody finds the gateways' /crl: http://host/crl; stands in certificates, if set"),
    KEY(signer_start_ms, CONFIG_DURATION, .name = "signer_start", .fallback = "60s", .min = 1000,
        .max = 600000, .help = "how long the signer may take to unlock the CA keys"),
    KEY(checkin_interval_ms, CONFIG_DURATION, .name = "checkin_interval", .fallback = "30s", .min = 5000,
        .max = HOUR_MS, .help = "how often agents check in at least"),
    {0},
};

struct bootstrap_metrics bootstrap_metrics;

static void make_metrics(void)
{
    bootstrap_metrics = (struct bootstrap_metrics){
        .tokens_refused = metric_counter("clm_tokens_refused_total", "Bootstrap tokens refused, by reason."),
        .certificates =
            metric_counter("clm_certificates_given_total", "Answers that gave a certificate, by profile."),
        .signer_restarts =
            metric_counter("clm_signer_restarts_total", "Times the signer had to be started again."),
        .crl_begins = metric_gauge("clm_crl_this_update_seconds",
                                   "When each CA's revocation list was made, as Unix time, by issuer."),
        .crl_ends = metric_gauge("clm_crl_next_update_seconds",
                                 "When each CA's revocation list ends, as Unix time, by issuer."),
    };
    metric_add(bootstrap_metrics.signer_restarts, NULL, NULL, 0);
}

static enum code read_gateway_host(const char *address, char ret[256], struct status *st)
{
    struct endpoint at;
    if (endpoint_split(address, &at, st) != CODE_OK)
        return status_wrap(st, "[bootstrap] gateway_address");
    if (!dns_pattern_valid(at.host))
        return status_set(st, CODE_INVALID_ARGUMENT,
                          "[bootstrap] gateway_address: \"%.80s\" is no name or address", at.host);
    memcpy(ret, at.host, sizeof(at.host));
    return CODE_OK;
}

static enum code fill_settings(const struct bootstrap_config *config, struct app *app, struct status *st)
{
    AUTO_CERT_INFO struct cert_info root = {0};
    TRY(cert_read(signer_root(app->signer), &root, st));
    app->settings = (struct settings){
        .gateway_address = config->gateway_address,
        .reserved_names = config->reserved_names,
        .trust_domain = signer_trust_domain(app->signer),
        .root = signer_root(app->signer),
        .identity_life_sec = config->identity_life_ms / 1000,
        .certificate_life_sec = config->certificate_life_ms / 1000,
        .service_life_sec = config->service_life_ms / 1000,
        .checkin_interval_ms = (uint32_t)config->checkin_interval_ms,
    };
    while (config->reserved_names && config->reserved_names[app->settings.n_reserved_names])
        app->settings.n_reserved_names++;
    TRY(read_gateway_host(config->gateway_address, app->settings.gateway_host, st));
    if (!hex_decode(root.spki_sha256, app->settings.root_pin, SHA256_SIZE))
        return status_set(st, CODE_INTERNAL, "the root's SPKI has no digest");
    return CODE_OK;
}

static enum code watch_signer(struct worker *worker, struct status *st)
{
    const struct app *app = service_state(worker->service);
    if (signer_ready(app->signer))
        return CODE_OK;
    log_error("the signer has died; starting it again", NULL);
    metric_add(bootstrap_metrics.signer_restarts, NULL, NULL, 1);
    return signer_ensure(app->signer, st);
}

/* The platform does not stand on these lists: one that fails is tried again, told, and keeps nobody from
 * work.
 */
static enum code tend_crls(struct worker *worker, struct status *st)
{
    const struct bootstrap_config *config = service_get_config(worker->service);
    AUTO_ARENA struct arena *arena = arena_new();
    struct request req;
    struct border border;
    struct crl_times times[ISSUING_CA_COUNT];

    request_init(&req, &border, worker, NULL, arena);
    enum code code = crls_tend(&req, config->crl_life_ms / 1000, times, st);
    for (size_t ca = 0; ca < ISSUING_CA_COUNT; ca++) {
        const char *issuer = issuing_ca_name((enum issuing_ca)ca);
        if (times[ca].next_update_ms < 0)
            continue;
        metric_set(bootstrap_metrics.crl_begins, "issuer", issuer, (double)times[ca].this_update_ms / 1000);
        metric_set(bootstrap_metrics.crl_ends, "issuer", issuer, (double)times[ca].next_update_ms / 1000);
    }
    return code;
}

static void app_free(struct app *app)
{
    signer_stop(app->signer);
    throttle_free(app->throttle);
    free(app);
}

static enum code app_start(struct service *service, struct app *app, struct status *st)
{
    const struct bootstrap_config *config = service_get_config(service);
    const struct signer_config signer = {.executable = "/proc/self/exe",
                                         .ca_dir = config->ca_dir,
                                         .crl_url = config->crl_url,
                                         .start_ms = config->signer_start_ms};
    CLEANUP(cleanup_db) struct db *db = NULL;

    make_metrics();
    if (config->crl_url && !crl_url_valid(config->crl_url))
        return status_set(
            st, CODE_INVALID_ARGUMENT,
            "[bootstrap] crl_url: \"%.80s\" is no http:// or https:// address without a slash at "
            "its end",
            config->crl_url);
    TRY(signer_start(&signer, &app->signer, st));
    TRY(service_open_db(service, &db, st));
    TRY(trust_check(db, signer_root(app->signer), signer_trust_domain(app->signer), service_roots(service),
                    st));
    TRY(fill_settings(config, app, st));
    app->throttle = throttle_new((uint32_t)config->token_failures_per_min);
    TRY(service_periodic(service, "crl", CRL_LOOK_MS, true, tend_crls, st));
    return service_periodic(service, "signer", SIGNER_LOOK_MS, false, watch_signer, st);
}

static enum code start(struct service *service, struct status *st)
{
    struct app *app = calloc(1, sizeof(*app));
    if (!app)
        abort();
    enum code code = app_start(service, app, st);
    if (code != CODE_OK) {
        app_free(app);
        return code;
    }
    service_set_state(service, app);
    return CODE_OK;
}

static void stop(struct service *service)
{
    app_free(service_state(service));
    service_set_state(service, NULL);
}

static bool ready(struct service *service, char why[128])
{
    const struct app *app = service_state(service);
    if (signer_ready(app->signer))
        return true;
    (void)snprintf(why, 128, "the signer is down");
    return false;
}

static const struct service_command commands[] = {
    {"init", "makes the CA and the first credentials, once", command_init, true},
    {"init-bus", "makes the event stream and its consumers", command_init_bus, false},
    {"renew-certificates", "makes fresh certificates for services that start without one of their own",
     command_renew_certificates, false},
    {"publish-secret", "makes a Kubernetes Secret of files or of new passwords", command_publish_secret,
     false},
    {"signer", "the process that holds the CA keys; started by the service", command_signer, false},
    {0},
};

int main(int argc, char **argv)
{
    const struct service_descriptor descriptor = {
        .name = "bootstrap",
        .description = "bootstrap tokens, agents' identities and the platform's CA",
        .config_keys = config_keys,
        .config_size = sizeof(struct bootstrap_config),
        .migrations = bootstrap_migrations,
        .rpc = &clm__bootstrap__descriptor,
        .methods = bootstrap_methods,
        .n_methods = bootstrap_n_methods,
        .events = bootstrap_events,
        .commands = commands,
        .start = start,
        .stop = stop,
        .ready = ready,
    };
    return service_main(&descriptor, argc, argv);
}
