/* `clmctl events`: what happens, as it happens. Comes again by itself and misses nothing. */
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "cli/table.h"
#include "cli/view.h"
#include "proto/event.pb-c.h"
#include "wire/wire.h"

#define LINE_MAX_BYTES (256 * 1024)
#define RETRY_FIRST_MS 500
#define RETRY_MAX_MS   15000

static const struct cli_option options[] = {
    {"follow", NULL, "go on until interrupted (default: what happened since --from)", .type = OPTION_FLAG},
    {"type", "TYPE", "only these: agent.registered, or task.*", OPTION_LIST, .param = "type"},
    {"agent", "ID", "only of this agent", OPTION_LIST, .param = "agentId"},
    {"from", "PLACE", "behind this place of the stream, 0 for all of it; --follow begins now by default",
     .type = OPTION_TEXT},
    {"o", "FORMAT", "table (default) or json, one object a line", .type = OPTION_TEXT},
    {.name = NULL},
};

struct watch {
    struct buf line; /* of what came and has no end yet */
    char last_id[24];
    char name[32]; /* of the event that is coming */
    bool json, follow, ended;
    long went; /* events of this connection */
};

static void print_event(const char *data, size_t len, struct arena *arena)
{
    ProtobufCMessage *msg;
    struct status st;
    if (json_read_lenient(&clm__event_view__descriptor, data, len, arena, &msg, &st) != CODE_OK)
        return;
    const Clm__EventView *event = (const Clm__EventView *)msg;
    const char *detail = event->agent && event->agent->has_status ? view_text(msg, "agent.status", arena)
                         : event->task                            ? view_text(msg, "task.state", arena)
                                                                  : "";
    const char *message = event->task && event->task->message ? event->task->message
                          : event->agent                      ? event->agent->hostname
                                                              : "";
    (void)printf(
        "%s  %-22s %-36s  %s %s\n", table_time(arena, event->has_occurred_at_ms, event->occurred_at_ms),
        event->type ? table_printable(arena, event->type) : "-", event->agent_id ? event->agent_id : "-",
        detail ? detail : "", message ? table_printable(arena, message) : "");
}

static void on_line(struct watch *watch, const char *line, size_t len)
{
    AUTO_ARENA struct arena *arena = arena_new();
    if (len == 0) {
        watch->name[0] = '\0';
    } else if (strncmp(line, "id: ", 4) == 0) {
        (void)snprintf(watch->last_id, sizeof(watch->last_id), "%.20s", line + 4);
    } else if (strncmp(line, "event: ", 7) == 0) {
        (void)snprintf(watch->name, sizeof(watch->name), "%.31s", line + 7);
        if (strcmp(watch->name, "reset") == 0)
            (void)fputs("clmctl: events between are no longer kept\n", stderr);
    } else if (strncmp(line, "data: ", 6) == 0 && !watch->name[0]) {
        watch->went++;
        if (watch->json)
            (void)printf("%.*s\n", (int)len - 6, line + 6);
        else
            print_event(line + 6, len - 6, arena);
        (void)fflush(stdout);
    } else if (line[0] == ':' && !watch->follow) {
        watch->ended = true; /* a comment: there is nothing new */
    }
}

static bool on_data(const char *data, size_t len, void *arg)
{
    struct watch *watch = arg;
    for (size_t i = 0; i < len && !watch->ended; i++) {
        if (data[i] != '\n') {
            if (!buf_append(&watch->line, &data[i], 1))
                return false;
            continue;
        }
        on_line(watch, buf_text(&watch->line), watch->line.len);
        buf_reset(&watch->line);
    }
    return !watch->ended && !ferror(stdout);
}

static void add_params(const struct cli_args *args, struct buf *path)
{
    for (size_t i = 0; i < args->n_values; i++)
        if (args->values[i].option->param)
            client_query(path, args->values[i].option->param, args->values[i].value);
}

/* One connection after the other, each from where the last one ended. */
static enum code watch_on(struct client *client, const char *path, struct watch *watch, struct status *st)
{
    int wait_ms = RETRY_FIRST_MS;
    char told[sizeof(st->msg)] = ""; /* why nothing comes; once */
    for (;;) {
        watch->went = 0;
        buf_reset(&watch->line);
        enum code code = client_stream(client, path, watch->last_id, on_data, watch, st);
        if (watch->ended || ferror(stdout))
            return CODE_OK;
        if (code != CODE_OK && !code_info(code)->retryable)
            return code;
        if (code != CODE_OK && !watch->follow)
            return code;
        if (watch->went > 0)
            told[0] = '\0';
        if (code != CODE_OK && strcmp(told, st->msg) != 0) {
            (void)snprintf(told, sizeof(told), "%s", st->msg);
            cli_complain(st);
        }
        wait_ms = watch->went > 0 ? RETRY_FIRST_MS : wait_ms < RETRY_MAX_MS ? 2 * wait_ms : RETRY_MAX_MS;
        (void)poll(NULL, 0, wait_ms);
    }
}

static enum code run_events(struct client *client, const struct cli_args *args, struct arena *arena,
                            int *ret_exit, struct status *st)
{
    (void)arena;
    struct watch watch = {.follow = cli_args_flag(args, "follow")};
    AUTO_BUF struct buf path = {0};
    const char *from = cli_args_text(args, "from");
    TRY(cli_args_json(args, &watch.json, st));
    if (!watch.follow && !from)
        return status_set(st, CODE_INVALID_ARGUMENT,
                          "--follow for what happens from now on, or --from for what did");
    if (from && (strlen(from) > 18 || strspn(from, "0123456789") != strlen(from)))
        return status_set(st, CODE_INVALID_ARGUMENT, "--from %.32s: expected the number of an event", from);
    (void)snprintf(watch.last_id, sizeof(watch.last_id), "%s", from ? from : "");
    if (!buf_puts(&path, "/api/v1/events"))
        return status_set(st, CODE_INTERNAL, "out of buffer");
    add_params(args, &path);
    buf_init(&watch.line, LINE_MAX_BYTES);
    enum code code = watch_on(client, buf_text(&path), &watch, st);
    buf_done(&watch.line);
    *ret_exit = EXIT_OK;
    return code;
}

const struct command events_commands[] = {
    {.name = "events",
     .summary = "Show what happens, as it happens (--follow), or what did (--from)",
     .options = options,
     .run = run_events},
    {.name = NULL},
};
