/* Border of the inventory: what hosts found, out of events; lists, for operators. */
#include "inventory.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/id.h"
#include "border.h"
#include "pki/digest.h"
#include "proto/event.pb-c.h"
#include "proto/registry.pb-c.h"
#include "wire/wire.h"

#define PAGE_DEFAULT 50
#define PAGE_MAX     500

static const char *or_empty(const char *s)
{
    return s ? s : "";
}

/* ---- events ---- */

static const char *join_names(char *const *names, size_t n, struct arena *arena)
{
    size_t len = 1;
    for (size_t i = 0; i < n; i++)
        len += strlen(names[i]) + 1;
    char *out = arena_alloc(arena, len), *at = out;
    for (size_t i = 0; i < n; i++)
        at = stpcpy(stpcpy(at, i ? "\n" : ""), names[i]);
    return out;
}

static void read_certificate(const Clm__CertificateInfo *info, struct arena *arena, struct certificate *ret)
{
    const uint8_t *packed;
    size_t len;
    char id[SHA256_HEX_SIZE];
    wire_pack(&info->base, arena, &packed, &len);
    sha256_hex((struct bytes){packed, len}, id);
    *ret = (struct certificate){
        .id = arena_strdup(arena, id),
        .fingerprint = or_empty(info->fingerprint_sha256),
        .subject = or_empty(info->subject),
        .issuer = or_empty(info->issuer),
        .serial = or_empty(info->serial),
        .dns_names = join_names(info->dns_names, info->n_dns_names, arena),
        .not_before_ms = info->not_before_at_ms,
        .not_after_ms = info->not_after_at_ms,
        .key_type = or_empty(info->key_type),
        .signature_algorithm = or_empty(info->signature_algorithm),
        .is_ca = info->is_ca,
        .self_signed = info->self_signed,
    };
}

static int by_id(const void *a, const void *b)
{
    return strcmp(((const struct certificate *)a)->id, ((const struct certificate *)b)->id);
}

/* Sorted, each once. */
static size_t unique(struct certificate *rows, size_t n)
{
    size_t kept = 0;
    qsort(rows, n, sizeof(*rows), by_id);
    for (size_t i = 0; i < n; i++) {
        if (kept == 0 || strcmp(rows[kept - 1].id, rows[i].id) != 0)
            rows[kept++] = rows[i];
    }
    return kept;
}

enum code inventory_take(struct db *tx, const Clm__InventoryReported *in, int64_t seen_ms,
                         struct arena *arena, struct status *st)
{
    struct certificate *certificates = arena_array(arena, in->n_certificates + 1, sizeof(*certificates));
    struct certificate_place *places = arena_array(arena, in->n_certificates + 1, sizeof(*places));
    size_t n = 0;
    if (!in->agent_id || !uuid_valid(in->agent_id))
        return status_set(st, CODE_INVALID_ARGUMENT, "inventory.reported is not complete");
    for (size_t i = 0; i < in->n_certificates; i++) {
        const Clm__FoundCertificate *found = in->certificates[i];
        const char *place = found->path ? found->path : found->endpoint;
        if (!found->certificate || !found->certificate->fingerprint_sha256 || !place || !found->has_source)
            continue;
        read_certificate(found->certificate, arena, &certificates[n]);
        places[n] = (struct certificate_place){
            .certificate = certificates[n].id,
            .source = (enum place_source)found->source,
            .place = place,
            .server_name = found->server_name,
            .alias = found->alias,
            .used_by = found->used_by,
            .key_path = found->key_path,
            .process = found->process,
            .served = found->has_served && found->served,
        };
        n++;
    }
    const struct scan_page page = {
        .agent_id = in->agent_id,
        .seen_ms = seen_ms,
        .n_certificates = unique(certificates, n),
        .certificates = certificates,
        .places = places,
        .n_places = n,
        .supersedes = in->has_supersedes && in->supersedes,
        .replace = in->has_last && in->last && in->has_complete && in->complete,
        .files = in->has_files && in->files,
        .configurations = in->has_configurations && in->configurations,
        .listening = in->has_listening && in->listening,
        .roots = (const char *const *)in->roots,
        .n_roots = in->n_roots,
    };
    return inventory_apply(tx, &page, arena, st);
}

/* ---- operators ---- */

static Clm__CertificateInfo *info_of(const struct certificate *in, struct arena *arena)
{
    Clm__CertificateInfo *out = arena_alloc(arena, sizeof(*out));
    clm__certificate_info__init(out);
    out->subject = text(in->subject);
    out->issuer = text(in->issuer);
    out->serial = text(in->serial);
    out->has_not_before_at_ms = out->has_not_after_at_ms = true;
    out->not_before_at_ms = in->not_before_ms;
    out->not_after_at_ms = in->not_after_ms;
    out->fingerprint_sha256 = text(in->fingerprint);
    out->key_type = text(in->key_type);
    out->signature_algorithm = text(in->signature_algorithm);
    out->has_is_ca = out->has_self_signed = true;
    out->is_ca = in->is_ca;
    out->self_signed = in->self_signed;
    size_t room = 1;
    for (const char *c = in->dns_names; *c; c++)
        room += *c == '\n';
    out->dns_names = arena_array(arena, room, sizeof(char *));
    for (const char *at = in->dns_names; *at;) {
        size_t len = strcspn(at, "\n");
        out->dns_names[out->n_dns_names++] = arena_strndup(arena, at, len);
        at += len + (at[len] == '\n');
    }
    return out;
}

