/* Signing with the task key, and pages. Pure but for the clock; exec's thread, or a test. */
#include "agent/exec/receipt.h"

#include <assert.h>
#include <string.h>

#include "audit/head.h"
#include "base/clock.h"
#include "base/log.h"
#include "pki/cms.h"
#include "pki/digest.h"
#include "proto/audit.pb-c.h"
#include "wire/wire.h"

uint32_t result_pages(size_t result_len)
{
    return result_len == 0 ? 1 : (uint32_t)((result_len + RESULT_PAGE_BYTES - 1) / RESULT_PAGE_BYTES);
}

void result_page(uint32_t attempt, struct bytes result, struct bytes receipt, uint32_t page,
                 Clm__ResultRequest *ret)
{
    uint32_t pages = result_pages(result.len);
    assert(page >= 1 && page <= pages);
    size_t from = (size_t)(page - 1) * RESULT_PAGE_BYTES;
    size_t len = result.len - from < RESULT_PAGE_BYTES ? result.len - from : RESULT_PAGE_BYTES;
    clm__result_request__init(ret);
    ret->has_attempt = ret->has_page = ret->has_data = 1;
    ret->attempt = attempt;
    ret->page = page;
    ret->data = (ProtobufCBinaryData){len, len ? (uint8_t *)(uintptr_t)(result.data + from) : NULL};
    if (page == pages) {
        ret->has_receipt = 1;
        ret->receipt = (ProtobufCBinaryData){receipt.len, (uint8_t *)(uintptr_t)receipt.data};
    }
}

/* The platform refuses a result whole if one field of it is not as the limits say. */
static void result_clean(Clm__TaskResult *result, struct arena *arena)
{
    struct status st;
    if (wire_check(&result->base, &st) == CODE_OK)
        return;
    wire_clean(&result->base, arena);
    if (wire_check(&result->base, &st) == CODE_OK)
        return;
    log_error("a result cannot be told and is left out", "reason", st.msg, NULL);
    clm__task_result__init(result);
    result->has_truncated = 1;
    result->truncated = 1;
}

struct bytes result_pack(Clm__TaskResult *result, struct arena *arena)
{
    result_clean(result, arena);
    while (clm__task_result__get_packed_size(result) > RESULT_MAX && result->n_certificates > 0) {
        result->n_certificates = result->n_certificates * 3 / 4;
        result->has_truncated = 1;
        result->truncated = 1;
    }
    struct bytes packed;
    wire_pack(&result->base, arena, &packed.data, &packed.len);
    return packed;
}

static enum code sign_message(const struct agent_state *state, enum cms_content type,
                              const ProtobufCMessage *msg, struct der *ret, struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    struct bytes content;
    wire_pack(msg, arena, &content.data, &content.len);
    AUTO_DER_LIST struct der_list intermediates = {0};
    for (size_t i = 1; i < state->task_chain.n; i++)
        TRY(der_list_add(&intermediates, der_bytes(&state->task_chain.item[i]), st));
    return cms_sign(type, content, state->task_key, der_bytes(&state->task_chain.item[0]), &intermediates,
                    ret, st);
}

enum code receipt_sign(const struct agent_state *state, Clm__Receipt *receipt, struct bytes result,
                       struct der *ret, struct status *st)
{
    uint8_t digest[SHA256_SIZE];
    sha256(result, digest);
    receipt->agent_id = (char *)(uintptr_t)state->agent_id;
    receipt->has_generation = receipt->has_pages = receipt->has_result_sha256 = 1;
    receipt->generation = state->generation;
    receipt->pages = result_pages(result.len);
    receipt->result_sha256 = (ProtobufCBinaryData){sizeof(digest), digest};
    enum code code = sign_message(state, CMS_CONTENT_RECEIPT, &receipt->base, ret, st);
    receipt->result_sha256 = (ProtobufCBinaryData){0};
    receipt->has_result_sha256 = 0;
    return code;
}

/* ret borrows of the state. */
static void request_begin(const struct agent_state *state, Clm__SignedRequest__Purpose purpose,
                          Clm__SignedRequest *ret)
{
    clm__signed_request__init(ret);
    ret->has_purpose = ret->has_generation = ret->has_made_at_ms = 1;
    ret->purpose = purpose;
    ret->agent_id = (char *)(uintptr_t)state->agent_id;
    ret->generation = state->generation;
    ret->made_at_ms = clock_wall_ms();
}

enum code request_sign(const struct agent_state *state, Clm__SignedRequest__Purpose purpose,
                       const char *task_id, uint32_t attempt, struct bytes csr, struct der *ret,
                       struct status *st)
{
    Clm__SignedRequest request;
    request_begin(state, purpose, &request);
    ProtobufCBinaryData chain[DER_LIST_MAX];
    if (purpose == CLM__SIGNED_REQUEST__PURPOSE__CONFIRM) {
        request.n_identity_chain = state->identity_chain.n;
        request.identity_chain = chain;
        for (size_t i = 0; i < state->identity_chain.n; i++)
            chain[i] =
                (ProtobufCBinaryData){state->identity_chain.item[i].len, state->identity_chain.item[i].data};
    }
    if (purpose == CLM__SIGNED_REQUEST__PURPOSE__SIGN) {
        request.task_id = (char *)(uintptr_t)task_id;
        request.has_attempt = request.has_csr = 1;
        request.attempt = attempt;
        request.csr = (ProtobufCBinaryData){csr.len, (uint8_t *)(uintptr_t)csr.data};
    }
    return sign_message(state, CMS_CONTENT_REQUEST, &request.base, ret, st);
}

enum code renewal_sign(const struct agent_state *state, struct bytes identity_csr, struct bytes task_csr,
                       struct der *ret, struct status *st)
{
    Clm__SignedRequest request;
    request_begin(state, CLM__SIGNED_REQUEST__PURPOSE__RENEW_IDENTITY, &request);
    request.has_identity_csr = request.has_task_csr = 1;
    request.identity_csr = (ProtobufCBinaryData){identity_csr.len, (uint8_t *)(uintptr_t)identity_csr.data};
    request.task_csr = (ProtobufCBinaryData){task_csr.len, (uint8_t *)(uintptr_t)task_csr.data};
    return sign_message(state, CMS_CONTENT_REQUEST, &request.base, ret, st);
}

enum code cosignature_sign(const struct agent_state *state, const struct head *head, int64_t now_ms,
                           struct der *ret, struct status *st)
{
    Clm__Cosignature said = CLM__COSIGNATURE__INIT;
    said.agent_id = (char *)(uintptr_t)state->agent_id;
    said.tree_id = (char *)(uintptr_t)head->tree_id;
    said.has_generation = said.has_tree_size = said.has_root_sha256 = said.has_made_at_ms = 1;
    said.generation = state->generation;
    said.tree_size = head->size;
    said.root_sha256 = (ProtobufCBinaryData){SHA256_SIZE, (uint8_t *)(uintptr_t)head->root.byte};
    said.made_at_ms = now_ms;
    return sign_message(state, CMS_CONTENT_COSIGNATURE, &said.base, ret, st);
}
