/* The matrix and the reasons, as tables. */
#include "safemode/safemode.h"

#include <string.h>

static const char *const column_names[] = {
    [SAFE_ONLINE] = "ONLINE",     [SAFE_SAFE_MODE] = "SAFE_MODE", [SAFE_CLONE] = "SAFE_MODE by CLONE",
    [SAFE_DISABLED] = "DISABLED", [SAFE_EXPIRED] = "EXPIRED",
};
_Static_assert(ARRAY_LEN(column_names) == SAFE_COLUMN_COUNT, "a name for each column");

/* The design's table, cell by cell. What is not written down is SAFE_NO. */
static const enum safe_verdict matrix[SAFE_ACTION_COUNT][SAFE_COLUMN_COUNT] = {
    [SAFE_CHECKIN] =
        {[SAFE_ONLINE] = SAFE_YES, [SAFE_SAFE_MODE] = SAFE_YES, [SAFE_CLONE] = SAFE_WITHOUT_WORK},
    [SAFE_RENEW_IDENTITY] = {[SAFE_ONLINE] = SAFE_YES, [SAFE_SAFE_MODE] = SAFE_YES},
    [SAFE_READ_ONLY] = {[SAFE_ONLINE] = SAFE_YES, [SAFE_SAFE_MODE] = SAFE_YES},
    [SAFE_CHANGE] = {[SAFE_ONLINE] = SAFE_YES, [SAFE_SAFE_MODE] = SAFE_BREAK_GLASS},
    [SAFE_EXPORT] = {[SAFE_ONLINE] = SAFE_BY_POLICY},
    [SAFE_RELOAD] = {[SAFE_ONLINE] = SAFE_BY_POLICY},
};

/* Numbers as in proto/common.proto, Task.Kind; tests/unit/tables holds the two together. */
static const enum safe_action action_of_kind[] = {
    [1] = SAFE_CHANGE,    /* DEPLOY */
    [2] = SAFE_CHANGE,    /* RENEW */
    [3] = SAFE_READ_ONLY, /* VALIDATE */
    [4] = SAFE_READ_ONLY, /* DISCOVER */
};

static const struct safe_reason_info reasons[] = {
    [SAFE_CA_TRUST] =
        {"CA_TRUST", SAFE_SAFE_MODE, SAFE_EXIT_MENDED,
         "the agent holds no root certificate that is valid and that the platform proves itself by",
         "with the next check-in under a root that it holds"},
    [SAFE_INVALID_POLICY] = {"INVALID_POLICY", SAFE_SAFE_MODE, SAFE_EXIT_MENDED,
                             "the host's local policy cannot be used",
                             "when the agent has read a valid local policy"},
    [SAFE_ROLLBACK_FAILED] = {"ROLLBACK_FAILED", SAFE_SAFE_MODE, SAFE_EXIT_HOST,
                              "a change could be neither finished nor undone",
                              "by `clm-agent leave-safe-mode` on the host, once somebody has put it right"},
    [SAFE_LOCAL] = {"LOCAL", SAFE_SAFE_MODE, SAFE_EXIT_HOST, "the host's administrator asked for it",
                    "by `clm-agent leave-safe-mode` on the host"},
    [SAFE_STATE_FULL] = {"STATE_FULL", SAFE_SAFE_MODE, SAFE_EXIT_HEALS,
                         "the agent's state directory cannot be written",
                         "by itself, after 10 minutes in which it can be written"},
    [SAFE_CRASH_LOOP] = {"CRASH_LOOP", SAFE_SAFE_MODE, SAFE_EXIT_HEALS, "the agent crashed again and again",
                         "by itself, after 10 minutes without a crash"},
    [SAFE_CLOCK] = {"CLOCK", SAFE_SAFE_MODE, SAFE_EXIT_HEALS,
                    "the host's clock is more than 5 minutes away from the platform's",
                    "by itself, after 10 minutes with the right time"},
    [SAFE_CLONED] = {"CLONE", SAFE_CLONE, SAFE_EXIT_TOKEN, "the identity is in use in two places",
                     "with a fresh bootstrap token alone"},
    [SAFE_SECOND_KEY] = {"SECOND_KEY", SAFE_CLONE, SAFE_EXIT_OPERATOR,
                         "a second host used the bootstrap token with other keys",
                         "when an admin unfreezes the identity, or with a fresh bootstrap token"},
    [SAFE_PLATFORM] = {"PLATFORM", SAFE_SAFE_MODE, SAFE_EXIT_OPERATOR,
                       "an admin put the whole platform into safe mode",
                       "when an admin ends the platform's safe mode"},
    [SAFE_OPERATOR] = {"OPERATOR", SAFE_SAFE_MODE, SAFE_EXIT_OPERATOR, "an operator asked for it",
                       "when an operator ends the agent's safe mode"},
};
_Static_assert(ARRAY_LEN(reasons) == SAFE_REASON_COUNT, "a row for each reason");

const char *safe_column_name(enum safe_column column)
{
    return column_names[column];
}

enum safe_column safe_strictest(enum safe_column a, enum safe_column b)
{
    return a > b ? a : b;
}

enum safe_column safe_column_of(bool disabled, bool expired, bool frozen, bool safe_mode)
{
    return expired     ? SAFE_EXPIRED
           : disabled  ? SAFE_DISABLED
           : frozen    ? SAFE_CLONE
           : safe_mode ? SAFE_SAFE_MODE
                       : SAFE_ONLINE;
}

enum safe_verdict safe_verdict(enum safe_column column, enum safe_action action)
{
    return matrix[action][column];
}

bool safe_allows(enum safe_column column, enum safe_action action, bool break_glass)
{
    enum safe_verdict verdict = matrix[action][column];
    return verdict == SAFE_BREAK_GLASS ? break_glass : verdict != SAFE_NO;
}

enum safe_action safe_action_of_kind(unsigned kind)
{
    return kind > 0 && kind < ARRAY_LEN(action_of_kind) ? action_of_kind[kind] : SAFE_CHANGE;
}

uint32_t safe_kinds(enum safe_column column, bool break_glass)
{
    uint32_t bits = 0;
    for (unsigned kind = 1; kind < ARRAY_LEN(action_of_kind); kind++)
        if (safe_allows(column, action_of_kind[kind], break_glass))
            bits |= UINT32_C(1) << kind;
    return bits;
}

const struct safe_reason_info *safe_reason_info(enum safe_reason reason)
{
    return &reasons[reason];
}

const struct safe_reason_info *safe_reason_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(reasons); i++)
        if (strcmp(reasons[i].name, name) == 0)
            return &reasons[i];
    return NULL;
}
