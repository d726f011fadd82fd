/* A table of checks in the order in which things depend on each other. Each prints rows of its own. */
#include "agent/doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "agent/exec/introduce.h"
#include "agent/exec/spawn.h"
#include "agent/exec/state.h"
#include "agent/facts.h"
#include "agent/net/proxy.h"
#include "agent/status.h"
#include "base/clock.h"
#include "base/endpoint.h"
#include "http/client.h"
#include "pki/cert.h"
#include "sandbox/sandbox.h"

#define DEFAULT_NET_USER "clm-agent"
#define DEFAULT_TOKEN    "/etc/clm-agent/token"
#define FREE_LEAST       (16ull * 1024 * 1024)
#define LOCK_LEAST       (64u * 1024)
#define PROBE_MS         20000
#define SKEW_WARN_MS     30000
#define SKEW_BAD_MS      (5 * 60 * 1000)

enum verdict { GOOD, WARN, BAD };

struct doctor {
    const char *config, *state_dir;
    struct policy *policy;     /* not valid: what holds then, with what [agent] says */
    struct agent_state *state; /* NULL: not enrolled, or unreadable */
    uid_t uid;                 /* of net and of what looks at foreign bytes */
    gid_t gid;
    unsigned n[BAD + 1];
};

static void row(struct doctor *doctor, enum verdict verdict, const char *what, const char *remedy,
                const char *fmt, ...) PRINTF(5, 6);
static void row(struct doctor *doctor, enum verdict verdict, const char *what, const char *remedy,
                const char *fmt, ...)
{
    static const char *const names[] = {[GOOD] = "ok", [WARN] = "warn", [BAD] = "WRONG"};
    va_list args;
    doctor->n[verdict]++;
    (void)printf("%-6s %-12s ", names[verdict], what);
    va_start(args, fmt);
    (void)vprintf(fmt, args);
    va_end(args);
    (void)putchar('\n');
    if (verdict != GOOD && remedy)
        (void)printf("%-6s %-12s -> %s\n", "", "", remedy);
}

/* ---- policy, user, state ----------------------------------------------------------------------------------
 */

static void check_policy(struct doctor *doctor)
{
    struct status st;
    if (policy_load_or_none(doctor->config, &doctor->policy, &st) != CODE_OK)
        row(doctor, BAD, "policy",
            "mend it, then `systemctl reload clm-agent`; until then the agent is in safe mode", "%s", st.msg);
    else
        row(doctor, GOOD, "policy", NULL, "%s is valid", doctor->config);
    if (!doctor->state_dir)
        doctor->state_dir = doctor->policy->state_dir ? doctor->policy->state_dir : AGENT_STATE_DIR;
}

static void check_user(struct doctor *doctor)
{
    struct status st;
    const char *name = doctor->policy->net_user ? doctor->policy->net_user : DEFAULT_NET_USER;
    if (geteuid() != 0) {
        row(doctor, WARN, "user", "run `clm-agent doctor` as the user that the agent runs as",
            "not root: the agent reaches only targets that user %u may write", (unsigned)geteuid());
        return;
    }
    if (spawn_find_user(name, &doctor->uid, &doctor->gid, &st) != CODE_OK)
        row(doctor, BAD, "user", "until then the agent does not start", "%s", st.msg);
    else
        row(doctor, GOOD, "user", NULL, "net runs as %s", name);
}

static void check_state(struct doctor *doctor)
{
    const char *dir = doctor->state_dir;
    struct stat info;
    struct statvfs fs;
    if (stat(dir, &info) != 0) {
        row(doctor, errno == ENOENT ? WARN : BAD, "state", "it is made at the first start", "%s: %s", dir,
            strerror(errno));
        return;
    }
    if ((info.st_uid != 0 && info.st_uid != geteuid()) || (info.st_mode & (S_IWGRP | S_IWOTH)))
        row(doctor, BAD, "state", "give it to the agent's user with mode 0700", "%s may be written by others",
            dir);
    else if (access(dir, W_OK) != 0)
        row(doctor, BAD, "state", "the agent must be able to write it: owner, mount options, ReadWritePaths",
            "%s cannot be written: %s", dir, strerror(errno));
    else if (statvfs(dir, &fs) == 0 && (uint64_t)fs.f_bavail * fs.f_frsize < FREE_LEAST)
        row(doctor, BAD, "state", "make room: with a full disk the agent goes into safe mode",
            "%s has %llu KiB left", dir, (unsigned long long)fs.f_bavail * fs.f_frsize / 1024);
    else
        row(doctor, GOOD, "state", NULL, "%s", dir);
}

