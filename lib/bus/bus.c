/*
 * The two connections of a process and their state. nats.c reconnects and subscribes again by itself; this
 * file keeps what the rest of the process wants to know: are both there now. Connection callbacks run on a
 * thread of nats.c and only set flags, fail requests that nobody will answer, and tell the observer.
 */
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/id.h"
#include "base/log.h"
#include "bus/internal.h"

#define RECONNECT_WAIT_MS   250
#define RECONNECT_JITTER_MS 250
#define PING_INTERVAL_MS    10000
#define CLOSE_WAIT_MS       2000

enum code nats_status(struct status *st, natsStatus s, const char *what)
{
    enum code code;
    switch (s) {
    case NATS_OK:
        return CODE_OK;
    case NATS_TIMEOUT:
        code = CODE_DEADLINE_EXCEEDED;
        break;
    case NATS_NOT_FOUND:
        code = CODE_NOT_FOUND;
        break;
    case NATS_NOT_PERMITTED:
    case NATS_CONNECTION_AUTH_FAILED:
        code = CODE_PERMISSION_DENIED;
        break;
    case NATS_INVALID_ARG:
    case NATS_INVALID_SUBJECT:
    case NATS_ADDRESS_MISSING:
        code = CODE_INVALID_ARGUMENT;
        break;
    case NATS_MAX_PAYLOAD:
        code = CODE_RESOURCE_EXHAUSTED;
        break;
    case NATS_IO_ERROR:
    case NATS_CONNECTION_CLOSED:
    case NATS_NO_SERVER:
    case NATS_STALE_CONNECTION:
    case NATS_CONNECTION_DISCONNECTED:
    case NATS_SECURE_CONNECTION_REQUIRED:
    case NATS_SECURE_CONNECTION_WANTED:
    case NATS_SSL_ERROR:
    case NATS_NO_RESPONDERS:
    case NATS_DRAINING:
    case NATS_NOT_YET_CONNECTED:
    case NATS_INSUFFICIENT_BUFFER:
        code = CODE_UNAVAILABLE;
        break;
    default:
        code = CODE_INTERNAL;
        break;
    }
    const char *detail = nats_GetLastError(NULL);
    return status_set(st, code, "%s: %s%s%s", what, natsStatus_GetText(s), detail ? ": " : "",
                      detail ? detail : "");
}

const char *header_get(natsMsg *msg, const char *name)
{
    const char *value = NULL;
    return natsMsgHeader_Get(msg, name, &value) == NATS_OK && value ? value : "";
}

const char *header_encode(struct bytes value, struct arena *arena)
{
    if (value.len == 0)
        return NULL;
    size_t size = value.len / 3 * 4 + 5;
    char *text = arena_alloc(arena, size);
    (void)base64url_encode(value.data, value.len, text, size);
    return text;
}

enum code header_decode(natsMsg *msg, const char *name, struct arena *arena, struct bytes *ret,
                        struct status *st)
{
    *ret = (struct bytes){0};
    const char *text = header_get(msg, name);
    size_t len = strlen(text);
    if (len == 0)
        return CODE_OK;
    if (len > HEADER_VALUE_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, "header %s: longer than %d bytes", name,
                          HEADER_VALUE_MAX);
    size_t size = len / 4 * 3 + 3;
    uint8_t *data = arena_alloc(arena, size);
    size_t n = 0;
    if (!base64url_decode(text, len, data, size, &n))
        return status_set(st, CODE_INVALID_ARGUMENT, "header %s: not base64url", name);
    *ret = (struct bytes){data, n};
    return CODE_OK;
}

/* ---- connection events, on a thread of nats.c
 * ---------------------------------------------------------------- */

static void update(struct bus *bus, natsConnection *nc, bool up)
{
    (void)pthread_mutex_lock(&bus->mutex);
    /* During bus_new the pointers are not there yet; bus_new looks at the state itself afterwards. */
    if (nc == bus->prompt)
        bus->up[0] = up;
    if (nc == bus->bulk)
        bus->up[1] = up;
    bool ready = bus->up[0] && bus->up[1] && !bus->closing;
    bool changed = ready != bus->ready;
    bus->ready = ready;
    bool lost = !up && nc == bus->prompt;
    void (*on_ready)(bool, void *) = bus->on_ready;
    void *arg = bus->on_ready_arg;
    struct rpc_client *client = bus->client;
    (void)pthread_mutex_unlock(&bus->mutex);
    if (lost && client)
        rpc_client_fail_all(client);
    if (changed && on_ready)
        on_ready(ready, arg);
}

