/*
 * What a watcher may see: with a grant for the whole fleet everything; with one that labels limit only events
 * of agents that the registry says it covers, asked in batches and remembered for half a minute, but never
 * from before a change of that agent.
 */
#include "gateway/streams.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/secret.h"
#include "gateway/edge.h"
#include "gateway/feed.h"
#include "proto/event.pb-c.h"
#include "proto/registry.pb-c.h"

#define TICK_MS          1000
#define HEARTBEAT_MS     15000
#define CREDENTIAL_MS    15000 /* a credential is asked about again */
#define CREDENTIAL_UP_MS 300000
#define LOST_MS          5000 /* the feed looks at the stream every 2 s */
#define SIGHT_MS         30000
#define SIGHT_SLOTS      512
#define SEE_CALL_MS      5000
#define WATCHERS_MAX     1024 /* of an edge */
#define WATCHERS_OF_ONE  32   /* of one actor at an edge */

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

static void pump(struct stream *stream);

/* ---- what it asked for ---- */

bool last_event_id_read(const char *text, uint64_t *ret)
{
    size_t len = strlen(text);
    if (len == 0 || len > 19 || strspn(text, "0123456789") != len)
        return false;
    *ret = strtoull(text, NULL, 10);
    return true;
}

bool event_type_fits(const char *pattern, const char *type)
{
    size_t len = strlen(pattern);
    if (len > 0 && pattern[len - 1] == '*')
        return strncmp(pattern, type, len - 1) == 0;
    return strcmp(pattern, type) == 0;
}

static bool wants(const struct stream *stream, const struct frame *frame)
{
    bool type = stream->n_types == 0, agent = stream->n_agents == 0;
    for (size_t i = 0; i < stream->n_types && !type; i++)
        type = event_type_fits(stream->types[i], frame->type);
    for (size_t i = 0; i < stream->n_agents && !agent; i++)
        agent = strcmp(stream->agents[i], frame->agent_id) == 0;
    return type && agent && frame->len > 0;
}

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

static void drop_chunk(struct stream *stream)
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
    drop_chunk(stream);
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
    pump(stream);
}

static struct stream *find(struct streams *streams, uint64_t number)
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
    struct stream *stream = find(question->streams, question->number);
    free(question);
    if (!stream)
        return;
    bool up = clock_mono_ms() - stream->credential_good_ms > CREDENTIAL_UP_MS;
    if (session && (session->roles & ROLES_VIEWER))
        set_grant(stream, session);
    else if (session || st->code == CODE_UNAUTHENTICATED || up)
        stream_end(stream);
}

/* ---- what it may see ---- */

static struct sight *sight_of(const struct stream *stream, const char *agent_id)
{
    uint32_t hash = 2166136261u;
    for (const char *c = agent_id; *c; c++)
        hash = (hash ^ (unsigned char)*c) * 16777619u;
    return &stream->sight[hash % SIGHT_SLOTS];
}

/* Of the event at `i` of the chunk. */
static enum sees sees(const struct stream *stream, size_t i)
{
    const struct frame *frame = stream->chunk[i];
    if (!wants(stream, frame))
        return SEES_NOT;
    if (!stream->sight)
        return SEES;
    if (!*frame->agent_id)
        return SEES_NOT;
    if (stream->verdict[i] != SEES_UNKNOWN)
        return stream->verdict[i];
    const struct sight *sight = sight_of(stream, frame->agent_id);
    if (strcmp(sight->agent_id, frame->agent_id) != 0 || sight->until_mono_ms <= clock_mono_ms() ||
        (frame->of_agent && sight->seq < frame->seq))
        return SEES_UNKNOWN;
    return sight->visible ? SEES : SEES_NOT;
}

struct see {
    struct streams *streams;
    uint64_t number, seq;
    unsigned grant;
    char ids[FEED_BATCH][UUID_TEXT_SIZE];
    size_t n;
};

