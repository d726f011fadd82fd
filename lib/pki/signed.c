/*
 * Signed statements for the bus. The verifier remembers which service certificates it has accepted, so that a
 * request costs one signature and not a chain; and which repeated statements, so that these cost a digest.
 * Thread-safe: one mutex around the tables, none while verifying.
 */
#include "pki/signed.h"

#include <pthread.h>
#include <string.h>

#include "pki/digest.h"
#include "pki/ossl.h"

#define REMEMBERED    256
#define STATEMENT_MAX (1024 * 1024)
#define HELD_SLOTS    1024u

struct verdict {
    uint8_t cert_sha256[SHA256_SIZE];
    EVP_PKEY *pkey; /* NULL: free */
    char service[64];
    int64_t from_ms, until_ms;
    uint64_t used;
};

/* A statement whose signature held: one place by digest, a newer one takes an older one's. */
struct held {
    uint8_t sha256[SHA256_SIZE]; /* of purpose, payload, signature and certificate */
    char service[64];            /* "": free */
    int64_t from_ms, until_ms;   /* of the certificate's chain */
};

struct signed_verifier {
    STACK_OF(X509) * roots, *intermediates; /* never change */
    pthread_mutex_t lock;                   /* guards what follows */
    struct verdict verdict[REMEMBERED];
    uint64_t uses;
    struct held held[HELD_SLOTS];
};

static enum code statement(const char *purpose, struct bytes payload, struct der *ret, struct status *st)
{
    if (payload.len > STATEMENT_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, "signed statement of %zu bytes: at most %d", payload.len,
                          STATEMENT_MAX);
    size_t purpose_len = strlen(purpose) + 1;
    *ret = (struct der){MUST(malloc(purpose_len + payload.len)), purpose_len + payload.len};
    memcpy(ret->data, purpose, purpose_len);
    if (payload.len > 0)
        memcpy(ret->data + purpose_len, payload.data, payload.len);
    return CODE_OK;
}

enum code signed_make(const char *purpose, struct bytes payload, const struct key *key,
                      struct der *ret_signature, struct status *st)
{
    AUTO_DER struct der whole = {0};
    TRY(statement(purpose, payload, &whole, st));
    return key_sign(key, der_bytes(&whole), ret_signature, st);
}

struct signed_verifier *signed_verifier_new(const struct der_list *roots,
                                            const struct der_list *intermediates)
{
    struct signed_verifier *verifier = MUST(calloc(1, sizeof(*verifier)));
    struct status st;
    /* Lists that do not parse leave no root, and then nothing verifies. */
    if (ossl_parse_certs(roots, &verifier->roots, &st) != CODE_OK)
        verifier->roots = MUST(sk_X509_new_null());
    if (ossl_parse_certs(intermediates, &verifier->intermediates, &st) != CODE_OK)
        verifier->intermediates = MUST(sk_X509_new_null());
    (void)pthread_mutex_init(&verifier->lock, NULL);
    return verifier;
}

void signed_verifier_free(struct signed_verifier *verifier)
{
    if (!verifier)
        return;
    for (size_t i = 0; i < REMEMBERED; i++)
        EVP_PKEY_free(verifier->verdict[i].pkey);
    x509_stack_free(verifier->roots);
    x509_stack_free(verifier->intermediates);
    (void)pthread_mutex_destroy(&verifier->lock);
    free(verifier);
}

static bool covers(const struct verdict *verdict, int64_t at_ms)
{
    return at_ms >= verdict->from_ms && at_ms < verdict->until_ms;
}

/* The caller frees *ret's key. */
static bool recall(struct signed_verifier *verifier, const uint8_t digest[SHA256_SIZE], int64_t at_ms,
                   struct verdict *ret)
{
    bool found = false;
    (void)pthread_mutex_lock(&verifier->lock);
    for (size_t i = 0; i < REMEMBERED && !found; i++) {
        struct verdict *verdict = &verifier->verdict[i];
        if (!verdict->pkey || memcmp(verdict->cert_sha256, digest, SHA256_SIZE) != 0 ||
            !covers(verdict, at_ms))
            continue;
        verdict->used = ++verifier->uses;
        *ret = *verdict;
        (void)EVP_PKEY_up_ref(ret->pkey);
        found = true;
    }
    (void)pthread_mutex_unlock(&verifier->lock);
    return found;
}

static void remember(struct signed_verifier *verifier, const struct verdict *verdict)
{
    (void)pthread_mutex_lock(&verifier->lock);
    struct verdict *place = &verifier->verdict[0];
    for (size_t i = 0; i < REMEMBERED; i++) {
        struct verdict *other = &verifier->verdict[i];
        bool same = other->pkey && memcmp(other->cert_sha256, verdict->cert_sha256, SHA256_SIZE) == 0;
        if (same || other->used < place->used)
            place = other;
        if (same)
            break;
    }
    EVP_PKEY_free(place->pkey);
    *place = *verdict;
    (void)EVP_PKEY_up_ref(place->pkey);
    place->used = ++verifier->uses;
    (void)pthread_mutex_unlock(&verifier->lock);
}

static enum code judge(struct signed_verifier *verifier, struct bytes der, int64_t at_ms, struct verdict *ret,
                       struct status *st)
{
    AUTO_X509 X509 *cert = NULL;
    struct spiffe_id id;
    TRY(ossl_parse_cert(der, &cert, st));
    TRY(chain_verify_x509(cert, verifier->intermediates, verifier->roots, PURPOSE_SERVICE, at_ms,
                          &ret->until_ms, st));
    TRY(spiffe_of_x509(cert, &id, st));
    if (strcmp(id.kind, "service") != 0)
        return status_set(st, CODE_UNAUTHENTICATED, "certificate names a %s, not a service", id.kind);
    if (!ossl_time_ms(X509_get0_notBefore(cert), &ret->from_ms))
        return status_set(st, CODE_UNAUTHENTICATED, "validity of the certificate is malformed");
    memcpy(ret->service, id.name, sizeof(ret->service));
    ret->pkey = MUST(X509_get_pubkey(cert));
    return CODE_OK;
}

