/*
 * A ring of frames under a mutex, filled on the bus library's thread. The feed's own thread does what blocks:
 * reads history for watchers in the order in which they asked, and looks every two seconds whether the stream
 * has grown although nothing came.
 */
#include "gateway/feed.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "proto/event.pb-c.h"
#include "service/service.h"

#define LOOK_MS       2000
#define CATCH_UP_MAX  1024 /* events read by place in one look */
#define SUBJECT_PARTS "clm.event."

struct feed {
    struct service *service;
    void (*on_more)(void *arg);
    void *arg;
    struct bus_sub *sub;
    pthread_t thread;
    bool started;

    pthread_mutex_t mutex; /* of what is below */
    pthread_cond_t wake;
    bool stopping;
    struct frame *ring[FEED_EVENTS_MAX]; /* consecutive, the last one is `high` */
    size_t first, n, bytes;
    uint64_t high;      /* the newest that we had; the ring begins behind it when it is empty */
    uint64_t tail;      /* the newest that the stream has, as far as we know; >= high */
    int64_t created_ms; /* of the stream; 0: not seen yet */
    struct feed_job *jobs, **last_job;
};

/* ---- an event as text ---- */

void frame_unref(struct frame *frame)
{
    if (frame && atomic_fetch_sub(&frame->refs, 1) == 1)
        free(frame);
}

static const char *agent_of(const Clm__Event *event, const char *noun)
{
    if (event->agent || strncmp(noun, "agent.", 6) == 0 || strncmp(noun, "identity.", 9) == 0)
        return event->entity_id;
    if (event->token)
        return event->token->agent_id;
    if (event->certificate_issued)
        return event->certificate_issued->agent_id;
    if (event->alert)
        return event->alert->agent_id;
    if (event->drift)
        return event->drift->agent_id;
    return event->task ? event->task->agent_id : NULL;
}

static void fill_view(Clm__EventView *view, Clm__Event *event, uint64_t seq, const char *type,
                      const char *agent_id)
{
    view->has_sequence = true;
    view->sequence = seq;
    view->id = event->id;
    view->type = (char *)(uintptr_t)type;
    view->has_occurred_at_ms = event->has_occurred_at_ms;
    view->occurred_at_ms = event->occurred_at_ms;
    view->entity_id = event->entity_id;
    view->has_entity_version = event->has_entity_version;
    view->entity_version = event->entity_version;
    view->agent_id = (char *)(uintptr_t)agent_id;
    view->actor = event->actor;
    view->agent = event->agent;
    view->identity_issued = event->identity_issued;
    if (view->identity_issued) /* what it is for is named by its fingerprint */
        view->identity_issued->has_identity_certificate = view->identity_issued->has_task_certificate = false;
    view->identity_confirmed = event->identity_confirmed;
    view->token = event->token;
    view->certificate_issued = event->certificate_issued;
    view->task = event->task;
    view->alert = event->alert;
    view->platform = event->platform;
    view->drift = event->drift;
}

static bool write_text(struct buf *out, uint64_t seq, const Clm__EventView *view)
{
    return buf_printf(out, "id: %" PRIu64 "\ndata: ", seq) && json_write(&view->base, out, NULL) == CODE_OK &&
           buf_puts(out, "\n\n");
}

static struct frame *frame_new(uint64_t seq, const struct buf *text)
{
    struct frame *frame = calloc(1, sizeof *frame + text->len + 1);
    if (!frame)
        abort();
    atomic_store(&frame->refs, 1);
    frame->seq = seq;
    frame->len = text->len;
    if (text->len)
        memcpy(frame->text, text->data, text->len);
    return frame;
}

static struct frame *frame_make(const struct event_message *message)
{
    AUTO_ARENA struct arena *arena = arena_new();
    AUTO_BUF struct buf text = {0};
    ProtobufCMessage *base = NULL;
    buf_init(&text, FEED_FRAME_MAX);
    const char *service = message->subject;
    const char *noun = strncmp(service, SUBJECT_PARTS, strlen(SUBJECT_PARTS)) == 0
                           ? strchr(service + strlen(SUBJECT_PARTS), '.')
                           : NULL;
    if (!noun || strlen(noun + 1) >= FEED_TYPE_SIZE ||
        wire_unpack(&clm__event__descriptor, message->body.data, message->body.len, arena, &base, NULL) !=
            CODE_OK)
        return frame_new(message->stream_seq, &text);
    noun++;
    Clm__Event *event = (Clm__Event *)base;
    const char *agent_id = agent_of(event, noun);
    if (agent_id && !uuid_valid(agent_id))
        agent_id = NULL;
    Clm__EventView view = CLM__EVENT_VIEW__INIT;
    fill_view(&view, event, message->stream_seq, noun, agent_id);
    if (!write_text(&text, message->stream_seq, &view)) { /* too large: that it happened is what counts */
        buf_reset(&text);
        view.agent = NULL;
        view.certificate_issued = NULL;
        view.alert = NULL;
        if (!write_text(&text, message->stream_seq, &view))
            buf_reset(&text);
    }
    struct frame *frame = frame_new(message->stream_seq, &text);
    if (text.len > 0) {
        (void)snprintf(frame->type, sizeof frame->type, "%s", noun);
        (void)snprintf(frame->agent_id, sizeof frame->agent_id, "%s", agent_id ? agent_id : "");
        frame->of_agent = event->agent != NULL;
    }
    return frame;
}

