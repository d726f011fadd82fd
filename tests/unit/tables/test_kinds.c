/* Every Task.Kind has a row with the agent, one with the tasks service and a body in the specification; they
 * agree. */
#include "cmocka_all.h"

#include <ctype.h>

#include "agent/kinds/kind.h"
#include "kinds_tasks.h"
#include "proto/common.pb-c.h"
#include "proto/tasks.pb-c.h"
#include "safemode/safemode.h"
#include "scope/scope.h"

static const ProtobufCEnumDescriptor *const kinds = &clm__task__kind__descriptor;

static void lower(const char *name, char out[64])
{
    size_t n = 0;
    for (; name[n] && n < 63; n++)
        out[n] = (char)tolower((unsigned char)name[n]);
    out[n] = '\0';
}

static void every_kind_has_an_agent_row_of_its_name(void **state)
{
    (void)state;
    for (unsigned i = 0; i < kinds->n_values; i++) {
        char name[64];
        lower(kinds->values[i].name, name);
        const struct task_kind *row = task_kind_find(kinds->values[i].value);
        assert_non_null(row);
        assert_string_equal(row->name, name);
        assert_non_null(row->run);
    }
}

static void every_agent_row_is_a_kind(void **state)
{
    (void)state;
    unsigned n = 0;
    for (const struct task_kind *row = task_kinds; row->name; row++, n++)
        assert_non_null(protobuf_c_enum_descriptor_get_value(kinds, (int)row->kind));
    assert_int_equal(n, kinds->n_values);
}

static void every_kind_has_a_row_with_the_tasks_service(void **state)
{
    (void)state;
    assert_int_equal(tasks_kind_count(), kinds->n_values);
    for (unsigned i = 0; i < kinds->n_values; i++)
        assert_string_equal(tasks_kind_name(kinds->values[i].value), kinds->values[i].name);
}

static void every_kind_waits_longer_after_more_attempts(void **state)
{
    (void)state;
    for (unsigned i = 0; i < kinds->n_values; i++) {
        int kind = kinds->values[i].value;
        assert_true(tasks_kind_longest_backoff_ms(kind, 2) > 0);
        assert_true(tasks_kind_longest_backoff_ms(kind, 12) > tasks_kind_longest_backoff_ms(kind, 2));
    }
}

/* lib/safemode knows kinds by number alone. */
static void safe_mode_knows_every_kind(void **state)
{
    (void)state;
    for (unsigned i = 0; i < kinds->n_values; i++) {
        unsigned kind = (unsigned)kinds->values[i].value;
        bool looks = kind == CLM__TASK__KIND__VALIDATE || kind == CLM__TASK__KIND__DISCOVER;
        assert_int_equal(safe_action_of_kind(kind), looks ? SAFE_READ_ONLY : SAFE_CHANGE);
        assert_true(safe_kinds(SAFE_ONLINE, false) >> kind & 1);
    }
}

static void every_kind_has_its_part_of_the_specification(void **state)
{
    (void)state;
    for (const struct task_kind *row = task_kinds; row->name; row++) {
        const ProtobufCFieldDescriptor *field =
            protobuf_c_message_descriptor_get_field_by_name(&clm__task_spec__descriptor, row->name);
        assert_non_null(field);
        assert_int_equal(field->type, PROTOBUF_C_TYPE_MESSAGE);
    }
}

static void a_scope_can_hold_every_kind(void **state)
{
    (void)state;
    for (unsigned i = 0; i < kinds->n_values; i++) {
        unsigned kind = (unsigned)kinds->values[i].value;
        const struct scope scope = {.operations = SCOPE_OPERATION(kind)};
        for (unsigned k = 0; k < kinds->n_values; k++)
            assert_int_equal(scope_allows_operation(&scope, (unsigned)kinds->values[k].value), k == i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_has_an_agent_row_of_its_name),
        cmocka_unit_test(every_agent_row_is_a_kind),
        cmocka_unit_test(every_kind_has_a_row_with_the_tasks_service),
        cmocka_unit_test(every_kind_waits_longer_after_more_attempts),
        cmocka_unit_test(safe_mode_knows_every_kind),
        cmocka_unit_test(every_kind_has_its_part_of_the_specification),
        cmocka_unit_test(a_scope_can_hold_every_kind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
