/*
 * Signed statements that ride in headers: the registry's assertion (which operator asked) and a service's
 * authority (this very message is mine). Pure functions over a key and a verifier that remembers the chains
 * it has seen; a private key serves one thread at a time, hence the mutex.
 */
#include <pthread.h>
#include <string.h>

#include "base/clock.h"
#include "base/id.h"
#include "bus/bus.h"
#include "pki/digest.h"
#include "proto/bus.pb-c.h"

#define PURPOSE_ASSERTION     "clm assertion v1"
#define PURPOSE_AUTHORITY     "clm authority v1"
#define ASSERTION_LIFE_MAX_MS (5 * 60 * 1000)
#define CLOCK_TOLERANCE_MS    (60 * 1000) /* between two services' clocks */

struct bus_identity {
    pthread_mutex_t mutex; /* of what follows: a renewal replaces it */
    const struct key *key;
    struct key *replaced; /* owned; NULL as long as key is the caller's */
    struct der cert;
    struct signed_verifier *verifier;
};

enum code bus_identity_new(const struct key *key, struct bytes cert, const struct der_list *intermediates,
                           const struct der_list *roots, struct bus_identity **ret, struct status *st)
{
    if (!key_matches_cert(key, cert))
        return status_set(st, CODE_FAILED_PRECONDITION,
                          "service identity: key and certificate do not belong together");
    struct bus_identity *identity = calloc(1, sizeof(*identity));
    uint8_t *copy = malloc(cert.len);
    if (!identity || !copy)
        abort();
    memcpy(copy, cert.data, cert.len);
    identity->cert = (struct der){copy, cert.len};
    identity->key = key;
    (void)pthread_mutex_init(&identity->mutex, NULL);
    identity->verifier = signed_verifier_new(roots, intermediates);
    *ret = identity;
    return CODE_OK;
}

enum code bus_identity_replace(struct bus_identity *identity, struct key *key, struct bytes cert,
                               struct status *st)
{
    AUTO_KEY struct key *next = key;
    if (!key_matches_cert(next, cert))
        return status_set(st, CODE_FAILED_PRECONDITION,
                          "service identity: key and certificate do not belong together");
    struct der copy = der_dup(cert);
    (void)pthread_mutex_lock(&identity->mutex);
    struct key *former = identity->replaced;
    struct der former_cert = identity->cert;
    identity->key = identity->replaced = TAKE(next);
    identity->cert = copy;
    (void)pthread_mutex_unlock(&identity->mutex);
    key_free(former);
    der_done(&former_cert);
    return CODE_OK;
}

void bus_identity_free(struct bus_identity *identity)
{
    if (!identity)
        return;
    signed_verifier_free(identity->verifier);
    der_done(&identity->cert);
    key_free(identity->replaced);
    (void)pthread_mutex_destroy(&identity->mutex);
    free(identity);
}

static ProtobufCBinaryData binary(struct bytes b)
{
    return (ProtobufCBinaryData){.len = b.len, .data = (uint8_t *)(uintptr_t)b.data};
}

static enum code sign(struct bus_identity *identity, const char *purpose, const ProtobufCMessage *statement,
                      struct arena *arena, struct bytes *ret, struct status *st)
{
    struct bytes payload;
    wire_pack(statement, arena, &payload.data, &payload.len);
    AUTO_DER struct der signature = {0};
    (void)pthread_mutex_lock(&identity->mutex);
    enum code code = signed_make(purpose, payload, identity->key, &signature, st);
    struct bytes cert = {arena_dup(arena, identity->cert.data, identity->cert.len), identity->cert.len};
    (void)pthread_mutex_unlock(&identity->mutex);
    TRY(code);
    Clm__SignedBytes out = CLM__SIGNED_BYTES__INIT;
    out.has_payload = out.has_signature = out.has_certificate = true;
    out.payload = binary(payload);
    out.signature = binary(der_bytes(&signature));
    out.certificate = binary(cert);
    wire_pack(&out.base, arena, &ret->data, &ret->len);
    return CODE_OK;
}

typedef enum code verify_fn(struct signed_verifier *verifier, const char *purpose, struct bytes payload,
                            struct bytes signature, struct bytes cert, int64_t at_ms, char ret_service[64],
                            struct status *st);

/* Verifies before the payload is decoded. */
static enum code verify(struct bus_identity *identity, verify_fn *how, const char *purpose,
                        struct bytes statement, const ProtobufCMessageDescriptor *desc, struct arena *arena,
                        char ret_service[64], ProtobufCMessage **ret, struct status *st)
{
    ProtobufCMessage *outer = NULL;
    TRY(wire_unpack(&clm__signed_bytes__descriptor, statement.data, statement.len, arena, &outer, st));
    const Clm__SignedBytes *s = (const Clm__SignedBytes *)outer;
    if (!s->has_payload || !s->has_signature || !s->has_certificate)
        return status_set(st, CODE_INVALID_ARGUMENT, "signed statement is not complete");
    struct bytes payload = {s->payload.data, s->payload.len};
    TRY(how(identity->verifier, purpose, payload, (struct bytes){s->signature.data, s->signature.len},
            (struct bytes){s->certificate.data, s->certificate.len}, clock_wall_ms(), ret_service, st));
    return wire_unpack(desc, payload.data, payload.len, arena, ret, st);
}

static enum code refuse(struct status *st, const char *what)
{
    if (st) {
        st->code = CODE_UNAUTHENTICATED;
        return status_wrap(st, "%s", what);
    }
    return CODE_UNAUTHENTICATED;
}

