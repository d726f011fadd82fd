/*
 * What this host knows of the platform's audit log: the newest signed head that held. Each later one must
 * prove that it only added to it. One that does not is kept as a problem and told to the platform, as an
 * alert: it is never a reason for safe mode. Once in its day the agent signs the one that it has: that
 * signature is sent until the platform answered it.
 */
#ifndef CLM_AGENT_EXEC_HEADS_H
#define CLM_AGENT_EXEC_HEADS_H

#include "agent/exec/state.h"
#include "audit/head.h"
#include "base/arena.h"

struct agent_heads {
    struct head known;          /* size 0: none yet */
    char problem[256];          /* "": every head held */
    unsigned unproved;          /* newer heads since `known` that were not proved from it */
    bool restored;              /* a restore was met */
    bool wanted;                /* the platform asked for the head that is known */
    struct der cosignature;     /* CMS; empty: none is to be sent */
    struct head cosignature_of; /* made_at_ms: when it was signed */
    int64_t cosigned_at_ms;     /* the last one that was answered; 0: none */
};
void heads_done(struct agent_heads *heads);

/* The platform was restored from a backup since the last call: it may not know our certificates. */
bool heads_restored(struct agent_heads *heads);
/* The head that is known, as it was signed, while there is a problem with another or the
 * platform asked for it. NULL: none. */
struct Clm__SignedAuditHead *heads_held(const struct agent_heads *heads, const struct agent_state *state,
                                        struct arena *arena);

/* Reads the one that was stored; what cannot be read counts as none, and is told. */
void heads_load(struct agent_heads *heads, const struct agent_state *state);
/* In the order in which they came. True when something changed. Signatures are looked at in a confined child.
 */
bool heads_take(struct agent_heads *heads, const struct agent_state *state,
                struct Clm__SignedAuditHead *const *in, size_t n, uid_t parser_uid);
/* Signs the head that is known, if today's co-signature was not made yet. True when one was made. */
bool heads_cosign(struct agent_heads *heads, const struct agent_state *state, int64_t now_ms);
/* The platform answered the one that was made then. True when that ends the sending. */
bool heads_cosigned(struct agent_heads *heads, const struct agent_state *state, int64_t made_at_ms);
/* `clm-agent audit-head`: prints what is stored. Returns the exit status. */
int heads_print_main(const char *config_path, const char *state_dir);

#endif
