/*
 * What happened, for those who watch (GET /api/v1/events): the newest events of the stream, each made once
 * into the text that all of them get, in a ring; and a thread that reads older ones from JetStream for who
 * resumes. All functions from any thread. Events come here once and in order, whatever the bus loses: a gap
 * empties the ring, and what is not in the ring is read from the stream by its place.
 */
#ifndef CLM_GATEWAY_FEED_H
#define CLM_GATEWAY_FEED_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/id.h"
#include "base/status.h"

struct service;
struct feed;

#define FEED_BATCH      64 /* events handed over at once */
#define FEED_TYPE_SIZE  64
#define FEED_FRAME_MAX  (128 * 1024)
#define FEED_EVENTS_MAX 8192
#define FEED_BYTES_MAX  (16 * 1024 * 1024)

struct frame { /* one event; shared, constant, counted */
    atomic_uint refs;
    uint64_t seq;
    char type[FEED_TYPE_SIZE];     /* "task.finished"; "" for one that cannot be read: nobody gets it */
    char agent_id[UUID_TEXT_SIZE]; /* "" when it is no agent's */
    bool of_agent;                 /* the agent itself changed, its labels perhaps */
    size_t len;
    char text[]; /* "id: 5\ndata: {…}\n\n" */
};
void frame_unref(struct frame *frame); /* NULL is fine */

/* on_more: there is something behind what was there; called on a library thread, must only hand over. */
struct feed *feed_new(struct service *service, void (*on_more)(void *arg), void *arg);
enum code feed_start(struct feed *feed, struct status *st) MUST_CHECK;
void feed_stop(struct feed *feed); /* on_more and on_done come no more when it returns */
void feed_free(struct feed *feed);

/* Where a new watcher begins: behind the newest event. UNAVAILABLE until the stream was seen once. */
enum code feed_tail(struct feed *feed, uint64_t *ret_seq, struct status *st) MUST_CHECK;

enum feed_place {
    FEED_HERE,  /* *ret_n frames, at least one, each with a reference */
    FEED_LATER, /* there is none yet; on_more says when */
    FEED_OLDER, /* no longer in the ring: feed_history */
    FEED_LOST,  /* the stream ends before: it is another one than it was */
};
enum feed_place feed_read(struct feed *feed, uint64_t from, size_t max, struct frame **ret, size_t *ret_n);

struct feed_job { /* embedded by who asks; lives until on_done */
    struct feed_job *next;
    uint64_t from;
    void (*on_done)(struct feed_job *job); /* on the feed's thread, or at once when it has stopped */
    /* out */
    enum code code;
    struct frame *frames[FEED_BATCH];
    size_t n;
};
void feed_history(struct feed *feed, struct feed_job *job);

#endif
