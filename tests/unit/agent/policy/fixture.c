/* See fixture.h. */
#include "fixture.h"

struct policy *policy;
struct status st;

enum code policy_read(struct host *host, const char *text)
{
    write_text(host_path(host, "agent.conf"), text, 0644);
    policy_free(policy);
    policy = NULL;
    memset(&st, 0, sizeof(st));
    return policy_load(host_path(host, "agent.conf"), &policy, &st);
}

void assert_says(const char *text)
{
    if (!strstr(st.msg, text))
        fail_msg("\"%s\" is not in \"%s\"", text, st.msg);
}

int policy_teardown(void **state)
{
    policy_free(policy);
    policy = NULL;
    return host_teardown(state);
}
