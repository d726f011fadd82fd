/* The descriptor of clm-gateway, what the edges share, and who may open an agent connection at all. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/id.h"
#include "base/log.h"
#include "gateway/docs.h"
#include "gateway/edge.h"
#include "gateway/gateway.h"
#include "gateway/openapi.h"
#include "gateway/streams.h"
#include "pki/cert.h"
#include "proto/registry.pb-c.h"

#define VERDICTS_MAX       16384
#define TLS_FILE_MAX       (256 * 1024)
#define REFUSALS_MS        1000
#define CRLS_MS            10000
#define SUPERSEDED_CALL_MS 5000
#define SESSION_LIFE_MS    (3600 * 1000)

#define KEY(member) offsetof(struct gateway_config, member)
static const struct config_key config_keys[] = {
    {"gateway", "agent_listen", CONFIG_STRING, KEY(agent_listen), "0.0.0.0:8443",
     .help = "address:port for agents (mTLS)"},
    {"gateway", "operator_listen", CONFIG_STRING, KEY(operator_listen), "127.0.0.1:8080",
     .help = "address:port for the REST API (TLS)"},
    {"gateway", "proxy_protocol_from", CONFIG_LIST, KEY(proxy_protocol_from), .optional = true,
     .help = "balancers before agent_listen, as addresses or ranges: each connection from them begins with a "
             "PROXY header, version 2"},
    {"gateway", "tls_key", CONFIG_PATH, KEY(tls_key), NULL,
     .help = "PEM private key of the TLS server certificate"},
    {"gateway", "tls_certificate", CONFIG_PATH, KEY(tls_certificate), NULL,
     .help = "PEM chain, leaf first, with the root last (agents pin it)"},
    {"gateway", "intermediates", CONFIG_PATH, KEY(intermediates), NULL,
     .help = "PEM of all issuing CAs: DIR/intermediates.pem of clm-bootstrap init"},
    {"gateway", "threads", CONFIG_INT, KEY(threads), "2", .min = 1, .max = EDGES_MAX,
     .help = "event loops, each with its own listeners"},
    {"gateway", "checkin_interval", CONFIG_DURATION, KEY(checkin_interval_ms), "30s", .min = 5000,
     .max = 3600000, .help = "how long a check-in is held, and how often an idle agent is heard"},
    {"gateway", "max_connections", CONFIG_INT, KEY(max_connections), "16000", .min = 1, .max = 1000000,
     .help = "agents at once"},
    {"gateway", "session_cache", CONFIG_INT, KEY(session_cache), "20000", .min = 0, .max = 1000000,
     .help = "TLS sessions kept for resumption"},
    {"gateway", "refusal_window", CONFIG_DURATION, KEY(refusal_window_ms), "60s", .min = 1000, .max = 3600000,
     .help = "repeated refusals of one source within it are one audit record, with a count"},
    {"gateway", "audit_head_interval", CONFIG_DURATION, KEY(head_interval_ms), "60s", .min = 1000,
     .max = 3600000, .help = "how often new heads of the audit log are fetched for agents"},
    {"gateway", "requests_per_minute", CONFIG_INT, KEY(requests_per_minute), "6000", .min = 1,
     .max = 1000000000, .help = "REST requests that one operator or API key may make; beyond it, 429"},
    {.name = NULL},
};

/* ---- agent certificates ---- */

static void on_superseded_told(struct arena *arena, ProtobufCMessage *reply, const struct status *st,
                               void *arg UNUSED)
{
    if (!reply)
        log_debug("a superseded identity is not reported", "reason", st->msg, NULL);
    arena_free(arena);
}

/* Who comes with an identity below the confirmed one holds a copy; the registry decides. */
static void tell_superseded(struct gateway *gateway, const char *agent_id, uint32_t generation)
{
    if (!fleet_superseded_due(gateway->fleet, agent_id, generation))
        return;
    char id[UUID_TEXT_SIZE];
    (void)snprintf(id, sizeof id, "%s", agent_id);
    Clm__Superseded one = CLM__SUPERSEDED__INIT;
    Clm__Superseded *list[] = {&one};
    Clm__ReportSupersededRequest request = CLM__REPORT_SUPERSEDED_REQUEST__INIT;
    one.agent_id = id;
    one.has_generation = true;
    one.generation = generation;
    request.n_seen = 1;
    request.seen = list;
    const struct rpc_call call = {
        .service = "registry",
        .descriptor = &clm__registry__descriptor,
        .method = "ReportSuperseded",
        .request = &request.base,
        .timeout_ms = SUPERSEDED_CALL_MS,
    };
    rpc_call_async(service_bus(gateway->service), service_identity(gateway->service), &call,
                   on_superseded_told, NULL);
}

