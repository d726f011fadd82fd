/* See order.h. Each row says which field of which message an option becomes; what it may hold, the message's
 * limits say. */
#include "cli/order.h"

#include <string.h>
#include <strings.h>

#include "base/file.h"
#include "base/id.h"
#include "proto/tasks.pb-c.h"
#include "wire/wire.h"

#define CHAIN_MAX (256u * 1024)

enum { OF_TASK, OF_DEPLOY, OF_RENEW, OF_VALIDATE, OF_DISCOVER, OF_END };

static const struct kind {
    const char *name;
    Clm__Task__Kind kind;
    const ProtobufCMessageDescriptor *spec;
    const char *needs[3]; /* options; any: one of them is enough */
    bool any;
} kinds[OF_END] = {
    [OF_DEPLOY] =
        {"deploy", CLM__TASK__KIND__DEPLOY, &clm__deploy_spec__descriptor, {"target", "chain"}, false},
    [OF_RENEW] = {"renew", CLM__TASK__KIND__RENEW, &clm__renew_spec__descriptor, {"target"}, false},
    [OF_VALIDATE] = {"validate",
                     CLM__TASK__KIND__VALIDATE,
                     &clm__validate_spec__descriptor,
                     {"target", "certificate", "endpoint"},
                     true},
    [OF_DISCOVER] = {"discover", CLM__TASK__KIND__DISCOVER, &clm__discover_spec__descriptor, {NULL}, false},
};

static const struct row {
    const char *option;
    int of;
    const char *field;                    /* as JSON names it */
    const ProtobufCEnumDescriptor *names; /* its values, in either case */
    bool off, file;                       /* a flag that turns it off; the value names a file that has it */
} rows[] = {
    {"agent", OF_TASK, .field = "agentId"},
    {"priority", OF_TASK, .field = "priority"},
    {"deadline", OF_TASK, .field = "deadlineSec"},
    {"max-attempts", OF_TASK, .field = "maxAttempts"},
    {"not-before", OF_TASK, .field = "notBeforeAt"},
    {"after", OF_TASK, .field = "after"},
    {"idempotency-key", OF_TASK, .field = "idempotencyKey"},
    {"break-glass", OF_TASK, .field = "breakGlass"},
    {"target", OF_DEPLOY, .field = "target"},
    {"chain", OF_DEPLOY, .field = "chainPem", .file = true},
    {"key-path", OF_DEPLOY, .field = "keyPath"},
    {"target", OF_RENEW, .field = "target"},
    {"dns", OF_RENEW, .field = "dnsNames"},
    {"key-type", OF_RENEW, .field = "keyType", .names = &clm__renew_spec__key_type__descriptor},
    {"reuse-key", OF_RENEW, .field = "reuseKey"},
    {"life", OF_RENEW, .field = "lifeSec"},
    {"target", OF_VALIDATE, .field = "target"},
    {"certificate", OF_VALIDATE, .field = "certificatePath"},
    {"endpoint", OF_VALIDATE, .field = "endpoint"},
    {"server-name", OF_VALIDATE, .field = "serverName"},
    {"fingerprint", OF_VALIDATE, .field = "expectedFingerprintSha256"},
    {"starttls", OF_VALIDATE, .field = "starttls", .names = &clm__validate_spec__starttls__descriptor},
    {"root", OF_DISCOVER, .field = "roots"},
    {"range", OF_DISCOVER, .field = "ranges"},
    {"port", OF_DISCOVER, .field = "ports"},
    {"server-name", OF_DISCOVER, .field = "serverNames"},
    {"no-files", OF_DISCOVER, .field = "files", .off = true},
    {"no-listening", OF_DISCOVER, .field = "listening", .off = true},
    {"no-configurations", OF_DISCOVER, .field = "configurations", .off = true},
    {"max-certificates", OF_DISCOVER, .field = "maxCertificates"},
};

/* ---- one value ---- */

struct setting {
    const struct row *row;
    ProtobufCMessage *message;
    struct arena *arena;
};

static enum code value_of(const struct setting *setting, const char *given, const char **ret,
                          struct status *st)
{
    const struct row *row = setting->row;
    AUTO_BUF struct buf text = {0};
    if (row->file) {
        TRY(file_read(given, CHAIN_MAX, &text, st));
        *ret = arena_strndup(setting->arena, buf_text(&text), text.len);
        return CODE_OK;
    }
    *ret = given;
    if (!row->names)
        return CODE_OK;
    const char *known = "";
    for (unsigned i = 0; i < row->names->n_values; i++) {
        *ret = row->names->values[i].name;
        if (strcasecmp(*ret, given) == 0)
            return CODE_OK;
        known = arena_printf(setting->arena, "%s%s%s", known, i ? ", " : "", *ret);
    }
    return status_set(st, CODE_INVALID_ARGUMENT, "--%s %.32s: expected one of %s", row->option, given, known);
}

