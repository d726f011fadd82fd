/*
 * Safe mode (DESIGN.md section 8) as one table: what an agent may still do in each column, and for each
 * reason the column that it puts an agent in and the exit that it names. Asked where a task is made, where it
 * is leased, at the gateway, and on the host. Pure, constant data.
 */
#ifndef CLM_SAFEMODE_SAFEMODE_H
#define CLM_SAFEMODE_SAFEMODE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

/* In the order of strictness: of two that hold, the later one counts. */
enum safe_column {
    SAFE_ONLINE,
    SAFE_SAFE_MODE,
    SAFE_CLONE, /* the identity is frozen: copied, or claimed by a second key */
    SAFE_DISABLED,
    SAFE_EXPIRED,
    SAFE_COLUMN_COUNT
};
const char *safe_column_name(enum safe_column column); /* "SAFE_MODE by CLONE" */
enum safe_column safe_strictest(enum safe_column a, enum safe_column b);

/* Of an agent of which this is known. */
enum safe_column safe_column_of(bool disabled, bool expired, bool frozen, bool safe_mode);

enum safe_action {
    SAFE_CHECKIN,
    SAFE_RENEW_IDENTITY,
    SAFE_READ_ONLY, /* VALIDATE, DISCOVER */
    SAFE_CHANGE,    /* DEPLOY, RENEW */
    SAFE_EXPORT,    /* of a key */
    SAFE_RELOAD,    /* alone */
    SAFE_ACTION_COUNT
};

enum safe_verdict {
    SAFE_NO,
    SAFE_YES,
    SAFE_WITHOUT_WORK, /* yes, and no work comes of it */
    SAFE_BREAK_GLASS,  /* one task that an admin released, if the host's policy lets it */
    SAFE_BY_POLICY,    /* yes, if the host's policy says so */
};
enum safe_verdict safe_verdict(enum safe_column column, enum safe_action action);

/* break_glass: an admin released this one. What policy has to say stays the host's to ask. */
bool safe_allows(enum safe_column column, enum safe_action action, bool break_glass);

/* Of a task's kind, numbers as in proto/common.proto; an unknown kind counts as a change. */
enum safe_action safe_action_of_kind(unsigned kind);
/* The kinds of tasks that may run in this column, as bits 1 << kind: for SQL that asks for many at once. */
uint32_t safe_kinds(enum safe_column column, bool break_glass);

/* Why an agent is disabled, where it says more than an operator's word: only a fresh token brings such an
 * identity back, and a deleted agent nothing. The registry decides, the other services are told. */
#define DISABLED_REVOKED  "revoked"
#define DISABLED_FAREWELL "farewell" /* it was removed from its host */
#define DISABLED_DELETED  "deleted"

/* ---- reasons ---- */

enum safe_reason {
    /* What an agent finds out about itself, strongest first. */
    SAFE_CA_TRUST,
    SAFE_INVALID_POLICY,
    SAFE_ROLLBACK_FAILED,
    SAFE_LOCAL,
    SAFE_STATE_FULL,
    SAFE_CRASH_LOOP,
    SAFE_CLOCK,
    SAFE_AGENT_REASON_COUNT,
    /* What the platform holds against it. */
    SAFE_CLONED = SAFE_AGENT_REASON_COUNT,
    SAFE_SECOND_KEY,
    SAFE_PLATFORM,
    SAFE_OPERATOR,
    SAFE_REASON_COUNT
};

enum safe_exit {
    SAFE_EXIT_MENDED,   /* by itself, as soon as what was wrong is right */
    SAFE_EXIT_HEALS,    /* by itself, after SAFE_HEAL_MS without it */
    SAFE_EXIT_HOST,     /* the host's administrator: clm-agent leave-safe-mode */
    SAFE_EXIT_OPERATOR, /* whoever may, at the platform */
    SAFE_EXIT_TOKEN,    /* a fresh bootstrap token alone */
};
#define SAFE_HEAL_MS (10 * 60 * 1000)

struct safe_reason_info {
    const char *name; /* the code that is stored and shown: "CLOCK" */
    enum safe_column column;
    enum safe_exit exit;
    const char *means, *ends; /* halves of a sentence for people */
};
const struct safe_reason_info *safe_reason_info(enum safe_reason reason);
const struct safe_reason_info *safe_reason_find(const char *name); /* NULL: there is none of this name */

#endif
