/* What exec signs with the task key: receipts, and requests to the platform. And results cut into pages. */
#ifndef CLM_AGENT_EXEC_RECEIPT_H
#define CLM_AGENT_EXEC_RECEIPT_H

#include "agent/exec/state.h"
#include "base/arena.h"
#include "proto/agent.pb-c.h"
#include "proto/envelope.pb-c.h"

#define RESULT_PAGE_BYTES (256u * 1024u)
#define RESULT_MAX        (4u * 1024u * 1024u)

/* Pages of a result: at least one, which may be empty. */
uint32_t result_pages(size_t result_len);
/* Page `page` (from 1) of a result; the receipt goes with the last. Everything is borrowed. */
void result_page(uint32_t attempt, struct bytes result, struct bytes receipt, uint32_t page,
                 Clm__ResultRequest *ret);
/* Packs the result into the arena, fit for the platform's border: what is no UTF-8 or too long (file names,
 * other people's certificates) is made so; beyond RESULT_MAX certificates are left out and `truncated` is
 * set. */
struct bytes result_pack(Clm__TaskResult *result, struct arena *arena);

/* Fills agent id, generation, pages and digest into *receipt, and signs it. */
enum code receipt_sign(const struct agent_state *state, Clm__Receipt *receipt, struct bytes result,
                       struct der *ret, struct status *st) MUST_CHECK;
/* CMS over SignedRequest; task_id and csr only for SIGN. */
enum code request_sign(const struct agent_state *state, Clm__SignedRequest__Purpose purpose,
                       const char *task_id, uint32_t attempt, struct bytes csr, struct der *ret,
                       struct status *st) MUST_CHECK;

/* CMS over SignedRequest{RENEW_IDENTITY} with both CSRs of the next generation. */
enum code renewal_sign(const struct agent_state *state, struct bytes identity_csr, struct bytes task_csr,
                       struct der *ret, struct status *st) MUST_CHECK;

/* CMS over Cosignature of a head that this agent has verified, made now. */
struct head;
enum code cosignature_sign(const struct agent_state *state, const struct head *head, int64_t now_ms,
                           struct der *ret, struct status *st) MUST_CHECK;

#endif
