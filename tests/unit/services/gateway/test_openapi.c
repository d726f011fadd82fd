/* Parsed with jansson, so that it is JSON for somebody else than its writer. */
#include "cmocka_all.h"

#include <jansson.h>
#include <string.h>

#include "gateway/openapi.h"
#include "gateway/routes.h"

static json_t *document(void)
{
    AUTO_BUF struct buf out = {0};
    struct status st = {0};
    buf_init(&out, 0);
    assert_int_equal(openapi_write(&out, &st), CODE_OK);
    json_error_t error;
    json_t *doc = json_loadb((const char *)out.data, out.len, JSON_REJECT_DUPLICATES, &error);
    if (!doc)
        fail_msg("line %d column %d: %s", error.line, error.column, error.text);
    return doc;
}

static void every_route_is_described(void **state)
{
    (void)state;
    json_t *doc = document();
    size_t n_routes = 0, n_operations = 0;
    for (const struct route *route = routes; route->method; route++, n_routes++) {
        json_t *path = json_object_get(json_object_get(doc, "paths"), route->path);
        json_t *operation = json_object_get(path, strcmp(route->method, "GET") == 0 ? "get" : "post");
        assert_non_null(operation);
        assert_string_equal(json_string_value(json_object_get(operation, "summary")), route->summary);
    }
    const char *name;
    json_t *path;
    json_object_foreach(json_object_get(doc, "paths"), name, path) n_operations += json_object_size(path);
    assert_int_equal(n_operations, n_routes);
    json_decref(doc);
}

static void check_references(json_t *doc, json_t *node)
{
    const char *key;
    json_t *value;
    size_t i;
    if (json_is_object(node)) {
        json_object_foreach(node, key, value)
        {
            if (strcmp(key, "$ref") == 0) {
                const char *ref = json_string_value(value);
                assert_int_equal(strncmp(ref, "#/components/", 13), 0);
                const char *slash = strchr(ref + 13, '/');
                char group[32];
                (void)snprintf(group, sizeof group, "%.*s", (int)(slash - ref - 13), ref + 13);
                assert_non_null(
                    json_object_get(json_object_get(json_object_get(doc, "components"), group), slash + 1));
            } else {
                check_references(doc, value);
            }
        }
    } else if (json_is_array(node)) {
        json_array_foreach(node, i, value) check_references(doc, value);
    }
}

static void every_reference_leads_somewhere(void **state)
{
    (void)state;
    json_t *doc = document();
    check_references(doc, doc);
    json_decref(doc);
}

static void operation_ids_are_unique(void **state)
{
    (void)state;
    json_t *doc = document(), *ids = json_object();
    const char *path, *method;
    json_t *item, *operation;
    json_object_foreach(json_object_get(doc, "paths"), path, item)
    {
        json_object_foreach(item, method, operation)
        {
            const char *id = json_string_value(json_object_get(operation, "operationId"));
            assert_null(json_object_get(ids, id));
            assert_int_equal(json_object_set_new(ids, id, json_true()), 0);
        }
    }
    json_decref(ids);
    json_decref(doc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_route_is_described),
        cmocka_unit_test(every_reference_leads_somewhere),
        cmocka_unit_test(operation_ids_are_unique),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
