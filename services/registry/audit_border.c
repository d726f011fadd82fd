/*
 * Border of the audit log: a record becomes a leaf (proto/audit.proto), an event becomes a record, a head is
 * signed (CMS, by the registry's service key) and shown to witnesses outside. Handlers run on consumers'
 * threads, head_work on the periodic thread of the one replica that holds its lock.
 */
#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "audit.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/id.h"
#include "base/log.h"
#include "border.h"
#include "pki/cms.h"
#include "proto/audit.pb-c.h"
#include "proto/event.pb-c.h"
#include "wire/wire.h"

#define WITNESS_BATCH   100
#define WEBHOOK_BATCH   5
#define WEBHOOK_WAIT_MS 10000L
#define WEBHOOK_TRIES   60

static char *text_or_none(const char *s)
{
    return s && *s ? text(s) : NULL;
}

void audit_record_encode(const struct audit_record *record, struct arena *arena, struct bytes *ret)
{
    char trace_id[TRACE_ID_SIZE] = "";
    Clm__AuditRecord out = CLM__AUDIT_RECORD__INIT;
    out.event_id = text(record->event_id);
    out.action = text(record->action);
    out.origin = text_or_none(record->origin);
    out.entity_id = text_or_none(record->entity_id);
    out.agent_id = text_or_none(record->agent_id);
    out.actor = text_or_none(record->actor);
    out.has_occurred_at_ms = true;
    out.occurred_at_ms = record->occurred_at_ms;
    out.source = text_or_none(record->source);
    out.outcome = text_or_none(record->outcome);
    out.detail = text_or_none(record->detail);
    if (record->traceparent && traceparent_trace_id(record->traceparent, trace_id))
        out.trace_id = trace_id;
    out.has_receipt_sha256 = record->receipt_sha256.len > 0;
    out.receipt_sha256 =
        (ProtobufCBinaryData){record->receipt_sha256.len, (uint8_t *)(uintptr_t)record->receipt_sha256.data};
    out.certificate_sha256 = text_or_none(record->certificate_sha256);
    out.n_former = record->n_former;
    out.former = arena_array(arena, record->n_former + 1, sizeof(*out.former));
    for (size_t i = 0; i < record->n_former; i++) {
        Clm__FormerTree *former = out.former[i] = arena_alloc(arena, sizeof(*former));
        clm__former_tree__init(former);
        former->tree_id = text(record->former[i].tree_id);
        former->has_tree_size = former->has_root_sha256 = true;
        former->tree_size = record->former[i].size;
        former->root_sha256 =
            (ProtobufCBinaryData){SHA256_SIZE, (uint8_t *)(uintptr_t)record->former[i].root.byte};
    }
    out.has_count = record->count > 0;
    out.count = record->count;
    wire_pack(&out.base, arena, &ret->data, &ret->len);
}

/* "tasks" of clm.event.tasks.task.finished */
static const char *origin_of(const char *subject, struct arena *arena)
{
    static const char prefix[] = "clm.event.";
    if (strncmp(subject, prefix, sizeof(prefix) - 1) != 0)
        return NULL;
    const char *start = subject + sizeof(prefix) - 1;
    return arena_strndup(arena, start, strcspn(start, "."));
}

static const char *enum_name(const ProtobufCEnumDescriptor *desc, int value)
{
    const ProtobufCEnumValue *row = protobuf_c_enum_descriptor_get_value(desc, value);
    return row ? row->name : NULL;
}

enum code audit_note_event(struct worker *worker, const Clm__Event *event, const char *action,
                           const char *agent_id, const char *detail, struct arena *arena, struct status *st)
{
    const Clm__TaskChanged *task = event->task;
    struct audit_record record = {
        .event_id = event->id,
        .action = action,
        .origin = origin_of(event->subject, arena),
        .entity_id = event->entity_id,
        .agent_id = agent_id,
        .actor = event->actor,
        .occurred_at_ms = event->has_occurred_at_ms ? event->occurred_at_ms : clock_wall_ms(),
        .source = event->source,
        .detail = detail,
        .traceparent = event->traceparent,
        .outcome = "OK",
    };
    if (task) {
        if (task->has_state)
            record.outcome = enum_name(&clm__task__state__descriptor, (int)task->state);
        if (task->has_receipt_sha256)
            record.receipt_sha256 = (struct bytes){task->receipt_sha256.data, task->receipt_sha256.len};
        record.certificate_sha256 = task->signer_sha256;
    }
    if (event->token) {
        record.source = event->token->source ? event->token->source : event->source;
        if (strcmp(action, "token.refused") == 0)
            record.outcome = "REFUSED";
    }
    if (event->identity_issued)
        record.certificate_sha256 = event->identity_issued->fingerprint_sha256;
    if (event->certificate_issued && event->certificate_issued->certificate)
        record.certificate_sha256 = event->certificate_issued->certificate->fingerprint_sha256;
    return audit_note(worker->db, &record, 1, arena, st);
}

