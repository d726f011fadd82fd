#include "cmocka_all.h"

#include "proto/registry.pb-c.h"
#include "proto/tasks.pb-c.h"
#include "wire/wire.h"

#define AGENT "01890000-0000-7000-8000-000000000001"

static struct arena *arena;
static struct status st;

static int setup(void **state)
{
    (void)state;
    arena = arena_new();
    st = (struct status){0};
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    arena_free(arena);
    return 0;
}

static Clm__CreateTaskRequest *read_create(const char *text)
{
    ProtobufCMessage *msg = NULL;
    enum code code = json_read(&clm__create_task_request__descriptor, text, strlen(text), arena, &msg, &st);
    return code == CODE_OK ? (Clm__CreateTaskRequest *)msg : NULL;
}

static void refuses(const char *text, const char *message)
{
    assert_null(read_create(text));
    assert_int_equal(st.code, CODE_INVALID_ARGUMENT);
    assert_string_equal(st.msg, message);
}

static void object_becomes_message_and_back(void **state)
{
    (void)state;
    static const char text[] =
        "{\"agentId\":\"" AGENT
        "\",\"spec\":{\"kind\":\"RENEW\",\"renew\":{\"target\":\"nginx\",\"dnsNames\":"
        "[\"a.example\",\"b.example\"],\"keyType\":\"EC_P384\",\"reuseKey\":false}},\"priority\":9,"
        "\"notBeforeAt\":\"2026-11-23T23:01:02.345Z\",\"after\":[]}";
    Clm__CreateTaskRequest *request = read_create(text);
    assert_non_null(request);
    assert_int_equal(request->spec->kind, CLM__TASK__KIND__RENEW);
    assert_int_equal(request->spec->renew->n_dns_names, 2);
    assert_true(request->spec->renew->has_reuse_key && !request->spec->renew->reuse_key);
    assert_int_equal(request->not_before_at_ms, 1795474862345);
    assert_false(request->has_deadline_sec);
    AUTO_BUF struct buf out = {0};
    assert_int_equal(json_write(&request->base, &out, &st), CODE_OK);
    assert_string_equal(buf_text(&out), text);
}

static void wrong_input_is_refused_with_its_path(void **state)
{
    (void)state;
    refuses("{\"spec\":{\"kind\":\"RENEW\",\"renew\":{\"target\":5}}}",
            "spec.renew.target: expected a string");
    refuses("{\"spec\":{\"kind\":\"RENEW\",\"renew\":{\"traget\":\"x\"}}}",
            "spec.renew: unknown field \"traget\"");
    refuses("{\"agent_id\":\"x\"}", "unknown field \"agent_id\"");
    refuses("{\"spec\":[]}", "spec: expected an object");
    refuses("{\"spec\":{\"kind\":\"BREW\"}}", "spec.kind: expected one of DEPLOY, RENEW, VALIDATE, DISCOVER");
    refuses("{\"spec\":{\"kind\":2}}", "spec.kind: expected one of DEPLOY, RENEW, VALIDATE, DISCOVER");
    refuses("{\"priority\":-1}", "priority: expected a whole number from 0 to 4294967295");
    refuses("{\"priority\":4294967296}", "priority: expected a whole number from 0 to 4294967295");
    refuses("{\"priority\":1.0}", "priority: expected a whole number");
    refuses("{\"priority\":\"1\"}", "priority: expected a whole number");
    refuses("{\"after\":\"" AGENT "\"}", "after: expected an array");
    refuses("{\"after\":[\"" AGENT "\",\"x\"]}", "after[1]: shorter than 36 bytes");
    refuses("{\"after\":[null]}", "after[0]: expected a string");
    refuses("{\"agentId\":\""
            "0189000000000-7000-8000-000000000001"
            "\"}",
            "agentId: expected a UUID");
    refuses("{\"notBeforeAt\":\"yesterday\"}",
            "notBeforeAt: expected an RFC 3339 time such as 2026-01-31T12:00:00Z");
    refuses("{\"notBeforeAt\":5}", "notBeforeAt: expected an RFC 3339 time such as 2026-01-31T12:00:00Z");
    refuses("{\"spec\":{\"kind\":\"RENEW\",\"renew\":{\"target\":\"a b\"}}}",
            "spec.renew.target: expected letters, digits, '.', '_' and '-'");
    refuses("{\"spec\":{}}", "spec.kind: is missing");
    refuses("[]", "expected a JSON object");
}

