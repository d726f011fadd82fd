/* The commands that the local policy lists for a reload, with what they are told and what they say. */
#include <string.h>

#include "base/clock.h"
#include "kinds/command.h"
#include "transaction/tx.h"

#define STEP_OUTPUT_MAX 380

/* What the commands of a reload are told beside what the policy lists for them. */
static const char **hook_environment(struct tx *tx, const struct policy_reload *reload, const char *hook,
                                     const char *reason)
{
    struct arena *arena = tx->run->arena;
    char **list = NULL;
    size_t n = 0;
    for (char **one = reload->environment; one && *one; one++)
        ARENA_PUSH(arena, list, n, *one);
    ARENA_PUSH(arena, list, n, arena_printf(arena, "CLM_HOOK=%s", hook));
    ARENA_PUSH(arena, list, n, arena_printf(arena, "CLM_TASK=%s", tx->run->order->task_id));
    ARENA_PUSH(arena, list, n, arena_printf(arena, "CLM_TARGET=%s", tx->target->name));
    ARENA_PUSH(arena, list, n, arena_printf(arena, "CLM_CERTIFICATE=%s", tx->target->certificate));
    if (reason)
        ARENA_PUSH(arena, list, n, arena_printf(arena, "CLM_REASON=%s", reason));
    ARENA_PUSH(arena, list, n, NULL);
    return (const char **)(void *)list;
}

/* The step shows more of the output than a message has room for. */
enum code tx_hook(struct tx *tx, const struct policy_reload *reload, const char *name, char *const *argv,
                  const char *reason, struct status *st)
{
    AUTO_BUF struct buf out = {0};
    int64_t started = clock_wall_ms();
    struct command command = {argv, hook_environment(tx, reload, name, reason), reload->timeout_ms};
    enum code code = command_run(&command, &out, st);
    const char *text = buf_text(&out);
    size_t len = strlen(text), from = len > STEP_OUTPUT_MAX ? len - STEP_OUTPUT_MAX : 0;
    if (code == CODE_OK)
        task_step(tx->run, name, true, started, "%s", argv[0]);
    else
        task_step(tx->run, name, false, started, "%.*s%s%s", (int)strcspn(st->msg, ":"), st->msg,
                  len ? ": " : "", text + from);
    return code;
}

/* Once one of several let it pass, a later no is a failure, too. */
enum code tx_pre_hooks(struct tx *tx, struct status *st)
{
    for (struct policy_reload *const *r = tx->reload; *r; r++) {
        if (!(*r)->pre)
            continue;
        TRY(tx_note(tx, "pre", NULL, (*r)->name, NULL, st));
        if (tx_hook(tx, *r, "pre", (*r)->pre, NULL, st) != CODE_OK)
            return status_set(st, CODE_FAILED_PRECONDITION, "the pre hook forbids the change: %.200s",
                              arena_strdup(tx->run->arena, st->msg));
        tx->let_pass = true;
    }
    tx->let_pass = true;
    return CODE_OK;
}

/* A failure of the hook itself is only shown. */
void tx_failure_hooks(struct tx *tx, enum code code, Clm__Receipt__Outcome outcome, const struct status *st)
{
    struct status ignored = {0};
    bool done = code == CODE_OK && (outcome == CLM__RECEIPT__OUTCOME__SUCCEEDED ||
                                    outcome == CLM__RECEIPT__OUTCOME__INSTALLED_UNVERIFIED);
    const char *reason = code != CODE_OK ? st->msg : tx->run->message;
    for (struct policy_reload *const *r = tx->reload; !done && tx->let_pass && *r; r++) {
        if ((*r)->failure)
            (void)tx_hook(tx, *r, "failure", (*r)->failure, reason, &ignored);
    }
}
