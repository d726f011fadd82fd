/* Walks messages by their descriptors. Pure but for the FILE and the client. */
#include "cli/view.h"

#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/id.h"
#include "cli/table.h"
#include "wire/wire.h"

#define PAGES_MAX 100000

enum code view_format_read(const struct cli_args *args, enum view_format *ret, struct status *st)
{
    static const char *const names[] = {
        [VIEW_TABLE] = "table", [VIEW_WIDE] = "wide", [VIEW_JSON] = "json", [VIEW_YAML] = "yaml"};
    const char *format = cli_args_text(args, "o");
    *ret = VIEW_TABLE;
    if (!format)
        return CODE_OK;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(format, names[i]) == 0) {
            *ret = (enum view_format)i;
            return CODE_OK;
        }
    }
    return status_set(st, CODE_INVALID_ARGUMENT, "-o %.32s: expected table, wide, json or yaml", format);
}

/* ---- fields ---- */

static bool is_time(const ProtobufCFieldDescriptor *field)
{
    size_t len = strlen(field->name);
    return len > 6 && strcmp(field->name + len - 6, "_at_ms") == 0;
}

/* How many values the field has (0: it is not there) and where they are. */
static size_t values_of(const ProtobufCMessage *msg, const ProtobufCFieldDescriptor *field, const void **ret)
{
    const char *base = (const char *)msg;
    *ret = base + field->offset;
    if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        *ret = *(const void *const *)*ret;
        return *(const size_t *)(base + field->quantifier_offset);
    }
    if (field->type == PROTOBUF_C_TYPE_STRING || field->type == PROTOBUF_C_TYPE_MESSAGE)
        return *(const void *const *)*ret != NULL;
    return *(const protobuf_c_boolean *)(base + field->quantifier_offset) != 0;
}

static size_t size_of(const ProtobufCFieldDescriptor *field)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE:
        return sizeof(void *);
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    case PROTOBUF_C_TYPE_BOOL:
        return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_ENUM:
        return sizeof(int);
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        return 8;
    default:
        return 4;
    }
}

/* name=value of a message that has just these two; else NULL. */
static const char *label_text(const ProtobufCMessage *msg, struct arena *arena)
{
    const ProtobufCMessageDescriptor *desc = msg->descriptor;
    if (desc->n_fields != 2 || strcmp(desc->fields[0].name, "name") != 0 ||
        strcmp(desc->fields[1].name, "value") != 0)
        return NULL;
    const char *name = view_text(msg, "name", arena), *value = view_text(msg, "value", arena);
    return arena_printf(arena, value && *value ? "%s=%s" : "%s%s", name ? name : "", value ? value : "");
}

static const char *value_text(const ProtobufCFieldDescriptor *field, const void *value, struct arena *arena)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_STRING:
        return *(const char *const *)value;
    case PROTOBUF_C_TYPE_MESSAGE:
        return label_text(*(const ProtobufCMessage *const *)value, arena);
    case PROTOBUF_C_TYPE_ENUM: {
        const ProtobufCEnumValue *row =
            protobuf_c_enum_descriptor_get_value(field->descriptor, *(const int *)value);
        return row ? row->name : "?";
    }
    case PROTOBUF_C_TYPE_BOOL:
        return *(const protobuf_c_boolean *)value ? "yes" : "no";
    case PROTOBUF_C_TYPE_BYTES: {
        const ProtobufCBinaryData *bytes = value;
        char *hex = arena_alloc(arena, 2 * bytes->len + 1);
        hex_encode(bytes->data, bytes->len, hex);
        return hex;
    }
    default:
        break;
    }
    if (size_of(field) == 4)
        return arena_printf(arena, field->type == PROTOBUF_C_TYPE_UINT32 ? "%" PRIu32 : "%" PRId32,
                            *(const uint32_t *)value);
    if (is_time(field))
        return table_time(arena, 1, *(const int64_t *)value);
    return arena_printf(arena, field->type == PROTOBUF_C_TYPE_UINT64 ? "%" PRIu64 : "%" PRId64,
                        *(const uint64_t *)value);
}

static const char *field_text(const ProtobufCMessage *msg, const ProtobufCFieldDescriptor *field,
                              struct arena *arena)
{
    const void *values;
    size_t n = values_of(msg, field, &values);
    const char *text = NULL;
    for (size_t i = 0; i < n; i++) {
        const char *one = value_text(field, (const char *)values + i * size_of(field), arena);
        if (one)
            text = text ? arena_printf(arena, "%s %s", text, one) : one;
    }
    return text;
}