static bool signature_holds(EVP_PKEY *pkey, struct bytes data, struct bytes signature)
{
    AUTO_EVP_MD_CTX EVP_MD_CTX *ctx = MUST(EVP_MD_CTX_new());
    bool holds = EVP_DigestVerifyInit(ctx, NULL, ossl_key_digest(pkey), NULL, pkey) == 1 &&
                 EVP_DigestVerify(ctx, signature.data, signature.len, data.data, data.len) == 1;
    ossl_forget();
    return holds;
}

static enum code check_parts(struct bytes signature, struct bytes cert, struct status *st)
{
    if (cert.len == 0 || cert.len > CERT_MAX_BYTES || signature.len == 0 || signature.len > 1024)
        return status_set(st, CODE_INVALID_ARGUMENT, "signed statement lacks its signature or certificate");
    return CODE_OK;
}

/* The caller frees *ret's key. */
static enum code verify_whole(struct signed_verifier *verifier, const char *purpose, struct bytes whole,
                              struct bytes signature, struct bytes cert, int64_t at_ms, struct verdict *ret,
                              struct status *st)
{
    struct verdict verdict = {0};
    sha256(cert, verdict.cert_sha256);
    bool known = recall(verifier, verdict.cert_sha256, at_ms, &verdict);
    if (!known)
        TRY(judge(verifier, cert, at_ms, &verdict, st));
    AUTO_EVP_PKEY EVP_PKEY *pkey = verdict.pkey;
    if (!known)
        remember(verifier, &verdict);
    if (!signature_holds(pkey, whole, signature))
        return status_set(st, CODE_UNAUTHENTICATED, "signature of service %s over a %s does not verify",
                          verdict.service, purpose);
    *ret = verdict;
    ret->pkey = NULL;
    return CODE_OK;
}

enum code signed_verify(struct signed_verifier *verifier, const char *purpose, struct bytes payload,
                        struct bytes signature, struct bytes cert, int64_t at_ms, char ret_service[64],
                        struct status *st)
{
    AUTO_DER struct der whole = {0};
    struct verdict verdict;
    TRY(check_parts(signature, cert, st));
    TRY(statement(purpose, payload, &whole, st));
    TRY(verify_whole(verifier, purpose, der_bytes(&whole), signature, cert, at_ms, &verdict, st));
    memcpy(ret_service, verdict.service, sizeof(verdict.service));
    return CODE_OK;
}

/* Digests of fixed length: no byte can move from one part to the next. */
static void digest_of_parts(struct bytes whole, struct bytes signature, struct bytes cert,
                            uint8_t ret[SHA256_SIZE])
{
    uint8_t parts[3][SHA256_SIZE];
    sha256(whole, parts[0]);
    sha256(signature, parts[1]);
    sha256(cert, parts[2]);
    sha256((struct bytes){&parts[0][0], sizeof(parts)}, ret);
}

static struct held *held_slot(struct signed_verifier *verifier, const uint8_t digest[SHA256_SIZE])
{
    return &verifier->held[((unsigned)digest[0] << 8 | digest[1]) % HELD_SLOTS];
}

static bool held_before(struct signed_verifier *verifier, const uint8_t digest[SHA256_SIZE], int64_t at_ms,
                        char ret_service[64])
{
    (void)pthread_mutex_lock(&verifier->lock);
    const struct held *held = held_slot(verifier, digest);
    bool found = held->service[0] && memcmp(held->sha256, digest, SHA256_SIZE) == 0 &&
                 at_ms >= held->from_ms && at_ms < held->until_ms;
    if (found)
        memcpy(ret_service, held->service, sizeof(held->service));
    (void)pthread_mutex_unlock(&verifier->lock);
    return found;
}

static void remember_held(struct signed_verifier *verifier, const uint8_t digest[SHA256_SIZE],
                          const struct verdict *verdict)
{
    (void)pthread_mutex_lock(&verifier->lock);
    struct held *held = held_slot(verifier, digest);
    memcpy(held->sha256, digest, SHA256_SIZE);
    memcpy(held->service, verdict->service, sizeof(held->service));
    held->from_ms = verdict->from_ms;
    held->until_ms = verdict->until_ms;
    (void)pthread_mutex_unlock(&verifier->lock);
}

enum code signed_verify_repeated(struct signed_verifier *verifier, const char *purpose, struct bytes payload,
                                 struct bytes signature, struct bytes cert, int64_t at_ms,
                                 char ret_service[64], struct status *st)
{
    AUTO_DER struct der whole = {0};
    struct verdict verdict;
    uint8_t digest[SHA256_SIZE];
    TRY(check_parts(signature, cert, st));
    TRY(statement(purpose, payload, &whole, st));
    digest_of_parts(der_bytes(&whole), signature, cert, digest);
    if (held_before(verifier, digest, at_ms, ret_service))
        return CODE_OK;
    TRY(verify_whole(verifier, purpose, der_bytes(&whole), signature, cert, at_ms, &verdict, st));
    remember_held(verifier, digest, &verdict);
    memcpy(ret_service, verdict.service, sizeof(verdict.service));
    return CODE_OK;
}
