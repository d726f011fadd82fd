#include "kinds_tasks.h"

#include "state.h"

unsigned tasks_kind_count(void)
{
    return KIND_COUNT;
}

const char *tasks_kind_name(int kind)
{
    return task_kind_name((enum task_kind)kind);
}

long long tasks_kind_longest_backoff_ms(int kind, unsigned next_attempt)
{
    long long longest = 0;
    for (int i = 0; i < 100; i++) {
        long long wait_ms = task_kind_backoff_ms((enum task_kind)kind, next_attempt);
        longest = wait_ms > longest ? wait_ms : longest;
    }
    return longest;
}
