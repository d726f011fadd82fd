/*
 * clm-gateway: both TLS edges. It owns live connections and nothing else: no database, no CA key, no decision
 * about an identity that outlives a connection. One edge (event loop, thread, pair of listeners) per worker
 * thread; what they share is here and is either constant after start or has its own lock.
 */
#ifndef CLM_GATEWAY_GATEWAY_H
#define CLM_GATEWAY_GATEWAY_H

#include "base/cidr.h"
#include "base/id.h"
#include "gateway/crls.h"
#include "gateway/feed.h"
#include "gateway/fleet.h"
#include "gateway/heads.h"
#include "gateway/rates.h"
#include "gateway/refusals.h"
#include "gateway/verdicts.h"
#include "http/tls.h"
#include "pki/digest.h"
#include "service/service.h"

#define EDGES_MAX 64

struct gateway_config {
    struct service_config base;
    char *agent_listen, *operator_listen;
    char **proxy_protocol_from;
    char *tls_key, *tls_certificate, *intermediates;
    int64_t threads;
    int64_t checkin_interval_ms;
    int64_t max_connections;
    int64_t session_cache;
    int64_t refusal_window_ms;
    int64_t head_interval_ms;
    int64_t requests_per_minute;
};

struct gateway {
    struct service *service;
    const struct gateway_config *config;
    struct fleet *fleet;
    char epoch[UUID_TEXT_SIZE]; /* of this run: the registry counts silence per gateway, not per edge */
    struct refusals *refusals;
    struct heads *heads;
    struct crls *crls;
    struct feed *feed;
    struct rates *rates;
    struct verdicts *verdicts; /* on agents' certificates */
    struct tls_context *agent_tls, *operator_tls;
    struct der_list intermediates; /* every issuing CA of the platform: agents' are not ours */
    struct bus_sub *wakes;
    struct edge *edges[EDGES_MAX];
    size_t n_edges;
    struct cidr *proxies; /* before the agent listener */
    size_t n_proxies;
    struct buf openapi, docs;
    struct {
        struct metric *open, *handshakes, *refusals; /* of both listeners */
        struct metric *connections, *held, *checkins, *deliveries, *heartbeat_batch, *lease_batch;
        struct metric *agent_requests, *agent_ms, *requests, *request_ms;
    } metric;
};

#endif
