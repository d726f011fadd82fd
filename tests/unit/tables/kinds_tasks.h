/* What services/tasks says of a kind; apart, because its enum task_kind and the agent's struct have one tag.
 */
#ifndef CLM_TESTS_KINDS_TASKS_H
#define CLM_TESTS_KINDS_TASKS_H

unsigned tasks_kind_count(void);
const char *tasks_kind_name(int kind);
/* The longest of many waits before execution number next_attempt. */
long long tasks_kind_longest_backoff_ms(int kind, unsigned next_attempt);

#endif