static void text_that_is_not_json_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"{",
                                      "{\"a\"}",
                                      "{\"priority\":1,\"priority\":2}",
                                      "{} x",
                                      "{\"agentId\":\"\\u0000\"}",
                                      "{\"agentId\":\"\xff\"}",
                                      "{\"priority\":99999999999999999999}",
                                      "nul"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_null(read_create(bad[i]));
        assert_int_equal(st.code, CODE_INVALID_ARGUMENT);
        assert_ptr_equal(strstr(st.msg, "not JSON: line 1"), st.msg);
    }
    /* deeper than any parser should follow */
    AUTO_BUF struct buf deep = {0};
    for (int i = 0; i < 100000; i++)
        assert_true(buf_puts(&deep, "["));
    assert_null(read_create(buf_text(&deep)));
}

static void missing_top_level_field_is_left_to_the_final_check(void **state)
{
    (void)state;
    ProtobufCMessage *msg = NULL;
    assert_int_equal(json_read(&clm__disable_agent_request__descriptor, "", 0, arena, &msg, &st), CODE_OK);
    assert_int_equal(wire_check(msg, &st), CODE_INVALID_ARGUMENT);
    assert_int_equal(json_set_field(msg, "agentId", AGENT, arena, &st), CODE_OK);
    assert_int_equal(wire_check(msg, &st), CODE_OK);
}

static void parameters_set_scalars_enums_and_one_more_element(void **state)
{
    (void)state;
    Clm__ListTasksRequest request = CLM__LIST_TASKS_REQUEST__INIT;
    ProtobufCMessage *msg = &request.base;
    assert_int_equal(json_set_field(msg, "pageSize", "20", arena, &st), CODE_OK);
    assert_int_equal(json_set_field(msg, "state", "READY", arena, &st), CODE_OK);
    assert_int_equal(json_set_field(msg, "state", "FAILED", arena, &st), CODE_OK);
    assert_true(request.has_page_size && request.page_size == 20);
    assert_int_equal(request.n_state, 2);
    assert_int_equal(request.state[1], CLM__TASK__STATE__FAILED);
    static const struct {
        const char *name, *text, *message;
    } bad[] = {
        {"pageSize", "", "pageSize: expected a whole number"},
        {"pageSize", "1x", "pageSize: expected a whole number"},
        {"pageSize", "4294967296", "pageSize: expected a whole number from 0 to 4294967295"},
        {"pageSize", "99999999999999999999999", "pageSize: expected a whole number"},
        {"page_size", "1", "unknown parameter \"page_size\""},
        {"pageToken", "\xff", "pageToken: not UTF-8 text"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(json_set_field(msg, bad[i].name, bad[i].text, arena, &st), CODE_INVALID_ARGUMENT);
        assert_string_equal(st.msg, bad[i].message);
    }
    for (int i = 2; i < 16; i++)
        assert_int_equal(json_set_field(msg, "state", "READY", arena, &st), CODE_OK);
    assert_int_equal(json_set_field(msg, "state", "READY", arena, &st), CODE_INVALID_ARGUMENT);
}

static void large_numbers_are_strings(void **state)
{
    (void)state;
    Clm__Scope scope = CLM__SCOPE__INIT;
    scope.has_version = 1;
    scope.version = (UINT64_C(1) << 53) + 1;
    AUTO_BUF struct buf out = {0};
    assert_int_equal(json_write(&scope.base, &out, &st), CODE_OK);
    assert_non_null(strstr(buf_text(&out), "\"version\":\"9007199254740993\""));
    ProtobufCMessage *msg;
    assert_int_equal(json_read(&clm__scope__descriptor, buf_text(&out), out.len, arena, &msg, &st), CODE_OK);
    assert_true(((Clm__Scope *)msg)->version == scope.version);
}

static void bytes_are_base64_with_padding(void **state)
{
    (void)state;
    uint8_t data[1000];
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 7 + 251);
    for (size_t len = 0; len < sizeof(data); len += len < 5 ? 1 : 331) {
        Clm__Delivery delivery = CLM__DELIVERY__INIT;
        delivery.task_id = (char *)AGENT;
        delivery.has_attempt = 1;
        delivery.has_envelope = 1;
        delivery.envelope = (ProtobufCBinaryData){.len = len, .data = data};
        AUTO_BUF struct buf out = {0};
        assert_int_equal(json_write(&delivery.base, &out, &st), CODE_OK);
        ProtobufCMessage *msg;
        enum code code = json_read(&clm__delivery__descriptor, buf_text(&out), out.len, arena, &msg, &st);
        assert_int_equal(code, len == 0 ? CODE_INVALID_ARGUMENT : CODE_OK);
        if (len > 0) {
            assert_int_equal(((Clm__Delivery *)msg)->envelope.len, len);
            assert_memory_equal(((Clm__Delivery *)msg)->envelope.data, data, len);
        }
    }
    static const char *const bad[] = {"QQ", "QQ=", "Q===", "QQ==QQ==", "Q-==", "QQ==\\n", "Q Q="};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        ProtobufCMessage *msg;
        const char *text = arena_printf(arena, "{\"envelope\":\"%s\"}", bad[i]);
        assert_int_equal(json_read(&clm__delivery__descriptor, text, strlen(text), arena, &msg, &st),
                         CODE_INVALID_ARGUMENT);
    }
}

