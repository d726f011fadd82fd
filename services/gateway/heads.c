/* A ring of packed heads under a mutex; a few proofs that skip over those that are gone. */
#include "gateway/heads.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "proto/registry.pb-c.h"
#include "service/service.h"

#define CALL_TIMEOUT_MS 5000
#define DAY_MS          (24LL * 3600 * 1000)
#define SKIPS_MAX       64

struct kept {
    uint64_t size, previous;
    uint8_t *data; /* packed SignedAuditHead */
    size_t len;
};

struct heads {
    struct service *service;
    pthread_mutex_t mutex;        /* of what is below */
    char tree_id[UUID_TEXT_SIZE]; /* of all of them; "": as the registry had none */
    struct kept ring[HEADS_KEEP];
    size_t first, n;
    /* From sizes that are not in the ring: data NULL while it is wanted. The oldest makes room. */
    struct kept skip[SKIPS_MAX];
    size_t next_skip;
};

struct heads *heads_new(struct service *service)
{
    struct heads *heads = calloc(1, sizeof *heads);
    if (!heads)
        abort();
    heads->service = service;
    (void)pthread_mutex_init(&heads->mutex, NULL);
    return heads;
}

void heads_free(struct heads *heads)
{
    if (!heads)
        return;
    for (size_t i = 0; i < HEADS_KEEP; i++)
        free(heads->ring[i].data);
    for (size_t i = 0; i < SKIPS_MAX; i++)
        free(heads->skip[i].data);
    (void)pthread_mutex_destroy(&heads->mutex);
    free(heads);
}

static struct kept *ring_at(struct heads *heads, size_t i)
{
    return &heads->ring[(heads->first + i) % HEADS_KEEP];
}

static uint64_t newest_size(struct heads *heads)
{
    return heads->n > 0 ? ring_at(heads, heads->n - 1)->size : 0;
}

static struct kept keep(const Clm__SignedAuditHead *head)
{
    struct kept kept = {.size = head->tree_size, .previous = head->previous_size};
    kept.len = protobuf_c_message_get_packed_size(&head->base);
    kept.data = malloc(kept.len + 1);
    if (!kept.data)
        abort();
    (void)protobuf_c_message_pack(&head->base, kept.data);
    return kept;
}

/* The audit log is another than it was: a restore, declared or not. */
static void forget(struct heads *heads)
{
    for (size_t i = 0; i < HEADS_KEEP; i++)
        free(TAKE(heads->ring[i].data));
    for (size_t i = 0; i < SKIPS_MAX; i++) {
        free(TAKE(heads->skip[i].data));
        heads->skip[i] = (struct kept){0};
    }
    heads->first = heads->n = 0;
    log_warn("the audit log does not go on from the heads that were known: they are forgotten", NULL);
}

static void ring_add(struct heads *heads, const Clm__SignedAuditHead *head)
{
    (void)snprintf(heads->tree_id, sizeof heads->tree_id, "%s", head->tree_id ? head->tree_id : "");
    if (heads->n == HEADS_KEEP) {
        free(ring_at(heads, 0)->data);
        ring_at(heads, 0)->data = NULL;
        heads->first = (heads->first + 1) % HEADS_KEEP;
        heads->n--;
    }
    *ring_at(heads, heads->n) = keep(head);
    heads->n++;
}

static Clm__SignedAuditHead *unpack(const struct kept *kept, struct arena *arena)
{
    ProtobufCMessage *message = NULL;
    struct status st;
    if (wire_unpack(&clm__signed_audit_head__descriptor, kept->data, kept->len, arena, &message, &st) !=
        CODE_OK)
        return NULL;
    return (Clm__SignedAuditHead *)message;
}

/* ---- fetching ---- */

static enum code call(struct heads *heads, const char *method, const ProtobufCMessage *request,
                      struct arena *arena, ProtobufCMessage **ret, struct status *st)
{
    const struct rpc_call rpc = {
        .service = "registry",
        .descriptor = &clm__registry__descriptor,
        .method = method,
        .request = request,
        .timeout_ms = CALL_TIMEOUT_MS,
    };
    return rpc_call(service_bus(heads->service), service_identity(heads->service), &rpc, arena, ret, st);
}

static enum code fetch_new(struct heads *heads, struct status *st)
{
    for (bool last = false; !last;) {
        AUTO_ARENA struct arena *arena = arena_new();
        ProtobufCMessage *reply = NULL;
        Clm__ListAuditHeadsRequest request = CLM__LIST_AUDIT_HEADS_REQUEST__INIT;
        (void)pthread_mutex_lock(&heads->mutex);
        request.after_size = newest_size(heads);
        request.after_tree_id = *heads->tree_id ? arena_strdup(arena, heads->tree_id) : NULL;
        (void)pthread_mutex_unlock(&heads->mutex);
        request.has_after_size = request.has_from_at_ms = request.has_page_size = true;
        request.from_at_ms = clock_wall_ms() - DAY_MS;
        request.page_size = 100;
        TRY(call(heads, "ListFleetHeads", &request.base, arena, &reply, st));
        const Clm__ListAuditHeadsResponse *response = (const Clm__ListAuditHeadsResponse *)reply;
        (void)pthread_mutex_lock(&heads->mutex);
        if (response->anew)
            forget(heads);
        for (size_t i = 0; i < response->n_heads; i++)
            if (response->heads[i]->tree_size > newest_size(heads))
                ring_add(heads, response->heads[i]);
        (void)pthread_mutex_unlock(&heads->mutex);
        last = response->last || response->n_heads == 0;
    }
    return CODE_OK;
}