const char *view_text(const ProtobufCMessage *msg, const char *path, struct arena *arena)
{
    char name[64];
    size_t len = strcspn(path, ".");
    const void *value;
    (void)snprintf(name, sizeof(name), "%.*s", (int)len, path);
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field_by_name(msg->descriptor, name);
    if (!field)
        return NULL;
    if (!path[len])
        return field_text(msg, field, arena);
    if (field->type != PROTOBUF_C_TYPE_MESSAGE || field->label == PROTOBUF_C_LABEL_REPEATED ||
        values_of(msg, field, &value) == 0)
        return NULL;
    return view_text(*(const ProtobufCMessage *const *)value, path + len + 1, arena);
}

/* ---- one object ---- */

/* "last_heartbeat_at_ms" → "last heartbeat" */
static const char *field_words(const ProtobufCFieldDescriptor *field, struct arena *arena)
{
    char *words = arena_strdup(arena, field->name);
    if (is_time(field))
        words[strlen(words) - 6] = '\0';
    for (char *c = words; *c; c++)
        if (*c == '_')
            *c = ' ';
    return words;
}

static void object_at(FILE *out, const ProtobufCMessage *msg, const char *before, struct arena *arena)
{
    for (unsigned i = 0; i < msg->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &msg->descriptor->fields[i];
        const void *values;
        size_t n = values_of(msg, field, &values);
        const char *words = arena_printf(arena, "%s%s", before, field_words(field, arena));
        const char *text = field_text(msg, field, arena);
        if (text || field->type != PROTOBUF_C_TYPE_MESSAGE) {
            table_field(out, words, text);
            continue;
        }
        for (size_t k = 0; k < n; k++)
            object_at(out, ((const ProtobufCMessage *const *)values)[k], arena_printf(arena, "%s ", words),
                      arena);
    }
}

void view_object(FILE *out, const ProtobufCMessage *msg, struct arena *arena)
{
    object_at(out, msg, "", arena);
}

/* ---- YAML: of its forms those that JSON and block style share, so that no text needs a rule of its own ----
 */

static void yaml_value(FILE *out, const ProtobufCFieldDescriptor *field, const void *value,
                       struct arena *arena)
{
    AUTO_BUF struct buf quoted = {0};
    const char *text = value_text(field, value, arena);
    bool plain = field->type == PROTOBUF_C_TYPE_ENUM || (size_of(field) == 4) ||
                 (size_of(field) == 8 && field->type != PROTOBUF_C_TYPE_STRING && !is_time(field));
    if (field->type == PROTOBUF_C_TYPE_BOOL) {
        (void)fputs(*(const protobuf_c_boolean *)value ? "true" : "false", out);
    } else if (plain) {
        (void)fputs(text, out);
    } else {
        if (is_time(field)) {
            char time[CLOCK_RFC3339_SIZE];
            clock_format_rfc3339(*(const int64_t *)value, time);
            text = arena_strdup(arena, time);
        }
        buf_init(&quoted, 16 * 1024 * 1024);
        if (json_quote(&quoted, text ? text : ""))
            (void)fputs(buf_text(&quoted), out);
    }
}

static void yaml_at(FILE *out, const ProtobufCMessage *msg, int depth, bool in_list, struct arena *arena)
{
    bool first = true;
    for (unsigned i = 0; i < msg->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &msg->descriptor->fields[i];
        const void *values;
        size_t n = values_of(msg, field, &values);
        bool list = field->label == PROTOBUF_C_LABEL_REPEATED;
        char name[64];
        if (n == 0 && !list)
            continue;
        json_field_name(field, name);
        (void)fprintf(out, "%*s%s:", first && in_list ? 0 : depth, "", name);
        first = false;
        if (n == 0)
            (void)fputs(" []\n", out);
        for (size_t k = 0; k < n; k++) {
            const void *value = (const char *)values + k * size_of(field);
            if (list)
                (void)fprintf(out, "%s%*s- ", k == 0 ? "\n" : "", depth, "");
            if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
                (void)fputs(list ? "" : "\n", out);
                yaml_at(out, *(const ProtobufCMessage *const *)value, depth + 2, list, arena);
            } else {
                (void)fputs(list ? "" : " ", out);
                yaml_value(out, field, value, arena);
                (void)fputc('\n', out);
            }
        }
    }
    if (first)
        (void)fprintf(out, "%*s{}\n", in_list ? 0 : depth, "");
}