static void take_sight(struct stream *stream, const struct see *see, const char *agent_id, bool visible)
{
    struct sight *sight = sight_of(stream, agent_id);
    *sight = (struct sight){.visible = visible, .until_mono_ms = clock_mono_ms() + SIGHT_MS, .seq = see->seq};
    (void)snprintf(sight->agent_id, sizeof sight->agent_id, "%s", agent_id);
    for (size_t i = stream->chunk_at; i < stream->chunk_n; i++)
        if (strcmp(stream->chunk[i]->agent_id, agent_id) == 0)
            stream->verdict[i] = visible ? SEES : SEES_NOT;
}

static void on_seen(struct edge *edge UNUSED, struct arena *arena UNUSED, const ProtobufCMessage *reply,
                    const struct status *st UNUSED, void *arg)
{
    struct see *see = arg;
    struct stream *stream = find(see->streams, see->number);
    const Clm__SeeAgentsResponse *response = (const Clm__SeeAgentsResponse *)reply;
    bool good = stream && response && stream->sight && stream->grant == see->grant;
    for (size_t i = 0; good && i < see->n; i++) {
        bool visible = false;
        for (size_t k = 0; k < response->n_agent_id && !visible; k++)
            visible = strcmp(response->agent_id[k], see->ids[i]) == 0;
        take_sight(stream, see, see->ids[i], visible);
    }
    free(see);
    if (stream)
        stream->asking = false;
    if (good)
        pump(stream); /* else the tick asks again */
}

static void see_add(struct see *see, const char *agent_id)
{
    for (size_t i = 0; i < see->n; i++)
        if (strcmp(see->ids[i], agent_id) == 0)
            return;
    memcpy(see->ids[see->n++], agent_id, UUID_TEXT_SIZE);
}

/* About all of the chunk that is not known. */
static void ask_sight(struct stream *stream)
{
    struct see *see = calloc(1, sizeof *see);
    if (!see)
        abort();
    see->streams = stream->streams;
    see->number = stream->number;
    see->grant = stream->grant;
    char *ids[FEED_BATCH];
    for (size_t i = stream->chunk_at; i < stream->chunk_n; i++) {
        if (sees(stream, i) == SEES_UNKNOWN)
            see_add(see, stream->chunk[i]->agent_id);
        see->seq = stream->chunk[i]->seq;
    }
    for (size_t i = 0; i < see->n; i++)
        ids[i] = see->ids[i];
    Clm__SeeAgentsRequest request = CLM__SEE_AGENTS_REQUEST__INIT;
    request.n_agent_id = see->n;
    request.agent_id = ids;
    const struct rpc_call call = {
        .service = "registry",
        .descriptor = &clm__registry__descriptor,
        .method = "SeeAgents",
        .request = &request.base,
        .timeout_ms = SEE_CALL_MS,
        .assertion = stream->assertion,
    };
    stream->asking = true;
    edge_call(stream->streams->edge, &call, on_seen, see);
}

/* ---- where it is ---- */

struct older {
    struct feed_job job;
    struct mail mail;
    struct streams *streams;
    uint64_t number;
};

static bool put(struct stream *stream, const char *text)
{
    return http_stream_write(stream->request, text, strlen(text));
}

/* Tells the place with nothing behind it: a client keeps the id of an event without data, too (HTML, section
 * 9.2.6). name: of an event to send, NULL for a comment. */
static void tell_place(struct stream *stream, const char *name)
{
    char text[160];
    uint64_t place = stream->cursor - 1;
    if (name)
        (void)snprintf(text, sizeof text, "id: %" PRIu64 "\nevent: %s\ndata: {\"sequence\":%" PRIu64 "}\n\n",
                       place, name, place);
    else
        (void)snprintf(text, sizeof text, ": nothing new\nid: %" PRIu64 "\n\n", place);
    stream->heartbeat_mono_ms = clock_mono_ms();
    if (!put(stream, text))
        stream->full = true;
}

