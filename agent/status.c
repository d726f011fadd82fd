/* The status command. Reads what exec wrote; takes no lock, so it works beside a running agent. */
#include "agent/status.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>

#include "agent/exec/introduce.h"
#include "agent/exec/safemarks.h"
#include "agent/exec/state.h"
#include "agent/facts.h"
#include "agent/journal.h"
#include "base/clock.h"

struct tally {
    const char *dir;
    unsigned running, unsent, over;
};

static enum code count_one(const char *task_id, uint32_t attempt, void *arg, struct status *st)
{
    struct tally *tally = arg;
    struct journal *journal;
    TRY(journal_open(tally->dir, task_id, attempt, &journal, st));
    size_t n = journal_count(journal);
    Clm__Agent__JournalRecord__Type last =
        n ? journal_get(journal, n - 1)->type : CLM__AGENT__JOURNAL_RECORD__TYPE__ACKNOWLEDGED;
    if (last == CLM__AGENT__JOURNAL_RECORD__TYPE__ACKNOWLEDGED)
        tally->over++;
    else if (last == CLM__AGENT__JOURNAL_RECORD__TYPE__FINISHED)
        tally->unsent++;
    else
        tally->running++;
    journal_close(journal);
    return CODE_OK;
}

static void print_certificate(const char *what, const struct der_list *chain)
{
    AUTO_CERT_INFO struct cert_info info = {0};
    struct status st;
    char until[CLOCK_RFC3339_SIZE];
    if (chain->n == 0 || cert_read(der_bytes(&chain->item[0]), &info, &st) != CODE_OK) {
        (void)printf("%-12s unreadable\n", what);
        return;
    }
    clock_format_rfc3339(info.not_after_ms, until);
    (void)printf("%-12s until %s%s, SHA-256 %s\n", what, until,
                 info.not_after_ms < clock_wall_ms() ? " (EXPIRED)" : "", info.fingerprint);
}

bool agent_is_running(const struct agent_state *state)
{
    AUTO_FREE char *path = NULL;
    if (asprintf(&path, "%s/lock", state->dir) < 0)
        abort();
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    return fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) != 0;
}

static void print_link(const struct agent_state *state, const char *gateway)
{
    AUTO_BUF struct buf said = {0};
    int64_t since_ms;
    struct status st;
    char since[CLOCK_RFC3339_SIZE];
    if (!agent_is_running(state) || state_read_link(state, &said, &since_ms, &st) != CODE_OK) {
        (void)printf("%-12s %s\n", "gateway", gateway);
        return;
    }
    clock_format_rfc3339(since_ms, since);
    (void)printf("%-12s %s, since %s %s\n", "gateway", gateway, since, buf_text(&said));
}

static void print_tasks(const struct agent_state *state)
{
    struct tally tally = {.dir = state->journal_dir};
    struct status st;
    /* A task that runs is being written to: reading would cut its last record. */
    if (agent_is_running(state))
        return;
    if (journal_scan(state->journal_dir, count_one, &tally, &st) != CODE_OK)
        (void)printf("%-12s %s\n", "tasks", st.msg);
    else
        (void)printf("%-12s %u to resume, %u receipts to deliver, %u done\n", "tasks", tally.running,
                     tally.unsent, tally.over);
}

static void print_safe_mode(const char *dir)
{
    bool any = false;
    for (int i = 0; i < SAFE_AGENT_REASON_COUNT; i++) {
        const struct safe_reason_info *info = safe_reason_info((enum safe_reason)i);
        AUTO_BUF struct buf line = {0};
        struct status st;
        if (safe_mark_read(dir, (enum safe_reason)i, &line, &st) != CODE_OK)
            continue;
        (void)printf("%-12s %s: %s\n%-12s it ends %s\n", any ? "" : "safe mode", info->name, buf_text(&line),
                     "", info->ends);
        any = true;
    }
    if (!any)
        (void)printf("%-12s no\n", "safe mode");
}

int agent_status_main(const char *config_path, const char *state_dir)
{
    struct policy *policy = NULL;
    struct agent_state *state = NULL;
    struct status st;
    enum code policy_code = policy_load_or_none(config_path, &policy, &st);
    (void)printf("%-12s %s, built %s, commit %s\n", "version", agent_build.version, agent_build.date,
                 agent_build.commit);
    (void)printf("%-12s %s: %s\n", "policy", config_path, policy_code == CODE_OK ? "valid" : st.msg);
    if (!state_dir)
        state_dir = policy->state_dir ? policy->state_dir : AGENT_STATE_DIR;
    if (state_peek(state_dir, &state, &st) != CODE_OK) {
        (void)printf("%-12s %s\n", "enrolled", st.code == CODE_NOT_FOUND ? "no" : st.msg);
        policy_free(policy);
        return 1;
    }
    (void)printf("%-12s %s\n", "agent", state->agent_id);
    (void)printf("%-12s %s\n", "running", agent_is_running(state) ? "yes" : "no");
    print_link(state, gateway_of(state, policy));
    if (policy->proxy)
        (void)printf("%-12s %s%s%s\n", "proxy", policy->proxy, policy->proxy_user ? " as " : "",
                     policy->proxy_user ? policy->proxy_user : "");
    if (policy_code == CODE_OK)
        (void)printf("%-12s %s\n", "metrics", policy->metrics ? "told" : "not told");
    (void)printf("%-12s %s\n", "domain", state->trust_domain);
    (void)printf("%-12s %u%s\n", "generation", state->generation,
                 state->confirmed ? "" : " (not yet confirmed)");
    print_certificate("identity", &state->identity_chain);
    print_certificate("task key", &state->task_chain);
    print_safe_mode(state->dir);
    print_tasks(state);
    state_free(state);
    policy_free(policy);
    return 0;
}