static enum code identify(struct gateway *gateway, struct bytes der, int64_t now_ms,
                          struct agent_identity *ret, struct status *st)
{
    struct spiffe_id id;
    AUTO_CERT_INFO struct cert_info info = {0};
    TRY(chain_verify(der, &gateway->intermediates, service_roots(gateway->service), PURPOSE_AGENT_IDENTITY,
                     now_ms, st));
    TRY(cert_spiffe(der, &id, st));
    TRY(cert_read(der, &info, st));
    if (strcmp(id.kind, "agent") != 0 ||
        strcmp(id.trust_domain, service_trust_domain(gateway->service)) != 0 || !uuid_valid(id.name))
        return status_set(st, CODE_UNAUTHENTICATED, "not the identity of an agent of %.64s",
                          service_trust_domain(gateway->service));
    (void)snprintf(ret->agent_id, sizeof(ret->agent_id), "%.36s", id.name);
    ret->generation = (uint32_t)strtoul(info.subject_serial, NULL, 10);
    verdicts_keep(gateway->verdicts, der, ret, info.not_before_ms, info.not_after_ms, now_ms);
    return CODE_OK;
}

/* After the chain held and the dates are right: is it an agent's identity, and may that agent speak? */
static enum tls_verdict on_verify(const uint8_t *leaf, size_t leaf_len, char reason[128], void *arg)
{
    struct gateway *gateway = arg;
    struct bytes der = {leaf, leaf_len};
    struct status st = {0};
    struct agent_identity identity;
    int64_t now_ms = clock_wall_ms();

    if (!verdicts_find(gateway->verdicts, der, now_ms, &identity)) {
        if (identify(gateway, der, now_ms, &identity, &st) != CODE_OK) {
            (void)snprintf(reason, 128, "%.120s", st.msg);
            return TLS_PEER_UNSUPPORTED;
        }
    }
    switch (fleet_admit(gateway->fleet, identity.agent_id, identity.generation, &st)) {
    case CODE_UNAUTHENTICATED:
        tell_superseded(gateway, identity.agent_id, identity.generation);
        (void)snprintf(reason, 128, "%.120s", st.msg);
        return TLS_PEER_REVOKED;
    default: /* disabled and "not ready" are answered with words, in HTTP */
        return TLS_PEER_OK;
    }
}

static void on_refused(const struct tls_refusal *refusal, void *arg)
{
    struct gateway *gateway = arg;
    metric_add(gateway->metric.refusals, "by", refusal->by_peer ? "peer" : "gateway", 1);
    if (refusal->by_peer)
        return;
    refusals_add(gateway->refusals, REFUSAL_HANDSHAKE, refusal->peer,
                 refusal->uri && *refusal->uri ? refusal->uri : refusal->subject, refusal->reason);
    log_warn("TLS handshake refused", "peer", refusal->peer, "identity", refusal->uri, "subject",
             refusal->subject, "reason", refusal->reason, NULL);
}

/* ---- TLS contexts: made at the start, replaced when the certificate is ---- */

static enum code certs_pem(const struct gateway *gateway, struct buf *out, struct status *st)
{
    buf_init(out, TLS_FILE_MAX);
    TRY(certs_to_pem(service_roots(gateway->service), out, st));
    return certs_to_pem(&gateway->intermediates, out, st);
}

static enum code load_intermediates(struct gateway *gateway, struct status *st)
{
    AUTO_BUF struct buf pem = {0};
    buf_init(&pem, TLS_FILE_MAX);
    TRY(file_read(gateway->config->intermediates, TLS_FILE_MAX, &pem, st));
    if (pem_to_certs((struct bytes){pem.data, pem.len}, &gateway->intermediates, st) != CODE_OK)
        return status_wrap(st, "%s", gateway->config->intermediates);
    return CODE_OK;
}

/* Handshakes from now on; connections go on with what they have. */
static enum code use_tls(struct service *service UNUSED, const struct credential *credential, void *arg,
                         struct status *st)
{
    struct gateway *gateway = arg;
    const struct gateway_config *config = gateway->config;
    AUTO_BUF struct buf chain = {0}, trust = {0};