static void on_disconnected(natsConnection *nc, void *arg)
{
    update(arg, nc, false);
}

static void on_connected(natsConnection *nc, void *arg)
{
    update(arg, nc, natsConnection_Status(nc) == NATS_CONN_STATUS_CONNECTED);
}

static void on_closed(natsConnection *nc, void *arg)
{
    struct bus *bus = arg;
    update(bus, nc, false);
    (void)pthread_mutex_lock(&bus->mutex);
    bus->n_closed++;
    (void)pthread_cond_broadcast(&bus->closed);
    (void)pthread_mutex_unlock(&bus->mutex);
}

/* Refused permissions and slow consumers come here; whoever waits for an answer learns it by its deadline. */
static void on_error(natsConnection *nc, natsSubscription *sub, natsStatus err, void *arg)
{
    (void)nc;
    (void)arg;
    log_debug("bus error", "what", natsStatus_GetText(err), "subject",
              sub ? natsSubscription_GetSubject(sub) : NULL, NULL);
}

/* ---- connecting
 * -------------------------------------------------------------------------------------------- */

/* The host of the first URL of a list, without brackets. The nodes of a cluster all carry this name. */
static enum code url_host(const char *url, char *host, size_t size, struct status *st)
{
    const char *start = strstr(url, "://");
    start = start ? start + 3 : url;
    size_t whole = strcspn(start, ",/");
    const char *at = memchr(start, '@', whole);
    if (at)
        return status_set(st, CODE_INVALID_ARGUMENT,
                          "bus url: credentials do not belong into the URL; use password_file");
    size_t n;
    if (*start == '[') {
        start++;
        n = strcspn(start, "]");
    } else {
        n = strcspn(start, ":,/");
    }
    if (n == 0 || n >= size)
        return status_set(st, CODE_INVALID_ARGUMENT, "bus url: no host in \"%.100s\"", url);
    memcpy(host, start, n);
    host[n] = '\0';
    return CODE_OK;
}

static natsStatus set_options(natsOptions *opts, const char *url, const char *name, const char *inbox)
{
    const char *servers[16];
    int n = 0;
    char copy[1024];
    (void)snprintf(copy, sizeof(copy), "%s", url);
    char *rest = NULL;
    for (char *s = strtok_r(copy, ", ", &rest); s && n < 16; s = strtok_r(NULL, ", ", &rest))
        servers[n++] = s;
    natsStatus s = natsOptions_SetServers(opts, servers, n);
    if (s == NATS_OK)
        s = natsOptions_SetName(opts, name);
    if (s == NATS_OK)
        s = natsOptions_SetCustomInboxPrefix(opts, inbox);
    if (s == NATS_OK)
        s = natsOptions_SetAllowReconnect(opts, true);
    if (s == NATS_OK)
        s = natsOptions_SetMaxReconnect(opts, -1);
    if (s == NATS_OK)
        s = natsOptions_SetReconnectWait(opts, RECONNECT_WAIT_MS);
    if (s == NATS_OK)
        s = natsOptions_SetReconnectJitter(opts, RECONNECT_JITTER_MS, RECONNECT_JITTER_MS);
    /* What could not be sent is an error to whoever sent it, not a surprise for somebody later. */
    if (s == NATS_OK)
        s = natsOptions_SetReconnectBufSize(opts, 1);
    if (s == NATS_OK)
        s = natsOptions_SetFailRequestsOnDisconnect(opts, true);
    if (s == NATS_OK)
        s = natsOptions_SetPingInterval(opts, PING_INTERVAL_MS);
    if (s == NATS_OK)
        s = natsOptions_SetSendAsap(opts, true);
    return s;
}

