/* `clmctl operators …` and `clmctl api-keys …`: for administrators of the whole fleet. */
#include "cli/view.h"
#include "proto/registry.pb-c.h"

static const struct cli_option output_options[] = {OUTPUT_OPTION, {.name = NULL}};
static const struct cli_option list_options[] = {LIST_OPTIONS, {.name = NULL}};

#define GRANT_OPTIONS                                                                                        \
    {"role", "ROLE,…", "viewer, operator, admin, auditor", OPTION_LIST, "roles", &clm__role__descriptor},    \
    {                                                                                                        \
        "labels", "SELECTOR", "only agents with these labels: env=prod,team (default: all)", OPTION_TEXT,    \
            .param = "labelSelector"                                                                         \
    }

static const struct cli_option invite_options[] = {
    GRANT_OPTIONS,
    {"ttl", "SECONDS", "life of the link (default a day)", OPTION_TEXT, .param = "linkTtlSec"},
    OUTPUT_OPTION,
    {.name = NULL},
};
static const struct cli_option grant_options[] = {GRANT_OPTIONS, OUTPUT_OPTION, {.name = NULL}};
static const struct cli_option link_options[] = {
    {"ttl", "SECONDS", "life of the link (default a day)", OPTION_TEXT, .param = "linkTtlSec"},
    OUTPUT_OPTION,
    {.name = NULL},
};
static const struct cli_option key_options[] = {
    GRANT_OPTIONS,
    {"expires", "TIME", "its end: 2027-01-01T00:00:00Z (default: in 90 days)", OPTION_TEXT,
     .param = "expiresAt"},
    OUTPUT_OPTION,
    {.name = NULL},
};
static const struct cli_option keys_options[] = {
    {"ended", NULL, "also those revoked or expired", OPTION_FLAG, .param = "ended"},
    LIST_OPTIONS,
    {.name = NULL},
};

static const struct column operator_columns[] = {
    {"ID", "id", false},
    {"NAME", "name", false},
    {"STATE", "state", false},
    {"ROLES", "roles", false},
    {"LABELS", "label_selector", false},
    {"LAST LOGIN", "last_login_at_ms", false},
    {"CREATED", "created_at_ms", true},
    {"LINK UNTIL", "link_not_after_at_ms", true},
    {.heading = NULL},
};
static const struct column session_columns[] = {
    {"ID", "id", false},
    {"SOURCE", "source", false},
    {"BEGAN", "created_at_ms", false},
    {"LAST USED", "last_used_at_ms", false},
    {"UNTIL", "not_after_at_ms", false},
    {.heading = NULL},
};
static const struct column key_columns[] = {
    {"ID", "id", false},
    {"NAME", "name", false},
    {"ROLES", "roles", false},
    {"LABELS", "label_selector", false},
    {"UNTIL", "expires_at_ms", false},
    {"LAST USED", "last_used_at_ms", false},
    {"BY", "created_by", true},
    {"CREATED", "created_at_ms", true},
    {"REVOKED", "revoked_at_ms", true},
    {.heading = NULL},
};

#define OPERATOR_ACTION(verb, request_)                                                                      \
    &(const struct action)                                                                                   \
    {                                                                                                        \
        .method = "POST", .path = "/api/v1/operators/%s" verb, .request = &request_,                         \
        .response = &clm__operator_view__descriptor, .needs_id = true                                        \
    }

const struct command people_commands[] = {
    {.group = "operators",
     .name = "list",
     .summary = "List operators",
     .options = list_options,
     .listing = &(const struct listing){"/api/v1/operators", &clm__list_operators_response__descriptor,
                                        "operators", operator_columns}},
    {.group = "operators",
     .name = "get",
     .positional = "ID",
     .summary = "Show one operator",
     .options = output_options,
     .action = &(const struct action){.method = "GET",
                                      .path = "/api/v1/operators/%s",
                                      .response = &clm__operator_view__descriptor,
                                      .needs_id = true}},
    {.group = "operators",
     .name = "invite",
     .positional = "NAME",
     .summary =
         "Invite an operator; the secret of the one-time link, <console>/first-admin#SECRET, is shown once",
     .options = invite_options,
     .action = &(const struct action){.method = "POST",
                                      .path = "/api/v1/operators",
                                      .request = &clm__create_operator_request__descriptor,
                                      .response = &clm__invitation__descriptor,
                                      .names = "name",
                                      .secret = "link",
                                      .part = "operator"}},
    {.group = "operators",
     .name = "link",
     .positional = "ID",
     .summary = "Make a fresh one-time link for an operator: for whoever lost the first one, or the password",
     .options = link_options,
     .action = &(const struct action){.method = "POST",
                                      .path = "/api/v1/operators/%s:invite",
                                      .request = &clm__invite_operator_request__descriptor,
                                      .response = &clm__invitation__descriptor,
                                      .secret = "link",
                                      .part = "operator",
                                      .needs_id = true}},
    {.group = "operators",
     .name = "grant",
     .positional = "ID",
     .summary = "Replace an operator's roles and labels",
     .options = grant_options,
     .action = OPERATOR_ACTION(":setGrant", clm__set_operator_grant_request__descriptor)},
    {.group = "operators",
     .name = "disable",
     .positional = "ID",
     .summary = "Disable an operator; sessions end",
     .options = output_options,
     .action = OPERATOR_ACTION(":disable", clm__operator_request__descriptor)},
    {.group = "operators",
     .name = "enable",
     .positional = "ID",
     .summary = "Enable a disabled operator",
     .options = output_options,
     .action = OPERATOR_ACTION(":enable", clm__operator_request__descriptor)},
    {.group = "operators",
     .name = "sessions",
     .positional = "ID",
     .summary = "List an operator's sessions",
     .options = output_options,
     .listing =
         &(const struct listing){"/api/v1/operators/%s/sessions", &clm__list_sessions_response__descriptor,
                                 "sessions", session_columns}},
    {.group = "operators",
     .name = "end-sessions",
     .positional = "ID",
     .summary = "End all sessions of an operator",
     .options = output_options,
     .action = OPERATOR_ACTION(":endSessions", clm__operator_request__descriptor)},
    {.group = "api-keys",
     .name = "list",
     .summary = "List API keys",
     .options = keys_options,
     .listing = &(const struct listing){"/api/v1/api-keys", &clm__list_api_keys_response__descriptor,
                                        "api_keys", key_columns}},
    {.group = "api-keys",
     .name = "create",
     .positional = "NAME",
     .summary = "Make an API key; it is shown once, alone on stdout",
     .options = key_options,
     .action = &(const struct action){.method = "POST",
                                      .path = "/api/v1/api-keys",
                                      .request = &clm__create_api_key_request__descriptor,
                                      .response = &clm__new_api_key__descriptor,
                                      .names = "name",
                                      .secret = "key",
                                      .part = "api_key"}},
    {.group = "api-keys",
     .name = "revoke",
     .positional = "ID",
     .summary = "Revoke an API key",
     .options = output_options,
     .action = &(const struct action){.method = "POST",
                                      .path = "/api/v1/api-keys/%s:revoke",
                                      .request = &clm__api_key_request__descriptor,
                                      .response = &clm__api_key_view__descriptor}},
    {.name = NULL},
};
