/* Facts about the host, from uname(2) and os-release(5). Every value is cut to what the protocol allows. */
#include "agent/facts.h"

#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "agent/kinds/kind.h"
#include "base/file.h"
#include "version.h"
#include "wire/wire.h"

const struct agent_build agent_build = {CLM_VERSION, CLM_BUILD_DATE, CLM_GIT_COMMIT};

/* Cut to max bytes, control characters and what is no ASCII replaced: a fact is never a reason to be refused.
 */
static char *fact_text(struct arena *arena, const char *text, size_t max)
{
    size_t len = strlen(text);
    char *copy = arena_strndup(arena, text, len < max ? len : max);
    for (char *p = copy; *p; p++) {
        if (*p < 0x20 || *p > 0x7e)
            *p = '?';
    }
    return copy;
}

/* PRETTY_NAME="Debian GNU/Linux 12 (bookworm)" */
static char *os_pretty_name(struct arena *arena)
{
    AUTO_BUF struct buf content = {0};
    struct status st;
    if (file_read("/etc/os-release", 16 * 1024, &content, &st) != CODE_OK &&
        file_read("/usr/lib/os-release", 16 * 1024, &content, &st) != CODE_OK)
        return arena_strdup(arena, "unknown");
    static const char key[] = "PRETTY_NAME=";
    for (const char *line = buf_text(&content); line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, key, sizeof(key) - 1) != 0)
            continue;
        const char *value = line + sizeof(key) - 1;
        value += *value == '"' || *value == '\'';
        return fact_text(arena, arena_strndup(arena, value, strcspn(value, "\"'\n")), 200);
    }
    return arena_strdup(arena, "unknown");
}

static void facts_operations(const struct policy *policy, struct arena *arena, Clm__HostFacts *ret)
{
    size_t n = 0;
    while (task_kinds[n].name)
        n++;
    ret->operations = arena_array(arena, n + 1, sizeof(*ret->operations));
    for (size_t i = 0; i < n; i++) {
        struct status st;
        if (!policy || policy_allows_operation(policy, (int)task_kinds[i].kind, &st) == CODE_OK)
            ret->operations[ret->n_operations++] = task_kinds[i].kind;
    }
}

void facts_collect(const struct policy *policy, struct arena *arena, Clm__HostFacts *ret)
{
    clm__host_facts__init(ret);
    char hostname[256] = "";
    struct utsname uts;
    memset(&uts, 0, sizeof(uts));
    if (gethostname(hostname, sizeof(hostname) - 1) != 0 || !hostname[0])
        strncpy(hostname, "localhost", sizeof(hostname) - 1);
    (void)uname(&uts);
    ret->hostname = fact_text(arena, hostname, 253);
    ret->os = os_pretty_name(arena);
    ret->kernel = fact_text(arena, uts.release, 200);
    ret->arch = fact_text(arena, uts.machine, 60);
    ret->agent_version = fact_text(arena, agent_build.version, 64);
    ret->build_date = fact_text(arena, agent_build.date, 64);
    ret->git_commit = fact_text(arena, agent_build.commit, 64);
    facts_operations(policy, arena, ret);
}

void facts_boot_id(char out[64])
{
    AUTO_BUF struct buf content = {0};
    struct status st;
    out[0] = '\0';
    if (file_read("/proc/sys/kernel/random/boot_id", 63, &content, &st) != CODE_OK)
        return;
    size_t len = strcspn(buf_text(&content), "\n");
    memcpy(out, buf_text(&content), len);
    out[len] = '\0';
}
