/* `clmctl audit …`: list and export ask the platform, verify does not. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/id.h"
#include "cli/audit_verify.h"
#include "cli/command.h"
#include "cli/table.h"
#include "pki/cert.h"
#include "proto/audit.pb-c.h"
#include "proto/registry.pb-c.h"
#include "wire/wire.h"

#define ROOTS_MAX (256 * 1024)

static const struct cli_option list_options[] = {
    {"actor", "ACTOR", "exactly, such as api-key:0123…, agent:ID, service:registry", .type = OPTION_TEXT},
    {"agent", "ID", "only of this agent", .type = OPTION_TEXT},
    {"action", "ACTION", "exactly, or a beginning: 'task.*'", .type = OPTION_TEXT},
    {"from", "TIME", "RFC 3339: that happened then or later", .type = OPTION_TEXT},
    {"until", "TIME", "RFC 3339: that happened before", .type = OPTION_TEXT},
    {"limit", "N", "records a page, 1 to 500 (default 50)", .type = OPTION_TEXT},
    {"page", "TOKEN", "the page that the end of the last list names", .type = OPTION_TEXT},
    {"o", "FORMAT", "table (default) or json", .type = OPTION_TEXT},
    {.name = NULL},
};
static const struct cli_option verify_options[] = {
    {"roots", "FILE", "the platform's root certificates (PEM), from a place that you trust",
     .type = OPTION_TEXT},
    {"witness", "FILE", "what the witness outside has kept: each of its heads must be met",
     .type = OPTION_TEXT},
    {.name = NULL},
};

static enum code run_list(struct client *client, const struct cli_args *args, struct arena *arena,
                          int *ret_exit, struct status *st)
{
    static const char *const query[][2] = {{"actor", "actor"}, {"agent", "agentId"}, {"action", "action"},
                                           {"from", "fromAt"}, {"until", "untilAt"}, {"page", "pageToken"}};
    bool json;
    long limit;
    AUTO_BUF struct buf path = {0};
    TRY(cli_args_json(args, &json, st));
    TRY(cli_args_number(args, "limit", 1, 500, 50, &limit, st));
    if (!buf_puts(&path, "/api/v1/audit/records"))
        return status_set(st, CODE_INTERNAL, "out of buffer");
    client_query(&path, "pageSize", arena_printf(arena, "%ld", limit));
    for (size_t i = 0; i < ARRAY_LEN(query); i++)
        client_query(&path, query[i][1], cli_args_text(args, query[i][0]));
    ProtobufCMessage *msg;
    const char *text;
    TRY(client_call(client, "GET", buf_text(&path), NULL, &clm__list_audit_response__descriptor, arena, &msg,
                    &text, st));
    *ret_exit = EXIT_OK;
    if (json) {
        (void)puts(text);
        return CODE_OK;
    }
    const Clm__ListAuditResponse *answer = (const Clm__ListAuditResponse *)msg;
    static const char *const headings[] = {"INDEX", "WHEN", "ACTION", "BY", "ON", "OUTCOME", "DETAIL"};
    struct table *table = table_new(arena, headings, ARRAY_LEN(headings));
    for (size_t i = 0; i < answer->n_entries; i++) {
        static const Clm__AuditRecord damaged = CLM__AUDIT_RECORD__INIT;
        const Clm__AuditEntry *entry = answer->entries[i];
        const Clm__AuditRecord *record = entry->record ? entry->record : &damaged;
        table_row(table,
                  (const char *[]){arena_printf(arena, "%llu", (unsigned long long)entry->index),
                                   table_time(arena, record->has_occurred_at_ms, record->occurred_at_ms),
                                   record->action, record->actor, record->entity_id, record->outcome,
                                   record->detail});
    }
    table_print(table, stdout);
    if (answer->next_page_token && *answer->next_page_token)
        (void)fprintf(stderr, "more: --page %s\n", answer->next_page_token);
    return CODE_OK;
}

/* ---- export ---- */

static enum code write_line(const Clm__AuditExportLine *line, FILE *out, struct status *st)
{
    AUTO_BUF struct buf json = {0};
    TRY(json_write(&line->base, &json, st));
    if (fprintf(out, "%s\n", buf_text(&json)) < 0)
        return status_errno(st, CODE_INTERNAL, errno, "cannot write the export");
    return CODE_OK;
}

struct heads { /* a page of them at a time: those that come next */
    struct client *client;
    struct arena *arena;
    Clm__ListAuditHeadsResponse *page;
    size_t next;
    uint32_t tree;            /* number of the one that they are of */
    uint64_t after, cosigned; /* cosigned: the next that has co-signatures */
};