static Clm__CertificatePlace *place_of(const struct certificate_place *in, struct arena *arena)
{
    Clm__CertificatePlace *out = arena_alloc(arena, sizeof(*out));
    clm__certificate_place__init(out);
    out->agent_id = text(in->agent_id);
    out->hostname = text(in->hostname);
    out->has_source = out->has_served = out->has_first_seen_at_ms = out->has_last_seen_at_ms = true;
    out->source = (Clm__FoundCertificate__Source)in->source;
    out->place = text(in->place);
    out->server_name = text(in->server_name);
    out->alias = text(in->alias);
    out->used_by = text(in->used_by);
    out->key_path = text(in->key_path);
    out->process = text(in->process);
    out->served = in->served;
    out->first_seen_at_ms = in->first_seen_ms;
    out->last_seen_at_ms = in->last_seen_ms;
    return out;
}

/* places are in the certificates' order: *at moves on. */
static Clm__CertificateView *view_of(const struct certificate *in, const struct certificate_place *places,
                                     size_t n_places, size_t *at, struct arena *arena)
{
    Clm__CertificateView *out = arena_alloc(arena, sizeof(*out));
    clm__certificate_view__init(out);
    out->certificate = info_of(in, arena);
    out->has_place_count = out->has_agent_count = out->has_served = true;
    out->place_count = (uint32_t)in->n_places;
    out->agent_count = (uint32_t)in->n_agents;
    out->served = in->served;
    out->places = arena_array(arena, PLACES_SHOWN, sizeof(*out->places));
    for (; *at < n_places && strcmp(places[*at].certificate, in->id) == 0; (*at)++) {
        if (out->n_places < PLACES_SHOWN)
            out->places[out->n_places++] = place_of(&places[*at], arena);
    }
    return out;
}

/* "<end in ms>.<id>" */
static bool read_token(const char *token, struct certificate_filter *filter)
{
    char *end;
    if (!token || !*token)
        return true;
    filter->after_ms = strtoll(token, &end, 10);
    filter->after_id = end + 1;
    return end != token && *end == '.' && filter->after_ms >= 0 && strlen(end + 1) == 64 &&
           strspn(end + 1, "0123456789abcdef") == 64;
}

static const char *or_null(const char *s)
{
    return s && *s ? s : NULL;
}

enum code on_list_certificates(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__ListCertificatesRequest *req = request;
    Clm__ListCertificatesResponse *res = response;
    size_t size = req->has_page_size && req->page_size > 0 ? req->page_size : PAGE_DEFAULT;
    struct certificate_filter filter = {
        .selector = ctx->actor.label_selector,
        .agent_id = or_null(req->agent_id),
        .fingerprint = or_null(req->fingerprint_sha256),
        .issuer = or_null(req->issuer),
        .key_type = or_null(req->key_type),
        .name = or_null(req->name),
        .expires_before_ms = req->has_expires_before_at_ms ? req->expires_before_at_ms : -1,
        .served = req->has_served ? req->served : -1,
        .after_ms = -1,
    };
    if (size > PAGE_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, "pageSize: at most %d", PAGE_MAX);
    if (!read_token(req->page_token, &filter))
        return status_set(st, CODE_INVALID_ARGUMENT, "pageToken: not one that a list gave");
    struct certificate *rows;
    struct certificate_place *places = NULL;
    size_t n, n_places, at = 0, bytes = 0;
    struct worker *worker = ctx->worker;
    TRY(certificates_list(worker->db, &filter, size + 1, ctx->arena, &rows, &n, &places, &n_places, st));
    res->certificates = arena_array(ctx->arena, n + 1, sizeof(*res->certificates));
    for (; res->n_certificates < n && res->n_certificates < size; res->n_certificates++) {
        Clm__CertificateView *view = view_of(&rows[res->n_certificates], places, n_places, &at, ctx->arena);
        bytes += clm__certificate_view__get_packed_size(view);
        if (res->n_certificates > 0 && bytes > PAGE_BYTES_MAX)
            break;
        res->certificates[res->n_certificates] = view;
    }
    if (res->n_certificates < n) {
        const struct certificate *last = &rows[res->n_certificates - 1];
        res->next_page_token = arena_printf(ctx->arena, "%lld.%s", (long long)last->not_after_ms, last->id);
    }
    return CODE_OK;
}
