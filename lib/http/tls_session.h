/* Internal to lib/http: the server's store of resumable sessions, bounded, least recently made out first. */
#ifndef CLM_HTTP_TLS_SESSION_H
#define CLM_HTTP_TLS_SESSION_H

#include <openssl/ssl.h>

struct session_store;

struct session_store *session_store_new(size_t capacity);
void session_store_free(struct session_store *store);
/* Takes one reference. From any thread, like all of these. */
void session_store_put(struct session_store *store, SSL_SESSION *session);
/* A reference of the caller's own, or NULL. */
SSL_SESSION *session_store_get(struct session_store *store, const unsigned char *id, size_t len);
void session_store_remove(struct session_store *store, const SSL_SESSION *session);
void session_store_clear(struct session_store *store);

#endif