enum code nats_connect(const char *url, const char *ca_file, const char *user, const struct secret *password,
                       const char *name, struct bus *events, natsConnection **ret, struct status *st)
{
    char host[256], inbox[80];
    TRY(url_host(url, host, sizeof(host), st));
    (void)snprintf(inbox, sizeof(inbox), "_INBOX_%s", user);
    natsOptions *opts = NULL;
    natsStatus s = natsOptions_Create(&opts);
    if (s == NATS_OK)
        s = set_options(opts, url, name, inbox);
    if (s == NATS_OK && password)
        s = natsOptions_SetUserInfo(opts, user, (const char *)password->data);
    if (s == NATS_OK && ca_file) {
        s = natsOptions_SetSecure(opts, true);
        if (s == NATS_OK)
            s = natsOptions_LoadCATrustedCertificates(opts, ca_file);
        if (s == NATS_OK)
            s = natsOptions_SetExpectedHostname(opts, host);
    }
    if (s == NATS_OK)
        s = natsOptions_SetErrorHandler(opts, on_error, NULL);
    if (s == NATS_OK && events) {
        s = natsOptions_SetDisconnectedCB(opts, on_disconnected, events);
        if (s == NATS_OK)
            s = natsOptions_SetReconnectedCB(opts, on_connected, events);
        if (s == NATS_OK)
            s = natsOptions_SetClosedCB(opts, on_closed, events);
        if (s == NATS_OK)
            s = natsOptions_SetRetryOnFailedConnect(opts, true, on_connected, events);
    }
    if (s == NATS_OK)
        s = natsConnection_Connect(ret, opts);
    natsOptions_Destroy(opts);
    if (s == NATS_OK || (s == NATS_NOT_YET_CONNECTED && events))
        return CODE_OK;
    return nats_status(st, s, "cannot connect to the bus");
}

enum code bus_new(const struct bus_config *config, struct bus **ret, struct status *st)
{
    if (strncmp(config->url, "nats://", 7) != 0 && !config->ca_file)
        return status_set(st, CODE_INVALID_ARGUMENT, "bus: a tls:// URL needs the file of the CA");
    AUTO_SECRET struct secret *password = NULL;
    if (config->password_file)
        TRY(secret_read_file(config->password_file, 256, true, &password, st));
    struct bus *bus = calloc(1, sizeof(*bus));
    if (!bus)
        abort();
    (void)snprintf(bus->service, sizeof(bus->service), "%s", config->service);
    (void)pthread_mutex_init(&bus->mutex, NULL);
    pthread_condattr_t attr;
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&bus->closed, &attr);
    (void)pthread_condattr_destroy(&attr);

    natsConnection *prompt = NULL, *bulk = NULL;
    enum code code = nats_connect(config->url, config->ca_file, config->service, password, config->service,
                                  bus, &prompt, st);
    (void)pthread_mutex_lock(&bus->mutex);
    bus->prompt = prompt;
    (void)pthread_mutex_unlock(&bus->mutex);
    if (code == CODE_OK)
        code = nats_connect(config->url, config->ca_file, config->service, password, config->service, bus,
                            &bulk, st);
    (void)pthread_mutex_lock(&bus->mutex);
    bus->bulk = bulk;
    (void)pthread_mutex_unlock(&bus->mutex);
    if (code == CODE_OK)
        code = nats_status(st, natsConnection_JetStream(&bus->js, bulk, NULL), "JetStream context");
    if (code == CODE_OK)
        code = publisher_new(bulk, &bus->publisher, st);
    if (code == CODE_OK)
        code = rpc_client_new(bus, &bus->client, st);
    if (code != CODE_OK) {
        bus_free(bus);
        return code;
    }
    update(bus, prompt, natsConnection_Status(prompt) == NATS_CONN_STATUS_CONNECTED);
    update(bus, bulk, natsConnection_Status(bulk) == NATS_CONN_STATUS_CONNECTED);
    *ret = bus;
    return CODE_OK;
}

