/*
 * Rotation of the identity (DESIGN.md section 5), exec's half. Both keys of the next generation are on disk
 * before a CSR leaves; exec installs first, agent.id's rename is the moment of change, and only then net
 * connects anew. Killed anywhere, the same keys ask again and get the same certificates. One at a time;
 * exec's loop.
 */
#ifndef CLM_AGENT_EXEC_ROTATION_H
#define CLM_AGENT_EXEC_ROTATION_H

#include "agent/exec/exec.h"

void rotation_start(struct exec *exec);
void rotation_net_gone(struct exec *exec);
void rotation_identity_csr(struct exec *exec, const Clm__Agent__IdentityCsr *csr);
void rotation_answer(struct exec *exec, const Clm__Agent__RenewAnswer *answer);
void rotation_done(struct exec *exec);
/* When the next generation is due: half of the life that is left at adoption, give or take a tenth of it by
 * `jitter_permille` (0 to 1000). Wall clock. For tests. */
int64_t rotation_due_ms(int64_t from_ms, int64_t not_after_ms, unsigned jitter_permille);

#endif