static void check_memory(struct doctor *doctor)
{
    void *page = mmap(NULL, LOCK_LEAST, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return;
    if (mlock(page, LOCK_LEAST) != 0)
        row(doctor, WARN, "memory", "raise RLIMIT_MEMLOCK (LimitMEMLOCK= of the unit) to 1 MiB or more",
            "keys cannot be locked in memory and may reach the swap: %s", strerror(errno));
    else
        row(doctor, GOOD, "memory", NULL, "keys can be locked");
    (void)munmap(page, LOCK_LEAST);
}

/* ---- identity
 * ---------------------------------------------------------------------------------------------- */

/* The largest unit of which it is at least two. */
static const char *time_text(int64_t ms, char out[32])
{
    long long minutes = (long long)(ms / 60000);
    if (minutes >= 2 * 24 * 60)
        (void)snprintf(out, 32, "%lld days", minutes / (24 * 60));
    else if (minutes >= 2 * 60)
        (void)snprintf(out, 32, "%lld hours", minutes / 60);
    else
        (void)snprintf(out, 32, "%lld minutes", minutes);
    return out;
}

static void check_identity(struct doctor *doctor)
{
    static const char fresh[] =
        "if this host's clock is right: ask the platform for a fresh token for this agent, stop the agent, "
        "move the state directory away, and `clm-agent enroll`";
    static const char broken[] =
        "bring the state directory back from where it was copied or moved; if it is lost, ask the platform "
        "for a fresh token for this agent, move what is left away, and `clm-agent enroll`";
    AUTO_CERT_INFO struct cert_info info = {0};
    struct status st;
    char days[32];
    if (state_peek(doctor->state_dir, &doctor->state, &st) != CODE_OK) {
        row(doctor, BAD, "identity",
            st.code == CODE_NOT_FOUND ? "`clm-agent enroll` with a token of the platform"
            : geteuid() != 0          ? "run `clm-agent doctor` as the user that the agent runs as"
                                      : broken,
            "%s", st.code == CODE_NOT_FOUND ? "this host is not enrolled" : st.msg);
        return;
    }
    const struct agent_state *state = doctor->state;
    if (state->identity_chain.n == 0 ||
        cert_read(der_bytes(&state->identity_chain.item[0]), &info, &st) != CODE_OK) {
        row(doctor, BAD, "identity", broken, "its certificate cannot be read");
        return;
    }
    int64_t now = clock_wall_ms(), left = info.not_after_ms - now;
    if (left <= 0)
        row(doctor, BAD, "identity", fresh, "agent %s: the certificate ended %s ago", state->agent_id,
            time_text(-left, days));
    else if (now < info.not_before_ms)
        row(doctor, BAD, "identity", "set this host's clock", "agent %s: the certificate is not valid yet",
            state->agent_id);
    else if (left < (info.not_after_ms - info.not_before_ms) / 4)
        row(doctor, WARN, "identity", "it should have been renewed at half its life: look at the agent's log",
            "agent %s: the certificate ends in %s", state->agent_id, time_text(left, days));
    else if (!state->confirmed)
        row(doctor, WARN, "identity", "it is confirmed by the first check-in: start the agent",
            "agent %s: generation %u is not yet confirmed", state->agent_id, state->generation);
    else
        row(doctor, GOOD, "identity", NULL, "agent %s, generation %u, %s left", state->agent_id,
            state->generation, time_text(left, days));
    if (access(DEFAULT_TOKEN, F_OK) == 0)
        row(doctor, WARN, "token", "remove it", "%s is there though this host is enrolled", DEFAULT_TOKEN);
}

/* ---- confinement
 * -------------------------------------------------------------------------------------------- */

static bool can_be_confined(const struct doctor *doctor)
{
    struct status st;
    int wstatus = 0;
    (void)fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        bool good =
            (doctor->uid == (uid_t)-1 || sandbox_drop_user(doctor->uid, doctor->gid, &st) == CODE_OK) &&
            sandbox_enter(SANDBOX_NET, &st) == CODE_OK && prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 &&
            prctl(PR_GET_SECCOMP, 0, 0, 0, 0) == 2;
        _exit(good ? 0 : 1);
    }
    while (pid > 0 && waitpid(pid, &wstatus, 0) < 0 && errno == EINTR)
        ;
    return pid > 0 && WIFEXITED(wstatus) && WEXITSTATUS(wstatus) == 0;
}

