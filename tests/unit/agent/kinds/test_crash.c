/*
 * A task is cut off at every instant. A run of it is traced: before and after every system call that leaves a
 * trace (of files, descriptors and processes) pictures are taken of the host as it is, which is what kill -9
 * leaves, and as a disk has it that loses everything that was not fsynced, which is what a loss of power
 * leaves. Then each picture that differs from the one before it is put back; somebody starts a server on it;
 * and the next run of the task ends it. For every store. How many instants were tried is printed.
 */
#include "target.h"

#include <errno.h>
#include <ftw.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/id.h"
#include "picture.h"
#include "support/syscalls.h"

static struct status st;

/* --- the traced run ------------------------------------------------------------------------------------ */

struct run {
    struct host *host;
    pid_t pid;
    struct __ptrace_syscall_info call; /* that is being made */
    enum syscall_trace trace;
    unsigned instants;
};

static void note_disk(struct run *run, int64_t rval)
{
    char path[SYSCALL_PATH_SIZE];
    if (rval < 0)
        return;
    syscall_path(run->pid, &run->call, rval, path);
    if (run->trace == SYSCALL_SYNCS)
        disk_synced(run->host, path);
    else if (run->trace == SYSCALL_MAKES)
        disk_made(run->host, path);
}

static void take_pictures(struct run *run)
{
    run->instants++;
    for (enum picture picture = 0; picture < PICTURES; picture++)
        picture_take(run->host, picture);
}

static void on_call(struct run *run)
{
    struct __ptrace_syscall_info info;
    assert_true(ptrace(PTRACE_GET_SYSCALL_INFO, run->pid, (void *)sizeof(info), &info) > 0);
    if (info.op == PTRACE_SYSCALL_INFO_ENTRY) {
        run->call = info;
        run->trace = syscall_trace_of(run->pid, &info);
        if (run->trace != SYSCALL_OTHER)
            take_pictures(run);
    } else if (info.op == PTRACE_SYSCALL_INFO_EXIT && run->trace != SYSCALL_OTHER) {
        note_disk(run, info.exit.rval);
        take_pictures(run);
        run->trace = SYSCALL_OTHER;
    }
}

/* To its end; how many instants went by. */
static unsigned trace_run(struct host *host, const Clm__TaskSpec *spec)
{
    int status, forward = 0;
    struct run run = {.host = host, .pid = fork()};
    if (run.pid == 0) {
        (void)ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        (void)raise(SIGSTOP);
        (void)run_kind(host, spec);
        _exit(0);
    }
    assert_int_equal(waitpid(run.pid, &status, 0), run.pid);
    assert_true(WIFSTOPPED(status));
    assert_int_equal(
        ptrace(PTRACE_SETOPTIONS, run.pid, NULL, (void *)(PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL)), 0);
    for (;;) {
        assert_int_equal(ptrace(PTRACE_SYSCALL, run.pid, NULL, (void *)(intptr_t)forward), 0);
        assert_int_equal(waitpid(run.pid, &status, 0), run.pid);
        if (!WIFSTOPPED(status))
            break;
        bool call = WSTOPSIG(status) == (SIGTRAP | 0x80);
        forward = call ? 0 : WSTOPSIG(status);
        if (call)
            on_call(&run);
    }
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    return run.instants;
}

/* --- the next run -------------------------------------------------------------------------------------- */

enum ending { INSTALLED, ROLLED_BACK, GIVEN_UP };

struct sweep {
    struct host *host;
    const struct store_kind *kind;
    enum ending ending;
    bool deploys;
    struct issued fresh;   /* to be deployed */
    char old[65], new[65]; /* by the traced run */
    unsigned torn;
    char where[96];
};

static bool begun(struct host *host)
{
    struct journal *journal = NULL;
    if (!journal_exists(host_path(host, "state/journal"), host->task_id, 1))
        return false;
    assert_int_equal(journal_open(host_path(host, "state/journal"), host->task_id, 1, &journal, &st),
                     CODE_OK);
    bool found = journal_find_step(journal, "swap") != NULL;
    journal_close(journal);
    return found;
}