/* One wanted proof; *ret_from is 0 when there is none. */
static void next_wanted(struct heads *heads, uint64_t *ret_from, uint64_t *ret_to)
{
    *ret_from = 0;
    (void)pthread_mutex_lock(&heads->mutex);
    for (size_t i = 0; i < SKIPS_MAX && *ret_from == 0; i++)
        if (heads->skip[i].previous > 0 && !heads->skip[i].data)
            *ret_from = heads->skip[i].previous;
    *ret_to = newest_size(heads);
    (void)pthread_mutex_unlock(&heads->mutex);
}

static void store_skip(struct heads *heads, uint64_t from, uint64_t to, const Clm__AuditConsistency *proof,
                       struct arena *arena)
{
    (void)pthread_mutex_lock(&heads->mutex);
    Clm__SignedAuditHead *head =
        newest_size(heads) == to ? unpack(ring_at(heads, heads->n - 1), arena) : NULL;
    for (size_t i = 0; i < SKIPS_MAX && head; i++) {
        struct kept *skip = &heads->skip[i];
        if (skip->previous != from || skip->data)
            continue;
        head->has_previous_size = true;
        head->previous_size = from;
        head->n_consistency = proof->n_consistency;
        head->consistency = proof->consistency;
        *skip = keep(head);
    }
    (void)pthread_mutex_unlock(&heads->mutex);
}

static enum code fetch_wanted(struct heads *heads, struct status *st)
{
    for (int i = 0; i < SKIPS_MAX; i++) {
        AUTO_ARENA struct arena *arena = arena_new();
        ProtobufCMessage *reply = NULL;
        uint64_t from, to;
        next_wanted(heads, &from, &to);
        if (from == 0 || to <= from)
            return CODE_OK;
        Clm__GetAuditConsistencyRequest request = CLM__GET_AUDIT_CONSISTENCY_REQUEST__INIT;
        request.has_first = request.has_second = true;
        request.first = from;
        request.second = to;
        TRY(call(heads, "GetFleetConsistency", &request.base, arena, &reply, st));
        store_skip(heads, from, to, (const Clm__AuditConsistency *)reply, arena);
    }
    return CODE_OK;
}

enum code heads_fetch(struct heads *heads, struct status *st)
{
    TRY(fetch_new(heads, st));
    return fetch_wanted(heads, st);
}

/* ---- answering ---- */

static void want_skip(struct heads *heads, uint64_t from)
{
    struct kept *skip = &heads->skip[heads->next_skip++ % SKIPS_MAX];
    free(skip->data);
    *skip = (struct kept){.previous = from};
}

static void give(const struct kept *kept, struct arena *arena, struct Clm__SignedAuditHead ***ret,
                 size_t *ret_n)
{
    Clm__SignedAuditHead *head = unpack(kept, arena);
    if (head)
        (*ret)[(*ret_n)++] = head;
}

/* Where its tree begins is told only to who comes from another. */
static void drop_origin(Clm__SignedAuditHead *head)
{
    head->has_origin = false;
    head->origin = (ProtobufCBinaryData){0};
    head->n_origin_inclusion = 0;
}

void heads_after(struct heads *heads, const char *known_tree, uint64_t known_size, struct arena *arena,
                 struct Clm__SignedAuditHead ***ret, size_t *ret_n)
{
    *ret = arena_array(arena, HEADS_ANSWER, sizeof **ret);
    *ret_n = 0;
    (void)pthread_mutex_lock(&heads->mutex);
    uint64_t newest = newest_size(heads);
    bool other_tree =
        *known_tree && *heads->tree_id && known_size > 0 && strcmp(known_tree, heads->tree_id) != 0;
    size_t at = 0;
    while (at < heads->n && ring_at(heads, at)->previous != known_size)
        at++;
    if (newest == 0 || (known_size == newest && !other_tree)) {
        /* nothing new */
    } else if (other_tree || known_size == 0 || known_size > newest) {
        /* One of another tree; the first one; or one that says that history is shorter than the agent knows
         * it. */
        give(ring_at(heads, heads->n - 1), arena, ret, ret_n);
    } else if (at < heads->n) {
        for (; at < heads->n && *ret_n < HEADS_ANSWER; at++)
            give(ring_at(heads, at), arena, ret, ret_n);
    } else {
        const struct kept *skip = NULL;
        for (size_t i = 0; i < SKIPS_MAX && !skip; i++)
            if (heads->skip[i].previous == known_size)
                skip = &heads->skip[i];
        if (!skip)
            want_skip(heads, known_size);
        else if (skip->data)
            give(skip, arena, ret, ret_n);
    }
    for (size_t i = 0; i < *ret_n && !other_tree; i++)
        drop_origin((*ret)[i]);
    (void)pthread_mutex_unlock(&heads->mutex);
}

bool heads_behind(struct heads *heads, const char *known_tree, uint64_t known_size)
{
    (void)pthread_mutex_lock(&heads->mutex);
    bool behind = heads->n > 0 && *known_tree && strcmp(known_tree, heads->tree_id) == 0 &&
                  known_size > newest_size(heads);
    (void)pthread_mutex_unlock(&heads->mutex);
    return behind;
}
