/* The only user of libcurl in clmctl. */
#include "cli/client.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.pb-c.h"
#include "wire/wire.h"

#define ANSWER_MAX         (16u * 1024 * 1024)
#define CONNECT_MAX_SEC    10L
#define CALL_MAX_SEC       60L
#define STREAM_SILENCE_SEC 45L

struct client {
    CURL *curl;
    const struct context *context;
    bool asked;
    char error[CURL_ERROR_SIZE];
};

enum code client_new(const struct context *context, struct client **ret, struct status *st)
{
    struct client *client = calloc(1, sizeof(*client));
    if (!client || curl_global_init(CURL_GLOBAL_DEFAULT) != 0 || !(client->curl = curl_easy_init())) {
        free(client);
        return status_set(st, CODE_INTERNAL, "cannot initialise libcurl");
    }
    client->context = context;
    *ret = client;
    return CODE_OK;
}

void client_free(struct client *client)
{
    if (!client)
        return;
    curl_easy_cleanup(client->curl);
    curl_global_cleanup();
    free(client);
}

bool client_asked(const struct client *client)
{
    return client->asked;
}

void client_query(struct buf *path, const char *name, const char *value)
{
    if (!value)
        return;
    char *escaped = curl_easy_escape(NULL, value, (int)strlen(value));
    const char *separator = strchr(buf_text(path), '?') ? "&" : "?";
    if (!escaped || !buf_printf(path, "%s%s=%s", separator, name, escaped))
        abort(); /* argv is bounded far below the buffer's limit */
    curl_free(escaped);
}

static size_t on_body(char *data, size_t size, size_t n, void *arg)
{
    struct buf *answer = arg;
    return buf_append(answer, data, size * n) ? size * n : 0;
}

static struct curl_slist *add_header(struct curl_slist *headers, const char *line)
{
    struct curl_slist *longer = curl_slist_append(headers, line);
    if (!longer)
        abort();
    return longer;
}

static struct curl_slist *make_headers(const struct context *context, bool has_body)
{
    struct curl_slist *headers = add_header(NULL, "Accept: application/json, application/problem+json");
    if (has_body)
        headers = add_header(headers, "Content-Type: application/json");
    if (context->api_key) {
        const char *key = (const char *)context->api_key->data;
        AUTO_SECRET struct secret *line = secret_new(context->api_key->len + 32);
        (void)snprintf((char *)line->data, line->len, "Authorization: Bearer %s", key);
        headers = add_header(headers, (const char *)line->data);
    }
    return headers;
}

/* libcurl says "SSL peer certificate … was not OK": say what the reader can do about it. */
static enum code transport_error(const struct client *client, CURLcode result, struct status *st)
{
    const char *url = client->context->url;
    const char *text = client->error[0] ? client->error : curl_easy_strerror(result);
    switch (result) {
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
        return status_set(
            st, CODE_UNAVAILABLE,
            "%.80s: its certificate cannot be verified (%.80s): set ca in the context to the platform's root",
            url, text);
    case CURLE_WRITE_ERROR:
        return status_set(st, CODE_RESOURCE_EXHAUSTED,
                          "%.80s: the answer is larger than %u MiB: ask for a smaller page", url,
                          ANSWER_MAX >> 20);
    default:
        return status_set(st, CODE_UNAVAILABLE, "cannot reach %.80s: %.120s", url, text);
    }
}

static enum code code_of_http(long http_status)
{
    switch (http_status) {
    case 400:
    case 413:
    case 415:
    case 422:
        return CODE_INVALID_ARGUMENT;
    case 401:
        return CODE_UNAUTHENTICATED;
    case 403:
        return CODE_PERMISSION_DENIED;
    case 404:
        return CODE_NOT_FOUND;
    case 409:
    case 412:
        return CODE_FAILED_PRECONDITION;
    case 429:
        return CODE_RESOURCE_EXHAUSTED;
    case 502: /* of a balancer that reaches no gateway */
    case 503:
    case 504:
        return CODE_UNAVAILABLE;
    default:
        return CODE_INTERNAL;
    }
}

static enum code problem_error(const struct buf *answer, long http_status, struct arena *arena,
                               struct status *st)
{
    enum code code = code_of_http(http_status);
    struct status ignored;
    ProtobufCMessage *msg;
    if (json_read_lenient(&clm__cli__problem__descriptor, buf_text(answer), answer->len, arena, &msg,
                          &ignored) != CODE_OK)
        return status_set(st, code, "HTTP %ld, without an explanation", http_status);
    const Clm__Cli__Problem *problem = (const Clm__Cli__Problem *)msg;
    const char *title = problem->title ? problem->title : "refused";
    if (problem->type && strcmp(problem->type, "urn:clm:problem:aborted") == 0)
        code = CODE_ABORTED;
    if (http_status == 401)
        return status_set(st, code, "%s: check the API key (api_key_file in the context, or $CLMCTL_API_KEY)",
                          title);
    if (problem->detail)
        return status_set(st, code, "%s: %s", title, problem->detail);
    return status_set(st, code, "%s (HTTP %ld)", title, http_status);
}