static const struct sweep *judged;

/* Keys are in the target's own file and in backups, and nothing on its way is left. */
static int judge_file(const char *path, const struct stat *info, int type, struct FTW *ftw)
{
    const char *name = path + ftw->base, *dot = strrchr(name, '.');
    (void)type;
    const char *where = path + strlen(judged->host->dir) + 1;
    bool backup = strncmp(where, "state/backup/", 13) == 0, web = strncmp(where, "web", 3) == 0;
    bool part = dot && (strcmp(dot, ".part") == 0 || strcmp(dot, ".tmp") == 0);
    if (strncmp(name, ".clm-", 5) == 0 || strncmp(name, "keytool-", 8) == 0 || strstr(name, "-made.key") ||
        (part && (backup || web)))
        fail_msg("%s: %s is left behind", judged->where, where);
    if (!S_ISREG(info->st_mode) || (judged->kind->key && strcmp(where, judged->kind->key) == 0))
        return 0;
    AUTO_BUF struct buf content = {0};
    assert_int_equal(file_read(path, 1024 * 1024, &content, &st), CODE_OK);
    if (backup ? (info->st_mode & 077) : content.len && memmem(content.data, content.len, "PRIVATE KEY", 11))
        fail_msg("%s: a key is in %s, mode %o", judged->where, where, info->st_mode);
    return 0;
}

static void assert_nothing_is_left(const struct sweep *sweep)
{
    judged = sweep;
    (void)nftw(host_path(sweep->host, "web"), judge_file, 16, FTW_PHYS);
    (void)nftw(host_path(sweep->host, "state"), judge_file, 16, FTW_PHYS);
}

static const Clm__TaskSpec *task_of(const struct sweep *sweep)
{
    return sweep->deploys ? deploying("t", &sweep->fresh) : renewing("t");
}

static void assert_ended_well(struct sweep *sweep, struct outcome *out, bool resumes)
{
    char after[65];
    bool forth = sweep->ending == INSTALLED || (sweep->ending == GIVEN_UP && resumes);
    if (sweep->ending == GIVEN_UP && !resumes)
        assert_int_equal(out->code, CODE_UNAVAILABLE);
    else if (out->code != CODE_OK || out->outcome != (forth ? CLM__RECEIPT__OUTCOME__INSTALLED_UNVERIFIED
                                                            : CLM__RECEIPT__OUTCOME__FAILED))
        fail_msg("%s: %s", sweep->where, out->code == CODE_OK ? out->message : out->st.msg);
    if (!sweep->kind->find(sweep->host, after))
        fail_msg("%s: key and certificate do not fit", sweep->where);
    /* What was begun is finished and not done anew. */
    const char *wanted = !forth                      ? sweep->old
                         : resumes || sweep->deploys ? sweep->new
                                                     : out->result.fingerprint_after_sha256;
    if (strcmp(after, wanted) != 0)
        fail_msg("%s: neither the old nor the new certificate", sweep->where);
    assert_int_equal(sign_calls, resumes || sweep->deploys ? 0 : 1);
    assert_nothing_is_left(sweep);
}

/* What a server finds that starts now: the old pair or the new one, and the new one only if the journal
 * knows. */
static void look_as_a_server(struct sweep *sweep, bool resumes)
{
    char now[65];
    if (!sweep->kind->find(sweep->host, now)) {
        sweep->torn++;
        return;
    }
    bool known = sweep->ending == ROLLED_BACK || strcmp(now, sweep->new) == 0; /* that run took it back */
    if (strcmp(now, sweep->old) != 0 && !(resumes && known))
        fail_msg("%s: a third certificate in between", sweep->where);
}

#define SLOW_STEP 12 /* pictures of which one is tried where keytool would run again */

static bool worth_trying(const struct sweep *sweep, size_t i, bool resumes)
{
    switch (sweep->ending) {
    case ROLLED_BACK: /* before the swap there is nothing to be undone */
        return resumes;
    case GIVEN_UP: /* after it a task does not give up */
        return !resumes && !(sweep->kind->slow && i % SLOW_STEP);
    case INSTALLED:
        break;
    }
    return resumes || !sweep->kind->slow || i % SLOW_STEP == 0;
}