/* ---- heads ---- */

struct bytes proof_bytes(const struct merkle_proof *proof)
{
    return (struct bytes){proof->hash[0].byte, proof->n * SHA256_SIZE};
}

static enum code sign(const struct service *service, const struct audit_next_head *next, int64_t now_ms,
                      struct der *ret, struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    Clm__AuditHead head = CLM__AUDIT_HEAD__INIT;
    head.tree_id = text(next->tree_id);
    head.has_tree_size = head.has_root_sha256 = head.has_made_at_ms = true;
    head.tree_size = next->size;
    head.root_sha256 = (ProtobufCBinaryData){SHA256_SIZE, (uint8_t *)(uintptr_t)next->root.byte};
    head.made_at_ms = now_ms;
    struct bytes content;
    wire_pack(&head.base, arena, &content.data, &content.len);
    AUTO_CREDENTIAL struct credential own = {0};
    AUTO_KEY struct key *key = NULL;
    service_own_credential(service, &own);
    TRY(key_parse(own.key, NULL, &key, st));
    struct der_list rest = credential_intermediates(&own);
    return cms_sign(CMS_CONTENT_HEAD, content, key, der_bytes(&own.chain.item[0]), &rest, ret, st);
}

void audit_head_fill(const struct audit_head *head, Clm__SignedAuditHead *ret, struct arena *arena)
{
    ret->has_head = ret->has_tree_size = ret->has_made_at_ms = ret->has_previous_size = true;
    ret->head = (ProtobufCBinaryData){head->head.len, (uint8_t *)(uintptr_t)head->head.data};
    ret->tree_size = head->size;
    ret->made_at_ms = head->made_at_ms;
    ret->previous_size = head->previous_size;
    ret->consistency = hashes_of(head->consistency, arena, &ret->n_consistency);
    ret->tree_id = text(head->tree_id);
    ret->has_origin = head->origin_leaf.len > 0;
    ret->origin = (ProtobufCBinaryData){head->origin_leaf.len, (uint8_t *)(uintptr_t)head->origin_leaf.data};
    ret->origin_inclusion = hashes_of(head->origin, arena, &ret->n_origin_inclusion);
}

ProtobufCBinaryData *hashes_of(struct bytes concatenated, struct arena *arena, size_t *ret_n)
{
    *ret_n = concatenated.len / SHA256_SIZE;
    ProtobufCBinaryData *out = arena_array(arena, *ret_n + 1, sizeof(*out));
    for (size_t i = 0; i < *ret_n; i++)
        out[i] = (ProtobufCBinaryData){SHA256_SIZE,
                                       arena_dup(arena, concatenated.data + i * SHA256_SIZE, SHA256_SIZE)};
    return out;
}

static enum code make_head(struct worker *worker, struct arena *arena, struct status *st)
{
    struct audit_next_head next;
    bool due;
    int64_t now_ms = clock_wall_ms();
    AUTO_DER struct der cms = {0};
    TRY(audit_drain(worker->db, st)); /* what was put down by now is covered */
    TRY(audit_head_next(worker->db, arena, &next, &due, st));
    if (due)
        TRY(platform_is_whole(worker, arena, &due, st));
    if (!due)
        return CODE_OK;
    TRY(sign(worker->service, &next, now_ms, &cms, st));
    const struct audit_head head = {
        .size = next.size,
        .previous_size = next.previous_size,
        .made_at_ms = now_ms,
        .head = der_bytes(&cms),
        .consistency = proof_bytes(&next.consistency),
        .origin = proof_bytes(&next.origin),
        .tree_id = next.tree_id,
    };
    return audit_head_store(worker->db, &head, arena, st);
}

/* ---- witnesses ---- */

static enum code head_line(const struct audit_head *head, struct arena *arena, struct buf *out,
                           struct status *st)
{
    Clm__SignedAuditHead message = CLM__SIGNED_AUDIT_HEAD__INIT;
    audit_head_fill(head, &message, arena);
    return json_write(&message.base, out, st);
}

