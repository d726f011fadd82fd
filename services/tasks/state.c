/* Pure tables; any thread. */
#include "state.h"

#include <assert.h>

#include "base/cleanup.h"
#include "base/id.h"

#define TO(s) (1u << STATE_##s)

/* A lost lease returns to READY, a retry goes by SCHEDULED. A receipt ends a task wherever a lost lease has
 * left it, as long as its attempt is the current one; what would expire has not been begun as far as we know.
 */
#define ENDS (TO(SUCCEEDED) | TO(INSTALLED_UNVERIFIED) | TO(FAILED) | TO(CANCELLED))

static const struct {
    const char *name;
    unsigned next;
} states[] = {
    [STATE_SCHEDULED] = {"SCHEDULED", TO(READY) | TO(SCHEDULED) | TO(EXPIRED) | ENDS},
    [STATE_READY] = {"READY", TO(LEASED) | TO(RUNNING) | TO(SCHEDULED) | TO(EXPIRED) | ENDS},
    [STATE_LEASED] = {"LEASED", TO(LEASED) | TO(RUNNING) | TO(READY) | TO(SCHEDULED) | ENDS},
    [STATE_RUNNING] = {"RUNNING", TO(LEASED) | TO(RUNNING) | TO(READY) | TO(SCHEDULED) | ENDS},
    [STATE_SUCCEEDED] = {"SUCCEEDED", 0},
    [STATE_INSTALLED_UNVERIFIED] = {"INSTALLED_UNVERIFIED", 0},
    [STATE_FAILED] = {"FAILED", 0},
    [STATE_CANCELLED] = {"CANCELLED", 0},
    [STATE_EXPIRED] = {"EXPIRED", 0},
};
_Static_assert(ARRAY_LEN(states) == STATE_COUNT + 1, "a row for each state");

const char *task_state_name(enum task_state state)
{
    assert(state >= STATE_SCHEDULED && state <= STATE_EXPIRED);
    return states[state].name;
}

bool task_state_is_terminal(enum task_state state)
{
    assert(state >= STATE_SCHEDULED && state <= STATE_EXPIRED);
    return states[state].next == 0;
}

bool task_state_may_follow(enum task_state from, enum task_state to)
{
    assert(from >= STATE_SCHEDULED && from <= STATE_EXPIRED);
    return states[from].next >> to & 1;
}

size_t task_state_sources(enum task_state to, int64_t ret[STATE_COUNT])
{
    size_t n = 0;
    for (enum task_state from = STATE_SCHEDULED; from <= STATE_EXPIRED; from++)
        if (task_state_may_follow(from, to))
            ret[n++] = from;
    return n;
}

static const struct {
    const char *name;
    int64_t base_ms, cap_ms;
} kinds[] = {
    [KIND_DEPLOY] = {"DEPLOY", 10 * 1000, 10 * 60 * 1000},
    [KIND_RENEW] = {"RENEW", 10 * 1000, 30 * 60 * 1000},
    [KIND_VALIDATE] = {"VALIDATE", 5 * 1000, 5 * 60 * 1000},
    [KIND_DISCOVER] = {"DISCOVER", 30 * 1000, 30 * 60 * 1000},
};
_Static_assert(ARRAY_LEN(kinds) == KIND_COUNT + 1, "a row for each kind");

const char *task_kind_name(enum task_kind kind)
{
    assert(kind >= KIND_DEPLOY && kind <= KIND_DISCOVER);
    return kinds[kind].name;
}

int64_t task_kind_backoff_ms(enum task_kind kind, unsigned next_attempt)
{
    assert(kind >= KIND_DEPLOY && kind <= KIND_DISCOVER && next_attempt >= 2);
    return backoff_full_jitter_ms(next_attempt - 2, kinds[kind].base_ms, kinds[kind].cap_ms);
}
