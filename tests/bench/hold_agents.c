/*
 * hold_agents ROOTS CERTIFICATES KEY: simulated agents. Reads lines "NAME PORT CERTIFICATE" from stdin until
 * an empty one: each is a TLS 1.3 connection of its own to 127.0.0.1:PORT with that certificate (a file in
 * CERTIFICATES; all have the KEY) and a check-in that is held. Says "held" when all of them are, and after
 * that, for each that is cut or answered otherwise, "cut NAME PORT MICROSECONDS" by CLOCK_MONOTONIC. A
 * check-in that its gateway answers in the ordinary way is made again. Ends with stdin.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "http/client.h"
#include "proto/agent.pb-c.h"

#define AGENTS_MAX  16384
#define HOLD_MS     30000
#define OPENING_MAX 64 /* connections on their way at once */

struct agent {
    char name[64], certificate[64];
    unsigned port;
    struct tls_context *tls;
    struct http_client *client;
    bool held, over;
};

static struct agent agents[AGENTS_MAX];
static size_t n_agents, n_opened, n_held;
static struct loop *loop;
static const char *directory;
static struct buf roots;
static struct secret *key;

static void die(const char *what)
{
    (void)fprintf(stderr, "hold_agents: %s\n", what);
    exit(1);
}

static void open_more(void);
static void check_in(struct agent *agent);

static void be_cut(struct agent *agent)
{
    if (agent->over)
        return;
    agent->over = true;
    if (!agent->held)
        die("an agent was not let in");
    printf("cut %s %u %lld\n", agent->name, agent->port, (long long)clock_mono_us());
    (void)fflush(stdout);
}

static void on_response(const struct http_response *response, const struct status *st, void *arg)
{
    struct agent *agent = arg;
    (void)st;
    if (response && http_response_status(response) == 200)
        check_in(agent);
    else
        be_cut(agent);
}

static void on_closed(const struct status *st, void *arg)
{
    if (!((struct agent *)arg)->held)
        die(st->msg);
    be_cut(arg);
}

static void check_in(struct agent *agent)
{
    char id[] = "01890a5d-ac96-774b-bcce-b302099a8057";
    static const struct http_header headers[] = {{"Content-Type", "application/x-protobuf"}, {NULL, NULL}};
    Clm__CheckinRequest request = CLM__CHECKIN_REQUEST__INIT;
    uint8_t body[256];
    request.has_generation = request.has_hold_ms = request.has_free_slots = request.has_sent_at_ms = true;
    request.instance_id = request.boot_id = id;
    request.sent_at_ms = clock_wall_ms();
    request.hold_ms = HOLD_MS;
    request.free_slots = 1;
    const struct http_client_request call = {.method = "POST",
                                             .path = "/agent/v1/checkin",
                                             .headers = headers,
                                             .body = body,
                                             .body_len = protobuf_c_message_pack(&request.base, body)};
    (void)http_client_send(agent->client, &call, on_response, agent);
}

static void on_open(void *arg)
{
    struct agent *agent = arg;
    agent->held = true;
    check_in(agent);
    if (++n_held == n_agents) {
        printf("held\n");
        (void)fflush(stdout);
    }
    open_more();
}

static void open_one(struct agent *agent)
{
    struct status st = {0};
    char path[512];
    AUTO_BUF struct buf chain = {0};
    (void)snprintf(path, sizeof(path), "%s/%s", directory, agent->certificate);
    if (file_read(path, 65536, &chain, &st) != CODE_OK)
        die(st.msg);
    const struct tls_client_config tls = {.ca = roots.data,
                                          .ca_len = roots.len,
                                          .chain = chain.data,
                                          .chain_len = chain.len,
                                          .key = key,
                                          .min_version = TLS_1_3};
    if (tls_client_new(&tls, &agent->tls, &st) != CODE_OK)
        die(st.msg);
    const struct http_client_config config = {.host = "127.0.0.1",
                                              .port = (uint16_t)agent->port,
                                              .tls = agent->tls,
                                              .connect_timeout_ms = 60000,
                                              .on_open = on_open,
                                              .on_closed = on_closed,
                                              .arg = agent};
    agent->client = http_client_new(loop, &config);
}

static void open_more(void)
{
    while (n_opened < n_agents && n_opened - n_held < OPENING_MAX)
        open_one(&agents[n_opened++]);
}

static void on_stdin(int fd, int events, void *arg)
{
    char byte;
    (void)events;
    (void)arg;
    if (read(fd, &byte, 1) == 0)
        loop_stop(loop);
}

int main(int argc, char **argv)
{
    struct status st = {0};
    struct rlimit files = {.rlim_cur = 20000, .rlim_max = 20000};
    char line[256];
    if (argc != 4) {
        (void)fputs("usage: hold_agents ROOTS CERTIFICATES KEY\n", stderr);
        return 2;
    }
    (void)setrlimit(RLIMIT_NOFILE, &files);
    directory = argv[2];
    if (file_read(argv[1], 65536, &roots, &st) != CODE_OK ||
        secret_read_file(argv[3], 65536, false, &key, &st) != CODE_OK)
        die(st.msg);
    while (fgets(line, sizeof(line), stdin) && line[0] != '\n') {
        struct agent *agent = &agents[n_agents++];
        if (n_agents == AGENTS_MAX ||
            sscanf(line, "%63s %u %63s", agent->name, &agent->port, agent->certificate) != 3)
            die("a line is wrong");
    }
    loop = loop_new();
    struct loop_watch *input = loop_watch_new(loop, STDIN_FILENO, LOOP_READ, on_stdin, NULL);
    open_more();
    loop_run(loop);
    loop_watch_free(input);
    for (size_t i = 0; i < n_agents; i++) {
        http_client_free(agents[i].client);
        tls_context_free(agents[i].tls);
    }
    loop_free(loop);
    secret_free(key);
    buf_done(&roots);
    return 0;
}
