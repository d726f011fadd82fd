/*
 * TLS looks: see probe.h. The parent (a task's child process) only forks, reads bounded bytes and kills late
 * children; name resolution, connecting and everything of TLS happens in the children (look.c).
 */
#include "kinds/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "base/buf.h"
#include "base/clock.h"
#include "kinds/look.h"
#include "sandbox/sandbox.h"

#define ANSWER_MAX (DER_LIST_MAX * 70 * 1024)
#define NOBODY     65534
#define GRACE_MS   500 /* for the child to say why it gave up, before it is killed */

static void __attribute__((noreturn)) child(const struct probe *probe, int out)
{
    struct status st;
    struct sandbox_limits limits = {.cpu_sec = 10, .open_files = 32};
    sandbox_close_fds(&out, 1);
    (void)signal(SIGPIPE, SIG_IGN); /* a server that closes early is an answer, too */
    if (sandbox_limit(&limits, &st) != CODE_OK ||
        (geteuid() == 0 && sandbox_drop_user(NOBODY, NOBODY, &st) != CODE_OK) ||
        sandbox_enter(SANDBOX_NET, &st) != CODE_OK) {
        struct look_answer answer = {.kind = 'Z'};
        (void)snprintf(answer.error, sizeof(answer.error), "%.150s", st.msg);
        (void)!write(out, &answer, sizeof(answer));
        _exit(1);
    }
    look_all(probe, 1, 1, out);
    _exit(0);
}

struct running {
    struct probe *probe;
    pid_t pid;
    int fd;
    int64_t end_ms;
    struct buf out;
};

static void start(struct running *running, struct probe *probe)
{
    int fds[2];
    *running = (struct running){.probe = probe, .pid = -1, .fd = -1, .out = {.limit = ANSWER_MAX}};
    if (pipe2(fds, O_CLOEXEC) != 0) {
        (void)snprintf(probe->error, sizeof(probe->error), "cannot make a pipe: %s", strerror(errno));
        return;
    }
    running->pid = fork();
    if (running->pid == 0)
        child(probe, fds[1]);
    (void)close(fds[1]);
    running->fd = fds[0];
    running->end_ms = clock_mono_ms() + probe->timeout_ms + GRACE_MS;
    if (running->pid < 0) {
        (void)snprintf(probe->error, sizeof(probe->error), "cannot fork: %s", strerror(errno));
        (void)close(fds[0]);
        running->fd = -1;
    }
}

static bool take(const struct buf *buf, size_t *at, void *to, size_t n)
{
    if (buf->len - *at < n)
        return false;
    memcpy(to, buf->data + *at, n);
    *at += n;
    return true;
}

static void read_answer(struct running *running)
{
    struct probe *probe = running->probe;
    const struct buf *out = &running->out;
    struct look_answer answer = {0};
    size_t at = 0;
    (void)snprintf(probe->error, sizeof(probe->error), "the look ended without an answer");
    while (answer.kind != 'Z' && take(out, &at, &answer, sizeof(answer)))
        probe->connected = answer.connected == 1;
    if (answer.kind != 'Z')
        return;
    (void)snprintf(probe->protocol, sizeof(probe->protocol), "%.15s", answer.protocol);
    (void)snprintf(probe->error, sizeof(probe->error), "%.159s", answer.error);
    uint32_t size;
    for (unsigned i = 0; i < answer.n_certs && take(out, &at, &size, sizeof(size)); i++) {
        if (size > out->len - at ||
            der_list_add(&probe->chain, (struct bytes){out->data + at, size}, NULL) != CODE_OK)
            break;
        at += size;
    }
    probe->tls = answer.tls == 1 && probe->chain.n > 0;
    if (probe->tls)
        sha256_hex(der_bytes(&probe->chain.item[0]), probe->fingerprint);
}

static void finish(struct running *running)
{
    (void)kill(running->pid, SIGKILL);
    while (waitpid(running->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    (void)close(running->fd);
    running->fd = -1;
    read_answer(running);
    buf_done(&running->out);
}

/* Reads once; true when there is no more to come. */
static bool read_some(struct running *running)
{
    char chunk[16384];
    ssize_t n = read(running->fd, chunk, sizeof(chunk));
    if (n < 0)
        return errno != EINTR && errno != EAGAIN;
    return n == 0 || !buf_append(&running->out, chunk, (size_t)n);
}

static size_t step(struct running *running, size_t n)
{
    struct pollfd fds[PROBE_PARALLEL];
    int64_t now = clock_mono_ms(), first = now + 60000;
    size_t busy = 0;
    for (size_t i = 0; i < n; i++) {
        fds[i] = (struct pollfd){running[i].fd, POLLIN, 0};
        if (running[i].fd >= 0 && running[i].end_ms < first)
            first = running[i].end_ms;
    }
    (void)poll(fds, n, first > now ? (int)(first - now) : 0);
    for (size_t i = 0; i < n; i++) {
        if (running[i].fd < 0)
            continue;
        if ((fds[i].revents && read_some(&running[i])) || clock_mono_ms() >= running[i].end_ms)
            finish(&running[i]);
        busy += running[i].fd >= 0;
    }
    return busy;
}

void probe_run(struct probe *probes, size_t n)
{
    struct running running[PROBE_PARALLEL];
    size_t slots = 0, next = 0;
    for (; slots < PROBE_PARALLEL && next < n; slots++)
        start(&running[slots], &probes[next++]);
    while (slots > 0) {
        size_t busy = step(running, slots);
        for (size_t i = 0; i < slots && next < n; i++) {
            if (running[i].fd < 0) {
                start(&running[i], &probes[next++]);
                busy++;
            }
        }
        if (busy == 0 && next >= n)
            break;
    }
}

void probe_done(struct probe *probe)
{
    der_list_done(&probe->chain);
}
