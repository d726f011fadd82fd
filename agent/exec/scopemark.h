/*
 * The newest scope that the platform signed for this host, in <state>/scope. What widens is signed and never
 * goes back: an order with an older scope is refused, whoever kept it or forgot what came after. A restore of
 * the platform from a backup is declared there, which raises the epoch.
 */
#ifndef CLM_AGENT_EXEC_SCOPEMARK_H
#define CLM_AGENT_EXEC_SCOPEMARK_H

#include "agent/exec/state.h"

struct scope_mark {
    uint64_t epoch, version; /* versions count within an epoch */
};

/* Unreadable counts as none: it is root's own file, and the next order writes it. */
void scope_mark_load(struct scope_mark *mark, const struct agent_state *state);
/* PERMISSION_DENIED if it is older than the mark. */
enum code scope_mark_check(const struct scope_mark *mark, const struct scope_mark *seen,
                           struct status *st) MUST_CHECK;
/* Fsynced before it returns; one that is not newer changes nothing. */
enum code scope_mark_raise(struct scope_mark *mark, const struct agent_state *state,
                           const struct scope_mark *seen, struct status *st) MUST_CHECK;

#endif
