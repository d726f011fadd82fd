/*
 * What the parts of the link share: its connection and what is sent next (link.c), the check-ins
 * (link_checkin.c) and the requests that exec wants sent (link_request.c). Nobody else includes it. All on
 * net's loop; the gateway's bytes pass wire_unpack before anything else.
 */
#ifndef CLM_AGENT_NET_LINK_PARTS_H
#define CLM_AGENT_NET_LINK_PARTS_H

#include "agent/metrics.h"
#include "agent/net/link.h"
#include "agent/net/proxy.h"
#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/endpoint.h"
#include "base/id.h"
#include "http/client.h"
#include "pki/digest.h"

#define INTERVAL_MAX_MS (60 * 60 * 1000)
#define PROTOBUF_TYPE   "application/x-protobuf"

struct request;

struct checkin { /* one in flight */
    struct link *link;
    struct http_call *call;
    int64_t sent_ms, sent_wall_ms;
    bool ended_by_us; /* something was sent behind it */
};

struct link {
    struct loop *loop;
    struct link_config config;
    struct endpoint gateway;
    uint32_t generation;
    struct tls_context *tls;
    struct net_proxy proxy;
    struct http_client *client;
    struct loop_timer *connect_timer, *pump_timer;
    unsigned failures;       /* of connecting or checking in, in a row */
    int64_t next_checkin_ms; /* monotonic */
    bool connected, waiting_for_exec, urgent, facts_sent, drift_sent;
    uint8_t drift_digest[SHA256_SIZE]; /* of what was sent last */
    int64_t drift_sent_ms;
    int64_t interval_ms;
    char instance_id[UUID_TEXT_SIZE], boot_id[64];
    uint8_t *snapshot; /* packed Snapshot; NULL before the first */
    size_t snapshot_len;
    struct buf facts; /* packed, of the last snapshot */
    struct metrics metrics;
    struct checkin checkin[2];
    struct http_call *request_call;
    struct request *queue; /* the one in flight is `sending` */
    struct request *sending;
    size_t n_queue;
};

/* link.c */
void link_pump(struct link *link); /* sends what is due */
void link_tell_state(struct link *link, bool connected, bool untrusted, const char *message);
/* The next check-in waits for what exec makes of an answer; a longer pause stays. */
void link_wait_for_exec(struct link *link);
/* What an answer that is not 2xx says: AgentError's code, or one made of the HTTP status. */
enum code link_answer_error(const struct http_response *response, struct status *st);
int64_t with_jitter(int64_t ms);
/* Whatever is held ends: something is sent behind it. */
void link_end_holds(struct link *link);

/* link_checkin.c */
void checkin_send(struct link *link, struct checkin *checkin);
/* Facts are sent once a connection, and when they changed. */
void checkin_compare_facts(struct link *link, const Clm__HostFacts *facts);

/* link_request.c */
/* NULL: none is due; *ret_next_ms then may come down to when the next one is. */
struct request *request_first_due(struct link *link, int64_t now_ms, int64_t *ret_next_ms);
void request_send(struct link *link, struct request *request);
void requests_free(struct link *link);

#endif
