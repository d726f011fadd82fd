/*
 * A kubernetes.io/tls Secret, through the API server with the pod's service account. Its content, as the rest
 * of the agent knows it, is the canonical text of its data: {"tls.crt":"…","tls.key":"…"}. What is staged
 * lies among the agent's backups. A change names the resourceVersion that it is made from, so the API server
 * itself refuses it when somebody else was faster. https://kubernetes.io/docs/reference/kubernetes-api/
 */
#include <poll.h>
#include <string.h>

#include "base/clock.h"
#include "base/endpoint.h"
#include "base/file.h"
#include "stores/api.h"
#include "stores/box.h"
#include "stores/place.h"
#include "stores/store.h"
#include "wire/wire.h"

#define CALL_MS       5000
#define PATIENCE_MS   30000 /* for a server that is away or busy */
#define PAUSE_MS      250
#define PAUSE_MAX_MS  5000
#define CONFLICTS_MAX 5
#define TOKEN_MAX     (16 * 1024)
#define CA_MAX        (256 * 1024)
#define TLS_TYPE      "kubernetes.io/tls"

static struct secret *print(const char *fmt, ...) PRINTF(1, 2);
static struct secret *print(const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int len = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    struct secret *text = secret_new(len > 0 ? (size_t)len : 0);
    (void)vsnprintf((char *)text->data, text->len + 1, fmt, again);
    va_end(again);
    return text;
}

static const char *text_of(const struct secret *secret)
{
    return secret ? (const char *)secret->data : "";
}

/* --- calls -----------------------------------------------------------------------------------------------
 */

static enum code call_once(const struct policy_target *target, const struct api_call *shape,
                           struct api_answer *ret, struct status *st)
{
    struct endpoint at;
    AUTO_BUF struct buf ca = {.limit = CA_MAX}, token = {.limit = TOKEN_MAX};
    struct api_call call = *shape;
    /* Each time anew: the kubelet replaces the token every hour. */
    TRY(endpoint_split(target->api_server, &at, st));
    TRY(file_read(target->ca_file, CA_MAX, &ca, st));
    TRY(file_read(target->token_file, TOKEN_MAX, &token, st));
    while (token.len > 0 && token.data[token.len - 1] <= ' ')
        token.len--;
    AUTO_SECRET struct secret *bearer = secret_dup(token.data, token.len);
    explicit_bzero(token.data, token.cap);
    if (token.len == 0 || strpbrk(text_of(bearer), "\r\n"))
        return status_set(st, CODE_FAILED_PRECONDITION, "%.150s holds no token", target->token_file);
    call.host = at.host;
    call.port = at.port;
    call.ca = (struct bytes){ca.data, ca.len};
    call.token = bearer;
    call.timeout_ms = CALL_MS;
    return api_run(&call, ret, st);
}

static bool worth_another_try(enum code code, int status)
{
    if (code != CODE_OK)
        return code == CODE_UNAVAILABLE || code == CODE_DEADLINE_EXCEEDED;
    return status == 429 || status == 500 || status == 502 || status == 503 || status == 504;
}

static void pause_before_retry(int64_t asked_ms, unsigned tries)
{
    int64_t ms = asked_ms > 0 ? asked_ms : (int64_t)PAUSE_MS << (tries < 5 ? tries : 5);
    (void)poll(NULL, 0, (int)(ms < PAUSE_MAX_MS ? ms : PAUSE_MAX_MS));
}

/* Until the server gives an answer that is one. Every call that is made here may be made twice. */
static enum code call_api(const struct place_at *at, const struct api_call *shape, struct api_answer *ret,
                          struct status *st)
{
    const struct policy_target *target = at->target;
    int64_t end_ms = clock_mono_ms() + (at->once ? 0 : PATIENCE_MS);
    for (unsigned tries = 0;; tries++) {
        enum code code = call_once(target, shape, ret, st);
        if (!worth_another_try(code, ret->status))
            return code;
        if (clock_mono_ms() >= end_ms) {
            if (code == CODE_OK)
                status_set(st, CODE_UNAVAILABLE, "the API server %.80s answers %d", target->api_server,
                           ret->status);
            api_answer_done(ret);
            return st->code;
        }
        pause_before_retry(ret->retry_after_ms, tries);
        api_answer_done(ret);
    }
}

/* What the server says of itself is quoted: it has passed its certificate's check. */
struct reading {
    struct bytes body;
    struct box *box;
};

