/* A table of open and closed windows under one mutex. Only the reporting thread takes rows out. */
#include "gateway/refusals.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/id.h"
#include "proto/registry.pb-c.h"
#include "service/service.h"

#define BUCKETS         256
#define REPORT_MAX      500
#define CALL_TIMEOUT_MS 5000
#define NONE            (-1)

struct refusal {
    char id[UUID_TEXT_SIZE];
    enum refusal_kind kind;
    uint32_t count;
    int64_t first_at_ms, until_mono_ms;
    char source[64], claimed[256], reason[256];
    int next; /* in its bucket */
};

struct refusals {
    struct service *service;
    int64_t window_ms;
    pthread_mutex_t mutex; /* of what is below */
    struct refusal row[REFUSALS_MAX];
    size_t n;
    int bucket[BUCKETS];
    uint64_t lost;
};

/* What a peer wrote, as ASCII that can be shown. */
static void copy_shown(char *out, size_t size, const char *in)
{
    size_t n = 0;
    for (; in && in[n] && n + 1 < size; n++)
        out[n] = in[n] >= 0x20 && in[n] < 0x7f ? in[n] : '?';
    out[n] = '\0';
}

static size_t bucket_of(enum refusal_kind kind, const char *source)
{
    uint32_t hash = 2166136261u ^ (uint32_t)kind; /* FNV-1a */
    for (; *source; source++)
        hash = (hash ^ (unsigned char)*source) * 16777619u;
    return hash % BUCKETS;
}

static void link_row(struct refusals *r, size_t i)
{
    int *head = &r->bucket[bucket_of(r->row[i].kind, r->row[i].source)];
    r->row[i].next = *head;
    *head = (int)i;
}

struct refusals *refusals_new(struct service *service, int64_t window_ms)
{
    struct refusals *r = calloc(1, sizeof *r);
    if (!r)
        abort();
    r->service = service;
    r->window_ms = window_ms;
    (void)pthread_mutex_init(&r->mutex, NULL);
    for (size_t i = 0; i < BUCKETS; i++)
        r->bucket[i] = NONE;
    return r;
}

void refusals_free(struct refusals *r)
{
    if (!r)
        return;
    (void)pthread_mutex_destroy(&r->mutex);
    free(r);
}

static struct refusal *find_open(struct refusals *r, enum refusal_kind kind, const char *source, int64_t now)
{
    for (int i = r->bucket[bucket_of(kind, source)]; i != NONE; i = r->row[i].next) {
        struct refusal *row = &r->row[i];
        if (row->kind == kind && row->until_mono_ms > now && strcmp(row->source, source) == 0)
            return row;
    }
    return NULL;
}

void refusals_add(struct refusals *r, enum refusal_kind kind, const char *source, const char *claimed,
                  const char *reason)
{
    char from[sizeof(r->row[0].source)];
    copy_shown(from, sizeof from, source && *source ? source : "unknown");
    int64_t now = clock_mono_ms();
    (void)pthread_mutex_lock(&r->mutex);
    struct refusal *row = find_open(r, kind, from, now);
    if (!row && r->n < REFUSALS_MAX) {
        row = &r->row[r->n++];
        *row = (struct refusal){
            .kind = kind, .first_at_ms = clock_wall_ms(), .until_mono_ms = now + r->window_ms};
        uuid_v7(row->id);
        memcpy(row->source, from, sizeof from);
        link_row(r, r->n - 1);
    }
    if (row) {
        row->count += row->count < UINT32_MAX;
        copy_shown(row->claimed, sizeof row->claimed, claimed);
        copy_shown(row->reason, sizeof row->reason, reason);
    } else {
        r->lost++;
    }
    (void)pthread_mutex_unlock(&r->mutex);
}

/* Copies of what can go; a closed row does not change any more, an open one is closed by taking it. */
static size_t take(struct refusals *r, bool all, struct arena *arena, struct refusal **ret,
                   uint64_t *ret_lost)
{
    int64_t now = clock_mono_ms();
    size_t n = 0;
    (void)pthread_mutex_lock(&r->mutex);
    *ret = arena_array(arena, r->n + 1, sizeof **ret);
    for (size_t i = 0; i < r->n && n < REPORT_MAX; i++) {
        if (!all && r->row[i].until_mono_ms > now)
            continue;
        r->row[i].until_mono_ms = now < r->row[i].until_mono_ms ? now : r->row[i].until_mono_ms;
        (*ret)[n++] = r->row[i];
    }
    *ret_lost = r->lost;
    (void)pthread_mutex_unlock(&r->mutex);
    return n;
}

static bool is_among(const struct refusal *row, const struct refusal *sent, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(sent[i].id, row->id) == 0)
            return true;
    return false;
}

static void forget(struct refusals *r, const struct refusal *sent, size_t n, uint64_t lost)
{
    size_t kept = 0;
    (void)pthread_mutex_lock(&r->mutex);
    for (size_t i = 0; i < BUCKETS; i++)
        r->bucket[i] = NONE;
    for (size_t i = 0; i < r->n; i++) {
        if (is_among(&r->row[i], sent, n))
            continue;
        if (kept != i)
            r->row[kept] = r->row[i];
        link_row(r, kept++);
    }
    r->n = kept;
    r->lost -= lost;
    (void)pthread_mutex_unlock(&r->mutex);
}

enum code refusals_report(struct refusals *r, bool all, struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    struct refusal *rows;
    uint64_t lost;
    size_t n = take(r, all, arena, &rows, &lost);
    if (n == 0 && lost == 0)
        return CODE_OK;
    Clm__Refusal *refusals = arena_array(arena, n + 1, sizeof *refusals);
    Clm__ReportRefusalsRequest request = CLM__REPORT_REFUSALS_REQUEST__INIT;
    request.gateway_id = arena_strdup(arena, service_instance_id(r->service));
    request.n_refusals = n;
    request.refusals = arena_array(arena, n + 1, sizeof *request.refusals);
    request.has_lost = lost > 0;
    request.lost = lost;
    for (size_t i = 0; i < n; i++) {
        Clm__Refusal *out = request.refusals[i] = &refusals[i];
        clm__refusal__init(out);
        out->id = rows[i].id;
        out->has_kind = out->has_count = out->has_first_at_ms = true;
        out->kind = (Clm__Refusal__Kind)rows[i].kind;
        out->source = rows[i].source;
        out->count = rows[i].count;
        out->first_at_ms = rows[i].first_at_ms;
        out->claimed = rows[i].claimed;
        out->reason = rows[i].reason;
    }
    const struct rpc_call call = {
        .service = "registry",
        .descriptor = &clm__registry__descriptor,
        .method = "ReportRefusals",
        .request = &request.base,
        .timeout_ms = CALL_TIMEOUT_MS,
        .authority = true,
    };
    ProtobufCMessage *reply = NULL;
    TRY(rpc_call(service_bus(r->service), service_identity(r->service), &call, arena, &reply, st));
    forget(r, rows, n, lost);
    return CODE_OK;
}
