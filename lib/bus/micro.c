/*
 * Answers of the NATS services protocol. Everything runs on a library thread; the counters are the rpc
 * server's own. Names, types and members are those of ADR-32; times are in nanoseconds there.
 */
#include "bus/micro.h"

#include <inttypes.h>

#include "base/clock.h"
#include "bus/internal.h"

#define ANSWER_MAX (64 * 1024)
#define N_SCOPES   3 /* every service, this one, this process */

struct verb {
    const char *name, *type;
    bool (*write)(const struct micro *micro, struct buf *out); /* the members beyond those that all share */
};

struct listener {
    struct micro *micro;
    const struct verb *verb;
    struct bus_sub *sub;
};

static bool write_nothing(const struct micro *micro, struct buf *out);
static bool write_info(const struct micro *micro, struct buf *out);
static bool write_stats(const struct micro *micro, struct buf *out);

static const struct verb verbs[] = {
    {"PING", "io.nats.micro.v1.ping_response", write_nothing},
    {"INFO", "io.nats.micro.v1.info_response", write_info},
    {"STATS", "io.nats.micro.v1.stats_response", write_stats},
};

struct micro {
    struct bus *bus;
    const struct rpc_server *server;
    const struct micro_about *about;
    char name[80];
    char started[CLOCK_RFC3339_SIZE];
    struct listener listener[ARRAY_LEN(verbs) * N_SCOPES];
};

static bool write_text(struct buf *out, const char *name, const char *value)
{
    return buf_printf(out, ",\"%s\":", name) && json_quote(out, value);
}

static bool write_nothing(const struct micro *micro, struct buf *out)
{
    (void)micro;
    (void)out;
    return true;
}

/* What an endpoint has in both answers. */
static bool write_endpoint(const struct micro *micro, size_t i, struct buf *out)
{
    struct rpc_stats stats;
    rpc_server_stats(micro->server, i, &stats);
    const char *service = rpc_server_service(micro->server);
    return buf_printf(out, "%s{\"name\":\"%s\",\"subject\":\"clm.rpc.%s.%s\",\"queue_group\":\"%s\"",
                      i ? "," : "", stats.method, service, stats.method, service);
}

static bool write_info(const struct micro *micro, struct buf *out)
{
    bool ok = write_text(out, "description", micro->about->description) && buf_puts(out, ",\"endpoints\":[");
    for (size_t i = 0; ok && i < rpc_server_n_methods(micro->server); i++)
        ok = write_endpoint(micro, i, out) && buf_puts(out, "}");
    return ok && buf_puts(out, "]");
}

static bool write_stats(const struct micro *micro, struct buf *out)
{
    bool ok = write_text(out, "started", micro->started) && buf_puts(out, ",\"endpoints\":[");
    for (size_t i = 0; ok && i < rpc_server_n_methods(micro->server); i++) {
        struct rpc_stats stats;
        rpc_server_stats(micro->server, i, &stats);
        uint64_t average = stats.n_requests ? stats.busy_ns / stats.n_requests : 0;
        ok = write_endpoint(micro, i, out) &&
             buf_printf(out,
                        ",\"num_requests\":%" PRIu64 ",\"num_errors\":%" PRIu64 ",\"last_error\":\"%s\""
                        ",\"processing_time\":%" PRIu64 ",\"average_processing_time\":%" PRIu64 "}",
                        stats.n_requests, stats.n_errors,
                        stats.last_error == CODE_OK ? "" : code_name(stats.last_error), stats.busy_ns,
                        average);
    }
    return ok && buf_puts(out, "]");
}

static void on_question(const char *reply, void *arg)
{
    const struct listener *listener = arg;
    const struct micro *micro = listener->micro;
    AUTO_BUF struct buf out;
    buf_init(&out, ANSWER_MAX);
    struct status st;
    bool ok = buf_printf(&out, "{\"type\":\"%s\"", listener->verb->type) &&
              write_text(&out, "name", micro->name) && write_text(&out, "id", micro->about->instance) &&
              write_text(&out, "version", micro->about->version) && buf_puts(&out, ",\"metadata\":{}") &&
              listener->verb->write(micro, &out) && buf_puts(&out, "}");
    /* Who asked learns of a failure from its own deadline. */
    if (ok)
        (void)!bus_publish(micro->bus, reply, out.data, out.len, &st);
}

static enum code listen(struct micro *micro, struct listener *listener, const struct verb *verb,
                        unsigned scope, struct status *st)
{
    char subject[192];
    (void)snprintf(subject, sizeof(subject), "$SRV.%s%s%s%s%s", verb->name, scope > 0 ? "." : "",
                   scope > 0 ? micro->name : "", scope > 1 ? "." : "",
                   scope > 1 ? micro->about->instance : "");
    *listener = (struct listener){.micro = micro, .verb = verb};
    return bus_listen(micro->bus, subject, on_question, listener, &listener->sub, st);
}

enum code micro_new(struct bus *bus, const struct rpc_server *server, const struct micro_about *about,
                    struct micro **ret, struct status *st)
{
    struct micro *micro = calloc(1, sizeof(*micro));
    if (!micro)
        abort();
    micro->bus = bus;
    micro->server = server;
    micro->about = about;
    (void)snprintf(micro->name, sizeof(micro->name), "clm-%s", rpc_server_service(server));
    clock_format_rfc3339(clock_wall_ms(), micro->started);
    for (size_t v = 0; v < ARRAY_LEN(verbs); v++)
        for (unsigned scope = 0; scope < N_SCOPES; scope++)
            if (listen(micro, &micro->listener[v * N_SCOPES + scope], &verbs[v], scope, st) != CODE_OK) {
                micro_free(micro);
                return st->code;
            }
    *ret = micro;
    return CODE_OK;
}

void micro_free(struct micro *micro)
{
    if (!micro)
        return;
    for (size_t i = 0; i < ARRAY_LEN(micro->listener); i++)
        bus_unsubscribe(micro->listener[i].sub);
    free(micro);
}
