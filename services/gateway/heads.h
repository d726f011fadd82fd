/*
 * Signed heads of the audit log, for agents: the last day's, fetched once a minute, each with its proof from
 * the one before. Answers from memory to any thread. It verifies nothing: agents do.
 */
#ifndef CLM_GATEWAY_HEADS_H
#define CLM_GATEWAY_HEADS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/status.h"

struct heads;
struct service;
struct Clm__SignedAuditHead;

#define HEADS_KEEP   1440 /* a day of minutes */
#define HEADS_ANSWER 8    /* in one answer; an agent further behind gets the rest with its next ones */

struct heads *heads_new(struct service *service);
void heads_free(struct heads *heads);
/* One thread: asks the registry for what is new, and for proofs from heads older than those kept that agents
 * named meanwhile. Blocks on the bus. */
enum code heads_fetch(struct heads *heads, struct status *st) MUST_CHECK;
/* Whether an agent knows a newer head of our tree than we: a gateway that is a moment behind, or a registry
 * whose database was restored. */
bool heads_behind(struct heads *heads, const char *known_tree, uint64_t known_size);
/* What an agent needs that has verified the head of `known_size` (0: none yet) of `known_tree` ("": as ours).
 * *ret_n is 0 when it has the
 * newest, or when a proof for it has to be fetched first. Memory from the arena. */
void heads_after(struct heads *heads, const char *known_tree, uint64_t known_size, struct arena *arena,
                 struct Clm__SignedAuditHead ***ret, size_t *ret_n);

#endif