    buf_init(&chain, TLS_FILE_MAX);
    TRY(certs_to_pem(&credential->chain, &chain, st));
    TRY(certs_pem(gateway, &trust, st));
    struct tls_server_config agents = {
        .chain = chain.data,
        .chain_len = chain.len,
        .key = credential->key,
        .min_version = TLS_1_3,
        .client_auth = TLS_CLIENT_OPTIONAL,
        .client_ca = trust.data,
        .client_ca_len = trust.len,
        .session_cache = (size_t)config->session_cache,
        .session_life_ms = SESSION_LIFE_MS,
        .on_verify = on_verify,
        .on_refused = on_refused,
        .arg = gateway,
    };
    struct tls_server_config operators = agents;
    operators.min_version = TLS_1_2;
    operators.client_auth = TLS_CLIENT_NONE;
    operators.on_verify = NULL;

    if (gateway->agent_tls) {
        TRY(tls_server_replace(gateway->agent_tls, &agents, st));
        return tls_server_replace(gateway->operator_tls, &operators, st);
    }
    TRY(tls_server_new(&agents, &gateway->agent_tls, st));
    return tls_server_new(&operators, &gateway->operator_tls, st);
}

static enum code load_proxies(struct gateway *gateway, struct status *st)
{
    char **from = gateway->config->proxy_protocol_from;
    size_t n = 0;
    while (from && from[n])
        n++;
    gateway->proxies = calloc(n + 1, sizeof(*gateway->proxies));
    if (!gateway->proxies)
        abort();
    for (gateway->n_proxies = 0; gateway->n_proxies < n; gateway->n_proxies++) {
        if (!cidr_parse(from[gateway->n_proxies], &gateway->proxies[gateway->n_proxies]))
            return status_set(st, CODE_INVALID_ARGUMENT,
                              "[gateway] proxy_protocol_from: \"%.60s\" is no address and no range without "
                              "host bits, such as 10.1.0.0/16",
                              from[gateway->n_proxies]);
    }
    return CODE_OK;
}

static enum code load_tls(struct gateway *gateway, struct status *st)
{
    const struct renewal renewal = {
        .name = "tls",
        .tls = true,
        .key_path = gateway->config->tls_key,
        .certificate_path = gateway->config->tls_certificate,
        .use = use_tls,
        .arg = gateway,
    };
    return service_renewal(gateway->service, &renewal, st);
}

/* What is left when we leave goes in gateway_stop. */
static enum code report_refusals(struct worker *worker, struct status *st)
{
    struct gateway *gateway = service_state(worker->service);
    return refusals_report(gateway->refusals, false, st);
}

static enum code fetch_heads(struct worker *worker, struct status *st)
{
    struct gateway *gateway = service_state(worker->service);
    return heads_fetch(gateway->heads, st);
}

static enum code fetch_crls(struct worker *worker, struct status *st)
{
    struct gateway *gateway = service_state(worker->service);
    return crls_fetch(gateway->crls, st);
}

/* ---- life ---- */

static void on_cut(const char *agent_id, void *arg)
{
    struct gateway *gateway = arg;
    for (size_t i = 0; i < gateway->n_edges; i++) {
        if (gateway->edges[i])
            edge_post_cut(gateway->edges[i], agent_id);
    }
}

static void on_more_events(void *arg)
{
    struct gateway *gateway = arg;
    for (size_t i = 0; i < gateway->n_edges; i++) {
        if (gateway->edges[i])
            streams_post_more(gateway->edges[i]->streams);
    }
}

static void on_wake(const char *subject UNUSED, const void *data, size_t len, void *arg)
{
    struct gateway *gateway = arg;
    for (size_t i = 0; i < gateway->n_edges; i++)
        edge_post_wake(gateway->edges[i], data, len);
}

static void gateway_stop(struct service *service)
{
    struct gateway *gateway = service_state(service);
    if (!gateway)
        return;
    bus_unsubscribe(gateway->wakes);
    fleet_stop(gateway->fleet);
    feed_stop(gateway->feed);
    for (size_t i = 0; i < gateway->n_edges; i++)
        edge_stop(gateway->edges[i]);
    struct status st = {0};
    if (refusals_report(gateway->refusals, true, &st) != CODE_OK)
        log_warn("refusals were not reported", "why", st.msg, NULL);
    refusals_free(gateway->refusals);
    heads_free(gateway->heads);
    crls_free(gateway->crls);
    feed_free(gateway->feed);
    rates_free(gateway->rates);
    fleet_free(gateway->fleet);
    verdicts_free(gateway->verdicts);
    tls_context_free(gateway->agent_tls);
    tls_context_free(gateway->operator_tls);
    der_list_done(&gateway->intermediates);
    buf_done(&gateway->openapi);
    buf_done(&gateway->docs);
    free(gateway->proxies);
    free(gateway);
    service_set_state(service, NULL);
}