void bus_free(struct bus *bus)
{
    if (!bus)
        return;
    (void)pthread_mutex_lock(&bus->mutex);
    bus->closing = true;
    bus->ready = false;
    bus->on_ready = NULL;
    (void)pthread_mutex_unlock(&bus->mutex);
    /* Replies that workers have given us are on the socket already (SendAsap); flushing waits for the server.
     */
    if (bus->prompt && natsConnection_Status(bus->prompt) == NATS_CONN_STATUS_CONNECTED)
        (void)natsConnection_FlushTimeout(bus->prompt, CLOSE_WAIT_MS / 2);
    if (bus->bulk && natsConnection_Status(bus->bulk) == NATS_CONN_STATUS_CONNECTED)
        (void)natsConnection_FlushTimeout(bus->bulk, CLOSE_WAIT_MS / 2);
    unsigned expect = 0;
    if (bus->prompt) {
        natsConnection_Close(bus->prompt);
        expect++;
    }
    if (bus->bulk) {
        natsConnection_Close(bus->bulk);
        expect++;
    }
    /* The closed callback is the last that uses `bus`. */
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += CLOSE_WAIT_MS / 1000;
    (void)pthread_mutex_lock(&bus->mutex);
    while (bus->n_closed < expect && pthread_cond_timedwait(&bus->closed, &bus->mutex, &until) == 0)
        ;
    (void)pthread_mutex_unlock(&bus->mutex);
    rpc_client_free(bus->client);
    publisher_free(bus->publisher);
    jsCtx_Destroy(bus->js);
    natsConnection_Destroy(bus->prompt);
    natsConnection_Destroy(bus->bulk);
    (void)pthread_cond_destroy(&bus->closed);
    (void)pthread_mutex_destroy(&bus->mutex);
    free(bus);
}

bool bus_ready(const struct bus *bus)
{
    struct bus *b = (struct bus *)(uintptr_t)bus;
    (void)pthread_mutex_lock(&b->mutex);
    bool ready = b->ready;
    (void)pthread_mutex_unlock(&b->mutex);
    return ready;
}

bool bus_given_up(const struct bus *bus)
{
    struct bus *b = (struct bus *)(uintptr_t)bus;
    (void)pthread_mutex_lock(&b->mutex);
    bool given_up = b->n_closed > 0 && !b->closing;
    (void)pthread_mutex_unlock(&b->mutex);
    return given_up;
}

void bus_on_ready(struct bus *bus, void (*on_ready)(bool ready, void *arg), void *arg)
{
    (void)pthread_mutex_lock(&bus->mutex);
    bus->on_ready = on_ready;
    bus->on_ready_arg = arg;
    bool ready = bus->ready;
    (void)pthread_mutex_unlock(&bus->mutex);
    if (on_ready && ready)
        on_ready(true, arg);
}

/* ---- plain messages
 * ------------------------------------------------------------------------------------------ */

struct bus_sub {
    natsConnection *nc; /* borrowed */
    natsSubscription *sub;
    void (*on_message)(const char *subject, const void *data, size_t len, void *arg);
    void (*on_event)(const struct event_message *event, void *arg);
    void (*on_question)(const char *reply, void *arg); /* one of the three is set */
    bool placed;                                       /* events of JetStream's own */
    void *arg;
    pthread_mutex_t mutex;
    pthread_cond_t done;
    bool complete;
};

enum code bus_publish(struct bus *bus, const char *subject, const void *data, size_t len, struct status *st)
{
    if (len > WIRE_BODY_MAX)
        return status_set(st, CODE_RESOURCE_EXHAUSTED, "publish %s: body longer than %d bytes", subject,
                          WIRE_BODY_MAX);
    natsStatus s = natsConnection_Publish(bus->prompt, subject, data, (int)len);
    return s == NATS_OK ? CODE_OK : nats_status(st, s, "publish");
}

/* Out of "$JS.ACK.<stream>.<consumer>.<delivered>.<place>.<…>.<…>.<…>", which JetStream 2.9 puts on what it
 * pushes; 0 for what it did not push. The library reads it for its own subscriptions only. */
static uint64_t stream_place(const char *reply)
{
    static const char prefix[] = "$JS.ACK." BUS_STREAM ".";
    if (!reply || strncmp(reply, prefix, strlen(prefix)) != 0)
        return 0;
    const char *at = reply + strlen(prefix);
    for (int dots = 0; dots < 2; dots++) {
        at = strchr(at, '.');
        if (!at)
            return 0;
        at++;
    }
    char *end;
    uint64_t place = strtoull(at, &end, 10);
    return *end == '.' ? place : 0;
}

static void on_plain(natsConnection *nc, natsSubscription *sub, natsMsg *msg, void *arg)
{
    (void)nc;
    (void)sub;
    struct bus_sub *s = arg;
    if (s->on_message) {
        s->on_message(natsMsg_GetSubject(msg), natsMsg_GetData(msg), (size_t)natsMsg_GetDataLength(msg),
                      s->arg);
    } else if (s->on_question) {
        if (natsMsg_GetReply(msg))
            s->on_question(natsMsg_GetReply(msg), s->arg);
    } else {
        AUTO_ARENA struct arena *arena = arena_new();
        struct event_message event = {0};
        event_message_read(msg, arena, &event);
        if (s->placed)
            event.stream_seq = stream_place(natsMsg_GetReply(msg));
        if (!s->placed || event.stream_seq > 0)
            s->on_event(&event, s->arg);
    }
    natsMsg_Destroy(msg);
}

