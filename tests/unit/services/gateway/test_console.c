/* The console's files as the listener answers with them: http_* are fakes that keep what was said. */
#include "cmocka_all.h"

#include <string.h>
#include <strings.h>

#include "base/embed.h"
#include "gateway/console.h"

extern const struct embed console_files[];
const struct embed console_files[] = {
    {"index.html", (const unsigned char *)"<html>", 6},
    {"assets/a-1.js", (const unsigned char *)"long script", 11},
    {"assets/a-1.js.gz", (const unsigned char *)"short", 5},
    {NULL, NULL, 0},
};

struct http_request { /* our own: the fakes below are the only ones that look inside */
    const char *method, *path, *accept_encoding, *if_none_match;
};

static struct {
    int status;
    char body[64];
    char names[32][64], values[32][512];
    size_t n;
} said;

const char *http_request_method(const struct http_request *request)
{
    return request->method;
}

const char *http_request_path(const struct http_request *request)
{
    return request->path;
}

const char *http_request_header(const struct http_request *request, const char *name)
{
    if (strcasecmp(name, "Accept-Encoding") == 0)
        return request->accept_encoding;
    return strcasecmp(name, "If-None-Match") == 0 ? request->if_none_match : NULL;
}

void http_respond(struct http_request *request, int status, const struct http_header *headers,
                  const void *body, size_t body_len)
{
    (void)request;
    said.status = status;
    (void)snprintf(said.body, sizeof said.body, "%.*s", (int)body_len, body ? (const char *)body : "");
    for (said.n = 0; headers[said.n].name; said.n++) {
        (void)snprintf(said.names[said.n], 64, "%s", headers[said.n].name);
        (void)snprintf(said.values[said.n], 512, "%s", headers[said.n].value);
    }
}

static const char *header(const char *name)
{
    for (size_t i = 0; i < said.n; i++)
        if (strcmp(said.names[i], name) == 0)
            return said.values[i];
    return "";
}

static bool ask(const char *method, const char *path, const char *accept, const char *etag)
{
    struct http_request request = {method, path, accept, etag};
    memset(&said, 0, sizeof said);
    return console_serve(&request);
}

static void every_page_is_the_same_file_and_is_asked_for_again(void **state)
{
    (void)state;
    const char *paths[] = {"/", "/login", "/agents", "/agents/018f0000-0000-7000-8000-000000000001",
                           "/tasks/x"};
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        assert_true(ask("GET", paths[i], NULL, NULL));
        assert_int_equal(said.status, 200);
        assert_string_equal(said.body, "<html>");
        assert_string_equal(header("Cache-Control"), "no-cache");
        assert_string_equal(header("Content-Type"), "text/html; charset=utf-8");
    }
}

static void other_paths_and_methods_are_left_to_the_api(void **state)
{
    (void)state;
    const char *paths[] = {"/api/v1/agents",    "/agentsx", "/nothing", "/assets/",    "/assets/a-2.js",
                           "/assets/a-1.js.gz", "/index",   "/loginx",  "/.git/config"};
    for (size_t i = 0; i < ARRAY_LEN(paths); i++)
        assert_false(ask("GET", paths[i], NULL, NULL));
    assert_false(ask("POST", "/", NULL, NULL));
    assert_false(ask("DELETE", "/assets/a-1.js", NULL, NULL));
    assert_true(ask("HEAD", "/", NULL, NULL));
}

static void every_answer_carries_the_policy_without_inline(void **state)
{
    (void)state;
    const char *paths[] = {"/", "/assets/a-1.js"};
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        assert_true(ask("GET", paths[i], NULL, NULL));
        const char *policy = header("Content-Security-Policy");
        assert_non_null(strstr(policy, "default-src 'none'"));
        assert_non_null(strstr(policy, "frame-ancestors 'none'"));
        assert_null(strstr(policy, "unsafe"));
        assert_string_equal(header("X-Frame-Options"), "DENY");
        assert_string_equal(header("X-Content-Type-Options"), "nosniff");
        assert_string_equal(header("Referrer-Policy"), "no-referrer");
        assert_true(strlen(header("Strict-Transport-Security")) > 0);
    }
}

static void file_with_a_digest_in_its_name_is_kept_for_ever(void **state)
{
    (void)state;
    assert_true(ask("GET", "/assets/a-1.js", NULL, NULL));
    assert_string_equal(header("Cache-Control"), "public, max-age=31536000, immutable");
    assert_string_equal(header("Content-Type"), "text/javascript; charset=utf-8");
    assert_string_equal(said.body, "long script");
}

static void gzip_goes_to_who_takes_it(void **state)
{
    (void)state;
    const struct {
        const char *accept;
        bool gzip;
    } cases[] = {{"gzip", true},          {"br, gzip, deflate", true}, {"gzip;q=0.5", true}, {"GZIP", true},
                 {"gzip;q=0", false},     {"identity", false},         {"", false},          {NULL, false},
                 {"gzip ; q=0.0", false}, {"gzipped", false}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_true(ask("GET", "/assets/a-1.js", cases[i].accept, NULL));
        assert_string_equal(said.body, cases[i].gzip ? "short" : "long script");
        assert_string_equal(header("Content-Encoding"), cases[i].gzip ? "gzip" : "");
        assert_string_equal(header("Vary"), "Accept-Encoding");
    }
    assert_true(ask("GET", "/", "gzip", NULL)); /* there is no compressed one */
    assert_string_equal(header("Content-Encoding"), "");
}

static void known_etag_is_answered_without_the_body(void **state)
{
    (void)state;
    assert_true(ask("GET", "/", NULL, NULL));
    char etag[64], list[160];
    (void)snprintf(etag, sizeof etag, "%s", header("ETag"));
    (void)snprintf(list, sizeof list, "W/\"other\", %s", etag);
    const char *known[] = {etag, list, "*"};
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        assert_true(ask("GET", "/", NULL, known[i]));
        assert_int_equal(said.status, 304);
        assert_string_equal(said.body, "");
    }
    assert_true(ask("GET", "/", NULL, "W/\"other\""));
    assert_int_equal(said.status, 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_page_is_the_same_file_and_is_asked_for_again),
        cmocka_unit_test(other_paths_and_methods_are_left_to_the_api),
        cmocka_unit_test(every_answer_carries_the_policy_without_inline),
        cmocka_unit_test(file_with_a_digest_in_its_name_is_kept_for_ever),
        cmocka_unit_test(gzip_goes_to_who_takes_it),
        cmocka_unit_test(known_etag_is_answered_without_the_body),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