/* Something between is no longer to be had: what a client knows must be read anew. */
static void reset(struct stream *stream, uint64_t cursor)
{
    drop_chunk(stream);
    stream->cursor = cursor;
    tell_place(stream, "reset");
}

static void deliver_older(struct mail *mail, void *arg UNUSED)
{
    struct older *older = (struct older *)((char *)mail - offsetof(struct older, mail));
    struct stream *stream = find(older->streams, older->number);
    if (stream)
        stream->asking = false;
    if (!stream || older->job.code != CODE_OK) { /* the tick asks again */
        for (size_t i = 0; i < older->job.n; i++)
            frame_unref(older->job.frames[i]);
    } else {
        if (older->job.n > 0 && older->job.frames[0]->seq > stream->cursor)
            reset(stream, older->job.frames[0]->seq);
        memcpy(stream->chunk, older->job.frames, sizeof stream->chunk);
        stream->chunk_at = 0;
        stream->chunk_n = older->job.n;
        pump(stream);
    }
    free(older);
}

/* On the feed's thread. */
static void on_older(struct feed_job *job)
{
    struct older *older = (struct older *)job;
    older->mail.deliver = deliver_older;
    mailbox_post(older->streams->edge->mailbox, &older->mail);
}

static void ask_older(struct stream *stream)
{
    struct older *older = calloc(1, sizeof *older);
    if (!older)
        abort();
    older->job.from = stream->cursor;
    older->job.on_done = on_older;
    older->streams = stream->streams;
    older->number = stream->number;
    stream->asking = true;
    feed_history(stream->streams->edge->gateway->feed, &older->job);
}

static void place_is_lost(struct stream *stream)
{
    struct status st;
    uint64_t tail;
    int64_t now = clock_mono_ms();
    if (stream->lost_mono_ms == 0)
        stream->lost_mono_ms = now;
    /* Another gateway may be a moment ahead of ours. */
    if (now - stream->lost_mono_ms < LOST_MS ||
        feed_tail(stream->streams->edge->gateway->feed, &tail, &st) != CODE_OK)
        return;
    stream->lost_mono_ms = 0;
    reset(stream, tail + 1);
}

/* False: nothing to go on with now. */
static bool refill(struct stream *stream)
{
    drop_chunk(stream);
    switch (feed_read(stream->streams->edge->gateway->feed, stream->cursor, FEED_BATCH, stream->chunk,
                      &stream->chunk_n)) {
    case FEED_HERE:
        stream->lost_mono_ms = 0;
        return true;
    case FEED_LATER:
        stream->lost_mono_ms = 0;
        break;
    case FEED_OLDER:
        ask_older(stream);
        break;
    case FEED_LOST:
        place_is_lost(stream);
        break;
    }
    return false;
}

static void pump(struct stream *stream)
{
    while (!stream->full && !stream->asking) {
        if (stream->chunk_at == stream->chunk_n) {
            if (!refill(stream))
                return;
            continue;
        }
        struct frame *frame = stream->chunk[stream->chunk_at];
        enum sees verdict = sees(stream, stream->chunk_at);
        if (verdict == SEES_UNKNOWN) {
            ask_sight(stream);
            return;
        }
        stream->cursor = frame->seq + 1;
        stream->chunk_at++;
        if (verdict == SEES) {
            stream->heartbeat_mono_ms = clock_mono_ms();
            stream->full = !http_stream_write(stream->request, frame->text, frame->len);
        }
        frame_unref(frame);
    }
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
        tell_place(stream, NULL);
    pump(stream);
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
        pump(stream);
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
    stream->full = !put(stream, "retry: 2000\n\n");
    tell_place(stream, "opened");
    if (!loop_timer_pending(streams->tick))
        loop_timer_set(streams->tick, TICK_MS);
    *ret = stream;
    pump(stream);
    return CODE_OK;
}
