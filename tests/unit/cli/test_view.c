#include "cmocka_all.h"

#include "cli/view.h"
#include "proto/registry.pb-c.h"

static struct arena *arena;

static int set_up(void **state UNUSED)
{
    arena = arena_new();
    return 0;
}

static int tear_down(void **state UNUSED)
{
    arena_free(arena);
    return 0;
}

static Clm__Label labels[2] = {CLM__LABEL__INIT, CLM__LABEL__INIT};
static Clm__Label *label_list[] = {&labels[0], &labels[1]};
static Clm__HostFacts facts = CLM__HOST_FACTS__INIT;

static Clm__AgentView agent(void)
{
    Clm__AgentView view = CLM__AGENT_VIEW__INIT;
    view.hostname = (char *)"we: b\n1";
    view.has_status = true;
    view.status = CLM__AGENT__STATUS__SAFE_MODE;
    view.has_safe_mode = true;
    labels[0].name = (char *)"env";
    labels[0].value = (char *)"prod";
    labels[1].name = (char *)"team";
    labels[1].value = (char *)"";
    view.n_labels = 2;
    view.labels = label_list;
    view.has_created_at_ms = true;
    view.created_at_ms = 1700000000123;
    view.has_version = true;
    view.version = 18446744073709551615ull;
    view.has_clock_skew_ms = true;
    view.clock_skew_ms = -5;
    facts.os = (char *)"Debian";
    view.facts = &facts;
    return view;
}

static void fields_are_found_by_their_path(void **state UNUSED)
{
    Clm__AgentView view = agent();
    assert_string_equal(view_text(&view.base, "status", arena), "SAFE_MODE");
    assert_string_equal(view_text(&view.base, "safe_mode", arena), "no");
    assert_string_equal(view_text(&view.base, "labels", arena), "env=prod team");
    assert_string_equal(view_text(&view.base, "created_at_ms", arena), "2023-11-14 22:13:20Z");
    assert_string_equal(view_text(&view.base, "version", arena), "18446744073709551615");
    assert_string_equal(view_text(&view.base, "clock_skew_ms", arena), "-5");
    assert_string_equal(view_text(&view.base, "facts.os", arena), "Debian");
    assert_null(view_text(&view.base, "facts.agent_version", arena));
    assert_null(view_text(&view.base, "scope.paths", arena));
    assert_null(view_text(&view.base, "generation", arena));
    assert_null(view_text(&view.base, "nothing", arena));
}

static char text[2048];

static const char *printed(void (*print)(FILE *, const ProtobufCMessage *, struct arena *),
                           const ProtobufCMessage *msg)
{
    memset(text, 0, sizeof text);
    FILE *out = fmemopen(text, sizeof text, "w");
    assert_non_null(out);
    print(out, msg, arena);
    (void)fclose(out);
    return text;
}

static void yaml_holds_text_in_quotes_and_lists_in_blocks(void **state UNUSED)
{
    Clm__AgentView view = agent();
    assert_string_equal(
        printed(view_yaml, &view.base),
        "hostname: \"we: b\\n1\"\nstatus: SAFE_MODE\nsafeMode: false\nlabels:\n- name: \"env\"\n  value: "
        "\"prod\"\n- name: \"team\"\n  value: \"\"\ncreatedAt: \"2023-11-14T22:13:20.123Z\"\nfacts:\n  os: "
        "\"Debian\"\n  operations: []\nclockSkewMs: -5\nversion: 18446744073709551615\n");
    Clm__ListAgentsResponse none = CLM__LIST_AGENTS_RESPONSE__INIT;
    assert_string_equal(printed(view_yaml, &none.base), "agents: []\n");
    Clm__GetDashboardRequest empty = CLM__GET_DASHBOARD_REQUEST__INIT;
    assert_string_equal(printed(view_yaml, &empty.base), "{}\n");
}

static void object_is_shown_line_by_line_without_controls(void **state UNUSED)
{
    Clm__AgentView view = agent();
    const char *shown = printed(view_object, &view.base);
    assert_non_null(strstr(shown, "hostname       we: b\\x0a1\n"));
    assert_non_null(strstr(shown, "created        2023-11-14 22:13:20Z\n"));
    assert_non_null(strstr(shown, "facts os       Debian\n"));
}

static void unknown_formats_are_refused(void **state UNUSED)
{
    static const struct cli_option option = {.name = "o", .type = OPTION_TEXT};
    struct cli_args args = {.n_values = 1, .values = {{&option, "xml"}}};
    enum view_format format;
    assert_int_equal(view_format_read(&args, &format, NULL), CODE_INVALID_ARGUMENT);
    args.values[0].value = "yaml";
    assert_int_equal(view_format_read(&args, &format, NULL), CODE_OK);
    assert_int_equal(format, VIEW_YAML);
    args.n_values = 0;
    assert_int_equal(view_format_read(&args, &format, NULL), CODE_OK);
    assert_int_equal(format, VIEW_TABLE);
}

/* Rows of the command tables that say one thing of options and another of messages would fail on first use.
 */
static void every_command_is_whole(void **state UNUSED)
{
    for (size_t t = 0; command_tables[t]; t++) {
        for (const struct command *command = command_tables[t]; command->name; command++) {
            assert_int_equal((command->run != NULL) + (command->listing != NULL) + (command->action != NULL),
                             1);
            assert_non_null(command->summary);
            if (command->listing) {
                const ProtobufCMessageDescriptor *page = command->listing->response;
                const ProtobufCFieldDescriptor *rows =
                    protobuf_c_message_descriptor_get_field_by_name(page, command->listing->rows);
                assert_non_null(rows);
                for (const struct column *column = command->listing->columns; column->heading; column++) {
                    char name[64];
                    (void)snprintf(name, sizeof name, "%.*s", (int)strcspn(column->field, "."),
                                   column->field);
                    if (!protobuf_c_message_descriptor_get_field_by_name(rows->descriptor, name))
                        fail_msg("%s %s: no field %s", command->group, command->name, name);
                }
            }
            if (!command->action)
                continue;
            assert_int_equal(strstr(command->action->path, "%s") != NULL || command->action->names != NULL,
                             command->positional != NULL);
            for (const struct cli_option *option = command->options; option && option->name; option++) {
                if (option->param && !command->action->request)
                    fail_msg("%s %s: --%s has nowhere to go", command->group, command->name, option->name);
            }
        }
    }
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(fields_are_found_by_their_path),
        T(yaml_holds_text_in_quotes_and_lists_in_blocks),
        T(object_is_shown_line_by_line_without_controls),
        T(unknown_formats_are_refused),
        T(every_command_is_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