enum code assertion_make(struct bus_identity *identity, const struct actor *actor, int64_t life_ms,
                         struct arena *arena, struct bytes *ret, struct status *st)
{
    if (life_ms > ASSERTION_LIFE_MAX_MS)
        life_ms = ASSERTION_LIFE_MAX_MS;
    char id[UUID_TEXT_SIZE];
    uuid_v7(id);
    Clm__Role roles[32];
    size_t n_roles = 0;
    for (unsigned i = 0; i < 32; i++)
        if (actor->roles & ROLE_BIT(i))
            roles[n_roles++] = (Clm__Role)i;
    Clm__Assertion a = CLM__ASSERTION__INIT;
    a.actor = arena_strdup(arena, actor->id);
    a.actor_name = arena_strdup(arena, actor->name);
    a.label_selector = arena_strdup(arena, actor->label_selector ? actor->label_selector : "");
    a.roles = roles;
    a.n_roles = n_roles;
    a.has_not_after_at_ms = true;
    a.not_after_at_ms = clock_wall_ms() + life_ms;
    a.id = id;
    return sign(identity, PURPOSE_ASSERTION, &a.base, arena, ret, st);
}

enum code assertion_verify(struct bus_identity *identity, struct bytes assertion, struct arena *arena,
                           struct actor *ret, struct status *st)
{
    char service[64];
    ProtobufCMessage *msg = NULL;
    /* The gateway sends one assertion with every request of a session. */
    if (verify(identity, signed_verify_repeated, PURPOSE_ASSERTION, assertion, &clm__assertion__descriptor,
               arena, service, &msg, st) != CODE_OK)
        return refuse(st, "operator assertion");
    const Clm__Assertion *a = (const Clm__Assertion *)msg;
    if (strcmp(service, "registry") != 0)
        return status_set(st, CODE_UNAUTHENTICATED, "operator assertion: signed by %s, not by the registry",
                          service);
    int64_t now = clock_wall_ms();
    if (!a->has_not_after_at_ms || a->not_after_at_ms <= now)
        return status_set(st, CODE_UNAUTHENTICATED, "operator assertion: expired");
    if (a->not_after_at_ms > now + ASSERTION_LIFE_MAX_MS + CLOCK_TOLERANCE_MS)
        return status_set(st, CODE_UNAUTHENTICATED, "operator assertion: lives longer than it may");
    if (!a->actor || !*a->actor)
        return status_set(st, CODE_UNAUTHENTICATED, "operator assertion: names nobody");
    *ret = (struct actor){
        .id = a->actor,
        .name = a->actor_name ? a->actor_name : "",
        .label_selector = a->label_selector ? a->label_selector : "",
    };
    for (size_t i = 0; i < a->n_roles; i++)
        if ((unsigned)a->roles[i] < 32)
            ret->roles |= ROLE_BIT(a->roles[i]);
    return CODE_OK;
}

enum code authority_make(struct bus_identity *identity, const char *subject, const char *message_id,
                         int64_t deadline_at_ms, struct bytes body, struct arena *arena, struct bytes *ret,
                         struct status *st)
{
    uint8_t digest[SHA256_SIZE];
    sha256(body, digest);
    Clm__Authority a = CLM__AUTHORITY__INIT;
    a.subject = arena_strdup(arena, subject);
    a.message_id = arena_strdup(arena, message_id);
    a.has_deadline_at_ms = deadline_at_ms > 0;
    a.deadline_at_ms = deadline_at_ms;
    a.has_body_sha256 = true;
    a.body_sha256 = (ProtobufCBinaryData){.len = sizeof(digest), .data = digest};
    return sign(identity, PURPOSE_AUTHORITY, &a.base, arena, ret, st);
}

enum code authority_verify(struct bus_identity *identity, struct bytes authority, const char *subject,
                           const char *message_id, struct bytes body, struct arena *arena,
                           char ret_service[64], struct status *st)
{
    ret_service[0] = '\0';
    char service[64];
    ProtobufCMessage *msg = NULL;
    if (verify(identity, signed_verify, PURPOSE_AUTHORITY, authority, &clm__authority__descriptor, arena,
               service, &msg, st) != CODE_OK)
        return refuse(st, "authority");
    const Clm__Authority *a = (const Clm__Authority *)msg;
    if (!a->subject || strcmp(a->subject, subject) != 0)
        return status_set(st, CODE_UNAUTHENTICATED, "authority: made for another subject");
    if (!a->message_id || strcmp(a->message_id, message_id) != 0)
        return status_set(st, CODE_UNAUTHENTICATED, "authority: made for another message");
    /* An event is true for ever; a request only until its deadline. */
    if (strncmp(subject, "clm.rpc.", 8) == 0 && !a->has_deadline_at_ms)
        return status_set(st, CODE_UNAUTHENTICATED, "authority: request without a deadline");
    if (a->has_deadline_at_ms && a->deadline_at_ms + CLOCK_TOLERANCE_MS < clock_wall_ms())
        return status_set(st, CODE_UNAUTHENTICATED, "authority: past its deadline");
    uint8_t digest[SHA256_SIZE];
    sha256(body, digest);
    if (!a->has_body_sha256 || a->body_sha256.len != sizeof(digest) ||
        memcmp(a->body_sha256.data, digest, sizeof(digest)) != 0)
        return status_set(st, CODE_UNAUTHENTICATED, "authority: made for another body");
    (void)snprintf(ret_service, 64, "%s", service);
    return CODE_OK;
}
