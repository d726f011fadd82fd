/*
 * The one table of the REST API: routing, authorisation, argument binding and the served OpenAPI document all
 * read it, so they cannot drift. A path parameter {agentId} sets the request field of that JSON name; on GET,
 * query parameters set the others; on POST the body is the request message.
 */
#ifndef CLM_GATEWAY_ROUTES_H
#define CLM_GATEWAY_ROUTES_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>

#define ROUTE_PARAMS_MAX 4

/* What a call does to the caller's console session, beyond what its RPC does. */
enum route_session {
    ROUTE_PLAIN,
    ROUTE_SESSION_BEGIN, /* needs no credential; the answer is the session, its secret becomes a cookie */
    ROUTE_SESSION_END,   /* the cookie goes */
    ROUTE_GRANT_CHANGE,  /* what is kept of anybody's credential is asked anew */
};

struct route {
    const char *method;  /* "GET" */
    const char *path;    /* "/api/v1/agents/{agentId}:disable" */
    const char *service; /* bus name: "registry" */
    const ProtobufCServiceDescriptor *descriptor;
    const char *rpc; /* method of the descriptor; of a stream: the one whose roles it needs */
    int success;     /* HTTP status of the answer */
    enum route_session session;
    /* A stream of server-sent events instead of one answer: what it takes, and what each event's data is. */
    const char *stream; /* operation id; NULL: an ordinary route */
    const ProtobufCMessageDescriptor *takes, *gives;
    const char *tag;     /* group in the documentation */
    const char *summary; /* one line */
};

extern const struct route routes[]; /* ended by method NULL */

struct route_match {
    const struct route *route; /* NULL: no such path, or path_known */
    bool path_known;           /* the path exists, with other methods: 405 */
    bool takes_get, takes_post;
    struct {
        char name[64];
        char value[256];
    } params[ROUTE_PARAMS_MAX];
    size_t n_params;
};

/* path: decoded, without the query. */
void route_find(const char *method, const char *path, struct route_match *ret);

/* The methods of a path that is known, for the header "Allow". */
const char *route_allows(const struct route_match *match);

const ProtobufCMessageDescriptor *route_request(const struct route *route);
const ProtobufCMessageDescriptor *route_response(const struct route *route);

#endif
