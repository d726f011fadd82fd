/* Parsed with jansson, so that it is JSON for somebody else than its writer. */
#include "cmocka_all.h"

#include <jansson.h>
#include <string.h>

#include "gateway/problem.h"

static json_t *problem(enum code code, const char *msg)
{
    AUTO_BUF struct buf out = {0};
    struct status st = {.code = code};
    (void)snprintf(st.msg, sizeof st.msg, "%s", msg);
    buf_init(&out, 0);
    assert_true(problem_write(&out, 400, &st, "0123"));
    json_t *doc = json_loadb((const char *)out.data, out.len, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(doc);
    return doc;
}

static const char *text(json_t *doc, const char *name)
{
    return json_string_value(json_object_get(doc, name));
}

static void wrong_field_is_named(void **state UNUSED)
{
    json_t *doc = problem(CODE_INVALID_ARGUMENT, "scope.paths[0]: expected an absolute path: \"x\"");
    json_t *error = json_array_get(json_object_get(doc, "errors"), 0);
    assert_string_equal(text(doc, "type"), "urn:clm:problem:invalid-argument");
    assert_string_equal(text(doc, "detail"), "scope.paths[0]: expected an absolute path: \"x\"");
    assert_string_equal(text(doc, "traceId"), "0123");
    assert_string_equal(text(error, "field"), "scope.paths[0]");
    assert_string_equal(text(error, "detail"), "expected an absolute path: \"x\"");
    json_decref(doc);
}

static void unknown_field_is_named_with_where_it_was(void **state UNUSED)
{
    static const char *const cases[][2] = {
        {"unknown field \"colour\"", "colour"},
        {"scope: unknown field \"every\\\"thing\"", "scope.every\\\"thing"},
        {"unknown parameter \"x\"", "x"}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        json_t *doc = problem(CODE_INVALID_ARGUMENT, cases[i][0]);
        assert_string_equal(text(json_array_get(json_object_get(doc, "errors"), 0), "field"), cases[i][1]);
        json_decref(doc);
    }
}

static void what_names_no_field_has_no_errors(void **state UNUSED)
{
    static const char *const messages[] = {
        "the query is malformed", "label env: given twice", ": x", "1: x", "", "a", "a:", "a:b"};
    for (size_t i = 0; i < ARRAY_LEN(messages); i++) {
        json_t *doc = problem(CODE_INVALID_ARGUMENT, messages[i]);
        assert_null(json_object_get(doc, "errors"));
        json_decref(doc);
    }
    json_t *doc = problem(CODE_NOT_FOUND, "agent: there is none");
    assert_null(json_object_get(doc, "errors"));
    json_decref(doc);
}

static void hostile_text_is_text(void **state UNUSED)
{
    json_t *doc = problem(CODE_INVALID_ARGUMENT, "</script>\"\\\n\x01\xff");
    assert_non_null(strstr(text(doc, "detail"), "</script>\"\\\n\x01"));
    json_decref(doc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_field_is_named),
        cmocka_unit_test(unknown_field_is_named_with_where_it_was),
        cmocka_unit_test(what_names_no_field_has_no_errors),
        cmocka_unit_test(hostile_text_is_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
