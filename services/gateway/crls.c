/* One slot a CA under a mutex; an answer is copied into the connection's output, so none is kept long. */
#include "gateway/crls.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "proto/bootstrap.pb-c.h"
#include "service/service.h"

#define CALL_TIMEOUT_MS 5000
#define PREFIX          "/crl/"
#define SUFFIX          ".crl"

static const char *const issuers[] = {"agents", "services", "envelope", "managed"};

struct crls {
    struct service *service;
    pthread_mutex_t mutex; /* of what is below */
    struct {
        uint64_t number; /* 0: none yet */
        uint8_t *der;
        size_t len;
    } list[ARRAY_LEN(issuers)];
};

struct crls *crls_new(struct service *service)
{
    struct crls *crls = calloc(1, sizeof *crls);
    if (!crls)
        abort();
    crls->service = service;
    (void)pthread_mutex_init(&crls->mutex, NULL);
    return crls;
}

void crls_free(struct crls *crls)
{
    if (!crls)
        return;
    for (size_t i = 0; i < ARRAY_LEN(issuers); i++)
        free(crls->list[i].der);
    (void)pthread_mutex_destroy(&crls->mutex);
    free(crls);
}

static void take(struct crls *crls, size_t i, const Clm__GetCrlResponse *reply)
{
    uint8_t *der = malloc(reply->crl.len + 1);
    if (!der)
        abort();
    memcpy(der, reply->crl.data, reply->crl.len);
    (void)pthread_mutex_lock(&crls->mutex);
    uint8_t *former = crls->list[i].der;
    crls->list[i].der = der;
    crls->list[i].len = reply->crl.len;
    crls->list[i].number = reply->number;
    (void)pthread_mutex_unlock(&crls->mutex);
    free(former);
}

static enum code fetch_one(struct crls *crls, size_t i, struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    ProtobufCMessage *base = NULL;
    Clm__GetCrlRequest request = CLM__GET_CRL_REQUEST__INIT;
    request.issuer = arena_strdup(arena, issuers[i]);
    request.has_known_number = true;
    (void)pthread_mutex_lock(&crls->mutex);
    request.known_number = crls->list[i].number;
    (void)pthread_mutex_unlock(&crls->mutex);
    const struct rpc_call call = {
        .service = "bootstrap",
        .descriptor = &clm__bootstrap__descriptor,
        .method = "GetCrl",
        .request = &request.base,
        .timeout_ms = CALL_TIMEOUT_MS,
    };
    TRY(rpc_call(service_bus(crls->service), service_identity(crls->service), &call, arena, &base, st));
    const Clm__GetCrlResponse *reply = (const Clm__GetCrlResponse *)base;
    if (reply->has_crl && reply->number > request.known_number)
        take(crls, i, reply);
    return CODE_OK;
}

enum code crls_fetch(struct crls *crls, struct status *st)
{
    for (size_t i = 0; i < ARRAY_LEN(issuers); i++) {
        enum code code = fetch_one(crls, i, st);
        if (code != CODE_OK && code != CODE_NOT_FOUND) /* just installed: none is made yet */
            return code;
    }
    return CODE_OK;
}

/* Index of the CA that a path names; false for any other path. */
static bool find(const char *path, size_t *ret)
{
    size_t prefix = strlen(PREFIX);
    if (strncmp(path, PREFIX, prefix) != 0)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(issuers); i++) {
        size_t len = strlen(issuers[i]);
        if (strncmp(path + prefix, issuers[i], len) == 0 && strcmp(path + prefix + len, SUFFIX) == 0) {
            *ret = i;
            return true;
        }
    }
    return false;
}

bool crls_serve(struct crls *crls, struct http_request *request)
{
    static const struct http_header headers[] = {{"Content-Type", "application/pkix-crl"}, /* RFC 2585 */
                                                 {"Cache-Control", "max-age=60"},
                                                 {NULL, NULL}};
    const char *method = http_request_method(request);
    size_t i;
    if (!find(http_request_path(request), &i) || (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0))
        return false;
    (void)pthread_mutex_lock(&crls->mutex);
    size_t len = crls->list[i].len;
    uint8_t *der = malloc(len + 1);
    if (!der)
        abort();
    if (len)
        memcpy(der, crls->list[i].der, len);
    (void)pthread_mutex_unlock(&crls->mutex);
    if (len) {
        http_respond(request, 200, headers, der, len);
    } else {
        static const struct http_header later[] = {{"Retry-After", "10"}, {NULL, NULL}};
        struct status st;
        status_set(&st, CODE_UNAVAILABLE, "this gateway has no revocation list yet");
        http_respond_problem(request, 0, &st, later);
    }
    free(der);
    return true;
}