static void make_metrics(struct gateway *gateway)
{
    gateway->metric.connections = metric_gauge("clm_gateway_agents_connected", "Agents connected, by edge");
    gateway->metric.held = metric_gauge("clm_gateway_checkins_held", "Check-ins held, by edge");
    gateway->metric.checkins = metric_counter("clm_gateway_checkins_total", "Check-ins taken");
    gateway->metric.deliveries =
        metric_counter("clm_gateway_deliveries_total", "Task envelopes handed to agents");
    gateway->metric.heartbeat_batch =
        metric_histogram_ms("clm_gateway_heartbeat_batch_size", "Heartbeats in one request");
    gateway->metric.lease_batch =
        metric_histogram_ms("clm_gateway_lease_batch_size", "Agents in one lease request");
    gateway->metric.refusals = metric_counter("clm_gateway_handshakes_refused_total",
                                              "TLS handshakes that ended early, by who ended them");
    /* There before the first: an alert compares them with nothing otherwise, and stays silent. */
    metric_add(gateway->metric.checkins, NULL, NULL, 0);
    metric_add(gateway->metric.deliveries, NULL, NULL, 0);
    metric_add(gateway->metric.refusals, "by", "gateway", 0);
    gateway->metric.handshakes = metric_counter("clm_gateway_handshakes_total",
                                                "TLS handshakes that held, by listener and whether resumed");
    gateway->metric.open = metric_gauge("clm_gateway_connections", "Connections that are open, by listener");
    gateway->metric.agent_requests =
        metric_counter("clm_gateway_agent_requests_total",
                       "Answers to agents, by method and code; check-ins are counted apart");
    gateway->metric.agent_ms = metric_histogram_ms("clm_gateway_agent_duration_ms",
                                                   "Time from an agent's request to its answer, by method");
    gateway->metric.requests =
        metric_counter("clm_gateway_rest_requests_total", "REST answers, by method and HTTP status");
    gateway->metric.request_ms = metric_histogram_ms("clm_gateway_rest_duration_ms",
                                                     "Time from a REST request to its answer, by method");
}

static enum code gateway_start(struct service *service, struct status *st)
{
    struct gateway *gateway = calloc(1, sizeof *gateway);
    if (!gateway)
        abort();
    gateway->service = service;
    gateway->config = service_get_config(service);
    uuid_v7(gateway->epoch);
    gateway->refusals = refusals_new(service, gateway->config->refusal_window_ms);
    gateway->heads = heads_new(service);
    gateway->crls = crls_new(service);
    gateway->rates = rates_new((uint32_t)gateway->config->requests_per_minute);
    gateway->feed = feed_new(service, on_more_events, gateway);
    gateway->verdicts = verdicts_new(VERDICTS_MAX);
    gateway->fleet = fleet_new(service, on_cut, gateway);
    service_set_state(service, gateway);
    make_metrics(gateway);
    buf_init(&gateway->openapi, 0);
    TRY(openapi_write(&gateway->openapi, st));
    buf_init(&gateway->docs, 0);
    TRY(docs_write(&gateway->docs, st));
    TRY(load_intermediates(gateway, st));
    TRY(load_tls(gateway, st));
    TRY(load_proxies(gateway, st));

    /* The edges run before the fleet: a cut that it reports needs somewhere to go. */
    gateway->n_edges = (size_t)gateway->config->threads;
    for (size_t i = 0; i < gateway->n_edges; i++)
        TRY(edge_start(gateway, (unsigned)i, &gateway->edges[i], st));
    TRY(fleet_start(gateway->fleet, st));
    TRY(feed_start(gateway->feed, st));
    TRY(bus_subscribe(service_bus(service), BUS_SUBJECT_WAKE, on_wake, gateway, &gateway->wakes, st));
    TRY(service_periodic(service, "gateway-crls", CRLS_MS, false, fetch_crls, st));
    TRY(service_periodic(service, "gateway-refusals", REFUSALS_MS, false, report_refusals, st));
    return service_periodic(service, "gateway-heads", gateway->config->head_interval_ms, false, fetch_heads,
                            st);
}

static bool gateway_ready(struct service *service, char why[128])
{
    struct gateway *gateway = service_state(service);
    return fleet_ready(gateway->fleet, why);
}

static const struct service_descriptor descriptor = {
    .name = "gateway",
    .description = "mTLS edge for agents, REST API for operators",
    .config_keys = config_keys,
    .config_size = sizeof(struct gateway_config),
    .start = gateway_start,
    .stop = gateway_stop,
    .ready = gateway_ready,
};

int main(int argc, char **argv)
{
    return service_main(&descriptor, argc, argv);
}
