/* nats-server and openssl as child processes. */
#include "support/nats.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "base/file.h"
#include "base/id.h"
#include "support/port.h"
#include "tree.h"

extern char **environ;

static char dir[64], url[64], paths[8][160];
static int port;
static pid_t server, owner;

static void die(const char *what, const char *why)
{
    (void)fprintf(stderr, "private nats-server: %s: %s\n", what, why);
    exit(2);
}

static void run(const char *const argv[])
{
    pid_t pid;
    posix_spawn_file_actions_t actions;
    (void)posix_spawn_file_actions_init(&actions);
    (void)posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
    int rc = posix_spawnp(&pid, argv[0], &actions, NULL, (char *const *)(uintptr_t)argv, environ);
    (void)posix_spawn_file_actions_destroy(&actions);
    int status;
    if (rc != 0 || waitpid(pid, &status, 0) != pid || status != 0)
        die(argv[0], "failed");
}

static const char *in_dir(const char *name)
{
    static unsigned n;
    char *path = paths[n++ % ARRAY_LEN(paths)];
    (void)snprintf(path, sizeof(paths[0]), "%s/%s", dir, name);
    return path;
}

static void make_certificate(const char *key, const char *cert)
{
    const char *argv[] = {"openssl",
                          "req",
                          "-x509",
                          "-newkey",
                          "ec",
                          "-pkeyopt",
                          "ec_paramgen_curve:P-256",
                          "-nodes",
                          "-keyout",
                          NULL,
                          "-out",
                          NULL,
                          "-days",
                          "2",
                          "-subj",
                          "/CN=nats",
                          "-addext",
                          "subjectAltName=IP:127.0.0.1",
                          NULL};
    argv[9] = key;
    argv[11] = cert;
    run(argv);
}

static void clean_up(void)
{
    if (getpid() != owner)
        return;
    nats_kill_server();
    tree_remove(dir);
}

static void write_file(const char *path, const void *data, size_t len)
{
    struct status st;
    if (file_write_atomic(path, data, len, 0600, &st) != CODE_OK)
        die(path, st.msg);
}

static void write_configuration(void)
{
    AUTO_BUF struct buf conf;
    buf_init(&conf, 0);
    char key[160], cert[160];
    (void)snprintf(key, sizeof(key), "%s/key.pem", dir);
    (void)snprintf(cert, sizeof(cert), "%s/ca.pem", dir);
    make_certificate(key, cert);
    char other_key[160], other[160];
    (void)snprintf(other_key, sizeof(other_key), "%s/other-key.pem", dir);
    (void)snprintf(other, sizeof(other), "%s/other-ca.pem", dir);
    make_certificate(other_key, other);
    struct secret *passwords[16] = {0};
    for (size_t i = 0; bus_users[i].name; i++) {
        uint8_t random[16];
        char text[33], name[64];
        random_bytes(random, sizeof(random));
        hex_encode(random, sizeof(random), text);
        passwords[i] = secret_dup(text, 32);
        (void)snprintf(name, sizeof(name), "%s.password", bus_users[i].name);
        write_file(in_dir(name), text, 32);
    }
    struct status st;
    bool ok = buf_printf(&conf,
                         "listen: \"127.0.0.1:%d\"\nserver_name: test\nmax_payload: 1MB\n"
                         "jetstream { store_dir: \"%s/store\" }\n"
                         "tls { cert_file: \"%s\", key_file: \"%s\", timeout: 5 }\n",
                         port, dir, cert, key);
    if (!ok || bus_users_conf((const struct secret *const *)passwords, &conf, &st) != CODE_OK)
        die("configuration", st.msg);
    for (size_t i = 0; bus_users[i].name; i++)
        secret_free(passwords[i]);
    write_file(in_dir("nats.conf"), conf.data, conf.len);
}

static void begin(void)
{
    if (*dir)
        return;
    (void)snprintf(dir, sizeof(dir), "/tmp/clm-test-nats-XXXXXX");
    if (!mkdtemp(dir))
        die("temporary directory", strerror(errno));
    owner = getpid();
    (void)atexit(clean_up);
    port = port_free();
    (void)snprintf(url, sizeof(url), "tls://127.0.0.1:%d", port);
    write_configuration();
    nats_start_server();
}

void nats_start_server(void)
{
    server = fork();
    if (server == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        int fd = open(in_dir("nats.log"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        (void)dup2(fd, 1);
        (void)dup2(fd, 2);
        (void)execlp("nats-server", "nats-server", "-c", in_dir("nats.conf"), (char *)NULL);
        _exit(127);
    }
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((uint16_t)port)};
    for (int i = 0; i < 500; i++) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        int rc = connect(fd, (struct sockaddr *)&address, sizeof(address));
        (void)close(fd);
        if (rc == 0)
            return;
        if (waitpid(server, NULL, WNOHANG) == server)
            break;
        (void)poll(NULL, 0, 20);
    }
    die("start", "see nats.log");
}

void nats_kill_server(void)
{
    if (server <= 0)
        return;
    (void)kill(server, SIGKILL);
    (void)waitpid(server, NULL, 0);
    server = 0;
}

void nats_wipe_store(void)
{
    tree_remove(in_dir("store"));
}

const char *nats_url(void)
{
    begin();
    return url;
}

const char *nats_ca_file(void)
{
    begin();
    return in_dir("ca.pem");
}

const char *nats_other_ca_file(void)
{
    begin();
    return in_dir("other-ca.pem");
}

const char *nats_password_file(const char *user)
{
    begin();
    char name[64];
    (void)snprintf(name, sizeof(name), "%s.password", user);
    return in_dir(name);
}

void nats_setup(void)
{
    struct status st = {0};
    if (bus_setup(nats_url(), nats_ca_file(), nats_password_file("admin"), 64 * 1024 * 1024, 1, &st) !=
        CODE_OK)
        die("set up", st.msg);
}

void nats_wait_ready(const struct bus *bus, bool ready)
{
    for (int i = 0; bus_ready(bus) != ready; i++) {
        if (i == 1000)
            die("wait", ready ? "the bus is not there" : "the bus is still there");
        (void)poll(NULL, 0, 10);
    }
}

struct bus *nats_bus(const char *user)
{
    const struct bus_config config = {.url = nats_url(),
                                      .ca_file = nats_ca_file(),
                                      .service = user,
                                      .password_file = nats_password_file(user)};
    struct bus *bus = NULL;
    struct status st = {0};
    if (bus_new(&config, &bus, &st) != CODE_OK)
        die("bus_new", st.msg);
    nats_wait_ready(bus, true);
    return bus;
}
