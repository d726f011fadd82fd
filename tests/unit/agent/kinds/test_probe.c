/* Looking at endpoints: any certificate is seen, no endpoint can hold the agent up or bring it down. */
#include "harness.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
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

static void look_with(struct host *host, const char *name, const char *sni, enum starttls starttls,
                      struct probe *probe)
{
    static char port[8];
    (void)snprintf(port, sizeof(port), "%u", host->port);
    *probe = (struct probe){
        .host = name, .port = port, .server_name = sni, .timeout_ms = 1500, .starttls = starttls};
    probe_run(probe, 1);
}

static void look(struct host *host, const char *name, const char *sni, struct probe *probe)
{
    look_with(host, name, sni, STARTTLS_NONE, probe);
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

static void greet_for_ever(int fd)
{
    while (fd_write_all(fd, "220-more\r\n", 10, NULL) == CODE_OK)
        ;
}
static void one_byte_at_a_time(int fd)
{
    do
        (void)usleep(20000);
    while (fd_write_all(fd, "2", 1, NULL) == CODE_OK);
}
static void stuff_bytes(int fd)
{
    static const char words[] = "220 hi\r\n250 STARTTLS\r\n220 go\r\nHELO?";
    (void)!fd_write_all(fd, words, sizeof(words) - 1, NULL);
    stay_mute(fd);
}

static void hostile_servers_are_survived(void **state)
{
    struct host *host = *state;
    static const struct {
        void (*on_client)(int fd);
        enum starttls starttls;
        const char *says;
    } cases[] = {
        {close_at_once, STARTTLS_NONE, "TLS handshake failed"},
        {speak_another_protocol, STARTTLS_NONE, "TLS handshake failed"},
        {send_for_ever, STARTTLS_NONE, "TLS handshake failed"},
        {stay_mute, STARTTLS_NONE, "no TLS answer within 1500 ms"},
        {close_at_once, STARTTLS_SMTP, "the server closed the connection before STARTTLS"},
        {speak_another_protocol, STARTTLS_IMAP, "the IMAP server does not greet with OK: \"220 mail"},
        {send_for_ever, STARTTLS_POP3, "before TLS"},
        {stay_mute, STARTTLS_POSTGRESQL, "no postgresql answer within 1500 ms"},
        {greet_for_ever, STARTTLS_SMTP, "the server says too much before TLS"},
        {one_byte_at_a_time, STARTTLS_SMTP, "no smtp answer within 1500 ms"},
        {stuff_bytes, STARTTLS_SMTP, "ahead of TLS"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct probe probe;
        pid_t server = serve(host, cases[i].on_client);
        int64_t started = clock_mono_us();
        look_with(host, "127.0.0.1", NULL, cases[i].starttls, &probe);
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
    AUTO_ISSUED struct issued pair = issue(host, NULL, now - DAY_MS, now + DAY_MS);
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
    issued_done(&other);
}

/* Servers that say the right words, and then speak TLS with host's pair. */
static SSL_CTX *server_tls;
static const struct {
    enum starttls starttls;
    const char *says[3];
    size_t reads[3], len[3]; /* bytes of the client's words before it says so; 0: at once */
} speakers[] = {
    {STARTTLS_SMTP, {"220 hi\r\n", "250-x\r\n250 STARTTLS\r\n", "220 go\r\n"}, {0, 18, 10}, {8, 21, 8}},
    {STARTTLS_IMAP, {"* OK hi\r\n", "* X\r\na OK go\r\n"}, {0, 12}, {9, 14}},
    {STARTTLS_POP3, {"+OK\r\n", "+OK go\r\n"}, {0, 6}, {5, 8}},
    {STARTTLS_LDAP, {"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00"}, {31}, {14}},
    {STARTTLS_POSTGRESQL, {"S"}, {8}, {1}},
};
static size_t speaker;

static void speak(int fd)
{
    char words[64];
    for (size_t i = 0; i < 3 && speakers[speaker].says[i]; i++) {
        if (speakers[speaker].reads[i] && fd_read_all(fd, words, speakers[speaker].reads[i], NULL) != CODE_OK)
            return;
        (void)!fd_write_all(fd, speakers[speaker].says[i], speakers[speaker].len[i], NULL);
    }
    SSL *ssl = SSL_new(server_tls);
    if (SSL_set_fd(ssl, fd) == 1 && SSL_accept(ssl) == 1)
        (void)SSL_read(ssl, words, sizeof(words));
    SSL_free(ssl);
}

static void certificates_behind_starttls_are_seen(void **state)
{
    struct host *host = *state;
    int64_t now = clock_wall_ms();
    AUTO_ISSUED struct issued pair = issue(host, NULL, now - DAY_MS, now + DAY_MS);
    put_pair(host, &pair);
    server_tls = SSL_CTX_new(TLS_server_method());
    assert_int_equal(SSL_CTX_use_certificate_file(server_tls, host_path(host, "cert.pem"), SSL_FILETYPE_PEM),
                     1);
    assert_int_equal(SSL_CTX_use_PrivateKey_file(server_tls, host_path(host, "key.pem"), SSL_FILETYPE_PEM),
                     1);
    for (speaker = 0; speaker < ARRAY_LEN(speakers); speaker++) {
        struct probe probe;
        pid_t server = serve(host, speak);
        look_with(host, "127.0.0.1", NULL, speakers[speaker].starttls, &probe);
        end(server);
        if (!probe.tls)
            fail_msg("%s: %s", starttls_name(speakers[speaker].starttls), probe.error);
        assert_string_equal(probe.fingerprint, pair.fingerprint);
        probe_done(&probe);
    }
    SSL_CTX_free(server_tls);
}

static void many_looks_at_once_are_all_answered(void **state)
{
    struct host *host = *state;
    int64_t now = clock_wall_ms();
    char port[8], closed[8];
    struct probe probes[3 * PROBE_PARALLEL] = {0};
    AUTO_ISSUED struct issued pair = issue(host, NULL, now - DAY_MS, now + DAY_MS);
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
}

/* A sweep: many hosts of one range, some of them mute or no TLS servers. */
static void sweep_sees_what_is_there_and_survives_the_rest(void **state)
{
    struct host *host = *state;
    int64_t now = clock_wall_ms();
    char port[8], other[8], extra[512];
    struct probe probes[120] = {0};
    char address[120][16];
    AUTO_ISSUED struct issued pair = issue(host, NULL, now - DAY_MS, now + DAY_MS);
    struct probe_sweep how = {.parallel = 32};
    unsigned newest = (unsigned)port_free();
    put_pair(host, &pair);
    (void)snprintf(extra, sizeof(extra),
                   "server { listen 127.0.0.1:%u ssl; ssl_protocols TLSv1.3; ssl_certificate cert.pem;\n"
                   " ssl_certificate_key key.pem; return 204; }\n",
                   newest);
    write_nginx_conf(host, extra);
    start_nginx(host);
    (void)snprintf(port, sizeof(port), "%u", host->port);
    (void)snprintf(other, sizeof(other), "%u", newest);
    for (size_t i = 0; i < ARRAY_LEN(probes); i++) {
        (void)snprintf(address[i], sizeof(address[i]), "127.0.0.%u", i % 4 < 2 ? 1u : (unsigned)i + 2);
        probes[i] = (struct probe){.host = address[i],
                                   .port = i % 4 == 1 ? other : port,
                                   .timeout_ms = 10000,
                                   .only_certificate = true};
    }
    probe_sweep(probes, ARRAY_LEN(probes), &how);
    for (size_t i = 0; i < ARRAY_LEN(probes); i++) {
        if (probes[i].tls != (i % 4 < 2)) /* also of a server that speaks TLS 1.3 only */
            fail_msg("%zu: %s", i, probes[i].error);
        assert_true(probes[i].over);
        assert_string_equal(probes[i].fingerprint, i % 4 < 2 ? pair.fingerprint : "");
        probe_done(&probes[i]);
    }
}

static bool stop_at_once(void *arg)
{
    ++*(unsigned *)arg;
    return false;
}

static void sweep_can_be_stopped_and_paced(void **state)
{
    struct host *host = *state;
    char port[8];
    struct probe probes[50] = {0};
    unsigned ticks = 0;
    pid_t server = serve(host, stay_mute);
    struct probe_sweep stopped = {.parallel = 4, .tick = stop_at_once, .arg = &ticks};
    (void)snprintf(port, sizeof(port), "%u", host->port);
    for (size_t i = 0; i < ARRAY_LEN(probes); i++)
        probes[i] = (struct probe){.host = "127.0.0.1", .port = port, .timeout_ms = 60000};
    probe_sweep(probes, ARRAY_LEN(probes), &stopped);
    assert_int_equal(ticks, 1);
    for (size_t i = 0; i < ARRAY_LEN(probes); i++) {
        assert_false(probes[i].tls);
        assert_true(strlen(probes[i].error) > 0);
    }
    end(server);
    /* Twenty refused connections, forty a second begun by all children together: not in one burst. */
    struct probe_sweep paced = {.parallel = 32, .rate = 40};
    memset(probes, 0, sizeof(probes));
    for (size_t i = 0; i < 20; i++)
        probes[i] = (struct probe){.host = "127.0.0.1", .port = port, .timeout_ms = 10000};
    int64_t started = clock_mono_ms();
    probe_sweep(probes, 20, &paced);
    assert_true(clock_mono_ms() - started >= 200);
    for (size_t i = 0; i < 20; i++)
        assert_non_null(strstr(probes[i].error, "Connection refused"));
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, host_setup, host_teardown)
    const struct CMUnitTest tests[] = {
        TEST(hostile_servers_are_survived),          TEST(unreachable_and_unknown_hosts_say_so),
        TEST(name_asked_for_decides_what_is_served), TEST(certificates_behind_starttls_are_seen),
        TEST(many_looks_at_once_are_all_answered),   TEST(sweep_sees_what_is_there_and_survives_the_rest),
        TEST(sweep_can_be_stopped_and_paced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
