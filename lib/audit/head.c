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

static enum code read_proof(const ProtobufCBinaryData *in, size_t n,
                            struct merkle_hash proof[MERKLE_PROOF_MAX], struct status *st)
{
    if (n > MERKLE_PROOF_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, "the proof is too long");
    for (size_t i = 0; i < n; i++) {
        if (in[i].len != SHA256_SIZE)
            return status_set(st, CODE_INVALID_ARGUMENT, "the proof is malformed");
        memcpy(proof[i].byte, in[i].data, SHA256_SIZE);
    }
    return CODE_OK;
}

enum code head_extends(const struct head *earlier, const struct head *later,
                       const Clm__SignedAuditHead *later_message, struct status *st)
{
    struct merkle_hash proof[MERKLE_PROOF_MAX];
    size_t n = later_message->n_consistency;
    if (strcmp(earlier->tree_id, later->tree_id) != 0)
        return status_set(st, CODE_UNAUTHENTICATED, "the head is of another tree");
    TRY(read_proof(later_message->consistency, n, proof, st));
    return merkle_consistency_verify(earlier->size, &earlier->root, later->size, &later->root, proof, n, st);
}

/* The first record of a tree that a restore began; memory from the arena. */
static enum code read_origin(const struct head *later, const Clm__SignedAuditHead *message,
                             struct arena *arena, const Clm__AuditRecord **ret, struct status *st)
{
    struct merkle_hash proof[MERKLE_PROOF_MAX], leaf;
    ProtobufCMessage *record = NULL;
    struct bytes bytes = {message->origin.data, message->origin.len};
    if (!message->has_origin)
        return status_set(st, CODE_UNAUTHENTICATED,
                          "the head is of another tree, and does not say what became of ours");
    TRY(read_proof(message->origin_inclusion, message->n_origin_inclusion, proof, st));
    merkle_leaf(bytes, &leaf);
    TRY(merkle_inclusion_verify(&leaf, 0, later->size, proof, message->n_origin_inclusion, &later->root, st));
    TRY(wire_unpack(&clm__audit_record__descriptor, bytes.data, bytes.len, arena, &record, st));
    *ret = (const Clm__AuditRecord *)record;
    if (strcmp((*ret)->action, "platform.restored") != 0)
        return status_set(st, CODE_UNAUTHENTICATED, "another tree was begun without a restore");
    return CODE_OK;
}

enum code head_restored(const struct head *earlier, const struct head *later,
                        const Clm__SignedAuditHead *later_message, struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    const Clm__AuditRecord *record = NULL;
    TRY(read_origin(later, later_message, arena, &record, st));
    for (size_t i = 0; i < record->n_former; i++) {
        const Clm__FormerTree *former = record->former[i];
        if (strcmp(former->tree_id, earlier->tree_id) != 0)
            continue;
        if (former->tree_size < earlier->size)
            return status_set(st, CODE_FAILED_PRECONDITION,
                              "the platform was restored to %llu records, this host knows of %llu",
                              (unsigned long long)former->tree_size, (unsigned long long)earlier->size);
        if (former->tree_size == earlier->size &&
            memcmp(former->root_sha256.data, earlier->root.byte, SHA256_SIZE) != 0)
            return status_set(st, CODE_UNAUTHENTICATED, "two histories of the same length");
        return CODE_OK;
    }
    return status_set(st, CODE_UNAUTHENTICATED, "the restore does not name the tree that this host knows");
}
