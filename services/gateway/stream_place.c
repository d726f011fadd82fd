/*
 * Where a watcher is in the stream: what is in the feed's ring it reads there, what is older the feed reads
 * for it, and what is no longer to be had ends in a "reset".
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "gateway/streams_parts.h"

#define LOST_MS 5000 /* the feed looks at the stream every 2 s */

struct older {
    struct feed_job job;
    struct mail mail;
    struct streams *streams;
    uint64_t number;
};

bool stream_put(struct stream *stream, const char *text)
{
    return http_stream_write(stream->request, text, strlen(text));
}

void stream_tell_place(struct stream *stream, const char *name)
{
    char text[160];
    uint64_t place = stream->cursor - 1;
    if (name)
        (void)snprintf(text, sizeof text, "id: %" PRIu64 "\nevent: %s\ndata: {\"sequence\":%" PRIu64 "}\n\n",
                       place, name, place);
    else
        (void)snprintf(text, sizeof text, ": nothing new\nid: %" PRIu64 "\n\n", place);
    stream->heartbeat_mono_ms = clock_mono_ms();
    if (!stream_put(stream, text))
        stream->full = true;
}

/* Something between is no longer to be had: what a client knows must be read anew. */
static void reset(struct stream *stream, uint64_t cursor)
{
    stream_drop_chunk(stream);
    stream->cursor = cursor;
    stream_tell_place(stream, "reset");
}

static void deliver_older(struct mail *mail, void *arg UNUSED)
{
    struct older *older = (struct older *)((char *)mail - offsetof(struct older, mail));
    struct stream *stream = stream_find(older->streams, older->number);
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
        stream_pump(stream);
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
    stream_drop_chunk(stream);
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

void stream_pump(struct stream *stream)
{
    while (!stream->full && !stream->asking) {
        if (stream->chunk_at == stream->chunk_n) {
            if (!refill(stream))
                return;
            continue;
        }
        struct frame *frame = stream->chunk[stream->chunk_at];
        enum sees verdict = stream_sees(stream, stream->chunk_at);
        if (verdict == SEES_UNKNOWN) {
            stream_ask_sight(stream);
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
