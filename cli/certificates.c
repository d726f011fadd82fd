/* `clmctl certificates …`. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/id.h"
#include "cli/command.h"
#include "cli/table.h"
#include "proto/registry.pb-c.h"

#define DAY_MS (24 * 3600 * 1000LL)

static const struct cli_option list_options[] = {
    {"expires-within", "DAYS", "only those that end within so many days, or have ended", OPTION_TEXT},
    {"issuer", "TEXT", "only with this in the issuer's name", OPTION_TEXT},
    {"key", "TYPE", "only of this key: RSA, \"RSA 2048\", \"EC P-256\", Ed25519", OPTION_TEXT},
    {"name", "NAME", "only with this DNS name, or with this in the subject", OPTION_TEXT},
    {"agent", "ID", "only on this agent's host", OPTION_TEXT},
    {"served", "yes|no", "only those that are served, or that are not", OPTION_TEXT},
    {"fingerprint", "SHA256", "only this certificate", OPTION_TEXT},
    {"places", NULL, "a row for each place", OPTION_FLAG},
    {"limit", "N", "certificates a page, 1 to 500 (default 50)", OPTION_TEXT},
    {"page", "TOKEN", "the page that the end of the last list names", OPTION_TEXT},
    {"o", "FORMAT", "table (default) or json", OPTION_TEXT},
    {.name = NULL},
};

static enum code add_end(const struct cli_args *args, struct buf *path, struct status *st)
{
    long days;
    char at[CLOCK_RFC3339_SIZE];
    if (!cli_args_text(args, "expires-within"))
        return CODE_OK;
    TRY(cli_args_number(args, "expires-within", 0, 36500, 30, &days, st));
    clock_format_rfc3339(clock_wall_ms() + days * DAY_MS, at);
    client_query(path, "expiresBeforeAt", at);
    return CODE_OK;
}

static enum code add_served(const struct cli_args *args, struct buf *path, struct status *st)
{
    const char *served = cli_args_text(args, "served");
    if (!served)
        return CODE_OK;
    if (strcmp(served, "yes") != 0 && strcmp(served, "no") != 0)
        return status_set(st, CODE_INVALID_ARGUMENT, "--served %.32s: yes or no", served);
    client_query(path, "served", served[0] == 'y' ? "true" : "false");
    return CODE_OK;
}

static void add_row(struct table *table, const Clm__CertificateView *view, const Clm__CertificatePlace *place,
                    struct arena *arena)
{
    const Clm__CertificateInfo *info = view->certificate;
    const char *where = place ? place->place : NULL;
    if (view->place_count > 1 && where)
        where = arena_printf(arena, "%s (and %u more)", where, view->place_count - 1);
    table_row(table, (const char *[]){table_time(arena, info->has_not_after_at_ms, info->not_after_at_ms),
                                      view->served ? "yes" : "no", place ? place->hostname : NULL, where,
                                      place && place->used_by ? place->used_by
                                      : place                 ? place->process
                                                              : NULL,
                                      info->subject, info->issuer, info->fingerprint_sha256});
}

static void print_list(const Clm__ListCertificatesResponse *answer, bool all_places, struct arena *arena)
{
    static const char *const headings[] = {"UNTIL",   "SERVED",  "HOST",   "WHERE",
                                           "USED BY", "SUBJECT", "ISSUER", "SHA-256"};
    struct table *table = table_new(arena, headings, ARRAY_LEN(headings));
    for (size_t i = 0; i < answer->n_certificates; i++) {
        Clm__CertificateView *view = answer->certificates[i];
        if (!view->certificate)
            continue;
        if (all_places)
            view->place_count = 1;
        for (size_t k = 0; k < view->n_places && (all_places || k == 0); k++) {
            if (all_places)
                view->served = view->places[k]->served;
            add_row(table, view, view->places[k], arena);
        }
    }
    table_print(table, stdout);
}

static enum code run_list(struct client *client, const struct cli_args *args, struct arena *arena,
                          int *ret_exit, struct status *st)
{
    bool json;
    long limit;
    AUTO_BUF struct buf path = {0};
    ProtobufCMessage *msg;
    const char *text;
    TRY(cli_args_json(args, &json, st));
    TRY(cli_args_number(args, "limit", 1, 500, 50, &limit, st));
    if (!buf_puts(&path, "/api/v1/certificates"))
        return status_set(st, CODE_INTERNAL, "out of buffer");
    client_query(&path, "pageSize", arena_printf(arena, "%ld", limit));
    client_query(&path, "pageToken", cli_args_text(args, "page"));
    client_query(&path, "issuer", cli_args_text(args, "issuer"));
    client_query(&path, "keyType", cli_args_text(args, "key"));
    client_query(&path, "name", cli_args_text(args, "name"));
    client_query(&path, "agentId", cli_args_text(args, "agent"));
    client_query(&path, "fingerprintSha256", cli_args_text(args, "fingerprint"));
    TRY(add_end(args, &path, st));
    TRY(add_served(args, &path, st));
    TRY(client_call(client, "GET", buf_text(&path), NULL, &clm__list_certificates_response__descriptor, arena,
                    &msg, &text, st));
    *ret_exit = EXIT_OK;
    if (json) {
        (void)puts(text);
        return CODE_OK;
    }
    const Clm__ListCertificatesResponse *answer = (const Clm__ListCertificatesResponse *)msg;
    print_list(answer, cli_args_flag(args, "places"), arena);
    if (answer->next_page_token && *answer->next_page_token)
        (void)fprintf(stderr, "more: --page %s\n", answer->next_page_token);
    return CODE_OK;
}

const struct command certificates_commands[] = {
    {.group = "certificates",
     .name = "list",
     .summary = "List the certificates that hosts have, those that end first come first",
     .options = list_options,
     .run = run_list},
    {.name = NULL},
};
