/* Farewell through the net process, as everything goes; then nothing is left to say it with. */
#include "agent/uninstall.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/exec/introduce.h"
#include "agent/exec/receipt.h"
#include "agent/exec/spawn.h"
#include "agent/exec/state.h"
#include "agent/ipc.h"
#include "agent/journal.h"
#include "agent/status.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/secret.h"

#define DEFAULT_CONFIG   "/etc/clm-agent/agent.conf"
#define DEFAULT_NET_USER "clm-agent"
#define WAIT_DEFAULT_SEC 30
#define WAIT_MAX_SEC     3600
#define WIPE_DEPTH       16

struct uninstall {
    const char *config, *state_dir;
    bool yes, force;
    long wait_sec;
    struct policy *policy; /* NULL: not valid */
};

/* ---- wiping ----------------------------------------------------------------------------------------------
 */

/* On some file systems and disks the old blocks survive: it is done because it may help, not relied on. */
static void overwrite(int dir, const char *name, off_t size)
{
    static const uint8_t zeros[4096];
    AUTO_CLOSE int fd = openat(dir, name, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct stat info;
    struct status st;
    if (fd < 0 || fstat(fd, &info) != 0 || !S_ISREG(info.st_mode) || info.st_nlink != 1)
        return;
    for (off_t left = size; left > 0; left -= (off_t)sizeof(zeros)) {
        size_t n = left < (off_t)sizeof(zeros) ? (size_t)left : sizeof(zeros);
        if (fd_write_all(fd, zeros, n, &st) != CODE_OK)
            return;
    }
    (void)fsync(fd);
}

static bool wipe_entries(int dir, dev_t device, unsigned depth);

/* By descriptor all the way down: net's directory belongs to net's user, who may swap what is in it. */
static bool wipe_entry(int dir, const char *name, dev_t device, unsigned depth)
{
    struct stat info;
    if (fstatat(dir, name, &info, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT;
    if (!S_ISDIR(info.st_mode)) {
        if (S_ISREG(info.st_mode))
            overwrite(dir, name, info.st_size);
        return unlinkat(dir, name, 0) == 0 || errno == ENOENT;
    }
    AUTO_CLOSE int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || depth == 0 || info.st_dev != device || !wipe_entries(fd, device, depth - 1))
        return false;
    return unlinkat(dir, name, AT_REMOVEDIR) == 0;
}

static bool wipe_entries(int dir, dev_t device, unsigned depth)
{
    bool good = true;
    int fd = dup(dir);
    DIR *list = fd >= 0 ? fdopendir(fd) : NULL;
    if (!list) {
        if (fd >= 0)
            (void)close(fd);
        return false;
    }
    for (const struct dirent *entry; (entry = readdir(list));) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            good = wipe_entry(dir, entry->d_name, device, depth) && good;
    }
    (void)closedir(list);
    return good;
}

enum code uninstall_wipe(const char *dir, struct status *st)
{
    struct stat info;
    AUTO_CLOSE int fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return CODE_OK;
    if (fd < 0 || fstat(fd, &info) != 0)
        return status_errno(st, CODE_FAILED_PRECONDITION, errno, "cannot open directory %s", dir);
    if (!wipe_entries(fd, info.st_dev, WIPE_DEPTH))
        return status_set(st, CODE_UNAVAILABLE, "not everything in %s could be removed: look what is left",
                          dir);
    (void)rmdir(dir); /* a mount stays */
    return CODE_OK;
}

/* ---- farewell --------------------------------------------------------------------------------------------
 */

static enum code send_frames(int fd, const struct agent_state *state, const struct policy *policy,
                             struct status *st)
{
    AUTO_DER struct der signed_request = {0};
    CLEANUP(introduction_done) struct introduction introduction;
    struct status problem;
    Clm__Agent__Farewell farewell = CLM__AGENT__FAREWELL__INIT;
    Clm__Agent__Snapshot snapshot = CLM__AGENT__SNAPSHOT__INIT;
    Clm__Agent__Frame frames[3] = {CLM__AGENT__FRAME__INIT, CLM__AGENT__FRAME__INIT, CLM__AGENT__FRAME__INIT};
    introduce(state, policy, &introduction, &problem);
    if (problem.code != CODE_OK)
        (void)fprintf(stderr, "%s\n", problem.msg);
    TRY(request_sign(state, CLM__SIGNED_REQUEST__PURPOSE__FAREWELL, NULL, 0, (struct bytes){NULL, 0},
                     &signed_request, st));
    frames[0].identity = &introduction.identity;
    farewell.has_request = 1;
    farewell.request = (ProtobufCBinaryData){signed_request.len, signed_request.data};
    frames[1].farewell = &farewell;
    snapshot.has_free_slots = 1; /* no slot: nothing is leased to us anymore */
    frames[2].snapshot = &snapshot;
    for (size_t i = 0; i < ARRAY_LEN(frames); i++)
        TRY(ipc_write(fd, &frames[i].base, IPC_NET_FRAME_MAX, st));
    return CODE_OK;
}

/* What goes wrong on the way is told once; the last of it is the reason if there is no answer. */
static enum code await_answer(int fd, long wait_sec, struct status *st)
{
    AUTO_BUF struct buf in;
    AUTO_ARENA struct arena *arena = arena_new();
    struct status why = {0};
    buf_init(&in, 2 * IPC_NET_FRAME_MAX);
    for (int64_t until = clock_mono_ms() + wait_sec * 1000;;) {
        ProtobufCMessage *msg;
        int64_t left = until - clock_mono_ms();
        arena_reset(arena);
        enum code code = ipc_read(fd, &in, &clm__agent__frame__descriptor, IPC_NET_FRAME_MAX,
                                  left > 0 ? left : 0, arena, &msg, st);
        if (code == CODE_DEADLINE_EXCEEDED)
            return status_set(st, code, "the platform did not answer in %ld s%s%s", wait_sec,
                              why.msg[0] ? ": " : "", why.msg);
        TRY(code);
        const Clm__Agent__Frame *frame = (const Clm__Agent__Frame *)msg;
        if (frame->link && !frame->link->connected && frame->link->message)
            (void)status_set(&why, CODE_UNAVAILABLE, "%s", frame->link->message);
        const Clm__Agent__FarewellAnswer *answer = frame->farewell_answer;
        if (answer && answer->code == CODE_OK)
            return CODE_OK;
        if (answer)
            return status_set(st, code_info((enum code)answer->code)->code, "the platform refuses: %s",
                              answer->message ? answer->message : "no reason given");
    }
}

static enum code say_farewell(const struct agent_state *state, const struct policy *policy, long wait_sec,
                              struct status *st)
{
    const char *user = policy && policy->net_user ? policy->net_user : DEFAULT_NET_USER;
    const char *const argv[] = {"net", "--dir", state->net_dir, "--user", user, NULL};
    struct spawned net;
    TRY(spawn_self(argv, &net, st));
    AUTO_CLOSE int fd = net.fd;
    enum code code = send_frames(fd, state, policy, st);
    if (code == CODE_OK)
        code = await_answer(fd, wait_sec, st);
    spawn_reap(&net, true);
    return code;
}

/* ---- the command -----------------------------------------------------------------------------------------
 */

static enum code count_interrupted(const char *task_id, uint32_t attempt, void *arg, struct status *st)
{
    const struct agent_state *state = ((void **)arg)[0];
    size_t *n = ((void **)arg)[1];
    struct journal *journal;
    TRY(journal_open(state->journal_dir, task_id, attempt, &journal, st));
    size_t records = journal_count(journal);
    Clm__Agent__JournalRecord__Type last =
        records ? journal_get(journal, records - 1)->type : CLM__AGENT__JOURNAL_RECORD__TYPE__ACKNOWLEDGED;
    *n += last != CLM__AGENT__JOURNAL_RECORD__TYPE__ACKNOWLEDGED &&
          last != CLM__AGENT__JOURNAL_RECORD__TYPE__FINISHED;
    journal_close(journal);
    return CODE_OK;
}

/* What a task has half done, only its journal can finish or undo. */
static enum code nothing_interrupted(struct agent_state *state, struct status *st)
{
    size_t n = 0;
    void *arg[] = {state, &n};
    TRY(journal_scan(state->journal_dir, count_interrupted, arg, st));
    if (n == 0)
        return CODE_OK;
    return status_set(st, CODE_FAILED_PRECONDITION,
                      "%zu tasks were interrupted: start the agent once, so that it finishes or undoes them",
                      n);
}

static bool confirmed_by_administrator(const struct uninstall *job, const char *dir)
{
    char line[16] = "";
    if (job->yes)
        return true;
    (void)printf(
        "This says farewell to the platform and removes %s with the identity and all backups in it.\n"
        "Certificates and keys of this host's servers stay as they are.\nType yes to go on: ",
        dir);
    (void)fflush(stdout);
    return fgets(line, sizeof(line), stdin) && strcmp(line, "yes\n") == 0;
}

static enum code farewell_of(const struct uninstall *job, const char *dir, bool *ret_told, struct status *st)
{
    struct agent_state *state = NULL;
    uid_t uid;
    gid_t gid;
    const char *user = job->policy && job->policy->net_user ? job->policy->net_user : DEFAULT_NET_USER;
    enum code code = spawn_find_user(user, &uid, &gid, st);
    if (code == CODE_OK)
        code = state_open(dir, uid, gid, &state, st);
    if (code == CODE_OK)
        code = state_load(state, st);
    if (code == CODE_NOT_FOUND && state) { /* never enrolled: nobody to tell */
        state_free(state);
        return CODE_OK;
    }
    if (code == CODE_OK)
        code = nothing_interrupted(state, st);
    if (code == CODE_OK)
        code = say_farewell(state, job->policy, job->wait_sec, st);
    *ret_told = code == CODE_OK;
    state_free(state);
    return code;
}

static enum code uninstall(const struct uninstall *job, const char *dir, struct status *st)
{
    struct agent_state *peek = NULL;
    bool told = false;
    struct status why = {0};
    if (state_peek(dir, &peek, st) == CODE_OK && agent_is_running(peek)) {
        state_free(peek);
        return status_set(st, CODE_FAILED_PRECONDITION,
                          "the agent is running: stop it first (systemctl disable --now clm-agent)");
    }
    state_free(peek);
    if (!confirmed_by_administrator(job, dir))
        return status_set(st, CODE_CANCELLED, "not confirmed: nothing was done");
    if (farewell_of(job, dir, &told, &why) != CODE_OK) {
        if (!job->force)
            return status_set(st, why.code, "%s; nothing was removed (--force removes it all the same)",
                              why.msg);
        (void)fprintf(stderr, "%s; the platform keeps this agent: disable or delete it there\n", why.msg);
    }
    TRY(uninstall_wipe(dir, st));
    (void)printf("%s%s is removed. %s stays: it is yours.\n", told ? "The platform was told. " : "", dir,
                 job->config);
    return CODE_OK;
}

static int usage(FILE *out, int status)
{
    (void)fputs(
        "usage: clm-agent uninstall [--config FILE] [--state-dir DIR] [--yes] [--wait SECONDS] [--force]\n",
        out);
    return status;
}

int uninstall_main(int argc, char **argv)
{
    static const struct option longopts[] = {
        {"config", required_argument, NULL, 'c'},
        {"state-dir", required_argument, NULL, 's'},
        {"yes", no_argument, NULL, 'y'},
        {"force", no_argument, NULL, 'f'},
        {"wait", required_argument, NULL, 'w'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    struct uninstall job = {.config = DEFAULT_CONFIG, .wait_sec = WAIT_DEFAULT_SEC};
    struct status st = {0};
    optind = 0;
    for (int opt; (opt = getopt_long(argc, argv, "", longopts, NULL)) != -1;) {
        if (opt == 'h')
            return usage(stdout, 0);
        if (opt == 'c')
            job.config = optarg;
        else if (opt == 's')
            job.state_dir = optarg;
        else if (opt == 'y')
            job.yes = true;
        else if (opt == 'f')
            job.force = true;
        else if (opt == 'w' && (job.wait_sec = strtol(optarg, NULL, 10)) > 0 && job.wait_sec <= WAIT_MAX_SEC)
            continue;
        else
            return usage(stderr, 2);
    }
    if (optind != argc)
        return usage(stderr, 2);
    secret_harden_process();
    if (policy_load_or_none(job.config, &job.policy, &st) != CODE_OK)
        (void)fprintf(stderr, "the local policy is not valid (%s); only its [agent] is used\n", st.msg);
    const char *dir = job.state_dir           ? job.state_dir
                      : job.policy->state_dir ? job.policy->state_dir
                                              : AGENT_STATE_DIR;
    enum code code = uninstall(&job, dir, &st);
    if (code != CODE_OK)
        (void)fprintf(stderr, "clm-agent uninstall: %s\n", st.msg);
    policy_free(job.policy);
    return code == CODE_OK ? 0 : 1;
}
