/*
 * Owns the signer child. `up` is written under the mutex and read without it by health checks; root, issuers
 * and the trust domain are written once, by the first Hello, before anybody else has the object.
 */
#include "signer_client.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "frame.h"
#include "revoked_record.h"
#include "services/bootstrap/signer.pb-c.h"
#include "signer.h"
#include "wire/wire.h"

#define TIMEOUT_DEFAULT_MS 10000
#define START_DEFAULT_MS   60000

struct signer {
    char *executable, *ca_dir, *crl_url;
    int64_t timeout_ms, start_ms;
    pthread_mutex_t mutex;
    int fd;            /* -1: down */
    _Atomic pid_t pid; /* -1: none */
    atomic_bool up;
    struct der root;
    struct der_list issuers;
    char *trust_domain;
};

extern char **environ;

static void bury(struct signer *signer)
{
    atomic_store(&signer->up, false);
    if (signer->fd >= 0)
        (void)close(signer->fd);
    signer->fd = -1;
    pid_t pid = atomic_load(&signer->pid);
    if (pid > 0) {
        (void)kill(pid, SIGKILL);
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    atomic_store(&signer->pid, -1);
}

static enum code spawn(struct signer *signer, int child_fd, struct status *st)
{
    char program[] = "clm-bootstrap", command[] = "signer", option[] = "--dir", url[] = "--crl-url";
    char *argv[] = {program,         command, option, signer->ca_dir, signer->crl_url ? url : NULL,
                    signer->crl_url, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none;
    pid_t pid = -1;

    /* dup2 onto the same number would keep FD_CLOEXEC, so the caller hands in another one. */
    (void)sigemptyset(&none);
    (void)posix_spawn_file_actions_init(&actions);
    (void)posix_spawn_file_actions_adddup2(&actions, child_fd, SIGNER_FD);
    (void)posix_spawnattr_init(&attributes);
    (void)posix_spawnattr_setsigmask(&attributes, &none);
    (void)posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    int err = posix_spawn(&pid, signer->executable, &actions, &attributes, argv, environ);
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)posix_spawnattr_destroy(&attributes);
    if (err != 0)
        return status_errno(st, CODE_UNAVAILABLE, err, "cannot start the signer (%s)", signer->executable);
    atomic_store(&signer->pid, pid);
    return CODE_OK;
}

static enum code set_timeouts(int fd, int64_t timeout_ms, struct status *st)
{
    struct timeval timeout = {.tv_sec = timeout_ms / 1000, .tv_usec = (timeout_ms % 1000) * 1000};
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) != 0)
        return status_errno(st, CODE_INTERNAL, errno, "cannot bound the signer's answers");
    return CODE_OK;
}

static enum code receive(int fd, const ProtobufCMessageDescriptor *desc, struct arena *arena,
                         ProtobufCMessage **ret, struct status *st)
{
    const uint8_t *data;
    size_t len;
    TRY(frame_receive(fd, arena, &data, &len, st));
    return wire_unpack(desc, data, len, arena, ret, st);
}

static enum code remember(struct signer *signer, const Clm__Signer__Hello *hello, struct status *st)
{
    if (!hello->has_root || hello->n_issuers != ISSUING_CA_COUNT || !hello->trust_domain)
        return status_set(st, CODE_INTERNAL, "the signer's Hello lacks its certificates");
    if (signer->root.len > 0) {
        bool same = signer->root.len == hello->root.len &&
                    memcmp(signer->root.data, hello->root.data, hello->root.len) == 0;
        return same
                   ? CODE_OK
                   : status_set(
                         st, CODE_FAILED_PRECONDITION,
                         "the CA directory has another root than before; restart the service if it is meant");
    }
    signer->root = der_dup((struct bytes){hello->root.data, hello->root.len});
    for (size_t i = 0; i < hello->n_issuers; i++)
        TRY(der_list_add(&signer->issuers, (struct bytes){hello->issuers[i].data, hello->issuers[i].len},
                         st));
    signer->trust_domain = strdup(hello->trust_domain);
    return CODE_OK;
}

static enum code hear_hello(struct signer *signer, struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    ProtobufCMessage *message;
    if (receive(signer->fd, &clm__signer__hello__descriptor, arena, &message, st) != CODE_OK)
        return status_wrap(st, "the signer did not start");
    const Clm__Signer__Hello *hello = (const Clm__Signer__Hello *)message;
    if (hello->code != CODE_OK)
        return status_set(st, (enum code)hello->code, "the signer did not start: %s",
                          hello->message ? hello->message : "no reason given");
    return remember(signer, hello, st);
}

/* Under the mutex, or before anybody else has the object. */
static enum code bring_up(struct signer *signer, struct status *st)
{
    int pair[2];

