/* What the files of lib/bus share; nobody else includes it, because it shows nats.h. */
#ifndef CLM_BUS_INTERNAL_H
#define CLM_BUS_INTERNAL_H

#include <nats/nats.h>
#include <pthread.h>

#include "bus/bus.h"

struct rpc_client; /* rpc_client.c: requests under way */
struct publisher;  /* publish.c: events under way */

struct bus {
    char service[64];
    natsConnection *prompt; /* sends at once: requests, replies, wakes */
    natsConnection *bulk;   /* JetStream */
    jsCtx *js;
    struct rpc_client *client;
    struct publisher *publisher;

    pthread_mutex_t mutex; /* of what is below */
    pthread_cond_t closed; /* a connection was closed for good */
    unsigned n_closed;
    bool up[2];
    bool ready;
    bool closing;
    void (*on_ready)(bool ready, void *arg);
    void *on_ready_arg;
};

/* Opens one connection; *ret is valid even if the server is not there yet. closure gets connection events. */
enum code nats_connect(const char *url, const char *ca_file, const char *user, const struct secret *password,
                       const char *name, struct bus *events, natsConnection **ret,
                       struct status *st) MUST_CHECK;
enum code nats_status(struct status *st, natsStatus s, const char *what);

/* Plain questions on a subject, of which only where to answer is told: for micro.c. bus_unsubscribe ends it.
 */
enum code bus_listen(struct bus *bus, const char *subject, void (*on_question)(const char *reply, void *arg),
                     void *arg, struct bus_sub **ret, struct status *st) MUST_CHECK;

/* JetStream 2.9 puts its replies to $JS.API requests into our inboxes like any other. */
enum code rpc_client_new(struct bus *bus, struct rpc_client **ret, struct status *st) MUST_CHECK;
void rpc_client_free(struct rpc_client *client);
/* The connection is lost: nobody will answer what was asked through it. */
void rpc_client_fail_all(struct rpc_client *client);

enum code publisher_new(natsConnection *nc, struct publisher **ret, struct status *st) MUST_CHECK;
void publisher_free(struct publisher *publisher);

/* Header values are text; statements travel as base64url. Memory from the arena; empty gives NULL / empty. */
const char *header_encode(struct bytes value, struct arena *arena);
enum code header_decode(natsMsg *msg, const char *name, struct arena *arena, struct bytes *ret,
                        struct status *st) MUST_CHECK;
const char *header_get(natsMsg *msg, const char *name); /* "" if it is not there */

/* An event as it lies in a message: borrows from msg and arena. */
void event_message_read(natsMsg *msg, struct arena *arena, struct event_message *ret);

#define HEADER_TIMEOUT    "Clm-Timeout-Ms"
#define HEADER_TRACE      "traceparent"
#define HEADER_ASSERTION  "Clm-Assertion"
#define HEADER_AUTHORITY  "Clm-Authority"
#define HEADER_MESSAGE_ID "Clm-Message-Id"
#define HEADER_STATUS     "Clm-Status"
#define HEADER_MESSAGE    "Clm-Message"

#define HEADER_VALUE_MAX (32 * 1024)

#endif
