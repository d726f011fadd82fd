/*
 * One HTTP/1.1 client connection on an event loop, plain or TLS. It connects once and lives until it is
 * closed by either side or freed; reconnecting, with what delay, is the owner's decision. Requests are
 * answered in order: a second one is sent at once behind the first (pipelining depth 2, which ends a held
 * check-in), more wait here. On the loop's thread; no function calls back before it returns.
 */
#ifndef CLM_HTTP_CLIENT_H
#define CLM_HTTP_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "http/http.h"
#include "http/tls.h"
#include "loop/loop.h"

struct http_client;
struct http_call;
struct http_response;

/* An HTTP proxy on the way (CONNECT). It sees where the tunnel leads and nothing of what is in it. */
struct http_proxy {
    const char *host; /* looked up here; the name of the server is looked up by the proxy */
    uint16_t port;
    const char *user;              /* NULL: none; Basic otherwise */
    const struct secret *password; /* NULL: empty */
};

struct http_client_config {
    const char *host; /* name or numeric address; names are looked up in a thread */
    uint16_t port;
    const struct http_proxy *proxy; /* NULL: none; all of it is copied */
    struct tls_context *tls;        /* from tls_client_new, borrowed while the client lives; NULL: plain */
    const char *verify_name; /* name or address that the server's certificate must hold; also SNI. NULL: host.
                              * "": not checked, for a pin whose server is known by its key alone */
    struct http_limits limits;  /* of responses */
    int64_t connect_timeout_ms; /* look-up, TCP and TLS together; 0: 15 s */
    /* After TCP and TLS are up. In TLS 1.3 a server that refuses our certificate says so only afterwards: the
     * proof that it is accepted is the first response. NULL is allowed. */
    void (*on_open)(void *arg);
    /* Once, when the connection failed or ended; calls that were still open have failed before. st says why:
     *   UNAUTHENTICATED    the server refused our certificate (the alert is named)
     *   PERMISSION_DENIED  we refused the server's certificate (OpenSSL's reason)
     *   DEADLINE_EXCEEDED  connecting took too long
     *   UNAVAILABLE        refused, reset, closed, other alert
     *   INVALID_ARGUMENT   the server does not speak HTTP as we do
     * The client may be freed inside. */
    void (*on_closed)(const struct status *st, void *arg);
    void *arg;
};

/* Starts connecting; failures come through on_closed. */
struct http_client *http_client_new(struct loop *loop, const struct http_client_config *config);
/* Open calls end without a word. NULL is fine. */
void http_client_free(struct http_client *client);
bool http_client_resumed(const struct http_client *client); /* TLS session of an earlier connection */

struct http_client_request {
    const char *method, *path;         /* path with query, already encoded */
    const struct http_header *headers; /* NULL for none; Host is set */
    const void *body;
    size_t body_len;
    int64_t timeout_ms; /* from now to the whole response; 0: none. When it ends, the connection is closed */
};

/* response is NULL if the call failed, and then st says why: DEADLINE_EXCEEDED or on_closed's codes.
 * Otherwise any HTTP status is a response, valid during the callback. */
typedef void http_on_response(const struct http_response *response, const struct status *st, void *arg);

/* Copies what it needs. May be called before the connection is open, and after it ended (fails from the
 * loop). The call's pointer is good until its callback runs. */
struct http_call *http_client_send(struct http_client *client, const struct http_client_request *request,
                                   http_on_response *on_response, void *arg);

int http_response_status(const struct http_response *response);
const char *http_response_header(const struct http_response *response, const char *name); /* NULL if absent */
const uint8_t *http_response_body(const struct http_response *response, size_t *ret_len);
/* Seconds of a Retry-After header as milliseconds, clamped to [0, 1 h]; fallback_ms if absent or a date. */
int64_t http_response_retry_after_ms(const struct http_response *response, int64_t fallback_ms);

#endif