/* Line by line and synced before a head counts as shown: after a crash one may stand there twice, none is
 * missing. */
static enum code witness_file(struct worker *worker, const char *path, struct arena *arena, struct status *st)
{
    struct audit_head *heads;
    size_t n;
    TRY(audit_heads_unwitnessed(worker->db, WITNESS_FILE, WITNESS_BATCH, arena, &heads, &n, st));
    if (n == 0)
        return CODE_OK;
    AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd < 0)
        return status_errno(st, CODE_FAILED_PRECONDITION, errno, "[audit] witness_file: cannot open %s",
                            path);
    for (size_t i = 0; i < n; i++) {
        AUTO_BUF struct buf line = {0};
        TRY(head_line(&heads[i], arena, &line, st));
        if (!buf_puts(&line, "\n"))
            return status_set(st, CODE_RESOURCE_EXHAUSTED, "a head is too large for a line");
        TRY(fd_write_all(fd, line.data, line.len, st));
    }
    if (fsync(fd) != 0)
        return status_errno(st, CODE_INTERNAL, errno, "%s", path);
    for (size_t i = 0; i < n; i++) {
        bool given_up;
        TRY(audit_head_witnessed(worker->db, WITNESS_FILE, &heads[i], true, 1, arena, &given_up, st));
    }
    return CODE_OK;
}

static size_t drop_answer(char *data, size_t size, size_t n, void *arg)
{
    (void)data;
    (void)arg;
    return size * n;
}

/* 2xx is yes; no redirects: the witness is who was configured. */
static bool post(const char *url, const struct buf *body, char why[CURL_ERROR_SIZE])
{
    CURL *curl = curl_easy_init();
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
    long status = 0;
    if (!curl || !headers)
        abort();
    why[0] = '\0';
    (void)curl_easy_setopt(curl, CURLOPT_URL, url);
    (void)curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    (void)curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
    (void)curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, WEBHOOK_WAIT_MS);
    (void)curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, (long)body->len);
    (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body->data);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, drop_answer);
    (void)curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, why);
    CURLcode code = curl_easy_perform(curl);
    (void)curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    if (code == CURLE_OK && (status < 200 || status > 299))
        (void)snprintf(why, CURL_ERROR_SIZE, "HTTP status %ld", status);
    curl_slist_free_all(headers);
    curl_easy_cleanup(curl);
    return code == CURLE_OK && status >= 200 && status <= 299;
}

/* A few a round, one try each; what fails comes again with the next round, at most WEBHOOK_TRIES times. */
static enum code witness_webhook(struct worker *worker, const char *url, struct arena *arena,
                                 struct status *st)
{
    struct audit_head *heads;
    size_t n;
    char why[CURL_ERROR_SIZE];
    TRY(audit_heads_unwitnessed(worker->db, WITNESS_WEBHOOK, WEBHOOK_BATCH, arena, &heads, &n, st));
    for (size_t i = 0; i < n; i++) {
        AUTO_BUF struct buf line = {0};
        bool given_up;
        TRY(head_line(&heads[i], arena, &line, st));
        bool done = post(url, &line, why);
        TRY(audit_head_witnessed(worker->db, WITNESS_WEBHOOK, &heads[i], done, WEBHOOK_TRIES, arena,
                                 &given_up, st));
        if (given_up)
            log_error("the audit witness never took a head: given up", "url", url, "size",
                      LOG_NUM((int64_t)heads[i].size), "why", why, NULL);
        if (!done)
            return status_set(st, CODE_UNAVAILABLE, "[audit] witness_webhook did not take a head: %.150s",
                              why);
    }
    return CODE_OK;
}

enum code audit_append_work(struct worker *worker, struct status *st)
{
    return audit_drain(worker->db, st);
}

enum code audit_head_work(struct worker *worker, struct status *st)
{
    const struct registry_config *config = service_get_config(worker->service);
    AUTO_ARENA struct arena *arena = arena_new();
    TRY(make_head(worker, arena, st));
    if (config->witness_file && *config->witness_file)
        TRY(witness_file(worker, config->witness_file, arena, st));
    if (config->witness_webhook && *config->witness_webhook)
        TRY(witness_webhook(worker, config->witness_webhook, arena, st));
    return CODE_OK;
}