static void check_confinement(struct doctor *doctor)
{
    struct open_how how = {.flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC, .resolve = RESOLVE_NO_SYMLINKS};
    if (!can_be_confined(doctor))
        row(doctor, BAD, "confinement",
            "the kernel needs seccomp filters; in a container its runtime must not forbid seccomp(2)",
            "net and the parsers cannot be confined");
    else
        row(doctor, GOOD, "confinement", NULL, "own user, no_new_privs, seccomp");
    long fd = syscall(SYS_openat2, AT_FDCWD, "/", &how, sizeof(how));
    if (fd < 0)
        row(doctor, BAD, "kernel", "Linux 5.6 or later is needed to deploy", "openat2: %s", strerror(errno));
    else
        (void)close((int)fd);
}

/* ---- the gateway
 * --------------------------------------------------------------------------------------------- */

struct probe {
    enum code code;
    char message[256];
    int64_t date_ms; /* the gateway's clock; -1: not told */
};

struct probing {
    struct loop *loop;
    struct probe *probe;
    bool over;
};

static void probe_end(struct probing *probing, const struct status *st)
{
    if (probing->over)
        return;
    probing->over = true;
    probing->probe->code = st->code;
    (void)snprintf(probing->probe->message, sizeof(probing->probe->message), "%s", st->msg);
    loop_stop(probing->loop);
}

/* RFC 9110 section 5.6.7; no locale was set. */
static int64_t read_date(const char *text)
{
    struct tm tm = {0};
    const char *end = text ? strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &tm) : NULL;
    return end && !*end ? (int64_t)timegm(&tm) * 1000 : -1;
}

static void on_probe_response(const struct http_response *response, const struct status *st, void *arg)
{
    struct probing *probing = arg;
    static const struct status ok = {.code = CODE_OK};
    if (response)
        probing->probe->date_ms = read_date(http_response_header(response, "Date"));
    probe_end(probing, response ? &ok : st);
}

static void on_probe_closed(const struct status *st, void *arg)
{
    probe_end(arg, st);
}

/* Whatever HTTP status comes back: it came from who holds the certificate. */
static enum code probe_run(const struct agent_state *state, const Clm__Agent__Identity *identity,
                           struct probe *probe, struct status *st)
{
    struct endpoint gateway;
    AUTO_BUF struct buf roots = {0};
    AUTO_TLS_CONTEXT struct tls_context *tls = NULL;
    CLEANUP(net_proxy_done) struct net_proxy proxy = {0};
    TRY(net_proxy_set(&proxy, identity->proxy, st));
    TRY(endpoint_split(identity->gateway, &gateway, st));
    TRY(certs_to_pem(&state->roots, &roots, st));
    struct tls_client_config tls_config = {.ca = roots.data, .ca_len = roots.len, .min_version = TLS_1_3};
    TRY(tls_client_new(&tls_config, &tls, st));
    struct probing probing = {.loop = loop_new(), .probe = probe};
    struct http_client_config config = {.host = gateway.host,
                                        .port = gateway.port,
                                        .proxy = net_proxy_get(&proxy),
                                        .tls = tls,
                                        .on_closed = on_probe_closed,
                                        .arg = &probing};
    struct http_client_request request = {
        .method = "GET", .path = "/agent/v1/checkin", .timeout_ms = PROBE_MS};
    struct http_client *client = http_client_new(probing.loop, &config);
    (void)http_client_send(client, &request, on_probe_response, &probing);
    loop_run(probing.loop);
    http_client_free(client);
    loop_free(probing.loop);
    return CODE_OK;
}

static _Noreturn void probe_child(const struct doctor *doctor, const Clm__Agent__Identity *identity, int fd)
{
    struct probe probe = {.code = CODE_OK, .date_ms = -1};
    struct status st = {0};
    enum code code = doctor->uid == (uid_t)-1 ? CODE_OK : sandbox_drop_user(doctor->uid, doctor->gid, &st);
    if (code == CODE_OK)
        code = sandbox_enter(SANDBOX_NET, &st);
    if (code == CODE_OK)
        code = probe_run(doctor->state, identity, &probe, &st);
    if (code != CODE_OK) {
        probe.code = code;
        (void)snprintf(probe.message, sizeof(probe.message), "%s", st.msg);
    }
    _exit(write(fd, &probe, sizeof(probe)) == (ssize_t)sizeof(probe) ? 0 : 1);
}

