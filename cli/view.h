/*
 * What clmctl shows: a page of rows or one object, as a table, a wide table, JSON or YAML, all by the
 * messages' descriptors and by tables of columns. The commands that list or act on one object are rows of
 * such tables (struct listing, struct action); client_list and client_act run them.
 */
#ifndef CLM_CLI_VIEW_H
#define CLM_CLI_VIEW_H

#include <protobuf-c/protobuf-c.h>
#include <stdio.h>

#include "cli/command.h"

enum view_format { VIEW_TABLE, VIEW_WIDE, VIEW_JSON, VIEW_YAML };
/* -o; INVALID_ARGUMENT for anything else. */
enum code view_format_read(const struct cli_args *args, enum view_format *ret, struct status *st) MUST_CHECK;

struct column {
    const char *heading;
    const char *field; /* of the row: "hostname", or of a part: "facts.agent_version" */
    bool wide;         /* only with -o wide */
};

/* A list: its options with a `param` become query parameters. */
struct listing {
    const char *path;                           /* "/api/v1/agents"; "%s" takes the positional */
    const ProtobufCMessageDescriptor *response; /* has next_page_token */
    const char *rows;                           /* the repeated field */
    const struct column *columns;               /* ended by heading NULL */
};

/* One call on one object, or that makes one: its options with a `param` become fields of the body. */
struct action {
    const char *method;                        /* "POST" */
    const char *path;                          /* "/api/v1/agents/%s:disable" */
    const ProtobufCMessageDescriptor *request; /* NULL: no body */
    const ProtobufCMessageDescriptor *response;
    const char *names;  /* body field that the positional sets instead of the path: "name"; NULL */
    const char *secret; /* field of the answer that is shown once: alone on stdout, the rest on stderr */
    const char *part;   /* field of the answer that is the object; NULL: the answer is */
    bool needs_id;      /* the positional must look like an id */
};

enum code client_list(struct client *client, const struct cli_args *args, const struct listing *listing,
                      struct arena *arena, int *ret_exit, struct status *st) MUST_CHECK;
enum code client_act(struct client *client, const struct cli_args *args, const struct action *action,
                     struct arena *arena, int *ret_exit, struct status *st) MUST_CHECK;

/* Text of a field by its path; NULL when it is not there. Lists are joined, labels as name=value. */
const char *view_text(const ProtobufCMessage *msg, const char *path, struct arena *arena);
/* Every field that is there, one a line, parts indented. */
void view_object(FILE *out, const ProtobufCMessage *msg, struct arena *arena);
void view_yaml(FILE *out, const ProtobufCMessage *msg, struct arena *arena);

/* Options that every list has; the last rows of its table. */
#define LIST_OPTIONS                                                                                         \
    {.name = "limit", .metavar = "N", .help = "rows a page, 1 to 500 (default 50)", .type = OPTION_TEXT},    \
        {.name = "page",                                                                                     \
         .metavar = "TOKEN",                                                                                 \
         .help = "the page that the end of the last list names",                                             \
         .type = OPTION_TEXT},                                                                               \
        {.name = "all", .help = "all pages, one after the other", .type = OPTION_FLAG}, OUTPUT_OPTION
#define OUTPUT_OPTION                                                                                        \
    {                                                                                                        \
        .name = "o", .metavar = "FORMAT", .help = "table (default), wide, json or yaml", .type = OPTION_TEXT \
    }

#endif
