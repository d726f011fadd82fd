/*
 * Secrets as JSON. Key material passes through locked memory only; the requests need no escaping, because
 * their strings are checked names and base64. What is read of a Secret are certificates.
 */
#include "publish.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "api_server.h"
#include "base/file.h"
#include "base/id.h"
#include "wire/wire.h"

#define FILE_MAX       (64 * 1024)
#define DEPTH_MAX      4
#define NAME_MAX_BYTES 253
#define PASSWORD_BYTES 32
#define PASSWORD_TEXT  (2 * PASSWORD_BYTES)

struct body { /* a JSON object that grows in locked memory */
    struct secret *text;
    size_t len;
    bool first;
};

static void body_end(struct body *body)
{
    secret_free(body->text);
}

static enum code body_append(struct body *body, const char *text, size_t len, struct status *st)
{
    if (len >= body->text->len - body->len)
        return status_set(st, CODE_RESOURCE_EXHAUSTED, "more than a Secret holds (%d bytes)",
                          SECRET_BYTES_MAX);
    memcpy(body->text->data + body->len, text, len);
    body->len += len;
    return CODE_OK;
}

static enum code body_puts(struct body *body, const char *text, struct status *st)
{
    return body_append(body, text, strlen(text), st);
}

static enum code body_begin(struct body *body, const struct publish_to *to, struct status *st)
{
    const char *secret = to->secret;
    char head[NAME_MAX_BYTES + 256];

    if (!api_name_valid(secret, false))
        return status_set(st, CODE_INVALID_ARGUMENT, "\"%.100s\" is no name for a Secret", secret);
    body->text = secret_new(SECRET_BYTES_MAX);
    body->first = true;
    (void)snprintf(
        head, sizeof(head),
        "{\"apiVersion\":\"v1\",\"kind\":\"Secret\",\"type\":\"Opaque\",\"immutable\":%s,"
        "\"metadata\":{\"name\":\"%s\",\"labels\":{\"app.kubernetes.io/part-of\":\"ssl-clm-agents\"}},"
        "\"data\":{",
        to->renewed ? "false" : "true", secret);
    return body_puts(body, head, st);
}

static enum code body_add(struct body *body, const char *key, const void *data, size_t len, struct status *st)
{
    if (!api_name_valid(key, true))
        return status_set(st, CODE_INVALID_ARGUMENT, "\"%.100s\" cannot be a key of a Secret", key);
    TRY(body_puts(body, body->first ? "\"" : ",\"", st));
    TRY(body_puts(body, key, st));
    TRY(body_puts(body, "\":\"", st));
    if (4 * ((len + 2) / 3) + 1 >= body->text->len - body->len)
        return status_set(st, CODE_RESOURCE_EXHAUSTED, "more than a Secret holds (%d bytes)",
                          SECRET_BYTES_MAX);
    body->len += (size_t)EVP_EncodeBlock(body->text->data + body->len, data, (int)len);
    body->first = false;
    return body_puts(body, "\"", st);
}

/* ---- files ------------------------------------------------------------------------------------------------
 */

static enum code add_tree(struct body *body, const char *dir, const char *prefix, unsigned depth,
                          struct status *st);

static enum code add_entry(struct body *body, const char *dir, const char *prefix, const char *name,
                           unsigned depth, struct status *st)
{
    char path[PATH_MAX], key[NAME_MAX_BYTES + 1], below[NAME_MAX_BYTES + 2];
    struct stat info;

    if ((size_t)snprintf(path, sizeof(path), "%s/%s", dir, name) >= sizeof(path) ||
        (size_t)snprintf(key, sizeof(key), "%s%s", prefix, name) >= sizeof(key))
        return status_set(st, CODE_INVALID_ARGUMENT, "the path %.100s/%.100s is too long", dir, name);
    if (lstat(path, &info) != 0)
        return status_errno(st, CODE_INTERNAL, errno, "cannot look at %s", path);
    if (S_ISDIR(info.st_mode)) {
        (void)snprintf(below, sizeof(below), "%s.", key);
        return add_tree(body, path, below, depth + 1, st);
    }
    if (!S_ISREG(info.st_mode))
        return status_set(st, CODE_INVALID_ARGUMENT, "%s is not a regular file", path);
    if (info.st_mode & 077) { /* not secret: a certificate */
        AUTO_BUF struct buf open_text = {0};
        TRY(file_read(path, FILE_MAX, &open_text, st));
        return body_add(body, key, open_text.data, open_text.len, st);
    }
    AUTO_SECRET struct secret *text = NULL;
    TRY(secret_read_file(path, FILE_MAX, false, &text, st));
    return body_add(body, key, text->data, text->len, st);
}

