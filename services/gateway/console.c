/* A table of the embedded files, made once a process and constant afterwards; any edge's thread. */
#include "gateway/console.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/embed.h"
#include "pki/digest.h"

extern const struct embed console_files[];

#define FILES_MAX 64
#define INDEX     "index.html"
#define HASHED    "assets/" /* Vite puts a digest of the content into these names */

struct file {
    const struct embed *plain, *gzip; /* gzip may be NULL */
    const char *type;
    char etag[40]; /* weak: gzip and plain share it */
};

static struct file files[FILES_MAX];
static size_t n_files;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* What the pages of the console are: their paths are the client's router's, the file is always the same. */
static const char *const pages[] = {"/",       "/login", "/first-admin", "/agents",   "/tasks",
                                    "/alerts", "/audit", "/sessions",    "/settings", "/certificates"};

static const struct http_header security[] = {
    {"Content-Security-Policy",
     "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
     "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
     "require-trusted-types-for 'script'; trusted-types 'none'"},
    {"X-Frame-Options", "DENY"},
    {"X-Content-Type-Options", "nosniff"},
    {"Referrer-Policy", "no-referrer"},
    {"Strict-Transport-Security", "max-age=31536000"},
    {"Cross-Origin-Opener-Policy", "same-origin"},
    {"Cross-Origin-Resource-Policy", "same-origin"},
    {"Permissions-Policy", "camera=(), geolocation=(), microphone=()"},
};

static const struct {
    const char *end, *type;
} types[] = {
    {".html", "text/html; charset=utf-8"},
    {".js", "text/javascript; charset=utf-8"},
    {".css", "text/css; charset=utf-8"},
    {".svg", "image/svg+xml"},
};

static bool ends_with(const char *text, const char *end)
{
    size_t len = strlen(text), n = strlen(end);
    return len >= n && strcmp(text + len - n, end) == 0;
}

static const char *type_of(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        if (ends_with(name, types[i].end))
            return types[i].type;
    return "application/octet-stream";
}

static const struct embed *gzip_of(const char *name)
{
    size_t len = strlen(name);
    for (const struct embed *file = console_files; file->name; file++)
        if (strncmp(file->name, name, len) == 0 && strcmp(file->name + len, ".gz") == 0)
            return file;
    return NULL;
}

static void make_table(void)
{
    for (const struct embed *plain = console_files; plain->name; plain++) {
        if (ends_with(plain->name, ".gz"))
            continue;
        if (n_files == FILES_MAX)
            abort();
        struct file *file = &files[n_files++];
        char digest[SHA256_HEX_SIZE];
        sha256_hex((struct bytes){plain->data, plain->size}, digest);
        *file = (struct file){.plain = plain, .gzip = gzip_of(plain->name), .type = type_of(plain->name)};
        (void)snprintf(file->etag, sizeof file->etag, "W/\"%.32s\"", digest);
    }
}

static const struct file *file_find(const char *name)
{
    for (size_t i = 0; i < n_files; i++)
        if (strcmp(files[i].plain->name, name) == 0)
            return &files[i];
    return NULL;
}

/* "/agents" and what is below it. */
static bool is_page(const char *path)
{
    for (size_t i = 0; i < ARRAY_LEN(pages); i++) {
        size_t len = strlen(pages[i]);
        if (strncmp(path, pages[i], len) == 0 && (path[len] == '\0' || (len > 1 && path[len] == '/')))
            return true;
    }
    return false;
}

/* Whether the field lists the token, with a weight other than 0 (RFC 9110 section 12.5.3). */
static bool accepts_gzip(const char *field)
{
    const char *at = field ? strcasestr(field, "gzip") : NULL;
    if (!at)
        return false;
    at += 4;
    at += strspn(at, " \t");
    if (*at != ';')
        return *at == '\0' || *at == ',';
    const char *q = strstr(at, "q=");
    return !q || strtod(q + 2, NULL) > 0;
}

/* Weak comparison of a list of entity tags (RFC 9110 section 13.1.2): ours has no comma. */
static bool names_etag(const char *field, const char *etag)
{
    return field && (strcmp(field, "*") == 0 || strstr(field, etag));
}

bool console_serve(struct http_request *request)
{
    const char *path = http_request_path(request), *method = http_request_method(request);
    bool get = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
    if (!get || strncmp(path, "/api/", 5) == 0)
        return false;
    (void)pthread_once(&once, make_table);
    const struct file *file = is_page(path) ? file_find(INDEX) : file_find(path + 1);
    if (!file)
        return false;

    bool hashed = strncmp(file->plain->name, HASHED, strlen(HASHED)) == 0;
    const struct embed *body = file->plain;
    struct http_header headers[ARRAY_LEN(security) + 6] = {
        {"Content-Type", file->type},
        {"Cache-Control", hashed ? "public, max-age=31536000, immutable" : "no-cache"},
        {"ETag", file->etag},
        {"Vary", "Accept-Encoding"},
    };
    size_t n = 4;
    memcpy(&headers[n], security, sizeof security);
    n += ARRAY_LEN(security);
    if (names_etag(http_request_header(request, "If-None-Match"), file->etag)) {
        http_respond(request, 304, headers, NULL, 0);
        return true;
    }
    if (file->gzip && accepts_gzip(http_request_header(request, "Accept-Encoding"))) {
        body = file->gzip;
        headers[n] = (struct http_header){"Content-Encoding", "gzip"};
    }
    http_respond(request, 200, headers, body->data, body->size);
    return true;
}