    bury(signer);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return status_errno(st, CODE_UNAVAILABLE, errno, "cannot make the signer's socket");
    signer->fd = pair[0];
    int child = fcntl(pair[1], F_DUPFD_CLOEXEC, SIGNER_FD + 1);
    (void)close(pair[1]);
    if (child < 0)
        return status_errno(st, CODE_UNAVAILABLE, errno, "cannot make the signer's socket");
    enum code code = spawn(signer, child, st);
    (void)close(child);
    if (code == CODE_OK)
        code = set_timeouts(signer->fd, signer->start_ms, st);
    if (code == CODE_OK)
        code = hear_hello(signer, st);
    if (code == CODE_OK)
        code = set_timeouts(signer->fd, signer->timeout_ms, st);
    if (code != CODE_OK) {
        bury(signer);
        return code;
    }
    atomic_store(&signer->up, true);
    return CODE_OK;
}

enum code signer_start(const struct signer_config *config, struct signer **ret, struct status *st)
{
    struct signer *signer = calloc(1, sizeof(*signer));
    if (!signer)
        abort();
    signer->executable = strdup(config->executable);
    signer->ca_dir = strdup(config->ca_dir);
    signer->crl_url = config->crl_url ? strdup(config->crl_url) : NULL;
    signer->timeout_ms = config->timeout_ms > 0 ? config->timeout_ms : TIMEOUT_DEFAULT_MS;
    signer->start_ms = config->start_ms > 0 ? config->start_ms : START_DEFAULT_MS;
    signer->fd = -1;
    atomic_init(&signer->pid, -1);
    atomic_init(&signer->up, false);
    (void)pthread_mutex_init(&signer->mutex, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    if (bring_up(signer, st) != CODE_OK) {
        signer_stop(signer);
        return st ? st->code : CODE_UNAVAILABLE;
    }
    *ret = signer;
    return CODE_OK;
}

void signer_stop(struct signer *signer)
{
    if (!signer)
        return;
    (void)pthread_mutex_lock(&signer->mutex);
    bury(signer);
    (void)pthread_mutex_unlock(&signer->mutex);
    (void)pthread_mutex_destroy(&signer->mutex);
    der_done(&signer->root);
    der_list_done(&signer->issuers);
    free(signer->trust_domain);
    free(signer->executable);
    free(signer->ca_dir);
    free(signer->crl_url);
    free(signer);
}

static enum code exchange(struct signer *signer, const Clm__Signer__Request *request, struct arena *arena,
                          ProtobufCMessage **ret, struct status *st)
{
    const uint8_t *data;
    size_t len;
    wire_pack(&request->base, arena, &data, &len);
    TRY(frame_send(signer->fd, data, len, st));
    return receive(signer->fd, &clm__signer__response__descriptor, arena, ret, st);
}

static enum code ask(struct signer *signer, const Clm__Signer__Request *request, struct arena *arena,
                     const Clm__Signer__Response **ret, struct status *st)
{
    ProtobufCMessage *message = NULL;

    (void)pthread_mutex_lock(&signer->mutex);
    enum code code = signer->fd >= 0 ? exchange(signer, request, arena, &message, st)
                                     : status_set(st, CODE_UNAVAILABLE, "it is not running");
    /* After any failure the stream may hold half an answer, or the late one of this request. */
    if (code != CODE_OK)
        bury(signer);
    (void)pthread_mutex_unlock(&signer->mutex);

    if (code != CODE_OK) {
        (void)status_wrap(st, "the signer");
        if (st)
            st->code = CODE_UNAVAILABLE;
        return CODE_UNAVAILABLE;
    }
    *ret = (const Clm__Signer__Response *)message;
    return CODE_OK;
}

static enum code write_issue(const struct profile_request *request, struct arena *arena,
                             Clm__Signer__IssueRequest *ret, struct status *st)
{
    if (request->life_sec < 0 || request->life_sec > UINT32_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, "the life is out of range");
    clm__signer__issue_request__init(ret);
    ret->has_profile = ret->has_csr = ret->has_generation = ret->has_life_sec = 1;
    ret->profile = (Clm__Signer__Profile)request->profile;
    ret->csr.data = arena_dup(arena, request->csr.data, request->csr.len);
    ret->csr.len = request->csr.len;
    ret->subject = arena_strdup(arena, request->subject);
    ret->generation = request->generation;
    ret->life_sec = (uint32_t)request->life_sec;
    return CODE_OK;
}

enum code signer_issue(struct signer *signer, const struct profile_request *requests, size_t n,
                       struct der *ret, size_t *ret_failed, struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    const Clm__Signer__Response *response;
    Clm__Signer__IssueRequest out[SIGNER_ISSUE_MAX], *list[SIGNER_ISSUE_MAX];
    Clm__Signer__Request envelope = CLM__SIGNER__REQUEST__INIT;

    assert(n > 0 && n <= SIGNER_ISSUE_MAX);
    *ret_failed = 0;
    for (size_t i = 0; i < n; i++) {
        TRY(write_issue(&requests[i], arena, &out[i], st));
        list[i] = &out[i];
    }
    envelope.issue = list;
    envelope.n_issue = n;
    TRY(ask(signer, &envelope, arena, &response, st));
    *ret_failed = response->failed < n ? response->failed : 0;
    if (response->code != CODE_OK)
        return status_set(st, (enum code)response->code, "%s",
                          response->message ? response->message : "refused");
    if (response->n_certificate != n)
        return status_set(st, CODE_INTERNAL, "the signer's answer lacks certificates");
    for (size_t i = 0; i < n; i++)
        ret[i] = der_dup((struct bytes){response->certificate[i].data, response->certificate[i].len});
    return CODE_OK;
}

static void write_revoked(const struct signer_crl *order, struct arena *arena, Clm__Signer__CrlRequest *out)
{
    out->n_revoked = (order->n + REVOKED_PER_PIECE - 1) / REVOKED_PER_PIECE;
    out->revoked = arena_array(arena, out->n_revoked + 1, sizeof(*out->revoked));
    for (size_t piece = 0, i = 0; piece < out->n_revoked; piece++) {
        ProtobufCBinaryData *to = &out->revoked[piece];
        to->data = arena_alloc(arena, (size_t)REVOKED_PER_PIECE * REVOKED_RECORD_BYTES);
        for (to->len = 0; to->len < (size_t)REVOKED_PER_PIECE * REVOKED_RECORD_BYTES && i < order->n; i++) {
            revoked_record_write(&order->entries[i], to->data + to->len);
            to->len += REVOKED_RECORD_BYTES;
        }
    }
}

enum code signer_sign_crl(struct signer *signer, const struct signer_crl *order, struct der *ret,
                          int64_t *ret_this_update_ms, int64_t *ret_next_update_ms, struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    const Clm__Signer__Response *response;
    Clm__Signer__CrlRequest out = CLM__SIGNER__CRL_REQUEST__INIT;
    Clm__Signer__Request envelope = CLM__SIGNER__REQUEST__INIT;

    if (order->life_sec <= 0 || order->life_sec > UINT32_MAX || order->n > CRL_ENTRIES_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT,
                          "%zu revoked certificates for %lld s: at most %u fit a list", order->n,
                          (long long)order->life_sec, CRL_ENTRIES_MAX);
    out.has_issuer = out.has_number = out.has_life_sec = 1;
    out.issuer = order->ca;
    out.number = order->number;
    out.life_sec = (uint32_t)order->life_sec;
    write_revoked(order, arena, &out);
    envelope.crl = &out;
    TRY(ask(signer, &envelope, arena, &response, st));
    if (response->code != CODE_OK)
        return status_set(st, (enum code)response->code, "%s",
                          response->message ? response->message : "refused");
    AUTO_BUF struct buf der = {0};
    buf_init(&der, 0);
    for (size_t i = 0; i < response->n_crl; i++) {
        if (!buf_append(&der, response->crl[i].data, response->crl[i].len))
            abort();
    }
    *ret = der_dup((struct bytes){der.data, der.len});
    *ret_this_update_ms = response->this_update_at_ms;
    *ret_next_update_ms = response->next_update_at_ms;
    return CODE_OK;
}

static bool has_ended(const struct signer *signer)
{
    siginfo_t info = {0};
    pid_t pid = atomic_load(&signer->pid);
    return pid <= 0 || waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
           info.si_pid == pid;
}

enum code signer_ensure(struct signer *signer, struct status *st)
{
    enum code code = CODE_OK;
    (void)pthread_mutex_lock(&signer->mutex);
    if (has_ended(signer))
        code = bring_up(signer, st);
    (void)pthread_mutex_unlock(&signer->mutex);
    return code;
}

bool signer_ready(const struct signer *signer)
{
    return atomic_load(&signer->up) && !has_ended(signer);
}

pid_t signer_pid(const struct signer *signer)
{
    return atomic_load(&signer->pid);
}

struct bytes signer_root(const struct signer *signer)
{
    return der_bytes(&signer->root);
}

struct bytes signer_issuer(const struct signer *signer, enum profile profile)
{
    return der_bytes(&signer->issuers.item[profile_info(profile)->ca]);
}

const struct der_list *signer_issuers(const struct signer *signer)
{
    return &signer->issuers;
}

const char *signer_trust_domain(const struct signer *signer)
{
    return signer->trust_domain;
}