void view_yaml(FILE *out, const ProtobufCMessage *msg, struct arena *arena)
{
    yaml_at(out, msg, 0, false, arena);
}

/* ---- options as parameters ---- */

/* The value that the platform knows: names of enums in any case. */
static enum code param_value(const struct cli_option *option, const char *value, struct arena *arena,
                             const char **ret, struct status *st)
{
    *ret = value;
    if (!option->names)
        return CODE_OK;
    const char *known = "";
    for (unsigned i = 0; i < option->names->n_values; i++) {
        const char *name = option->names->values[i].name;
        size_t k = 0;
        while (name[k] && value[k] &&
               (name[k] == value[k] || (name[k] == '_' && value[k] == '-') ||
                (name[k] | 0x20) == (value[k] | 0x20)))
            k++;
        if (!name[k] && !value[k]) {
            *ret = name;
            return CODE_OK;
        }
        known = arena_printf(arena, "%s%s%s", known, *known ? ", " : "", name);
    }
    return status_set(st, CODE_INVALID_ARGUMENT, "--%s %.32s: expected one of %.180s", option->name, value,
                      known);
}

/* Each value of each option that has a param; those of lists that name enums split at commas. */
static enum code each_param(const struct cli_args *args, struct arena *arena,
                            enum code (*each)(const char *param, const char *value, void *arg,
                                              struct status *st),
                            void *arg, struct status *st)
{
    for (size_t i = 0; i < args->n_values; i++) {
        const struct cli_option *option = args->values[i].option;
        if (!option->param)
            continue;
        if (option->type == OPTION_FLAG) {
            TRY(each(option->param, "true", arg, st));
            continue;
        }
        const char *rest = args->values[i].value;
        bool split = option->type == OPTION_LIST && option->names;
        while (rest) {
            size_t len = split ? strcspn(rest, ",") : strlen(rest);
            const char *value;
            TRY(param_value(option, arena_strndup(arena, rest, len), arena, &value, st));
            TRY(each(option->param, value, arg, st));
            rest = rest[len] ? rest + len + 1 : NULL;
        }
    }
    return CODE_OK;
}

static enum code add_query(const char *param, const char *value, void *path, struct status *st)
{
    (void)st;
    client_query(path, param, value);
    return CODE_OK;
}

/* ---- lists ---- */

static void print_rows(const ProtobufCMessage *page, const struct listing *listing, bool wide,
                       struct arena *arena)
{
    const char *headings[TABLE_COLUMNS_MAX], *cells[TABLE_COLUMNS_MAX];
    const struct column *shown[TABLE_COLUMNS_MAX];
    size_t n = 0;
    for (const struct column *column = listing->columns; column->heading; column++) {
        if ((column->wide && !wide) || n == TABLE_COLUMNS_MAX)
            continue;
        shown[n] = column;
        headings[n++] = column->heading;
    }
    const void *rows;
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field_by_name(page->descriptor, listing->rows);
    size_t n_rows = values_of(page, field, &rows);
    struct table *table = table_new(arena, headings, n);
    for (size_t i = 0; i < n_rows; i++) {
        for (size_t k = 0; k < n; k++)
            cells[k] = view_text(((const ProtobufCMessage *const *)rows)[i], shown[k]->field, arena);
        table_row(table, cells);
    }
    table_print(table, stdout);
}

static void print_page(const ProtobufCMessage *page, const char *text, const struct listing *listing,
                       enum view_format format, struct arena *arena)
{
    if (format == VIEW_JSON)
        (void)puts(text);
    else if (format == VIEW_YAML)
        view_yaml(stdout, page, arena);
    else
        print_rows(page, listing, format == VIEW_WIDE, arena);
}

static enum code list_path(const struct cli_args *args, const struct listing *listing, struct buf *path,
                           struct arena *arena, struct status *st)
{
    long limit;
    TRY(cli_args_number(args, "limit", 1, 500, 50, &limit, st));
    const char *percent = strstr(listing->path, "%s");
    if (percent && !uuid_valid(args->positional[0]))
        return status_set(st, CODE_INVALID_ARGUMENT, "\"%.64s\" is not an id", args->positional[0]);
    if (!buf_printf(path, "%.*s%s%s",
                    (int)(percent ? percent - listing->path : (ptrdiff_t)strlen(listing->path)),
                    listing->path, percent ? args->positional[0] : "", percent ? percent + 2 : ""))
        return status_set(st, CODE_INTERNAL, "out of buffer");
    if (protobuf_c_message_descriptor_get_field_by_name(listing->response, "next_page_token"))
        client_query(path, "pageSize", arena_printf(arena, "%ld", limit));
    return each_param(args, arena, add_query, path, st);
}

