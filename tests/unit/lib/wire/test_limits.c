#include "cmocka_all.h"

#include "proto/agent.pb-c.h"
#include "proto/audit.pb-c.h"
#include "proto/bootstrap.pb-c.h"
#include "proto/bus.pb-c.h"
#include "proto/envelope.pb-c.h"
#include "proto/event.pb-c.h"
#include "proto/registry.pb-c.h"
#include "proto/tasks.pb-c.h"
#include "wire/check.h"

/* Roots from which every message of proto/ is reachable beside the methods' own. */
static const ProtobufCMessageDescriptor *const roots[] = {
    &clm__bootstrap_request__descriptor,
    &clm__bootstrap_response__descriptor,
    &clm__checkin_request__descriptor,
    &clm__checkin_response__descriptor,
    &clm__result_request__descriptor,
    &clm__result_response__descriptor,
    &clm__renew_request__descriptor,
    &clm__farewell_request__descriptor,
    &clm__sign_request__descriptor,
    &clm__sign_response__descriptor,
    &clm__agent_error__descriptor,
    &clm__task_order__descriptor,
    &clm__signed_request__descriptor,
    &clm__receipt__descriptor,
    &clm__event__descriptor,
    &clm__signed_bytes__descriptor,
    &clm__assertion__descriptor,
    &clm__authority__descriptor,
    &clm__task_result__descriptor,
    &clm__audit_export_line__descriptor,
    &clm__audit_head__descriptor,
    &clm__cosignature__descriptor,
    &clm__event_view__descriptor,
    &clm__watch_events_request__descriptor,
    &clm__platform_copy__descriptor,
    &clm__held_back_agent__descriptor,
};
static const ProtobufCServiceDescriptor *const services[] = {
    &clm__registry__descriptor, &clm__bootstrap__descriptor, &clm__tasks__descriptor};

static size_t rows_met;

static void visit(const ProtobufCMessageDescriptor *desc,
                  void (*on_field)(const ProtobufCMessageDescriptor *, const ProtobufCFieldDescriptor *))
{
    for (unsigned i = 0; i < desc->n_fields; i++) {
        on_field(desc, &desc->fields[i]);
        if (desc->fields[i].type == PROTOBUF_C_TYPE_MESSAGE)
            visit(desc->fields[i].descriptor, on_field);
    }
}

static void visit_all(void (*on_field)(const ProtobufCMessageDescriptor *, const ProtobufCFieldDescriptor *))
{
    for (size_t i = 0; i < sizeof(roots) / sizeof(roots[0]); i++)
        visit(roots[i], on_field);
    for (size_t i = 0; i < sizeof(services) / sizeof(services[0]); i++) {
        for (unsigned m = 0; m < services[i]->n_methods; m++) {
            visit(services[i]->methods[m].input, on_field);
            visit(services[i]->methods[m].output, on_field);
        }
    }
}

static const char *sought;

static void count_if_sought(const ProtobufCMessageDescriptor *desc, const ProtobufCFieldDescriptor *field)
{
    char name[128];
    (void)snprintf(name, sizeof(name), "%s.%s", desc->short_name, field->name);
    if (!strcmp(name, sought))
        rows_met++;
}

/* Frames between the agent's processes: this test does not see them. */
static bool is_agents_own(const char *field)
{
    static const char *const own[] = {
        "Identity.chain", "Identity.roots", "Snapshot.", "EnrolAnswer.", "Done.",   "Issued.", "IdentityCsr.",
        "Renew.",         "RenewAnswer.",   "Farewell.", "Proxy.",       "Result.", "Sign."};
    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
        if (!strncmp(field, own[i], strlen(own[i])))
            return true;
    return false;
}

static void every_row_names_a_field_that_exists(void **state)
{
    (void)state;
    for (const struct wire_limit *row = wire_limits; row->field; row++) {
        sought = row->field;
        rows_met = 0;
        visit_all(count_if_sought);
        if (rows_met == 0 && !is_agents_own(row->field))
            fail_msg("no field %s", row->field);
        for (const struct wire_limit *other = row + 1; other->field; other++)
            assert_string_not_equal(row->field, other->field);
        assert_true(!row->valid == !row->expected);
        assert_true(row->max_len == 0 || row->min_len <= row->max_len);
    }
}

