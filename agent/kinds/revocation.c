/* See revocation.h. */
#include "kinds/revocation.h"

#include <string.h>

#include "base/clock.h"
#include "kinds/fetch.h"
#include "pki/revocation.h"

#define FETCH_TIMEOUT_MS 5000

static struct bytes bytes_of(ProtobufCBinaryData data)
{
    return (struct bytes){data.data, data.len};
}

/* True when the answer settles it. */
static bool ask(struct task_run *run, const Clm__Agent__Facts *facts, const char *url, bool is_crl,
                struct revocation_answer *ret)
{
    struct fetch_url where;
    struct status st;
    AUTO_BUF struct buf answer = {.limit = is_crl ? CRL_MAX_BYTES : OCSP_ANSWER_MAX_BYTES};
    struct bytes question = is_crl ? (struct bytes){0} : bytes_of(facts->ocsp_request);
    const Clm__Agent__Facts *verdict;
    int64_t started = clock_wall_ms();
    enum code code = fetch_url_read(url, &where, &st);
    if (code == CODE_OK)
        code = policy_allows_fetch(run->policy, where.host, &st);
    bool allowed = code == CODE_OK;
    if (code == CODE_OK)
        code = fetch(&where, "application/ocsp-request", question, FETCH_TIMEOUT_MS, &answer, &st);
    struct judge_answer judge = {.answer = {answer.data, answer.len},
                                 .leaf = bytes_of(facts->leaf_der),
                                 .issuer = bytes_of(facts->issuer_der),
                                 .is_crl = is_crl,
                                 .from = url,
                                 .now_ms = clock_wall_ms()};
    if (code == CODE_OK)
        code = confine_run(judge_answer, &judge, run->arena, &verdict, &st);
    if (allowed)
        task_step(run, "revocation", code == CODE_OK, started, "%s%s%s", url, code == CODE_OK ? "" : ": ",
                  code == CODE_OK ? "" : st.msg);
    if (code != CODE_OK || verdict->n_checks == 0) {
        (void)snprintf(ret->why, sizeof(ret->why), "%.255s",
                       code == CODE_OK ? "the answer says nothing" : st.msg);
        return false;
    }
    ret->said = verdict->checks[0];
    return true;
}

enum code revocation_ask(struct task_run *run, const struct judge_sources *of, struct revocation_answer *ret,
                         struct status *st)
{
    const Clm__Agent__Facts *facts;
    struct judge_sources judge = *of;
    bool settled = false;
    *ret = (struct revocation_answer){0};
    TRY(confine_run(judge_sources, &judge, run->arena, &facts, st));
    ret->certificate = facts->has_leaf_der;
    ret->sources = facts->n_ocsp_urls + facts->n_crl_urls > 0;
    if (!run->policy->fetch_hosts)
        return CODE_OK;
    if (!facts->has_issuer_der)
        (void)snprintf(ret->why, sizeof(ret->why), "its issuer's certificate is not known to this host");
    for (size_t i = 0; i < facts->n_ocsp_urls && facts->has_ocsp_request && !settled; i++)
        settled = ask(run, facts, facts->ocsp_urls[i], false, ret);
    for (size_t i = 0; i < facts->n_crl_urls && facts->has_issuer_der && !settled; i++)
        settled = ask(run, facts, facts->crl_urls[i], true, ret);
    return CODE_OK;
}
