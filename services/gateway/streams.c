/* The watchers of an edge: their life, who they are, and what moves them all. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/secret.h"
#include "gateway/streams_parts.h"
#include "proto/event.pb-c.h"

#define TICK_MS          1000
#define HEARTBEAT_MS     15000
#define CREDENTIAL_MS    15000 /* a credential is asked about again */
#define CREDENTIAL_UP_MS 300000
#define WATCHERS_MAX     1024 /* of an edge */
#define WATCHERS_OF_ONE  32   /* of one actor at an edge */

static char **dup_all(char *const *from, size_t n)
{
    char **to = calloc(n + 1, sizeof *to);
    for (size_t i = 0; to && i < n; i++) {
        to[i] = strdup(from[i]);
        if (!to[i])
            abort();
    }
    if (!to)
        abort();
    return to;
}

static void free_all(char **texts, size_t n)
{
    for (size_t i = 0; texts && i < n; i++)
        free(texts[i]);
    free(texts);
}

/* ---- life of one ---- */

void stream_drop_chunk(struct stream *stream)
{
    while (stream->chunk_at < stream->chunk_n)
        frame_unref(stream->chunk[stream->chunk_at++]);
    stream->chunk_at = stream->chunk_n = 0;
    memset(stream->verdict, 0, sizeof stream->verdict);
}

static void stream_free(struct stream *stream)
{
    struct streams *streams = stream->streams;
    *(stream->prev ? &stream->prev->next : &streams->first) = stream->next;
    if (stream->next)
        stream->next->prev = stream->prev;
    streams->n--;
    stream_drop_chunk(stream);
    free_all(stream->types, stream->n_types);
    free_all(stream->agents, stream->n_agents);
    secret_free(stream->credential);
    free((void *)(uintptr_t)stream->assertion.data);
    free(stream->selector);
    free(stream->sight);
    free(stream);
}

static void stream_end(struct stream *stream)
{
    void (*on_end)(void *arg) = stream->on_end;
    void *arg = stream->arg;
    http_stream_end(stream->request);
    stream_free(stream);
    on_end(arg);
}

void stream_gone(struct stream *stream)
{
    stream_free(stream);
}

void stream_writable(struct stream *stream)
{
    stream->full = false;
    stream_pump(stream);
}

struct stream *stream_find(struct streams *streams, uint64_t number)
{
    struct stream *stream = streams->first;
    while (stream && stream->number != number)
        stream = stream->next;
    return stream;
}

/* ---- who it is ---- */

/* Takes over what the registry says of it now. */
static void set_grant(struct stream *stream, const struct session *session)
{
    free((void *)(uintptr_t)stream->assertion.data);
    uint8_t *copy = malloc(session->assertion.len + 1);
    if (!copy)
        abort();
    memcpy(copy, session->assertion.data, session->assertion.len);
    stream->assertion = (struct bytes){copy, session->assertion.len};
    stream->credential_good_ms = clock_mono_ms();
    if (stream->selector && strcmp(stream->selector, session->selector) == 0)
        return;
    free(stream->selector);
    free(stream->sight);
    stream->grant++;
    memset(stream->verdict, 0, sizeof stream->verdict);
    stream->selector = strdup(session->selector);
    stream->sight = *session->selector ? calloc(SIGHT_SLOTS, sizeof *stream->sight) : NULL;
    if (!stream->selector || (*session->selector && !stream->sight))
        abort();
}

struct question { /* about a stream that may be gone when the answer comes */
    struct streams *streams;
    uint64_t number;
};

static struct question *question_new(const struct stream *stream)
{
    struct question *question = calloc(1, sizeof *question);
    if (!question)
        abort();
    *question = (struct question){stream->streams, stream->number};
    return question;
}

static void on_credential(const struct session *session, const struct status *st, void *arg)
{
    struct question *question = arg;
    struct stream *stream = stream_find(question->streams, question->number);
    free(question);
    if (!stream)
        return;
    bool up = clock_mono_ms() - stream->credential_good_ms > CREDENTIAL_UP_MS;
    if (session && (session->roles & ROLES_VIEWER))
        set_grant(stream, session);
    else if (session || st->code == CODE_UNAUTHENTICATED || up)
        stream_end(stream);
}

/* ---- all of them ---- */

static void tick_one(struct stream *stream, int64_t now)
{
    if (now - stream->credential_asked_ms >= CREDENTIAL_MS) {
        stream->credential_asked_ms = now;
        session_find(stream->streams->edge->sessions, stream->credential_kind,
                     (const char *)stream->credential->data, stream->source, on_credential,
                     question_new(stream));
        return; /* it may have ended */
    }
    if (now - stream->heartbeat_mono_ms >= HEARTBEAT_MS && !stream->full)
        stream_tell_place(stream, NULL);
    stream_pump(stream);
}

