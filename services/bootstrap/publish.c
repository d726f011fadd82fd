/*
 * The only user of libcurl in clm-bootstrap, and only in one-shot commands: a server never speaks to
 * Kubernetes. Key material passes through locked memory only; the request's JSON needs no escaping, because
 * its strings are checked names and base64.
 */
#include "publish.h"

#include <curl/curl.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/id.h"
#include "base/secret.h"

#define SERVICE_ACCOUNT "/var/run/secrets/kubernetes.io/serviceaccount"
#define FILE_MAX        (64 * 1024)
#define BODY_MAX        (1536 * 1024) /* etcd takes 1.5 MiB */
#define ANSWER_MAX      4096
#define DEPTH_MAX       4
#define CONNECT_MAX_SEC 10L
#define CALL_MAX_SEC    30L
#define NAME_MAX_BYTES  253
#define PASSWORD_BYTES  32
#define PASSWORD_TEXT   (2 * PASSWORD_BYTES)

struct body { /* a JSON object that grows in locked memory */
    struct secret *text;
    size_t len;
    bool first;
};

static void body_end(struct body *body)
{
    secret_free(body->text);
}

/* RFC 1123 subdomain, or a key of a Secret, which may have capitals and '_' besides. */
static bool name_valid(const char *name, bool is_key)
{
    const char *allowed = is_key ? "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._"
                                 : "abcdefghijklmnopqrstuvwxyz0123456789-.";
    size_t n = strlen(name);
    return n > 0 && n <= NAME_MAX_BYTES && strspn(name, allowed) == n && name[0] != '.' && name[0] != '-';
}

static enum code body_append(struct body *body, const char *text, size_t len, struct status *st)
{
    if (len >= body->text->len - body->len)
        return status_set(st, CODE_RESOURCE_EXHAUSTED, "more than a Secret holds (%d bytes)", BODY_MAX);
    memcpy(body->text->data + body->len, text, len);
    body->len += len;
    return CODE_OK;
}

static enum code body_puts(struct body *body, const char *text, struct status *st)
{
    return body_append(body, text, strlen(text), st);
}

static enum code body_begin(struct body *body, const char *secret, struct status *st)
{
    char head[NAME_MAX_BYTES + 256];

    if (!name_valid(secret, false))
        return status_set(st, CODE_INVALID_ARGUMENT, "\"%.100s\" is no name for a Secret", secret);
    body->text = secret_new(BODY_MAX);
    body->first = true;
    (void)snprintf(
        head, sizeof(head),
        "{\"apiVersion\":\"v1\",\"kind\":\"Secret\",\"type\":\"Opaque\",\"immutable\":true,"
        "\"metadata\":{\"name\":\"%s\",\"labels\":{\"app.kubernetes.io/part-of\":\"ssl-clm-agents\"}},"
        "\"data\":{",
        secret);
    return body_puts(body, head, st);
}

static enum code body_add(struct body *body, const char *key, const void *data, size_t len, struct status *st)
{
    if (!name_valid(key, true))
        return status_set(st, CODE_INVALID_ARGUMENT, "\"%.100s\" cannot be a key of a Secret", key);
    TRY(body_puts(body, body->first ? "\"" : ",\"", st));
    TRY(body_puts(body, key, st));
    TRY(body_puts(body, "\":\"", st));
    if (4 * ((len + 2) / 3) + 1 >= body->text->len - body->len)
        return status_set(st, CODE_RESOURCE_EXHAUSTED, "more than a Secret holds (%d bytes)", BODY_MAX);
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

static size_t on_answer(char *data, size_t size, size_t n, void *arg)
{
    struct buf *answer = arg;
    size_t room = ANSWER_MAX - answer->len, len = size * n;
    (void)!buf_append(answer, data, len < room ? len : room); /* what is beyond is of no use for a message */
    return len;
}

static enum code answered(long http_status, const struct buf *answer, const char *secret, struct status *st)
{
    switch (http_status) {
    case 201:
        return CODE_OK;
    case 409:
        return status_set(st, CODE_ALREADY_EXISTS, "the Secret %s is there already", secret);
    case 401:
    case 403:
        return status_set(
            st, CODE_PERMISSION_DENIED,
            "the service account may not make the Secret %s: give it \"create\" on secrets (HTTP %ld)",
            secret, http_status);
    default:
        return status_set(st, http_status >= 500 ? CODE_UNAVAILABLE : CODE_INTERNAL,
                          "the API server answered %ld for the Secret %s: %.120s", http_status, secret,
                          buf_text(answer));
    }
}

static enum code perform(CURL *curl, const char *url, const char *ca, struct curl_slist *headers,
                         const struct body *body, const char *secret, struct status *st)
{
    AUTO_BUF struct buf answer = {0};
    char error[CURL_ERROR_SIZE] = "";
    long http_status = 0;

    (void)curl_easy_setopt(curl, CURLOPT_URL, url);
    (void)curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "https");
    (void)curl_easy_setopt(curl, CURLOPT_CAINFO, ca);
    (void)curl_easy_setopt(curl, CURLOPT_PROXY, "");
    (void)curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, (long)body->len);
    (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDS, (const char *)body->text->data);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_answer);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEDATA, &answer);
    (void)curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, error);
    (void)curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, CONNECT_MAX_SEC);
    (void)curl_easy_setopt(curl, CURLOPT_TIMEOUT, CALL_MAX_SEC);
    CURLcode result = curl_easy_perform(curl);
    if (result != CURLE_OK)
        return status_set(st, CODE_UNAVAILABLE, "cannot reach %.100s: %.120s", url,
                          *error ? error : curl_easy_strerror(result));
    (void)curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &http_status);
    return answered(http_status, &answer, secret, st);
}