static void read_message(void *arg, struct arena *arena, Clm__Agent__Facts *facts)
{
    const struct reading *reading = arg;
    struct json_pick picks[] = {{.path = {"message"}}};
    struct status st;
    if (json_pick_texts((const char *)reading->body.data, reading->body.len, picks, 1, arena, &st) ==
            CODE_OK &&
        picks[0].text)
        facts->version = arena_strndup(arena, picks[0].text, strnlen(picks[0].text, 120));
}

static enum code refused(const struct policy_target *target, const char *verb,
                         const struct api_answer *answer, struct status *st)
{
    switch (answer->status) {
    case 401:
        return status_set(
            st, CODE_FAILED_PRECONDITION,
            "the API server does not accept the token in %.120s: is it of this cluster's service account?",
            target->token_file);
    case 403:
        return status_set(
            st, CODE_PERMISSION_DENIED,
            "the service account may not %s the secret %.100s: give it a Role with get and patch on it", verb,
            target->secret);
    case 404:
        return status_set(st, CODE_NOT_FOUND, "there is no secret %.100s, or no namespace of that name",
                          target->secret);
    default:
        break;
    }
    AUTO_ARENA struct arena *arena = arena_new();
    const Clm__Agent__Facts *facts = NULL;
    struct reading reading = {
        {answer->body ? answer->body->data : NULL, answer->body ? answer->body->len : 0}, NULL};
    const char *why =
        answer->body && confine_run(read_message, &reading, arena, &facts, NULL) == CODE_OK && facts->version
            ? facts->version
            : "no reason given";
    return status_set(st, CODE_FAILED_PRECONDITION, "the API server refuses to %s the secret %.80s (%d): %s",
                      verb, target->secret, answer->status, why);
}

/* "namespace/name", as the local policy was checked to have it. */
static void secret_path(const struct policy_target *target, bool collection, char *out, size_t out_size)
{
    const char *slash = strchr(target->secret, '/');
    (void)snprintf(out, out_size, "/api/v1/namespaces/%.*s/secrets%s", (int)(slash - target->secret),
                   target->secret, collection ? "" : slash);
}

/* --- reading ---------------------------------------------------------------------------------------------
 */

static bool canonical(struct buf *out, const char *crt, const char *key, struct arena *arena)
{
    const struct {
        const char *name, *text;
    } members[] = {{"{\"tls.crt\":\"", crt}, {"\",\"tls.key\":\"", key}};
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        uint8_t *bytes = NULL;
        size_t len = 0;
        if (!base64_get(members[i].text ? members[i].text : "", arena, &bytes, &len) ||
            !buf_puts(out, members[i].name) || !base64_put(out, bytes, len))
            return false;
    }
    return buf_puts(out, "\"}");
}

static enum code read_secret(const struct reading *reading, struct arena *arena, Clm__Agent__Facts *facts,
                             struct status *st)
{
    struct json_pick picks[] = {{.path = {"metadata", "resourceVersion"}},
                                {.path = {"type"}},
                                {.path = {"data", "tls.crt"}},
                                {.path = {"data", "tls.key"}}};
    AUTO_BUF struct buf text = {.limit = STORE_FILE_MAX};
    TRY(json_pick_texts((const char *)reading->body.data, reading->body.len, picks, ARRAY_LEN(picks), arena,
                        st));
    const char *version = picks[0].text, *type = picks[1].text;
    if (!version || strlen(version) > 64 || version[strspn(version, "0123456789abcdefghijklmnopqrstuvwxyz-")])
        return status_set(st, CODE_INVALID_ARGUMENT, "the API server's answer has no resourceVersion");
    if (!type || strcmp(type, TLS_TYPE) != 0)
        return status_set(st, CODE_FAILED_PRECONDITION, "it is a secret of the type %.60s and not " TLS_TYPE,
                          type ? type : "Opaque");
    if (!canonical(&text, picks[2].text, picks[3].text, arena))
        return status_set(st, CODE_INVALID_ARGUMENT, "its data is not base64, or too large");
    facts->version = version[0] ? arena_strdup(arena, version) : NULL;
    return box_put(reading->box, text.data, text.len, st);
}

static void read_in_child(void *arg, struct arena *arena, Clm__Agent__Facts *facts)
{
    struct status st;
    enum code code = read_secret(arg, arena, facts, &st);
    if (code != CODE_OK)
        confine_fail(facts, arena, code, "%s", st.msg);
}

