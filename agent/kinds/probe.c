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

#define SWEEP_CHILDREN 8
#define SWEEP_TICK_MS  250
#define SWEEP_ROUNDS   16 /* children that may end before their time */

/* A child that looks, and the looks that it was given. */
struct running {
    struct probe *probe;
    size_t n, parallel;
    unsigned rate;
    pid_t pid;
    int fd;
    int64_t end_ms;  /* then it is killed: moved on by each answer of a sweep */
    int64_t wait_ms; /* for one answer */
    struct buf out;
};

static void __attribute__((noreturn)) child(const struct running *running, int out)
{
    struct status st;
    struct sandbox_limits limits = {.cpu_sec = 10 + running->n / 50,
                                    .open_files = 32 + (unsigned)running->parallel};
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
    look_all(running->probe, running->n, running->parallel, running->rate, out);
    _exit(0);
}

static void start(struct running *running, struct probe *probe, size_t n, size_t parallel, unsigned rate)
{
    int fds[2];
    *running = (struct running){.probe = probe,
                                .n = n,
                                .parallel = parallel,
                                .rate = rate,
                                .pid = -1,
                                .fd = -1,
                                .out = {.limit = ANSWER_MAX}};
    for (size_t i = 0; i < n; i++) {
        (void)snprintf(probe[i].error, sizeof(probe[i].error), "the look ended without an answer");
        if (probe[i].timeout_ms > running->wait_ms)
            running->wait_ms = probe[i].timeout_ms;
    }
    if (pipe2(fds, O_CLOEXEC) != 0) {
        (void)snprintf(probe->error, sizeof(probe->error), "cannot make a pipe: %s", strerror(errno));
        return;
    }
    running->pid = fork();
    if (running->pid == 0)
        child(running, fds[1]);
    (void)close(fds[1]);
    running->fd = fds[0];
    running->wait_ms += GRACE_MS + (rate ? 1000 / rate : 0);
    running->end_ms = clock_mono_ms() + running->wait_ms;
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

/* One whole answer off the front; false when there is none. What makes no sense ends the child. */
static bool take_answer(struct running *running, size_t *at)
{
    const struct buf *out = &running->out;
    struct look_answer answer;
    size_t from = *at;
    if (!take(out, &from, &answer, sizeof(answer)))
        return false;
    if (answer.index >= running->n || running->probe[answer.index].over || answer.n_certs > DER_LIST_MAX) {
        (void)kill(running->pid, SIGKILL);
        return false;
    }
    struct probe *probe = &running->probe[answer.index];
    struct der_list chain = {0};
    for (unsigned i = 0; answer.kind == 'Z' && i < answer.n_certs; i++) {
        uint32_t size;
        if (!take(out, &from, &size, sizeof(size)) || size > out->len - from) {
            der_list_done(&chain);
            return false;
        }
        (void)!der_list_add(&chain, (struct bytes){out->data + from, size}, NULL);
        from += size;
    }
    *at = from;
    running->end_ms = clock_mono_ms() + running->wait_ms;
    probe->connected = answer.connected == 1;
    if (answer.kind != 'Z')
        return true;
    probe->over = true;
    (void)snprintf(probe->protocol, sizeof(probe->protocol), "%.15s", answer.protocol);
    (void)snprintf(probe->error, sizeof(probe->error), "%.159s", answer.error);
    probe->chain = chain;
    probe->tls = answer.tls == 1 && chain.n > 0;
    if (probe->tls)
        sha256_hex(der_bytes(&chain.item[0]), probe->fingerprint);
    return true;
}

static void take_answers(struct running *running)
{
    size_t at = 0;
    while (take_answer(running, &at))
        ;
    buf_consume(&running->out, at);
}

static void finish(struct running *running)
{
    (void)kill(running->pid, SIGKILL);
    while (waitpid(running->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    (void)close(running->fd);
    running->fd = -1;
    buf_done(&running->out);
}

/* Reads once; true when there is no more to come. */
static bool read_some(struct running *running)
{
    static char chunk[65536];
    ssize_t n = read(running->fd, chunk, sizeof(chunk));
    if (n < 0)
        return errno != EINTR && errno != EAGAIN;
    if (n == 0 || !buf_append(&running->out, chunk, (size_t)n))
        return true;
    take_answers(running);
    return false;
}

/* Waits for something to happen, until_ms at most; how many are still at work. */
static size_t step(struct running *running, size_t n, int64_t until_ms)
{
    struct pollfd fds[PROBE_PARALLEL];
    size_t busy = 0;
    for (size_t i = 0; i < n; i++) {
        fds[i] = (struct pollfd){running[i].fd, POLLIN, 0};
        if (running[i].fd >= 0 && running[i].end_ms < until_ms)
            until_ms = running[i].end_ms;
    }
    int64_t left = until_ms - clock_mono_ms();
    (void)poll(fds, n, left > 0 ? (int)left : 0);
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
        start(&running[slots], &probes[next++], 1, 1, 0);
    while (slots > 0) {
        size_t busy = step(running, slots, clock_mono_ms() + 60000);
        for (size_t i = 0; i < slots && next < n; i++) {
            if (running[i].fd < 0) {
                start(&running[i], &probes[next++], 1, 1, 0);
                busy++;
            }
        }
        if (busy == 0 && next >= n)
            break;
    }
}

void probe_together(struct probe *probes, size_t n)
{
    struct running running;
    start(&running, probes, n, n, 0);
    while (running.fd >= 0)
        (void)step(&running, 1, clock_mono_ms() + 60000);
}

/* --- many --------------------------------------------------------------------------------------------- */

/* The first look of these that was not begun when its child ended; n when there is none. One that had begun
 * may be what ended the child, and is not tried again. */
static size_t first_left(const struct probe *probes, size_t n)
{
    size_t i = 0, last = 0;
    for (size_t k = 0; k < n; k++) {
        if (probes[k].over || probes[k].connected)
            last = k + 1;
    }
    for (i = last; i < n && probes[i].over; i++)
        ;
    return i;
}

void probe_sweep(struct probe *probes, size_t n, const struct probe_sweep *how)
{
    struct running running[SWEEP_CHILDREN];
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    size_t children = cpus < 1 ? 1 : cpus > SWEEP_CHILDREN ? SWEEP_CHILDREN : (size_t)cpus;
    size_t rounds = SWEEP_ROUNDS, busy;
    children = children > n ? n : children;
    if (how->rate && how->rate < children)
        children = how->rate;
    size_t parallel = children && how->parallel / children > 0 ? how->parallel / children : 1;
    unsigned rate = how->rate ? how->rate / (unsigned)(children ? children : 1) : 0;
    for (size_t i = 0; i < children; i++) {
        size_t from = i * n / children, to = (i + 1) * n / children;
        start(&running[i], probes + from, to - from, parallel, rate);
    }
    do {
        busy = step(running, children, clock_mono_ms() + SWEEP_TICK_MS);
        for (size_t i = 0; i < children; i++) {
            size_t left = running[i].fd < 0 ? first_left(running[i].probe, running[i].n) : running[i].n;
            if (left >= running[i].n || rounds == 0)
                continue;
            rounds--;
            start(&running[i], running[i].probe + left, running[i].n - left, parallel, rate);
            busy++;
        }
    } while (busy > 0 && (!how->tick || how->tick(how->arg)));
    for (size_t i = 0; i < children; i++) {
        if (running[i].fd >= 0)
            finish(&running[i]);
    }
}

void probe_done(struct probe *probe)
{
    der_list_done(&probe->chain);
}