/* What the child says is its own word and no more: bounded, and printed without what could move a cursor. */
static bool probe_gateway(const struct doctor *doctor, const Clm__Agent__Identity *identity,
                          struct probe *ret)
{
    int pipe_fds[2];
    if (pipe2(pipe_fds, O_CLOEXEC) != 0)
        return false;
    (void)fflush(stdout);
    pid_t pid = fork();
    if (pid == 0)
        probe_child(doctor, identity, pipe_fds[1]);
    (void)close(pipe_fds[1]);
    struct pollfd wait = {.fd = pipe_fds[0], .events = POLLIN};
    bool good = pid > 0 && poll(&wait, 1, PROBE_MS + 5000) == 1 &&
                read(pipe_fds[0], ret, sizeof(*ret)) == (ssize_t)sizeof(*ret);
    (void)close(pipe_fds[0]);
    if (pid > 0) {
        (void)kill(pid, SIGKILL);
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    ret->message[sizeof(ret->message) - 1] = '\0';
    for (char *p = ret->message; good && *p; p++)
        *p = *p < 0x20 || *p > 0x7e ? '?' : *p;
    return good;
}

static void check_clock(struct doctor *doctor, int64_t date_ms)
{
    int64_t skew = clock_wall_ms() - date_ms, by = skew < 0 ? -skew : skew;
    if (by > SKEW_WARN_MS)
        row(doctor, by > SKEW_BAD_MS ? BAD : WARN, "clock",
            "set it, and keep it right (timedatectl set-ntp true); beyond 5 minutes the agent is in safe "
            "mode",
            "%lld s %s the platform's", (long long)by / 1000, skew > 0 ? "ahead of" : "behind");
    else
        row(doctor, GOOD, "clock", NULL, "as the platform's");
}

static const char *gateway_remedy(const struct probe *probe)
{
    if (strstr(probe->message, "proxy"))
        return "see proxy, proxy_user and proxy_password_file in [agent]; SIGHUP takes them over";
    if (strstr(probe->message, "not yet valid") || strstr(probe->message, "expired"))
        return "set this host's clock (timedatectl set-ntp true); if `date -u` is right, the gateway's is "
               "wrong";
    switch (probe->code) {
    case CODE_PERMISSION_DENIED:
        return "something else answers at that address (a TLS-inspecting proxy?), or the platform has "
               "another root: "
               "only the roots of the enrolment are trusted";
    case CODE_DEADLINE_EXCEEDED:
        return "a firewall drops the connection, or the address is wrong: outbound TCP to it must be allowed";
    default:
        return "check the address (gateway in [agent]), DNS, and that outbound TCP to it is allowed; or set "
               "a proxy";
    }
}

static void check_gateway(struct doctor *doctor)
{
    struct introduction introduction;
    struct probe probe = {.date_ms = -1};
    struct status problem;
    if (!doctor->state)
        return; /* the address and whom to trust come with the token */
    introduce(doctor->state, doctor->policy, &introduction, &problem);
    if (problem.code != CODE_OK)
        row(doctor, BAD, "proxy", "mend proxy_password_file in [agent]; SIGHUP takes it over", "%s",
            problem.msg);
    const char *gateway = introduction.identity.gateway;
    if (!probe_gateway(doctor, &introduction.identity, &probe))
        row(doctor, BAD, "gateway", "run it again; if it stays so, look at what limits this user's processes",
            "%s: the look at it ended without a word", gateway);
    else if (probe.code != CODE_OK)
        row(doctor, BAD, "gateway", gateway_remedy(&probe), "%s: %s", gateway, probe.message);
    else
        row(doctor, GOOD, "gateway", NULL, "%s answers, and is the one of this host's platform", gateway);
    if (probe.date_ms >= 0)
        check_clock(doctor, probe.date_ms);
    introduction_done(&introduction);
}

static void check_running(struct doctor *doctor)
{
    AUTO_BUF struct buf said = {0};
    int64_t since_ms;
    struct status st;
    if (!doctor->state)
        return;
    if (!agent_is_running(doctor->state))
        row(doctor, WARN, "running", "`systemctl enable --now clm-agent`", "the agent is not running");
    else if (state_read_link(doctor->state, &said, &since_ms, &st) != CODE_OK)
        row(doctor, WARN, "running", "look at the agent's log",
            "the agent is running; nothing is known of its connection");
    else
        row(doctor, strncmp(buf_text(&said), "not", 3) == 0 ? BAD : GOOD, "running",
            "see the gateway's row, and the agent's log", "the agent is running, %s", buf_text(&said));
}

/* ---- targets
 * ------------------------------------------------------------------------------------------------- */

static void check_file(struct doctor *doctor, const char *target, const char *path)
{
    static const char what[] = "target";
    struct stat info;
    AUTO_FREE char *real = realpath(path, NULL);
    AUTO_FREE char *dir = strndup(path, (size_t)(strrchr(path, '/') - path) + 1);
    if (!dir)
        abort();
    if (!real && errno != ENOENT)
        row(doctor, BAD, what, "the agent's user must be able to reach it", "[%s] %s: %s", target, path,
            strerror(errno));
    else if (access(dir, W_OK) != 0)
        row(doctor, BAD, what,
            "the agent's user must be able to write the directory: a file is replaced by a rename",
            "[%s] %s cannot be written: %s", target, dir, strerror(errno));
    else if (!real)
        row(doctor, WARN, what, "the first deployment makes it", "[%s] %s is not there", target, path);
    else if (strcmp(real, path) != 0)
        row(doctor, BAD, what, "write the real path into the policy: links are not followed",
            "[%s] %s leads through a link to %s", target, path, real);
    else if (lstat(path, &info) != 0 || !S_ISREG(info.st_mode) || info.st_nlink != 1)
        row(doctor, BAD, what, "it must be a regular file with one link", "[%s] %s is not", target, path);
    else
        row(doctor, GOOD, what, NULL, "[%s] %s", target, path);
}

static void check_reload(struct doctor *doctor, const struct policy_reload *reload)
{
    char *const programs[] = {reload->command[0], reload->test ? reload->test[0] : NULL};
    for (size_t i = 0; i < ARRAY_LEN(programs) && programs[i]; i++) {
        if (access(programs[i], X_OK) != 0) {
            row(doctor, BAD, "reload", "install it, or write its real path into the policy", "[%s] %s: %s",
                reload->name, programs[i], strerror(errno));
            return;
        }
    }
    row(doctor, GOOD, "reload", NULL, "[%s] %s", reload->name, reload->command[0]);
}

static void check_targets(struct doctor *doctor)
{
    const struct policy *policy = doctor->policy;
    for (struct policy_target **t = policy->targets; t && *t; t++) {
        const char *files[] = {(*t)->certificate, (*t)->key, (*t)->chain};
        for (size_t i = 0; i < ARRAY_LEN(files); i++)
            if (files[i] && files[i][0] == '/' && (i == 0 || strcmp(files[i], files[0]) != 0))
                check_file(doctor, (*t)->name, files[i]);
        if (!(*t)->endpoint)
            row(doctor, WARN, "target", "set endpoint, so that it is looked at what is served",
                "[%s] has no endpoint: a change ends as INSTALLED_UNVERIFIED", (*t)->name);
    }
    for (struct policy_reload **r = policy->reloads; r && *r; r++)
        check_reload(doctor, *r);
}

/* ---- the command
 * ----------------------------------------------------------------------------------------------- */

static void (*const checks[])(struct doctor *) = {
    check_policy,   check_user,    check_state,   check_memory,  check_confinement,
    check_identity, check_gateway, check_running, check_targets,
};

int doctor_main(const char *config_path, const char *state_dir)
{
    struct doctor doctor = {
        .config = config_path, .state_dir = state_dir, .uid = (uid_t)-1, .gid = (gid_t)-1};
    secret_harden_process();
    (void)signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; i < ARRAY_LEN(checks); i++)
        checks[i](&doctor);
    (void)printf("%u ok, %u warnings, %u wrong\n", doctor.n[GOOD], doctor.n[WARN], doctor.n[BAD]);
    state_free(doctor.state);
    policy_free(doctor.policy);
    return doctor.n[BAD] == 0 ? 0 : 1;
}
