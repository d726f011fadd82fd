/*
 * Who is behind a credential: assertions from the registry, kept for a short while per edge so that not each
 * REST call asks. A revoked key is refused at the latest after SESSION_KEEP_MS. The edge's thread only.
 */
#ifndef CLM_GATEWAY_SESSIONS_H
#define CLM_GATEWAY_SESSIONS_H

#include "base/status.h"
#include "pki/der.h"

struct edge;
struct sessions;

struct session { /* borrowed: valid during the callback only */
    struct bytes assertion;
    unsigned roles;
    const char *actor;
    const char *id;       /* of a console session; "" for an API key */
    const char *selector; /* labels that the grant is limited to; "" for the whole fleet */
};

enum credential_kind { CREDENTIAL_API_KEY, CREDENTIAL_SESSION };

struct sessions *sessions_new(struct edge *edge);
void sessions_free(struct sessions *sessions);

/* Calls on_session once, now or later. session is NULL unless st->code is CODE_OK; UNAUTHENTICATED for a bad
 * credential. */
void session_find(struct sessions *sessions, enum credential_kind kind, const char *secret,
                  const char *source,
                  void (*on_session)(const struct session *session, const struct status *st, void *arg),
                  void *arg);

/* Forgets what is kept of a console session: it has ended. Other edges notice within SESSION_KEEP_MS. */
void session_forget(struct sessions *sessions, const char *id);
/* Of everybody. */
void sessions_forget_all(struct sessions *sessions);

#endif
