/* Pure; any thread. */
#include "audit/head.h"

#include <stdio.h>
#include <string.h>

#include "proto/audit.pb-c.h"
#include "wire/wire.h"

static enum code check_signer(struct bytes signer, struct status *st)
{
    struct spiffe_id id;
    TRY(cert_spiffe(signer, &id, st));
    if (strcmp(id.kind, "service") != 0 || strcmp(id.name, "registry") != 0)
        return status_set(st, CODE_UNAUTHENTICATED, "the head is signed by %s %s, not by the registry",
                          id.kind, id.name);
    return CODE_OK;
}

enum code head_open(const Clm__SignedAuditHead *in, const struct der_list *roots, struct head *ret,
                    struct status *st)
{
    AUTO_DER struct der content = {0};
    AUTO_DER struct der signer = {0};
    AUTO_ARENA struct arena *arena = arena_new();
    ProtobufCMessage *message = NULL;
    if (!in->has_head || !in->has_made_at_ms || !in->has_tree_size)
        return status_set(st, CODE_INVALID_ARGUMENT, "the head is not complete");
    TRY(cms_verify(CMS_CONTENT_HEAD, (struct bytes){in->head.data, in->head.len}, NULL, roots,
                   PURPOSE_SERVICE, in->made_at_ms, &content, &signer, st));
    TRY(check_signer(der_bytes(&signer), st));
    TRY(wire_unpack(&clm__audit_head__descriptor, content.data, content.len, arena, &message, st));
    const Clm__AuditHead *head = (const Clm__AuditHead *)message;
    if (head->made_at_ms != in->made_at_ms || head->tree_size != in->tree_size)
        return status_set(st, CODE_UNAUTHENTICATED, "the head says otherwise than what stands beside it");
    *ret = (struct head){.size = head->tree_size, .made_at_ms = head->made_at_ms};
    (void)snprintf(ret->tree_id, sizeof(ret->tree_id), "%s", head->tree_id);
    memcpy(ret->root.byte, head->root_sha256.data, SHA256_SIZE);
    return CODE_OK;
}

enum code head_extends(const struct head *earlier, const struct head *later,
                       const Clm__SignedAuditHead *later_message, struct status *st)
{
    struct merkle_hash proof[MERKLE_PROOF_MAX];
    size_t n = later_message->n_consistency;
    if (strcmp(earlier->tree_id, later->tree_id) != 0)
        return status_set(st, CODE_UNAUTHENTICATED, "the head is of another tree");
    if (n > MERKLE_PROOF_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, "the proof is too long");
    for (size_t i = 0; i < n; i++) {
        if (later_message->consistency[i].len != SHA256_SIZE)
            return status_set(st, CODE_INVALID_ARGUMENT, "the proof is malformed");
        memcpy(proof[i].byte, later_message->consistency[i].data, SHA256_SIZE);
    }
    return merkle_consistency_verify(earlier->size, &earlier->root, later->size, &later->root, proof, n, st);
}