static void set_common(struct client *client, const char *url, struct curl_slist *headers)
{
    CURL *curl = client->curl;
    (void)curl_easy_setopt(curl, CURLOPT_URL, url);
    (void)curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "https");
    (void)curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    (void)curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, client->error);
    (void)curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, CONNECT_MAX_SEC);
    if (client->context->ca)
        (void)curl_easy_setopt(curl, CURLOPT_CAINFO, client->context->ca);
}

static enum code perform(struct client *client, const char *method, const char *url, const struct buf *body,
                         struct buf *answer, long *ret_http_status, struct status *st)
{
    CURL *curl = client->curl;
    curl_easy_reset(curl);
    client->asked = true;
    client->error[0] = '\0';
    struct curl_slist *headers = make_headers(client->context, body != NULL);
    set_common(client, url, headers);
    (void)curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
    (void)curl_easy_setopt(curl, CURLOPT_TIMEOUT, CALL_MAX_SEC);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEDATA, answer);
    if (body) {
        (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, (long)body->len);
        (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDS, buf_text(body));
    }
    CURLcode result = curl_easy_perform(curl);
    (void)curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, ret_http_status);
    curl_slist_free_all(headers);
    return result == CURLE_OK ? CODE_OK : transport_error(client, result, st);
}

struct streaming {
    CURL *curl;
    bool (*on_data)(const char *data, size_t len, void *arg);
    void *arg;
    bool stopped;
    struct buf problem; /* an answer that is no stream */
};

static size_t on_stream(char *data, size_t size, size_t n, void *arg)
{
    struct streaming *streaming = arg;
    long http_status = 0;
    (void)curl_easy_getinfo(streaming->curl, CURLINFO_RESPONSE_CODE, &http_status);
    if (http_status != 200)
        return buf_append(&streaming->problem, data, size * n) ? size * n : 0;
    streaming->stopped = !streaming->on_data(data, size * n, streaming->arg);
    return streaming->stopped ? 0 : size * n;
}

enum code client_stream(struct client *client, const char *path, const char *last_event_id,
                        bool (*on_data)(const char *data, size_t len, void *arg), void *arg,
                        struct status *st)
{
    CURL *curl = client->curl;
    AUTO_ARENA struct arena *arena = arena_new();
    struct streaming streaming = {.curl = curl, .on_data = on_data, .arg = arg};
    buf_init(&streaming.problem, ANSWER_MAX);
    curl_easy_reset(curl);
    client->asked = true;
    client->error[0] = '\0';
    struct curl_slist *headers = make_headers(client->context, false);
    if (*last_event_id)
        headers = add_header(headers, arena_printf(arena, "Last-Event-ID: %s", last_event_id));
    set_common(client, arena_printf(arena, "%s%s", client->context->url, path), headers);
    /* The server says something at least every 15 s. */
    (void)curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, STREAM_SILENCE_SEC);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_stream);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEDATA, &streaming);
    CURLcode result = curl_easy_perform(curl);
    long http_status = 0;
    (void)curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &http_status);
    curl_slist_free_all(headers);
    enum code code = CODE_OK;
    if (!streaming.stopped && result != CURLE_OK)
        code = transport_error(client, result, st);
    else if (!streaming.stopped && http_status != 200)
        code = problem_error(&streaming.problem, http_status, arena, st);
    buf_done(&streaming.problem);
    return code;
}

enum code client_call(struct client *client, const char *method, const char *path,
                      const ProtobufCMessage *body, const ProtobufCMessageDescriptor *desc,
                      struct arena *arena, ProtobufCMessage **ret, const char **ret_text, struct status *st)
{
    AUTO_BUF struct buf sent = {0}, answer = {0};
    buf_init(&answer, ANSWER_MAX);
    if (body)
        TRY(json_write(body, &sent, st));
    const char *url = arena_printf(arena, "%s%s", client->context->url, path);
    long http_status = 0;
    TRY(perform(client, method, url, body ? &sent : NULL, &answer, &http_status, st));
    if (http_status < 200 || http_status > 299)
        return problem_error(&answer, http_status, arena, st);
    if (ret_text)
        *ret_text = arena_strndup(arena, buf_text(&answer), answer.len);
    if (json_read_lenient(desc, buf_text(&answer), answer.len, arena, ret, st) != CODE_OK)
        return status_wrap(st, "%s %s: cannot read the answer", method, path);
    return CODE_OK;
}