/* ---- the ring; the mutex is held ---- */

static void ring_drop_first(struct feed *feed)
{
    struct frame *frame = feed->ring[feed->first];
    feed->bytes -= frame->len;
    feed->first = (feed->first + 1) % FEED_EVENTS_MAX;
    feed->n--;
    frame_unref(frame);
}

static void ring_clear(struct feed *feed)
{
    while (feed->n > 0)
        ring_drop_first(feed);
}

/* The lowest place that needs no history. */
static uint64_t ring_low(const struct feed *feed)
{
    return feed->n > 0 ? feed->ring[feed->first]->seq : feed->high + 1;
}

/* Takes the frame. False if we had it. */
static bool ring_append(struct feed *feed, struct frame *frame)
{
    if (frame->seq <= feed->high) {
        frame_unref(frame);
        return false;
    }
    if (feed->n > 0 && frame->seq != feed->high + 1)
        ring_clear(feed); /* who was not so far reads the gap from the stream */
    while (feed->n > 0 && (feed->n == FEED_EVENTS_MAX || feed->bytes + frame->len > FEED_BYTES_MAX))
        ring_drop_first(feed);
    feed->ring[(feed->first + feed->n++) % FEED_EVENTS_MAX] = frame;
    feed->bytes += frame->len;
    feed->high = frame->seq;
    if (feed->tail < feed->high)
        feed->tail = feed->high;
    return true;
}

/* On a thread of the bus library. */
static void on_event(const struct event_message *message, void *arg)
{
    struct feed *feed = arg;
    struct frame *frame = frame_make(message);
    (void)pthread_mutex_lock(&feed->mutex);
    /* What the stream holds is known before what comes is taken: a stream made anew counts from 1 again. */
    bool more = feed->created_ms != 0;
    if (more)
        more = ring_append(feed, frame);
    else
        frame_unref(frame);
    (void)pthread_mutex_unlock(&feed->mutex);
    if (more)
        feed->on_more(feed->arg);
}

/* ---- the feed's thread ---- */

/* Whether what the stream says of itself means that events passed us by; from where, then. */
static bool behind(struct feed *feed, int64_t created_ms, uint64_t last, uint64_t before, uint64_t *ret_from)
{
    (void)pthread_mutex_lock(&feed->mutex);
    if (feed->created_ms != created_ms) {
        ring_clear(feed);
        feed->created_ms = created_ms;
        feed->high = feed->tail = last;
    }
    if (feed->tail < last)
        feed->tail = last;
    *ret_from = feed->high + 1;
    bool stuck = feed->high < last && feed->high == before;
    (void)pthread_mutex_unlock(&feed->mutex);
    return stuck;
}

static void catch_up(struct feed *feed, uint64_t from)
{
    for (size_t i = 0; i < CATCH_UP_MAX; i++) {
        AUTO_ARENA struct arena *arena = arena_new();
        struct event_message message;
        if (events_read(service_bus(feed->service), EVENTS_ALL, from, arena, &message, NULL) != CODE_OK)
            return;
        on_event(&message, feed);
        from = message.stream_seq + 1;
    }
}

/* before: how far we were at the last look. */
static void look(struct feed *feed, uint64_t *before)
{
    struct status st = {0};
    int64_t created_ms;
    uint64_t last, from;
    if (events_stream_state(service_bus(feed->service), &created_ms, &last, &st) != CODE_OK) {
        log_debug("the event stream is away", "reason", st.msg, NULL);
        return;
    }
    if (behind(feed, created_ms, last, *before, &from))
        catch_up(feed, from);
    *before = from - 1;
    feed->on_more(feed->arg); /* a stream made anew moves watchers, too */
}

static void run_job(struct feed *feed, struct feed_job *job)
{
    struct status st = {0};
    uint64_t from = job->from;
    job->code = CODE_OK;
    while (job->n < FEED_BATCH && job->code == CODE_OK) {
        (void)pthread_mutex_lock(&feed->mutex);
        bool here = from >= ring_low(feed);
        (void)pthread_mutex_unlock(&feed->mutex);
        if (here)
            break;
        AUTO_ARENA struct arena *arena = arena_new();
        struct event_message message;
        job->code = events_read(service_bus(feed->service), EVENTS_ALL, from, arena, &message, &st);
        if (job->code != CODE_OK)
            break;
        job->frames[job->n++] = frame_make(&message);
        from = message.stream_seq + 1;
    }
    if (job->n > 0 || job->code == CODE_NOT_FOUND)
        job->code = CODE_OK;
    job->on_done(job);
}

