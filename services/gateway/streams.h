/*
 * The watchers of one edge: server-sent events (GET /api/v1/events). A watcher is a place in the stream and
 * takes what is behind it as fast as it reads: nothing is queued for it beyond what the connection holds, and
 * a slow one reads from the stream's history. Its credential is asked about again and again; it ends with
 * that. Edge's thread only.
 */
#ifndef CLM_GATEWAY_STREAMS_H
#define CLM_GATEWAY_STREAMS_H

#include "gateway/sessions.h"
#include "http/server.h"

struct edge;
struct streams;
struct stream;
struct Clm__WatchEventsRequest;

struct stream_start {
    struct http_request *request;
    const char *trace_id, *source;
    const struct Clm__WatchEventsRequest *asked;
    enum credential_kind credential_kind;
    const char *credential;
    const struct session *session;
    void (*on_end)(void *arg); /* the server ended it; not after stream_gone */
    void *arg;
};

struct streams *streams_new(struct edge *edge);
void streams_free(struct streams *streams); /* when nobody watches any more and no mail can come */

/* Begins the answer. RESOURCE_EXHAUSTED when there are too many of them or of this actor's. */
enum code stream_open(struct streams *streams, const struct stream_start *start, struct stream **ret,
                      struct status *st) MUST_CHECK;
void stream_writable(struct stream *stream);
void stream_gone(struct stream *stream); /* the client left; the pointer is over */

/* There is more in the feed. From any thread. */
void streams_post_more(struct streams *streams);
/* Rights have changed: every credential is asked about with the next tick. */
void streams_ask_again(struct streams *streams);
/* Everybody comes again elsewhere. */
void streams_end_all(struct streams *streams);

/* The value of Last-Event-ID: decimal digits and nothing else. */
bool last_event_id_read(const char *text, uint64_t *ret);

#endif