/* The next head by size; *ret NULL when there is none. */
static enum code next_head(struct heads *heads, Clm__SignedAuditHead **ret, struct status *st)
{
    *ret = NULL;
    if (!heads->page || (heads->next == heads->page->n_heads && !heads->page->last)) {
        ProtobufCMessage *msg;
        arena_reset(heads->arena);
        TRY(client_call(heads->client, "GET",
                        arena_printf(heads->arena, "/api/v1/audit/heads?pageSize=100&tree=%u&afterSize=%llu",
                                     heads->tree, (unsigned long long)heads->after),
                        NULL, &clm__list_audit_heads_response__descriptor, heads->arena, &msg, NULL, st));
        heads->page = (Clm__ListAuditHeadsResponse *)msg;
        heads->next = 0;
    }
    if (heads->next < heads->page->n_heads) {
        *ret = heads->page->heads[heads->next++];
        heads->after = (*ret)->tree_size;
    }
    return CODE_OK;
}

/* Those of one head. */
static enum code export_cosignatures(struct client *client, const char *tree_id, uint64_t tree_size,
                                     FILE *out, struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    char token[96] = "";
    do {
        ProtobufCMessage *msg;
        AUTO_BUF struct buf path = {0};
        arena_reset(arena);
        if (!buf_printf(&path, "/api/v1/audit/cosignatures?pageSize=100&treeSize=%llu",
                        (unsigned long long)tree_size))
            return status_set(st, CODE_INTERNAL, "out of buffer");
        client_query(&path, "treeId", tree_id);
        client_query(&path, "pageToken", *token ? token : NULL);
        TRY(client_call(client, "GET", buf_text(&path), NULL, &clm__list_cosignatures_response__descriptor,
                        arena, &msg, NULL, st));
        const Clm__ListCosignaturesResponse *page = (const Clm__ListCosignaturesResponse *)msg;
        for (size_t i = 0; i < page->n_cosignatures; i++) {
            Clm__AuditExportLine line = CLM__AUDIT_EXPORT_LINE__INIT;
            line.cosignature = page->cosignatures[i];
            TRY(write_line(&line, out, st));
        }
        (void)snprintf(token, sizeof(token), "%s", page->next_page_token ? page->next_page_token : "");
    } while (*token);
    return CODE_OK;
}

/* Which heads have co-signatures, so that not each of them is asked for. */
static enum code next_cosigned(struct client *client, const char *tree_id, uint64_t after_size,
                               uint64_t *ret_size, struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    ProtobufCMessage *msg;
    const char *path =
        arena_printf(arena, "/api/v1/audit/cosignatures?pageSize=1&treeId=%s&pageToken=%llu.%s", tree_id,
                     (unsigned long long)after_size, "ffffffff-ffff-ffff-ffff-ffffffffffff");
    TRY(client_call(client, "GET", path, NULL, &clm__list_cosignatures_response__descriptor, arena, &msg,
                    NULL, st));
    const Clm__ListCosignaturesResponse *page = (const Clm__ListCosignaturesResponse *)msg;
    *ret_size = page->n_cosignatures > 0 ? page->cosignatures[0]->tree_size : UINT64_MAX;
    return CODE_OK;
}

/* A head stands behind the last record that it covers, and its co-signatures behind it, so that verifying
 * takes one pass. */
/* The heads of the tree that begins with this record. */
static enum code begin_tree(struct heads *heads, uint32_t tree, Clm__SignedAuditHead **head,
                            struct status *st)
{
    heads->tree = tree;
    heads->page = NULL;
    heads->after = 0;
    heads->cosigned = UINT64_MAX;
    TRY(next_head(heads, head, st));
    return *head && (*head)->tree_id ? next_cosigned(heads->client, (*head)->tree_id, 0, &heads->cosigned, st)
                                     : CODE_OK;
}

static enum code export_page(const Clm__ListAuditResponse *page, struct heads *heads,
                             Clm__SignedAuditHead **head, FILE *out, struct status *st)
{
    for (size_t i = 0; i < page->n_entries; i++) {
        Clm__AuditExportLine line = CLM__AUDIT_EXPORT_LINE__INIT;
        if (page->entries[i]->tree != heads->tree)
            TRY(begin_tree(heads, page->entries[i]->tree, head, st));
        line.entry = page->entries[i];
        line.entry->record = NULL;
        TRY(write_line(&line, out, st));
        while (*head && (*head)->tree_size == line.entry->index + 1) {
            Clm__AuditExportLine head_line = CLM__AUDIT_EXPORT_LINE__INIT;
            head_line.head = *head;
            TRY(write_line(&head_line, out, st));
            if ((*head)->tree_size == heads->cosigned) {
                TRY(export_cosignatures(heads->client, (*head)->tree_id, heads->cosigned, out, st));
                TRY(next_cosigned(heads->client, (*head)->tree_id, heads->cosigned, &heads->cosigned, st));
            }
            TRY(next_head(heads, head, st));
        }
    }
    return CODE_OK;
}