static enum code add_tree(struct body *body, const char *dir, const char *prefix, unsigned depth,
                          struct status *st)
{
    if (depth > DEPTH_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, "%s is too deep", dir);
    DIR *entries = opendir(dir);
    if (!entries)
        return status_errno(st, CODE_NOT_FOUND, errno, "cannot read %s", dir);
    enum code code = CODE_OK;
    for (const struct dirent *entry; code == CODE_OK && (entry = readdir(entries));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            code = add_entry(body, dir, prefix, entry->d_name, depth, st);
    (void)closedir(entries);
    return code;
}

/* ---- the API server ---------------------------------------------------------------------------------------
 */

/* What the server says of it, where it says something: it has passed its certificate's check. */
static enum code unexpected(long http_status, const struct secret *answer, const char *name,
                            struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    struct json_pick picks[] = {{.path = {"message"}}};
    struct status ignored;
    const char *why = (const char *)answer->data;

    if (json_pick_texts(why, answer->len, picks, 1, arena, &ignored) == CODE_OK && picks[0].text)
        why = picks[0].text;
    enum code code = http_status >= 500 || http_status == 429 ? CODE_UNAVAILABLE
                     : http_status == 422                     ? CODE_FAILED_PRECONDITION
                                                              : CODE_INTERNAL;
    return status_set(st, code, "the API server answered %ld for the Secret %s: %.120s", http_status, name,
                      why);
}

static enum code denied(long http_status, const char *name, const char *verbs, struct status *st)
{
    return status_set(
        st, CODE_PERMISSION_DENIED,
        "the service account may not do that to the Secret %s: give it %s on secrets (HTTP %ld)", name, verbs,
        http_status);
}

static enum code post(const struct publish_to *to, struct body *body, struct status *st)
{
    AUTO_SECRET struct secret *answer = NULL;
    long http_status = 0;

    TRY(body_puts(body, "}}", st));
    const struct api_call call = {.service_account = to->service_account,
                                  .method = "POST",
                                  .content_type = "application/json",
                                  .body = body->text,
                                  .body_len = body->len};
    TRY(api_run(&call, &http_status, &answer, st));
    if (http_status == 201)
        return CODE_OK;
    if (http_status == 409)
        return status_set(st, CODE_ALREADY_EXISTS, "the Secret %s is there already", to->secret);
    if (http_status == 401 || http_status == 403)
        return denied(http_status, to->secret, "\"create\"", st);
    return unexpected(http_status, answer, to->secret, st);
}

static bool version_valid(const char *text)
{
    size_t len = text ? strlen(text) : 0;
    return len > 0 && len < SECRET_VERSION_SIZE &&
           strspn(text, "0123456789abcdefghijklmnopqrstuvwxyz-") == len;
}

/* The texts of the keys, decoded; NULL: there is none, or it is no base64. */
static enum code read_texts(const struct secret *answer, struct arena *arena, struct published *ret,
                            struct status *st)
{
    struct json_pick picks[] = {{.path = {"metadata", "resourceVersion"}},
                                {.path = {"data", "roots.pem"}},
                                {.path = {"data", "gateway.tls.crt"}},
                                {.path = {"data", "bus.server.crt"}}};
    struct bytes *const texts[] = {&ret->roots, &ret->gateway_tls, &ret->bus};

    TRY(json_pick_texts((const char *)answer->data, answer->len, picks, ARRAY_LEN(picks), arena, st));
    if (!version_valid(picks[0].text))
        return status_set(st, CODE_INVALID_ARGUMENT, "no resourceVersion");
    (void)snprintf(ret->version, sizeof(ret->version), "%s", picks[0].text);
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        uint8_t *data = NULL;
        size_t len = 0;
        const char *encoded = picks[i + 1].text;
        if (encoded && base64_get(encoded, arena, &data, &len))
            *texts[i] = (struct bytes){data, len};
    }
    return CODE_OK;
}