enum code client_list(struct client *client, const struct cli_args *args, const struct listing *listing,
                      struct arena *arena, int *ret_exit, struct status *st)
{
    enum view_format format;
    AUTO_BUF struct buf path = {0};
    const char *token = cli_args_text(args, "page");
    bool all = cli_args_flag(args, "all");
    TRY(view_format_read(args, &format, st));
    TRY(list_path(args, listing, &path, arena, st));
    for (int i = 0; i < PAGES_MAX; i++) {
        AUTO_ARENA struct arena *of_page = arena_new();
        AUTO_BUF struct buf url = {0};
        ProtobufCMessage *page;
        const char *text;
        if (!buf_puts(&url, buf_text(&path)))
            return status_set(st, CODE_INTERNAL, "out of buffer");
        client_query(&url, "pageToken", token);
        TRY(client_call(client, "GET", buf_text(&url), NULL, listing->response, of_page, &page, &text, st));
        if (format == VIEW_YAML && i > 0)
            (void)puts("---");
        print_page(page, text, listing, format, of_page);
        token = arena_strdup(arena, view_text(page, "next_page_token", of_page));
        if (!token || !*token || !all)
            break;
    }
    if (token && *token)
        (void)fprintf(stderr, "more: --page %s\n", token);
    *ret_exit = EXIT_OK;
    return CODE_OK;
}

/* ---- actions ---- */

struct filling {
    ProtobufCMessage *body;
    struct arena *arena;
};

static enum code add_field(const char *param, const char *value, void *arg, struct status *st)
{
    const struct filling *filling = arg;
    return json_set_field(filling->body, param, value, filling->arena, st);
}

static enum code make_body(const struct cli_args *args, const struct action *action, struct arena *arena,
                           ProtobufCMessage **ret, struct status *st)
{
    *ret = NULL;
    if (!action->request)
        return CODE_OK;
    TRY(json_parse(action->request, "", 0, arena, ret, st));
    struct filling filling = {*ret, arena};
    if (action->names)
        TRY(json_set_field(*ret, action->names, args->positional[0], arena, st));
    return each_param(args, arena, add_field, &filling, st);
}

static const char *action_path(const struct cli_args *args, const struct action *action, struct arena *arena)
{
    const char *percent = strstr(action->path, "%s");
    if (!percent)
        return action->path;
    return arena_printf(arena, "%.*s%s%s", (int)(percent - action->path), action->path, args->positional[0],
                        percent + 2);
}

static void show(const ProtobufCMessage *answer, const char *text, const struct action *action,
                 enum view_format format, struct arena *arena)
{
    if (format == VIEW_JSON) {
        (void)puts(text);
        return;
    }
    if (format == VIEW_YAML) {
        view_yaml(stdout, answer, arena);
        return;
    }
    const ProtobufCMessage *object = answer;
    const void *value;
    if (action->part) {
        const ProtobufCFieldDescriptor *field =
            protobuf_c_message_descriptor_get_field_by_name(answer->descriptor, action->part);
        if (values_of(answer, field, &value) > 0)
            object = *(const ProtobufCMessage *const *)value;
    }
    view_object(action->secret ? stderr : stdout, object, arena);
    if (action->secret)
        (void)printf("%s\n", view_text(answer, action->secret, arena));
}

enum code client_act(struct client *client, const struct cli_args *args, const struct action *action,
                     struct arena *arena, int *ret_exit, struct status *st)
{
    enum view_format format;
    ProtobufCMessage *body, *answer;
    const char *text;
    TRY(view_format_read(args, &format, st));
    if (action->needs_id && !uuid_valid(args->positional[0]))
        return status_set(st, CODE_INVALID_ARGUMENT, "\"%.64s\" is not an id; the list shows them",
                          args->positional[0]);
    if (strpbrk(args->n_positional ? args->positional[0] : "", "/?#%"))
        return status_set(st, CODE_INVALID_ARGUMENT, "\"%.64s\" is not an id", args->positional[0]);
    TRY(make_body(args, action, arena, &body, st));
    TRY(client_call(client, action->method, action_path(args, action, arena), body, action->response, arena,
                    &answer, &text, st));
    show(answer, text, action, format, arena);
    *ret_exit = EXIT_OK;
    return CODE_OK;
}
