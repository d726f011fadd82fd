/* A small table by the SHA-256 of the credential: the credential itself is not kept. */
#include "gateway/sessions.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/id.h"
#include "gateway/edge.h"
#include "pki/digest.h"
#include "proto/registry.pb-c.h"

#define SESSIONS_MAX    256
#define SESSION_KEEP_MS 15000
#define ASSERTION_MAX   (8 * 1024)
#define CALL_TIMEOUT_MS 5000

struct kept {
    uint8_t key[SHA256_SIZE];
    int64_t until_mono_ms; /* 0: free */
    uint8_t *assertion;
    size_t assertion_len;
    unsigned roles;
    char actor[96];
    char id[UUID_TEXT_SIZE];
    char *selector;
};

struct sessions {
    struct edge *edge;
    struct kept kept[SESSIONS_MAX];
};

struct lookup {
    struct sessions *sessions;
    uint8_t key[SHA256_SIZE];
    void (*on_session)(const struct session *session, const struct status *st, void *arg);
    void *arg;
};

struct sessions *sessions_new(struct edge *edge)
{
    struct sessions *sessions = calloc(1, sizeof *sessions);
    if (!sessions)
        abort();
    sessions->edge = edge;
    return sessions;
}

void sessions_free(struct sessions *sessions)
{
    if (!sessions)
        return;
    for (size_t i = 0; i < SESSIONS_MAX; i++) {
        free(sessions->kept[i].assertion);
        free(sessions->kept[i].selector);
    }
    free(sessions);
}

/* The place of a key: its own, else the one that ends first. */
static struct kept *place_for(struct sessions *sessions, const uint8_t key[SHA256_SIZE])
{
    struct kept *best = &sessions->kept[0];
    for (size_t i = 0; i < SESSIONS_MAX; i++) {
        struct kept *kept = &sessions->kept[i];
        if (kept->until_mono_ms && memcmp(kept->key, key, SHA256_SIZE) == 0)
            return kept;
        if (kept->until_mono_ms < best->until_mono_ms)
            best = kept;
    }
    return best;
}

static void keep(struct sessions *sessions, const uint8_t key[SHA256_SIZE], const struct session *session,
                 int64_t not_after_ms)
{
    int64_t life_ms = not_after_ms - clock_wall_ms();
    if (life_ms > SESSION_KEEP_MS)
        life_ms = SESSION_KEEP_MS;
    if (life_ms <= 0 || session->assertion.len > ASSERTION_MAX)
        return;
    struct kept *kept = place_for(sessions, key);
    free(kept->assertion);
    free(kept->selector);
    kept->assertion = malloc(session->assertion.len);
    kept->selector = strdup(session->selector);
    if (!kept->assertion || !kept->selector)
        abort();
    memcpy(kept->assertion, session->assertion.data, session->assertion.len);
    kept->assertion_len = session->assertion.len;
    memcpy(kept->key, key, SHA256_SIZE);
    kept->until_mono_ms = clock_mono_ms() + life_ms;
    kept->roles = session->roles;
    (void)snprintf(kept->actor, sizeof kept->actor, "%s", session->actor);
    (void)snprintf(kept->id, sizeof kept->id, "%s", session->id);
}

void session_forget(struct sessions *sessions, const char *id)
{
    for (size_t i = 0; i < SESSIONS_MAX; i++)
        if (*id && strcmp(sessions->kept[i].id, id) == 0)
            sessions->kept[i].until_mono_ms = 0;
}

void sessions_forget_all(struct sessions *sessions)
{
    for (size_t i = 0; i < SESSIONS_MAX; i++)
        sessions->kept[i].until_mono_ms = 0;
}

static void on_authenticated(struct edge *edge UNUSED, struct arena *arena UNUSED,
                             const ProtobufCMessage *reply, const struct status *st, void *arg)
{
    struct lookup *lookup = arg;
    if (!reply) {
        lookup->on_session(NULL, st, lookup->arg);
    } else {
        const Clm__AuthenticateResponse *response = (const Clm__AuthenticateResponse *)reply;
        struct session session = {
            .assertion = {response->assertion.data, response->assertion.len},
            .actor = response->actor ? response->actor : "",
            .id = response->session_id ? response->session_id : "",
            .selector = response->label_selector ? response->label_selector : "",
        };
        for (size_t i = 0; i < response->n_roles; i++)
            session.roles |= ROLE_BIT(response->roles[i]);
        keep(lookup->sessions, lookup->key, &session, response->not_after_at_ms);
        lookup->on_session(&session, st, lookup->arg);
    }
    free(lookup);
}

void session_find(struct sessions *sessions, enum credential_kind kind, const char *secret,
                  const char *source,
                  void (*on_session)(const struct session *session, const struct status *st, void *arg),
                  void *arg)
{
    uint8_t key[SHA256_SIZE];
    /* Of kind and secret: one is never taken for the other. */
    struct sha256_ctx *ctx = sha256_ctx_new();
    sha256_ctx_add(ctx, (struct bytes){(const uint8_t[]){(uint8_t)kind}, 1});
    sha256_ctx_add(ctx, (struct bytes){(const uint8_t *)secret, strlen(secret)});
    sha256_ctx_free(ctx, key);
    const struct kept *kept = place_for(sessions, key);
    if (kept->until_mono_ms > clock_mono_ms() && memcmp(kept->key, key, SHA256_SIZE) == 0) {
        const struct session session = {
            .assertion = {kept->assertion, kept->assertion_len},
            .roles = kept->roles,
            .actor = kept->actor,
            .id = kept->id,
            .selector = kept->selector,
        };
        on_session(&session, &(struct status){.code = CODE_OK}, arg);
        return;
    }

    struct lookup *lookup = calloc(1, sizeof *lookup);
    if (!lookup)
        abort();
    *lookup = (struct lookup){.sessions = sessions, .on_session = on_session, .arg = arg};
    memcpy(lookup->key, key, SHA256_SIZE);
    AUTO_ARENA struct arena *arena = arena_new();
    Clm__AuthenticateRequest request = CLM__AUTHENTICATE_REQUEST__INIT;
    if (kind == CREDENTIAL_API_KEY)
        request.api_key = arena_strdup(arena, secret);
    else
        request.session_secret = arena_strdup(arena, secret);
    request.source = arena_strdup(arena, source);
    const struct rpc_call call = {
        .service = "registry",
        .descriptor = &clm__registry__descriptor,
        .method = "Authenticate",
        .request = &request.base,
        .timeout_ms = CALL_TIMEOUT_MS,
    };
    edge_call(sessions->edge, &call, on_authenticated, lookup);
}