enum code publish_read(const struct publish_to *to, struct arena *arena, struct published *ret,
                       struct status *st)
{
    AUTO_SECRET struct secret *answer = NULL;
    long http_status = 0;
    const struct api_call call = {
        .service_account = to->service_account, .method = "GET", .secret = to->secret};

    *ret = (struct published){0};
    if (!api_name_valid(to->secret, false))
        return status_set(st, CODE_INVALID_ARGUMENT, "\"%.100s\" is no name for a Secret", to->secret);
    TRY(api_run(&call, &http_status, &answer, st));
    if (http_status == 404)
        return status_set(st, CODE_NOT_FOUND, "there is no Secret %s: clm-bootstrap init makes it",
                          to->secret);
    if (http_status == 401 || http_status == 403)
        return denied(http_status, to->secret, "\"get\" and \"patch\"", st);
    if (http_status != 200)
        return unexpected(http_status, answer, to->secret, st);
    if (read_texts(answer, arena, ret, st) != CODE_OK)
        return status_wrap(st, "what the API server answered for the Secret %s", to->secret);
    return CODE_OK;
}

static enum code fill_patch(struct body *body, const char *version, const struct pairs *pairs,
                            struct status *st)
{
    char head[SECRET_VERSION_SIZE + 64], key[128];

    (void)snprintf(head, sizeof(head), "{\"metadata\":{\"resourceVersion\":\"%s\"},\"data\":{", version);
    body->text = secret_new(SECRET_BYTES_MAX);
    body->first = true;
    TRY(body_puts(body, head, st));
    for (size_t i = 0; i < pairs->n; i++) {
        const struct pair *pair = &pairs->item[i];
        (void)snprintf(key, sizeof(key), "%s.%s", pair->directory, pair->key);
        TRY(body_add(body, key, pair->key_pem->data, pair->key_pem->len, st));
        (void)snprintf(key, sizeof(key), "%s.%s", pair->directory, pair->certs);
        TRY(body_add(body, key, pair->certs_pem.data, pair->certs_pem.len, st));
    }
    return body_puts(body, "}}", st);
}

/* RFC 7396: what is not named stays. */
enum code publish_pairs(const struct publish_to *to, const char *version, const struct pairs *pairs,
                        struct status *st)
{
    CLEANUP(body_end) struct body body = {0};
    AUTO_SECRET struct secret *answer = NULL;
    long http_status = 0;

    TRY(fill_patch(&body, version, pairs, st));
    const struct api_call call = {.service_account = to->service_account,
                                  .method = "PATCH",
                                  .secret = to->secret,
                                  .content_type = "application/merge-patch+json",
                                  .body = body.text,
                                  .body_len = body.len};
    TRY(api_run(&call, &http_status, &answer, st));
    if (http_status == 200)
        return CODE_OK;
    if (http_status == 409)
        return status_set(st, CODE_ABORTED, "the Secret %s was changed meanwhile", to->secret);
    if (http_status == 401 || http_status == 403)
        return denied(http_status, to->secret, "\"get\" and \"patch\"", st);
    return unexpected(http_status, answer, to->secret, st);
}

enum code publish_directory(const struct publish_to *to, const char *dir, struct status *st)
{
    CLEANUP(body_end) struct body body = {0};
    TRY(body_begin(&body, to, st));
    TRY(add_tree(&body, dir, "", 0, st));
    return post(to, &body, st);
}

enum code publish_passwords(const struct publish_to *to, const char *const *names, struct status *st)
{
    CLEANUP(body_end) struct body body = {0};
    TRY(body_begin(&body, to, st));
    for (; *names; names++) {
        uint8_t raw[PASSWORD_BYTES];
        AUTO_SECRET struct secret *text = secret_new(PASSWORD_TEXT);
        random_bytes(raw, sizeof(raw));
        size_t len = base64url_encode(raw, sizeof(raw), (char *)text->data, PASSWORD_TEXT);
        explicit_bzero(raw, sizeof(raw));
        TRY(body_add(&body, *names, text->data, len, st));
    }
    return post(to, &body, st);
}