static void quoting_escapes_what_json_forbids(void **state)
{
    (void)state;
    AUTO_BUF struct buf out = {0};
    assert_true(json_quote(&out, "a\"\\\n\t\x01</script>é"));
    assert_string_equal(buf_text(&out), "\"a\\\"\\\\\\n\\t\\u0001</script>é\"");
}

static void what_is_not_utf8_is_quoted_as_a_replacement_character(void **state)
{
    (void)state;
    AUTO_BUF struct buf out;
    buf_init(&out, 0);
    assert_true(json_quote(&out, "a\xcf"
                                 "b\xed\xa0\x80\xc3"));
    assert_string_equal(buf_text(&out), "\"a\\ufffdb\\ufffd\\ufffd\\ufffd\\ufffd\"");
}

static void schema_names_each_message_once(void **state)
{
    (void)state;
    AUTO_BUF struct buf out = {0};
    const char *seen[32];
    size_t n_seen = 0;
    assert_int_equal(json_schema(&clm__create_task_request__descriptor, &out, seen, 32, &n_seen, &st),
                     CODE_OK);
    assert_int_equal(json_schema(&clm__list_tasks_response__descriptor, &out, seen, 32, &n_seen, &st),
                     CODE_OK);
    const char *first = strstr(buf_text(&out), "\"TaskSpec\":{");
    assert_non_null(first);
    assert_null(strstr(first + 1, "\"TaskSpec\":{"));
    assert_non_null(strstr(buf_text(&out), "\"required\":[\"agentId\",\"spec\"]"));
    assert_non_null(strstr(buf_text(&out), "\"notBeforeAt\":{\"type\":\"string\",\"format\":\"date-time\"}"));
    /* it is a JSON object's members: read back by the strict parser as an object with unknown fields */
    const char *whole = arena_printf(arena, "{%s}", buf_text(&out));
    ProtobufCMessage *msg;
    assert_int_equal(json_read(&clm__scope__descriptor, whole, strlen(whole), arena, &msg, &st),
                     CODE_INVALID_ARGUMENT);
    assert_string_equal(st.msg, "unknown field \"CreateTaskRequest\"");
    assert_int_equal(json_schema(&clm__agent_view__descriptor, &out, seen, n_seen, &n_seen, &st),
                     CODE_RESOURCE_EXHAUSTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(object_becomes_message_and_back, setup, teardown),
        cmocka_unit_test_setup_teardown(wrong_input_is_refused_with_its_path, setup, teardown),
        cmocka_unit_test_setup_teardown(text_that_is_not_json_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(missing_top_level_field_is_left_to_the_final_check, setup, teardown),
        cmocka_unit_test_setup_teardown(parameters_set_scalars_enums_and_one_more_element, setup, teardown),
        cmocka_unit_test_setup_teardown(large_numbers_are_strings, setup, teardown),
        cmocka_unit_test_setup_teardown(bytes_are_base64_with_padding, setup, teardown),
        cmocka_unit_test_setup_teardown(quoting_escapes_what_json_forbids, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_not_utf8_is_quoted_as_a_replacement_character, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(schema_names_each_message_once, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