static enum code set_value(const char *given, void *arg, struct status *st)
{
    const struct setting *setting = arg;
    const char *value;
    TRY(value_of(setting, given, &value, st));
    if (json_set_field(setting->message, setting->row->field, value, setting->arena, st) != CODE_OK)
        return status_wrap(st, "--%s", setting->row->option);
    return CODE_OK;
}

/* ---- all of them ---- */

static const struct row *row_of(const char *option, int kind)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (strcmp(rows[i].option, option) == 0 && (rows[i].of == OF_TASK || rows[i].of == kind))
            return &rows[i];
    return NULL;
}

static bool is_known(const char *option)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (strcmp(rows[i].option, option) == 0)
            return true;
    return false;
}

static enum code take(const struct cli_args *args, size_t i, int kind, ProtobufCMessage *task,
                      ProtobufCMessage *spec, struct arena *arena, struct status *st)
{
    const struct cli_option *option = args->values[i].option;
    const struct row *row = row_of(option->name, kind);
    if (!row)
        return is_known(option->name) ? status_set(st, CODE_INVALID_ARGUMENT, "--%s does not go with %s",
                                                   option->name, kinds[kind].name)
                                      : CODE_OK;
    struct setting setting = {row, row->of == OF_TASK ? task : spec, arena};
    if (option->type == OPTION_FLAG)
        return set_value(row->off ? "false" : "true", &setting, st);
    if (option->type == OPTION_TEXT)
        return set_value(args->values[i].value, &setting, st);
    const struct cli_args one = {.values = {args->values[i]}, .n_values = 1};
    return cli_args_each(&one, option->name, true, set_value, &setting, arena, st);
}

static enum code check_needs(const struct cli_args *args, const struct kind *kind, struct status *st)
{
    bool some = !kind->any;
    for (size_t i = 0; i < ARRAY_LEN(kind->needs) && kind->needs[i]; i++) {
        bool given = cli_args_text(args, kind->needs[i]) != NULL;
        some = some || given;
        if (!given && !kind->any)
            return status_set(st, CODE_INVALID_ARGUMENT, "tasks run %s needs --%s", kind->name,
                              kind->needs[i]);
    }
    if (!some)
        return status_set(st, CODE_INVALID_ARGUMENT,
                          "tasks run %s needs --target, --certificate or --endpoint", kind->name);
    return CODE_OK;
}

static void set_spec(Clm__TaskSpec *spec, int kind, ProtobufCMessage *of_kind)
{
    if (kind == OF_DEPLOY)
        spec->deploy = (Clm__DeploySpec *)of_kind;
    else if (kind == OF_RENEW)
        spec->renew = (Clm__RenewSpec *)of_kind;
    else if (kind == OF_VALIDATE)
        spec->validate = (Clm__ValidateSpec *)of_kind;
    else
        spec->discover = (Clm__DiscoverSpec *)of_kind;
}

static int find_kind(const char *name)
{
    for (int kind = OF_DEPLOY; kind < OF_END; kind++)
        if (strcmp(kinds[kind].name, name) == 0)
            return kind;
    return OF_TASK;
}

enum code order_read(const struct cli_args *args, struct arena *arena, Clm__CreateTaskRequest **ret,
                     struct status *st)
{
    const char *name = args->positional[0], *agent = cli_args_text(args, "agent");
    int kind = find_kind(name);
    if (kind == OF_TASK)
        return status_set(st, CODE_INVALID_ARGUMENT,
                          "\"%.32s\" is no kind of task: deploy, renew, validate or discover", name);
    if (!agent)
        return status_set(st, CODE_INVALID_ARGUMENT, "tasks run %s needs --agent", name);
    if (!uuid_valid(agent))
        return status_set(st, CODE_INVALID_ARGUMENT,
                          "--agent %.64s: not an agent id; clmctl agents list shows them", agent);
    TRY(check_needs(args, &kinds[kind], st));
    Clm__CreateTaskRequest *request = arena_alloc(arena, sizeof(*request));
    Clm__TaskSpec *spec = arena_alloc(arena, sizeof(*spec));
    ProtobufCMessage *of_kind = arena_alloc(arena, kinds[kind].spec->sizeof_message);
    clm__create_task_request__init(request);
    clm__task_spec__init(spec);
    protobuf_c_message_init(kinds[kind].spec, of_kind);
    for (size_t i = 0; i < args->n_values; i++)
        TRY(take(args, i, kind, &request->base, of_kind, arena, st));
    set_spec(spec, kind, of_kind);
    spec->has_kind = true;
    spec->kind = kinds[kind].kind;
    request->spec = spec;
    *ret = request;
    return json_check_message(&request->base, st);
}
