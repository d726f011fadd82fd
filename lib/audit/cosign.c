/* Pure; any thread. */
#include "audit/cosign.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/audit.pb-c.h"
#include "wire/wire.h"

int64_t cosign_day(const char *agent_id, int64_t at_ms)
{
    uint8_t digest[SHA256_SIZE];
    uint64_t offset = 0;
    sha256((struct bytes){(const uint8_t *)agent_id, strlen(agent_id)}, digest);
    for (size_t i = 0; i < 8; i++)
        offset = offset << 8 | digest[i];
    return (at_ms + (int64_t)(offset % (uint64_t)COSIGN_DAY_MS)) / COSIGN_DAY_MS;
}

/* The certificate's own word: whose it is and of which generation (docs/decisions/0003). */
static enum code check_signer(struct bytes signer, const Clm__Cosignature *said, struct status *st)
{
    struct spiffe_id id;
    AUTO_CERT_INFO struct cert_info info = {0};
    char generation[16];
    TRY(cert_spiffe(signer, &id, st));
    TRY(cert_read(signer, &info, st));
    (void)snprintf(generation, sizeof(generation), "%u", said->generation);
    if (strcmp(id.kind, "agent") != 0 || strcmp(id.name, said->agent_id) != 0)
        return status_set(st, CODE_UNAUTHENTICATED, "the co-signature of agent %s is signed by %s %s",
                          said->agent_id, id.kind, id.name);
    if (strcmp(info.subject_serial, generation) != 0)
        return status_set(st, CODE_UNAUTHENTICATED,
                          "the co-signature is of generation %s, its certificate of \"%s\"", generation,
                          info.subject_serial);
    return CODE_OK;
}

enum code cosignature_open(const Clm__SignedCosignature *in, const struct der_list *roots,
                           struct cosignature *ret, struct status *st)
{
    AUTO_DER struct der content = {0};
    AUTO_DER struct der signer = {0};
    AUTO_ARENA struct arena *arena = arena_new();
    ProtobufCMessage *message = NULL;
    if (!in->has_cosignature || !in->agent_id || !in->tree_id || !in->has_tree_size || !in->has_made_at_ms)
        return status_set(st, CODE_INVALID_ARGUMENT, "the co-signature is not complete");
    TRY(cms_verify(CMS_CONTENT_COSIGNATURE, (struct bytes){in->cosignature.data, in->cosignature.len}, NULL,
                   roots, PURPOSE_AGENT_TASK, in->made_at_ms, &content, &signer, st));
    TRY(wire_unpack(&clm__cosignature__descriptor, content.data, content.len, arena, &message, st));
    const Clm__Cosignature *said = (const Clm__Cosignature *)message;
    if (said->made_at_ms != in->made_at_ms || said->tree_size != in->tree_size ||
        strcmp(said->tree_id, in->tree_id) != 0 || strcmp(said->agent_id, in->agent_id) != 0)
        return status_set(st, CODE_UNAUTHENTICATED,
                          "the co-signature says otherwise than what stands beside it");
    TRY(check_signer(der_bytes(&signer), said, st));
    *ret = (struct cosignature){.generation = said->generation,
                                .head = {.size = said->tree_size, .made_at_ms = said->made_at_ms}};
    (void)snprintf(ret->agent_id, sizeof(ret->agent_id), "%s", said->agent_id);
    (void)snprintf(ret->head.tree_id, sizeof(ret->head.tree_id), "%s", said->tree_id);
    memcpy(ret->head.root.byte, said->root_sha256.data, SHA256_SIZE);
    sha256_hex(der_bytes(&signer), ret->signer);
    return CODE_OK;
}
