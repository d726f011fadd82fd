/*
 * The bare NATS round trip: one request at a time against a responder on a connection of its own in this
 * process, both flushing each message at once. Prints one duration a line, in microseconds. No TLS, no
 * account: the floor.
 *
 *   nats_rtt URL COUNT
 */
#include <nats/nats.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define SUBJECT    "bench.echo"
#define TIMEOUT_MS 2000
#define WARM_UP    200

static void need(natsStatus status, const char *what)
{
    if (status == NATS_OK)
        return;
    (void)fprintf(stderr, "nats_rtt: %s: %s\n", what, natsStatus_GetText(status));
    exit(1);
}

static natsConnection *connect_to(const char *url)
{
    natsOptions *options = NULL;
    natsConnection *connection = NULL;
    need(natsOptions_Create(&options), "options");
    need(natsOptions_SetURL(options, url), "url");
    need(natsOptions_SetSendAsap(options, true), "send at once");
    need(natsConnection_Connect(&connection, options), "connect");
    natsOptions_Destroy(options);
    return connection;
}

static void on_request(natsConnection *connection, natsSubscription *sub, natsMsg *msg, void *arg)
{
    (void)sub;
    (void)arg;
    need(natsConnection_Publish(connection, natsMsg_GetReply(msg), natsMsg_GetData(msg),
                                natsMsg_GetDataLength(msg)),
         "reply");
    natsMsg_Destroy(msg);
}

static int64_t now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int main(int argc, char **argv)
{
    char *end = NULL;
    long count = argc == 3 ? strtol(argv[2], &end, 10) : 0;
    if (argc != 3 || *end || count < 1 || count > 10000000) {
        (void)fputs("usage: nats_rtt URL COUNT\n", stderr);
        return 2;
    }
    static const char payload[200] = {0};
    natsConnection *server = connect_to(argv[1]), *client = connect_to(argv[1]);
    natsSubscription *sub = NULL;
    need(natsConnection_Subscribe(&sub, server, SUBJECT, on_request, NULL), "subscribe");
    need(natsConnection_Flush(server), "flush");
    for (long i = -WARM_UP; i < count; i++) {
        natsMsg *reply = NULL;
        int64_t start = now_ns();
        need(natsConnection_Request(&reply, client, SUBJECT, payload, sizeof(payload), TIMEOUT_MS),
             "request");
        int64_t took = now_ns() - start;
        natsMsg_Destroy(reply);
        if (i >= 0)
            (void)printf("%.1f\n", (double)took / 1000);
    }
    natsSubscription_Destroy(sub);
    natsConnection_Destroy(client);
    natsConnection_Destroy(server);
    nats_Close();
    return 0;
}