static enum code export_all(struct client *client, struct arena *heads_arena, FILE *out, struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    struct heads heads = {.client = client, .arena = heads_arena};
    Clm__SignedAuditHead *head = NULL;
    char token[64] = "";
    do {
        ProtobufCMessage *msg;
        AUTO_BUF struct buf path = {0};
        arena_reset(arena);
        if (!buf_puts(&path, "/api/v1/audit/records?oldestFirst=true&pageSize=500"))
            return status_set(st, CODE_INTERNAL, "out of buffer");
        client_query(&path, "pageToken", *token ? token : NULL);
        TRY(client_call(client, "GET", buf_text(&path), NULL, &clm__list_audit_response__descriptor, arena,
                        &msg, NULL, st));
        const Clm__ListAuditResponse *page = (const Clm__ListAuditResponse *)msg;
        TRY(export_page(page, &heads, &head, out, st));
        (void)snprintf(token, sizeof(token), "%s", page->next_page_token ? page->next_page_token : "");
    } while (*token);
    return CODE_OK;
}

static enum code run_export(struct client *client, const struct cli_args *args, struct arena *arena,
                            int *ret_exit, struct status *st)
{
    const char *path = args->positional[0];
    FILE *out = strcmp(path, "-") == 0 ? stdout : fopen(path, "wxe");
    if (!out)
        return status_errno(st, CODE_FAILED_PRECONDITION, errno, "cannot make %s", path);
    enum code code = export_all(client, arena, out, st);
    if (out != stdout && fclose(out) != 0 && code == CODE_OK)
        code = status_errno(st, CODE_INTERNAL, errno, "%s", path);
    *ret_exit = code == CODE_OK ? EXIT_OK : EXIT_REFUSED;
    return code;
}

/* ---- verify ---- */

static enum code verify(const struct cli_args *args, const char *roots_path, struct audit_verdict *ret,
                        struct status *st)
{
    AUTO_BUF struct buf pem = {0};
    CLEANUP(der_list_done) struct der_list roots = {0};
    const char *path = args->positional[0], *witness_path = cli_args_text(args, "witness");
    buf_init(&pem, ROOTS_MAX);
    TRY(file_read(roots_path, ROOTS_MAX, &pem, st));
    TRY(pem_to_certs((struct bytes){pem.data, pem.len}, &roots, st));
    FILE *in = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
    if (!in)
        return status_errno(st, CODE_NOT_FOUND, errno, "cannot open %s", path);
    FILE *witness = witness_path ? fopen(witness_path, "re") : NULL;
    enum code code = CODE_OK;
    if (witness_path && !witness)
        code = status_errno(st, CODE_NOT_FOUND, errno, "cannot open %s", witness_path);
    if (code == CODE_OK)
        code = audit_verify(in, witness, &roots, ret, st);
    if (witness)
        (void)fclose(witness);
    if (in != stdin)
        (void)fclose(in);
    return code;
}

static enum code run_verify(struct client *client, const struct cli_args *args, struct arena *arena,
                            int *ret_exit, struct status *st)
{
    (void)client;
    (void)arena;
    struct audit_verdict verdict;
    const char *roots = cli_args_text(args, "roots");
    *ret_exit = EXIT_USAGE;
    if (!roots)
        return status_set(st, CODE_INVALID_ARGUMENT, "--roots FILE is needed: whom to trust");
    enum code code = verify(args, roots, &verdict, st);
    if (code != CODE_OK) {
        bool usage = code == CODE_NOT_FOUND || code == CODE_RESOURCE_EXHAUSTED;
        *ret_exit = usage ? EXIT_USAGE : EXIT_REFUSED;
        return code;
    }
    *ret_exit = EXIT_OK;
    (void)printf("%llu records and %llu signed heads hold", (unsigned long long)verdict.records,
                 (unsigned long long)verdict.heads);
    if (verdict.trees > 1)
        (void)printf(
            " in %u trees: the platform was restored from a backup, which lost at least %llu records",
            verdict.trees, (unsigned long long)verdict.lost);
    if (verdict.cosignatures > 0)
        (void)printf("; %llu co-signatures of agents hold", (unsigned long long)verdict.cosignatures);
    if (cli_args_text(args, "witness"))
        (void)printf("; %llu heads of the witness are met", (unsigned long long)verdict.witnessed);
    if (verdict.uncovered > 0)
        (void)printf("; the last %llu records are younger than the last head",
                     (unsigned long long)verdict.uncovered);
    (void)putchar('\n');
    return CODE_OK;
}

const struct command audit_commands[] = {
    {.group = "audit",
     .name = "list",
     .summary = "List audit records, newest first",
     .options = list_options,
     .run = run_list},
    {.group = "audit",
     .name = "export",
     .positional = "FILE",
     .summary = "Write the whole audit log with its signed heads (- for stdout)",
     .run = run_export},
    {.group = "audit",
     .name = "verify",
     .positional = "FILE",
     .summary = "Check an export offline: tree, signatures, witness. Exit 0 only if all hold",
     .options = verify_options,
     .offline = true,
     .run = run_verify},
    {.name = NULL},
};
