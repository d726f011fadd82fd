/*
 * The only user of libcurl in clm-bootstrap, and only in one-shot commands: a server never speaks to
 * Kubernetes. Requests, answers and the token are in locked memory: an answer may hold the CA's keys.
 */
#include "api_server.h"

#include <curl/curl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

#define SERVICE_ACCOUNT "/var/run/secrets/kubernetes.io/serviceaccount"
#define TOKEN_MAX       (64 * 1024)
#define NAME_MAX_BYTES  253
#define CONNECT_MAX_SEC 10L
#define CALL_MAX_SEC    30L

bool api_name_valid(const char *name, bool is_key)
{
    const char *allowed = is_key ? "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._"
                                 : "abcdefghijklmnopqrstuvwxyz0123456789-.";
    size_t n = strlen(name);
    return n > 0 && n <= NAME_MAX_BYTES && strspn(name, allowed) == n && name[0] != '.' && name[0] != '-';
}

static enum code make_url(const char *namespace, const char *secret, char *out, size_t size,
                          struct status *st)
{
    const char *host = getenv("KUBERNETES_SERVICE_HOST"), *port = getenv("KUBERNETES_SERVICE_PORT");

    if (!host || !*host || !port || !*port)
        return status_set(
            st, CODE_FAILED_PRECONDITION,
            "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set: this is not a pod");
    bool is_v6 = strchr(host, ':') != NULL;
    if ((size_t)snprintf(out, size, "https://%s%s%s:%s/api/v1/namespaces/%s/secrets%s%s", is_v6 ? "[" : "",
                         host, is_v6 ? "]" : "", port, namespace, secret ? "/" : "",
                         secret ? secret : "") >= size)
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
    if (!api_name_valid(out, false))
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
    enum code code = file_read(path, TOKEN_MAX, &token, st);
    if (code == CODE_OK) {
        *ret_header = secret_new(token.len + 32);
        (void)snprintf((char *)(*ret_header)->data, (*ret_header)->len, "Authorization: Bearer %.*s",
                       (int)strcspn(buf_text(&token), "\r\n"), buf_text(&token));
    }
    if (token.data)
        explicit_bzero(token.data, token.len);
    return code;
}

/* ---- the call ---------------------------------------------------------------------------------------------
 */

struct answer {
    struct secret *text;
    size_t len;
};

static void answer_end(struct answer *answer)
{
    secret_free(answer->text);
}

static size_t on_answer(char *data, size_t size, size_t n, void *arg)
{
    struct answer *answer = arg;
    size_t len = size * n;
    if (len > SECRET_BYTES_MAX - answer->len)
        return 0; /* ends the call */
    memcpy(answer->text->data + answer->len, data, len);
    answer->len += len;
    return len;
}

static void set_call(CURL *curl, const struct api_call *call, struct curl_slist *headers,
                     struct answer *answer)
{
    (void)curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "https");
    (void)curl_easy_setopt(curl, CURLOPT_PROXY, "");
    (void)curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    (void)curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, call->method);
    if (call->body) {
        (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, (long)call->body_len);
        (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDS, (const char *)call->body->data);
    }
    (void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_answer);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEDATA, answer);
    (void)curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, CONNECT_MAX_SEC);
    (void)curl_easy_setopt(curl, CURLOPT_TIMEOUT, CALL_MAX_SEC);
}

static enum code perform(CURL *curl, const char *url, const char *ca, long *ret_status, struct status *st)
{
    char error[CURL_ERROR_SIZE] = "";

    (void)curl_easy_setopt(curl, CURLOPT_URL, url);
    (void)curl_easy_setopt(curl, CURLOPT_CAINFO, ca);
    (void)curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, error);
    CURLcode result = curl_easy_perform(curl);
    if (result == CURLE_WRITE_ERROR)
        return status_set(st, CODE_RESOURCE_EXHAUSTED, "%.100s answers with more than a Secret holds", url);
    if (result != CURLE_OK)
        return status_set(st, CODE_UNAVAILABLE, "cannot reach %.100s: %.120s", url,
                          *error ? error : curl_easy_strerror(result));
    (void)curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, ret_status);
    return CODE_OK;
}

static struct curl_slist *make_headers(const struct api_call *call, const struct secret *authorization)
{
    char type[128];
    (void)snprintf(type, sizeof(type), "Content-Type: %s", call->body ? call->content_type : "");
    struct curl_slist *headers = curl_slist_append(NULL, (const char *)authorization->data);
    if (!headers || !curl_slist_append(headers, "Accept: application/json") ||
        !curl_slist_append(headers, type))
        abort();
    return headers;
}

enum code api_run(const struct api_call *call, long *ret_status, struct secret **ret_answer,
                  struct status *st)
{
    const char *dir = call->service_account ? call->service_account : SERVICE_ACCOUNT;
    AUTO_SECRET struct secret *authorization = NULL;
    CLEANUP(answer_end) struct answer answer = {0};
    char namespace[NAME_MAX_BYTES + 1], url[1024], ca[PATH_MAX];

    TRY(read_namespace(dir, namespace, st));
    TRY(make_url(namespace, call->secret, url, sizeof(url), st));
    TRY(read_token(dir, &authorization, st));
    (void)snprintf(ca, sizeof(ca), "%s/ca.crt", dir);
    answer.text = secret_new(SECRET_BYTES_MAX);
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != 0)
        return status_set(st, CODE_INTERNAL, "cannot initialise libcurl");
    CURL *curl = curl_easy_init();
    if (!curl)
        abort();
    struct curl_slist *headers = make_headers(call, authorization);
    set_call(curl, call, headers, &answer);
    enum code code = perform(curl, url, ca, ret_status, st);
    curl_slist_free_all(headers);
    curl_easy_cleanup(curl);
    curl_global_cleanup();
    if (code == CODE_OK) {
        *ret_answer = secret_dup(answer.text->data, answer.len);
    }
    return code;
}