/* *ret NULL: there is none. */
static enum code get(const struct place_at *at, struct secret **ret, char version[65], struct status *st)
{
    const struct policy_target *target = at->target;
    char path[600];
    CLEANUP(api_answer_done) struct api_answer answer = {0};
    *ret = NULL;
    version[0] = 0;
    secret_path(target, false, path, sizeof(path));
    TRY(call_api(at, &(struct api_call){.method = "GET", .path = path}, &answer, st));
    if (answer.status == 404)
        return CODE_OK;
    if (answer.status != 200 || !answer.body)
        return refused(target, "get", &answer, st);
    AUTO_ARENA struct arena *arena = arena_new();
    AUTO_BOX struct box *box = box_new();
    const Clm__Agent__Facts *facts;
    struct reading reading = {{answer.body->data, answer.body->len}, box};
    if (confine_run(read_in_child, &reading, arena, &facts, st) != CODE_OK)
        return status_wrap(st, "the secret %.100s", target->secret);
    *ret = box_take(box);
    (void)snprintf(version, 65, "%s", facts->version ? facts->version : "");
    if (!*ret || !version[0])
        return status_set(st, CODE_INTERNAL, "the secret %.100s could not be read", target->secret);
    return CODE_OK;
}

static enum code kubernetes_read(const struct place_at *at, const char *path UNUSED, struct secret **ret,
                                 struct store_meta *meta, struct status *st)
{
    char version[65];
    TRY(get(at, ret, version, st));
    if (meta)
        *meta = (struct store_meta){.exists = *ret != NULL, .mode = 0600};
    return CODE_OK;
}

/* --- changing --------------------------------------------------------------------------------------------
 */

static enum code kubernetes_stage(const struct place_at *at, const char *path UNUSED, const char *staged,
                                  struct bytes content, const struct store_meta *meta UNUSED,
                                  struct status *st)
{
    AUTO_SECRET struct secret *copy = secret_dup(content.data, content.len);
    return store_backup(at->state_dir, staged, copy, st);
}

static enum code kubernetes_read_staged(const struct place_at *at, const char *path UNUSED,
                                        const char *staged, struct secret **ret, struct status *st)
{
    struct status why;
    *ret = NULL;
    enum code code = store_read_backup(at->state_dir, staged, ret, &why);
    return code == CODE_OK || code == CODE_NOT_FOUND ? CODE_OK : status_set(st, code, "%s", why.msg);
}

static void digest_of(const struct secret *content, char out[SHA256_HEX_SIZE])
{
    out[0] = 0;
    if (content)
        sha256_hex((struct bytes){content->data, content->len}, out);
}

/* A merge patch (RFC 7386) leaves labels, annotations and other data as they are. version "": a new one. */
static enum code put(const struct place_at *at, const struct secret *content, const char *version,
                     struct api_answer *answer, struct status *st)
{
    const struct policy_target *target = at->target;
    char path[600];
    bool is_new = !version[0];
    const char *name = strchr(target->secret, '/') + 1;
    AUTO_SECRET struct secret *body =
        is_new ? print("{\"apiVersion\":\"v1\",\"kind\":\"Secret\",\"metadata\":{\"name\":\"%s\"},\"type\":"
                       "\"" TLS_TYPE "\",\"data\":%s}",
                       name, text_of(content))
               : print("{\"metadata\":{\"resourceVersion\":\"%s\"},\"data\":%s}", version, text_of(content));
    secret_path(target, is_new, path, sizeof(path));
    struct api_call call = {.method = is_new ? "POST" : "PATCH",
                            .path = path,
                            .content_type = is_new ? "application/json" : "application/merge-patch+json",
                            .body = body};
    return call_api(at, &call, answer, st);
}

enum change { CHANGE_DONE, CHANGE_AGAIN };

/* One try, from what is there now. A conflict may be about a label, or be our own change whose answer was
 * lost: look again. */
static enum code change_once(const struct place_at *at, const struct store_move *move,
                             const struct secret *fresh, enum change *ret, struct status *st)
{
    const struct policy_target *target = at->target;
    AUTO_SECRET struct secret *now = NULL;
    CLEANUP(api_answer_done) struct api_answer answer = {0};
    char version[65], now_sha[SHA256_HEX_SIZE], fresh_sha[SHA256_HEX_SIZE];
    TRY(get(at, &now, version, st));
    digest_of(now, now_sha);
    digest_of(fresh, fresh_sha);
    *ret = CHANGE_DONE;
    if (strcmp(now_sha, fresh_sha) == 0)
        return CODE_OK;
    if (strcmp(now_sha, move->old_sha) != 0)
        return status_set(st, CODE_ABORTED, "the secret %.100s was changed by somebody else meanwhile",
                          target->secret);
    TRY(put(at, fresh, version, &answer, st));
    if (answer.status == 200 || answer.status == 201)
        return CODE_OK;
    if (answer.status != 409 && !(answer.status == 404 && version[0]))
        return refused(target, version[0] ? "patch" : "create", &answer, st);
    *ret = CHANGE_AGAIN;
    return CODE_OK;
}