static enum code make_url(const char *namespace, char *out, size_t size, struct status *st)
{
    const char *host = getenv("KUBERNETES_SERVICE_HOST"), *port = getenv("KUBERNETES_SERVICE_PORT");

    if (!host || !*host || !port || !*port)
        return status_set(
            st, CODE_FAILED_PRECONDITION,
            "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set: this is not a pod");
    bool is_v6 = strchr(host, ':') != NULL;
    if ((size_t)snprintf(out, size, "https://%s%s%s:%s/api/v1/namespaces/%s/secrets", is_v6 ? "[" : "", host,
                         is_v6 ? "]" : "", port, namespace) >= size)
        return status_set(st, CODE_INVALID_ARGUMENT, "KUBERNETES_SERVICE_HOST is too long");
    return CODE_OK;
}

static enum code read_namespace(const char *dir, char out[NAME_MAX_BYTES + 1], struct status *st)
{
    AUTO_BUF struct buf text = {0};
    char path[PATH_MAX];

    (void)snprintf(path, sizeof(path), "%s/namespace", dir);
    TRY(file_read(path, NAME_MAX_BYTES, &text, st));
    (void)snprintf(out, NAME_MAX_BYTES + 1, "%.*s", (int)strcspn(buf_text(&text), "\n"), buf_text(&text));
    if (!name_valid(out, false))
        return status_set(st, CODE_INVALID_ARGUMENT, "%s: not a namespace", path);
    return CODE_OK;
}

/* The token is refreshed by Kubernetes and readable by the pod's user only as far as the pod's settings say.
 */
static enum code read_token(const char *dir, struct secret **ret_header, struct status *st)
{
    AUTO_BUF struct buf token = {0};
    char path[PATH_MAX];

    (void)snprintf(path, sizeof(path), "%s/token", dir);
    enum code code = file_read(path, FILE_MAX, &token, st);
    if (code == CODE_OK) {
        *ret_header = secret_new(token.len + 32);
        (void)snprintf((char *)(*ret_header)->data, (*ret_header)->len, "Authorization: Bearer %.*s",
                       (int)strcspn(buf_text(&token), "\r\n"), buf_text(&token));
    }
    if (token.data)
        explicit_bzero(token.data, token.len);
    return code;
}

static enum code post(const struct publish_to *to, struct body *body, struct status *st)
{
    const char *dir = to->service_account ? to->service_account : SERVICE_ACCOUNT;
    AUTO_SECRET struct secret *authorization = NULL;
    char namespace[NAME_MAX_BYTES + 1], url[1024], ca[PATH_MAX];

    TRY(body_puts(body, "}}", st));
    TRY(read_namespace(dir, namespace, st));
    TRY(make_url(namespace, url, sizeof(url), st));
    TRY(read_token(dir, &authorization, st));
    (void)snprintf(ca, sizeof(ca), "%s/ca.crt", dir);
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != 0)
        return status_set(st, CODE_INTERNAL, "cannot initialise libcurl");
    CURL *curl = curl_easy_init();
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
    if (!curl || !headers || !curl_slist_append(headers, (const char *)authorization->data))
        abort();
    enum code code = perform(curl, url, ca, headers, body, to->secret, st);
    curl_slist_free_all(headers);
    curl_easy_cleanup(curl);
    curl_global_cleanup();
    return code;
}

enum code publish_directory(const struct publish_to *to, const char *dir, struct status *st)
{
    CLEANUP(body_end) struct body body = {0};
    TRY(body_begin(&body, to->secret, st));
    TRY(add_tree(&body, dir, "", 0, st));
    return post(to, &body, st);
}

enum code publish_passwords(const struct publish_to *to, const char *const *names, struct status *st)
{
    CLEANUP(body_end) struct body body = {0};
    TRY(body_begin(&body, to->secret, st));
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
