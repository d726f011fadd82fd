/* Looking at endpoints: any certificate is seen, no endpoint can hold the agent up or bring it down. */
#include "harness.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/file.h"
#include "kinds/probe.h"
#include "support/port.h"

/* A server for one connection a fork, on host->port. */
static pid_t serve(struct host *host, void (*on_client)(int fd))
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                  .sin_port = htons((uint16_t)host->port)};
    int on = 1;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fd, 8), 0);
    pid_t pid = fork();
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)signal(SIGPIPE, SIG_IGN);
        for (;;) {
            int client = accept(fd, NULL, NULL);
            on_client(client);
            (void)close(client);
        }
    }
    (void)close(fd);
    return pid;
}

static void end(pid_t pid)
{
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
}

static void look(struct host *host, const char *name, const char *sni, struct probe *probe)
{
    static char port[8];
    (void)snprintf(port, sizeof(port), "%u", host->port);
    *probe = (struct probe){.host = name, .port = port, .server_name = sni, .timeout_ms = 1500};
    probe_run(probe, 1);
}

static void close_at_once(int fd)
{
    (void)fd;
}
static void speak_another_protocol(int fd)
{
    (void)!fd_write_all(fd, "220 mail.example.test ESMTP\r\n", 29, NULL);
}
static void send_for_ever(int fd)
{
    static char junk[65536];
    junk[0] = 22; /* a handshake record … */
    junk[1] = 3;
    junk[2] = 3;
    junk[3] = 0x40;
    while (fd_write_all(fd, junk, sizeof(junk), NULL) == CODE_OK)
        ;
}
static void stay_mute(int fd)
{
    char c;
    while (read(fd, &c, 1) > 0)
        ;
}

static void hostile_servers_are_survived(void **state)
{
    struct host *host = *state;
    static const struct {
        void (*on_client)(int fd);
        const char *says;
    } cases[] = {
        {close_at_once, "TLS handshake failed"},
        {speak_another_protocol, "TLS handshake failed"},
        {send_for_ever, "TLS handshake failed"},
        {stay_mute, "no TLS answer within 1500 ms"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct probe probe;
        pid_t server = serve(host, cases[i].on_client);
        int64_t started = clock_mono_us();
        look(host, "127.0.0.1", NULL, &probe);
        assert_true(clock_mono_us() - started < 10000000);
        assert_true(probe.connected);
        assert_false(probe.tls);
        if (!strstr(probe.error, cases[i].says))
            fail_msg("%zu: %s", i, probe.error);
        assert_string_equal(probe.fingerprint, "");
        probe_done(&probe);
        end(server);
    }
}

static void unreachable_and_unknown_hosts_say_so(void **state)
{
    struct host *host = *state;
    struct probe probe;
    look(host, "127.0.0.1", NULL, &probe);
    assert_false(probe.connected);
    assert_non_null(strstr(probe.error, "cannot connect: Connection refused"));
    probe_done(&probe);
    look(host, "no such host", NULL, &probe);
    assert_non_null(strstr(probe.error, "cannot resolve"));
    probe_done(&probe);
}

static void name_asked_for_decides_what_is_served(void **state)
{
    struct host *host = *state;
    int64_t now = clock_wall_ms();
    char extra[512];
    struct probe probe;
    struct issued pair = issue(host, NULL, now - DAY_MS, now + DAY_MS);
    struct issued other =
        issue(host, "other.example.test", now - DAY_MS, now - 1000); /* expired: seen all the same */
    put_pair(host, &pair);
    write_file(host_path(host, "other.pem"), other.cert_pem.data, other.cert_pem.len, 0644);
    write_file(host_path(host, "other.key"), other.key_pem->data, other.key_pem->len, 0600);
    (void)snprintf(
        extra, sizeof(extra),
        "ssl_protocols TLSv1.3; server { listen 127.0.0.1:%u ssl; server_name other.example.test;\n"
        " ssl_certificate other.pem; ssl_certificate_key other.key; return 204; }\n",
        host->port);
    write_nginx_conf(host, extra);
    start_nginx(host);
    look(host, "localhost", "www.example.test", &probe);
    assert_string_equal(probe.fingerprint, pair.fingerprint);
    assert_string_equal(probe.protocol, "TLSv1.3");
    assert_int_equal(probe.chain.n, 1);
    probe_done(&probe);
    look(host, "127.0.0.1", "other.example.test", &probe);
    assert_string_equal(probe.fingerprint, other.fingerprint);
    probe_done(&probe);
    issued_done(&pair);
    issued_done(&other);
}

static void many_looks_at_once_are_all_answered(void **state)
{
    struct host *host = *state;
    int64_t now = clock_wall_ms();
    char port[8], closed[8];
    struct probe probes[3 * PROBE_PARALLEL] = {0};
    struct issued pair = issue(host, NULL, now - DAY_MS, now + DAY_MS);
    put_pair(host, &pair);
    write_nginx_conf(host, NULL);
    start_nginx(host);
    (void)snprintf(port, sizeof(port), "%u", host->port);
    (void)snprintf(closed, sizeof(closed), "%d", port_free());
    for (size_t i = 0; i < ARRAY_LEN(probes); i++)
        probes[i] = (struct probe){.host = "127.0.0.1", .port = i % 3 ? port : closed, .timeout_ms = 10000};
    probe_run(probes, ARRAY_LEN(probes));
    for (size_t i = 0; i < ARRAY_LEN(probes); i++) {
        assert_true(probes[i].tls == (i % 3 != 0));
        assert_string_equal(probes[i].fingerprint, i % 3 ? pair.fingerprint : "");
        probe_done(&probes[i]);
    }
    assert_int_equal(waitpid(-1, NULL, WNOHANG), 0); /* nginx is the only child left */
    issued_done(&pair);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, host_setup, host_teardown)
    const struct CMUnitTest tests[] = {
        TEST(hostile_servers_are_survived),
        TEST(unreachable_and_unknown_hosts_say_so),
        TEST(name_asked_for_decides_what_is_served),
        TEST(many_looks_at_once_are_all_answered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