static bool try_picture(struct sweep *sweep, size_t i)
{
    (void)snprintf(sweep->where, sizeof(sweep->where), "%s, %s, picture %zu", sweep->kind->name,
                   picture_name(picture_kind(i)), i);
    picture_restore(sweep->host, i);
    bool resumes = begun(sweep->host);
    look_as_a_server(sweep, resumes);
    if (!worth_trying(sweep, i, resumes))
        return false;
    sign_calls = 0;
    sign_answer = sweep->ending == GIVEN_UP ? CODE_UNAVAILABLE : CODE_OK;
    struct outcome out = run_kind(sweep->host, task_of(sweep));
    sign_answer = CODE_OK;
    assert_ended_well(sweep, &out, resumes);
    outcome_done(&out);
    return true;
}

static void sweep_store(struct host *host, const struct store_kind *kind, enum ending ending, bool deploys)
{
    size_t tried = 0;
    struct sweep sweep = {.host = host, .kind = kind, .ending = ending, .deploys = deploys};
    struct issued old =
        target_prepare(host, kind, ending == ROLLED_BACK ? "reload=refuses\n" : "reload=works\n");
    sweep.fresh = issue_newer(host, &old, NULL);
    (void)snprintf(sweep.old, sizeof(sweep.old), "%s", old.fingerprint);
    (void)shell(host, "rm -rf state/journal/* state/backup/*");
    pictures_forget(host);
    disk_begin(host);
    unsigned instants = trace_run(host, task_of(&sweep));
    assert_true(kind->find(host, sweep.new));
    for (size_t i = 0; i < pictures_count(); i++)
        tried += try_picture(&sweep, i);
    /* What docs/local-policy.md says of two files, and of nothing else. */
    if (sweep.torn > kind->torn * (ending == ROLLED_BACK ? 2 : 1))
        fail_msg("%s: in %u pictures a server finds halves", kind->name, sweep.torn);
    print_message("  %-10s %3u crash points, %3zu different states of the disk, %3zu of them ended\n",
                  kind->name, instants, pictures_count(), tried);
    assert_true(instants > 100 && tried > 2);
    issued_done(&old);
    issued_done(&sweep.fresh);
}

/* Going back and giving up are the same for stores that differ in what their one file holds. */
static bool same_as_another(const struct store_kind *kind, enum ending ending)
{
    return ending != INSTALLED && (kind->slow || strcmp(kind->name, "haproxy") == 0);
}

static void sweep_all(struct host *host, enum ending ending, bool deploys)
{
    const char *only = getenv("CLM_STORE");
    FOR_EACH_STORE(kind)
    {
        if (only ? strcmp(only, kind->name) == 0 : !same_as_another(kind, ending))
            sweep_store(host, kind, ending, deploys);
    }
}

static void renewal_cut_off_anywhere_ends_with_the_new_one(void **state)
{
    sweep_all(*state, INSTALLED, false);
}

static void deployment_cut_off_anywhere_ends_with_the_new_one(void **state)
{
    sweep_all(*state, INSTALLED, true);
}

static void rollback_cut_off_anywhere_ends_with_the_old_one(void **state)
{
    sweep_all(*state, ROLLED_BACK, false);
}

/* The platform says no when it is asked again. */
static void renewal_cut_off_and_given_up_leaves_nothing(void **state)
{
    sweep_all(*state, GIVEN_UP, false);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, host_setup, target_teardown)
    const struct CMUnitTest tests[] = {
        TEST(renewal_cut_off_anywhere_ends_with_the_new_one),
        TEST(deployment_cut_off_anywhere_ends_with_the_new_one),
        TEST(rollback_cut_off_anywhere_ends_with_the_old_one),
        TEST(renewal_cut_off_and_given_up_leaves_nothing),
    };
    if (getenv("CLM_TEST_FILTER"))
        cmocka_set_test_filter(getenv("CLM_TEST_FILTER"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
