/* What the files of the operator listener share; nobody else includes it. A call's op outlives its request:
 * it loses the pointer when the client leaves. */
#ifndef CLM_GATEWAY_REST_PARTS_H
#define CLM_GATEWAY_REST_PARTS_H

#include "base/id.h"
#include "gateway/edge.h"
#include "gateway/routes.h"
#include "gateway/sessions.h"

#define SESSION_MAX 64
#define COOKIE      "__Host-clm-session"
#define HEADERS_MAX 20
#define ETAG_SIZE   32

struct op { /* one REST call */
    struct edge *edge;
    struct http_request *request; /* NULL once the client left */
    struct route_match match;
    struct arena *arena;
    struct stream *stream;           /* of a call that watches; it uses the request then */
    char session_id[UUID_TEXT_SIZE]; /* of the caller's console session; "" for an API key */
    char traceparent[TRACEPARENT_SIZE], trace_id[TRACE_ID_SIZE];
    char actor[96];                 /* "" until it is known */
    char rate[48], rate_policy[48]; /* values of their fields; "" until the actor is known */
    uint32_t rate_reset_sec;
    int64_t began_us; /* monotonic */
    bool if_match;
    bool own_session; /* it is about session_id itself, by the name "current" */
};

/* ---- answers (rest_answer.c) ---- */

/* Each of the three ends the call. http_status 0: the code's own; header and value: one more field, or NULL.
 */
void op_refuse(struct op *op, int http_status, const struct status *st, const char *header,
               const char *value);
/* cookie: a Set-Cookie to send; etag: an entity tag; NULL for none. */
void op_answer(struct op *op, int status, const char *cookie, const char *etag, const void *body, size_t len);
void op_free(struct op *op);
/* What every answer carries; how many. */
size_t op_common_headers(const struct op *op, struct http_header headers[HEADERS_MAX]);
void op_count(struct op *op, int status);
/* The entity tag of a view: its version, and what tells two representations of one version apart (an agent's
 * last heartbeat is no change of it); "" if it has no version. */
void etag_of(const ProtobufCMessage *view, const struct buf *json, char etag[ETAG_SIZE]);
/* Whether the client of a GET has this very state already (RFC 9110 section 13.1.2). */
bool etag_is_known(const struct op *op, const char *etag);

/* ---- arguments (rest_arguments.c) ---- */

/* Path, query, body and header fields into the route's message. Sets *http_status where the code's own is not
 * exact enough. */
enum code op_arguments(struct op *op, ProtobufCMessage **ret, int *http_status, struct status *st) MUST_CHECK;
/* Where a sign-in comes from is our word, not the client's. */
enum code op_set_source(struct op *op, ProtobufCMessage *message, struct status *st) MUST_CHECK;

/* ---- credentials (rest_credentials.c) ---- */

/* "Bearer <key>" → key; NULL if it is not of that form. */
const char *request_bearer(const struct http_request *request);
/* The secret of a console session out of the Cookie field; false if there is none of the right form. */
bool request_cookie(const struct http_request *request, char out[SESSION_MAX + 1]);
/* Whether the console's own page made it. */
bool request_is_ours(const struct http_request *request);

/* ---- documents (rest_document.c) ---- */

/* Whether a path is one of those that describe the API, beside what the routes are. */
bool document_is(const char *path);
/* Ends the call. */
void document_answer(struct op *op);
#define OPENAPI_PATH "/api/v1/openapi.json"

#endif