static void on_tick(void *arg)
{
    struct streams *streams = arg;
    int64_t now = clock_mono_ms();
    for (struct stream *stream = streams->first, *next; stream; stream = next) {
        next = stream->next;
        tick_one(stream, now);
    }
    if (streams->first)
        loop_timer_set(streams->tick, TICK_MS);
}

static void deliver_more(struct mail *mail, void *arg UNUSED)
{
    struct streams *streams = (struct streams *)((char *)mail - offsetof(struct streams, more));
    atomic_store(&streams->more_posted, false);
    for (struct stream *stream = streams->first; stream; stream = stream->next)
        stream_pump(stream);
}

void streams_post_more(struct streams *streams)
{
    if (!atomic_exchange(&streams->more_posted, true))
        mailbox_post(streams->edge->mailbox, &streams->more);
}

struct streams *streams_new(struct edge *edge)
{
    struct streams *streams = calloc(1, sizeof *streams);
    if (!streams)
        abort();
    streams->edge = edge;
    streams->more.deliver = deliver_more;
    streams->tick = loop_timer_new(edge->loop, on_tick, streams);
    return streams;
}

void streams_free(struct streams *streams)
{
    if (!streams)
        return;
    while (streams->first)
        stream_free(streams->first);
    loop_timer_free(streams->tick);
    free(streams);
}

void streams_ask_again(struct streams *streams)
{
    for (struct stream *stream = streams->first; stream; stream = stream->next)
        stream->credential_asked_ms = INT64_MIN / 2;
}

void streams_end_all(struct streams *streams)
{
    while (streams->first)
        stream_end(streams->first);
}

static enum code may_open(const struct streams *streams, const char *actor, struct status *st)
{
    size_t own = 0;
    for (const struct stream *stream = streams->first; stream; stream = stream->next)
        own += strcmp(stream->actor, actor) == 0;
    if (own >= WATCHERS_OF_ONE)
        return status_set(st, CODE_RESOURCE_EXHAUSTED,
                          "you have %d event streams open here; close some, or share one", WATCHERS_OF_ONE);
    if (streams->n >= WATCHERS_MAX)
        return status_set(st, CODE_RESOURCE_EXHAUSTED, "too many event streams are open; try again later");
    return CODE_OK;
}

static struct stream *stream_new(struct streams *streams, const struct stream_start *start)
{
    struct stream *stream = calloc(1, sizeof *stream);
    if (!stream)
        abort();
    stream->streams = streams;
    stream->number = ++streams->last_number;
    stream->request = start->request;
    stream->on_end = start->on_end;
    stream->arg = start->arg;
    (void)snprintf(stream->actor, sizeof stream->actor, "%s", start->session->actor);
    (void)snprintf(stream->source, sizeof stream->source, "%s", start->source);
    stream->n_types = start->asked->n_type;
    stream->types = dup_all(start->asked->type, stream->n_types);
    stream->n_agents = start->asked->n_agent_id;
    stream->agents = dup_all(start->asked->agent_id, stream->n_agents);
    stream->credential_kind = start->credential_kind;
    stream->credential = secret_dup(start->credential, strlen(start->credential));
    stream->credential_asked_ms = clock_mono_ms();
    set_grant(stream, start->session);
    stream->next = streams->first;
    if (stream->next)
        stream->next->prev = stream;
    streams->first = stream;
    streams->n++;
    return stream;
}

enum code stream_open(struct streams *streams, const struct stream_start *start, struct stream **ret,
                      struct status *st)
{
    uint64_t tail;
    TRY(feed_tail(streams->edge->gateway->feed, &tail, st));
    TRY(may_open(streams, start->session->actor, st));
    struct stream *stream = stream_new(streams, start);
    stream->cursor = start->asked->has_last_event_id ? start->asked->last_event_id + 1 : tail + 1;
    const struct http_header headers[] = {
        {"Content-Type", "text/event-stream"}, {"Cache-Control", "no-store"},
        {"X-Content-Type-Options", "nosniff"}, {"X-Accel-Buffering", "no"},
        {"X-Request-Id", start->trace_id},     {NULL, NULL},
    };
    http_stream_begin(start->request, 200, headers);
    stream->full = !stream_put(stream, "retry: 2000\n\n");
    stream_tell_place(stream, "opened");
    if (!loop_timer_pending(streams->tick))
        loop_timer_set(streams->tick, TICK_MS);
    *ret = stream;
    stream_pump(stream);
    return CODE_OK;
}