static enum code kubernetes_swap(const struct place_at *at, const struct store_move *moves, size_t n UNUSED,
                                 struct status *st)
{
    AUTO_SECRET struct secret *fresh = NULL;
    enum change change = CHANGE_AGAIN;
    TRY(store_read_backup(at->state_dir, moves->staged, &fresh, st));
    for (unsigned tries = 0; change == CHANGE_AGAIN; tries++) {
        if (tries == CONFLICTS_MAX)
            return status_set(st, CODE_ABORTED,
                              "the secret %.100s is being changed by somebody else all the time",
                              at->target->secret);
        if (tries > 0)
            pause_before_retry(0, tries - 1);
        TRY(change_once(at, moves, fresh, &change, st));
    }
    (void)!store_remove_backup(at->state_dir, moves->staged, NULL);
    return CODE_OK;
}

static enum code kubernetes_remove(const struct place_at *at, const char *path UNUSED, const char *staged,
                                   struct status *st)
{
    char api_path[600], version[65];
    AUTO_SECRET struct secret *now = NULL;
    CLEANUP(api_answer_done) struct api_answer answer = {0};
    if (staged)
        return store_remove_backup(at->state_dir, staged, st);
    TRY(get(at, &now, version, st));
    if (!now)
        return CODE_OK;
    AUTO_SECRET struct secret *body =
        print("{\"apiVersion\":\"v1\",\"kind\":\"DeleteOptions\",\"preconditions\":"
              "{\"resourceVersion\":\"%s\"}}",
              version);
    secret_path(at->target, false, api_path, sizeof(api_path));
    TRY(call_api(at,
                 &(struct api_call){
                     .method = "DELETE", .path = api_path, .content_type = "application/json", .body = body},
                 &answer, st));
    if (answer.status == 200 || answer.status == 202 || answer.status == 404)
        return CODE_OK;
    return refused(at->target, "delete", &answer, st);
}

const struct place kubernetes_place = {
    .name = "kubernetes",
    .read = kubernetes_read,
    .read_staged = kubernetes_read_staged,
    .stage = kubernetes_stage,
    .swap = kubernetes_swap,
    .remove = kubernetes_remove,
};

/* --- content, in the confined child ----------------------------------------------------------------------
 */

static enum code open_kubernetes(const struct store_in *in, struct store_found *ret, struct status *st)
{
    struct json_pick picks[] = {{.path = {"tls.crt"}}, {.path = {"tls.key"}}};
    AUTO_ARENA struct arena *arena = arena_new();
    uint8_t *crt = NULL, *key = NULL;
    size_t crt_len = 0, key_len = 0;
    TRY(json_pick_texts((const char *)in->content.data, in->content.len, picks, 2, arena, st));
    if (!picks[0].text || !picks[1].text || !base64_get(picks[0].text, arena, &crt, &crt_len) ||
        !base64_get(picks[1].text, arena, &key, &key_len))
        return status_set(st, CODE_INVALID_ARGUMENT, "it has no tls.crt and tls.key");
    TRY(pem_to_certs((struct bytes){crt, crt_len}, &ret->chain, st));
    AUTO_SECRET struct secret *encoded = secret_dup(key, key_len);
    if (key_parse(encoded, NULL, &ret->key, NULL) != CODE_OK)
        ret->key = NULL; /* that there is no key to be had is for who needs one */
    return CODE_OK;
}

static enum code make_kubernetes(const struct store_parts *parts, struct secret **ret, struct status *st)
{
    AUTO_KEY struct key *key = NULL;
    AUTO_SECRET struct secret *pem = NULL, *crt = NULL;
    AUTO_BUF struct buf text = {.limit = STORE_FILE_MAX};
    const struct store_parts public = {.leaf_pem = parts->leaf_pem,
                                       .intermediates_pem = parts->intermediates_pem};
    TRY(key_parse(parts->key, NULL, &key, st));
    TRY(key_to_pem(key, NULL, &pem, st));
    TRY(pem_store.make(&public, &crt, st));
    if (!buf_puts(&text, "{\"tls.crt\":\"") || !base64_put(&text, crt->data, crt->len) ||
        !buf_puts(&text, "\",\"tls.key\":\"") || !base64_put(&text, pem->data, pem->len) ||
        !buf_puts(&text, "\"}"))
        return status_set(st, CODE_RESOURCE_EXHAUSTED, "the secret would be larger than %d bytes",
                          STORE_FILE_MAX);
    *ret = secret_dup(text.data, text.len);
    return CODE_OK;
}

const struct store kubernetes_store = {
    .name = "kubernetes", .open = open_kubernetes, .make = make_kubernetes};