static void *run(void *arg)
{
    struct feed *feed = arg;
    uint64_t before = UINT64_MAX;
    int64_t next_look_ms = 0;
    (void)pthread_mutex_lock(&feed->mutex);
    while (!feed->stopping) {
        struct feed_job *job = feed->jobs;
        if (job) {
            feed->jobs = job->next;
            if (!feed->jobs)
                feed->last_job = &feed->jobs;
        }
        int64_t wait_ms = next_look_ms - clock_mono_ms();
        if (!job && wait_ms > 0) {
            struct timespec until;
            (void)clock_gettime(CLOCK_MONOTONIC, &until);
            until.tv_sec += LOOK_MS / 1000;
            (void)pthread_cond_timedwait(&feed->wake, &feed->mutex, &until);
            continue;
        }
        (void)pthread_mutex_unlock(&feed->mutex);
        if (job)
            run_job(feed, job);
        if (wait_ms <= 0) {
            look(feed, &before);
            next_look_ms = clock_mono_ms() + LOOK_MS;
        }
        (void)pthread_mutex_lock(&feed->mutex);
    }
    (void)pthread_mutex_unlock(&feed->mutex);
    return NULL;
}

/* ---- life ---- */

struct feed *feed_new(struct service *service, void (*on_more)(void *arg), void *arg)
{
    struct feed *feed = calloc(1, sizeof *feed);
    if (!feed)
        abort();
    feed->service = service;
    feed->on_more = on_more;
    feed->arg = arg;
    feed->last_job = &feed->jobs;
    (void)pthread_mutex_init(&feed->mutex, NULL);
    pthread_condattr_t attr;
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&feed->wake, &attr);
    (void)pthread_condattr_destroy(&attr);
    return feed;
}

enum code feed_start(struct feed *feed, struct status *st)
{
    TRY(events_feed(service_bus(feed->service), on_event, feed, &feed->sub, st));
    if (pthread_create(&feed->thread, NULL, run, feed) != 0)
        return status_set(st, CODE_INTERNAL, "cannot start the event feed's thread");
    feed->started = true;
    return CODE_OK;
}

void feed_stop(struct feed *feed)
{
    if (!feed)
        return;
    bus_unsubscribe(TAKE(feed->sub));
    (void)pthread_mutex_lock(&feed->mutex);
    feed->stopping = true;
    (void)pthread_cond_signal(&feed->wake);
    (void)pthread_mutex_unlock(&feed->mutex);
    if (feed->started)
        pthread_join(feed->thread, NULL);
    feed->started = false;
    while (feed->jobs) {
        struct feed_job *job = feed->jobs;
        feed->jobs = job->next;
        job->code = CODE_UNAVAILABLE;
        job->on_done(job);
    }
}

void feed_free(struct feed *feed)
{
    if (!feed)
        return;
    ring_clear(feed);
    (void)pthread_cond_destroy(&feed->wake);
    (void)pthread_mutex_destroy(&feed->mutex);
    free(feed);
}

/* ---- for watchers ---- */

enum code feed_tail(struct feed *feed, uint64_t *ret_seq, struct status *st)
{
    (void)pthread_mutex_lock(&feed->mutex);
    bool known = feed->created_ms != 0;
    *ret_seq = feed->tail;
    (void)pthread_mutex_unlock(&feed->mutex);
    return known ? CODE_OK
                 : status_set(st, CODE_UNAVAILABLE, "the event stream was not reached yet; try again");
}

enum feed_place feed_read(struct feed *feed, uint64_t from, size_t max, struct frame **ret, size_t *ret_n)
{
    enum feed_place place = FEED_HERE;
    *ret_n = 0;
    (void)pthread_mutex_lock(&feed->mutex);
    uint64_t low = ring_low(feed);
    bool known = feed->created_ms != 0;
    if (known && from > feed->tail + 1)
        place = FEED_LOST;
    else if (!known || from > feed->high)
        place = FEED_LATER;
    else if (from < low)
        place = FEED_OLDER;
    else
        for (uint64_t at = from - low; at < feed->n && *ret_n < max; at++) {
            struct frame *frame = feed->ring[(feed->first + at) % FEED_EVENTS_MAX];
            atomic_fetch_add(&frame->refs, 1);
            ret[(*ret_n)++] = frame;
        }
    (void)pthread_mutex_unlock(&feed->mutex);
    return place;
}

void feed_history(struct feed *feed, struct feed_job *job)
{
    job->next = NULL;
    job->n = 0;
    (void)pthread_mutex_lock(&feed->mutex);
    bool stopping = feed->stopping;
    if (!stopping) {
        *feed->last_job = job;
        feed->last_job = &job->next;
        (void)pthread_cond_signal(&feed->wake);
    }
    (void)pthread_mutex_unlock(&feed->mutex);
    if (stopping) {
        job->code = CODE_UNAVAILABLE;
        job->on_done(job);
    }
}
