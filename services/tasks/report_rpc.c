/* Border of reports: results of VALIDATE tasks as operators read them. Worker threads. */
#include "app.h"
#include "base/id.h"
#include "proto/tasks.pb-c.h"
#include "wire/wire.h"

#define PAGE_DEFAULT     50u
#define PAGE_MAX         500u
#define REPLY_MAX_BYTES  (400u * 1024)
#define REPORT_MAX_BYTES (64u * 1024) /* one host does not fill the page */

static enum code report_of(const struct report *report, struct arena *arena, Clm__ValidationReport **ret,
                           struct status *st)
{
    Clm__ValidationReport *view = *ret = arena_alloc(arena, sizeof(*view));
    ProtobufCMessage *spec, *result;
    TRY(wire_unpack(&clm__task_spec__descriptor, report->task.spec.data, report->task.spec.len, arena, &spec,
                    st));
    TRY(wire_unpack(&clm__task_result__descriptor, report->result.data, report->result.len, arena, &result,
                    st));
    const Clm__TaskResult *found = (const Clm__TaskResult *)result;
    clm__validation_report__init(view);
    view->task_id = arena_strdup(arena, report->task.id);
    view->agent_id = arena_strdup(arena, report->task.agent_id);
    view->has_validated_at_ms = true;
    view->validated_at_ms = report->task.finished_at_ms;
    view->has_verdict = true;
    view->verdict = (Clm__Check__Outcome)report->verdict;
    view->asked = ((Clm__TaskSpec *)spec)->validate;
    view->checks = found->checks;
    view->n_checks = found->n_checks;
    view->has_truncated = view->truncated = report->result.len == 0; /* too long to be read: store_report.c */
    view->certificate = found->certificate;
    view->served_fingerprint_sha256 = found->served_fingerprint_sha256;
    while (view->n_checks > 0 && protobuf_c_message_get_packed_size(&view->base) > REPORT_MAX_BYTES) {
        view->n_checks /= 2;
        view->has_truncated = view->truncated = true;
    }
    return CODE_OK;
}

enum code list_reports(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__ListReportsRequest *in = request;
    Clm__ListReportsResponse *out = response;
    struct worker *worker = ctx->worker;
    const char *before = in->page_token && *in->page_token ? in->page_token : NULL;
    int64_t *verdicts = arena_array(ctx->arena, in->n_verdict + 1, sizeof(*verdicts));
    if (in->has_page_size && (in->page_size < 1 || in->page_size > PAGE_MAX))
        return status_set(st, CODE_INVALID_ARGUMENT, "pageSize: 1 to %u", PAGE_MAX);
    if (before && !uuid_valid(before))
        return status_set(st, CODE_INVALID_ARGUMENT, "pageToken: not one that this list gave");
    for (size_t i = 0; i < in->n_verdict; i++)
        verdicts[i] = in->verdict[i];
    const struct report_filter filter = {
        .selector = ctx->actor.label_selector,
        .agent_id = in->agent_id,
        .before_id = before,
        .verdicts = verdicts,
        .n_verdicts = in->n_verdict,
        .limit = in->has_page_size ? in->page_size : PAGE_DEFAULT,
    };
    struct report *reports;
    size_t n, bytes = 0;
    bool more;
    TRY(reports_list(worker->db, ctx->arena, &filter, &reports, &n, &more, st));
    out->reports = arena_array(ctx->arena, n + 1, sizeof(*out->reports));
    for (; out->n_reports < n; out->n_reports++) {
        Clm__ValidationReport *view;
        TRY(report_of(&reports[out->n_reports], ctx->arena, &view, st));
        bytes += protobuf_c_message_get_packed_size(&view->base);
        if (out->n_reports > 0 && bytes > REPLY_MAX_BYTES)
            break;
        out->reports[out->n_reports] = view;
    }
    if (more || out->n_reports < n)
        out->next_page_token = out->reports[out->n_reports - 1]->task_id;
    return CODE_OK;
}
