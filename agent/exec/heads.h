/*
 * What this host knows of the platform's audit log: the newest signed head that held. Each later one must
 * prove that it only added to it. One that does not is kept as a problem and told to the platform, as an
 * alert: it is never a reason for safe mode.
 */
#ifndef CLM_AGENT_EXEC_HEADS_H
#define CLM_AGENT_EXEC_HEADS_H

#include "agent/exec/state.h"
#include "audit/head.h"

struct agent_heads {
    struct head known; /* size 0: none yet */
    char problem[256]; /* "": every head held */
};

/* Reads the one that was stored; what cannot be read counts as none, and is told. */
void heads_load(struct agent_heads *heads, const struct agent_state *state);
/* In the order in which they came. True when something changed. Signatures are looked at in a confined child.
 */
bool heads_take(struct agent_heads *heads, const struct agent_state *state,
                struct Clm__SignedAuditHead *const *in, size_t n, uid_t parser_uid);
/* `clm-agent audit-head`: prints what is stored. Returns the exit status. */
int heads_print_main(const char *config_path, const char *state_dir);

#endif