static void require_id_check(const ProtobufCMessageDescriptor *desc, const ProtobufCFieldDescriptor *field)
{
    if (field->type != PROTOBUF_C_TYPE_STRING)
        return;
    bool is_id = !strcmp(field->name, "agent_id") || !strcmp(field->name, "task_id");
    const struct wire_limit *limit = wire_limit_find(desc, field);
    if (is_id && (!limit || !limit->valid))
        fail_msg("%s.%s is an id without a check", desc->short_name, field->name);
}

static void every_agent_and_task_id_is_checked(void **state)
{
    (void)state;
    visit_all(require_id_check);
}

static bool accepts(const char *message_field, const char *text)
{
    for (const struct wire_limit *row = wire_limits; row->field; row++)
        if (!strcmp(row->field, message_field))
            return strlen(text) >= row->min_len && strlen(text) <= row->max_len && row->valid(text);
    fail_msg("no row %s", message_field);
    return false;
}

static void host_names_follow_rfc_1123(void **state)
{
    (void)state;
    static const char f[] = "RegisterAgentRequest.hostname";
    assert_true(accepts(f, "web1"));
    assert_true(accepts(f, "a-b.Example.com"));
    assert_true(accepts(f, "1.2.3.4"));
    static const char *const bad[] = {"",   ".",   "a.",  ".a",  "a..b", "-a",
                                      "a-", "a_b", "a b", "a/b", "ü",    "*.a"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(accepts(f, bad[i]));
    char label[70];
    memset(label, 'a', 64);
    label[64] = '\0';
    assert_false(accepts(f, label));
    assert_true(accepts(f, label + 1));
}

static void dns_patterns_may_begin_with_one_wildcard_label(void **state)
{
    (void)state;
    static const char f[] = "Scope.dns_names";
    assert_true(accepts(f, "*.example.com"));
    assert_true(accepts(f, "www.example.com"));
    assert_true(accepts(f, "::1"));
    assert_false(accepts(f, "*"));
    assert_false(accepts(f, "*."));
    assert_false(accepts(f, "a.*.com"));
    assert_false(accepts(f, "**.com"));
}

static void paths_are_absolute_and_have_no_dots(void **state)
{
    (void)state;
    static const char f[] = "ValidateSpec.certificate_path";
    assert_true(accepts(f, "/etc/ssl/a.pem"));
    assert_true(accepts(f, "/etc/ssl/..a/.b"));
    static const char *const bad[] = {"",         "etc",       "/etc/../x", "/..",
                                      "/etc/./x", "/etc/x/..", "/a\nb",     "/a\x7f"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(accepts(f, bad[i]));
}

static void endpoints_are_host_and_port(void **state)
{
    (void)state;
    static const char f[] = "ValidateSpec.endpoint";
    assert_true(accepts(f, "127.0.0.1:443"));
    assert_true(accepts(f, "[::1]:8443"));
    assert_true(accepts(f, "www.example.com:1"));
    static const char *const bad[] = {"a",          "a:",   ":443",  "a:0",   "a:65536",
                                      "a:99999999", "a:4x", "a b:1", "a/b:1", "a;b:1"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(accepts(f, bad[i]));
}

static void serial_numbers_may_be_negative(void **state)
{
    (void)state;
    static const char f[] = "CertificateInfo.serial";
    assert_true(accepts(f, "05"));
    assert_true(accepts(f, "-05"));
    static const char *const bad[] = {"-", "--05", "05-", "0A", "0x5"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(accepts(f, bad[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_names_a_field_that_exists),
        cmocka_unit_test(every_agent_and_task_id_is_checked),
        cmocka_unit_test(host_names_follow_rfc_1123),
        cmocka_unit_test(dns_patterns_may_begin_with_one_wildcard_label),
        cmocka_unit_test(paths_are_absolute_and_have_no_dots),
        cmocka_unit_test(endpoints_are_host_and_port),
        cmocka_unit_test(serial_numbers_may_be_negative),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
