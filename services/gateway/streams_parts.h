/* What the files of the event streams share; nobody else includes it. All of it belongs to one edge's loop.
 */
#ifndef CLM_GATEWAY_STREAMS_PARTS_H
#define CLM_GATEWAY_STREAMS_PARTS_H

#include <stdatomic.h>

#include "gateway/edge.h"
#include "gateway/feed.h"
#include "gateway/streams.h"

#define SIGHT_SLOTS 512

struct sight {
    char agent_id[UUID_TEXT_SIZE]; /* "" : free */
    bool visible;
    int64_t until_mono_ms;
    uint64_t seq; /* what had happened when it was asked */
};

enum sees { SEES_UNKNOWN, SEES, SEES_NOT };

struct stream {
    struct stream *prev, *next;
    struct streams *streams;
    uint64_t number;
    struct http_request *request;
    void (*on_end)(void *arg);
    void *arg;
    char actor[96], source[64];
    /* what it asked for */
    char **types, **agents;
    size_t n_types, n_agents;
    /* where it is */
    uint64_t cursor; /* the next that it wants */
    struct frame *chunk[FEED_BATCH];
    enum sees verdict[FEED_BATCH]; /* on the chunk, as far as it was asked */
    size_t chunk_at, chunk_n;
    bool full, asking;
    int64_t lost_mono_ms; /* since when its place is beyond the stream; 0: it is not */
    int64_t heartbeat_mono_ms;
    /* who it is */
    enum credential_kind credential_kind;
    struct secret *credential;
    int64_t credential_asked_ms, credential_good_ms;
    struct bytes assertion; /* owned */
    char *selector;
    struct sight *sight; /* NULL: the whole fleet */
    unsigned grant;      /* rises with each change of it */
};

struct streams {
    struct edge *edge;
    struct stream *first;
    size_t n;
    uint64_t last_number;
    struct loop_timer *tick;
    atomic_bool more_posted;
    struct mail more;
};

struct stream *stream_find(struct streams *streams, uint64_t number);
void stream_drop_chunk(struct stream *stream);

/* ---- what it wants and may see (stream_sight.c) ---- */

/* Of the event at `i` of the chunk. */
enum sees stream_sees(const struct stream *stream, size_t i);
/* Asks the registry about all of the chunk that is not known; goes on when the answer is there. */
void stream_ask_sight(struct stream *stream);

/* ---- where it is (stream_place.c) ---- */

/* Tells the place with nothing behind it: a client keeps the id of an event without data, too (HTML, section
 * 9.2.6). name: of an event to send, NULL for a comment. */
void stream_tell_place(struct stream *stream, const char *name);
/* Sends what it may see, as far as there is something and the client takes it. */
void stream_pump(struct stream *stream);
bool stream_put(struct stream *stream, const char *text);

#endif