static void on_complete(void *arg)
{
    struct bus_sub *s = arg;
    (void)pthread_mutex_lock(&s->mutex);
    s->complete = true;
    (void)pthread_cond_signal(&s->done);
    (void)pthread_mutex_unlock(&s->mutex);
}

static enum code subscribe(struct bus *bus, const char *subject, const struct bus_sub *callbacks,
                           struct bus_sub **ret, struct status *st)
{
    struct bus_sub *s = calloc(1, sizeof(*s));
    if (!s)
        abort();
    *s = *callbacks;
    s->nc = bus->prompt;
    (void)pthread_mutex_init(&s->mutex, NULL);
    (void)pthread_cond_init(&s->done, NULL);
    natsStatus status = natsConnection_Subscribe(&s->sub, bus->prompt, subject, on_plain, s);
    if (status == NATS_OK)
        status = natsSubscription_SetOnCompleteCB(s->sub, on_complete, s);
    if (status != NATS_OK) {
        natsSubscription_Destroy(s->sub);
        free(s);
        return nats_status(st, status, "subscribe");
    }
    *ret = s;
    return CODE_OK;
}

enum code bus_subscribe(struct bus *bus, const char *subject,
                        void (*on_message)(const char *subject, const void *data, size_t len, void *arg),
                        void *arg, struct bus_sub **ret, struct status *st)
{
    return subscribe(bus, subject, &(struct bus_sub){.on_message = on_message, .arg = arg}, ret, st);
}

enum code events_watch(struct bus *bus, const char *subject,
                       void (*on_event)(const struct event_message *event, void *arg), void *arg,
                       struct bus_sub **ret, struct status *st)
{
    return subscribe(bus, subject, &(struct bus_sub){.on_event = on_event, .arg = arg}, ret, st);
}

enum code events_feed(struct bus *bus, void (*on_event)(const struct event_message *event, void *arg),
                      void *arg, struct bus_sub **ret, struct status *st)
{
    const struct bus_sub callbacks = {.on_event = on_event, .placed = true, .arg = arg};
    return subscribe(bus, BUS_SUBJECT_FEED, &callbacks, ret, st);
}

enum code bus_listen(struct bus *bus, const char *subject, void (*on_question)(const char *reply, void *arg),
                     void *arg, struct bus_sub **ret, struct status *st)
{
    return subscribe(bus, subject, &(struct bus_sub){.on_question = on_question, .arg = arg}, ret, st);
}

uint64_t bus_sub_losses(const struct bus_sub *s)
{
    natsStatistics *statistics = NULL;
    uint64_t reconnects = 0;
    int64_t dropped = 0;
    if (natsStatistics_Create(&statistics) == NATS_OK &&
        natsConnection_GetStats(s->nc, statistics) == NATS_OK)
        (void)natsStatistics_GetCounts(statistics, NULL, NULL, NULL, NULL, &reconnects);
    natsStatistics_Destroy(statistics);
    (void)natsSubscription_GetDropped(s->sub, &dropped);
    return reconnects + (uint64_t)dropped;
}

void bus_unsubscribe(struct bus_sub *s)
{
    if (!s)
        return;
    /* After a reconnect the library subscribes again what is still in its table, so it leaves the table
     * first. The delivery thread may be inside the callback: its completion is waited for. */
    natsStatus status = natsSubscription_Unsubscribe(s->sub);
    if (status == NATS_OK || status == NATS_CONNECTION_CLOSED || status == NATS_INVALID_SUBSCRIPTION) {
        (void)pthread_mutex_lock(&s->mutex);
        while (!s->complete)
            (void)pthread_cond_wait(&s->done, &s->mutex);
        (void)pthread_mutex_unlock(&s->mutex);
    }
    natsSubscription_Destroy(s->sub);
    (void)pthread_cond_destroy(&s->done);
    (void)pthread_mutex_destroy(&s->mutex);
    free(s);
}
