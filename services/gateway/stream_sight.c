/*
 * What a watcher wants and may see: with a grant for the whole fleet everything; with one that labels limit
 * only events of agents that the registry says it covers, asked in batches and remembered for half a minute,
 * but never from before a change of that agent.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "gateway/streams_parts.h"
#include "proto/registry.pb-c.h"

#define SIGHT_MS    30000
#define SEE_CALL_MS 5000

bool last_event_id_read(const char *text, uint64_t *ret)
{
    size_t len = strlen(text);
    if (len == 0 || len > 19 || strspn(text, "0123456789") != len)
        return false;
    *ret = strtoull(text, NULL, 10);
    return true;
}

/* "task.finished" of "task.*". */
static bool event_type_fits(const char *pattern, const char *type)
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

static struct sight *sight_of(const struct stream *stream, const char *agent_id)
{
    uint32_t hash = 2166136261u;
    for (const char *c = agent_id; *c; c++)
        hash = (hash ^ (unsigned char)*c) * 16777619u;
    return &stream->sight[hash % SIGHT_SLOTS];
}

enum sees stream_sees(const struct stream *stream, size_t i)
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
    struct stream *stream = stream_find(see->streams, see->number);
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
        stream_pump(stream); /* else the tick asks again */
}

static void see_add(struct see *see, const char *agent_id)
{
    for (size_t i = 0; i < see->n; i++)
        if (strcmp(see->ids[i], agent_id) == 0)
            return;
    memcpy(see->ids[see->n++], agent_id, UUID_TEXT_SIZE);
}

void stream_ask_sight(struct stream *stream)
{
    struct see *see = calloc(1, sizeof *see);
    if (!see)
        abort();
    see->streams = stream->streams;
    see->number = stream->number;
    see->grant = stream->grant;
    char *ids[FEED_BATCH];
    for (size_t i = stream->chunk_at; i < stream->chunk_n; i++) {
        if (stream_sees(stream, i) == SEES_UNKNOWN)
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
